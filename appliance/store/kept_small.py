"""A stored release's own files at rest: its record, metadata, attestations, manifests and custody, compared again.

The record says the digest of every one of them, and its own lies beside it; a release that was stored before it did is
held against its tag manifests alone. The release code names volume 1's tag manifest, and signed metadata name what the
record lists.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from appliance.errors import StoreDamagedError, UnknownReleaseError
from appliance.store.content import RECORD_SUM, RELEASE_FILE, ContentStore, StoredRelease
from media import bagit, canonical, layout
from media.digest import file_sha256
from media.errors import MediaError, SealiftError
from media.release import ReleaseTerms, Target

KEPT: Final = "kept"
"""Key of the record: SHA-256 of each own file by its path below the release's folder."""
SUMMED: Final = "summed"
"""Key of the record: its own SHA-256 lies beside it."""
_OF_A_VOLUME: Final = (layout.BAGIT, layout.BAG_INFO, layout.MANIFEST)


def signed_terms(release: StoredRelease) -> tuple[ReleaseTerms, Mapping[str, Target]]:
    """Return the terms of a release and its targets as its stored metadata name them.

    Raises:
        OSError, MediaError, KeyError, TypeError: The metadata are gone or do not read.
    """
    untrusted = (release.folder / f"{layout.METADATA}/{release.serial}.targets.json").read_bytes()
    return ReleaseTerms.with_targets(canonical.mapping(canonical.loads(untrusted), "The targets")["signed"])


def signed_targets(release: StoredRelease) -> Mapping[str, Target]:
    """Return the payload as the release's stored metadata name it.

    Raises:
        OSError, MediaError, KeyError, TypeError: As `signed_terms`.
    """
    _, targets = signed_terms(release)
    return {path: each for path, each in targets.items() if path.startswith(f"{layout.DATA}/")}


def broken_files(store: ContentStore, serial: int) -> Iterator[str]:
    """Yield the paths, below the release's folder, of what is not as it was received; sorted, each once."""
    try:
        release = StoredRelease.load(store, serial)
    except (StoreDamagedError, UnknownReleaseError):
        yield RELEASE_FILE
        return
    found = {path for path, sha256 in _expected(release) if not _holds(release, path, sha256)}
    found |= _unlike_its_sum(release)
    try:
        signed = {path: (each.length, each.sha256) for path, each in signed_targets(release).items()}
    except (OSError, MediaError, KeyError, TypeError):
        found.add(f"{layout.METADATA}/{serial}.targets.json")
    else:
        if signed != {path: (each.length, each.sha256) for path, each in release.files.items()}:
            found.add(RELEASE_FILE)
    yield from sorted(found)


def _expected(release: StoredRelease) -> Iterator[tuple[str, str]]:
    """Yield path and digest of every own file that something vouches for."""
    kept = release.facts.get(KEPT)
    if isinstance(kept, dict):
        yield from ((str(path), str(sha256)) for path, sha256 in kept.items())
    yield f"volumes/1/{layout.TAG_MANIFEST}", release.code
    folder = release.folder / "volumes"
    for number in sorted(path.name for path in folder.iterdir()) if folder.is_dir() else ():
        manifest = f"volumes/{number}/{layout.TAG_MANIFEST}"
        try:
            lines = bagit.parse_manifest((release.folder / manifest).read_bytes())
        except (OSError, SealiftError):
            yield manifest, ""
            continue
        for path, sha256 in lines.items():
            yield (f"volumes/{number}/{path}" if path in _OF_A_VOLUME else path), sha256


def _unlike_its_sum(release: StoredRelease) -> set[str]:
    """Return the record's name where it is not what its sum says, or that of the sum where it is lost."""
    try:
        said = (release.folder / RECORD_SUM).read_bytes()
        is_same = said == f"{file_sha256(release.folder / RELEASE_FILE)}  {RELEASE_FILE}\n".encode()
    except FileNotFoundError:
        return {RECORD_SUM} if SUMMED in release.facts else set()
    except OSError:
        return {RECORD_SUM}
    return set() if is_same else {RELEASE_FILE}


def _holds(release: StoredRelease, path: str, sha256: str) -> bool:
    try:
        return file_sha256(release.folder / path) == sha256
    except OSError:
        return False
