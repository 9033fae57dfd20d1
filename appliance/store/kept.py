"""Volumes that were received by themselves: what is needed to verify them again when the others have come.

A volume whose every byte was proven is kept beside its release on its way: its small files and hand-overs as they were,
and its parts as files of the right length without content, because the content is an object already. The verifier reads
that folder like any volume, signatures first; nothing in it is believed because it lies here.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from appliance.store.content import ContentStore
from appliance.store.incoming import Incoming, write_durably
from appliance.store.writing import writing
from appliance.verify.verified import VerifiedRelease
from media import durable, layout
from media.volume import Volume

_KEPT = "kept"


def keep_volumes(verified: VerifiedRelease, incoming: Incoming) -> None:
    """Keep every mounted volume of a release that is not complete.

    Raises:
        NoSpaceError, StoreWriteError: The store cannot be written.
    """
    ids = {volume.number: volume for volume in verified.index.volumes}
    for bag, custody in zip(verified.bags, verified.custody, strict=True):
        number = bag.info.number
        if number in verified.kept:
            continue
        small = {f"{layout.RELEASE}/{path}": bag.bag.file(path) for path in sorted(bag.bag.tag_names)}
        small |= {f"{layout.CUSTODY}/{name}": content for name, content in custody.files.items()}
        _keep(incoming.folder / _KEPT, ids[number], small)


def kept_volumes(store: ContentStore, wanted: Iterable[Volume]) -> Iterator[tuple[int, Path]]:
    """Yield the number and the folder of each of these volumes that was received by itself."""
    for volume in wanted:
        for place in (store.incoming, store.quarantine):
            found = sorted(place.glob(f"*/{_KEPT}/{volume.id}")) if place.is_dir() else []
            if found:
                yield volume.number, found[0]
                break


def forget_volumes(incoming: Incoming) -> None:
    """Forget all of them: everything is to be proven again."""
    shutil.rmtree(incoming.folder / _KEPT, ignore_errors=True)


def _keep(folder: Path, volume: Volume, small: dict[str, bytes]) -> None:
    with writing("a volume's metadata"):
        making, place = folder / f"{volume.id}.new", folder / volume.id
        for old in (making, place):
            shutil.rmtree(old, ignore_errors=True)
        (making / layout.CUSTODY).mkdir(parents=True)
        for name, content in small.items():
            path = making / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, content)
        for part in volume.parts:
            path = making / layout.RELEASE / part.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as stream:
                os.truncate(stream.fileno(), part.length)
                os.fsync(stream.fileno())
        for each in sorted((path for path in making.rglob("*") if path.is_dir()), reverse=True):
            durable.sync_folder(each)
        making.rename(place)
        durable.sync_folder(folder)
