"""A command at a terminal of its own, as a person sits at one: what it shows is awaited, and keys are typed."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

_SECONDS = 60
# Whoever started these tests may have been told to pass over Ctrl-C, and what is started inherits that.
_SEALIFT = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from appliance.cli.main import main; main()"
)
CTRL_C = b"\x03"


@dataclass(slots=True)
class Terminal:
    """A terminal with one process at it; `shown` is all that it showed."""

    end: int
    process: subprocess.Popen[bytes]
    shown: bytes = b""

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Read until a text was shown so often."""
        until = time.monotonic() + _SECONDS
        while self.shown.count(text.encode()) < times:
            assert time.monotonic() < until, self.shown
            self._read(0.1)

    def wait(self, seconds: float) -> None:
        """Read what is shown for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._read(0.1)

    def press(self, keys: bytes) -> None:
        """Type keys as they are."""
        os.write(self.end, keys)

    def paste(self, text: str) -> None:
        """Hand a text in as terminals do, which mark what was pasted where they were asked to."""
        assert b"\x1b[?2004h" in self.shown
        self.press(b"\x1b[200~" + text.encode() + b"\x1b[201~")

    def code(self) -> int:
        """Return what the process ended with, once it did."""
        until = time.monotonic() + _SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < until, self.shown
            self._read(0.1)
        return int(self.process.returncode)

    def _read(self, seconds: float) -> None:
        if select.select([self.end], [], [], seconds)[0]:
            try:
                self.shown += os.read(self.end, 65536)
            except OSError:  # nobody holds the other end any more
                time.sleep(0.01)


@contextmanager
def at_terminal(arguments: Sequence[str], *, more: Mapping[str, str]) -> Iterator[Terminal]:
    """Run `sealift` with arguments at a terminal; it is gone when the block ends."""
    end, its_end = pty.openpty()
    # The terminal becomes its own, so that Ctrl-C reaches it.
    command = ["setsid", "--ctty", sys.executable, "-c", _SEALIFT, *arguments]
    environment = {**os.environ, "TERM": "xterm", **more}
    process = subprocess.Popen(command, stdin=its_end, stdout=its_end, stderr=its_end, env=environment)
    os.close(its_end)
    try:
        yield Terminal(end, process)
    finally:
        process.kill()
        process.wait()
        os.close(end)
