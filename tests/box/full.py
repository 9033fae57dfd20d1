"""Each file system of the box runs full: nothing is answered unrecorded, nothing that runs is harmed."""

import time

from tests.box.disks import LEDGER, RELEASES, STATE, fill
from tests.box.kills import require_recorded
from tests.box.load import load
from tests.box.machine import BoxError
from tests.box.operators import as_person
from tests.box.prepared import Served
from tests.box.run import Run

_REFUSAL_SECONDS = 120.0


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


def _in_use(run: Run) -> str:
    """Return the release in use, and the packages of Debian that are installed."""
    words = ("sh", "-ec", "readlink /opt/sealift/current; dpkg-query -W | sha256sum")
    return run.machine.run(*words, shown=False).stdout
