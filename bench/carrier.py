"""Where a benchmark's medium lies: on the disk that is measured, in a folder on another device, or on one in memory.

BENCH_MEDIUM names it: nothing for the disk itself, a folder (a mounted stick or carrier), or `memory`: ext4 on a loop
device over a file in memory, which stands for a fast stick or NVMe carrier; root mounts it, and it is gone when the
benchmark ends or is broken off.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from types import FrameType
from typing import Final

from bench.measuring import run, say

IN_MEMORY: Final = "memory"
_SECTOR: Final = 512  # what the kernel counts in, whatever a device has
_READ_SECTORS: Final = 2  # its place in a device's `stat`
_SPARE: Final = 2**28  # a file system's own, and the small files of a release
_FREE_AFTERWARDS: Final = 3 * 2**30
_AHEAD_SECTORS: Final = 2 * 2**13  # 8 MiB: no reader waits because it asks for little at a time
_TRIES: Final = 50


class BrokenOffError(SystemExit):
    """Somebody ended the benchmark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """A folder for a medium.

    Args:
        folder: Empty at first.
        kind: What it is, for people.
        is_apart: Whether it is another device than the disk that is measured.
    """

    folder: Path
    kind: str
    is_apart: bool

    def bytes_read(self) -> int | None:
        """Return how much was read from its device since it exists; None where the kernel counts none."""
        device = self.folder.stat().st_dev
        try:
            fields = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()
        except OSError:
            return None
        return int(fields[_READ_SECTORS]) * _SECTOR

    def reading(self, work: Callable[[], float], *, least: int) -> Callable[[], float]:
        """Return what runs `work` and is sure that its data came from the device and not from the page cache.

        Args:
            work: Returns its seconds.
            least: The bytes that it has to read.
        """

        def checked() -> float:
            before = self.bytes_read()
            seconds = work()
            after = self.bytes_read()
            if before is not None and after is not None and after - before < least:
                raise SystemExit(f"error: {after - before} of {least} bytes came from the medium, the rest from memory")
            return seconds

        return checked


@contextmanager
def carrier(disk: Path, *, most: int) -> Iterator[Carrier]:
    """Yield where the medium is to lie; what was made for it is taken away again.

    Args:
        disk: The folder on the disk that is measured.
        most: The bytes that it has to hold.

    Raises:
        SystemExit: BENCH_MEDIUM cannot be had here.
    """
    named = os.environ.get("BENCH_MEDIUM", "")
    if named == IN_MEMORY:
        with _in_memory(most + _SPARE) as folder:
            yield Carrier(folder=folder, kind="a device in memory", is_apart=True)
        return
    with tempfile.TemporaryDirectory(prefix="bench-", dir=named or disk) as name:
        folder = Path(name)
        is_apart = folder.stat().st_dev != disk.stat().st_dev
        if named and not is_apart:
            say("BENCH_MEDIUM and BENCH_DIR are one file system")
        if shutil.disk_usage(folder).free < most:
            raise SystemExit(f"error: {most / 2**30:.1f} GiB are needed for the medium: name another BENCH_MEDIUM")
        yield Carrier(folder=folder, kind="another device" if is_apart else "the same disk", is_apart=is_apart)


@contextmanager
def _in_memory(size: int) -> Iterator[Path]:
    """Mount ext4 on a loop device over memory."""
    if os.geteuid() != 0:
        raise SystemExit("error: BENCH_MEDIUM=memory mounts a loop device: run it as root, or name a folder")
    if _available() < size + _FREE_AFTERWARDS:
        raise SystemExit(
            f"error: {(size + _FREE_AFTERWARDS) / 2**30:.1f} GiB of memory are needed: give a smaller SIZE"
        )
    with _broken_off_by_signals(), ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-medium-")))
        memory, place = root / "memory", root / "medium"
        for each in (memory, place):
            each.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={size + 2**20},mode=0700", "bench-medium", memory)
        stack.callback(_unmount, memory)
        image = memory / "image"
        image.touch()
        os.truncate(image, size)
        run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        device = _attached(image)
        stack.callback(run, "losetup", "--detach", device)
        run("blockdev", "--setra", str(_AHEAD_SECTORS), device)
        run("mount", "-t", "ext4", "-o", "noatime,nosuid,nodev,noexec", device, place)
        stack.callback(_unmount, place)
        (place / "lost+found").rmdir()
        yield place


def _attached(image: Path) -> str:
    """Attach an image, past the page cache where the kernel can: memory is not to hold it twice."""
    words = ["losetup", "--find", "--show", "--direct-io=on", str(image)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _unmount(place: Path) -> None:
    """Unmount; whoever was ended with us may take a moment to let go."""
    for _ in range(_TRIES):
        done = subprocess.run(["umount", str(place)], check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return
        sleep(0.1)
    run("umount", "--lazy", place)
    say(f"{place} was in use and goes when its last user ends: {done.stderr.strip()}")


def _available() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 2**10 for line in lines if line.startswith("MemAvailable"))


@contextmanager
def _broken_off_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end this process as Ctrl-C does: what was mounted is unmounted."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise BrokenOffError(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
