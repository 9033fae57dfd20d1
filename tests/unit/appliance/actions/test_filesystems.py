"""Which file systems of a box are looked at, and when one counts as short of room or full."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from appliance.actions import filesystems
from appliance.actions.filesystems import FileSystem
from appliance.actions.status import status
from appliance.config import BackupSection, Config, PlacesSection
from media.clock import SystemClock

USAGE = namedtuple("USAGE", "total used free")  # noqa: PYI024 - the shape of shutil's answer


def config(root: Path, *, backup: str = "") -> Config:
    return Config(site="s", places=PlacesSection(root=str(root)), backup=BackupSection(folder=backup))


def of_a_box(backup: str = "") -> Config:
    return config(Path("/"), backup=backup)


@pytest.mark.parametrize(("system", "looked_at"), [(1, {"state", "releases"}), (3, {"state", "releases", "system"})])
def test_the_machine_s_own_file_system_is_one_more_where_it_holds_neither_state_nor_releases(
    system: int, looked_at: set[str]
) -> None:
    found = filesystems.places(of_a_box(), lambda path: system if path == Path("/") else 1)

    assert set(found) == looked_at


def test_below_a_folder_the_machine_s_own_file_system_is_not_looked_at(tmp_path: Path) -> None:
    assert set(filesystems.places(config(tmp_path), lambda path: len(str(path)))) == {"state", "releases"}


def test_a_backup_disk_is_looked_at_while_it_is_plugged_in(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    away = filesystems.places(config(tmp_path, backup=str(disk)))
    disk.mkdir()

    there = filesystems.places(config(tmp_path, backup=str(disk)))

    assert "backup" not in away
    assert there["backup"] == disk


@pytest.mark.parametrize(
    ("free", "is_short", "is_full"), [(4096, False, False), (4095, True, False), (255, True, True)]
)
def test_room_gets_short_before_it_is_gone(free: int, *, is_short: bool, is_full: bool) -> None:
    found = FileSystem(place="state", free=free, least=4096)

    assert (found.is_short, found.is_full) == (is_short, is_full)


def test_the_status_names_what_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    here = config(tmp_path, backup=str(disk))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: USAGE(0, 0, 0 if path == disk else 8 * 2**30))

    found = status(here, clock=SystemClock()).part("disks")

    assert found.is_good is False
    assert found.text == "full: backup; state 8.0 GiB, releases 8.0 GiB, backup 0.0 GiB free"
