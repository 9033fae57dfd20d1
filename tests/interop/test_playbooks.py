"""Our playbooks, run by the Ansible that a release brings: below a folder, with a stand-in for systemctl."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.host.test_playbook import ANSIBLE, WRITERS, flat, module, tasks
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
    return re.sub(r"(?<=[\s'\[])/(etc|opt|usr)/", rf"{box / 'root'}/\1/", book.read_text())


def run_below(box: Path, text: str, values: Mapping[str, object], *options: str, is_good: bool = True) -> str:
    """Run a playbook with a stand-in for systemctl, which notes what it is asked; return Ansible's account."""
    programs, book = box / "bin", box / "book.yml"
    programs.mkdir(exist_ok=True)
    (programs / "systemctl").write_text(_WATCHED.format(log=box / "asked", root=box / "root"))
    (programs / "systemctl").chmod(0o755)
    book.write_text(text)
    done = subprocess.run(
        [
            *[str(ansible()), "-i", str(ANSIBLE / "inventory/localhost.yml"), str(book)],
            *["-e", f"ansible_python_interpreter={sys.executable}", "-e", json.dumps(values), *options],
        ],
        capture_output=True,
        check=False,
        env={**os.environ, "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "ANSIBLE_HOME": str(box / "home")}
        | {"PATH": f"{programs}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1"},
        text=True,
    )
    assert (done.returncode == 0) is is_good, done.stdout + done.stderr
    return done.stdout


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
    ("chosen", "has_udev", "now"),
    [(":storage:", True, "1"), ("::", True, "1"), (":any:", True, "0"), (":storage:", False, "0")],
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
_DPKG = """#!/bin/sh
case "$*" in *db:Status-Status*) echo installed;; esac
"""
_UPGRADED, _NOTHING = "2 upgraded, 0 newly installed", "0 upgraded, 0 newly installed"


def note_of(box: Path) -> Path:
    """Return where it is noted what has to start anew."""
    return box / "root/opt/sealift/releases/restarts.json"


@pytest.fixture
def upgraded(box: Path) -> Path:
    """The folder with stand-ins for dpkg and for apt, which says what lies in `said`."""
    programs = box / "bin"
    programs.mkdir()
    for name, text in (
        ("apt-get", _APT.format(said=box / "said")),
        *((name, _DPKG) for name in ("dpkg", "dpkg-query")),
    ):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    note_of(box).unlink()
    (box / "release/debs").mkdir(parents=True)
    (box / "release/debs/Packages").touch()
    return box


def taken_up(box: Path, said: str, *options: str, fails: bool = False, is_good: bool = True) -> tuple[int, str]:
    """Play the role that brings packages and what starts the web server anew for them, as the whole playbook does.

    Args:
        box: The folder.
        said: What apt says that it did.
        options: Of Ansible's, as `--check`.
        fails: Whether a task fails between the two.
        is_good: Whether the play ends well otherwise.

    Returns:
        How often the web server was started anew, and Ansible's account.
    """
    (box / "said").write_text(f"{said}, 0 to remove\n")
    (box / "restarts").unlink(missing_ok=True)
    (book,) = yaml.safe_load(below(box, ANSIBLE / "site.yml"))
    brought = yaml.safe_load(below(box, ANSIBLE / "roles/packages/tasks/main.yml"))
    served = yaml.safe_load(below(box, ANSIBLE / "roles/nginx/tasks/main.yml"))
    between = (
        [{"name": "Fail", "ansible.builtin.fail": {"msg": "as an environment that does not load"}}] if fails else []
    )
    last = [task for task in served if task["name"] == "Let the web server take up new packages"]
    for task in flat([*brought, *book["post_tasks"]]):
        if module(task) in WRITERS:  # whoever runs this may give no file to root
            del task[module(task)]["owner"], task[module(task)]["group"]
    restart = {"name": "Restart nginx", "ansible.builtin.command": f"sh -c 'echo restarted >> {box}/restarts'"}
    play = {
        **{key: value for key, value in book.items() if key != "roles"},
        "handlers": [restart],
        "tasks": [*brought, *between, *last],
    }
    values = {
        "sealift_source": str(box / "release"),
        "sealift_release_folder": str(box / "release"),
        "sealift_packages": ["nginx-light"],
    }
    told = run_below(box, yaml.safe_dump([play], sort_keys=False), values, *options, is_good=is_good and not fails)
    assert last
    restarts = box / "restarts"
    return len(restarts.read_text().split()) if restarts.exists() else 0, told


@pytest.mark.parametrize(("said", "times"), [(_UPGRADED, 1), (_NOTHING, 0)])
def test_the_web_server_starts_anew_where_packages_were_upgraded(upgraded: Path, said: str, times: int) -> None:
    assert taken_up(upgraded, said)[0] == times
    assert not note_of(upgraded).exists()


def test_an_install_that_is_repeated_starts_anew_what_the_one_that_failed_did_not(upgraded: Path) -> None:
    """Scenario: after a security update's packages are in, its environment does not load; the install is repeated."""
    note = note_of(upgraded)
    assert taken_up(upgraded, _UPGRADED, fails=True)[0] == 0
    assert json.loads(note.read_text()) == {"format": 1, "restarts": ["monitoring", "nginx", "sealift"]}

    planned = taken_up(upgraded, _NOTHING, "--check")
    done = taken_up(upgraded, _NOTHING)

    # People approved the packages; what starts anew for them is no further change of the host.
    assert (planned[0], "changed=0" in planned[1]) == (0, True), planned[1]
    assert (done[0], note.exists()) == (1, False)


def test_an_install_that_is_ended_while_packages_go_in_is_made_up_for(upgraded: Path) -> None:
    note = note_of(upgraded)
    seen = upgraded / "seen"
    apt = upgraded / "bin/apt-get"
    apt.write_text(f'#!/bin/sh\ncase "$*" in *update*) ;; *) cp {note} {seen}; exit 1;; esac\n')
    taken_up(upgraded, _NOTHING, is_good=False)
    apt.write_text(_APT.format(said=upgraded / "said"))

    assert json.loads(seen.read_text())["format"] == 1
    assert taken_up(upgraded, _NOTHING)[0] == 1
