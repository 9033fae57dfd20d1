"""Which file systems of a box are looked at, and when one counts as short of room or full."""

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.actions import doctor_machine, filesystems, ledger_room
from appliance.actions.filesystems import FileSystem
from appliance.actions.status import status
from appliance.audit import room
from appliance.audit.room import Standing
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


def own_disk(*, free: int, size: int, apart: bool = True) -> Standing:
    return Standing(closing=False, wanted=64, held=64, free=free, size=size, apart=apart)


def test_a_ledger_with_a_file_system_of_its_own_is_asked_for_its_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario: nobody but the ledger may look there; it is 85 % full, and its reserve is whole."""
    said = [own_disk(free=150, size=1000), own_disk(free=150, size=1000, apart=False), None]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: USAGE(0, 0, 8 * 2**30))
    rows = []
    for one in said:
        monkeypatch.setattr(room, "asked", lambda _, told=one: told)
        rows.append(list(doctor_machine.room(config(tmp_path))))

    (ledger,) = (row for row in rows[0] if row.name == "room for ledger")
    assert ledger.is_good is False
    assert [{row.name for row in found} for found in rows[1:]] == [{"room for state", "room for releases"}] * 2


def test_monitoring_is_told_of_the_ledger_s_own_disk_and_of_nobody_else_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    for apart in (True, False):
        said = own_disk(free=150, size=1000, apart=apart)
        monkeypatch.setattr(room, "asked", lambda _, said=said: said)
        told.append({(name, *labels.values()): value for name, value, labels in ledger_room.numbers(config(tmp_path))})

    assert told[0]["sealift_disk_size_bytes", "ledger"] == 1000
    assert told[0]["sealift_disk_available_bytes", "ledger"] == 150
    assert not any("ledger" in labels for _, *labels in told[1])


def test_what_helps_on_a_full_disk_of_the_ledger_s_own_is_not_to_delete_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = replace(own_disk(free=0, size=1000), closing=True, held=0)
    monkeypatch.setattr(room, "asked", lambda _: full)
    mounts = tmp_path / "mountinfo"
    mounts.write_text("22 1 254:1 / / rw - ext4 /dev/vda1 rw\n")

    (found,) = ledger_room.findings(config(tmp_path), mounts)

    assert (found.is_good, found.why) == (False, "the disk of the ledger is full")
    assert "larger" in found.fix
    assert "models delete" not in found.fix
