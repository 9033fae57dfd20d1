"""One partition behind a master boot record: what every system expects on a stick.

A file system begins at 1 MiB, so that it is aligned to whatever the flash behind it uses. Optical file systems take the
whole device and need none of this.
"""

from pathlib import Path
from typing import Final

from bundler.errors import CapacityError

START: Final = 2**20
SECTOR: Final = 512
TYPES: Final = {"exfat": 0x07, "vfat": 0x0C, "ext4": 0x83}
_BEYOND: Final = b"\xfe\xff\xff"
"""Cylinder, head and sector for everything that is past what they can say."""
_MOST: Final = 2**32 * SECTOR


def write_table(image: Path, *, kind: str, size: int, disk_id: int) -> None:
    """Write the table of an image whose one partition reaches from START to the end.

    Args:
        image: A file of `size` bytes.
        kind: The file system in the partition.
        size: Bytes of the image, a multiple of SECTOR.
        disk_id: Tells disks apart on Windows.

    Raises:
        CapacityError: The table cannot say such a size.
    """
    if size > _MOST:
        raise CapacityError(
            what="the image is too large for a partition table",
            why=f"it has {size:,} bytes, the table can say {_MOST:,}",
        )
    sectors = (size - START) // SECTOR
    entry = bytes([0]) + _BEYOND + bytes([TYPES[kind]]) + _BEYOND
    entry += (START // SECTOR).to_bytes(4, "little") + sectors.to_bytes(4, "little")
    table = bytes(440) + disk_id.to_bytes(4, "little") + bytes(2) + entry + bytes(3 * 16) + b"\x55\xaa"
    with image.open("r+b") as target:
        target.write(table)
