"""File systems of the box that are small and can be filled: ext4 on loop devices, bound into it before it boots."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.box.run import Run

LEDGER = "/var/lib/sealift/ledger"
STATE = "/var/lib/sealift"
RELEASES = "/opt/sealift"
BACKUP = "/media/sealift-backup"
SYSTEM = "/"
_ROOM_MIB = {STATE: 600, LEDGER: 48, RELEASES: 1500, BACKUP: 64, SYSTEM: 700}
_FILLER = "filler"


@contextmanager
def small_disks(run: Run, *points: str) -> Iterator[None]:
    """Move these folders of a box that does not run yet onto disks of their own, and away with them afterwards.

    With `SYSTEM` what is left of the box is moved, too, and its folder for temporary files lies there, as a machine's.
    """
    root = run.machine.root
    with ExitStack() as stack:
        disks: dict[str, Path] = {}
        for point in points:
            if point != SYSTEM:
                inside = root / point.lstrip("/")
                disks[point] = run.out / f"disk-{_name(point)}"
                _move(run, stack, inside, disks[point], room_mib=_ROOM_MIB[point])
        for point in disks:
            shutil.rmtree(root / point.lstrip("/"), ignore_errors=True)
            (root / point.lstrip("/")).mkdir(parents=True)
        if SYSTEM in points:
            before = root.with_name("before")
            root.rename(before)
            _move(run, stack, before, root, room_mib=_ROOM_MIB[SYSTEM])
            shutil.rmtree(before)
            run.machine.tmp_on_disk = True
        run.machine.disks = disks
        yield


def _name(point: str) -> str:
    return point.strip("/").replace("/", "-")


def _move(run: Run, stack: ExitStack, inside: Path, place: Path, *, room_mib: int) -> None:
    """Copy a folder onto a new disk that is mounted at a place, with so much room besides."""
    used = int(subprocess.run(["du", "-sm", inside], capture_output=True, check=True, text=True).stdout.split()[0])
    new_disk(run, stack, place, mib=used + room_mib)
    subprocess.run(["cp", "-a", f"{inside}/.", place], check=True)


def new_disk(run: Run, stack: ExitStack, place: Path, *, mib: int) -> None:
    """Mount an empty disk at a place that is not there yet; it goes with the stack."""
    image = run.out / f"{place.name}.img"
    stack.callback(image.unlink, missing_ok=True)
    with image.open("wb") as file:
        file.truncate(mib << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    stack.callback(_unmount, place)
    (place / "lost+found").rmdir()


def _unmount(place: Path) -> None:
    subprocess.run(["umount", "--lazy", place], check=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A disk without a free byte, until `empty`."""

    file: Path

    def again(self) -> None:
        """Take what others gave back meanwhile, as a writer that fills a disk does."""
        words = ("dd", "if=/dev/zero", f"of={self.file}", "bs=4k", "oflag=append", "conv=notrunc")
        subprocess.run(words, check=False, capture_output=True)

    def empty(self) -> None:
        """Give the room back."""
        self.file.unlink(missing_ok=True)


def fill(run: Run, point: str) -> Filled:
    """Fill one of the small disks to the last block, as root."""
    filled = Filled(file=(run.machine.root if point == SYSTEM else run.machine.disks[point]) / _FILLER)
    subprocess.run(["dd", "if=/dev/zero", f"of={filled.file}", "bs=1M"], check=False, capture_output=True)
    filled.again()
    return filled
