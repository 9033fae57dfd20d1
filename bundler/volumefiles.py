"""What lies on each volume, file by file: its name below release/, where its bytes come from, and what they must be.

The writer, the read-back and the manifests all ask here, so a volume cannot hold what its tag manifest does not name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import SigningError
from bundler.workfolder import WorkFolder
from media import layout
from media.bagit import parse_manifest
from media.digest import file_sha256
from media.volume import Part, Volume, VolumeIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """One file of one volume."""

    name: str
    source: Path
    offset: int
    length: int
    sha256: str


def volume_index(work: WorkFolder) -> VolumeIndex:
    """Return the index of a frozen release.

    Raises:
        SigningError: The release is not frozen yet.
    """
    work.require_frozen()
    return VolumeIndex.from_bytes((work.metadata / "volumes.json").read_bytes())


def shared_tag_files(work: WorkFolder) -> dict[str, Path]:
    """Return the tag files that every volume repeats: metadata/, attest/ envelopes and check/."""
    metadata = {f"{layout.METADATA}/{path.name}": path for path in work.metadata.glob("*.json")}
    attest = {f"{layout.ATTEST}/{path.name}": path for path in work.attest.glob(f"*{layout.ENVELOPE_SUFFIX}")}
    check = {
        f"{layout.CHECK}/{path.relative_to(work.check).as_posix()}": path
        for path in work.check.rglob("*")
        if path.is_file()
    }
    return dict(sorted((metadata | attest | check).items()))


def own_tag_files(work: WorkFolder, number: int) -> dict[str, Path]:
    """Return the tag files of one volume that its tag manifest names."""
    folder = work.seal_of(number)
    return {name: folder / name for name in (layout.BAGIT, layout.BAG_INFO, layout.MANIFEST)}


def planned_files(work: WorkFolder, volume: Volume) -> list[PlannedFile]:
    """Return every file of a volume, the large ones first and the signatures last.

    Raises:
        SigningError: The release is not sealed, or a tag file changed since it was.
    """
    folder = work.seal_of(volume.number)
    sealed = parse_manifest((folder / layout.TAG_MANIFEST).read_bytes())
    files = [_of_part(work, part) for part in sorted(volume.parts, key=lambda part: -part.length)]
    tags = shared_tag_files(work) | own_tag_files(work, volume.number)
    _require_same_names(tags, sealed)
    files += [_whole(name, path, sealed[name]) for name, path in sorted(tags.items())]
    last = (folder / layout.TAG_MANIFEST, *signature_files(work, volume.number))
    return files + [_whole(path.name, path, file_sha256(path)) for path in last]


def signature_files(work: WorkFolder, number: int) -> list[Path]:
    """Return the signatures over one volume's tag manifest, by fingerprint."""
    return sorted(path for path in work.seal_of(number).glob("*.sig") if layout.signer_of(path.name))


def total_bytes(files: Iterable[PlannedFile]) -> int:
    """Return the sum of the lengths."""
    return sum(file.length for file in files)


def _of_part(work: WorkFolder, part: Part) -> PlannedFile:
    return PlannedFile(
        name=str(part.path),
        source=work.candidate / str(part.target),
        offset=part.first * layout.BLOCK_BYTES,
        length=part.length,
        sha256=part.sha256,
    )


def _whole(name: str, path: Path, sha256: str) -> PlannedFile:
    return PlannedFile(name=name, source=path, offset=0, length=path.stat().st_size, sha256=sha256)


def _require_same_names(found: Mapping[str, Path], sealed: Mapping[str, str]) -> None:
    if odd := sorted(set(found) ^ set(sealed)):
        raise SigningError(
            what=f"{odd[0]} is not what was sealed",
            why="a tag file came or went after the tag manifest was written",
            fix="restore the work folder, or make the release again",
        )
