"""The whole machine ends in the middle of an install, the first one and an upgrade: it boots and finishes."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.box.box import first_trust
from tests.box.machine import BoxError, Machine, base_image
from tests.box.operators import as_person
from tests.box.prepared import Served
from tests.box.run import Run
from tests.box.upgrade import require_back

_SECONDS = 600.0
_MARK = "etc/sealift/release.conf"


def during_upgrade(run: Run) -> None:
    """Cut the power when the units of release 2 are half in place: the boot takes it back by the code of release 1."""
    machine = run.machine
    with run.stage.chapter("Power is lost in the middle of the upgrade"):
        _cut_when(
            machine,
            as_person("omar", "sealift", "install", "2"),
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


def during_first_install(run: Run, served: Served) -> None:
    """Cut the power in the middle of a bare box's first install: the same command, typed again, finishes it."""
    name = f"{run.machine.name}f"
    fresh = Machine(root=run.out / "fresh", name=name, media=run.machine.media, log=run.out / "fresh.log")
    other = Run(out=run.out, stage=run.stage, machine=fresh, facility=run.facility, facts=run.facts)
    try:
        fresh.create(base_image())
        fresh.boot()
        first_trust(other, served.sealed(run))
        with run.stage.chapter("Power is lost in the middle of the first install"):
            _cut_when(fresh, ("sealift", "install"), (fresh.root / _MARK).exists)
            fresh.boot()
            facts = fresh.result("sealift", "install")
            run.require("a first install that was cut off is finished by the same command", facts["changed"], facts)
            again = fresh.result("sealift", "install")
            run.require("and then nothing is left to do", again["changed"] is False, again)
            told = json.loads(fresh.run("sealift", "status", "--json", shown=False, may_fail=True).stdout)
            run.require("all units run after it", told["units"]["good"] is True, told["units"])
    finally:
        fresh.stop()


def _cut_when(machine: Machine, words: tuple[str, ...], is_time: Callable[[], bool]) -> None:
    """Start a command in the box and cut the power at a moment of its course.

    Raises:
        BoxError: The moment never came.
    """
    running = threading.Thread(target=machine.run, args=words, kwargs={"may_fail": True}, daemon=True)
    running.start()
    try:
        _wait(lambda: is_time() or not running.is_alive(), "the install did not get far enough")
        if not is_time():
            message = "the install ended before the power could be cut"
            raise BoxError(message)
    finally:
        machine.cut_power()
    running.join()


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
