"""Reading unit files: what systemd would read, with a box's paths mapped below a folder."""

from pathlib import Path

import pytest

from appliance.audit.rights import DOORS
from appliance.config import Config, PlacesSection
from appliance.errors import InstallError, UnitError
from appliance.install import hostfiles
from appliance.install.unit_files import BoxPaths, UnitFiles, seconds


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "opt/sealift/current").mkdir(parents=True)
    return Config(site="s", places=PlacesSection(root=str(tmp_path), run="/run/sl-absent"))


def files(config: Config) -> UnitFiles:
    return UnitFiles(hostfiles.folder("systemd"), BoxPaths.of(config, config.at.config_file))


def test_an_engine_of_the_real_units_is_read_with_its_instance_and_paths(config: Config, tmp_path: Path) -> None:
    unit = files(config).service(f"sealift-engine-production@{'a' * 12}.service")

    assert unit.command[0] == f"{tmp_path}/opt/sealift/engines/{'a' * 12}/bin/python"
    assert unit.command[-1] == f"production-{'a' * 12}"
    assert unit.command[-3] == str(config.at.config_file)
    assert [(one.door, str(one.path)) for one in unit.sockets] == [
        ("engine", f"/run/sl-absent/engine-production-{'a' * 12}.sock")
    ]
    assert {44, 81} <= unit.prevented_exits
    assert unit.start_timeout_seconds == 1800


def test_the_ledger_of_the_real_units_has_its_doors_and_its_key(config: Config) -> None:
    unit = files(config).service("sealift-ledger.service")

    assert {one.door for one in unit.sockets} == set(DOORS)
    names = ("ledger-checkpoint", "ledger-mldsa")
    assert unit.credentials == {name: config.at.key_files / f"{name}.v1" for name in names}
    assert (unit.kind, unit.restarts, unit.umask, unit.state_mode) == ("notify", True, 0o077, 0o700)


def test_what_listens_on_a_port_of_a_box_has_its_socket_alone_here(config: Config) -> None:
    unit = files(config).service("sealift-alerts.service")

    assert [(one.door, str(one.path)) for one in unit.sockets] == [("alerts", "/run/sl-absent/alerts.sock")]


def test_every_service_of_the_target_is_there_and_waits_only_for_others_of_it(config: Config) -> None:
    read = files(config)
    wanted = read.wanted_by_target()

    assert wanted[0] == "sealift-ledger.service"
    assert all(read.service(name).command for name in wanted)


def test_before_the_first_install_units_run_from_this_programs_environment(tmp_path: Path) -> None:
    config = Config(site="s", places=PlacesSection(root=str(tmp_path)))

    unit = files(config).service("sealift-ledger.service")

    assert Path(unit.command[0]).exists()


@pytest.mark.parametrize("name", ["sealift-absent.service", "ssh.service", "../sealift-ledger.service"])
def test_a_unit_that_is_not_ours_or_not_there_is_refused(config: Config, name: str) -> None:
    with pytest.raises(UnitError):
        files(config).service(name)


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("20ms", 0.02), ("2min", 120), ("1h", 3600), ("5s", 5)])
def test_time_spans_are_read(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "1d"])
def test_other_time_spans_are_refused(text: str) -> None:
    with pytest.raises(UnitError):
        seconds(text)


def test_only_whole_leading_paths_of_a_box_are_mapped(config: Config) -> None:
    here = BoxPaths.of(config, config.at.config_file).here

    assert here("/etc/sealift") == str(config.at.etc)
    assert here("/etc/sealiftx/a") == "/etc/sealiftx/a"
    assert here("--x=/etc/sealift") == "--x=/etc/sealift"


def test_host_files_are_found_or_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (hostfiles.folder("ansible") / "site.yml").is_file()

    monkeypatch.setattr(hostfiles, "_PACKAGE", tmp_path / "appliance")
    with pytest.raises(InstallError):
        hostfiles.folder("systemd")
