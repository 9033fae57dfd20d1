"""The units that back up and drill, as they are, under a booted systemd; then the box is lost and comes back.

The box is a bare Debian 12 with this machine's /usr, so that the units run the checkout by Debian's own Python in
seconds: what is tested is the units' users, groups, credentials and sandbox, not the installation (`make box` does).
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box.checkout import SEALIFT, booted, lay_down, start
from tests.box.machine import Machine
from tests.support.backups import Recipient, recipient

pytestmark = pytest.mark.box

SITE = 'format = 1\nsite = "demo"\n[backup]\nfolder = "/media/sealift-backup"\non_system_disk = true\n'
DISK = "media/sealift-backup"


@pytest.fixture(scope="module")
def offline() -> Iterator[Recipient]:
    with recipient() as made:
        yield made


@pytest.fixture(scope="module")
def box(offline: Recipient) -> Iterator[Machine]:
    def lay(root: Path) -> None:
        lay_down(root, SITE)
        (root / "etc/sealift/backup-recipient.gpg").write_bytes(offline.certificate())

    with booted("slbk", lay, media={"/media/key": offline.home}) as machine:
        yield machine


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
