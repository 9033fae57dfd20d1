"""Low ports are opened in the network of a trial, and never in the machine's."""

from pathlib import Path

import pytest

from appliance.errors import InstallError
from appliance.install.lowports import open_low_ports


def _networks(folder: Path) -> tuple[Path, Path]:
    found = folder / "own", folder / "machine"
    for one in found:
        one.touch()
    return found


def test_any_user_may_open_low_ports_in_another_network_than_the_machines(tmp_path: Path) -> None:
    setting = tmp_path / "first"
    setting.write_text("1024")

    open_low_ports(_networks(tmp_path), setting)

    assert setting.read_text() == "0"


def test_in_the_machines_network_nothing_is_changed(tmp_path: Path) -> None:
    setting = tmp_path / "first"
    setting.write_text("1024")
    own, _ = _networks(tmp_path)

    with pytest.raises(InstallError) as refused:
        open_low_ports((own, own), setting)
    assert "machine's own network" in refused.value.why

    assert setting.read_text() == "1024"


def test_what_cannot_be_told_or_set_is_refused(tmp_path: Path) -> None:
    own, machine = _networks(tmp_path)

    for networks, setting in (((own, tmp_path / "none"), tmp_path / "first"), ((own, machine), own / "first")):
        with pytest.raises(InstallError):
            open_low_ports(networks, setting)
