"""What is mounted and what is not: types, devices in use, how many; and what is written down of it."""

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.config import Config, MediaSection, PlacesSection
from appliance.install import arrivals, mediaunit
from appliance.install.mediaunit import Kernel, Refusal, check, probe, require_free, require_type
from media.clock import FixedClock
from tests.support.unit_files import SYSTEMD, values

CLOCK = FixedClock(datetime(2026, 11, 20, 12, 0, tzinfo=UTC))
MKFS = shutil.which("mkfs.ext4") or "/usr/sbin/mkfs.ext4"
MKFAT = shutil.which("mkfs.vfat") or "/usr/sbin/mkfs.vfat"


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    found = Kernel(
        block=tmp_path / arrivals.BLOCK,
        devices=tmp_path / "dev",
        mounts=tmp_path / "mountinfo",
        fstab=tmp_path / "fstab",
    )
    found.devices.mkdir()
    found.mounts.write_text("")
    return found


def config_of(tmp_path: Path, **media: object) -> Config:
    section = MediaSection.model_validate(media)
    return Config(site="demo", environment="demo", places=PlacesSection(root=str(tmp_path)), media=section)


def stick(kernel: Kernel, name: str = "sdb1", *, label: str = "STICK", make: str = "ext4") -> Path:
    device = kernel.devices / name
    device.write_bytes(b"")
    os.truncate(device, 2**21)
    command = [MKFS, "-q", "-O", "^has_journal", "-L", label] if make == "ext4" else [MKFAT, "-n", label]
    subprocess.run([*command, str(device)], check=True, capture_output=True)
    (kernel.block / name / "holders").mkdir(parents=True)
    (kernel.block / name / "size").write_text("4096\n")
    return device


def in_use(device: Path, at: str) -> str:
    number = device.stat().st_rdev
    return f"30 1 {os.major(number)}:{os.minor(number)} / {at} rw - ext4 {device} rw\n"


def test_a_medium_of_an_allowed_type_gets_a_table_of_one_line_that_only_reads(tmp_path: Path, kernel: Kernel) -> None:
    config = config_of(tmp_path, filesystems=["ext4"])
    stick(kernel)

    assert check(config, "sdb1", kernel=kernel, clock=CLOCK) == 0

    (line,) = mediaunit.table(config, "sdb1").read_text().splitlines()
    source, target, kind, options, *_ = line.split()
    assert (source, target, kind) == (str(kernel.devices / "sdb1"), str(config.at.media / "sdb1"), "ext4")
    assert {"ro", "nosuid", "nodev", "noexec", "noload"} <= set(options.split(","))
    # Until mount(8) has answered it is not shown as mounted.
    arrival = arrivals.arrived(config.at, "sdb1")
    assert (arrival.state, arrival.label, arrival.bytes) == ("refused", "STICK", 2**21)


def test_a_refused_medium_says_why_and_has_no_table(tmp_path: Path, kernel: Kernel) -> None:
    config = config_of(tmp_path)
    stick(kernel)

    assert check(config, "sdb1", kernel=kernel, clock=CLOCK) == mediaunit.SKIPPED

    assert not mediaunit.table(config, "sdb1").exists()
    arrival = arrivals.arrived(config.at, "sdb1")
    assert not arrival.is_mounted
    assert arrival.why == "its file system is ext4; this site takes vfat, exfat, iso9660, udf"


@pytest.mark.parametrize("filesystem", ["ntfs", "xfs", "btrfs", "squashfs", "crypto_LUKS", "", "vfat,ntfs"])
def test_types_that_are_on_no_list_are_refused_whatever_the_site_says(tmp_path: Path, filesystem: str) -> None:
    with pytest.raises(Refusal):
        require_type(config_of(tmp_path, filesystems=["vfat", "exfat", "iso9660", "udf", "ext4"]), filesystem)


def test_every_type_that_a_site_may_name_has_its_options(tmp_path: Path) -> None:
    every = ["vfat", "exfat", "iso9660", "udf", "ext4"]
    for filesystem in every:
        require_type(config_of(tmp_path, filesystems=every), filesystem)
    assert set(mediaunit.OPTIONS) == set(every)


def test_what_bears_no_file_system_is_refused(kernel: Kernel) -> None:
    (kernel.devices / "sdb").write_bytes(bytes(2**20))
    with pytest.raises(Refusal, match="no file system"):
        probe(kernel.devices / "sdb")
    with pytest.raises(Refusal, match="no file system"):
        probe(kernel.devices / "gone")


def test_two_file_systems_in_one_place_are_refused(tmp_path: Path, kernel: Kernel) -> None:
    answers = tmp_path / "blkid"
    answers.write_text("#!/bin/sh\nexit 8\n")
    answers.chmod(0o755)
    with pytest.raises(Refusal, match="more than one"):
        probe(kernel.devices / "sdb", blkid=str(answers))


def test_a_label_becomes_printable_text(tmp_path: Path, kernel: Kernel) -> None:
    answers = tmp_path / "blkid"
    answers.write_text("#!/bin/sh\nprintf 'LABEL=My\\\\ \\033[31m stick\\nTYPE=vfat\\n'\n")
    answers.chmod(0o755)
    assert probe(kernel.devices / "sdb", blkid=str(answers)).label == "My ?[31m stick"


def test_a_device_that_the_machine_uses_is_left_alone(tmp_path: Path, kernel: Kernel) -> None:
    config, device = config_of(tmp_path), Path("/dev/null")
    (kernel.devices / "sdb1").symlink_to(device)
    (kernel.block / "sdb1" / "holders").mkdir(parents=True)
    require_free(config, "sdb1", kernel=kernel)

    kernel.mounts.write_text(in_use(device, "/media/sealift-backup"))
    with pytest.raises(Refusal, match="uses it already"):
        require_free(config, "sdb1", kernel=kernel)
    kernel.mounts.write_text("31 1 0:44 / /srv rw - btrfs /dev/null rw\n")
    with pytest.raises(Refusal, match="uses it already"):
        require_free(config, "sdb1", kernel=kernel)
    kernel.mounts.write_text("")
    (kernel.block / "sdb1/holders/dm-0").mkdir()
    with pytest.raises(Refusal, match="part of another device"):
        require_free(config, "sdb1", kernel=kernel)
    with pytest.raises(Refusal, match="gone"):
        require_free(config, "sdx1", kernel=kernel)


@pytest.mark.parametrize(
    "named", ["UUID=ab-12", 'LABEL="Second\\040disk"', "LABEL=Zweite/Größe", "PARTLABEL=Data", "{dev}/sdb1"]
)
def test_a_backup_disk_that_fstab_names_is_left_alone(tmp_path: Path, kernel: Kernel, named: str) -> None:
    (kernel.devices / "sdb1").symlink_to("/dev/null")
    # As udev names its links.
    for kind, value in (
        ("uuid", "ab-12"),
        ("label", "Second\\x20disk"),
        ("label", "Zweite\\x2fGröße"),
        ("partlabel", "Data"),
    ):
        place = kernel.devices / f"disk/by-{kind}"
        place.mkdir(parents=True, exist_ok=True)
        (place / value).symlink_to("/dev/null")
    kernel.fstab.write_text(f"# disks\n\n{named.format(dev=kernel.devices)} /media/sealift-backup ext4 rw 0 2\n")

    with pytest.raises(Refusal, match="fstab"):
        require_free(config_of(tmp_path), "sdb1", kernel=kernel)


def test_there_are_so_many_media_at_a_time_and_no_more(tmp_path: Path, kernel: Kernel) -> None:
    config = config_of(tmp_path, most=2)
    (kernel.devices / "sdb1").symlink_to("/dev/null")
    lines = [f"3{n} 1 7:{n} / {config.at.media}/sdc{n} ro - vfat /dev/sdc{n} ro\n" for n in range(2)]
    kernel.mounts.write_text(lines[0])
    require_free(config, "sdb1", kernel=kernel)
    kernel.mounts.write_text("".join(lines))

    with pytest.raises(Refusal, match="2 media"):
        require_free(config, "sdb1", kernel=kernel)


def test_the_unit_mounts_with_fixed_flags_after_the_device_was_made_read_only() -> None:
    before = values(SYSTEMD / "sealift-media@.service", "ExecStartPre")
    writable = next(n for n, line in enumerate(before) if "blockdev --setro" in line)
    (mount,) = [n for n, line in enumerate(before) if "/usr/bin/mount " in line]

    assert writable < mount
    assert "--options ro,nosuid,nodev,noexec " in before[mount]
    assert all("rw" not in line.split() for line in before)


def test_a_medium_too_many_is_refused_by_the_step_that_the_unit_runs(tmp_path: Path, kernel: Kernel) -> None:
    config = config_of(tmp_path, filesystems=["ext4"], most=1)
    stick(kernel)
    kernel.mounts.write_text(f"31 1 7:1 / {config.at.media}/sdc1 ro - vfat /dev/sdc1 ro\n")

    assert check(config, "sdb1", kernel=kernel, clock=CLOCK) == mediaunit.SKIPPED
    assert arrivals.arrived(config.at, "sdb1").why == "1 media are in use; take one out first"


def test_the_unit_hears_what_was_decided_by_an_exit_code(
    tmp_path: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, filesystems=["ext4"])
    stick(kernel)
    monkeypatch.setattr("appliance.config.load", lambda _: config)
    monkeypatch.setattr(mediaunit, "Kernel", lambda: kernel)

    assert mediaunit.main(["check", "sdb1"]) == 0
    assert mediaunit.main(["mounted", "sdb1"]) == 53, "mount(8) did nothing"
    line = f"31 1 8:17 / {config.at.media}/sdb1 ro,nosuid - ext4 /dev/sdb1 {{}}\n"
    kernel.mounts.write_text(line.format("rw"))
    assert mediaunit.main(["mounted", "sdb1"]) == 53, "it could be written to"
    kernel.mounts.write_text(line.format("ro"))
    assert mediaunit.main(["mounted", "sdb1"]) == 0
    assert arrivals.arrived(config.at, "sdb1").is_mounted
    assert {path.name for path in config.at.arrived.iterdir()} == {"sdb1.json", "sdb1.fstab"}, (
        "what the unit takes away"
    )
    assert mediaunit.main(["check", "../sdb1"]) == 10
    assert mediaunit.main(["mounted", "sdx1"]) == 58
