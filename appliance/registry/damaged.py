"""Versions whose bytes on this box's disk are not what was approved: marked by the scrub, and no longer routed to.

An engine maps its weights, so bytes that rot under it may reach answers before anything is loaded again. The mark is a
small file of this box, because a disk is: written whole as soon as the scrub finds something, taken back when every
file of the version was hashed again and held.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from appliance.errors import StoreDamagedError
from appliance.registry import carriers
from appliance.registry.descriptor import ModelDescriptor
from appliance.store.content import StoredRelease
from appliance.store.writing import writing
from media import canonical, durable
from media.errors import MediaError, SealiftError

FORMAT: Final = 1
FILE: Final = "damaged.json"
_MAX_BYTES: Final = 2**20
_READABLE: Final = 0o644

Parts = Mapping[tuple[int, str], frozenset[str]]


def damaged(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the marked versions by digest, with what was found; nothing where no scrub marked any.

    Raises:
        StoreDamagedError: The marks do not read, so it cannot be told which versions are sound.
    """
    try:
        untrusted = (folder / FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise _unreadable(error.strerror or "") from error
    try:
        value = canonical.exact_keys(
            canonical.loads(untrusted, max_bytes=_MAX_BYTES), ("format", "versions"), what=FILE
        )
        canonical.integer(value["format"], FILE, minimum=FORMAT, maximum=FORMAT)
        return {
            canonical.sha256_hex(digest, FILE): canonical.mapping(found, FILE)
            for digest, found in canonical.mapping(value["versions"], FILE).items()
        }
    except MediaError as error:
        raise _unreadable(error.why) from error


def save(folder: Path, versions: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the marks durably.

    Raises:
        NoSpaceError, StoreWriteError: They cannot be written.
    """
    with writing("the marks of damaged versions"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        content = canonical.dumps({"format": FORMAT, "versions": {key: dict(found) for key, found in versions.items()}})
        durable.replace(folder / FILE, content, mode=_READABLE)


def parts_of(releases: Iterable[StoredRelease]) -> Parts:
    """Return, for each file of a release that is part of a version, whose part it is; unreadable ones are left out."""
    found: dict[tuple[int, str], set[str]] = {}
    for stored in releases:
        for path, descriptor in descriptors_of(stored):
            files = (path, descriptor.template_path, *(file.path for file in descriptor.files))
            for each in files:
                found.setdefault((stored.serial, each), set()).add(descriptor.model_digest)
    return {place: frozenset(digests) for place, digests in found.items()}


def descriptors_of(stored: StoredRelease) -> list[tuple[str, ModelDescriptor]]:
    """Return path and descriptor of each version that a release brings; those that do not read are left out."""
    return [
        (brought.path, brought.descriptor)
        for brought in carriers.described(stored)
        if not isinstance(brought, SealiftError)
    ]


def is_sound(releases: Iterable[StoredRelease], model_digest: str) -> bool:
    """Hash every file of a version again in the newest release that brings it; tell whether all are as approved."""
    for stored in releases:
        for path, descriptor in descriptors_of(stored):
            if descriptor.model_digest != model_digest:
                continue
            try:
                for each in (path, descriptor.template_path, *(file.path for file in descriptor.files)):
                    stored.verify(each)
            except SealiftError:
                return False
            return True
    return False


def _unreadable(why: str) -> StoreDamagedError:
    return StoreDamagedError(
        what="it cannot be told which versions are damaged",
        why=f"the scrub's marks do not read: {why}",
        fix="run `sealift scrub`, which writes them again",
    )
