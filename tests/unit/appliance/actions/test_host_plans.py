"""Who makes the plan of an install: the unit without rights where this machine has it, else whoever installs first."""

from pathlib import Path

import pytest

from appliance.actions import host
from appliance.config import Config, PlacesSection
from appliance.install import planunit
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


def test_the_unit_that_is_looked_for_is_the_one_that_is_started() -> None:
    assert planunit.UNIT.format(serial="") == host._PLAN_UNIT
