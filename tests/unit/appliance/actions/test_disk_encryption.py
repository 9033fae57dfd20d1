"""Disks of many shapes, as the kernel describes them, and what doctor says of each."""

import os
from pathlib import Path

import pytest

from appliance.actions.disk_encryption import encryption
from appliance.config import BackupSection, Config, PlacesSection
from tests.support.otherplaces import on_another_file_system


class Kernel:
    """A folder like /sys/dev/block: devices by number, mappings with what they lie on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.devices = folder / "devices"
        self.blocks = folder / "dev"
        self.devices.mkdir(parents=True)
        self.blocks.mkdir()

    def disk(self, name: str) -> Path:
        made = self.devices / name
        (made / "queue").mkdir(parents=True)
        return made

    def mapping(self, name: str, uuid: str, *below: Path) -> Path:
        made = self.devices / name
        (made / "dm").mkdir(parents=True)
        (made / "dm/uuid").write_text(uuid)
        (made / "dm/name").write_text(f"{name}-name\n")
        (made / "slaves").mkdir()
        for one in below:
            (made / "slaves" / one.name).symlink_to(one)
        return made

    def holds(self, path: Path, device: Path) -> None:
        number = path.stat().st_dev
        (self.blocks / f"{os.major(number)}:{os.minor(number)}").symlink_to(device)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path / "sys")


def judged(kernel: Kernel, tmp_path: Path, *, swaps: str = "") -> tuple[bool | None, str, bool | None, str]:
    config = Config(site="ward-7", places=PlacesSection(root=str(tmp_path)), backup=BackupSection(folder=str(tmp_path)))
    (tmp_path / "swaps").write_text(f"Filename Type Size Used Priority\n{swaps}")
    disks, swap = encryption(config, blocks=kernel.blocks, swaps=tmp_path / "swaps", temporary=tmp_path)
    return disks.is_good, disks.text, swap.is_good, swap.text


def test_luks_below_the_file_system_is_encrypted(kernel: Kernel, tmp_path: Path) -> None:
    kernel.holds(tmp_path, kernel.mapping("dm-0", "CRYPT-LUKS2-abc-cryptroot", kernel.disk("sda2")))

    assert judged(kernel, tmp_path)[:2] == (True, "dm-crypt below state, keys and backups")


def test_a_volume_group_over_luks_is_encrypted_only_when_all_its_disks_are(kernel: Kernel, tmp_path: Path) -> None:
    first = kernel.mapping("dm-0", "CRYPT-LUKS2-a", kernel.disk("sda"))
    second = kernel.mapping("dm-1", "CRYPT-LUKS2-b", kernel.disk("sdb"))
    kernel.holds(tmp_path, kernel.mapping("dm-2", "LVM-xyz", first, second))
    assert judged(kernel, tmp_path)[0] is True

    (kernel.devices / "dm-2/slaves/sdc").symlink_to(kernel.disk("sdc"))

    is_good, text, *_ = judged(kernel, tmp_path)
    assert is_good is None
    assert text == "no dm-crypt below state, keys, backups"


def test_a_ledger_on_a_file_system_of_its_own_is_looked_at_there(kernel: Kernel, tmp_path: Path) -> None:
    kernel.holds(tmp_path, kernel.mapping("dm-0", "CRYPT-LUKS2-abc-cryptroot", kernel.disk("sda2")))
    state = tmp_path / "var/lib/sealift"
    state.mkdir(parents=True)
    with on_another_file_system(tmp_path) as other:
        (state / "ledger").symlink_to(other)
        kernel.holds(other, kernel.disk("sdb1"))

        assert judged(kernel, tmp_path)[:2] == (None, "no dm-crypt below ledger")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("ext4", "no dm-crypt below temporary files"),
        ("tmpfs", "dm-crypt below state, keys and backups"),
        ("", "no dm-crypt below temporary files"),
    ],
)
def test_temporary_files_on_a_bare_disk_of_their_own_are_named(
    kernel: Kernel, tmp_path: Path, kind: str, text: str
) -> None:
    """Copies of records and keys are laid down there by drills, proofs and exports."""
    config = Config(site="ward-7", places=PlacesSection(root=str(tmp_path)))
    kernel.holds(tmp_path, kernel.mapping("dm-0", "CRYPT-LUKS2-abc-cryptroot", kernel.disk("sda2")))
    with on_another_file_system(tmp_path) as elsewhere:
        kernel.holds(elsewhere, kernel.disk("sdb1"))
        table = tmp_path / "mountinfo"
        table.write_text(f"36 35 0:40 / {elsewhere} rw - {kind} none rw\n" if kind else "")

        disks, _ = encryption(config, blocks=kernel.blocks, swaps=tmp_path / "none", temporary=elsewhere, mounts=table)

    assert (disks.is_good, disks.text) == (True if "no dm" not in text else None, text)


def test_a_bare_disk_is_named_and_no_disk_is_not_seen(kernel: Kernel, tmp_path: Path) -> None:
    assert judged(kernel, tmp_path)[:2] == (None, "cannot be seen for state, keys, backups")

    kernel.holds(tmp_path, kernel.disk("sda"))

    assert judged(kernel, tmp_path)[:2] == (None, "no dm-crypt below state, keys, backups")


def test_mappings_in_a_circle_end(kernel: Kernel, tmp_path: Path) -> None:
    first = kernel.mapping("dm-0", "LVM-a")
    (first / "slaves/dm-0").symlink_to(first)
    kernel.holds(tmp_path, first)

    assert judged(kernel, tmp_path)[0] is None


@pytest.mark.parametrize(
    ("line", "is_good"),
    [
        ("", True),
        ("/dev/zram0 partition 1 0 100\n", True),
        ("/dev/dm-7 partition 1 0 100\n", True),
        ("/dev/mapper/dm-7-name partition 1 0 100\n", True),
        ("/dev/sdz partition 1 0 100\n", False),
        ("/dev/gone partition 1 0 100\n", False),
    ],
)
def test_swap_that_writes_plain_memory_is_refused(kernel: Kernel, tmp_path: Path, line: str, *, is_good: bool) -> None:
    (kernel.blocks / "254:7").symlink_to(kernel.mapping("dm-7", "CRYPT-PLAIN-swap", kernel.disk("sdy")))
    (kernel.blocks / "8:64").symlink_to(kernel.disk("sdz"))

    assert judged(kernel, tmp_path, swaps=line)[2] is is_good
