"""One computer for all tests of a run: the checkout's units, rules and site file on Debian's own kernel."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from bundler.images.kinds import KINDS
from tests.box.checkout import CHECKOUT, FOLDERS, lay_down, require_debian
from tests.hardware.computer import QEMU, USB, Computer, base_system
from tests.support.images import image_of, missing_for
from tests.support.medium import SimulatedMedium, make_medium
from tests.support.versions import short_folder

SITE: Final = """
format = 1
site = "demo-clinic"
environment = "demo"
profile = "cpu"
[media]
filesystems = ["vfat", "exfat", "iso9660", "udf", "ext4"]
"""
"""Of the computer's site file."""
_CARD_BYTES: Final = 64 * 2**20  # of an SD card: a power of two


@pytest.fixture(scope="session")
def medium(tmp_path_factory: pytest.TempPathFactory) -> SimulatedMedium:
    """A small sealed release on one volume."""
    return make_medium(tmp_path_factory.mktemp("medium") / "m", volumes=1)


@pytest.fixture(scope="session")
def images(medium: SimulatedMedium, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The volume's image of every kind that we write."""
    if why := next(filter(None, map(missing_for, KINDS)), ""):
        pytest.skip(why)
    return {name: image_of(medium, name, tmp_path_factory.mktemp(name)) for name in KINDS}


@pytest.fixture(scope="session")
def computer(medium: SimulatedMedium) -> Iterator[Computer]:
    """A computer that runs; an SD card, a network adapter and a serial line were in it before it was switched on."""
    require_debian()
    if os.geteuid() != 0 or shutil.which(QEMU) is None:
        pytest.skip(f"it needs root and {QEMU}")

    def lay(root: Path) -> None:
        lay_down(root, SITE)
        (root / "etc/sealift/trust").mkdir()
        (root / "etc/sealift/trust/1.root.json").write_bytes(medium.root_json)
        (root / "etc/sealift/usb.env").write_text(USB)
        rules = root / "etc/udev/rules.d"
        for path in (CHECKOUT / "systemd/udev").iterdir():
            shutil.copy(path, rules)
        wanted = root / "etc/systemd/system/multi-user.target.wants"
        for name in ("sealift-ledger", "sealift-jobs"):
            (wanted / f"{name}.service").symlink_to(f"/etc/systemd/system/{name}.service")

    base = base_system()
    with short_folder() as folder:
        card = folder / "card"
        card.write_bytes(b"")
        os.truncate(card, _CARD_BYTES)
        subprocess.run(["mkfs.vfat", "-n", "CARD", card], check=True, capture_output=True)
        devices = ["-device", "sdhci-pci,id=slot", "-drive", f"file={card},if=none,id=card,format=raw"]
        devices += ["-device", "sd-card,drive=card", "-netdev", "hubport,id=cable,hubid=0"]
        devices += ["-device", "usb-net,bus=usb.0,netdev=cable,id=adapter"]
        devices += [
            "-chardev",
            "null,id=line",
            "-device",
            "usb-serial,bus=usb.0,chardev=line,id=line,always-plugged=on",
        ]
        with Computer(folder=folder, shares=FOLDERS, devices=devices).running(base, lay) as made:
            yield made
