"""The whole machine ends in the middle of an install: it boots and finishes, or takes it back."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.box.machine import BoxError, Machine
from tests.box.operators import as_person
from tests.box.run import Run
from tests.box.upgrade import require_back

_SECONDS = 600.0
_MARK = "etc/sealift/release.conf"


def during_upgrade(run: Run) -> None:
    """Cut the power when the units of release 2 are half in place: the boot takes it back by the code of release 1."""
    machine = run.machine
    with run.stage.chapter("Power is lost in the middle of the upgrade"):
        cut_when(
            machine,
            lambda: machine.run(*as_person("omar", "sealift", "install", "2")),
            lambda: "serial=2" in _text(machine.root / _MARK),
        )
        trial = json.loads(_text(_releases(machine) / "trial.json"))
        run.require("the trial was noted before", (trial["serial"], trial["previous"]) == (2, 1), trial)
        run.facts["boot_after_power_cut_seconds"] = round(machine.boot(), 1)
        run.facility.plug_in(machine.leader)
        _wait(lambda: not (_releases(machine) / "trial.json").exists(), "the boot did not take the install back")
        require_back(run)
        told = machine.result("sealift", "audit", "list", "--kind", "install.returned")
        run.require("the boot recorded why", "the install was cut off" in json.dumps(told), told)
        machine.run("sealift", "audit", "verify", shown=False)


def cut_when(machine: Machine, work: Callable[[], object], is_time: Callable[[], bool]) -> None:
    """Begin some work in the box and cut the power at a moment of its course.

    Raises:
        BoxError: The moment never came.
    """
    # What the work says when the power goes is of no interest.
    running = threading.Thread(target=lambda: _survived(work), daemon=True)
    running.start()
    try:
        _wait(lambda: is_time() or not running.is_alive(), "the install did not get far enough")
        if not is_time():
            message = "the install ended before the power could be cut"
            raise BoxError(message)
    finally:
        machine.cut_power()
    running.join()


def _survived(work: Callable[[], object]) -> None:
    with suppress(BoxError):
        work()


def _wait(holds_now: Callable[[], bool], otherwise: str) -> None:
    until = time.monotonic() + _SECONDS
    while not holds_now():
        if time.monotonic() > until:
            raise BoxError(otherwise)
        time.sleep(0.02)


def _releases(machine: Machine) -> Path:
    return machine.disks.get("/opt/sealift", machine.root / "opt/sealift") / "releases"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
