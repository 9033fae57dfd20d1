import hashlib
import hmac
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance.errors import CiphertextError, KeyMissingError
from appliance.keys.files import FileKeys, create_missing
from appliance.keys.provider import PURPOSES, Purpose


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_missing(tmp_path / "keys")
    return tmp_path / "keys"


def put(folder: Path, name: str, data: bytes, mode: int = 0o400) -> Path:
    path = folder / name
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_missing_keys_are_made_private_and_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "etc/keys"

    assert create_missing(folder) == list(PURPOSES)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert create_missing(folder) == []

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert len(set(before.values())) == len(PURPOSES)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o400}


def test_keys_cannot_be_made_where_a_file_stands(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("no folder")

    with pytest.raises(KeyMissingError):
        create_missing(tmp_path / "keys")


def test_what_was_wrapped_is_unwrapped(folder: Path) -> None:
    keys = FileKeys(folder)

    assert keys.unwrap("phi-map", keys.wrap("phi-map", b"secret", b"req_1"), b"req_1") == b"secret"


def test_equal_texts_give_different_ciphertexts_that_name_key_and_version(folder: Path) -> None:
    keys = FileKeys(folder)

    first, second = (keys.wrap("phi-map", b"same", b"") for _ in range(2))

    assert first != second
    assert first.startswith(b"SLK\x01\x07phi-map\x00\x00\x00\x01")
    assert b"same" not in first


def test_a_ciphertext_is_bound_to_its_data(folder: Path) -> None:
    keys = FileKeys(folder)
    sealed = keys.wrap("phi-map", b"secret", b"req_1")

    with pytest.raises(CiphertextError):
        keys.unwrap("phi-map", sealed, b"req_2")


def test_every_cut_and_every_flipped_byte_is_noticed(folder: Path) -> None:
    keys = FileKeys(folder)
    sealed = keys.wrap("phi-map", b"secret", b"aad")

    for length in range(len(sealed)):
        with pytest.raises((CiphertextError, KeyMissingError)):
            keys.unwrap("phi-map", sealed[:length], b"aad")
    for index in range(len(sealed)):
        altered = bytearray(sealed)
        altered[index] ^= 1
        with pytest.raises((CiphertextError, KeyMissingError)):
            keys.unwrap("phi-map", bytes(altered), b"aad")


def test_an_older_version_opens_what_it_made_and_the_newest_makes_what_is_new(folder: Path) -> None:
    old = FileKeys(folder).wrap("phi-map", b"old", b"")
    put(folder, "phi-map.v2", bytes(range(32)))
    keys = FileKeys(folder)

    new = keys.wrap("phi-map", b"new", b"")

    assert keys.unwrap("phi-map", old, b"") == b"old"
    assert keys.unwrap("phi-map", new, b"") == b"new"
    assert new[:16].endswith(b"\x02")


def test_a_ciphertext_of_a_version_that_is_gone_says_which(folder: Path) -> None:
    put(folder, "phi-map.v2", bytes(range(32)))
    sealed = FileKeys(folder).wrap("phi-map", b"x", b"")
    (folder / "phi-map.v2").unlink()

    with pytest.raises(KeyMissingError) as caught:
        FileKeys(folder).unwrap("phi-map", sealed, b"")

    assert "version 2" in caught.value.why


def test_signatures_verify_with_the_public_half(folder: Path) -> None:
    keys = FileKeys(folder)

    signature = keys.sign("ledger-checkpoint", b"text")

    Ed25519PublicKey.from_public_bytes(keys.public("ledger-checkpoint")).verify(signature, b"text")


def test_an_hmac_is_the_one_any_tool_computes_and_older_versions_stay_at_hand(folder: Path) -> None:
    first = (folder / "api-key-pepper.v1").read_bytes()
    put(folder, "api-key-pepper.v3", bytes(32))
    keys = FileKeys(folder)

    assert keys.hmac("api-key-pepper", b"k") == hmac.digest(bytes(32), b"k", hashlib.sha256)
    assert keys.hmac("api-key-pepper", b"k", version=1) == hmac.digest(first, b"k", hashlib.sha256)
    assert keys.get("api-key-pepper").version == 3


def test_each_key_serves_its_one_purpose(folder: Path) -> None:
    keys = FileKeys(folder)
    uses: dict[Purpose, Callable[[str], object]] = {
        Purpose.SIGN: lambda name: keys.sign(name, b""),
        Purpose.HMAC: lambda name: keys.hmac(name, b""),
        Purpose.WRAP: lambda name: keys.wrap(name, b"", b""),
    }

    for name, purpose in PURPOSES.items():
        for use, call in uses.items():
            if use is purpose:
                call(name)
            else:
                with pytest.raises(KeyMissingError, match=name):
                    call(name)


def test_a_credential_folder_of_a_unit_serves_too(tmp_path: Path) -> None:
    put(tmp_path, "session", bytes(range(32)), 0o440)

    key = FileKeys(tmp_path).get("session")

    assert (key.id, key.version, key.bytes) == ("session", 1, bytes(range(32)))


@pytest.mark.parametrize("mode", [0o404, 0o402, 0o401, 0o420, 0o644, 0o666])
def test_a_key_that_others_may_read_or_write_is_not_used(tmp_path: Path, mode: int) -> None:
    put(tmp_path, "session.v1", bytes(32), mode)

    with pytest.raises(KeyMissingError, match="session"):
        FileKeys(tmp_path).get("session")


@pytest.mark.parametrize("length", [0, 31, 33, 1000])
def test_a_file_of_another_length_is_no_key(tmp_path: Path, length: int) -> None:
    put(tmp_path, "session.v1", bytes(length))

    with pytest.raises(KeyMissingError, match="session"):
        FileKeys(tmp_path).get("session")


def test_a_link_or_a_folder_is_no_key(tmp_path: Path) -> None:
    target = put(tmp_path, "elsewhere", bytes(32))
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "session.v1").symlink_to(target)
    (keys / "phi-map.v1").symlink_to("phi-map.v1")
    (keys / "content-hmac.v1").mkdir()

    for name in ("session", "content-hmac", "phi-map"):
        with pytest.raises(KeyMissingError, match=name):
            FileKeys(keys).get(name)


def test_one_keys_file_is_not_read_for_another_and_nothing_is_destroyed_by_way_of_a_link(tmp_path: Path) -> None:
    other = put(tmp_path, "content-hmac.v1", bytes(range(32)))
    (tmp_path / "phi-map.v1").symlink_to("content-hmac.v1")

    with pytest.raises(KeyMissingError, match="phi-map"):
        FileKeys(tmp_path).get("phi-map")
    with pytest.raises(KeyMissingError):
        FileKeys(tmp_path).destroy("phi-map")
    assert other.read_bytes() == bytes(range(32))
    assert other.stat().st_mode & 0o777 == 0o400


def test_a_secret_as_a_cluster_mounts_it_is_read_by_way_of_its_links(tmp_path: Path) -> None:
    dated = tmp_path / "..2026_11_23_00_00_00.1"
    dated.mkdir()
    put(dated, "session.v1", bytes(range(32)))
    (tmp_path / "..data").symlink_to(dated.name)
    (tmp_path / "session.v1").symlink_to("..data/session.v1")

    assert FileKeys(tmp_path).get("session").bytes == bytes(range(32))


def test_keys_are_read_from_another_mount_name_space_where_they_have_no_path_of_their_own(tmp_path: Path) -> None:
    laid = 'head -c 32 /dev/zero > "$0/session.v1" && chmod 400 "$0/session.v1" && echo laid'
    script = f'mount -t tmpfs none "$0" && {laid} && read -r _'
    as_root = () if os.geteuid() == 0 else ("--map-root-user",)
    command = ["unshare", *as_root, "--mount", "sh", "-c", script, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:
        assert other.stdout is not None
        if other.stdout.readline() != b"laid\n":
            pytest.skip("this machine makes no mount name space")

        assert FileKeys(Path(f"/proc/{other.pid}/root{tmp_path}")).get("session").bytes == bytes(32)


@pytest.mark.parametrize("name", ["", "root", "../session", "session.v1", "SESSION"])
def test_only_known_names_are_looked_for(folder: Path, name: str) -> None:
    with pytest.raises(KeyMissingError):
        FileKeys(folder).get(name)


def test_absent_keys_and_absent_folders_are_reported(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyMissingError):
        FileKeys(tmp_path / "nowhere").get("session")
    with pytest.raises(KeyMissingError):
        FileKeys(folder).get("session", version=9)


def test_other_files_in_the_folder_are_left_alone(folder: Path) -> None:
    for name in ("session.v0", "session.v1x", "session-old.v1", "session.v01"):
        put(folder, name, b"")

    assert FileKeys(folder).get("session").version == 1


def test_destroying_removes_every_version_and_its_bytes_from_the_disk(folder: Path) -> None:
    put(folder, "phi-map.v2", bytes(range(32)))
    keys = FileKeys(folder)
    sealed = keys.wrap("phi-map", b"x", b"")
    linked = folder / "seen"
    linked.hardlink_to(folder / "phi-map.v2")

    keys.destroy("phi-map")

    assert not list(folder.glob("phi-map*"))
    assert linked.read_bytes() != bytes(range(32))
    with pytest.raises(KeyMissingError):
        keys.unwrap("phi-map", sealed, b"")
    with pytest.raises(KeyMissingError):
        keys.destroy("phi-map")


def test_a_key_never_shows_its_material_in_text(folder: Path) -> None:
    key = FileKeys(folder).get("session")

    assert repr(key) == "Key(id='session', version=1)"


@pytest.mark.skipif(os.geteuid() != 0, reason="root lends another user's rights")
def test_who_is_not_root_is_sent_to_root_and_not_to_a_backup(tmp_path: Path) -> None:
    create_missing(tmp_path / "keys")
    os.seteuid(65534)
    try:
        with pytest.raises(KeyMissingError) as refused:
            FileKeys(tmp_path / "keys").get("ledger-checkpoint")
    finally:
        os.seteuid(0)

    assert "as root" in refused.value.fix
    assert "backup" not in refused.value.fix
