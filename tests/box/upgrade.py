"""The next release on a box that serves: received by the code of the one before, refused when it does not answer."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from examples.demo.people import password_of
from tests.box.machine import Machine
from tests.box.network import FACILITY_ADDRESS, MAIL_PORT
from tests.box.operators import accepted, as_person, both_approve
from tests.box.run import Run, wait_for_engine
from tests.box.sender import Sealed, make_release

SITE_FILE = "etc/sealift/sealift.toml"
_BROKEN = "etc/systemd/system/sealift-gateway.service.d/broken.conf"
# The fault is the new release's alone: with the one before in use the gateway starts.
_BREAKS = """[Service]
ExecStartPre=/usr/bin/python3 -I -c 'import os, sys; sys.exit("/2" in os.readlink("/opt/sealift/current"))'
"""


def next_release(run: Run, serial: int, *, recipe: Path, beside: Sequence[Path] = ()) -> Path:
    """Make a later release from a recipe of the examples, with what it names beside it; return its volume."""
    out, ceremony = run.out / f"release-{serial}", run.out / "ceremony"
    return numbered(run, serial, recipe=recipe, out=out, ceremony=ceremony, beside=beside).volume


def numbered(run: Run, serial: int, *, recipe: Path, out: Path, ceremony: Path, beside: Sequence[Path] = ()) -> Sealed:
    """Make a release from a recipe of the examples under another serial, in a folder and by a ceremony."""
    changed = out / "recipe.toml"
    shutil.copytree(recipe.parent / "evals", out / "evals")
    for each in beside:
        if each.is_dir():
            shutil.copytree(each, out / each.name)
        else:
            shutil.copy(each, out)
    text, changes = re.subn(r"(?m)^serial = 1 ", f"serial = {serial} ", recipe.read_text())
    run.require("the recipe has another serial", changes == 1)
    changed.write_text(re.sub(r'(?m)^name = "([a-z]+)-2026', rf'name = "\1-{serial}-2026', text, count=1))
    with run.stage.chapter(f"Release {serial}: build, rehearse, sign, write"):
        return make_release(run.stage, out, recipe=changed, ceremony=ceremony)


MONITORED = f"""
[monitoring]
enabled = true
networks = ["10.77.0.0/24"]
[alerts]
mail_relay = "{FACILITY_ADDRESS}"
mail_port = {MAIL_PORT}
mail_to = ["it-duty@hospital.internal"]
"""


def monitor(run: Run, *, more: str = "") -> None:
    """Switch monitoring on in the site file, and what else is to be, for the next install to follow."""
    site_file = run.machine.root / SITE_FILE
    site_file.write_text(site_file.read_text() + MONITORED + more)


def approve_next(run: Run) -> str:
    """Let two people approve what release 2 would change on the host; return the plan."""
    machine = run.machine
    plan = machine.result(*as_person("iris", "sealift", "install", "2", "--plan", "--as", "iris"))
    run.require("the next release changes the host", plan["changes_host"] is True, plan)
    both_approve(machine, plan)
    return str(plan["plan"])


def go_back(run: Run) -> None:
    """Install a release whose gateway does not start: the box must be what it was, by itself, and say so."""
    machine = run.machine
    with run.stage.chapter("A release that does not answer goes back by itself"):
        broken = machine.root / _BROKEN
        broken.parent.mkdir(exist_ok=True)
        broken.write_text(_BREAKS)
        machine.run("systemctl", "daemon-reload")
        before = {kind: len(accepted(machine, kind)) for kind in ("nginx", "nftables")}
        done = machine.run(*as_person("omar", "sealift", "install", "2"), may_fail=True)
        run.require("an install that does not answer ends with 51", done.returncode == 51, done.stdout + done.stderr)
        tried = {kind: accepted(machine, kind)[many:] for kind, many in before.items()}
        is_both_ways = all(len(set(digests)) == 2 for digests in tried.values())
        run.require("web server and packet filter were tried on the way there and back", is_both_ways, tried)
        require_back(run)
        told = machine.result("sealift", "audit", "list", "--kind", "install.returned")
        run.require("the return is recorded", "do not answer after the install" in str(told), told)
        banners = run.workstation("banners", person="iris", password=password_of("iris"))["banners"]
        run.require(
            "the page says that the box went back", any("went back by itself" in one for one in banners), banners
        )
        broken.unlink()
        machine.run("systemctl", "daemon-reload")


_BREAKS_TWO = """[Service]
ExecStartPre=/usr/bin/python3 -I -c 'import sys; sys.exit("gateways = 2" in open("/etc/sealift/sealift.toml").read())'
"""


def site_file_goes_back(run: Run) -> None:
    """Install a site file with which no gateway starts, by two people's word: the box takes back the one of before."""
    machine = run.machine
    place, good = machine.root / SITE_FILE, (machine.root / "opt/sealift/releases/settings.toml").read_text()
    with run.stage.chapter("A site file under which nothing answers goes back by itself"):
        broken = machine.root / _BROKEN
        broken.parent.mkdir(exist_ok=True)
        broken.write_text(_BREAKS_TWO)
        place.write_text(good.replace("[service]", "[service]\ngateways = 2", 1))
        plan = machine.result(*as_person("iris", "sealift", "install", "1", "--plan", "--as", "iris"))
        both_approve(machine, plan)
        done = machine.run(*as_person("omar", "sealift", "install", "1"), may_fail=True)
        run.require("a site file under which nothing answers ends with 51", done.returncode == 51, done.stderr)
        run.require("the site file of before is back", place.read_text() == good)
        tried = place.with_name("sealift.toml.tried").read_text()
        run.require("the one that was tried is kept", "gateways = 2" in tried, tried)
        returned = _release(machine)["returned"]
        run.require("the status says so", (returned["serial"], returned["back_to"]) == (1, 1), returned)
        units = machine.run("systemctl", "list-units", "--plain", "--no-legend", "sealift-gateway*", shown=False).stdout
        run.require("no gateway of the tried one is left", "sealift-gateway@2" not in units, units)
        place.with_name("sealift.toml.tried").unlink()
        broken.unlink()
        machine.run("systemctl", "daemon-reload")
        wait_for_engine(run)


def limits_take_effect(run: Run, digest: str) -> None:
    """Change a limit alone: the gateway starts anew with it, the engine serves on, and nobody has to approve."""
    machine, engine = run.machine, f"sealift-engine-production@{digest[:12]}.service"
    place = machine.root / SITE_FILE
    good = place.read_text()

    def started(unit: str) -> str:
        return machine.run("systemctl", "show", "-P", "InvocationID", unit, shown=False).stdout.strip()

    with run.stage.chapter("A changed limit is read by the gateway alone"):
        before = {unit: started(unit) for unit in ("sealift-gateway", engine)}
        place.write_text(f"{good}\n[limits]\nrequests_per_minute = 599\n")
        facts = machine.result(*as_person("omar", "sealift", "install", "1"))
        run.require("a changed limit is installed without approvals", facts["changed"] is True, facts)
        run.require("the gateway started anew", started("sealift-gateway") != before["sealift-gateway"])
        run.require("the engine did not", started(engine) == before[engine])
        place.write_text(good)
        machine.result(*as_person("omar", "sealift", "install", "1"))


def require_back(run: Run) -> None:
    """Require that release 1 runs as before release 2 was tried: link, site file, services, the status."""
    release, site_file = _release(run.machine), run.machine.root / SITE_FILE
    run.require("the release before is in use again", release["serial"] == 1, release)
    run.require("the status says that the box went back", release["returned"]["serial"] == 2, release)
    run.require("the site file is the one of before", MONITORED not in site_file.read_text())
    wait_for_engine(run)


def approve_anew(run: Run) -> None:
    """Put the site file that was tried back; packages of the first try stay, so the plan is another one to approve."""
    site_file = run.machine.root / SITE_FILE
    with run.stage.chapter("What stayed of the first try makes another plan, approved anew"):
        site_file.with_name("sealift.toml.tried").replace(site_file)
        approve_next(run)


def go_forward(run: Run) -> None:
    """Install it without the fault."""
    machine = run.machine
    with run.stage.chapter("Install it, by the Ansible of the release before"):
        facts = machine.result(*as_person("omar", "sealift", "install", "2"))
        run.require("the next release is installed", (facts["serial"], facts["previous"]) == (2, 1), facts)
        run.require("nothing is left of the return", "returned" not in _release(machine))
        run.require("and again changes nothing", machine.result("sealift", "install")["changed"] is False)
        wait_for_engine(run)


def _release(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = machine.told("sealift", "status")["release"]
    return found
