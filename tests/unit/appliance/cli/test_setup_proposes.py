"""Where backups go, for whom Enter answers all questions: on a USB disk that is here, at a small site."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from appliance.actions.backups.offered import Devices
from appliance.cli import setup, setup_disk
from appliance.cli.context import Context
from appliance.config import Config
from tests.support.installable import places_below
from tests.support.setting_up import TYPED
from tests.support.usbdisks import SYSTEM, Host

PLACE = "/media/sealift-backup"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    (tmp_path / "fstab").write_text("UUID=1-2 / ext4 defaults 0 1\n")
    (tmp_path / "mountinfo").write_text("22 1 254:1 / / rw - ext4 /dev/vda1 rw\n")
    made = Host(SYSTEM, fstype="vfat")
    devices = Devices(tool=made, table=tmp_path / "fstab", mounts=tmp_path / "mountinfo", links=tmp_path / "by-id")
    monkeypatch.setattr(setup_disk, "_devices", lambda _: devices)
    return made


def answered(root: Path, *lines: str, profile: str = "single-cpu") -> dict[str, Any]:
    """Type lines to the questions from that of backups on, Enter to those that are left; return what was answered."""
    config = Config.model_validate({"site": "s", "profile": profile, "places": {"root": str(places_below(root).root)}})
    app = typer.Typer()

    @app.command()
    def asks() -> None:
        own = Context(config_path=root / "sealift.toml", as_json=False)
        print(setup._ask_all(own, config, keep=True).backup.model_dump_json())

    result = CliRunner().invoke(app, [], input="\n".join([*TYPED, *lines, *[""] * 6]))
    assert result.exit_code == 0, (result.exception, result.output)
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def test_enter_takes_the_folder_of_a_disk_that_is_here_and_erases_nothing(tmp_path: Path, host: Host) -> None:
    assert answered(tmp_path) == {"folder": PLACE, "disk": "", "erase": False}
    assert host.changed == []


@pytest.mark.parametrize("profile", ["single-cpu", "cpu"])
def test_without_a_disk_or_at_a_larger_site_nothing_is_proposed(tmp_path: Path, host: Host, profile: str) -> None:
    if profile == "single-cpu":
        host.device = {}

    assert answered(tmp_path, profile=profile)["folder"] == ""


def test_whoever_chose_none_or_was_set_up_without_keeps_none(tmp_path: Path, host: Host) -> None:
    kept = places_below(tmp_path).state / "setup"
    assert answered(tmp_path, "none")["folder"] == ""
    assert answered(tmp_path)["folder"] == ""

    (kept / "answers.toml").unlink()
    (kept / "summary.json").write_text("{}")
    assert answered(tmp_path)["folder"] == ""

    for name in ("answers.toml", "summary.json"):
        (kept / name).unlink()
    assert answered(tmp_path)["folder"] == PLACE
