"""Getting a file out of the page cache and showing that it is out, so that what is read next comes from the device.

`POSIX_FADV_DONTNEED` is advice: pages that are dirty or mapped stay. `mincore` then says whether any page is left. Both
speak of this kernel's own cache only: a file system that another program serves (FUSE) or that lies on another
machine has a cache behind them, and for those nothing is claimed.
"""

import ctypes
import mmap
import os
from pathlib import Path
from typing import Final

_WINDOW: Final = 2**30
"""Bytes mapped at once; a multiple of every page size."""
_TRIES: Final = 3
_ON_A_DEVICE: Final = frozenset(
    {"btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfsplus", "iso9660", "jfs", "msdos", "ntfs3", "udf"}
    | {"vfat", "xfs"}
)
"""File systems of this kernel that read from a block device through the page cache and nothing else."""
_LOOP_MAJOR: Final = 7

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
    ctypes.c_long,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
_MAP_FAILED: Final = ctypes.c_void_p(-1).value


def drop(descriptor: int) -> bool:
    """Ask the kernel to forget a file; return whether no page of it is left. The caller has synced it."""
    for _ in range(_TRIES):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        if not resident_pages(descriptor):
            return True
    return False


def resident_pages(descriptor: int) -> int:
    """Return how many pages of a file are in memory.

    Raises:
        OSError: The kernel does not say.
    """
    size, found = os.fstat(descriptor).st_size, 0
    for offset in range(0, size, _WINDOW):
        found += _resident(descriptor, offset, min(_WINDOW, size - offset))
    return found


def _resident(descriptor: int, offset: int, length: int) -> int:
    address = _libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, offset)
    if address == _MAP_FAILED:
        raise OSError(ctypes.get_errno(), "mmap failed")
    try:
        pages = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
        if _libc.mincore(address, length, pages):
            raise OSError(ctypes.get_errno(), "mincore failed")
        return sum(each & 1 for each in pages.raw)
    finally:
        _libc.munmap(address, length)


def is_on_a_device(path: Path) -> bool:
    """Tell whether dropping this kernel's cache leaves nothing but a device below a file or folder."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split()
        if fields[2] == wanted:
            return fields[fields.index("-") + 1] in _ON_A_DEVICE and not is_cached_loop(device)
    return False


def is_cached_loop(device: int) -> bool:
    """Tell whether a block device is a loop device whose own file is read through the page cache."""
    if os.major(device) != _LOOP_MAJOR:
        return False
    direct = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/loop/dio")
    try:
        return direct.read_text("ascii").strip() != "1"
    except OSError:
        return True
