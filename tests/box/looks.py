"""What chapters look at on a box: its units and their processes, the journal, the records."""

import json
import time
from collections.abc import Callable
from typing import Any

from tests.box.machine import BoxError
from tests.box.run import Run

_SECONDS = 240.0
_SCRAPE = """
import http.client, socket
line = http.client.HTTPConnection("box")
line.sock = socket.socket(socket.AF_UNIX)
line.sock.connect("/run/sealift/metrics.sock")
line.request("GET", "/metrics")
print(line.getresponse().read().decode())
"""


def records(run: Run, kind: str) -> list[dict[str, Any]]:
    """Return the ledger's records of a kind, the newest first."""
    told = json.loads(run.machine.run("sealift", "audit", "list", "--kind", kind, "--json", shown=False).stdout)
    found: list[dict[str, Any]] = told["leaves"]
    return found


def findings(run: Run) -> dict[str, Any]:
    """Return what doctor found, by name."""
    return {one["name"]: one for one in run.machine.told("sealift", "doctor")["findings"]}


def figures(run: Run) -> dict[str, float]:
    """Return what monitoring reads of the box, by name and labels; started for that where it is not switched on."""
    run.machine.run("systemctl", "start", "sealift-metrics.socket", shown=False)
    told = run.machine.run("python3", "-I", "-c", _SCRAPE, shown=False).stdout
    run.machine.run("systemctl", "stop", "sealift-metrics.socket", "sealift-metrics", "sealift-gpus", shown=False)
    lines = (line.rpartition(" ") for line in told.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def state(run: Run, unit: str) -> str:
    """Return what systemd says of a unit: active, failed and the like."""
    return run.machine.run("systemctl", "is-active", unit, shown=False, may_fail=True).stdout.strip()


def is_active(run: Run, unit: str) -> bool:
    """Tell whether a unit runs."""
    return state(run, unit) == "active"


def main_process(run: Run, unit: str) -> str:
    """Return the number of a unit's first process, 0 where it has none."""
    return run.machine.run("systemctl", "show", "-P", "MainPID", unit, shown=False).stdout.strip()


def worked(run: Run, unit: str) -> float:
    """Return the seconds of a processor that a unit's processes had so far; what decodes is a child of the first."""
    main = main_process(run, unit)
    script = f"cat /proc/{main}/stat; for one in $(cat /proc/{main}/task/{main}/children); do cat /proc/$one/stat; done"
    told = run.machine.shell(script).stdout.splitlines()
    return sum(int(line.rpartition(")")[2].split()[11]) for line in told) / 100


def journal(run: Run, unit: str) -> str:
    """Return the last lines that a unit wrote."""
    return run.machine.run("journalctl", "-u", unit, "-n", "30", "-o", "cat", shown=False).stdout


def wait(
    holds_now: Callable[[], bool], otherwise: Callable[[], str], *, seconds: float = _SECONDS, pause: float = 0.5
) -> None:
    """Wait until something holds.

    Raises:
        BoxError: It did not within so many seconds; `otherwise` says what to look at.
    """
    until = time.monotonic() + seconds
    while not holds_now():
        if time.monotonic() > until:
            raise BoxError(otherwise())
        time.sleep(pause)


def answered(
    run: Run, key: str, is_so: Callable[[dict[str, Any]], bool], *, seconds: float, **question: Any
) -> dict[str, Any]:
    """Ask until an answer is so, and return it: what was recorded or laid down holds a moment later.

    Raises:
        BoxError: None was so; the last one is told.
    """
    answers: list[dict[str, Any]] = []

    def holds() -> bool:
        answers.append(run.workstation("post", key=key, **question))
        return is_so(answers[-1])

    wait(holds, lambda: str(answers[-1]), seconds=seconds)
    return answers[-1]
