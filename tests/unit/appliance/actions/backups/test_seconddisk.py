"""The disk of backups in a guided install: which are offered, what is done to the one that was shown, how it fails.

The ledger that runs is a real one; the disks are said by lsblk, because no machine for tests has any on USB.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.actions.backups import disk, fstab
from appliance.actions.backups.offered import Devices
from appliance.actions.backups.seconddisk import SecondDisk, State
from appliance.audit.rights import ACTIONS
from appliance.config import BackupSection, Config
from media.clock import SystemClock
from tests.support.ledger import LedgerSite, ledger_site
from tests.support.usbdisks import EMPTY, SYSTEM, Host

UUID = "a909fc6c-7602-44dc-8a21-2df3d3ef99a1"
LINK = "usb-Maker_Portable_X1-0:0"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LedgerSite]:
    with ledger_site(tmp_path / "b") as made:
        yield made


@pytest.fixture
def config(box: LedgerSite, tmp_path: Path) -> Config:
    return box.config.model_copy(update={"backup": BackupSection(folder=str(tmp_path / "backup"))})


@pytest.fixture
def links(tmp_path: Path) -> Path:
    folder = tmp_path / "by-id"
    folder.mkdir()
    (folder / LINK).symlink_to("../../sdb")
    return folder


def devices_of(tmp_path: Path, host: Host, *, mounted: str = "/") -> Devices:
    mounts, table = tmp_path / "mountinfo", tmp_path / "fstab"
    mounts.write_text(f"22 1 254:1 / {mounted} rw - ext4 /dev/vda1 rw\n")
    if not table.exists():
        table.write_text("UUID=1-2 / ext4 defaults 0 1\n")
    return Devices(tool=host, table=table, mounts=mounts, links=tmp_path / "by-id")


def second_disk(config: Config, tmp_path: Path, host: Host, chosen: str = "X1") -> SecondDisk:
    return SecondDisk(config=config, clock=SystemClock(), chosen=chosen, devices=devices_of(tmp_path, host))


def offers(config: Config, tmp_path: Path, host: Host) -> dict[str, str]:
    found = second_disk(config, tmp_path, host).offers()
    return {one.disk.name: one.refusal.why if one.refusal else "" for one in found}


def lined(config: Config, tmp_path: Path) -> None:
    (tmp_path / "fstab").write_text(fstab.with_line("", UUID, config.backup.folder))


def records(box: LedgerSite) -> list[tuple[int | None, list[str]]]:
    ledger = box.door(ACTIONS)
    try:
        return [(leaf.sequence, leaf.body["erased"]) for leaf in ledger.find(kind=disk.PREPARED, limit=5)]
    finally:
        ledger.close()


@pytest.mark.parametrize(
    ("device", "why"),
    [
        ({}, ""),
        ({"fstype": "vfat"}, ""),
        ({"tran": "sata"}, "no disk that is plugged in by USB"),
        ({"mountpoints": ["/run/sealift/media/sdb"]}, "mounted at /run/sealift/media/sdb"),
        ({"children": [{"type": "crypt", "mountpoints": []}]}, "part of crypt"),
        ({"children": [{"type": "part", "fstype": "ext4", "label": "backup"}]}, "prepared for backups before"),
        ({"serial": ""}, "no serial number"),
        ({"serial": "sdq"}, "no serial number"),
    ],
)
def test_each_disk_is_shown_with_the_reason_why_it_cannot_be_used(
    config: Config, tmp_path: Path, device: dict[str, Any], why: str
) -> None:
    host = Host(SYSTEM, {**EMPTY, "name": "sr0", "type": "rom"}, {**EMPTY, "name": "sdz", "size": 0}, **device)

    found = offers(config, tmp_path, host)

    assert sorted(found) == ["sdb", "vda"]
    assert found["vda"]
    assert why in found["sdb"]
    assert bool(found["sdb"]) == bool(why)
    assert host.changed == []


def test_disks_that_can_be_used_come_first(config: Config, tmp_path: Path) -> None:
    first = {**EMPTY, "name": "sda", "serial": "X0", "tran": "sata"}

    assert list(offers(config, tmp_path, Host(first, SYSTEM))) == ["sdb", "sda", "vda"]


@pytest.mark.parametrize("name", ["X1", LINK])
def test_a_disk_is_known_by_its_serial_number_or_its_lasting_name(
    config: Config, tmp_path: Path, links: Path, name: str
) -> None:
    planned = second_disk(config, tmp_path, Host(SYSTEM), name).planned()

    assert (planned.state, planned.disk.name if planned.disk else "") == (State.PLANNED, "sdb")


def test_two_disks_of_one_serial_number_are_both_left_alone(config: Config, tmp_path: Path, links: Path) -> None:
    host = Host({**EMPTY, "name": "sdc"})

    by_serial, by_link = (second_disk(config, tmp_path, host, name).planned() for name in ("X1", LINK))

    assert (by_serial.state, by_link.state) == (State.REFUSED, State.REFUSED)
    assert "sdb, sdc" in by_serial.why


def test_what_was_planned_is_done_and_recorded_and_the_next_setup_erases_nothing(
    box: LedgerSite, config: Config, tmp_path: Path
) -> None:
    host = Host(SYSTEM, fstype="vfat")
    second = second_disk(config, tmp_path, host)

    with box.running():
        planned = second.planned()
        assert host.changed == []
        done = second.prepared(planned)
        before = list(host.changed)
        again = second.prepared(second.planned())
        host.restarted()
        mounted = second.prepared(second.planned())
        recorded = records(box)

    assert (planned.state, done.state) == (State.PLANNED, State.PREPARED)
    assert planned.made is not None
    assert fstab.sources((tmp_path / "fstab").read_text(), config.backup.folder) == [f"UUID={planned.made.uuid}"]
    assert (again.state, mounted.state) == (State.STANDS, State.STANDS)
    assert "mkfs.ext4" in before
    assert host.changed[len(before) :] == ["mount", "systemd-tmpfiles"]
    assert recorded == [(done.sequence, ["vfat"])]


@pytest.mark.parametrize("breaks", ["wipefs", "mkfs.ext4", "mount"])
def test_a_step_that_fails_stops_nobody_names_the_command_and_is_finished_by_the_next_setup(
    box: LedgerSite, config: Config, tmp_path: Path, breaks: str
) -> None:
    host = Host(SYSTEM)
    second = second_disk(config, tmp_path, host)
    host.breaks = breaks

    with box.running():
        failed = second.prepared(second.planned())
        host.breaks = ""
        done = second.prepared(second.planned())
        recorded = records(box)

    assert (failed.state, failed.what) == (State.FAILED, "it broke")
    assert "`sealift backup disk /dev/sdb --erase`" in failed.fix
    assert done.state in {State.PREPARED, State.STANDS}
    assert config.backup.folder in host.device["mountpoints"]
    assert [number for number, _ in recorded] == [done.sequence]
    assert host.changed.count("mkfs.ext4") == 1 + (breaks == "mkfs.ext4")
    assert len(fstab.sources((tmp_path / "fstab").read_text(), config.backup.folder)) == 1


def test_without_a_ledger_the_disk_is_not_touched(config: Config, tmp_path: Path) -> None:
    host = Host(SYSTEM)
    second = second_disk(config, tmp_path, host)

    failed = second.prepared(second.planned())

    assert (failed.state, host.changed) == (State.FAILED, [])
    assert "cannot be recorded" in failed.what


@pytest.mark.parametrize("device", [{"serial": "X2"}, {"fstype": "ext4"}, {"size": 5}, {"mountpoints": ["/mnt"]}])
def test_a_disk_that_is_another_one_after_the_install_is_not_touched(
    box: LedgerSite, config: Config, tmp_path: Path, device: dict[str, Any]
) -> None:
    host = Host(SYSTEM)
    second = second_disk(config, tmp_path, host)
    planned = second.planned()
    host.device |= device

    with box.running():
        failed = second.prepared(planned)

    assert (failed.state, host.changed) == (State.FAILED, [])
    assert "/dev/sdb" not in failed.fix


def test_a_disk_of_backups_whose_line_is_taken_out_meanwhile_is_not_erased(
    box: LedgerSite, config: Config, tmp_path: Path
) -> None:
    lined(config, tmp_path)
    host = Host(SYSTEM, fstype="ext4", label="by hand", uuid=UUID)
    second = second_disk(config, tmp_path, host)
    planned = second.planned()
    (tmp_path / "fstab").write_text("")

    with box.running():
        failed = second.prepared(planned)

    assert (planned.state, failed.state, host.changed) == (State.STANDS, State.FAILED, [])


def test_a_disk_of_backups_that_cannot_be_mounted_is_not_proposed_to_be_erased(
    box: LedgerSite, config: Config, tmp_path: Path
) -> None:
    lined(config, tmp_path)
    host = Host(SYSTEM, fstype="ext4", uuid=UUID)
    host.breaks = "mount"
    second = second_disk(config, tmp_path, host)

    with box.running():
        failed = second.prepared(second.planned())

    assert failed.state is State.FAILED
    assert ("erase" in failed.fix, f"`mount {config.backup.folder}`" in failed.fix) == (False, True)


def test_a_place_that_cannot_be_made_stops_nobody(box: LedgerSite, config: Config, tmp_path: Path) -> None:
    (tmp_path / "backup").write_text("a file in its way")
    second = second_disk(config, tmp_path, Host(SYSTEM))

    with box.running():
        failed = second.prepared(second.planned())

    assert (failed.state, failed.why) == (State.FAILED, "File exists")
    assert "`sealift backup disk /dev/sdb --erase`" in failed.fix


def test_a_disk_that_the_kernel_names_otherwise_after_the_install_is_found(
    box: LedgerSite, config: Config, tmp_path: Path
) -> None:
    host = Host(SYSTEM)
    second = second_disk(config, tmp_path, host)
    planned = second.planned()
    host.device["name"] = "sdd"

    with box.running():
        done = second.prepared(planned)

    assert done.state is State.PREPARED
    assert [command[-1] for command in host.asked if command[0] == "mkfs.ext4"] == ["/dev/sdd"]


def test_a_disk_that_is_not_there_or_that_nobody_chose_is_said_and_stops_nothing(
    config: Config, tmp_path: Path
) -> None:
    host = Host(SYSTEM)

    absent, later = (second_disk(config, tmp_path, host, name) for name in ("X9", ""))

    for second, state in ((absent, State.ABSENT), (later, State.LATER)):
        planned = second.planned()
        assert planned.state is state
        assert "sealift backup disk DEVICE" in planned.fix
        assert second.prepared(planned) == planned
    assert host.changed == []


def test_what_is_left_for_later_is_not_prepared(config: Config, tmp_path: Path) -> None:
    host = Host(SYSTEM)
    second = second_disk(config, tmp_path, host)

    left = second.prepared(second.planned().left("its name was not typed"))

    assert (left.state, left.why, host.changed) == (State.LATER, "its name was not typed", [])
    assert "/dev/sdb" in left.fix


@pytest.mark.parametrize(
    ("section", "mounted", "why"),
    [
        ({"folder": ""}, "/", "no place yet"),
        ({"on_system_disk": True}, "/", "the system's own disk"),
        ({}, "PLACE", "something is mounted at"),
    ],
)
def test_a_site_that_needs_no_disk_is_offered_none(
    config: Config, tmp_path: Path, section: dict[str, Any], mounted: str, why: str
) -> None:
    backup = config.backup.model_copy(update=section)
    host = Host(SYSTEM)
    devices = devices_of(tmp_path, host, mounted=mounted.replace("PLACE", config.backup.folder))
    site = config.model_copy(update={"backup": backup})

    second = SecondDisk(config=site, clock=SystemClock(), chosen="X1", devices=devices)

    assert why in second.unneeded()
    assert second.planned().state is State.NONE
    assert "a site below a folder" in replace(second, config=config, devices=None).unneeded()
    assert host.asked == []


def test_a_table_that_people_wrote_otherwise_is_left_to_them(config: Config, tmp_path: Path) -> None:
    (tmp_path / "fstab").write_text(f"nas:/backup {config.backup.folder} nfs defaults 0 0\n")

    planned = second_disk(config, tmp_path, Host(SYSTEM)).planned()

    assert (planned.state, "nas:/backup" in planned.why) == (State.REFUSED, True)


def test_another_disk_of_the_line_is_pulled_out_before_this_one_is_prepared(config: Config, tmp_path: Path) -> None:
    lined(config, tmp_path)
    host = Host({**EMPTY, "name": "sdc", "serial": "X2", "fstype": "ext4", "label": "backup", "uuid": UUID})

    refused, other = (second_disk(config, tmp_path, host, name).planned() for name in ("X1", "X2"))

    assert (refused.state, other.state) == (State.REFUSED, State.STANDS)
    assert "pull it out" in refused.fix
