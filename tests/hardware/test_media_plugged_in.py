"""Media plugged into a whole computer: by USB, in a slot, in a disc drive; mounted by Linux's own drivers.

Nothing is started by hand: the kernel sees a device, udev's rule names the unit, and the unit does the rest.
"""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from media import canonical
from tests.box.checkout import SEALIFT
from tests.functional.test_exports import _PROBE
from tests.hardware import tried
from tests.hardware.computer import Computer
from tests.support.images import image_of
from tests.support.medium import make_medium, tiny_payload

pytestmark = pytest.mark.hardware

OPERATOR = "setpriv --reuid ines --regid ines --init-groups"


def arrived(computer: Computer, name: str, *, state: str = "mounted") -> dict[str, Any]:
    """Wait until a medium was decided about and read; return what its units wrote down."""
    files = [f"/run/sealift/{folder}/{name}.json" for folder in ("arrived", "inspected")]
    # What was read of the medium that was there before is not of this stay.
    said = computer.until(
        f"""grep -q '"state":"{state}"' {files[0]} && stay=$(grep -o '"id":"[0-9a-f]*"' {files[0]}) || exit 1
grep -q "$stay" {files[1]} && cat {files[0]} && echo && cat {files[1]}"""
    )
    found, inspected = map(json.loads, said.splitlines())
    return {**found, "inspected": inspected}


def mounts(computer: Computer, name: str) -> dict[str, tuple[str, set[str]]]:
    """Return type and options of what is mounted from a device, by place."""
    rows = [line.split() for line in computer.shell("cat /proc/mounts").stdout.splitlines()]
    return {row[1]: (row[2], set(row[3].split(","))) for row in rows if row[0] == f"/dev/{name}"}


def names(computer: Computer) -> set[str]:
    """Return the block devices that the kernel has."""
    return set(computer.shell("ls /sys/class/block").stdout.split())


def stick_of(computer: Computer, serial: str) -> str:
    """Return the kernel's name of what holds the file system of a stick."""
    script = f"""disk=$(lsblk -ndro NAME,SERIAL | awk '$2 == "{serial}" {{print $1}}' | grep .) || exit 1
lsblk -nro NAME,FSTYPE /dev/$disk | awk '$2 {{print $1}}' | grep ."""
    return computer.until(script).strip()


def stick(folder: Path, kind: str, label: str) -> Path:
    """Format a stick of 32 MiB."""
    image = folder / "stick"
    image.write_bytes(b"")
    os.truncate(image, 2**25)
    option = {"vfat": "-n", "exfat": "-L"}[kind]
    subprocess.run([f"mkfs.{kind}", option, label, image], check=True, capture_output=True)
    return image


def log(computer: Computer) -> str:
    return computer.shell("journalctl -b --no-pager -o short-precise | grep -v qemu-ga | tail -n 60").stdout


@pytest.fixture(scope="module")
def sticks(computer: Computer, images: dict[str, Path]) -> dict[str, str]:
    """Plug in one stick of each kind; return the names that the kernel gave to what holds the file systems."""
    for kind in ("vfat", "exfat", "ext4"):
        computer.plug_stick(kind, images[kind])
    return {kind: stick_of(computer, kind) for kind in ("vfat", "exfat", "ext4")}


@pytest.mark.parametrize("kind", ["vfat", "exfat", "ext4"])
def test_a_stick_is_mounted_read_only_by_the_kernels_own_driver_and_read(
    computer: Computer, sticks: dict[str, str], kind: str
) -> None:
    name = sticks[kind]

    found = arrived(computer, name)

    ((place, (driver, options)),) = mounts(computer, name).items()
    assert (place, driver) == (f"/run/sealift/media/{name}", kind)
    assert {"ro", "nosuid", "nodev", "noexec"} <= options
    assert computer.shell(f"blockdev --getro /dev/{name}").stdout.strip() == "1"
    assert computer.shell(f"touch {place}/x; mount -o remount,rw {place}; touch {place}/x").returncode != 0
    assert found["inspected"]["claims"]["untrusted_release"] == "demo-1", log(computer)
    told = computer.shell(f"udevadm info --query=property /dev/{name}").stdout.splitlines()
    assert {"UDISKS_IGNORE=1", "UDISKS_AUTO=0"} <= set(told)


def test_a_stick_that_is_pulled_out_while_it_is_received_spoils_nothing_and_is_received_when_it_is_back(
    computer: Computer, tmp_path: Path
) -> None:
    computer.shell("useradd --system --no-create-home --groups sealift-operators ines")
    weights = bytes(range(256)) * 2**14
    large = make_medium(tmp_path / "m", serial=2, volumes=1, files=tiny_payload(serial=2, weights=weights))
    image = image_of(large, "exfat", tmp_path)
    before = image.read_bytes()
    computer.plug_stick("large", image)
    name = stick_of(computer, "large")
    arrived(computer, name)
    computer.slow("large", 250_000)
    computer.shell(
        f"({SEALIFT} media receive {name} > /root/said 2>&1; echo $? > /root/ended) > /dev/null 2>&1 & disown"
    )
    computer.until("find /var/lib/sealift/store/incoming -type f -size +512k | grep .")

    computer.pull("large")

    assert computer.until("cat /root/ended", seconds=180).strip() != "0", computer.shell("cat /root/said").stdout
    assert '"error"' in computer.shell("cat /root/said").stdout
    computer.until(f"! test -e /run/sealift/arrived/{name}.json")
    assert mounts(computer, name) == {}
    assert "demo-2" not in computer.shell("cat /var/lib/sealift/store/releases/*/*").stdout
    assert computer.shell("systemctl is-active sealift-ledger sealift-jobs").stdout.split() == ["active"] * 2
    computer.plug_stick("large", image)
    name = stick_of(computer, "large")
    arrived(computer, name)
    again = computer.shell(f"{OPERATOR} {SEALIFT} media receive {name} 2>/dev/null")
    assert again.returncode == 0, again.stdout + log(computer)
    assert json.loads(again.stdout[again.stdout.index("{") :])["changed"] is True
    assert "demo-2" in computer.shell("cat /var/lib/sealift/store/releases/*/*").stdout
    ejected = computer.shell(f"{OPERATOR} {SEALIFT} media eject {name}")
    assert ejected.returncode == 0, ejected.stdout
    assert mounts(computer, name) == {}
    computer.pull("large")
    assert image.read_bytes() == before, "not a byte of a medium is changed"


def test_a_disc_that_is_put_into_the_drive_is_mounted_and_gone_when_the_drive_opens(
    computer: Computer, images: dict[str, Path]
) -> None:
    for kind in ("iso9660", "udf"):
        computer.ask("blockdev-change-medium", id="drive", filename=str(images[kind]), format="raw")

        found = arrived(computer, "sr0")

        ((place, (driver, options)),) = mounts(computer, "sr0").items()
        assert (place, driver) == ("/run/sealift/media/sr0", kind)
        assert {"ro", "nosuid", "nodev", "noexec"} <= options
        assert found["inspected"]["claims"]["untrusted_release"] == "demo-1", log(computer)
        computer.shell("eject sr0 2>/dev/null || systemctl stop sealift-media@sr0")
        computer.ask("eject", id="drive", force=True)
        computer.until("! test -e /run/sealift/arrived/sr0.json")
        assert mounts(computer, "sr0") == {}


def test_a_card_that_was_in_its_slot_before_the_boot_is_mounted(computer: Computer) -> None:
    found = arrived(computer, "mmcblk0")

    ((place, (driver, _)),) = mounts(computer, "mmcblk0").items()
    assert (place, driver) == ("/run/sealift/media/mmcblk0", "vfat")
    assert found["inspected"]["claims"] is None
    assert found["inspected"]["problem"]


def test_the_disk_of_the_computer_itself_is_no_medium(computer: Computer) -> None:
    assert "vda" in names(computer)
    told = computer.shell("udevadm info --query=property /dev/vda").stdout
    assert "SEALIFT_MEDIUM=0" in told
    assert computer.shell("systemctl list-units --all 'sealift-media@vda*' --no-legend").stdout.strip() == ""


def test_what_decides_about_media_cannot_write_to_one(computer: Computer, tmp_path: Path) -> None:
    """Its user is in Debian's group of disks, which may write; its unit may not."""
    computer.plug_stick("mine", stick(tmp_path, "vfat", "STICK"))
    name = stick_of(computer, "mine")
    arrived(computer, name)
    computer.shell(f"systemctl stop sealift-media@{name}; blockdev --setrw /dev/{name}")
    read, write = "/usr/bin/dd if=/dev/%i of=/dev/null count=1", "/usr/bin/dd if=/dev/zero of=/dev/%i count=1"
    unit = tried.lay(computer, "sealift-media@.service", read, write)

    assert tried.start(computer, f"{unit}{name}") != 0

    said = tried.said(computer, f"{unit}{name}")
    assert f"failed to open '/dev/{name}': Operation not permitted" in said, said
    assert "512 bytes copied" in said, "it reads"
    outside = computer.shell(
        f"setpriv --reuid sealift-media --regid sealift-media --groups disk {write.replace('%i', name)} conv=notrunc"
    )
    assert outside.returncode == 0, "the unit refuses, not the disk's mode"
    computer.pull("mine")


@pytest.fixture(scope="module")
def probe(computer: Computer) -> str:
    """Make an EXPORT; return its digest."""
    text = canonical.dumps(_PROBE).decode()
    computer.shell(f"printf '%s\\n' '{text}' > /root/probe.json")
    assert computer.shell(f"{SEALIFT} export probe /root/probe.json --yes").returncode == 0
    return hashlib.sha256(canonical.dumps(_PROBE)).hexdigest()


@pytest.mark.parametrize("kind", ["vfat", "exfat"])
def test_an_export_is_on_the_stick_when_the_command_has_ended(
    computer: Computer, probe: str, tmp_path: Path, kind: str
) -> None:
    image = stick(tmp_path, kind, "SEALIFT-OUT")
    computer.plug_stick(f"out-{kind}", image)
    name = stick_of(computer, f"out-{kind}")
    arrived(computer, name)
    written = computer.shell(f"{SEALIFT} media export {name} {probe} --yes")
    computer.pull(f"out-{kind}")  # at once, as people do

    assert written.returncode == 0, written.stdout + log(computer)
    assert files_on(image, kind, tmp_path) == [canonical.dumps(_PROBE)]
    computer.until(f"! test -e /run/sealift/arrived/{name}.json")


def files_on(image: Path, kind: str, folder: Path) -> list[bytes]:
    """Read a stick's files on this machine, by tools that have nothing to do with us."""
    out = folder / "read"
    out.mkdir()
    if kind == "vfat":
        subprocess.run(["mcopy", "-s", "-i", image, "::*", out], check=True)
        return [path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()]
    lent = ["losetup", "--read-only", "--find", "--show", str(image)]
    device = subprocess.run(lent, check=True, capture_output=True, text=True).stdout.strip()
    try:
        subprocess.run(["mount.exfat-fuse", "-o", "ro", device, out], check=True, capture_output=True)
        found = [path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()]
        subprocess.run(["umount", out], check=True)
        return found
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
