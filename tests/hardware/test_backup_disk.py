"""The second USB disk of a small site, on a whole computer: bought, prepared, used, pulled out, swapped, absent.

What mounts is systemd by the line in /etc/fstab, what writes is the unit of backups in its sandbox, as they are.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.box.checkout import CHECKOUT, FOLDERS, SEALIFT, SERVER, lay_down, require_debian
from tests.hardware.computer import QEMU, USB, Computer, base_system
from tests.support.backups import recipient
from tests.support.versions import short_folder

pytestmark = pytest.mark.hardware

PLACE: Final = "/media/sealift-backup"
_SITE: Final = f"""
format = 1
site = "demo-clinic"
environment = "demo"
profile = "single-cpu"
[backup]
folder = "{PLACE}"
"""
# The step of `sealift setup`, without the install that goes before it: planned, done, and planned and done again.
_STEP: Final = """
import json, sys
from pathlib import Path
from appliance import config
from appliance.cli import setup_disk
from media.clock import SystemClock
site = config.load(Path("/etc/sealift/sealift.toml"))
second = setup_disk.of(site, SystemClock(), sys.argv[1])
offers = {one.disk.name: one.refusal.why if one.refusal else list(one.names) for one in second.offers()}
agreed = second.planned()
done = second.prepared(agreed)
again = second.prepared(second.planned())
print(json.dumps([offers, *(one.to_json() for one in (agreed, done, again))]))
"""
_BYTES: Final = 2**26
_UNIT: Final = "sealift-backup.service"


@pytest.fixture(scope="module")
def computer() -> Iterator[Computer]:
    """A computer of its own, which is switched off and on; two people have chosen who can open its backups."""
    require_debian()
    if os.geteuid() != 0 or shutil.which(QEMU) is None:
        pytest.skip(f"it needs root and {QEMU}")

    def lay(root: Path) -> None:
        lay_down(root, _SITE)
        (root / "etc/sealift/usb.env").write_text(USB)
        for path in (CHECKOUT / "systemd/udev").iterdir():
            shutil.copy(path, root / "etc/udev/rules.d")
        with recipient() as offline:
            (root / "etc/sealift/backup-recipient.gpg").write_bytes(offline.certificate())
        wanted = root / "etc/systemd/system/multi-user.target.wants"
        for name in ("sealift-ledger", "sealift-jobs"):
            (wanted / f"{name}.service").symlink_to(f"/etc/systemd/system/{name}.service")

    base = base_system()
    with short_folder() as folder, Computer(folder=folder, shares=FOLDERS).running(base, lay) as made:
        yield made


@pytest.fixture(scope="module")
def bought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk as shops sell it: its maker's file system on it, which this site takes for a medium."""
    image = _empty(tmp_path_factory.mktemp("bought"))
    subprocess.run(["mkfs.vfat", "-n", "MAKER", image], check=True, capture_output=True)
    return image


def _empty(folder: Path) -> Path:
    image = folder / "disk"
    image.write_bytes(b"")
    os.truncate(image, _BYTES)
    return image


def _plug(computer: Computer, name: str, image: Path) -> str:
    """Plug a disk in and return the kernel's name of it, once the box has decided about it."""
    computer.shell("rm -f /run/sealift/arrived/sd*.json")
    computer.plug_stick(name, image)
    script = f"lsblk -ndro NAME,SERIAL | awk '$2 == \"{name}\" {{print $1}}' | grep ."
    found = computer.until(script).strip()
    computer.until(f"ls /run/sealift/arrived/{found}.json")
    return found


def _decided(computer: Computer, name: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(computer.shell(f"cat /run/sealift/arrived/{name}.json").stdout)
    return found


def _mounted(computer: Computer) -> list[list[str]]:
    rows = (line.split() for line in computer.shell("cat /proc/mounts").stdout.splitlines())
    return [row for row in rows if row[1] == PLACE]


def _fstab(computer: Computer) -> list[str]:
    return computer.shell(f"grep {PLACE} /etc/fstab").stdout.splitlines()


def _uuid(computer: Computer) -> str:
    (line,) = _fstab(computer)
    return line.split()[0].removeprefix("UUID=")


def _backed_up(computer: Computer) -> list[str]:
    """Let the unit make a backup, as its timer does; return what lies on the disk, but the facts beside each."""
    ended = computer.shell(f"systemctl start {_UNIT}")
    assert ended.returncode == 0, ended.stdout + computer.shell(f"journalctl -b -n 40 --no-pager -u {_UNIT}").stdout
    return _files(computer)


def _files(computer: Computer) -> list[str]:
    names = computer.shell(f"ls -A {PLACE}").stdout.split()
    return sorted(name for name in names if name != "lost+found" and not name.endswith(".json"))


def test_a_bought_disk_is_prepared_by_one_command_and_takes_the_nightly_backup(
    computer: Computer, bought: Path
) -> None:
    name = _plug(computer, "bought", bought)
    computer.until(f"grep /run/sealift/media/{name} /proc/mounts")
    command = f"{SEALIFT} backup disk"

    own, early = computer.shell(f"{command} /dev/vda"), computer.shell(f"{command} /dev/{name} --erase")
    assert computer.shell(f"{SEALIFT} media eject {name}").returncode == 0
    full, unsure = (computer.shell(f"echo no | {command} /dev/{name} {word}") for word in ("--dry-run", "--erase"))

    refused = [json.loads(one.stdout[one.stdout.index('{"error"') :])["error"] for one in (own, early, full)]
    assert [error["exit_code"] for error in refused] == [52, 47, 47], refused
    assert "media eject" in refused[1]["fix"]
    assert "vfat" in refused[2]["why"]
    assert unsure.returncode == 1, unsure.stdout
    assert (_fstab(computer), _mounted(computer)) == ([], []), "whoever does not type its name changes nothing"

    done = computer.shell(f"echo {name} | {command} /dev/{name} --erase")

    assert done.returncode == 0, done.stdout + computer.shell("journalctl -b -n 40 --no-pager").stdout
    ((device, _, driver, options, *_),) = _mounted(computer)
    assert (device, driver) == (f"/dev/{name}", "ext4")
    assert {"rw", "nosuid", "nodev", "noexec"} <= set(options.split(","))
    assert "nofail" in _fstab(computer)[0]
    (first,) = _backed_up(computer)
    verified = computer.shell(f"{SEALIFT} backup verify {PLACE}/{first}")
    assert verified.returncode == 0, verified.stdout


def test_a_disk_that_is_pulled_out_in_the_middle_leaves_no_half_backup_and_is_used_again_when_it_is_back(
    computer: Computer, bought: Path
) -> None:
    before = _files(computer)
    computer.slow("bought", 1500)
    computer.shell(f"systemctl start --no-block {_UNIT}")
    computer.until(f"ls -A {PLACE} | grep unfinished")

    computer.pull("bought")

    computer.until(f"systemctl is-failed {_UNIT}", seconds=120)
    computer.until(f"! grep {PLACE} /proc/mounts")
    listed = computer.shell(f"{SEALIFT} backup list")
    assert listed.returncode != 0, "an empty folder of the system's own disk is no disk of backups"
    assert "perhaps its disk is not mounted" in listed.stdout

    name = _plug(computer, "bought", bought)

    assert "belongs to the machine" in _decided(computer, name)["why"]
    assert _mounted(computer) == [], "the unit mounts it"
    after = _backed_up(computer)
    assert after[:-1] == before
    assert len(after) == len(before) + 1, "what was half done is gone"


def test_a_disk_that_was_formatted_by_hand_with_the_same_uuid_takes_its_turn(
    computer: Computer, tmp_path: Path
) -> None:
    """As docs/operator/backup.md says it for a disk that another machine formats."""
    computer.shell(f"umount {PLACE}")
    computer.pull("bought")
    second = _empty(tmp_path)
    subprocess.run(["mkfs.ext4", "-q", "-L", "backup", "-U", _uuid(computer), second], check=True, capture_output=True)

    name = _plug(computer, "second", second)

    assert "belongs to the machine" in _decided(computer, name)["why"]
    (alone,) = _backed_up(computer)
    assert alone.endswith(".backup.gpg")
    assert len(_fstab(computer)) == 1
    computer.shell(f"umount {PLACE}")
    computer.pull("second")


def test_the_box_starts_without_its_disk_and_mounts_it_for_the_backup_after_it_came(
    computer: Computer, bought: Path
) -> None:
    computer.shell("sync")
    computer.stop()
    computer.boot(base_system())

    computer.until("systemctl is-active sealift-ledger.service")
    assert computer.shell("systemctl --failed --no-legend").stdout.strip() == ""
    assert _mounted(computer) == []
    name = _plug(computer, "bought", bought)
    assert "belongs to the machine" in _decided(computer, name)["why"]
    assert len(_backed_up(computer)) == 3, "two of before and one more"


def test_the_step_of_a_guided_install_prepares_the_disk_that_is_known_by_its_lasting_name(
    computer: Computer, tmp_path: Path
) -> None:
    uuid = _uuid(computer)
    computer.shell(f"umount {PLACE}")
    computer.pull("bought")
    computer.plug_stick("third", _empty(tmp_path))
    link = computer.until("ls /dev/disk/by-id | grep third")
    computer.shell(f"cat > /root/step.py <<'END'\n{_STEP}END")

    ended = computer.shell(f"/{SERVER}/bin/python -I /root/step.py {link.strip()}")

    assert ended.returncode == 0, ended.stdout
    offers, agreed, done, again = json.loads(ended.stdout.splitlines()[-1])
    assert offers[done["device"]] == ["third", link.strip()]
    assert "no disk that is plugged in by USB" in offers["vda"]
    assert [one["state"] for one in (agreed, done, again)] == ["planned", "prepared", "stands"], ended.stdout
    assert agreed["preparation"]["uuid"] == uuid
    ((device, *_),) = _mounted(computer)
    assert device == f"/dev/{done['device']}"
    (alone,) = _backed_up(computer)
    assert alone.endswith(".backup.gpg")
