"""What sysfs says of disks; devices themselves are tried in tests/interop/test_sticks.py."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundler.blockdevice import BlockDevice, is_inside, serial_of
from bundler.dispatch import record_erased
from bundler.register import Register
from media.clock import FixedClock
from media.errors import UnreadableError, UsageError


def disk(folder: Path, bus: str, files: dict[str, str]) -> Path:
    """Make a disk's folder as the kernel has it: `block/NAME`, with `device` naming the folder above `block`."""
    place = folder / "devices" / bus / "block" / "sdx"
    place.mkdir(parents=True)
    (place / "device").symlink_to("../..")
    for name, content in files.items():
        target = folder / "devices" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{content}\n")
    link = folder / "8:16"
    link.symlink_to(place)
    return link


USB = "pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host0/target0:0:0/0:0:0:0"


def test_a_sticks_serial_is_that_of_the_usb_device_and_not_of_the_controller(tmp_path: Path) -> None:
    above = {"pci0000:00/0000:00:14.0/usb2/2-1/serial": "4C530001", "pci0000:00/0000:00:14.0/usb2/2-1/idVendor": "0781"}
    above |= {"pci0000:00/0000:00:14.0/usb2/serial": "0000:00:14.0", "pci0000:00/0000:00:14.0/usb2/idVendor": "1d6b"}
    stick = disk(tmp_path, USB, above)

    assert serial_of(stick) == "4C530001"
    assert not is_inside(stick)


def test_a_stick_without_a_serial_takes_no_other_ones(tmp_path: Path) -> None:
    above = {"pci0000:00/0000:00:14.0/usb2/2-1/idVendor": "0781", "pci0000:00/0000:00:14.0/serial": "mainboard"}
    above |= {"pci0000:00/0000:00:14.0/usb2/serial": "0000:00:14.0", "pci0000:00/0000:00:14.0/usb2/idVendor": "1d6b"}
    stick = disk(tmp_path, USB, above)

    assert serial_of(stick) == ""


def test_what_a_stick_says_of_itself_can_be_shown_and_entered_whatever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cheap sticks have serial numbers of any bytes, a label is a stranger's, and the register holds no such text."""
    above = {"pci0000:00/0000:00:14.0/usb2/2-1/serial": "A\x1b[2J\x01\u202eB", f"{USB}/model": "x"}
    above |= {"pci0000:00/0000:00:14.0/usb2/2-1/idVendor": "0781"}
    serial = serial_of(disk(tmp_path, USB, above))
    blkid = tmp_path / "bin" / "blkid"
    blkid.parent.mkdir()
    blkid.write_text("#!/bin/sh\nprintf 'TYPE=vfat\\nLABEL=\\033[31mRED\\342\\200\\256\\342\\200\\250x\\n'\n")
    blkid.chmod(0o755)
    monkeypatch.setenv("PATH", f"{blkid.parent}:/usr/bin:/bin")
    (tmp_path / "sdx").write_bytes(b"data")
    stick = BlockDevice(path=tmp_path / "sdx", number=0, size=4, sector=512, serial=serial, model="m", is_inside=False)

    held = stick.content()
    record_erased(
        Register(folder=tmp_path / "register"),
        stick.title,
        held=held,
        by="anna",
        clock=FixedClock(datetime(2026, 11, 20, tzinfo=UTC)),
    )

    assert serial == "A\ufffd[2J\ufffd\ufffdB"
    assert held == "vfat, label \ufffd[31mRED\ufffd x"


@pytest.mark.parametrize(
    ("bus", "removable", "inside"),
    [
        ("pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0", "0", True),
        ("pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0", "1", False),
        ("pci0000:00/0000:01:00.0/nvme/nvme0", "0", True),
        ("pci0000:00/0000:00:04.0/virtio1", "0", True),
        ("platform/mmc_host/mmc0/mmc0:aaaa", "0", False),
        (USB, "0", False),
    ],
)
def test_a_disk_of_the_machine_is_told_from_what_is_plugged_in(
    *, tmp_path: Path, bus: str, removable: str, inside: bool
) -> None:
    place = disk(tmp_path, bus, {f"{bus}/block/sdx/removable": removable, f"{bus}/serial": "S1"})

    assert is_inside(place) is inside
    assert serial_of(place) == "S1"


def test_a_loop_device_is_not_inside(tmp_path: Path) -> None:
    (tmp_path / "loop0").mkdir()

    assert not is_inside(tmp_path / "loop0")


def test_a_file_and_nothing_are_no_devices(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match="no block device"):
        BlockDevice.open(tmp_path / "file")
    with pytest.raises(UnreadableError):
        BlockDevice.open(tmp_path / "none")
