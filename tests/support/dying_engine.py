"""An engine as a process behind a socket that outlives it, as a supervisor holds it: to be killed and started again."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.engine import FakeEngine, Script, serve_on
from tests.support.ledger import ROOT

_PROGRAM = "from tests.support import dying_engine; dying_engine.main()"


@dataclass(slots=True)
class DyingEngine:
    """While nobody runs it, its socket goes on taking calls in."""

    listener: socket.socket
    text: str
    _process: "subprocess.Popen[bytes] | None" = field(default=None)

    def start(self) -> None:
        """Run it; returns when it answers."""
        fd = self.listener.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(fd), self.text],
            pass_fds=[fd],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def stop(self) -> None:
        """Let it stand still, as a process that swaps does; returns when it does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # on a busy machine its threads run on for a while

    def kill(self) -> None:
        """End it without warning."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=30)


@contextmanager
def dying_engine(path: Path, *, text: str = "fine, thank you") -> Iterator[DyingEngine]:
    """Run an engine that says always the same until the block ends."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(128)
        engine = DyingEngine(listener=listener, text=text)
        engine.start()
        try:
            yield engine
        finally:
            engine.kill()
            path.unlink(missing_ok=True)


def main() -> None:
    """Serve on an inherited socket until killed."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    engine = FakeEngine(path=Path(listener.getsockname()), script=Script(text=sys.argv[2]))
    serve_on(listener, engine, ready=lambda: print("ready", flush=True))
