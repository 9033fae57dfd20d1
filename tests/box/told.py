"""What a script of booted boxes found out, for the tests that ask about it one fact at a time.

A script that is out of time is told to end, so that its summary says how far it came and what it waited for.
"""

import json
import signal
import subprocess
import sys
from functools import cache
from typing import Any, Final

from tests.box.run import ROOT

# Under the tests' own limit, which ends a run without a word of where it was.
SECONDS: Final = 1050.0
_ENDING_SECONDS = 60


@cache
def facts_of(place: str, *script: str, seconds: float = SECONDS) -> dict[str, Any]:
    """Run a script once for all tests of a process; return what it wrote to build/PLACE/summary.json.

    Args:
        place: Folder of build/ where the script writes.
        script: With its arguments.
        seconds: After which it is told to end.
    """
    summary = ROOT / "build" / place / "summary.json"
    summary.unlink(missing_ok=True)
    running = subprocess.Popen([sys.executable, *script], cwd=ROOT)
    try:
        running.wait(seconds)
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGINT)
        try:
            running.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
    found: dict[str, Any] = json.loads(summary.read_text()) if summary.exists() else {"ok": False}
    return found


def untrue(facts: dict[str, Any]) -> str:
    """Return what to show of a run that did not hold: the facts that failed, and how far it came.

    As text, which pytest shows whole: of other values it leaves out the middle, where the reason is.
    """
    failed = [name for name, value in facts.items() if value is False and name != "ok"]
    return "\n".join([*failed, *(f"{name}: {facts.get(name)}" for name in ("chapter", "seconds", "ended"))])
