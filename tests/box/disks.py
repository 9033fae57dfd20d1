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
_ROOM_MIB = {STATE: 600, LEDGER: 48, RELEASES: 1500}
_FILLER = "filler"


@contextmanager
def small_disks(run: Run, *points: str) -> Iterator[None]:
    """Move these folders of a box that does not run yet onto disks of their own, and away with them afterwards."""
    with ExitStack() as stack:
        disks: dict[str, Path] = {}
        for point in points:
            inside = run.machine.root / point.lstrip("/")
            used = int(
                subprocess.run(["du", "-sm", inside], capture_output=True, check=True, text=True).stdout.split()[0]
            )
            name = point.strip("/").replace("/", "-")
            image, place = run.out / f"{name}.img", run.out / f"disk-{name}"
            stack.callback(image.unlink, missing_ok=True)
            with image.open("wb") as file:
                file.truncate((used + _ROOM_MIB[point]) << 20)
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
            place.mkdir()
            subprocess.run(["mount", "-o", "loop", image, place], check=True)
            stack.callback(_unmount, place)
            (place / "lost+found").rmdir()
            subprocess.run(["cp", "-a", f"{inside}/.", place], check=True)
            disks[point] = place
        for point in disks:
            shutil.rmtree(run.machine.root / point.lstrip("/"), ignore_errors=True)
            (run.machine.root / point.lstrip("/")).mkdir(parents=True)
        run.machine.disks = disks
        yield


def _unmount(place: Path) -> None:
    subprocess.run(["umount", "--lazy", place], check=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A disk without a free byte, until `empty`."""

    file: Path

    def empty(self) -> None:
        """Give the room back."""
        self.file.unlink(missing_ok=True)


def fill(run: Run, point: str) -> Filled:
    """Fill one of the small disks to the last block."""
    file = run.machine.disks[point] / _FILLER
    subprocess.run(["dd", "if=/dev/zero", f"of={file}", "bs=1M"], check=False, capture_output=True)
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={file}", "bs=4k", "oflag=append", "conv=notrunc"], check=False, capture_output=True
    )
    return Filled(file=file)
