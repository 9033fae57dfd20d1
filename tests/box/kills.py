"""SIGKILL of each service under load, and a cable that is cut: nothing acknowledged is lost, all is back by itself."""

import time

from tests.box import looks
from tests.box.load import Asked, Load, load
from tests.box.machine import BoxError
from tests.box.prepared import Served
from tests.box.run import Run

BACK_SECONDS = 10.0
WATCHERS = (
    *(f"sealift-{name}.service" for name in ("metrics", "alerts", "siem")),
    *(f"prometheus{name}.service" for name in ("", "-alertmanager", "-node-exporter")),
)
_TRIES = 1200
# More than `sealift audit list` shows at once; what it prints is that of every record of an end.
_RECORDED = """
import sqlite3
ledger = sqlite3.connect("file:/var/lib/sealift/ledger/ledger.db?mode=ro", uri=True)
print(*(term for (term,) in ledger.execute("SELECT term FROM leaf WHERE kind = 'request.outcome'")), sep="\\n")
"""


def kill_each(run: Run, served: Served) -> None:
    """Kill every process of each service while questions come in; measure until it runs and answers again."""
    engine = f"sealift-engine-production@{served.digest[:12]}.service"
    units = [f"sealift-{name}.service" for name in ("ledger", "promoter", "jobs", "gateway", "admin")]
    seconds: dict[str, float] = {}
    with run.stage.chapter("SIGKILL of each service under load"), load(run, served.key) as asked:
        first = (*units, engine, "nginx.service")
        for unit in (*first, *(one for one in _running(run) if one not in first)):
            seconds[unit] = killed(run, unit, asked)
    run.facts["seconds_after_kill"] = seconds
    run.require("every killed service is back within 10 seconds", max(seconds.values()) < BACK_SECONDS, seconds)
    require_recorded(run, asked.asked, "nothing acknowledged was lost by the kills")


def kill_watchers(run: Run, served: Served) -> None:
    """Kill every process of what watches the box, and of what tells others, under load; measure as `kill_each`."""
    with run.stage.chapter("SIGKILL of what watches the box, under load"), load(run, served.key) as asked:
        seconds = {unit: killed(run, unit, asked) for unit in WATCHERS}
    run.facts["seconds_after_kill_of_watchers"] = seconds
    run.require("every killed watcher is back within 10 seconds", max(seconds.values()) < BACK_SECONDS, seconds)
    require_recorded(run, asked.asked, "nothing acknowledged was lost by the kills of watchers")


def killed(run: Run, unit: str, asked: Load) -> float:
    """Kill every process of a unit; return after how many seconds it runs and a question asked since is answered."""
    before, began = _main(run, unit), time.time()
    run.machine.run("systemctl", "kill", "--signal=KILL", unit, shown=False)
    died = time.time()  # what was asked before it may have been answered by what was killed
    _wait_for_another(run, unit, before)
    answered = asked.answered_since(died)
    seconds = round(max(time.time(), answered.ended) - began, 1)
    print(f"   {unit:<46} back and answering after {seconds:.1f} s")
    return seconds


def cut_cable(run: Run, served: Served) -> None:
    """Pull the cable while questions come in, and plug it in again."""
    with run.stage.chapter("The cable is cut and plugged in again"), load(run, served.key) as asked:
        run.facility.run("ip", "link", "set", "cable0", "down")
        cut = time.time()
        time.sleep(3)  # long enough that questions are under way and none comes back
        # By when it was asked: what came before the cut is read later by a caller that waits for a processor.
        got = [one for one in asked.read() if one.began > cut and one.status == 200]
        run.require("nobody got an answer while the cable was cut", not got, got)
        run.facility.run("ip", "link", "set", "cable0", "up")
        asked.answered_since(time.time())
    require_recorded(run, asked.asked, "nothing acknowledged was lost by the cut")


def require_recorded(run: Run, asked: list[Asked], name: str) -> None:
    """Require that every question with a good answer has its outcome in the ledger, and that the ledger verifies."""
    good = {one.request for one in asked if one.status == 200}
    recorded = run.machine.run("python3", "-I", "-c", _RECORDED, shown=False).stdout.split()
    lost = good.difference(recorded)
    run.require(name, bool(good) and not lost, f"{len(lost)} of {len(good)}: {sorted(lost)[:3]}")
    verified = run.machine.run("sealift", "audit", "verify", shown=False, may_fail=True)
    run.require("the ledger verifies afterwards", verified.returncode == 0, verified.stdout + verified.stderr)
    print(f"   {len(good)} of {len(asked)} questions were answered, each is recorded")


def _running(run: Run) -> list[str]:
    """Return every service of Sealift that runs and is to be brought back."""
    words = ("list-units", "sealift-*.service", "--state=running", "--plain", "--no-legend")
    told = run.machine.run("systemctl", *words, shown=False).stdout
    names = [line.split()[0] for line in told.splitlines() if line.strip()]
    kept = [
        (name, run.machine.run("systemctl", "show", "-P", "Restart", name, shown=False).stdout.strip())
        for name in names
    ]
    return sorted(name for name, restart in kept if restart != "no")


def _main(run: Run, unit: str) -> str:
    return run.machine.run("systemctl", "show", "-P", "MainPID", unit, shown=False).stdout.strip()


def _wait_for_another(run: Run, unit: str, before: str) -> None:
    for _ in range(_TRIES):
        state = looks.state(run, unit)
        if state == "active" and _main(run, unit) != before:
            return
        time.sleep(0.05)
    message = f"{unit} did not come back: {state}"
    raise BoxError(message)
