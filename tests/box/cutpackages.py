"""The power goes while dpkg works, packages are left in states that a cut can leave, and the same play finishes them.

The role `packages` by itself on a bare Debian: what the medium brings, the host's Ansible, and nothing else of ours.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

from appliance.install.playbook import PACKAGES
from tests.box.machine import Machine, base_image
from tests.box.oneroleplay import MAIN, SITE_PACKAGES, play_of, site_packages
from tests.box.powercut import cut_when
from tests.box.run import ROOT, Run

_FOLDER = "/srv/ansible"
_LOG = "var/log/dpkg.log"
_STATUS = "var/lib/dpkg/status"
# A unit was switched on, its program not set up yet.
_PLACE = "status half-configured nginx-common"
# A cut leaves these for an instant each, between a package's last file and dpkg's word that all are there; apt takes
# only the second for one to unpack again. What it leaves out is a file that was not written yet.
_UNFINISHED = {
    "python3-pip-whl": ("install reinstreq unpacked", "usr/share/doc/python3-pip-whl/copyright"),
    "nginx-light": ("install reinstreq half-installed", "usr/share/doc/nginx-light/copyright"),
}


def packages_are_finished(run: Run, medium: Path) -> None:
    """Cut the power in the middle of a medium's packages, and let the same play put all of them in."""
    machine = Machine(
        root=run.out / "cut",
        name=f"{run.machine.name}c",
        media={"/media/sealift-1": medium, SITE_PACKAGES: site_packages()},
        log=run.out / "cut.log",
    )
    try:
        with run.stage.chapter("Power is lost while dpkg works, on a bare box"):
            machine.create(base_image())
            _lay(machine)
            machine.boot()
            log = machine.root / _LOG
            cut_when(machine, lambda: _play(machine), lambda: log.exists() and _PLACE in log.read_text())
            machine.boot()
            _leave_unfinished(machine)
            told = _play(machine)
            run.require("packages that were cut off are finished by the same play", "failed=0" in told, told)
            bad = machine.shell("dpkg --audit; dpkg --verify python3-pip-whl nginx-light").stdout
            run.require("each is whole", not bad, bad)
            told = _play(machine)
            run.require("then nothing is left to put in", "changed=0" in told and "failed=0" in told, told)
    finally:
        machine.stop()


def _lay(machine: Machine) -> None:
    folder = machine.root / _FOLDER.lstrip("/")
    shutil.copytree(ROOT / "ansible", folder)
    (folder / "site.yml").write_text(play_of("packages"))
    release = "/media/sealift-1/release/data"
    values = {"sealift_source": release, "sealift_release_folder": release, "sealift_packages": list(PACKAGES)}
    (folder / "values.yml").write_text(json.dumps(values))


def _play(machine: Machine) -> str:
    words = shlex.join(["python3", "-I", "-c", MAIN, "site.yml", "--extra-vars", "@values.yml"])
    return machine.shell(f"cd {_FOLDER}; ANSIBLE_CONFIG=ansible.cfg ANSIBLE_NOCOLOR=1 {words}").stdout


def _leave_unfinished(machine: Machine) -> None:
    machine.run("dpkg", "--clear-avail", shown=False)  # takes what it noted by the way into the one file
    place = machine.root / _STATUS
    text = place.read_text()
    for name, (state, missing) in _UNFINISHED.items():
        entry = re.compile(rf"^(Package: {re.escape(name)}\nStatus: )install ok unpacked$", re.MULTILINE)
        text, count = entry.subn(rf"\g<1>{state}", text)
        assert count == 1, name
        (machine.root / missing).unlink()
    place.write_text(text)
