"""A volume laid out as a folder, for tools that make images of folders: linked where a whole file can be, else copied.

Nothing here hashes: what was staged is compared when it comes back out of the image.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from bundler.measure import Progress
from bundler.volumefiles import PlannedFile
from media import layout
from media.digest import file_sha256
from media.errors import UnreadableError

_CHUNK = 4 * 2**20


@dataclass(frozen=True, kw_only=True)
class Tree:
    """What a volume holds, by name below its root.

    Args:
        folder: Where it is laid out.
        sizes: Bytes of each file.
        sha256: What each file must be.
    """

    folder: Path
    sizes: Mapping[str, int]
    sha256: Mapping[str, str]

    @cached_property
    def folders(self) -> Mapping[str, tuple[str, ...]]:
        """The files in each folder, by the folder's name; parents before children, each sorted."""
        found: dict[str, list[str]] = {}
        for name in self.sizes:
            parent = name.rpartition("/")[0]
            found.setdefault(parent, []).append(name)
            while parent:
                parent = parent.rpartition("/")[0]
                found.setdefault(parent, [])
        return MappingProxyType({name: tuple(sorted(found[name])) for name in sorted(found)})

    @property
    def bytes(self) -> int:
        """Sum of the sizes."""
        return sum(self.sizes.values())


def copied_bytes(files: Sequence[PlannedFile], folder: Path) -> int:
    """Return how many bytes of a volume cannot be linked into a folder: parts of longer files, files on other disks."""
    device = folder.stat().st_dev
    return sum(file.length for file in files if not _is_whole(file) or file.source.stat().st_dev != device)


def lay_out(files: Sequence[PlannedFile], folder: Path, *, label: str, progress: Progress) -> None:
    """Lay a volume's files out below `folder`/release.

    Raises:
        UnreadableError: A file cannot be read, or there is no room.
    """
    total, done = sum(file.length for file in files), 0
    try:
        for file in files:
            target = folder / layout.RELEASE / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not (_is_whole(file) and _linked(file.source, target)):
                _copy(file, target)
            done += file.length
            progress(done, total, label)
    except OSError as error:
        raise UnreadableError(
            what=f"{label} failed", why=error.strerror or "input/output error", fix="free some space and try again"
        ) from error


def tree_of(files: Sequence[PlannedFile], folder: Path) -> Tree:
    """Return what was laid out, with the custody entries that were added since."""
    sizes = {f"{layout.RELEASE}/{file.name}": file.length for file in files}
    sha256 = {f"{layout.RELEASE}/{file.name}": file.sha256 for file in files}
    for path in sorted((folder / layout.CUSTODY).glob("*")):
        name = f"{layout.CUSTODY}/{path.name}"
        sizes[name], sha256[name] = path.stat().st_size, file_sha256(path)
    return Tree(folder=folder, sizes=dict(sorted(sizes.items())), sha256=sha256)


def _is_whole(file: PlannedFile) -> bool:
    return file.offset == 0 and file.length == file.source.stat().st_size


def _linked(source: Path, target: Path) -> bool:
    try:
        target.hardlink_to(source.resolve(strict=True))
    except OSError:  # another file system, or one without links
        return False
    return True


def _copy(file: PlannedFile, target: Path) -> None:
    with file.source.open("rb", buffering=0) as source, target.open("xb", buffering=0) as sink:
        offset, end = file.offset, file.offset + file.length
        while offset < end:
            count = os.sendfile(sink.fileno(), source.fileno(), offset, min(_CHUNK, end - offset))
            if not count:
                raise UnreadableError(what=f"{file.name} is shorter than planned", why=f"{end - offset} bytes miss")
            offset += count
