"""Running the release's playbook: what Ansible is given, and how its endings are told apart, with a stand-in for it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.config import Config, NetworkSection, PlacesSection, TlsSection
from appliance.errors import InstallError, PreflightError
from appliance.install import playbook
from appliance.install.account import PlayFailedError
from appliance.install.additions import Needs
from appliance.install.playbook import Play

yaml = pytest.importorskip("yaml")

RECAP = "localhost                  : ok=9    changed={changed}    unreachable=0    failed={failed}    skipped=0"


@pytest.fixture
def play(tmp_path: Path) -> Play:
    folder = tmp_path / "releases/7"
    (folder / "ansible").mkdir(parents=True)
    (folder / "systemd/sysusers.d").mkdir(parents=True)
    for name in ("sealift.target", "sealift-ledger.service", "README"):
        (folder / "systemd" / name).write_text("")
    return Play(
        config=Config(
            site="s", places=PlacesSection(root=str(tmp_path)), network=NetworkSection(egress=["udp 10.0.0.5 123"])
        ),
        config_file=tmp_path / "etc/sealift/sealift.toml",
        source=folder,
        folder=folder,
        serial=7,
        environments=("server", "host"),
    )


def stand_in(folder: Path, body: str) -> Path:
    path = folder / "ansible-playbook"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_packages_of_an_update_are_asked_for_by_name_beside_those_that_the_box_needs(play: Play) -> None:
    usual = play.variables()["sealift_packages"]

    updated = replace(play, updates=("libssl3", usual[0])).variables()["sealift_packages"]

    assert updated == [*usual, "libssl3"]


def test_ansible_gets_the_release_the_variables_and_nothing_of_the_callers(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_ROLES_PATH", "/evil")
    recap = RECAP.format(changed=3, failed=0)
    ansible = stand_in(
        tmp_path, f'env > {tmp_path}/env; pwd > {tmp_path}/cwd; cp "${{3#@}}" {tmp_path}/given; echo "{recap}"'
    )

    result = play.run(ansible)

    environment = (tmp_path / "env").read_text()
    assert result.changed == 3
    assert "/evil" not in environment
    assert f"ANSIBLE_CONFIG={play.folder}/ansible/ansible.cfg" in environment
    assert (tmp_path / "cwd").read_text().strip() == str(play.folder / "ansible")
    assert (tmp_path / "given").read_text() == playbook.as_data(play.variables())


def test_variables_are_those_that_the_roles_declare(play: Play) -> None:
    found = play.variables()

    assert set(found) == set(playbook.VARIABLES)
    assert found["sealift_units"] == ["sealift-ledger.service", "sealift.target"]
    assert [one["name"] for one in found["sealift_environments"]] == ["host", "server"]
    assert found["sealift_environments"][0]["proof"] == "pass"
    assert found["sealift_egress"] == ["udp 10.0.0.5 123"]


@pytest.mark.parametrize(
    ("port", "variable"),
    [
        ("clients", "sealift_client_certificates"),
        ("management", "sealift_management_certificates"),
        ("monitoring", "sealift_monitoring_certificates"),
    ],
)
@pytest.mark.parametrize(("setting", "given"), [("off", "none"), ("optional", "optional"), ("required", "required")])
def test_what_is_asked_of_callers_reaches_ansible_as_a_text(
    play: Play, port: str, variable: str, setting: str, given: str
) -> None:
    config = play.config.model_copy(update={"tls": TlsSection.model_validate({port: setting})})

    found = replace(play, config=config).variables()[variable]

    # PyYAML's own resolver is Ansible's; off would have come out as false.
    assert (found, yaml.safe_load(found)) == (given, given)


def test_a_preview_runs_in_check_mode(play: Play, tmp_path: Path) -> None:
    ansible = stand_in(tmp_path, f'echo "$@" > {tmp_path}/asked; echo "{RECAP.format(changed=0, failed=0)}"')

    assert play.run(ansible, check_only=True).changed == 0
    assert (tmp_path / "asked").read_text().endswith("--check --diff\n")


def test_a_plan_is_made_without_asking_systemd_and_a_change_with_it(play: Play, tmp_path: Path) -> None:
    ansible = stand_in(
        tmp_path, f'echo "$SYSTEMD_OFFLINE" >> {tmp_path}/asked; echo "{RECAP.format(changed=0, failed=0)}"'
    )

    play.run(ansible, check_only=True)
    play.run(ansible)

    assert (tmp_path / "asked").read_text() == "1\n\n"


def test_what_ansible_warns_of_is_no_outcome(play: Play, tmp_path: Path) -> None:
    recap = RECAP.format(changed=2, failed=0)
    ansible = stand_in(tmp_path, f'echo "{recap}"; echo "[WARNING]: Target is a chroot or systemd is offline." >&2')

    result = play.run(ansible, check_only=True)

    assert (result.changed, result.text) == (2, f"{recap}\n")
    assert result.warnings == "[WARNING]: Target is a chroot or systemd is offline.\n"


def test_a_count_that_stands_among_warnings_is_none(play: Play, tmp_path: Path) -> None:
    ansible = stand_in(tmp_path, f'echo "{RECAP.format(changed=2, failed=0)}" >&2')

    with pytest.raises(PlayFailedError):
        play.run(ansible, check_only=True)


def test_a_failed_task_is_named(play: Play, tmp_path: Path) -> None:
    text = (
        "TASK [units : Copy the units] ****\\nok: [localhost]\\n\\n"
        "TASK [nginx : Configure the web server] ****\\n"
        'fatal: [localhost]: FAILED! => {\\"msg\\": \\"failed to validate\\"}\\n'
    )
    ansible = stand_in(tmp_path, f'printf "{text}"; echo "{RECAP.format(changed=0, failed=1)}"; exit 2')

    with pytest.raises(InstallError) as caught:
        play.run(ansible)

    assert "nginx : Configure the web server" in caught.value.what
    assert caught.value.why == "failed to validate"


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["a pipe", "apt's terminal"])
def test_a_package_that_fails_is_named_with_what_dpkg_said_of_it(play: Play, tmp_path: Path, end: str) -> None:
    fatal = {
        "rc": 100,
        "stderr": "E: Sub-process /usr/bin/dpkg returned an error code (1)",
        "stdout": (
            "Setting up nginx (1.22) ...\ndpkg: error processing package nginx (--configure):\n"
            " installed nginx package post-installation script subprocess returned error exit status 1\n"
            "Errors were encountered while processing:\n nginx"
        ).replace("\n", end),
    }
    (tmp_path / "account").write_text(
        f"TASK [packages : Install] ****\nfatal: [localhost]: FAILED! => {json.dumps(fatal)}\n"
    )
    ansible = stand_in(tmp_path, f"cat {tmp_path}/account; echo '{RECAP.format(changed=0, failed=1)}'; exit 2")

    with pytest.raises(PlayFailedError) as caught:
        play.run(ansible)

    assert caught.value.why.startswith("E: Sub-process /usr/bin/dpkg returned")
    assert "nginx: installed nginx package post-installation script subprocess returned error" in caught.value.why
    assert (tmp_path / "account").read_text() in caught.value.account


def test_what_was_said_before_the_time_was_up_is_kept(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playbook, "_PLAYBOOK_SECONDS", 0.5)

    with pytest.raises(PlayFailedError) as caught:
        play.run(stand_in(tmp_path, "echo it began; exec sleep 60"))

    assert caught.value.account == "it began\n"


@pytest.mark.parametrize("body", ["exit 4", "echo nothing", f'echo "{RECAP.format(changed=1, failed=1)}"'])
def test_an_account_without_success_is_a_failure(play: Play, tmp_path: Path, body: str) -> None:
    with pytest.raises(InstallError):
        play.run(stand_in(tmp_path, body))


def test_no_ansible_is_a_preflight_error(play: Play, tmp_path: Path) -> None:
    with pytest.raises(PreflightError):
        play.run(tmp_path / "absent")


def test_the_ansible_of_the_installed_release_comes_before_the_bootstraps(play: Play, tmp_path: Path) -> None:
    first = playbook.ansible_of(play.config)
    installed = tmp_path / "opt/sealift/current/host/bin/ansible-playbook"
    installed.parent.mkdir(parents=True)
    installed.write_text("")

    assert first == tmp_path / "opt/sealift/bootstrap/bin/ansible-playbook"
    assert playbook.ansible_of(play.config) == installed


def test_the_account_is_kept_for_root_alone(play: Play, tmp_path: Path) -> None:
    playbook.keep_log(play.config, "one")
    playbook.keep_log(play.config, "two")

    log = tmp_path / "var/lib/sealift/logs/install.log"
    assert log.read_text() == "one\ntwo\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_the_log_is_bounded_and_the_one_of_before_is_kept(play: Play, tmp_path: Path) -> None:
    logs = tmp_path / "var/lib/sealift/logs"
    for text in ("first", "second", "third"):
        playbook.keep_log(play.config, text * 2**19)

    assert sorted(path.name for path in logs.iterdir()) == ["install.log", "install.log.1"]
    assert (logs / "install.log.1").read_text().startswith("second")
    playbook.keep_log(play.config, "last")
    assert (logs / "install.log").read_text() == "last\n"
    assert (logs / "install.log.1").read_text().startswith("third")
    assert {path.stat().st_mode & 0o777 for path in logs.iterdir()} == {0o600}


def test_packages_that_engines_take_from_the_machine_are_demanded_beside_those_of_every_box(play: Play) -> None:
    usual = play.variables()["sealift_packages"]

    needed = replace(play, needs=Needs(packages=frozenset({"libnuma1", "gcc"}))).variables()["sealift_packages"]

    assert needed == [*usual, "gcc", "libnuma1"]
