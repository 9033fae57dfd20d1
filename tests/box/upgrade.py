"""The next release on a box that serves: received by the code of the one before, refused when it does not answer."""

import json
import shutil
from pathlib import Path

from tests.box.machine import Machine
from tests.box.operators import as_person, signing
from tests.box.run import Run, wait_for_engine
from tests.box.sender import RECIPE, make_release

_BROKEN = "etc/systemd/system/sealift-gateway.service.d/broken.conf"


def next_recipe(out: Path) -> Path:
    """Write the recipe of the same release under the next name and serial."""
    recipe = out / "next/box.toml"
    shutil.copytree(RECIPE.parent / "evals", recipe.parent / "evals")
    text = RECIPE.read_text().replace('name = "box-2026.11"', 'name = "box-2026.12"')
    recipe.write_text(text.replace("serial = 1 ", "serial = 2 "))
    return recipe


def upgrade(run: Run) -> None:
    """Receive and install the next release; first with a service that does not answer, which must go back by itself."""
    machine = run.machine
    with run.stage.chapter("The next release: build, rehearse, sign, write"):
        make_release(run.stage, run.out / "next", recipe=next_recipe(run.out), ceremony=run.out / "ceremony")
    with run.stage.chapter("Receive it by the code of the release before"):
        machine.run("sealift", "receive", "/media/sealift-2")
    with run.stage.chapter("A release that does not answer goes back by itself"):
        broken = machine.root / _BROKEN
        broken.parent.mkdir()
        broken.write_text("[Service]\nExecStart=\nExecStart=/bin/false\n")
        plan = machine.result(*as_person("iris", "sealift", "install", "2", "--plan", "--as", "iris"))
        for person in ("iris", "omar"):
            machine.run(*as_person(person, "sealift", "host", "approve", plan["plan"], *signing(person)))
        done = machine.run("sealift", "install", "2", may_fail=True)
        run.require("an install that does not answer ends with 51", done.returncode == 51, done.stdout + done.stderr)
        run.require("the release before is in use again", _serial(machine) == 1, _serial(machine))
        shutil.rmtree(broken.parent)
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "reset-failed")
        machine.run("systemctl", "restart", "sealift.target")
        wait_for_engine(run)
    with run.stage.chapter("Install it, by the Ansible of the release before"):
        facts = machine.result("sealift", "install", "2")
        run.require("the next release is installed", (facts["serial"], facts["previous"]) == (2, 1), facts)
        run.require("and again changes nothing", machine.result("sealift", "install")["changed"] is False)
        wait_for_engine(run)


def _serial(machine: Machine) -> int:
    told = json.loads(machine.run("sealift", "status", "--json", shown=False, may_fail=True).stdout)
    return int(told["release"]["serial"])
