"""A stick as the kernel shows it, and why it may not be written to: in use, inside this machine, or not empty.

Nothing is written here. A stick counts as empty when its first and last MiB and 64 samples in between hold one byte
over and over (00 as delivered or wiped, FF as flash is when erased): every partition table, and the marks of every
file system, LVM, RAID and ZFS lie in the first or last MiB.
"""

import fcntl
import os
import stat
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bundler.errors import NotEmptyError
from bundler.images.programs import program
from media.errors import UnreadableError, UsageError

EDGE: Final = 2**20
_SAMPLES: Final = 64
_SAMPLE: Final = 4096
_BLKGETSIZE64: Final = 0x80081272
_BLKSSZGET: Final = 0x1268
_BLKROGET: Final = 0x125E
_REMOVABLE_BUSES: Final = ("/usb", "/mmc_host/")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDevice:
    """A whole device.

    Args:
        path: As it was named.
        number: Major and minor number.
        size: Bytes.
        sector: Bytes of a logical sector.
        serial: As its maker wrote it; empty where it has none.
        model: Maker and model; empty where it says none.
        is_inside: It looks like a disk of this machine and not like something that is plugged in.
    """

    path: Path
    number: int
    size: int
    sector: int
    serial: str
    model: str
    is_inside: bool

    @classmethod
    def open(cls, path: Path) -> Self:
        """Look at a device.

        Raises:
            UsageError: It is no whole block device, or may not be written.
            UnreadableError: It cannot be opened.
        """
        try:
            facts = path.stat()
            if not stat.S_ISBLK(facts.st_mode):
                raise UsageError(what=f"{path.name} is no block device", fix="name the stick, such as /dev/sdb")
            if (_sysfs(facts.st_rdev) / "partition").exists():
                raise UsageError(
                    what=f"{path.name} is a partition",
                    why="a stick is written as a whole, with a partition table of its own",
                    fix="name the whole device, or mount the partition and name the folder",
                )
            with path.open("rb", buffering=0) as source:
                size, sector, is_read_only = _geometry(source.fileno())
        except OSError as error:
            raise UnreadableError(
                what=f"{path.name} cannot be opened", why=error.strerror or "input/output error", fix="run as root"
            ) from error
        if is_read_only:
            raise UsageError(what=f"{path.name} is write-protected", fix="move its switch, or use another stick")
        if not size:
            raise UsageError(what=f"{path.name} holds no medium", fix="put one in")
        place = _sysfs(facts.st_rdev)
        return cls(
            path=path,
            number=facts.st_rdev,
            size=size,
            sector=sector,
            serial=serial_of(place),
            model=" ".join(filter(None, (_text(place / "device/vendor"), _text(place / "device/model")))),
            is_inside=is_inside(place),
        )

    @property
    def title(self) -> str:
        """What a person recognises it by."""
        names = [self.path.name, self.model, f"serial {self.serial}" if self.serial else "", f"{self.size:,} bytes"]
        return ", ".join(filter(None, names))

    @property
    def typed(self) -> tuple[str, ...]:
        """What a person may type to have it written over."""
        return tuple(filter(None, (self.serial, str(self.path))))

    def require_unused(self) -> None:
        """Pass only when nothing on this machine uses the device.

        Raises:
            NotEmptyError: It, or a part of it, is mounted, is swap, or belongs to another device.
        """
        place = _sysfs(self.number)
        parts = [place, *(each.parent for each in sorted(place.glob("*/partition")))]
        numbers = {_text(each / "dev") for each in parts}
        if used := next(iter(_mounted(numbers)), None):
            raise self._in_use(f"{used} is mounted on it")
        for part in parts:
            if holder := next(iter(sorted((part / "holders").glob("*"))), None):
                raise self._in_use(f"{holder.name} is made of it")
        if _is_swap(numbers):
            raise self._in_use("this machine swaps to it")

    def require_empty(self, erase: tuple[str, ...]) -> str:
        """Pass only when the device is empty and plugged in, or somebody typed that it shall be written over.

        Args:
            erase: What was typed: serials or paths.

        Returns:
            What was found on it, in words; empty when it was empty.

        Raises:
            NotEmptyError: It holds data, or is a disk of this machine, and nobody typed its serial or path.
        """
        found = self.content()
        if not (found or self.is_inside) or set(erase) & set(self.typed):
            return found
        inside = "it is a disk inside this machine" if self.is_inside else ""
        raise NotEmptyError(
            what=f"the stick holds other data: {self.title}" if found else f"this is no stick: {self.title}",
            why="; ".join(filter(None, (inside, found))),
            fix=f"use another one, or add --erase {self.typed[0]} to lose what is on it",
        )

    def content(self) -> str:
        """Return what the device holds, in words; empty when it looks empty."""
        try:
            with self.path.open("rb", buffering=0) as source:
                if all(_is_blank(source.fileno(), offset, length) for offset, length in self._looked_at()):
                    return ""
        except OSError as error:
            raise UnreadableError(
                what=f"{self.path.name} cannot be read", why=error.strerror or "input/output error", fix="use another"
            ) from error
        return _known_by(self.path) or "bytes of an unknown kind"

    def _looked_at(self) -> Iterator[tuple[int, int]]:
        edge = min(EDGE, self.size)
        yield 0, edge
        yield self.size - edge, edge
        for number in range(1, _SAMPLES + 1):
            yield (self.size // (_SAMPLES + 1) * number) // _SAMPLE * _SAMPLE, min(_SAMPLE, self.size)

    def _in_use(self, why: str) -> NotEmptyError:
        return NotEmptyError(
            what=f"the stick is in use: {self.title}",
            why=why,
            fix="unmount it, if it is the right one; else name another",
        )


def _geometry(descriptor: int) -> tuple[int, int, bool]:
    """Return size, logical sector and whether it is read-only."""
    (size,) = struct.unpack("Q", fcntl.ioctl(descriptor, _BLKGETSIZE64, bytes(8)))
    (sector,) = struct.unpack("i", fcntl.ioctl(descriptor, _BLKSSZGET, bytes(4)))
    (read_only,) = struct.unpack("i", fcntl.ioctl(descriptor, _BLKROGET, bytes(4)))
    return size, sector, bool(read_only)


def _sysfs(number: int) -> Path:
    return Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")


def _text(file: Path) -> str:
    try:
        return " ".join(_printable(file.read_text("utf-8", errors="replace")).split())
    except OSError:
        return ""


def _printable(untrusted: str) -> str:
    """Return what a stick says of itself without what a terminal would obey and no line of the register may hold."""
    return "".join(each if each.isprintable() or each.isspace() else "\ufffd" for each in untrusted)


def serial_of(place: Path) -> str:
    """Return a disk's serial number from its folder in sysfs: a stick's own is with the USB device levels above it."""
    if found := _text(place / "device/serial"):
        return found
    # The first USB device above is the stick; a hub or controller above that has a serial of its own.
    usb = next((above for above in place.resolve().parents if (above / "idVendor").exists()), None)
    return _text(usb / "serial") if usb is not None else ""


def is_inside(place: Path) -> bool:
    """Tell from its folder in sysfs whether a disk is part of this machine and not plugged in."""
    if not (place / "device").exists():  # a loop device or the like; nothing that is soldered or screwed in
        return False
    plugged = any(bus in str(place.resolve()) for bus in _REMOVABLE_BUSES)
    return not plugged and _text(place / "removable") != "1"


def _mounted(numbers: set[str]) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text("utf-8", errors="replace").splitlines():
        fields = line.split()
        source = fields[fields.index("-") + 2]
        # A FUSE file system has a number of its own; its source names the device.
        if fields[2] in numbers or (source.startswith("/dev/") and _number_of(source) in numbers):
            yield fields[4]


def _is_swap(numbers: set[str]) -> bool:
    try:
        lines = Path("/proc/swaps").read_text("utf-8", errors="replace").splitlines()[1:]
    except OSError:
        return False
    return any(_number_of(line.split()[0]) in numbers for line in lines if line)


def _number_of(path: str) -> str:
    try:
        found = Path(path).stat()
    except OSError:
        return ""
    return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}" if stat.S_ISBLK(found.st_mode) else ""


def _is_blank(descriptor: int, offset: int, length: int) -> bool:
    data = os.pread(descriptor, length, offset)
    return data in {bytes(len(data)), b"\xff" * len(data)}


def _known_by(path: Path) -> str:
    """Return what blkid calls the content; empty when it knows no name for it."""
    try:
        done = subprocess.run(
            [program("blkid"), "--probe", "--output", "export", str(path)], capture_output=True, check=False
        )
    except (OSError, UsageError):
        return ""
    # At no other sign that ends a line: a label may hold one, and would say what else is there.
    said = dict(
        line.split("=", 1) for line in done.stdout.decode("utf-8", "replace").split("\n") if line.count("=") == 1
    )
    names = [said.get("TYPE", ""), f"partition table {said['PTTYPE']}" if "PTTYPE" in said else ""]
    names.append(f"label {said['LABEL'][:40]}" if said.get("LABEL") else "")
    return " ".join(_printable(", ".join(filter(None, names))).split())
