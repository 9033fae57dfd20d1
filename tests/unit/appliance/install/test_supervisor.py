"""The supervisor port: names, systemctl as a stand-in executable, and the control socket's absence."""

from pathlib import Path

import pytest

from appliance.config import Config, PlacesSection
from appliance.errors import UnitError
from appliance.install.supervisor import (
    RunUnitsSupervisor,
    SystemdSupervisor,
    UnitState,
    engine_of,
    engine_unit,
    open_supervisor,
    require_unit_name,
    which_of,
)
from tests.support.supervisor import FakeSupervisor

ENGINE = f"sealift-engine-production@{'a' * 12}.service"


def stand_in(folder: Path, body: str) -> str:
    path = folder / "systemctl"
    path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n{body}\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    "name", ["sealift-ledger.service", "sealift-ledger.socket", "sealift.target", ENGINE, "sealift-receive@3.service"]
)
def test_our_unit_names_are_accepted(name: str) -> None:
    assert require_unit_name(name) == name


@pytest.mark.parametrize(
    "untrusted",
    [
        "ssh.service",
        "sealift-engine-test@../x.service",
        "--now",
        "sealift-ledger",
        "sealift-ledger.service\n",
        "",
        "s" * 200,
        f"sealift-{'a' * 200}.service",
    ],
)
def test_any_other_name_never_reaches_a_supervisor(untrusted: str) -> None:
    with pytest.raises(UnitError):
        require_unit_name(untrusted)


def test_an_engine_unit_carries_stage_and_twelve_digits() -> None:
    assert engine_unit("production", "a" * 64) == ENGINE


@pytest.mark.parametrize("which", ["", "2", "9", "cpu", "standby"])
def test_each_engine_of_a_version_has_a_unit_that_is_read_back(which: str) -> None:
    unit = engine_unit("production", "a" * 64, which)

    assert require_unit_name(unit) == unit
    assert (engine_of(unit), which_of(unit)) == (("production", "a" * 12), which)


@pytest.mark.parametrize(
    ("stage", "digest", "which"),
    [
        *[("Production", "a" * 64, ""), ("a b", "a" * 64, ""), ("test", "a" * 12, ""), ("test", "a" * 64, "2")],
        *[("production", "a" * 64, which) for which in ("1", "10", "cpu ", "gpu", "-2", "2/x")],
    ],
)
def test_an_engine_unit_of_anything_else_is_refused(stage: str, digest: str, which: str) -> None:
    with pytest.raises(UnitError):
        engine_unit(stage, digest, which)


def test_systemd_is_asked_without_a_password_prompt(tmp_path: Path) -> None:
    supervisor = SystemdSupervisor(systemctl=stand_in(tmp_path, "exit 0"))

    supervisor.start(ENGINE)
    supervisor.stop(ENGINE)

    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [
        f"--no-ask-password {verb} {ENGINE}" for verb in ("reset-failed", "start", "enable", "disable", "stop")
    ]


def test_an_engine_that_rests_is_back_after_a_boot(tmp_path: Path) -> None:
    supervisor = SystemdSupervisor(systemctl=stand_in(tmp_path, "exit 0"))

    supervisor.rest(ENGINE)

    assert (tmp_path / "asked").read_text() == f"--no-ask-password stop {ENGINE}\n"


def test_an_engine_is_killed_whole(tmp_path: Path) -> None:
    supervisor = SystemdSupervisor(systemctl=stand_in(tmp_path, "exit 0"))

    supervisor.kill(ENGINE)

    assert (tmp_path / "asked").read_text() == f"--no-ask-password --signal=KILL kill {ENGINE}\n"


def test_an_engine_under_test_is_not_there_after_a_boot(tmp_path: Path) -> None:
    supervisor = SystemdSupervisor(systemctl=stand_in(tmp_path, "exit 0"))

    supervisor.start(ENGINE.replace("production", "test"))

    assert "enable" not in (tmp_path / "asked").read_text()


def test_a_unit_that_systemd_cannot_start_is_an_error_with_the_command_to_run(tmp_path: Path) -> None:
    supervisor = SystemdSupervisor(systemctl=stand_in(tmp_path, "exit 1"))

    with pytest.raises(UnitError) as caught:
        supervisor.start(ENGINE)

    assert caught.value.fix == f"read `journalctl -u {ENGINE}`"


def test_a_start_that_takes_too_long_is_an_error(tmp_path: Path) -> None:
    supervisor = SystemdSupervisor(systemctl=stand_in(tmp_path, "exec sleep 5"), start_seconds=0)

    with pytest.raises(UnitError):
        supervisor.start(ENGINE)


@pytest.mark.parametrize(("said", "state"), [("active", UnitState.ACTIVE), ("maintenance", UnitState.INACTIVE)])
def test_a_state_is_read_from_systemd(tmp_path: Path, said: str, state: UnitState) -> None:
    supervisor = SystemdSupervisor(systemctl=stand_in(tmp_path, f"echo {said}"))

    assert supervisor.state(ENGINE) is state


def test_only_our_units_are_listed(tmp_path: Path) -> None:
    rows = f"{ENGINE} loaded failed failed Engine\\nsealift-Odd.service loaded active running Odd\\n"
    supervisor = SystemdSupervisor(systemctl=stand_in(tmp_path, f"printf '{rows}'"))

    listed = supervisor.units()

    assert [(facts.name, facts.state) for facts in listed] == [(ENGINE, UnitState.FAILED)]


def test_systemd_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnitError):
        SystemdSupervisor(systemctl=str(tmp_path / "absent")).units()
    with pytest.raises(UnitError):
        SystemdSupervisor(systemctl=str(tmp_path / "absent")).start(ENGINE)


def test_no_control_socket_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UnitError) as caught:
        RunUnitsSupervisor(tmp_path / "units.sock").state(ENGINE)

    assert "sealift run-units" in caught.value.fix


def test_a_folder_as_root_is_supervised_by_run_units(tmp_path: Path) -> None:
    config = Config(site="s", places=PlacesSection(root=str(tmp_path)))

    assert isinstance(open_supervisor(config), RunUnitsSupervisor)


def test_the_fake_keeps_the_contract() -> None:
    supervisor = FakeSupervisor(broken=frozenset({"sealift-gateway.service"}))

    supervisor.start(ENGINE)
    with pytest.raises(UnitError):
        supervisor.start("sealift-gateway.service")

    assert supervisor.state(ENGINE) is UnitState.ACTIVE
    assert [facts.name for facts in supervisor.units()] == [ENGINE, "sealift-gateway.service"]
