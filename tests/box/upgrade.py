"""The next release on a box that serves: received by the code of the one before, refused when it does not answer."""

import json
import shutil
from pathlib import Path
from typing import Any

from examples.demo.people import password_of
from tests.box.machine import Machine
from tests.box.operators import as_person, signing
from tests.box.run import Run, wait_for_engine
from tests.box.sender import RECIPE, make_release

_BROKEN = "etc/systemd/system/sealift-gateway.service.d/broken.conf"
# The fault is the new release's alone: with the one before in use the gateway starts.
_BREAKS = """[Service]
ExecStartPre=/usr/bin/python3 -I -c 'import os, sys; sys.exit("/2" in os.readlink("/opt/sealift/current"))'
"""


def next_recipe(out: Path, serial: int) -> Path:
    """Write the recipe of the same release under a later name and serial."""
    recipe = out / "box.toml"
    shutil.copytree(RECIPE.parent / "evals", recipe.parent / "evals", dirs_exist_ok=True)
    text = RECIPE.read_text().replace('name = "box-2026.11"', f'name = "box-2026.11-{serial}"')
    recipe.write_text(text.replace("serial = 1 ", f"serial = {serial} "))
    return recipe


def next_release(run: Run) -> None:
    """Make release 2 and receive it on the box, by the code of release 1."""
    with run.stage.chapter("The next release: build, rehearse, sign, write"):
        out = run.out / "next"
        make_release(run.stage, out, recipe=next_recipe(out, 2), ceremony=run.out / "ceremony")
    with run.stage.chapter("Receive it by the code of the release before"):
        run.machine.run("sealift", "receive", "/media/sealift-2")


def approve_next(run: Run) -> str:
    """Let two people approve what release 2 would change on the host; return the plan."""
    machine = run.machine
    plan = machine.result(*as_person("iris", "sealift", "install", "2", "--plan", "--as", "iris"))
    run.require("the next release changes the host", plan["changes_host"] is True, plan)
    for person in ("iris", "omar"):
        machine.run(*as_person(person, "sealift", "host", "approve", plan["plan"], *signing(person)))
    return str(plan["plan"])


def go_back(run: Run) -> None:
    """Install a release whose gateway does not start: the box must be what it was, by itself, and say so."""
    machine = run.machine
    with run.stage.chapter("A release that does not answer goes back by itself"):
        broken = machine.root / _BROKEN
        broken.parent.mkdir(exist_ok=True)
        broken.write_text(_BREAKS)
        machine.run("systemctl", "daemon-reload")
        done = machine.run(*as_person("omar", "sealift", "install", "2"), may_fail=True)
        run.require("an install that does not answer ends with 51", done.returncode == 51, done.stdout + done.stderr)
        release = _release(machine)
        run.require("the release before is in use again", release["serial"] == 1, release)
        run.require("the status says that the box went back", release["returned"]["serial"] == 2, release)
        wait_for_engine(run)
        told = machine.result("sealift", "audit", "list", "--kind", "install.returned")
        run.require("the return is recorded", len(told["leaves"]) == 1, told)
        banners = run.workstation("banners", person="iris", password=password_of("iris"))["banners"]
        run.require(
            "the page says that the box went back", any("went back by itself" in one for one in banners), banners
        )
        shutil.rmtree(broken.parent)
        machine.run("systemctl", "daemon-reload")


def go_forward(run: Run) -> None:
    """Install it without the fault: the same approvals hold, since the host is as it was."""
    machine = run.machine
    with run.stage.chapter("Install it, by the Ansible of the release before"):
        facts = machine.result(*as_person("omar", "sealift", "install", "2"))
        run.require("the next release is installed", (facts["serial"], facts["previous"]) == (2, 1), facts)
        run.require("nothing is left of the return", "returned" not in _release(machine))
        run.require("and again changes nothing", machine.result("sealift", "install")["changed"] is False)
        wait_for_engine(run)


def upgrade(run: Run) -> None:
    """Everything, in order."""
    next_release(run)
    with run.stage.chapter("Two people approve what it changes on the host"):
        approve_next(run)
    go_back(run)
    go_forward(run)


def _release(machine: Machine) -> dict[str, Any]:
    told = json.loads(machine.run("sealift", "status", "--json", shown=False, may_fail=True).stdout)
    found: dict[str, Any] = told["release"]
    return found
