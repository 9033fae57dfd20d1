"""Reading what the store holds again: from the disk itself, at a pace that leaves the disk to others.

Bytes that the page cache still holds say nothing about the disk, so reads go past it where the file system can; what
was read does not push out what the running services keep there.
"""

import errno
import fcntl
import hashlib
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Final

_CHUNK_BYTES: Final = 4 * 2**20

Read = Callable[[int], None]


class Pace:
    """Holds reading down to a rate.

    Args:
        bytes_per_second: The rate; 0 for none.
        read: Called with the bytes of each chunk.
    """

    def __init__(self, bytes_per_second: int = 0, read: Read = lambda _: None) -> None:
        self._rate = bytes_per_second
        self._read = read
        self._due = monotonic()

    def __call__(self, length: int) -> None:
        """So many bytes were read: wait until they may have been."""
        self._read(length)
        if self._rate:
            now = monotonic()
            self._due = max(self._due, now - 1.0) + length / self._rate  # at most a second is caught up on
            if self._due > now:
                sleep(self._due - now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """One file of the store, open for reading again.

    Args:
        descriptor: Its own.
        size: Bytes.
        inode: Tells whether the name still means the same file.
    """

    descriptor: int
    size: int
    inode: int

    def chunks(self, buffer: memoryview, *, first: int, length: int, pace: Pace) -> Iterator[memoryview]:
        """Yield `length` bytes from `first` on, a buffer at a time; fewer where the file ends.

        Raises:
            OSError: The disk does not give them.
        """
        offset, end = first, first + length
        while offset < end:
            got = min(self._fill(buffer, offset), end - offset)
            if not got:
                return
            pace(got)
            yield buffer[:got]
            offset += got

    def sha256(self, buffer: memoryview, pace: Pace, *, first: int = 0, length: int | None = None) -> str:
        """Return the digest of the whole file, or of a range.

        Raises:
            OSError: The disk does not give its bytes.
        """
        digest = hashlib.sha256()
        for chunk in self.chunks(
            buffer, first=first, length=self.size - first if length is None else length, pace=pace
        ):
            digest.update(chunk)
        return digest.hexdigest()

    def _fill(self, buffer: memoryview, offset: int) -> int:
        try:
            return os.preadv(self.descriptor, [buffer], offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        # Sectors larger than a page, or a file system that only says that it reads directly.
        flags = fcntl.fcntl(self.descriptor, fcntl.F_GETFL)
        fcntl.fcntl(self.descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        return os.preadv(self.descriptor, [buffer], offset)


def scratch() -> memoryview:
    """Return a buffer that begins at a page, as direct reads want it."""
    return memoryview(mmap.mmap(-1, _CHUNK_BYTES))


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open a file of the store past the page cache where that can be.

    Raises:
        OSError: It is not there, is no regular file, or cannot be read.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:  # tmpfs and some FUSE file systems have no direct reads
            raise
        descriptor = os.open(path, flags)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "no regular file")
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        yield Opened(descriptor=descriptor, size=facts.st_size, inode=facts.st_ino)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
