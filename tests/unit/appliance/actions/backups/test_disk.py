"""Preparing a USB disk for backups: which are refused, what is done to one, and the line that mounts it."""

from pathlib import Path
from typing import Any

import pytest

from appliance.actions.backups import disk, fstab
from appliance.actions.backups.usbdisk import run_tool
from appliance.audit.memory import MemoryLedger
from appliance.config import BackupSection, Config
from appliance.errors import ConflictError, LedgerUnavailableError, PreflightError, StoreWriteError, UnitError
from appliance.mounttables import fstab_rows
from media.clock import SystemClock
from tests.support.promotion import site_config
from tests.support.usbdisks import EMPTY, Host

PLACE = "/media/sealift-backup"
UUID = "a909fc6c-7602-44dc-8a21-2df3d3ef99a1"
LINE = f"UUID={UUID}  {PLACE}  ext4  nofail,nosuid,nodev,noexec  0  2\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "fstab"
    file.write_text("# disks\nUUID=1-2 / ext4 defaults 0 1")
    return file


@pytest.fixture
def config(tmp_path: Path) -> Config:
    place = str(tmp_path / "backup")
    return site_config(tmp_path).model_copy(update={"backup": BackupSection(folder=place)})


def planned(config: Config, host: Host, table: Path, *, may_erase: bool = False) -> disk.Preparation:
    return disk.plan(config, Path("/dev/sdb"), may_erase=may_erase, tool=host, table=table)


@pytest.mark.parametrize(
    ("device", "why"),
    [
        ({"tran": "nvme"}, "no disk that is plugged in by USB"),
        ({"tran": None}, "no disk that is plugged in by USB"),
        ({"type": "rom"}, "no disk that is plugged in by USB"),
        ({"type": "part", "name": "sdb1"}, "a part of a disk"),
    ],
)
def test_only_a_whole_disk_on_usb_is_prepared(config: Config, table: Path, device: dict[str, Any], why: str) -> None:
    with pytest.raises(PreflightError) as refused:
        planned(config, Host(**device), table, may_erase=True)

    assert why in refused.value.why


@pytest.mark.parametrize(
    ("device", "why", "fix"),
    [
        ({"mountpoints": ["/home"]}, "/home", "another disk"),
        ({"mountpoints": ["[SWAP]"]}, "SWAP", "another disk"),
        ({"children": [{"type": "part", "mountpoints": [None, "/run/sealift/media/sdb1"]}]}, "sdb1", "eject sdb1"),
        ({"children": [{"type": "part", "children": [{"type": "crypt", "mountpoints": ["/"]}]}]}, "crypt", "another"),
        ({"children": [{"type": "raid1", "mountpoints": []}]}, "raid1", "another disk"),
    ],
)
def test_what_the_machine_uses_is_never_erased(
    config: Config, table: Path, device: dict[str, Any], why: str, fix: str
) -> None:
    with pytest.raises(ConflictError) as refused:
        planned(config, Host(**device), table, may_erase=True)

    assert (why in refused.value.why, fix in refused.value.fix) == (True, True), refused.value


@pytest.mark.parametrize(
    "device",
    [{"fstype": "exfat"}, {"pttype": "gpt"}, {"children": [{"type": "part", "fstype": "ntfs", "mountpoints": [None]}]}],
)
def test_a_disk_that_bears_something_is_erased_only_where_that_is_said(
    config: Config, table: Path, device: dict[str, Any]
) -> None:
    with pytest.raises(ConflictError, match="is not empty"):
        planned(config, Host(**device), table)

    assert planned(config, Host(**device), table, may_erase=True).disk.bears != ()


def test_nothing_is_changed_before_somebody_said_yes(config: Config, table: Path) -> None:
    host, before = Host(), table.read_bytes()

    planned(config, host, table)

    assert (host.changed, table.read_bytes()) == ([], before)


def test_a_site_without_a_folder_is_told_to_name_one(config: Config, table: Path) -> None:
    without = config.model_copy(update={"backup": BackupSection(folder="")})

    with pytest.raises(PreflightError, match="no folder"):
        planned(without, Host(), table)


@pytest.mark.parametrize(
    "place", ["/etc", "/usr/share/x", "/var", "/", "/opt", "/var/lib/sealift/backups", "/run/x", "/dev"]
)
def test_no_disk_is_mounted_over_what_the_machine_needs(config: Config, table: Path, place: str) -> None:
    """A line for it stood in /etc/fstab, and what lay there lay below an empty disk, from the next boot on, too."""
    over = config.model_copy(update={"backup": BackupSection(folder=place)})

    with pytest.raises(ConflictError, match=f"no disk for backups is mounted at {place}"):
        planned(over, Host(), table)


def test_no_disk_is_mounted_over_files(config: Config, table: Path, tmp_path: Path) -> None:
    place = tmp_path / "media/backup"
    place.mkdir(parents=True)
    over = config.model_copy(update={"backup": BackupSection(folder=str(place))})
    assert planned(over, Host(), table).place == str(place)

    (place / "somebody's").touch()
    with pytest.raises(ConflictError, match="no disk for backups") as refused:
        planned(over, Host(), table)
    assert "it is not empty" in refused.value.why


def test_further_disks_get_the_uuid_of_the_line_and_no_line_of_their_own(config: Config, table: Path) -> None:
    table.write_text(LINE.replace(PLACE, config.backup.folder))

    made = planned(config, Host(), table)

    assert (made.uuid, made.line) == (UUID, False)


def test_two_disks_of_one_uuid_are_not_there_at_once(config: Config, table: Path) -> None:
    table.write_text(LINE.replace(PLACE, config.backup.folder))
    host = Host({**EMPTY, "name": "sdc", "uuid": UUID})

    with pytest.raises(ConflictError, match="another disk for backups is plugged in"):
        planned(config, host, table)

    host.device["uuid"] = UUID  # the disk itself, once more
    assert planned(config, host, table).uuid == UUID


def test_the_next_disk_that_takes_turns_is_prepared_where_the_one_before_is_pulled_out(
    config: Config, table: Path
) -> None:
    """As this machine's own lsblk says it, which knows no such UUID."""
    table.write_text(LINE.replace(PLACE, config.backup.folder))
    seen = planned(config, Host(), table).disk

    made = disk.plan_for(seen, config.backup.folder, may_erase=False, tool=run_tool, table=table)

    assert (made.uuid, made.line) == (UUID, False)


@pytest.mark.parametrize("lines", [LINE + LINE.replace("a909", "b909"), LINE.replace(f"UUID={UUID}", "/dev/sdb1")])
def test_lines_that_people_wrote_otherwise_are_left_to_them(config: Config, table: Path, lines: str) -> None:
    table.write_text(lines.replace(PLACE, config.backup.folder))

    with pytest.raises(PreflightError, match="/etc/fstab says something else"):
        planned(config, Host(), table)


class RunningLedger(MemoryLedger):
    """A ledger that runs, as far as it is asked here."""

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> MemoryLedger:
    made = RunningLedger(SystemClock())
    monkeypatch.setattr(disk, "open_ledger", lambda *_, **__: made)
    monkeypatch.setattr(disk, "SocketLedger", RunningLedger)
    return made


def test_the_line_stands_before_the_disk_is_formatted_and_is_the_only_change_of_the_table(
    config: Config, table: Path, ledger: MemoryLedger
) -> None:
    host, before = Host(), table.read_text()
    made = planned(config, host, table)

    sequence = disk.prepare(config, made, clock=SystemClock(), tool=host, table=table)

    added = table.read_text().removeprefix(before + "\n")
    assert fstab.sources(added, made.place) == [f"UUID={made.uuid}"]
    assert "nofail,nosuid,nodev,noexec" in added
    assert host.changed.index("systemctl") < host.changed.index("mkfs.ext4") < host.changed.index("mount")
    (mkfs,) = (command for command in host.asked if command[0] == "mkfs.ext4")
    assert (mkfs[-1], made.uuid in mkfs) == ("/dev/sdb", True)
    (leaf,) = ledger.find(kind=disk.PREPARED, limit=2)
    assert leaf.sequence == sequence
    assert leaf.body == {"uuid": made.uuid, "bytes": 10**12, "erased": [], "line": True}


def test_what_failed_half_way_goes_on_with_the_same_uuid_and_one_line(
    config: Config, table: Path, ledger: MemoryLedger
) -> None:
    host = Host()
    host.breaks = "mkfs.ext4"
    first = planned(config, host, table)
    with pytest.raises(StoreWriteError):
        disk.prepare(config, first, clock=SystemClock(), tool=host, table=table)
    assert ledger.find(kind=disk.PREPARED, limit=1) == []

    host.breaks = ""
    second = planned(config, host, table)
    disk.prepare(config, second, clock=SystemClock(), tool=host, table=table)

    assert (second.uuid, second.line) == (first.uuid, False)
    assert len(fstab.sources(table.read_text(), second.place)) == 1


def test_what_was_cut_off_after_the_mount_is_recorded_by_the_same_command_once(
    config: Config, table: Path, ledger: MemoryLedger
) -> None:
    host = Host()
    host.breaks = "systemd-tmpfiles"
    made = planned(config, host, table)
    with pytest.raises(StoreWriteError):
        disk.prepare(config, made, clock=SystemClock(), tool=host, table=table)
    host.breaks = ""
    formatted = host.changed.count("mkfs.ext4")

    def finished() -> int | None:
        return disk.finish(config, Path("/dev/sdb"), clock=SystemClock(), tool=host, table=table)

    sequence = finished()

    (leaf,) = ledger.find(kind=disk.PREPARED, limit=2)
    assert (leaf.sequence, leaf.body["uuid"]) == (sequence, made.uuid)
    assert host.changed.count("mkfs.ext4") == formatted
    assert host.changed.count("systemd-tmpfiles") == 2
    assert finished() is None
    host.restarted()
    assert finished() is None


def test_a_disk_that_is_not_where_it_belongs_in_the_end_is_not_called_prepared(
    config: Config, table: Path, ledger: MemoryLedger
) -> None:
    host = Host()
    host.mounts = False

    with pytest.raises(UnitError, match="is not mounted"):
        disk.prepare(config, planned(config, host, table), clock=SystemClock(), tool=host, table=table)

    assert ledger.find(kind=disk.PREPARED, limit=1) == []


@pytest.mark.parametrize("device", [{"serial": "X2"}, {"mountpoints": ["/mnt"]}])
def test_a_disk_that_was_swapped_while_somebody_thought_is_not_touched(
    config: Config, table: Path, ledger: MemoryLedger, device: dict[str, Any]
) -> None:
    host, before = Host(), table.read_bytes()
    made = planned(config, host, table)
    host.device |= device

    with pytest.raises(ConflictError, match="not what it was"):
        disk.prepare(config, made, clock=SystemClock(), tool=host, table=table)

    assert (host.changed, table.read_bytes()) == ([], before)


def test_without_a_ledger_nothing_is_touched(config: Config, table: Path) -> None:
    host, before = Host(), table.read_bytes()
    made = planned(config, host, table)

    with pytest.raises(LedgerUnavailableError):
        disk.prepare(config, made, clock=SystemClock(), tool=host, table=table)

    assert (host.changed, table.read_bytes()) == ([], before)


@pytest.mark.parametrize(
    ("lines", "mounted", "is_good"),
    [
        ("", ["/"], False),
        (f"#{LINE}", ["/"], False),
        (LINE, ["/"], True),
        (LINE.replace(PLACE, f"{PLACE}/"), ["/"], True),
        (LINE + LINE.replace("a909", "b909"), ["/", PLACE], False),
        ("", ["/", PLACE], None),
        ("", ["/", "/media"], None),
    ],
)
def test_doctor_says_whether_a_disk_that_is_plugged_in_would_be_mounted(
    config: Config,
    table: Path,
    lines: str,
    mounted: list[str],
    is_good: bool | None,  # noqa: FBT001 - a case
) -> None:
    table.write_text(lines)
    site = config.model_copy(update={"backup": BackupSection(folder=PLACE)})

    found = fstab.standing(site, fstab=table, mounted=mounted)

    assert (found.is_good if found else None) == is_good
    for section in (BackupSection(folder=""), BackupSection(folder=PLACE, on_system_disk=True)):
        assert fstab.standing(config.model_copy(update={"backup": section}), fstab=table, mounted=["/"]) is None


@pytest.mark.parametrize("place", ["/media/second disk", "/media/a\\040b", "/media/Sicherung äöü"])
def test_a_place_with_a_blank_has_one_line_that_names_it(place: str) -> None:
    text = fstab.with_line("# disks\n", UUID, place)

    (row,) = fstab_rows(text)
    assert (len(row), row[2], row[3]) == (6, "ext4", fstab.OPTIONS)
    assert fstab.sources(text, place) == [f"UUID={UUID}"]
