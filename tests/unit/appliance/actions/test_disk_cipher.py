"""Ciphers of disks, as the device mapper tells them, and what doctor says of each."""

from pathlib import Path

import pytest

from appliance.actions.disk_cipher import cipher
from appliance.actions.findings import Finding
from appliance.config import Config, PlacesSection
from tests.unit.appliance.actions.test_disk_encryption import Kernel

KEY = "0" * 128
AES = f"0 1024 crypt aes-xts-plain64 {KEY} 0 8:2 32768 1 allow_discards\n"


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path / "sys")


def judged(kernel: Kernel, tmp_path: Path, **tables: str) -> list[Finding]:
    config = Config(site="ward-7", places=PlacesSection(root=str(tmp_path)))
    (tmp_path / "journal").mkdir(exist_ok=True)
    asked = {name.replace("_", "-"): line for name, line in tables.items()}
    return list(cipher(config, blocks=kernel.blocks, journal=tmp_path / "journal", table=asked.__getitem__))


@pytest.mark.parametrize(
    ("line", "text", "is_good"),
    [
        (AES, "aes-xts-plain64, keys of 256 bits", True),
        ("root: " + AES, "aes-xts-plain64, keys of 256 bits", True),
        (
            "0 9 crypt aes-xts-plain64 :64:logon:cryptsetup:1f-d0 0 8:2 32768",
            "aes-xts-plain64, keys of 256 bits",
            True,
        ),
        ("0 9 crypt capi:xts(aes)-plain64 :64:logon:x 0 8:2 1", "capi:xts(aes)-plain64, keys of 256 bits", True),
        (
            f"0 9 crypt aes-cbc-essiv:sha256 {'0' * 64} 0 8:2 1",
            "aes-cbc-essiv:sha256, keys of 256 bits",
            True,
        ),
        (f"0 9 crypt aes-xts-plain64 {'0' * 64} 0 8:2 1", "aes-xts-plain64, keys of 128 bits", None),
        (f"0 9 crypt twofish-xts-plain64 {KEY} 0 8:2 1", "twofish-xts-plain64, keys of 256 bits", None),
        ("0 9 crypt cipher_null-ecb - 0 8:2 1", "its cipher cannot be read", None),
        ("0 9 linear 8:2 0", "its cipher cannot be read", None),
        ("", "its cipher cannot be read", None),
    ],
)
def test_the_cipher_is_told_and_only_aes_256_is_as_expected(
    kernel: Kernel, tmp_path: Path, line: str, text: str, *, is_good: bool | None
) -> None:
    kernel.holds(tmp_path, kernel.mapping("dm-0", "CRYPT-LUKS2-abc-root", kernel.disk("sda2")))

    (found,) = judged(kernel, tmp_path, dm_0_name=line)

    assert (found.text, found.is_good) == (f"{text} below journal, state, keys", is_good)
    assert "0" * 16 not in found.text


def test_each_disk_below_a_volume_group_is_told(kernel: Kernel, tmp_path: Path) -> None:
    first = kernel.mapping("dm-0", "CRYPT-LUKS2-a", kernel.disk("sda"))
    second = kernel.mapping("dm-1", "CRYPT-LUKS2-b", kernel.disk("sdb"))
    kernel.holds(tmp_path, kernel.mapping("dm-2", "LVM-xyz", first, second))

    (found,) = judged(kernel, tmp_path, dm_0_name=AES, dm_1_name=AES.replace("aes", "serpent"))

    assert found.is_good is None
    assert found.text == (
        "aes-xts-plain64, keys of 256 bits below journal, state, keys; "
        "serpent-xts-plain64, keys of 256 bits below journal, state, keys"
    )


def test_a_disk_without_dm_crypt_or_without_sight_is_the_other_findings(kernel: Kernel, tmp_path: Path) -> None:
    assert judged(kernel, tmp_path) == []
    kernel.holds(tmp_path, kernel.disk("sda"))
    assert judged(kernel, tmp_path) == []


@pytest.mark.parametrize("script", ["exit 1", "echo 'Permission denied' >&2; exit 1", 'test "$2$3" = --dm-0-name'])
def test_where_dmsetup_tells_nothing_it_is_said_that_nobody_knows(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    kernel.holds(tmp_path, kernel.mapping("dm-0", "CRYPT-LUKS2-abc-root", kernel.disk("sda2")))
    tool = tmp_path / "bin/dmsetup"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    config = Config(site="ward-7", places=PlacesSection(root=str(tmp_path)))

    (found,) = cipher(config, blocks=kernel.blocks, journal=tmp_path)
    assert found.text.startswith("its cipher cannot be read")

    tool.write_text(f'#!/bin/sh\ntest "$1 $3" = "table dm-0-name" && echo "{AES.strip()}"\n')
    (found,) = cipher(config, blocks=kernel.blocks, journal=tmp_path)
    assert found.is_good is True
