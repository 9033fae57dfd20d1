"""What `sealift uninstall` leaves of the host, read against what roles write; tests/interop runs it."""

import re
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
OWN = {"/etc/sealift/release.conf", "/etc/sealift/usb.env", "/opt/sealift/releases/restarts.json"}
# Where a path is known only on the box: one that this may become.
MADE = {
    "/etc/systemd/system/{{ item }}": "/etc/systemd/system/sealift.target",
    "/etc/systemd/system/{{ item.unit }}.d/{{ item.name }}": "",  # one of each name of drop-ins
}


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


def test_usb_is_open_again_without_a_boot_and_only_where_a_site_had_chosen() -> None:
    """Scenario: what is plugged in after Sealift left finds no driver, and nobody knows why."""
    named = list(flat(load(BOOK)[0]["tasks"]))
    names = [task["name"] for task in named]
    block = next(task for task in named if task["name"] == "Leave USB to the kernel again")
    where_udev_runs = block["block"][-1]
    written = [task for task in where_udev_runs["block"] if "ansible.builtin.command" in task]
    asked = next(task for _, task in tasks() if task.get("register") == "usb_udev")

    assert block["when"] == "uninstall_usb.matched > 0"
    assert [task["ansible.builtin.command"]["argv"][-1] for task in written] == [
        "--reload",
        "{{ item }}/interface_authorized_default",
        "{{ item }}/authorized",
        "/sys/bus/usb/drivers_probe",
    ]
    assert all(task["ansible.builtin.command"]["removes"] for task in written[1:])
    assert names.index("Remove the rules of media") < names.index("Let udev forget them")
    assert names.index(block["name"]) < names.index("Remove links, units and what was written for them")
    # /sys of a container is its host's: asked and written only where the role `usb` does it, and never an end.
    assert [task["name"] for task in block["block"] if "/sys" in str(task)] == [where_udev_runs["name"]]
    assert where_udev_runs["when"] == "uninstall_udev.stat.exists"
    assert block["block"][-2]["ansible.builtin.stat"] == asked["ansible.builtin.stat"]
    assert [task["failed_when"] for task in written[1:]] == [
        f"{task['register']}.rc not in [0, 1]" for task in written[1:]
    ]


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
