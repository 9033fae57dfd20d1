"""A disk that remembers every write, and that disk as it would be had the power gone at any of them.

    with logged_disk(folder, prepare=fill) as disk:
        ...                                     # work below disk.place
    disk.log.replay(cut, folder / "image", torn=None)
    with mounted(folder / "image", disk.place):
        ...                                     # look at what is left

qemu-storage-daemon keeps the log (the format of dm-log-writes) below a FUSE export; on it lie a loop device and ext4.
All that was flushed at a cut is there. Of what was written until the next flush, a torn replay keeps a part.
"""

import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

_DAEMON: Final = "qemu-storage-daemon"
_HEAD: Final = struct.Struct("<QQQI")
_ENTRY: Final = struct.Struct("<QQQQ")
_FLUSH: Final = 1
_DISCARD: Final = 4
_MEBIBYTES: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One entry of the log: where its bytes lie in the log, and where they went on the disk."""

    at: int
    source: int
    length: int
    is_flush: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteLog:
    """Every write since the disk was prepared, in order.

    Args:
        base: The disk before the first of them.
        file: The log.
        writes: Its entries.
    """

    base: Path
    file: Path
    writes: tuple[Write, ...]

    def cuts(self, count: int, *, begin: int = 0) -> Sequence[tuple[int, random.Random | None]]:
        """Return points at which the power goes, spread evenly over the flushes from `begin` on; every other torn."""
        flushes = [number for number, write in enumerate(self.writes, start=1) if write.is_flush and number > begin]
        flushes.insert(0, begin)
        chosen = [flushes[number * (len(flushes) - 1) // max(count - 1, 1)] for number in range(count)]
        return [(cut, random.Random(number) if number % 2 else None) for number, cut in enumerate(chosen)]

    def replay(self, cut: int, image: Path, *, torn: random.Random | None) -> None:
        """Make the disk as it was after `cut` writes; with dice, half of what came before the next flush as well."""
        # A file of its own each time: another namespace may still have the last one mounted, and write to it later.
        image.unlink(missing_ok=True)
        copy_sparsely(self.base, image)
        kept = list(self.writes[:cut])
        if torn is not None:
            for write in self.writes[cut:]:
                if write.is_flush:
                    break
                if torn.random() < 0.5:
                    kept.append(write)
        with self.file.open("rb") as log, image.open("r+b") as disk:
            for write in kept:
                log.seek(write.source)
                disk.seek(write.at)
                disk.write(log.read(write.length))


@dataclass(slots=True, kw_only=True)
class LoggedDisk:
    """A mounted disk whose writes are logged; `log` is there when it was let go."""

    place: Path
    file: Path
    log: WriteLog = field(init=False)

    def written(self) -> int:
        """Return how many writes had reached the log at the last flush."""
        with self.file.open("rb") as stream:
            return int(_HEAD.unpack(stream.read(_HEAD.size))[2])


def require_tools() -> None:
    """Skip the test where the power cannot be cut."""
    if os.geteuid() != 0:
        pytest.skip("cutting the power needs root: loop devices and mounts")
    for tool in (_DAEMON, "losetup", "mkfs.ext4"):
        if shutil.which(tool) is None:
            pytest.skip(f"cutting the power needs {tool}")
    if not Path("/dev/fuse").exists():
        pytest.skip("cutting the power needs FUSE")


@contextmanager
def logged_disk(folder: Path, *, prepare: Callable[[Path], object]) -> Iterator[LoggedDisk]:
    """Mount a disk in a folder of its own; what `prepare` does to it is not in the log."""
    require_tools()
    place, raw, base, export = folder / "mnt", folder / "raw.img", folder / "base.img", folder / "export"
    disk = LoggedDisk(place=place, file=folder / "log.img")
    place.mkdir(parents=True)
    export.touch()
    for file, mebibytes in ((raw, _MEBIBYTES), (disk.file, 2048)):
        with file.open("wb") as stream:
            stream.truncate(mebibytes * 2**20)
    # Nothing is zeroed later: the log of qemu 7.2 loses its place when that meets another write.
    _run("mkfs.ext4", "-q", "-F", "-J", "size=8", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(raw))
    with mounted(raw, place):
        prepare(place)
    copy_sparsely(raw, base)
    with _exported(raw, disk.file, export), mounted(export, place):
        yield disk
    disk.log = WriteLog(base=base, file=disk.file, writes=tuple(_entries(disk.file)))


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """Mount an image as after a start: the file system's own journal is replayed."""
    device = _run("losetup", "-f", "--show", str(image))
    try:
        done = subprocess.run(["mount", device, str(place)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        try:
            yield place
        finally:
            _run("umount", str(place))
    finally:
        _run("losetup", "-d", device)


def copy_sparsely(source: Path, place: Path) -> None:
    """Copy an image without its holes."""
    _run("cp", "--sparse=always", str(source), str(place))


@contextmanager
def _exported(raw: Path, log: Path, export: Path) -> Iterator[None]:
    daemon = subprocess.Popen(
        [
            _DAEMON,
            *("--blockdev", f"driver=file,node-name=disk,filename={raw}"),
            *("--blockdev", f"driver=file,node-name=log,filename={log}"),
            *("--blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log"),
            *("--export", f"type=fuse,id=fuse,node-name=logged,mountpoint={export},writable=on"),
        ],
        stderr=subprocess.PIPE,
    )
    with daemon:
        try:
            for _ in range(200):
                if export.stat().st_size or daemon.poll() is not None:
                    break
                time.sleep(0.05)
            if daemon.poll() is not None:
                assert daemon.stderr is not None
                pytest.skip(f"{_DAEMON} cannot log here: {daemon.stderr.read().decode().strip()}")
            yield
        finally:
            daemon.terminate()
            daemon.wait()


def _entries(log: Path) -> Iterator[Write]:
    with log.open("rb") as stream:
        _, _, count, sector = _HEAD.unpack(stream.read(_HEAD.size))
        place = sector
        for _ in range(count):
            stream.seek(place)
            at, sectors, flags, _ = _ENTRY.unpack(stream.read(_ENTRY.size))
            place += sector
            length = 0 if flags & (_FLUSH | _DISCARD) else sectors * sector
            yield Write(at=at * sector, source=place, length=length, is_flush=bool(flags & _FLUSH))
            place += length


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
