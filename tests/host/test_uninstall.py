"""What `sealift uninstall` leaves of the host: run by Ansible below a folder, and read against what roles write."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.install import dropins
from tests.host.test_playbook import ANSIBLE, WRITERS, flat, load, module, tasks

yaml = pytest.importorskip("yaml")

BOOK = ANSIBLE / "uninstall.yml"
PAGE = ANSIBLE.parent / "docs/operator/uninstalling.md"
WATCHERS = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
# What stays: the packet filter, and the only servers that it lets the machine ask for the time. The page names both.
STAYS = {"/etc/nftables.conf", "/etc/systemd/timesyncd.conf.d/sealift.conf"}
# Folders of the appliance's own, which the command itself removes or keeps (`appliance.actions.uninstall`).
OWN = {"/etc/sealift/release.conf", "/etc/sealift/usb.env"}
# Where a path is known only on the box: one that this may become.
MADE = {
    "/etc/systemd/system/{{ item }}": "/etc/systemd/system/sealift.target",
    "/etc/systemd/system/{{ item.unit }}.d/{{ item.name }}": "",  # one of each name of drop-ins
}
_SYSTEMCTL = """#!/bin/sh
echo "$@" >> {log}
[ -e {root}/etc/systemd/system/prometheus.service.d/sealift.conf ] && echo "  walls stand" >> {log}
[ "$1" = show ] && printf "LoadState=loaded\\nActiveState=active\\n"
[ "$1" = list-unit-files ] || exit 0
grep -q nothing-installed {log}.how 2>/dev/null && exit 1
shift; for each in "$@"; do case "$each" in *.service) echo "$each enabled enabled";; esac; done
"""


def written() -> set[str]:
    """Return every path of a file or link that a role's task writes."""
    paths = set()
    for _, task in tasks():
        if module(task) not in WRITERS | {"ansible.builtin.lineinfile", "ansible.builtin.blockinfile"}:
            continue
        fields = task[module(task)]
        if fields.get("state") in {"directory", "absent"}:
            continue
        path = fields.get("dest") or fields["path"]
        if path.startswith("/etc/systemd/system/{{ item.unit }}"):
            paths |= {f"/etc/systemd/system/sealift-ledger.service.d/{name}" for name in dropins.NAMES}
        elif "{{" not in path or path in MADE:
            paths.add(MADE.get(path, path))
        else:
            assert isinstance(task["loop"], list), (task["name"], "say in MADE what this path may become")
            paths |= {re.sub(r"\{\{ item \}\}", one, path) for one in task["loop"]}
    return paths


def test_the_paths_of_every_role_that_writes_are_found() -> None:
    found = written()

    assert {"/etc/prometheus/prometheus.yml", "/etc/default/prometheus", "/usr/local/bin/sealift"} <= found
    assert not [path for path in found if "{{" in path or not path.startswith("/")]
    assert found >= STAYS | OWN


def test_whatever_a_role_writes_is_removed_or_named_by_the_page_as_what_stays() -> None:
    told = BOOK.read_text()

    def is_removed(path: str) -> bool:
        in_units = re.fullmatch(r"/etc/systemd/system/(multi-user\.target\.wants/)?sealift[^/]*", path)
        is_found = path.endswith(dropins.NAMES) or path in {
            f"{folder}/{name}"
            for task in flat(load(BOOK)[0]["tasks"])
            for folder in _list(task.get("ansible.builtin.find", {}).get("paths", []))
            for name in _list(task.get("ansible.builtin.find", {}).get("patterns", []))
        }
        return bool(in_units) or is_found or f"'{path}'" in told

    assert sorted(path for path in written() if not is_removed(path)) == sorted(STAYS)
    assert [path for path in STAYS if f"`{path}`" not in PAGE.read_text()] == []


def test_the_page_names_what_goes_that_lies_where_debian_has_files_of_its_own() -> None:
    """Scenario: people look for whose file a configuration of Debian's is, and why it is gone."""
    page = PAGE.read_text()
    named = {re.sub(r"^(/etc/default/prometheus).*", r"\1*", path) for path in written() - STAYS}
    named = {path for path in named if re.match(r"/etc/(default|nginx|prometheus)/", path)}

    assert len(named) == 6
    assert [path for path in sorted(named) if f"`{path}`" not in page] == []


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A folder with every file that roles write, as on a box that is watched."""
    for path in written():
        file = tmp_path / "root" / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("# Written by the install from the site file; changes are lost.\n")
    return tmp_path


def uninstalled(box: Path) -> list[str]:
    """Run the playbook below the folder; return what systemctl was asked, in turn."""
    root, programs = box / "root", box / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "systemctl").write_text(_SYSTEMCTL.format(log=box / "asked", root=root))
    (programs / "systemctl").chmod(0o755)
    book = box / "book.yml"
    book.write_text(re.sub(r"(?<=[\s'\[])/(etc|usr)/", rf"{root}/\1/", BOOK.read_text()))
    done = subprocess.run(
        [
            *["ansible-playbook", "-i", str(ANSIBLE / "inventory/localhost.yml"), str(book)],
            *["-e", f"ansible_python_interpreter={sys.executable}", "-e", '{"sealift_units": ["sealift.target"]}'],
        ],
        capture_output=True,
        check=False,
        env={**os.environ, "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "ANSIBLE_HOME": str(box / "home")}
        | {"PATH": f"{programs}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1"},
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (box / "asked").read_text().splitlines()


def left(box: Path) -> set[str]:
    root = box / "root"
    return {f"/{path.relative_to(root)}" for path in root.rglob("*") if not path.is_dir()}


has_ansible = pytest.mark.skipif(shutil.which("ansible-playbook") is None, reason="ansible-playbook is absent")


@has_ansible
def test_what_watches_the_box_is_stopped_behind_its_walls_and_before_what_it_watches(box: Path) -> None:
    """Scenario: Prometheus keeps its rules in memory, and mails that the gateway is down once it was taken off."""
    asked = uninstalled(box)

    (at,) = (place for place, line in enumerate(asked) if line.startswith("disable") and "prometheus" in line)
    assert {"--now", *(f"{name}.service" for name in WATCHERS)} <= {*asked[at].split()}
    assert asked[at + 1] == "  walls stand"
    assert at < min(place for place, line in enumerate(asked) if line.startswith("stop"))
    assert left(box) == STAYS


@has_ansible
def test_a_site_that_watches_its_machines_itself_keeps_what_does(box: Path) -> None:
    """Scenario: monitoring was never on, and the site runs a Prometheus of its own on this machine."""
    root = box / "root"
    own = {f"/etc/default/{name}" for name in WATCHERS} | {"/etc/prometheus/prometheus.yml"}
    for path in own:
        (root / path[1:]).write_text("# The site's own.\n")
    for name in WATCHERS:
        (root / f"etc/systemd/system/{name}.service.d/sealift.conf").unlink()

    asked = uninstalled(box)

    assert not [line for line in asked if "prometheus" in line]
    assert left(box) == STAYS | own


@has_ansible
def test_where_an_install_was_cut_off_before_debians_packages_it_goes_on(box: Path) -> None:
    (box / "asked.how").write_text("nothing-installed")

    asked = uninstalled(box)

    assert not [line for line in asked if line.startswith(("stop", "disable")) and "prometheus" in line]
    assert left(box) == STAYS
