"""A clock of the box's own, for every process of Sealift and nginx: a small library (`movedclock.c`) by drop-ins.

A container has its machine's clock. Here what the processes are told of it is moved by an offset in a file of the box,
while they run and while the box is off; the monotonic seconds stay the kernel's. `clock_settime` writes that offset, so
that the unit which sets the clock really sets this one. Debian's libfaketime was tried first: with it Python's sleeps,
which are until a moment of the monotonic clock, end with "Invalid argument". Only this box's tree gets any of it.
"""

import os
import struct
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.box.machine import BoxError, Machine

_SOURCE = Path(__file__).with_name("movedclock.c")
_LIBRARY = "usr/lib/moved-clock.so"
_OFFSET = "etc/moved-clock/offset"
_NANOSECONDS = struct.Struct("=q")
_ENVIRONMENT = {"LD_PRELOAD": f"/{_LIBRARY}", "MOVED_CLOCK": f"/{_OFFSET}"}
_LOADS = [f'Environment="{name}={value}"' for name, value in _ENVIRONMENT.items()]
_DROP_INS = {
    # Every unit of ours, by the beginning of its name; of drop-ins with one name only the most particular would count.
    "sealift-.service.d/90-moved-clock.conf": _LOADS,
    "nginx.service.d/90-moved-clock.conf": _LOADS,
    # A container has no right to set clocks, so it cannot give it to a user either.
    "sealift-clock-set@.service.d/91-may-move-it.conf": [
        f"ReadWritePaths={Path('/', _OFFSET).parent}",
        "AmbientCapabilities=",
    ],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedClock:
    """The clock of one box."""

    machine: Machine

    def prepare(self) -> None:
        """Lay down the library, the offset (none yet) and the drop-ins; the box does not run yet."""
        root = self.machine.root
        (root / _OFFSET).parent.mkdir(parents=True, exist_ok=True)
        flags = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror")
        subprocess.run(["cc", *flags, "-o", str(root / _LIBRARY), str(_SOURCE)], check=True)
        self._write(0.0)
        (root / _OFFSET).chmod(0o666)  # the user that sets the clock writes it
        for place, lines in _DROP_INS.items():
            path = root / "etc/systemd/system" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(["[Service]", *lines, ""]))

    def words(self, *words: str) -> tuple[str, ...]:
        """Return a command that sees the box's clock."""
        return ("env", *(f"{name}={value}" for name, value in _ENVIRONMENT.items()), *words)

    def offset(self) -> float:
        """Return by how many seconds the box's clock is ahead of this machine's."""
        (found,) = _NANOSECONDS.unpack((self.machine.root / _OFFSET).read_bytes())
        return float(found) / 1e9

    def by(self, seconds: float) -> None:
        """Move the clock."""
        self._write(self.offset() + seconds)

    def to(self, moment: datetime) -> None:
        """Let the clock show a moment."""
        self._write((moment - datetime.now(tz=UTC)).total_seconds())

    def require_loaded(self) -> None:
        """Require that a program of the box is told the moved time.

        Raises:
            BoxError: It is told another.
        """
        told = self.machine.run(*self.words("python3", "-I", "-c", "import time; print(time.time())"), shown=False)
        if abs(float(told.stdout) - datetime.now(tz=UTC).timestamp() - self.offset()) > 5:
            message = f"the box's clock shows {told.stdout}, its offset is {self.offset()}: {told.stderr}"
            raise BoxError(message)

    def _write(self, offset: float) -> None:
        # In place and at once: every process has the file mapped.
        file = os.open(self.machine.root / _OFFSET, os.O_WRONLY | os.O_CREAT, 0o644)
        os.pwrite(file, _NANOSECONDS.pack(round(offset * 1e9)), 0)
        os.close(file)
