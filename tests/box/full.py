"""Each file system of the box runs full: nothing is answered unrecorded, nothing that runs is harmed."""

import time

from tests.box import looks
from tests.box.confined import worker_of
from tests.box.disks import LEDGER, RELEASES, STATE, SYSTEM, Filled, fill
from tests.box.kills import require_recorded
from tests.box.load import Load, load
from tests.box.machine import BoxError
from tests.box.operators import as_person
from tests.box.prepared import Served
from tests.box.run import Run

_REFUSAL_SECONDS = 120.0
_WELL_SECONDS = 30.0
_PAGE = "sealift-admin.service"
_JOBS = "sealift-jobs.service"
_WEB = "nginx.service"
# systemd tries most of them five times, the job service twenty times, a second apart.
_GIVEN_UP_SECONDS = 90.0
# A look of the job service every ten seconds, and a model that is loaded; three minutes more for that service itself.
_BACK_SECONDS = 60.0
_JOBS_BACK_SECONDS = 240.0


def ledger_full(run: Run, served: Served) -> None:
    """Fill the ledger's disk under load: without a record there is no answer; with room again it answers by itself."""
    with run.stage.chapter("The ledger's disk is full"), load(run, served.key) as asked:
        filled = fill(run, LEDGER)
        until = time.time() + _REFUSAL_SECONDS
        while not (refused := [one for one in asked.read() if one.status in {500, 503}]):
            if time.time() > until:
                message = "nothing was refused although no record fitted any more"
                raise BoxError(message)
            time.sleep(0.2)
        print(f"   without a record there is no answer: status {refused[0].status}")
        found, told = looks.findings(run).get("room for ledger", {}), looks.figures(run)
        run.require("doctor names the ledger's own disk that is full", found.get("is_good") is False, found)
        size, free = (told.get(f'sealift_disk_{name}_bytes{{place="ledger"}}', 0) for name in ("size", "available"))
        run.require("monitoring is told of it, where only the ledger may look", size > 10 * free, (size, free))
        filled.empty()
        asked.answered_since(time.time())
    require_recorded(run, asked.asked, "nothing was answered without a record on a full disk")


def state_full(run: Run, medium: str, served: Served) -> None:
    """Fill the disk of store and state: receiving stops with its number, what serves goes on, and then it fits."""
    machine = run.machine
    with run.stage.chapter("The disk of store and state is full"):
        filled = fill(run, STATE)
        done = machine.run("sealift", "receive", medium, may_fail=True)
        run.require("receiving onto a full disk ends with 30", done.returncode == 30, done.stdout + done.stderr)
        with load(run, served.key, callers=1) as asked:
            for _ in range(3):
                asked.answered_since(time.time())
        filled.empty()
        machine.run("sealift", "receive", medium)


def releases_full(run: Run) -> None:
    """Fill the disk of releases: an approved install stops with its number, and nothing was changed."""
    machine = run.machine
    with run.stage.chapter("The disk of releases is full"):
        before = _in_use(run)
        filled = fill(run, RELEASES)
        done = machine.run(*as_person("omar", "sealift", "install", "2"), may_fail=True)
        run.require("installing onto a full disk ends with 30", done.returncode == 30, done.stdout + done.stderr)
        filled.empty()
        run.require("an install that found no room left the release in use", _in_use(run) == before, _in_use(run))


def nothing_starts(run: Run, served: Served) -> None:
    """Fill what is left of the machine, and kill three services: systemd gives them up, and with room they are back.

    Nobody does anything for it but make room: the job service starts them.
    """
    engine = f"sealift-engine-production@{served.digest[:12]}.service"
    with run.stage.chapter("With no block left no unit starts"), load(run, served.key) as asked:
        filled = fill(run, SYSTEM)
        _kill(run, _PAGE, engine, _WEB)
        _given_up(run, filled, _PAGE, engine, _WEB)
        found = [one["text"] for one in run.machine.told("sealift", "doctor")["findings"] if one["name"] == "unit"]
        said = {text.partition(": ")[0] for text in found if "could not make its sandbox" in text}
        run.require("doctor says that systemd could not make their sandbox", {_PAGE, engine} <= said, found)
        filled.empty()
        seconds = _back(run, asked, _PAGE, engine, _WEB)
        run.facts["started_again_seconds"] = seconds
        back = max(seconds.values()) < _BACK_SECONDS
        run.require("with room what systemd gave up is back by itself within a minute", back, seconds)


def system_full(run: Run, served: Served) -> None:
    """Fill what is left of the machine, which holds neither records nor state: answers go on, and it is told.

    An engine's process that ends meanwhile is replaced. The job service, which starts what systemd gave up, is given up
    first; a timer starts it, and it the page.
    """
    machine, engine = run.machine, f"sealift-engine-production@{served.digest[:12]}.service"
    with run.stage.chapter("The machine's own file system is full"), load(run, served.key) as asked:
        filled, began = fill(run, SYSTEM), time.time()
        _kill(run, _JOBS)
        for _ in range(5):
            asked.answered_since(time.time())
        refused = [one for one in asked.read() if one.began > began and one.status != 200]
        run.require("answers go on while the machine's own file system is full", not refused, refused)
        found = looks.findings(run)["room for system"]
        run.require("doctor names the file system that is full", found["is_good"] is False, found)
        told = machine.told("sealift", "status")["disks"]
        run.require("and so does the status", told["full"] == ["system"], told)
        seconds = _replaced(run, asked, engine)
        run.require("an engine's process that is killed then is replaced", seconds < _WELL_SECONDS, seconds)
        _kill(run, _PAGE)
        _given_up(run, filled, _PAGE, _JOBS)
        filled.empty()
        after = _back(run, asked, _JOBS, _PAGE)
        run.facts["started_again_with_jobs_seconds"] = after
        back = max(after.values()) < _JOBS_BACK_SECONDS
        run.require("the job service too is back by itself within four minutes", back, after)
        run.require("then no disk is full", not machine.told("sealift", "status")["disks"]["full"])
        # A task whose turn came meanwhile had no sandbox either, and failed until its next turn.
        machine.run("systemctl", "start", "sealift-network.service")
    require_recorded(run, asked.asked, "nothing acknowledged was lost on a full file system")


def _kill(run: Run, *units: str) -> None:
    run.machine.run("systemctl", "kill", "--signal=KILL", *units)


def _given_up(run: Run, filled: Filled, *units: str) -> None:
    """Wait until systemd gave them up; what their ends give back of the disk is taken at once."""

    def are_down() -> bool:
        filled.again()
        return all(looks.state(run, unit) == "failed" for unit in units)

    looks.wait(are_down, lambda: str([looks.state(run, unit) for unit in units]), seconds=_GIVEN_UP_SECONDS, pause=0.1)
    run.require("without a block systemd gives up what ended", are_down())


def _back(run: Run, asked: Load, *units: str) -> dict[str, float]:
    """Wait until these units run, and somebody is answered; return after how many seconds, of each."""
    began, seconds = time.time(), dict[str, float]()

    def are_back() -> bool:
        for unit in units:
            if unit not in seconds and looks.is_active(run, unit):
                seconds[unit] = round(time.time() - began, 1)
        return len(seconds) == len(units)

    looks.wait(are_back, lambda: str([looks.state(run, unit) for unit in units]), seconds=_JOBS_BACK_SECONDS)
    answered = asked.answered_since(began)
    return seconds | {"an answer": round(answered.ended - began, 1)}


def _replaced(run: Run, asked: Load, unit: str) -> float:
    """Kill the process that does a unit's work; return after how many seconds another one had somebody answered."""
    main = int(looks.main_process(run, unit))
    before, began = worker_of(run.machine, main), time.time()
    run.machine.shell(f"kill -9 {before}")
    asked.answered_since(time.time() + 1)
    after = worker_of(run.machine, main)
    run.require("it is another process of the same unit", after != before, (before, after))
    return time.time() - began


def _in_use(run: Run) -> str:
    """Return the release in use, and the packages of Debian that are installed."""
    words = ("sh", "-ec", "readlink /opt/sealift/current; dpkg-query -W | sha256sum")
    return run.machine.run(*words, shown=False).stdout
