"""The units that back up and drill, as they are, under a booted systemd; then the box is lost and comes back.

The box is a bare Debian 12 with this machine's /usr, so that the units run the checkout by Debian's own Python in
seconds: what is tested is the units' users, groups, credentials and sandbox, not the installation (`make box` does).
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from appliance.keys.files import create_missing
from tests.box.machine import Machine, base_image, install_tools
from tests.support.backups import Recipient, recipient

pytestmark = pytest.mark.box

CHECKOUT = Path(__file__).resolve().parents[2]
PYTHON = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
SERVER = "opt/sealift/current/server"
PACKAGES = Path(pytest.__file__).resolve().parents[1]
FOLDERS = {"/srv/checkout": CHECKOUT, "/srv/packages": PACKAGES}  # not below /tmp or /home, which units hide
SITE = 'format = 1\nsite = "demo"\n[backup]\nfolder = "/media/sealift-backup"\non_system_disk = true\n'
SEALIFT = f"/{SERVER}/bin/sealift --config /etc/sealift/sealift.toml --json"
DISK = "media/sealift-backup"


@pytest.fixture(scope="module")
def offline() -> Iterator[Recipient]:
    with recipient() as made:
        yield made


@pytest.fixture(scope="module")
def box(offline: Recipient) -> Iterator[Machine]:
    if not PYTHON.exists() or not Path("/etc/debian_version").read_text().startswith("12."):
        pytest.skip("this machine is no Debian 12 with its own Python")
    install_tools()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slbk"))) / "root"
        media = {"/usr": Path("/usr"), **FOLDERS, "/media/key": offline.home}
        machine = Machine(root=root, name="slbk", media={}, log=root.parent / "console")
        machine.create(base_image())
        for point in media:
            (root / point.lstrip("/")).mkdir(parents=True, exist_ok=True)
        machine.media = media
        furnish(root, offline.certificate())
        machine.boot()
        stack.callback(machine.stop)
        machine.run("systemd-sysusers", "sealift.conf", shown=False)
        machine.run("systemd-tmpfiles", "--create", "sealift.conf", shown=False)
        machine.run("systemctl", "daemon-reload", shown=False)
        yield machine


def furnish(root: Path, certificate: bytes) -> None:
    """Lay down what an installation leaves: units, accounts, an environment, the site file, keys, the recipient."""
    for source, place in (
        (CHECKOUT / "systemd", "etc/systemd/system"),
        (CHECKOUT / "systemd/sysusers.d", "etc/sysusers.d"),
        (CHECKOUT / "systemd/tmpfiles.d", "etc/tmpfiles.d"),
    ):
        (root / place).mkdir(parents=True, exist_ok=True)
        for path in source.iterdir():
            if path.is_file():
                shutil.copy(path, root / place)
    server = root / SERVER
    (server / "bin").mkdir(parents=True)
    (server / "bin/python").symlink_to(PYTHON)
    packages = server / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    packages.mkdir(parents=True)
    (packages / "checkout.pth").write_text("\n".join(FOLDERS) + "\n")
    (server / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    script = server / "bin/sealift"
    script.write_text(f"#!/{SERVER}/bin/python -I\nfrom appliance.cli.main import main\nmain()\n")
    script.chmod(0o755)
    etc = root / "etc/sealift"
    etc.mkdir()
    (etc / "sealift.toml").write_text(SITE)
    (etc / "backup-recipient.gpg").write_bytes(certificate)
    create_missing(etc / "keys")


def journal(box: Machine, unit: str) -> str:
    return box.shell(f"journalctl -u {unit} -n 40 --no-pager -o cat").stdout


def start(box: Machine, unit: str) -> None:
    assert box.shell(f"systemctl start {unit}").returncode == 0, journal(box, unit)


def test_the_units_back_up_and_drill_in_their_sandbox_and_a_lost_box_comes_back(box: Machine) -> None:
    start(box, "sealift-ledger.service")
    start(box, "sealift-backup.service")
    start(box, "sealift-drill.service")

    disk = box.root / DISK
    (backup,) = disk.glob("*.backup.gpg")
    (drilled,) = disk.glob("drill-*.json")
    assert json.loads(drilled.read_bytes())["drill"]["level"] == "stream"
    assert backup.stat().st_uid != 0
    standing = json.loads(box.shell(f"{SEALIFT} status").stdout)["backup"]
    assert (standing["good"], standing["faults"]) == (True, [])

    box.shell("systemctl stop 'sealift-*'; rm -r /var/lib/sealift /etc/sealift/keys /etc/sealift/ledger.pub")
    box.run("systemd-tmpfiles", "--create", "sealift.conf", shown=False)
    restored = box.shell(
        f"{SEALIFT} backup restore /{DISK}/{backup.name} --home /media/key --by Ann --by Bo --reason fire"
    )
    assert restored.returncode == 0, restored.stdout
    box.run("systemctl", "reset-failed", shown=False)
    start(box, "sealift-ledger.service")
    verified = box.shell(f"{SEALIFT} audit verify")
    assert verified.returncode == 0, verified.stdout
    assert "a backup was restored by Ann, Bo" in verified.stdout
    start(box, "sealift-backup.service")
    assert len(list(disk.glob("*.backup.gpg"))) == 2


def test_without_a_recipient_the_units_rest(box: Machine) -> None:
    box.run("mv", "/etc/sealift/backup-recipient.gpg", "/root/", shown=False)
    try:
        shown = box.shell("systemctl start sealift-backup.service; systemctl show sealift-backup -p ConditionResult")
    finally:
        box.run("mv", "/root/backup-recipient.gpg", "/etc/sealift/", shown=False)

    assert "ConditionResult=no" in shown.stdout
