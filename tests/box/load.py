"""Questions from the facility without a pause, while something is broken on the box; and what became of each."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.box.machine import BoxError
from tests.box.network import BOX_ADDRESS
from tests.box.run import HOSTNAME, Run

_WAIT_SECONDS = 120.0
_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question: when it was sent and answered (seconds of this machine's clock), and the answer's status and id."""

    began: float
    ended: float
    status: int
    request: str


@dataclass(slots=True, kw_only=True)
class Load:
    """Questions on their way; `told` is the file to which the workstation appends."""

    told: Path
    asked: list[Asked] = field(default_factory=list)

    def read(self) -> list[Asked]:
        """Return what became of every question so far."""
        lines = self.told.read_text().splitlines() if self.told.exists() else []
        self.asked = [Asked(**json.loads(line)) for line in lines if line.endswith("}")]
        return self.asked

    def answered_since(self, moment: float) -> Asked:
        """Wait for a good answer to a question that was asked after a moment, and return it.

        Raises:
            BoxError: There was none within two minutes.
        """
        return self._first(lambda one: one.began >= moment)

    def answered_after(self, moment: float) -> Asked:
        """Wait for a good answer that came after a moment, whenever it was asked for, and return it.

        Raises:
            BoxError: There was none within two minutes.
        """
        return self._first(lambda one: one.ended >= moment)

    def _first(self, counts: Callable[[Asked], bool]) -> Asked:
        until = time.time() + _WAIT_SECONDS
        while time.time() < until:
            for one in self.read():
                if counts(one) and one.status == 200:
                    return one
            time.sleep(_PAUSE_SECONDS)
        last = [(one.status, round(one.ended - until + _WAIT_SECONDS, 1)) for one in self.asked[-5:]]
        message = f"no good answer within {_WAIT_SECONDS:.0f} seconds; the last ones were {last}"
        raise BoxError(message)


@contextmanager
def load(run: Run, key: str, *, callers: int = 2, a_second: float = 9.0, **question: Any) -> Iterator[Load]:
    """Let the facility ask, several callers at once, until the block ends; it begins with the first good answer.

    Args:
        run: The run.
        key: The callers'.
        callers: How many ask at once.
        a_second: How many questions all of them ask at most; a key of tier standard has ten.
        question: Another `text` than the facility's, and the most `tokens` of an answer.
    """
    told, stop = run.out / "load.jsonl", run.out / "load.stop"
    told.unlink(missing_ok=True)
    stop.unlink(missing_ok=True)
    job: dict[str, Any] = {
        "do": "load",
        "address": BOX_ADDRESS,
        "hostname": HOSTNAME,
        "authority": str(run.machine.root / "etc/sealift/tls/ca.crt"),
        "key": key,
        "callers": callers,
        "a_second": a_second,
        **question,
        "told": str(told),
        "stop": str(stop),
    }
    words = ["ip", "netns", "exec", run.facility.name, sys.executable, "-m", "tests.box.facility"]
    asking = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert asking.stdin is not None
    asking.stdin.write(json.dumps(job))
    asking.stdin.close()
    found = Load(told=told)
    try:
        found.answered_since(0.0)
        yield found
    finally:
        stop.touch()
        try:
            asking.wait(_WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            asking.kill()
            asking.wait()
        found.read()
