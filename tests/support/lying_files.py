"""The program behind a lying medium: `python -m tests.support.lying_files FOLDER PLACE LIES LOG` (lying_medium.py)."""

import errno
import json
import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import mfusepy

from tests.support.lying_medium import Lie

_SHORT: Final = 4093
_PAGE_BYTES: Final = 4096
_FACTS: Final = ("st_mode", "st_size", "st_uid", "st_gid", "st_mtime", "st_ctime")


class Files(mfusepy.Operations):  # type: ignore[misc]  # the library has no types
    """A folder, read only, with lies about some of its files."""

    use_ns = False

    def __init__(self, folder: Path, lies: dict[str, Lie], log: Path) -> None:
        self.folder = folder
        self.lies = lies
        self.log = log
        self.opened: Counter[str] = Counter()
        self.given: dict[str, set[int]] = {}

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """Return what stat says."""
        name = path.lstrip("/")
        try:
            facts = (self.folder / name).lstat()
        except FileNotFoundError as error:
            raise mfusepy.FuseOSError(errno.ENOENT) from error
        found: dict[str, Any] = {each: getattr(facts, each) for each in _FACTS}
        if name in self.lies and self.lies[name].how == "endless":
            found["st_size"] = 2**50
        return {**found, "st_nlink": 1 if stat.S_ISREG(facts.st_mode) else 2}

    def readdir(self, path: str, fh: int) -> list[str]:
        """Return the names in a folder."""
        return [".", "..", *sorted(each.name for each in (self.folder / path.lstrip("/")).iterdir())]

    def open(self, path: str, flags: int) -> int:
        """Count the openings; each has its number."""
        name = path.lstrip("/")
        self.opened[name] += 1
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(name + "\n")
        return self.opened[name]

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Return bytes of a file, or a lie."""
        name = path.lstrip("/")
        with (self.folder / name).open("rb") as stream:
            stream.seek(offset)
            content = stream.read(size)
        if name not in self.lies:
            return content
        # By pages, and not by how far it was read: the kernel asks ahead, and not always in order.
        pages = set(range(offset // _PAGE_BYTES, -(-(offset + len(content)) // _PAGE_BYTES)))
        given = self.given.setdefault(name, set())
        is_evil = {"good once": fh > 1, "evil once": fh == 1, "evil again": bool(pages & given)}
        given |= pages
        lie = self.lies[name]
        if lie.how in is_evil:
            return bytes(byte ^ 0xFF for byte in content) if is_evil[lie.how] else content
        return LIES[lie.how](lie, content, size, offset)


def _fails(lie: Lie, content: bytes, size: int, offset: int) -> bytes:
    if offset + size > lie.at:
        raise mfusepy.FuseOSError(errno.EIO)
    return content


def _dies(lie: Lie, content: bytes, size: int, offset: int) -> bytes:
    if offset + size > lie.at:
        os._exit(1)
    return content


def _waits(lie: Lie, content: bytes, size: int, offset: int) -> bytes:
    time.sleep(0.05)
    return content


LIES: Final[dict[str, Callable[[Lie, bytes, int, int], bytes]]] = {
    "grows": lambda lie, content, size, offset: content + b"more" if 0 < len(content) < size else content,
    "shrinks": lambda lie, content, size, offset: content[: max(0, lie.at - offset)],
    "short": lambda lie, content, size, offset: content[:_SHORT],
    "endless": lambda lie, content, size, offset: b"\0" * size,
    "fails": _fails,
    "dies": _dies,
    "waits": _waits,
}


if __name__ == "__main__":
    told = {each["path"]: Lie(**each) for each in json.loads(sys.argv[3])}
    files = Files(Path(sys.argv[1]), told, Path(sys.argv[4]))
    mfusepy.FUSE(files, sys.argv[2], foreground=True, nothreads=True, ro=True, direct_io=True, fsname="lying")
