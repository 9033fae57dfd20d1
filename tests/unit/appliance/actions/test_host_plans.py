"""Who makes the plan of an install: the unit without rights where this machine has it, else whoever installs first."""

from pathlib import Path

import pytest

from appliance.actions import host
from appliance.config import Config, PlacesSection
from appliance.install import planunit
from appliance.install.account import PlayFailedError, PlayResult
from appliance.install.playbook import Play
from appliance.install.supervisor import SystemdSupervisor
from media.clock import SystemClock


@pytest.mark.parametrize("has_unit", [True, False])
def test_a_first_install_that_was_cut_off_has_no_unit_to_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_unit: bool
) -> None:
    config = Config(site="demo", places=PlacesSection(root=str(tmp_path)))
    asked: list[int] = []
    monkeypatch.setattr(host, "UNIT_FILES", tmp_path)
    monkeypatch.setattr(host, "open_supervisor", lambda *_, **__: SystemdSupervisor())
    monkeypatch.setattr(planunit, "run", lambda _places, _supervisor, serial: asked.append(serial))
    if has_unit:
        (tmp_path / "sealift-plan@.service").touch()

    assert host.Box(config, SystemClock()).planned(1) is None
    assert asked == ([1] if has_unit else [])


def test_the_whole_account_of_a_run_that_failed_is_in_the_log_it_points_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(site="demo", places=PlacesSection(root=str(tmp_path)))
    failed = PlayFailedError(what="the task 'packages : Install'", why="E: dpkg", account="line 1\nline 2")

    def fails(_play: Play, _ansible: Path) -> None:
        raise failed

    monkeypatch.setattr(Play, "run", fails)
    play = Play(config=config, config_file=tmp_path, source=tmp_path, folder=tmp_path, serial=1, environments=())

    with pytest.raises(PlayFailedError):
        host.Box(config, SystemClock()).apply(play, tmp_path)

    log = config.at.state / "logs/install.log"
    assert log.read_text() == "line 1\nline 2\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_what_ansible_warned_of_is_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(site="demo", places=PlacesSection(root=str(tmp_path)))
    done = PlayResult(changed=0, text="TASK\n", warnings="[WARNING]: chroot\n")
    monkeypatch.setattr(Play, "run", lambda *_: done)
    play = Play(config=config, config_file=tmp_path, source=tmp_path, folder=tmp_path, serial=1, environments=())

    host.Box(config, SystemClock()).apply(play, tmp_path)

    assert (config.at.state / "logs/install.log").read_text() == "TASK\n[WARNING]: chroot\n\n"


def test_the_unit_that_is_looked_for_is_the_one_that_is_started() -> None:
    assert planunit.UNIT.format(serial="") == host._PLAN_UNIT
