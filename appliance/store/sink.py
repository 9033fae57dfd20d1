"""A file of the store while it is written: out of order, by several threads, past the page cache.

Big files are written with O_DIRECT into room that was reserved for them: what stays behind is on the disk, a full disk
is found before the first byte, and the services that are running keep their cache. Where a file system has no direct
writes, or for what is small or does not end at a sector, it is an ordinary write.
"""

import errno
import os
from typing import Final

from appliance.store.writing import writing

_ALIGNMENT: Final = 4096
_DIRECT_FROM_BYTES: Final = 8 * 2**20


class Sink:
    """One object in the making, below an open folder; `finish` gives it its length, its mode and durability."""

    def __init__(self, folder: int, name: str, *, length: int) -> None:
        self._length = length
        with writing(name):
            self.descriptor = self._open(folder, name)
            self._direct = self._open_direct(folder, name) if length >= _DIRECT_FROM_BYTES else None
            if length >= _DIRECT_FROM_BYTES:  # a small file is allocated once, when it is written out
                self._reserve(length)

    @staticmethod
    def _open(folder: int, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(name, flags, 0o600, dir_fd=folder)
        except PermissionError:  # power went after its final mode was set and before it had its final name
            left = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                os.fchmod(left, 0o600)
            finally:
                os.close(left)
            return os.open(name, flags, 0o600, dir_fd=folder)

    @staticmethod
    def _open_direct(folder: int, name: str) -> int | None:
        try:
            return os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECT, dir_fd=folder)
        except OSError as error:
            if error.errno == errno.EINVAL:  # tmpfs and some FUSE file systems have no direct writes
                return None
            raise

    def _reserve(self, length: int) -> None:
        try:
            os.posix_fallocate(self.descriptor, 0, length)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise

    def write(self, view: memoryview, offset: int) -> None:
        """Write all of `view`, which begins at a page, at `offset`; safe from several threads.

        Raises:
            NoSpaceError, StoreWriteError: The store cannot take it.
        """
        with writing("an object"):
            direct = self._direct
            if direct is not None and offset % _ALIGNMENT == 0:
                whole = len(view) - len(view) % _ALIGNMENT
                try:
                    _write_all(direct, view[:whole], offset)
                except OSError as error:
                    if error.errno != errno.EINVAL:  # sectors larger than a page, or no direct writes after all
                        raise
                else:
                    view, offset = view[whole:], offset + whole
            _write_all(self.descriptor, view, offset)

    def read(self, view: memoryview, offset: int) -> int:
        """Fill `view` with what lies at `offset`; return how many bytes there were.

        Raises:
            StoreWriteError: The disk does not give them back.
        """
        with writing("an object that is read back"):
            return os.preadv(self.descriptor, [view], offset)

    def sync(self) -> None:
        """Make what was written survive a power cut."""
        with writing("an object"):
            os.fdatasync(self.descriptor)

    def finish(self) -> None:
        """Give the file its exact length and its final mode, and make both durable."""
        with writing("an object"):
            os.ftruncate(self.descriptor, self._length)
            os.fchmod(self.descriptor, 0o444)
            os.fsync(self.descriptor)

    def close(self) -> None:
        """Release the descriptors."""
        os.close(self.descriptor)
        if self._direct is not None:
            os.close(self._direct)


def _write_all(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
