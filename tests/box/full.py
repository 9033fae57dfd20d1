"""Each file system of the box runs full: nothing is answered unrecorded, nothing that runs is harmed."""

import time

from tests.box import looks
from tests.box.confined import worker_of
from tests.box.disks import LEDGER, RELEASES, STATE, SYSTEM, fill
from tests.box.kills import require_recorded
from tests.box.load import Load, load
from tests.box.machine import BoxError
from tests.box.operators import as_person
from tests.box.prepared import Served
from tests.box.run import Run

_REFUSAL_SECONDS = 120.0
_WELL_SECONDS = 30.0
_PAGE = "sealift-admin.service"
# As long as systemd tries a start anew, a second apart.
_TRIES_SECONDS = 10.0


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


def system_full(run: Run, served: Served) -> None:
    """Fill what is left of the machine, which holds neither records nor state: answers go on, and it is told.

    An engine's process that ends meanwhile is replaced. A whole unit may find no room for its sandbox until there is
    some again; then doctor starts it.
    """
    machine, engine = run.machine, f"sealift-engine-production@{served.digest[:12]}.service"
    with run.stage.chapter("The machine's own file system is full"), load(run, served.key) as asked:
        filled, began = fill(run, SYSTEM), time.time()
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
        machine.run("systemctl", "kill", "--signal=KILL", _PAGE)
        time.sleep(_TRIES_SECONDS)
        filled.empty()
        room = time.time()
        machine.run("sealift", "doctor", "--mend", shown=False, may_fail=True)
        asked.answered_since(room)
        looks.wait(lambda: _is_well(run), lambda: str(machine.told("sealift", "status")), seconds=_WELL_SECONDS)
        run.facts["well_after_room_seconds"] = round(time.time() - room, 1)
        run.require("with room doctor starts what could not, and all is well", looks.is_active(run, _PAGE))
    require_recorded(run, asked.asked, "nothing acknowledged was lost on a full file system")


def _replaced(run: Run, asked: Load, unit: str) -> float:
    """Kill the process that does a unit's work; return after how many seconds another one had somebody answered."""
    main = int(looks.main_process(run, unit))
    before, began = worker_of(run.machine, main), time.time()
    run.machine.shell(f"kill -9 {before}")
    asked.answered_since(time.time() + 1)
    after = worker_of(run.machine, main)
    run.require("it is another process of the same unit", after != before, (before, after))
    return time.time() - began


def _is_well(run: Run) -> bool:
    told = run.machine.told("sealift", "status")
    return told["units"]["good"] is True and not told["disks"]["full"]


def _in_use(run: Run) -> str:
    """Return the release in use, and the packages of Debian that are installed."""
    words = ("sh", "-ec", "readlink /opt/sealift/current; dpkg-query -W | sha256sum")
    return run.machine.run(*words, shown=False).stdout
