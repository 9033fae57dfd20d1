"""The whole machine ends in the middle of an install: it boots and finishes, or takes it back."""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.box import looks
from tests.box.machine import BoxError, Machine
from tests.box.operators import as_person
from tests.box.run import Run
from tests.box.upgrade import require_back

_SECONDS = 600.0
_PAUSE = 0.02  # a moment of an install is soon over
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
        looks.wait(
            lambda: not (_releases(machine) / "trial.json").exists(),
            lambda: "the boot did not take the install back",
            seconds=_SECONDS,
            pause=_PAUSE,
        )
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
        looks.wait(
            lambda: is_time() or not running.is_alive(),
            lambda: "the install did not get far enough",
            seconds=_SECONDS,
            pause=_PAUSE,
        )
        if not is_time():
            message = "the install ended before the power could be cut"
            raise BoxError(message)
    finally:
        machine.cut_power()
    running.join()


def _survived(work: Callable[[], object]) -> None:
    with suppress(BoxError):
        work()


def _releases(machine: Machine) -> Path:
    return machine.disks.get("/opt/sealift", machine.root / "opt/sealift") / "releases"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
