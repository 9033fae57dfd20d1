"""Writing sealed volumes to media, and reading every byte back before anyone carries them away.

A volume appears whole or not at all: it is written under another name, synced file by file, and renamed when complete.
A destination that holds anything but litter is refused. The bytes are hashed while they are copied, so a candidate that
changed after it was signed is found here at the latest.
"""

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import NotEmptyError, ReadBackError
from bundler.measure import Progress, no_progress
from bundler.readback import ReadBack, read_back
from bundler.room import require_room
from bundler.seal import require_sealed
from bundler.signatory import Ceremony
from bundler.volumefiles import PlannedFile, planned_files, total_bytes, volume_index
from bundler.workfolder import WorkFolder
from media import durable, layout
from media.errors import UnreadableError, UsageError
from media.volume import Volume

_CHUNK = 4 * 2**20
_UNFINISHED = "release.unfinished"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenVolume:
    """One volume as it lies on its medium."""

    number: int
    id: str
    files: int
    bytes: int
    read_back: ReadBack
    carrier: str = ""
    """What it lies on, where that is known: file system, device and serial number."""


def write(
    work: WorkFolder,
    destinations: Mapping[int, Path] | Sequence[Path],
    *,
    ceremony: Ceremony,
    progress: Progress = no_progress,
) -> tuple[WrittenVolume, ...]:
    """Write volumes and read them back.

    Args:
        work: A work folder whose release is sealed by enough people.
        destinations: A mounted, empty medium for each volume: in order, or by volume number for some of them.
        ceremony: Under whose root it was sealed.
        progress: Called with bytes done, bytes in all, and what is being done.

    Raises:
        UsageError: Not one destination for each volume.
        NotEmptyError: A destination holds other data; nothing was written anywhere.
        CapacityError: A destination is too small; nothing was written anywhere.
        SigningError: The release is not sealed by enough people.
        ReadBackError: What came back is not what was sealed.
    """
    chosen = choose(work, destinations)
    for volume, _ in chosen:
        require_sealed(work, volume, ceremony=ceremony)
    plans = [(volume, folder, planned_files(work, volume)) for volume, folder in chosen]
    for volume, folder, files in plans:
        require_empty(folder, volume)
        require_room(folder, files, number=volume.number)
    written = []
    for volume, folder, files in plans:
        _write_volume(folder, files, label=f"volume {volume.number}: writing", progress=progress)
        expected = {file.name: file.sha256 for file in files}

        def reading(done: int, total: int, name: str, number: int = volume.number) -> None:
            progress(done, total, f"volume {number}: reading back {name}")

        proof = read_back(folder / layout.RELEASE, expected, progress=reading)
        written.append(
            WrittenVolume(number=volume.number, id=volume.id, files=proof.files, bytes=proof.bytes, read_back=proof)
        )
    return tuple(written)


def choose(work: WorkFolder, destinations: Mapping[int, Path] | Sequence[Path]) -> list[tuple[Volume, Path]]:
    """Return each volume that is to be written with its destination, by number.

    Raises:
        UsageError: Not one destination for each volume, one for a volume that is not there, or one twice.
    """
    volumes = {volume.number: volume for volume in volume_index(work).volumes}
    if not isinstance(destinations, Mapping):
        if len(destinations) != len(volumes):
            raise UsageError(
                what=f"{len(destinations)} destinations for {len(volumes)} volumes",
                why="each volume needs a medium of its own",
                fix="give one for each volume in order, or N=FOLDER for some",
            )
        destinations = dict(enumerate(destinations, start=1))
    if unknown := sorted(set(destinations) - set(volumes)):
        raise UsageError(what=f"there is no volume {unknown[0]}", why=f"the release has {len(volumes)}")
    if len({place.resolve() for place in destinations.values()}) != len(destinations):
        raise UsageError(what="a destination is given twice", fix="each volume needs a medium of its own")
    return [(volumes[number], folder) for number, folder in sorted(destinations.items())]


def require_empty(folder: Path, volume: Volume) -> None:
    """Pass only when a destination is absent, or a folder that holds nothing but litter.

    Raises:
        NotEmptyError: It holds other data, or is no folder.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise NotEmptyError(
            what=f"the destination of volume {volume.number} is not a folder",
            why="a medium is written where it is mounted",
            fix="mount it and name the folder",
        )
    if others := sorted(entry.name for entry in folder.iterdir() if entry.name not in layout.LITTER):
        raise NotEmptyError(
            what=f"the destination of volume {volume.number} holds other data",
            why=f"{others[0]!r} and {len(others) - 1} more" if len(others) > 1 else f"{others[0]!r}",
            fix="sanitise the medium and record that, then write to it empty",
        )


def _write_volume(folder: Path, files: Sequence[PlannedFile], *, label: str, progress: Progress) -> None:
    unfinished = folder / _UNFINISHED
    try:
        unfinished.mkdir(parents=True)
        _fill(unfinished, files, label=label, progress=progress)
        for parent in sorted({each for each in unfinished.rglob("*") if each.is_dir()} | {unfinished}):
            _sync_folder(parent)
        unfinished.rename(folder / layout.RELEASE)
        _sync_folder(folder)
    except OSError as error:
        raise UnreadableError(
            what=f"{label} failed",
            why=error.strerror or "input/output error",
            fix=f"use another medium, or remove {_UNFINISHED} from this one and try again",
        ) from error


def _fill(unfinished: Path, files: Sequence[PlannedFile], *, label: str, progress: Progress) -> None:
    total, done = total_bytes(files), 0
    for file in files:
        target = unfinished / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        for chunk in _copy(file, target):
            digest.update(chunk)
            done += len(chunk)
            progress(done, total, label)
        if digest.hexdigest() != file.sha256:
            raise ReadBackError(
                what=f"{file.name} is not what was sealed",
                why=f"expected {file.sha256[:12]}, the work folder holds {digest.hexdigest()[:12]}",
                fix="restore the work folder; the medium is unfinished and not usable",
            )


def _copy(file: PlannedFile, target: Path) -> Iterator[bytes]:
    with file.source.open("rb", buffering=0) as source, target.open("xb", buffering=0) as sink:
        source.seek(file.offset)
        left = file.length
        while left:
            chunk = source.read(min(left, _CHUNK))
            if not chunk:
                raise UnreadableError(what=f"{file.name} is shorter than planned", why=f"{left} bytes are missing")
            view = memoryview(chunk)
            while view:
                view = view[sink.write(view) :]
            left -= len(chunk)
            yield chunk
        os.fsync(sink.fileno())


def _sync_folder(folder: Path) -> None:
    try:
        durable.sync_folder(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some FUSE file systems cannot sync a folder
            raise
