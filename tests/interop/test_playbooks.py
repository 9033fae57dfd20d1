"""Our playbooks, run by the Ansible that a release brings: below a folder, with a stand-in for systemctl."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.host.test_playbook import ANSIBLE, module, tasks
from tests.host.test_uninstall import BOOK, STAYS, WATCHERS, written
from tests.support.peers import peer_python

yaml = pytest.importorskip("yaml")

pytestmark = pytest.mark.interop

_WATCHED = """#!/bin/sh
echo "$@" >> {log}
[ -e {root}/etc/systemd/system/prometheus.service.d/sealift.conf ] && echo "  walls stand" >> {log}
[ "$1" = show ] && printf "LoadState=loaded\\nActiveState=active\\n"
[ "$1" = list-unit-files ] || exit 0
grep -q nothing-installed {log}.how 2>/dev/null && exit 1
shift; for each in "$@"; do case "$each" in *.service | *.socket) echo "$each enabled enabled";; esac; done
"""


def ansible() -> Path:
    """Return the program of a release's own environment."""
    return peer_python("host").with_name("ansible-playbook")


def test_ansible_accepts_the_playbook() -> None:
    done = subprocess.run(
        [str(ansible()), "--syntax-check", "site.yml"], cwd=ANSIBLE, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


_SYSTEMCTL = """#!/bin/sh
[ "$1" = is-enabled ] && echo static && exit 0
[ -e {silent} ] && echo "Failed to get properties: Connection timed out" >&2 && exit 1
[ "$1" = show ] && printf "LoadState=loaded\\nActiveState=active\\n"
exit 0
"""


def test_a_plan_reads_alike_whether_or_not_systemd_answers_its_handlers(tmp_path: Path) -> None:
    silent, programs = tmp_path / "silent", tmp_path / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text(_SYSTEMCTL.format(silent=silent))
    (programs / "systemctl").chmod(0o755)
    handlers = [
        task for where, task in tasks() if module(task) == "ansible.builtin.systemd_service" and "/handlers/" in where
    ]
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": handlers}
    book = tmp_path / "book.yml"
    book.write_text(yaml.safe_dump([play]))

    def told() -> str:
        done = subprocess.run(
            [str(ansible()), "--check", "-e", f"ansible_python_interpreter={sys.executable}", str(book)],
            capture_output=True,
            check=True,
            env={**os.environ, "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "ANSIBLE_HOME": str(tmp_path / "home")}
            | {"PATH": f"{programs}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1"},
            text=True,
        )
        return done.stdout

    answered = told()
    silent.touch()

    assert told() == answered
    assert answered.count("changed: [localhost]") >= 6


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
    run_below(box, below(box, BOOK), {"sealift_units": ["sealift.target"]})
    return (box / "asked").read_text().splitlines()


def below(box: Path, book: Path) -> str:
    """Return a file of tasks with the machine's places below the folder."""
    return re.sub(r"(?<=[\s'\[])/(etc|usr)/", rf"{box / 'root'}/\1/", book.read_text())


def run_below(box: Path, text: str, values: Mapping[str, object]) -> None:
    """Run a playbook with a stand-in for systemctl, which notes what it is asked."""
    programs, book = box / "bin", box / "book.yml"
    programs.mkdir(exist_ok=True)
    (programs / "systemctl").write_text(_WATCHED.format(log=box / "asked", root=box / "root"))
    (programs / "systemctl").chmod(0o755)
    book.write_text(text)
    done = subprocess.run(
        [
            *[str(ansible()), "-i", str(ANSIBLE / "inventory/localhost.yml"), str(book)],
            *["-e", f"ansible_python_interpreter={sys.executable}", "-e", json.dumps(values)],
        ],
        capture_output=True,
        check=False,
        env={**os.environ, "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "ANSIBLE_HOME": str(box / "home")}
        | {"PATH": f"{programs}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1"},
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def left(box: Path) -> set[str]:
    root = box / "root"
    return {f"/{path.relative_to(root)}" for path in root.rglob("*") if not path.is_dir()}


def test_what_watches_the_box_is_stopped_behind_its_walls_and_before_what_it_watches(box: Path) -> None:
    """Scenario: Prometheus keeps its rules in memory, and mails that the gateway is down once it was taken off."""
    asked = uninstalled(box)

    (at,) = (place for place, line in enumerate(asked) if line.startswith("disable") and "prometheus" in line)
    assert {"--now", *(f"{name}.service" for name in WATCHERS)} <= {*asked[at].split()}
    assert asked[at + 1] == "  walls stand"
    assert at < min(place for place, line in enumerate(asked) if line.startswith("stop"))
    assert left(box) == STAYS


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


def test_where_an_install_was_cut_off_before_debians_packages_it_goes_on(box: Path) -> None:
    (box / "asked.how").write_text("nothing-installed")

    asked = uninstalled(box)

    assert not [line for line in asked if line.startswith(("stop", "disable")) and "prometheus" in line]
    assert left(box) == STAYS


def played(box: Path, role: str, begins: str, values: Mapping[str, object]) -> list[str]:
    """Run a role's tasks from one on, below the folder; return what systemctl was asked, in turn."""
    asked = box / "asked"
    asked.unlink(missing_ok=True)
    every = yaml.safe_load(below(box, ANSIBLE / "roles" / role / "tasks/main.yml"))
    names = [task["name"] for task in every]
    play = {"hosts": "all", "connection": "local", "gather_facts": False, "tasks": every[names.index(begins) :]}
    run_below(box, yaml.safe_dump([play]), values)
    return asked.read_text().splitlines() if asked.exists() else []


def test_a_site_file_that_watches_no_more_stops_what_watched_once(box: Path) -> None:
    ends = {"sealift_monitoring": False}

    asked = played(box, "monitoring", "Stop what watched this box", ends)

    (stopped,) = (line.split() for line in asked if line.startswith("disable"))
    watchers = {f"{name}.service" for name in WATCHERS}
    ours = {"sealift-alerts.socket", "sealift-alerts.service", "sealift-metrics.service"}
    assert {"--now", *ours, *watchers} <= {*stopped}
    assert not played(box, "monitoring", "Stop what watched this box", ends)


def test_fewer_gateways_than_before_leave_none_that_starts_at_boot(box: Path) -> None:
    wants = box / "root/etc/systemd/system/sealift.target.wants"
    wants.mkdir(parents=True)
    for number in (2, 3, 4):
        (wants / f"sealift-gateway@{number}.socket").symlink_to("/etc/systemd/system/sealift-gateway@.socket")

    asked = played(box, "units", "Look for further gateways that start at boot", {"sealift_gateways": 2})

    (stopped,) = (line.split() for line in asked if line.startswith("disable"))
    both = {f"sealift-gateway@{number}.{kind}" for number in (3, 4) for kind in ("socket", "service")}
    assert {*stopped} == {"disable", "--quiet", "--now", *both}


@pytest.mark.parametrize(
    ("chosen", "has_udev", "now"), [(":storage:", True, "1"), (":any:", True, "0"), (":storage:", False, "0")]
)
def test_usb_is_opened_where_the_site_had_shut_it(box: Path, chosen: str, now: str, *, has_udev: bool) -> None:
    """Without udev it is a container, whose /sys is its host's."""
    devices = box / "root/sys/bus/usb/devices"
    shut = [devices / "usb1/interface_authorized_default", devices / "1-1:1.0/authorized"]
    for path in shut:
        path.parent.mkdir(parents=True)
        path.write_text("0")
    (devices / "1-1").mkdir()
    (devices / "usb2").mkdir()  # as on a kernel that has no such setting
    (devices / "usb3/interface_authorized_default").mkdir(parents=True)  # as on one that refuses the write
    (box / "bin").mkdir()
    (box / "bin/udevadm").write_text("#!/bin/sh\n")
    (box / "bin/udevadm").chmod(0o755)
    (box / "root/run/udev").mkdir(parents=True)
    if has_udev:
        (box / "root/run/udev/control").touch()
    probe = devices.parent / "drivers_probe"
    probe.write_text("")
    (box / "root/etc/sealift/usb.env").write_text(f"# Written by the install.\nSEALIFT_USB={chosen}\n")

    text = re.sub(r"(?<= )/(sys|run)/", rf"{box / 'root'}/\1/", below(box, BOOK))
    run_below(box, text, {"sealift_units": ["sealift.target"]})

    assert [path.read_text().strip() for path in shut] == [now, now]
    assert probe.read_text().strip() == ("1-1:1.0" if now == "1" else "")
    assert sorted(path.name for path in devices.rglob("*")) == sorted(
        ["1-1", "1-1:1.0", "authorized", *["interface_authorized_default"] * 2, "usb1", "usb2", "usb3"]
    )
    assert not (box / "root/etc/sealift/usb.env").exists()
    assert not (box / "root/etc/udev/rules.d/70-sealift-media.rules").exists()


_APT = """#!/bin/sh
case "$*" in *fix-broken*) echo "0 upgraded, 0 newly installed";; *) cat {said};; esac
"""


@pytest.mark.parametrize(
    ("said", "times"), [("2 upgraded, 0 newly installed", 1), ("0 upgraded, 0 newly installed", 0)]
)
def test_the_web_server_starts_anew_where_packages_were_upgraded(box: Path, said: str, times: int) -> None:
    programs, heard = box / "bin", box / "said"
    programs.mkdir()
    heard.write_text(f"{said}, 0 to remove\n")
    for name, text in (("apt-get", _APT.format(said=heard)), ("dpkg", "#!/bin/sh\n"), ("dpkg-query", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    brought = yaml.safe_load((ANSIBLE / "roles/packages/tasks/main.yml").read_text())
    served = yaml.safe_load((ANSIBLE / "roles/nginx/tasks/main.yml").read_text())
    wanted = (
        "Install from the release",
        "Know whether anything was put in place",
        "Let the web server take up new packages",
    )
    restart = {"name": "Restart nginx", "ansible.builtin.command": f"sh -c 'echo restarted >> {box}/restarts'"}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "handlers": [restart]}
    tried = [task for task in (*brought, *served) if task["name"] in wanted]

    values = {
        "packages_index": {"stat": {"exists": True}},
        "sealift_source": "/srv",
        "sealift_packages": ["nginx-light"],
    }
    run_below(box, yaml.safe_dump([{**play, "tasks": tried}]), values)

    assert len(tried) == len(wanted)
    assert (box / "restarts").exists() is bool(times)
