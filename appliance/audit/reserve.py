"""Room that is kept for the ledger: a file beside `ledger.db` whose blocks are allocated and hold nothing.

It is given back to the disk slice by slice, so that another process that writes to the same disk takes one slice at a
time at most, and is made whole again when there is room. What cannot be promised is said on docs/operator/ledger.md: a
file system that copies on write needs new blocks for everything, one that compresses may keep none for zeros, and what
is thinly provisioned fills up elsewhere.
"""

import os
import shutil
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final

FILE_NAME: Final = "ledger.reserve"
SLICES: Final = 64
_MIB: Final = 2**20
_LEAST, _MOST, _MOST_SMALL = 64 * _MIB, 256 * _MIB, 128 * _MIB
_LEAST_THROWAWAY: Final = 4 * _MIB
_PART_OF_DISK: Final = 200
_MOST_OF_DISK: Final = 10
# Copy-on-write: room that a deleted file gave back may be needed for metadata first.
UNSURE: Final = frozenset({"btrfs", "zfs", "bcachefs", "nilfs2"})


def default_bytes(disk_bytes: int, *, is_small: bool, is_throwaway: bool) -> int:
    """Return how much is kept where the site file names nothing.

    Args:
        disk_bytes: Size of the file system that the ledger lies on.
        is_small: The site's profile is the smallest one.
        is_throwaway: A demo or a rehearsal: nothing there must last.
    """
    if is_throwaway:
        return min(_LEAST_THROWAWAY, disk_bytes // _MOST_OF_DISK)
    wanted = min(max(disk_bytes // _PART_OF_DISK, _LEAST), _MOST_SMALL if is_small else _MOST)
    return min(wanted, disk_bytes // _MOST_OF_DISK)


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    while not folder.exists():
        folder = folder.parent
    return folder


class Reserve:
    """The file in one folder. One process has it.

    Args:
        folder: The ledger's; it need not be there yet.
        wanted: Bytes to keep.
    """

    def __init__(self, folder: Path, wanted: int) -> None:
        self.wanted = wanted
        self._folder = folder
        self._path = folder / FILE_NAME

    @property
    def slice_bytes(self) -> int:
        """How much is given back at once."""
        return max(self.wanted // SLICES, 1)

    def held(self) -> int:
        """Return how many bytes of the disk it has now: allocated blocks, never the length it claims."""
        try:
            facts = self._path.stat(follow_symlinks=False)
        except OSError:
            return 0
        return min(facts.st_blocks * 512, facts.st_size)

    def free(self) -> int:
        """Return how many bytes of the disk this user may still write, without the reserve; 0 where nobody can tell."""
        try:
            return shutil.disk_usage(existing(self._folder)).free
        except OSError:
            return 0

    def size(self) -> int:
        """Return how many bytes of the disk this user and all others may have together; 0 where nobody can tell."""
        try:
            usage = shutil.disk_usage(existing(self._folder))
        except OSError:
            return 0
        return usage.used + usage.free

    def is_apart(self) -> bool:
        """Tell whether the folder is a file system of its own, into which nobody else here can look."""
        try:
            return self._folder.stat().st_dev != self._folder.parent.stat().st_dev
        except OSError:
            return False

    def give(self) -> int:
        """Give one slice back to the disk; return the bytes, 0 when none is left."""
        held = self.held()
        if not held:
            return 0
        left = max(held - self.slice_bytes, 0)
        try:
            with self._opened() as descriptor:
                os.ftruncate(descriptor.fileno(), left)
                os.fsync(descriptor.fileno())  # until the file system's journal is written, nobody gets the blocks
        except OSError:
            return 0
        return held - self.held()

    def fill(self) -> bool:
        """Take what is missing of the disk; return whether the reserve is whole. Takes nothing it cannot have whole."""
        before = self.held()
        if before >= self.wanted:
            return True
        try:
            with self._opened() as descriptor:
                os.posix_fallocate(descriptor.fileno(), 0, self.wanted)
                os.fsync(descriptor.fileno())
        except OSError:
            self._back_to(before)
            return False
        return self.held() >= self.wanted

    def _back_to(self, length: int) -> None:
        with suppress(OSError), self._opened() as descriptor:  # the next look sees what is held
            os.ftruncate(descriptor.fileno(), length)

    def _opened(self) -> FileIO:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.fdopen(os.open(self._path, flags, 0o600), "r+b", buffering=0)
