"""Reading a mounted volume that nobody trusts yet. The only module that opens files of a medium.

Rules:
 * Everything is opened relative to a directory descriptor, name by name, with O_NOFOLLOW: nothing outside is reached.
 * Only regular files with one name on the volume's own file system; the rest is refused without being opened, and
   O_NONBLOCK keeps a pipe that appears later from hanging us.
 * A file's content is opened once. What was hashed is what is used; the medium is never asked twice.
 * Litter at the volume's root is listed and never opened.
"""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Self

from media import layout, limits
from media.errors import (
    ExtraFileError,
    LimitExceededError,
    MissingFileError,
    SealiftError,
    UnreadableError,
    UnsafePathError,
)

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CONTENT: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NOT_A_FILE: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV, errno.EISDIR})
_READ_BYTES: Final = 2**20
_ROOT_ENTRIES: Final = 64
_APPLE_DOUBLE: Final = "._"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopLevel:
    """What lies at a volume's root besides `release/`; custody that is no folder is for a person to judge."""

    has_custody: bool
    has_odd_custody: bool
    litter: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One opened file of a medium: read it to its end, then close it."""

    descriptor: int
    size: int


class Medium:
    """One mounted volume. `label` is what errors call it; paths of the host never appear in them."""

    def __init__(self, root: int, *, label: str) -> None:
        self._root = root
        self.device = os.fstat(root).st_dev
        self._opened: set[str] = set()
        self.label = label

    @classmethod
    def open(cls, folder: Path, *, label: str) -> Self:
        """Take hold of a volume's root; the operator's own path to it may lead over links.

        Raises:
            UnreadableError: It is no readable folder.
        """
        try:
            root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UnreadableError(
                what=f"{label}: the folder cannot be opened",
                why=error.strerror or "",
                fix="mount the volume and give its folder",
            ) from error
        return cls(root, label=label)

    def close(self) -> None:
        """Let go of the volume, so that it can be unmounted."""
        os.close(self._root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def top_level(self) -> TopLevel:
        """List the volume's root.

        Raises:
            MissingFileError: There is no `release/`.
            ExtraFileError: Something is there that is neither ours nor litter.
            UnsafePathError: `release` is not a folder of this file system.
            UnreadableError: The medium cannot be read.
        """
        kinds: dict[str, os.stat_result] = {}
        litter: list[str] = []
        for name, facts in self._entries(self._root, ""):
            if name in layout.LITTER:
                litter.append(name)
            elif name in {layout.RELEASE, layout.CUSTODY}:
                kinds[name] = facts
            else:
                self._extra(name)
            if len(kinds) + len(litter) > _ROOT_ENTRIES:
                raise self._too_many(_ROOT_ENTRIES)
        if layout.RELEASE not in kinds:
            raise MissingFileError(
                what=f"{self.label}: there is no folder {layout.RELEASE}/",
                why="this is not a Sealift volume, or not its root",
                fix="give the folder that holds release/ and custody/",
            )
        folders = {name for name, facts in kinds.items() if stat.S_ISDIR(facts.st_mode) and facts.st_dev == self.device}
        if layout.RELEASE not in folders:
            raise self._unsafe(layout.RELEASE, "it is not a folder of this volume")
        has_custody = layout.CUSTODY in folders
        return TopLevel(
            has_custody=has_custody,
            has_odd_custody=layout.CUSTODY in kinds and not has_custody,
            litter=tuple(sorted(litter)),
        )

    def files(self, top: str) -> dict[str, int]:
        """Return every file below `top` as path (relative to it) and size, all names and types checked.

        Raises:
            UnsafePathError: A name is not allowed, or something is no regular file with one name.
            ExtraFileError: An operating system left its own file inside.
            LimitExceededError: There are more files than a release may have.
            UnreadableError: The medium cannot be read.
        """
        found: dict[str, int] = {}
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            descriptor = self._folder(f"{top}/{folder}" if folder else top)
            try:
                for name, facts in self._entries(descriptor, f"{top}/{folder}"):
                    path = sys.intern(f"{folder}/{name}" if folder else name)  # lists will name it too
                    if name in layout.LITTER or name.startswith(_APPLE_DOUBLE):
                        self._extra(f"{top}/{path}")
                    self._require_safe(path)
                    if facts.st_dev != self.device:
                        raise self._unsafe(path, "it lies on another file system")
                    if stat.S_ISDIR(facts.st_mode):
                        waiting.append(path)
                    else:
                        self._require_plain(path, facts)
                        found[path] = facts.st_size
                    if len(found) + len(waiting) > 2 * limits.FILES:
                        raise self._too_many(2 * limits.FILES)
            finally:
                os.close(descriptor)
        self._require_distinct(found)
        return found

    def read(self, path: str, *, limit: int) -> bytes:
        """Return a small file's bytes; `path` counts from the volume's root.

        Raises:
            LimitExceededError: It holds more than `limit` bytes.
            MissingFileError: It is not there.
            UnsafePathError: It is no regular file.
            UnreadableError: The medium cannot be read.
        """
        content = self.open_content(path)
        try:
            pieces: list[bytes] = []
            size = 0
            while size <= limit and (piece := os.read(content.descriptor, _READ_BYTES)):
                pieces.append(piece)
                size += len(piece)
        except OSError as error:
            raise self.unreadable(path, error) from error
        finally:
            os.close(content.descriptor)
        if size > limit:
            raise LimitExceededError(
                what=f"{self.label}: {path} is too large",
                why=f"more than {limit} bytes",
                fix="do not use this medium; ask the sender for a new one",
            )
        return b"".join(pieces)

    def open_content(self, path: str) -> Content:
        """Open a file's content for its one reading; the caller closes it.

        Raises:
            MissingFileError: It is not there.
            UnsafePathError: It is no regular file with one name on this file system.
            UnreadableError: The medium cannot be read.
        """
        if path in self._opened:
            message = f"{path} would be read from the medium a second time"
            raise RuntimeError(message)
        self._opened.add(path)
        folder, _, name = path.rpartition("/")
        parent = self._folder(folder)
        try:
            descriptor = os.open(name, _CONTENT, dir_fd=parent)
        except OSError as error:
            self._refuse(path, error)
        finally:
            os.close(parent)
        try:
            facts = os.fstat(descriptor)
            if facts.st_dev != self.device:
                raise self._unsafe(path, "it lies on another file system")
            self._require_plain(path, facts)
        except BaseException:
            os.close(descriptor)
            raise
        return Content(descriptor=descriptor, size=facts.st_size)

    def unreadable(self, path: str, error: OSError) -> UnreadableError:
        """Return the error for a read that failed; it says nothing about the content."""
        return UnreadableError(
            what=f"{self.label}: {path} cannot be read",
            why=error.strerror or type(error).__name__,
            fix="clean the contacts, try another port or drive, and receive again: what was stored is kept",
        )

    def _folder(self, path: str) -> int:
        descriptor = os.dup(self._root)
        try:
            for part in path.split("/") if path else ():
                deeper = os.open(part, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = deeper
        except OSError as error:
            os.close(descriptor)
            self._refuse(path, error)
        return descriptor

    def _entries(self, descriptor: int, folder: str) -> Iterator[tuple[str, os.stat_result]]:
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    yield entry.name, entry.stat(follow_symlinks=False)
        except OSError as error:
            raise self.unreadable(folder.rstrip("/") or "its root", error) from error

    def _refuse(self, path: str, error: OSError) -> NoReturn:
        if error.errno == errno.ENOENT:
            raise MissingFileError(
                what=f"{self.label}: {path} is missing",
                why="a signed list names it",
                fix="ask the sender for a new copy of this volume",
            ) from error
        if error.errno in _NOT_A_FILE:
            raise self._unsafe(path, "it is a link, a device or a pipe") from error
        raise self.unreadable(path, error) from error

    def _require_plain(self, path: str, facts: os.stat_result) -> None:
        if not stat.S_ISREG(facts.st_mode):
            raise self._unsafe(path, "it is no regular file")
        if facts.st_nlink > 1:
            raise self._unsafe(path, f"it has {facts.st_nlink} names")

    def _require_safe(self, path: str) -> None:
        try:
            layout.safe_path(path)
        except UnsafePathError as error:
            shown = path.encode("ascii", errors="backslashreplace").decode()[:80]
            raise UnsafePathError(
                what=f"{self.label}: {shown!r}: {error.what}", why=error.why, fix=error.fix
            ) from error

    def _require_distinct(self, paths: dict[str, int]) -> None:
        try:
            layout.require_distinct(paths)
        except UnsafePathError as error:
            raise UnsafePathError(what=f"{self.label}: {error.what}", why=error.why, fix=error.fix) from error

    def _extra(self, path: str) -> NoReturn:
        shown = path.encode("ascii", errors="backslashreplace").decode()[:80]
        raise ExtraFileError(
            what=f"{self.label}: {shown!r} does not belong there",
            why="no signed list names it",
            fix="ask who had the medium; a new copy from the sender is the safe way",
        )

    def _unsafe(self, path: str, why: str) -> SealiftError:
        return UnsafePathError(
            what=f"{self.label}: {path} is not a plain file or folder",
            why=why,
            fix="do not use this medium; tell the sender and keep it as evidence",
        )

    def _too_many(self, limit: int) -> SealiftError:
        return LimitExceededError(
            what=f"{self.label}: too many files",
            why=f"more than {limit}",
            fix="do not use this medium; ask the sender for a new one",
        )
