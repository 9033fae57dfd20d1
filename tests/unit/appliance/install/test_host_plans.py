"""Plans of host changes: one form, equal bytes for equal changes, no character that hides what a person approves."""

import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config, PlacesSection
from appliance.errors import HostChangeError, InstallError
from appliance.install import maintainer, plans, playbook
from appliance.install.plans import Plan, plain
from media.errors import SealiftError
from tests.support.hostplans import make_plan

yaml = pytest.importorskip("yaml")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(site="demo", places=PlacesSection(root=str(tmp_path)))


def test_a_plan_reads_back_and_its_digest_is_that_of_its_bytes(config: Config) -> None:
    plan = make_plan()

    assert plans.keep(config.at, plan) == plan.digest
    assert plans.read(config.at, plan.digest) == plan
    assert Plan.from_bytes(plan.to_bytes()) == plan


def test_every_field_changes_the_digest() -> None:
    plan = make_plan()
    others = [
        replace(plan, site="other"),
        replace(plan, serial=2),
        replace(plan, previous=1),
        replace(plan, host_files="c" * 64),
        replace(plan, settings="c" * 64),
        replace(plan, changed=3),
        replace(plan, packages=()),
        replace(plan, packages=(replace(plan.packages[0], scripts=(("postinst", "#!/bin/sh\nfalse\n"),)),)),
        replace(plan, difference=plan.difference + " "),
    ]

    assert len({plan.digest, *(one.digest for one in others)}) == len(others) + 1


def test_a_package_alone_is_a_change_of_the_host() -> None:
    assert make_plan(changed=0).changes_host
    assert not make_plan(changed=0, packages=()).changes_host


def test_a_stored_plan_that_was_altered_is_refused(config: Config) -> None:
    plan = make_plan()
    plans.keep(config.at, plan)
    place = config.at.state / f"plans/{plan.digest}.json"
    place.chmod(0o600)
    place.write_bytes(place.read_bytes().replace(b"443", b"444"))

    with pytest.raises(HostChangeError, match=plan.digest[:12]):
        plans.read(config.at, plan.digest)
    with pytest.raises(HostChangeError):
        plans.read(config.at, "d" * 64)
    with pytest.raises(SealiftError):
        plans.read(config.at, "../people")


@pytest.mark.parametrize("strange", ["pipe", "link"])
def test_what_a_stranger_put_in_a_plans_place_is_neither_waited_for_nor_followed(config: Config, strange: str) -> None:
    plan = make_plan()
    place = plans.folder(config.at) / f"{plan.digest}.json"
    place.parent.mkdir(parents=True)
    if strange == "pipe":
        os.mkfifo(place)
    else:
        other = place.with_name("other")
        other.write_bytes(plan.to_bytes())
        place.symlink_to(other)

    plans.keep(config.at, plan)

    assert stat.S_ISREG(place.lstat().st_mode)
    assert plans.read(config.at, plan.digest) == plan


def test_two_runs_of_the_same_change_read_alike() -> None:
    def account(number: str) -> str:
        return (
            f"--- before: /etc/nginx/nginx.conf\n"
            f"+++ after: /tmp/sealift-play-{number}/local/ansible-local-12{number}/tmp{number}xy_/nginx.conf.j2\n"
            f"--- before\t2026-11-20 08:00:0{number[0]}.123456\n+ file:/tmp/sealift-{number}/debs\n"
        )

    first = plain(account("1abc2def"), Path("/tmp/sealift-1abc2def"))
    second = plain(account("9zyx8wvu"), Path("/tmp/sealift-9zyx8wvu"))

    assert first == second
    assert "nginx.conf.j2" in first
    assert plain("+ tcp dport 22 accept") != plain("+ tcp dport 23 accept")


# What ansible-core 2.19 tells of a small play in check mode, where systemd answered and where it did not.
ANSWERED = """
PLAY [A small box] *************************************************************

TASK [nginx : Configure the web server] ****************************************
--- before
+++ after: /etc/nginx/nginx.conf
@@ -0,0 +1 @@
+one

changed: [localhost]

RUNNING HANDLER [nginx : Reload nginx] *****************************************
changed: [localhost]

RUNNING HANDLER [firewall : Load the rules] ************************************
changed: [localhost]

PLAY RECAP *********************************************************************
localhost                  : ok=3    changed=3    unreachable=0    failed=0    skipped=0    rescued=0    ignored=0

"""
_HANDLED = "RUNNING HANDLER [firewall : Load the rules] ************************************\n"


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ("skipped=0", "skipped=1", (plans.COUNT,)),
        ("[A small box]", "[Another box]", (plans.BEFORE,)),
        (f"{_HANDLED}changed", f"{_HANDLED}ok", ("firewall : Load the rules",)),
        ("+one", "+two", ("nginx : Configure the web server",)),
        ("PLAY RECAP *", "PLAY RECAP", ("firewall : Load the rules", plans.COUNT)),
    ],
)
def test_what_came_out_differently_is_named_and_the_count_at_the_end_is_no_handlers(
    before: str, after: str, names: tuple[str, ...]
) -> None:
    assert ANSWERED.count(before) == 1

    found = plans.differing(make_plan(difference=ANSWERED), make_plan(difference=ANSWERED.replace(before, after)))

    assert found == names


def test_the_first_of_two_tasks_with_one_name_is_compared_too() -> None:
    first, last = f"{_HANDLED}changed: [localhost]\n\n", f"{_HANDLED}ok: [localhost]\n\n"
    twice, other = (ANSWERED.replace("PLAY RECAP", f"{one}{last}PLAY RECAP") for one in (first, last))

    assert plans.differing(make_plan(difference=twice), make_plan(difference=other)) == ("firewall : Load the rules",)


@pytest.mark.parametrize("folder", ["tmpsealift0", "ansible-tmp-1.5-2-3", "ansible-local-9ab"])
def test_a_folder_that_looks_temporary_is_not_passed_over(folder: str) -> None:
    shown = plain(f"+ExecStart=/usr/lib/{folder}/run\n")

    assert shown != plain("+ExecStart=/usr/lib/run\n")
    assert shown == "+ExecStart=/usr/lib/SCRATCH/run\n"


def test_a_plan_that_cannot_be_shown_whole_is_none() -> None:
    text = "x" * plans.MAX_TEXT

    assert plain(text) == text
    with pytest.raises(HostChangeError, match="cannot be shown whole"):
        plain(f"{text}\n+ tcp dport 22 accept\n")


def test_characters_that_hide_or_turn_text_are_shown_as_what_they_are(config: Config) -> None:
    evil = "accept \u202etpecca\u202c \x1b[8m hidden\x1b[0m zero\u200bwidth\r\x00"
    plan = make_plan(difference=plain(evil))

    assert Plan.from_bytes(plan.to_bytes()) == plan
    assert "<U+202E>" in plan.difference
    assert "<U+001B>" in plan.difference
    assert all(one.isprintable() or one in "\t\n" for one in plan.to_text())


def test_maintainer_scripts_are_read_from_a_packages_bytes_and_run_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    (folder / "DEBIAN").mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "DEBIAN/control").write_text(
        "Package: small\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@b.example>\nDescription: small\n"
    )
    (folder / "DEBIAN/postinst").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran \u202e\n")
    (folder / "DEBIAN/postinst").chmod(0o755)
    deb = tmp_path / "small.deb"
    subprocess.run(["dpkg-deb", "--build", folder, deb], check=True, capture_output=True)

    found = maintainer.scripts_of(deb)

    assert [name for name, _ in found] == ["postinst"]
    assert f"touch {tmp_path}/ran <U+202E>" in found[0][1]
    assert not (tmp_path / "ran").exists()
    deb.write_bytes(b"!<arch>\nnot a package")
    with pytest.raises(InstallError, match=r"small\.deb"):
        maintainer.scripts_of(deb)


def test_no_packages_are_no_change(tmp_path: Path) -> None:
    assert maintainer.changes(tmp_path, ["nginx-light"]) == ()


def test_a_package_that_apt_would_take_away_is_named_and_no_plan_passes_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Packages").write_text("")
    told = (
        "The following packages will be REMOVED:\n  clamav less\n"
        "Remv clamav [1.4.3+dfsg-1~deb12u1] [clamav-freshclam:amd64 ]\nRemv less [590-2.1~deb12u2]\n"
        "Inst nginx-light (1.22.1-9 localhost [amd64])\nConf nginx-light (1.22.1-9 localhost [amd64])\n"
    )
    monkeypatch.setattr(maintainer, "_run", lambda command: told if "--simulate" in command else "")

    with pytest.raises(InstallError, match="would take packages of this machine away: clamav, less"):
        maintainer.changes(tmp_path, ["nginx-light"])


def test_the_install_itself_takes_no_package_away() -> None:
    role = Path(__file__).parents[4] / "ansible/roles/packages/tasks/main.yml"
    (block,) = (
        task["block"] for task in yaml.safe_load(role.read_text()) if task["name"] == "Install from the release"
    )
    asked = [str(task.get("ansible.builtin.command", {}).get("argv", "")) for task in block]
    installs = [argv for argv in asked if "packages_apt + ['install'" in argv]

    assert len(installs) == 2
    assert all("'--no-remove'" in argv for argv in installs)


@pytest.mark.parametrize(
    "text",
    [
        "{{ lookup('pipe','id') }}",
        "{% for x in y %}",
        'a "quoted" \\ value\nand a line',
        "!!python/object:os.system",
        "no",
        "# no comment",
        "\u2028",
        "{a: b}",
    ],
)
def test_a_variable_is_a_text_and_never_a_template(text: str) -> None:
    class Loader(yaml.SafeLoader):  # type: ignore[misc, name-defined]
        pass

    told: list[str] = []

    def unsafe(loader: Any, node: Any) -> Any:
        told.append(type(node).__name__)
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor("!unsafe", unsafe)
    value = {"hostname": text, "clients": [text], "one": {"proof": text}, "serial": 7}

    assert yaml.load(playbook.as_data(value), Loader=Loader) == value
    assert told == ["MappingNode"]
