"""Copying an image onto a stick and comparing what the stick gives back, both past the page cache.

The first MiB is written last, so that a stick that was pulled out half-way looks empty and not like a medium.
"""

import fcntl
import hashlib
import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from bundler import pagecache
from bundler.blockdevice import EDGE, BlockDevice
from bundler.errors import CapacityError, ReadBackError
from bundler.measure import Progress
from media.errors import UnreadableError, UsageError

_CHUNK: Final = 4 * 2**20
_ALIGNED: Final = 4096
_BLKFLSBUF: Final = 0x1261
_BLKRRPART: Final = 0x125F
_SECTOR_OF_IMAGES: Final = 512


def require_fits(image_bytes: int, device: BlockDevice, *, is_partitioned: bool, number: int) -> None:
    """Pass only when a device can take an image.

    Raises:
        CapacityError: It is too small.
        UsageError: Its sectors are not those that the image's table counts in.
    """
    if _padded(image_bytes) > device.size:
        raise CapacityError(
            what=f"volume {number} does not fit {device.path.name}",
            why=f"it needs {image_bytes:,} bytes, the stick has {device.size:,}",
            fix="use a larger stick, or plan again with --capacity",
        )
    if is_partitioned and device.sector != _SECTOR_OF_IMAGES:
        raise UsageError(
            what=f"{device.path.name} has sectors of {device.sector} bytes",
            why="the partition table of the image counts in 512",
            fix="format and mount it, and name the folder; or use --format udf",
        )


def burn(image: Path, device: BlockDevice, *, number: int, progress: Progress) -> bool:
    """Write an image to a device and compare every byte that comes back; return whether the device itself gave it.

    Args:
        image: A file that was compared with what was sealed.
        device: One that is unused, and empty or given up.
        number: The volume's number, for the bar.
        progress: Called with bytes done, bytes in all, and what is being done.

    Raises:
        UnreadableError: The device could not be written or read.
        ReadBackError: What came back differs.
    """
    size = image.stat().st_size
    try:
        wanted = _write(image, device, size=size, number=number, progress=progress)
        found = _read(device, size=size, number=number, progress=progress)
    except OSError as error:
        raise UnreadableError(
            what=f"{device.path.name} could not be written",
            why=error.strerror or "input/output error",
            fix="use another stick; this one is not usable as it is",
        ) from error
    if found != wanted:
        raise ReadBackError(
            what=f"volume {number} came back different from {device.path.name}",
            why=f"expected {wanted[:12]}, read {found[:12]}",
            fix="discard this stick and write another one",
        )
    with suppress(OSError), device.path.open("rb", buffering=0) as again:  # the partition appears; no matter if not
        fcntl.ioctl(again.fileno(), _BLKRRPART)
    return not pagecache.is_cached_loop(device.number)


def _write(image: Path, device: BlockDevice, *, size: int, number: int, progress: Progress) -> str:
    digest, total = hashlib.sha256(), size
    # O_EXCL on a block device: refused while anything has it mounted or claimed.
    flags = os.O_WRONLY | os.O_DIRECT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(device.path, flags)
    try:
        if os.fstat(descriptor).st_rdev != device.number:
            raise UnreadableError(what=f"{device.path.name} is another device now", fix="name it again")
        with image.open("rb", buffering=0) as source, mmap.mmap(-1, _CHUNK) as buffer, mmap.mmap(-1, EDGE) as first:
            _put(descriptor, bytes(EDGE), 0, first)
            end = device.size // _ALIGNED * _ALIGNED
            _put(descriptor, bytes(min(EDGE, end)), max(end - EDGE, 0), first)
            head = source.read(EDGE)
            digest.update(head)
            done = len(head)
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                _put(descriptor, chunk, done, buffer)
                done += len(chunk)
                progress(done, total, f"volume {number}: writing {device.path.name}")
            os.fsync(descriptor)
            _put(descriptor, head, 0, first)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def _read(device: BlockDevice, *, size: int, number: int, progress: Progress) -> str:
    digest, done = hashlib.sha256(), 0
    with device.path.open("rb", buffering=0) as plain:
        fcntl.ioctl(plain.fileno(), _BLKFLSBUF)
    descriptor = os.open(device.path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        with mmap.mmap(-1, _CHUNK) as buffer, memoryview(buffer) as view:
            while done < size:
                count = min(os.preadv(descriptor, [view], done), size - done)
                if not count:
                    break
                with view[:count] as chunk:
                    digest.update(chunk)
                done += count
                progress(done, size, f"volume {number}: reading {device.path.name} back")
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def _put(descriptor: int, data: bytes, offset: int, buffer: mmap.mmap) -> None:
    """Write bytes from an aligned buffer, the last sector filled with zeros."""
    length = _padded(len(data))
    buffer[: len(data)] = data
    buffer[len(data) : length] = bytes(length - len(data))
    written = 0
    with memoryview(buffer) as whole:
        while written < length:
            with whole[written:length] as rest:
                written += os.pwritev(descriptor, [rest], offset + written)


def _padded(length: int) -> int:
    return -(-length // _ALIGNED) * _ALIGNED
