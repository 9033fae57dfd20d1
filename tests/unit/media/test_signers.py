"""Private keys by way of GnuPG: what is made, what is refused."""

import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from media import gpgagent, openpgp, signers
from media.errors import BadSignatureError, KeyUnusableError, MalformedError
from tests.support.gpg import GnuPG, gnupg_home
from tests.support.passphrases import HAS_PINENTRY, at_a_terminal, protected_key


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="g", dir="/tmp"))
    yield folder / "gnupg"
    gpgagent.stop_agents(folder / "gnupg")
    shutil.rmtree(folder)


def test_a_made_key_signs_what_a_receiver_accepts(home: Path) -> None:
    fingerprint = signers.generate_key(home, "Alice Example", "alice@example.invalid")

    certificate = signers.export_minimal(home, fingerprint.lower())
    signature = signers.detached_sign(home, fingerprint, b"data")

    assert home.stat().st_mode & 0o777 == 0o700
    assert signers.secret_fingerprints(home) == (fingerprint,)
    assert openpgp.certificate_fingerprint(certificate) == fingerprint
    assert openpgp.verify_detached(signature, b"data", [certificate]).fingerprint == fingerprint
    assert openpgp.require_signature_packet(signature).hash_algorithm == 10


def test_a_tuf_signer_has_the_same_key(gnupg: GnuPG) -> None:
    fingerprint = gnupg.key("Signer <tuf@example.invalid>")

    signer = signers.tuf_signer(gnupg.home, fingerprint)

    assert signer.public_key.keyid == fingerprint.lower()
    signer.public_key.verify_signature(signer.sign(b"data"), b"data")


def test_strange_settings_of_a_person_are_noticed_before_anything_travels(gnupg: GnuPG) -> None:
    fingerprint = gnupg.key("Strange <strange@example.invalid>")
    settings = gnupg.home / "gpg.conf"
    settings.write_text("sig-policy-url http://policy.example.invalid\n")
    try:
        with pytest.raises(MalformedError):
            signers.detached_sign(gnupg.home, fingerprint, b"data")
    finally:
        settings.unlink()


def test_a_weak_key_is_noticed_before_anything_travels(gnupg: GnuPG) -> None:
    fingerprint = gnupg.key("Weak Signer <weaksigner@example.invalid>", algorithm="rsa2048")

    with pytest.raises(BadSignatureError):
        signers.detached_sign(gnupg.home, fingerprint, b"data")


def test_an_expired_or_revoked_key_signs_nothing(gnupg: GnuPG) -> None:
    expired = gnupg.key("Old Signer <oldsigner@example.invalid>", expires="1y", at="20200101T000000")
    revoked = gnupg.key("Gone Signer <gone@example.invalid>")
    gnupg.revoke(revoked)

    for fingerprint in (expired, revoked):
        with pytest.raises(KeyUnusableError):
            signers.detached_sign(gnupg.home, fingerprint, b"data")


def test_a_key_signs_by_the_time_it_is_told_where_the_machine_s_battery_is_dead(home: Path) -> None:
    fingerprint = signers.generate_key(home, "Alice Example", "alice@example.invalid")
    certificate = signers.export_minimal(home, fingerprint)
    (home / "gpg.conf").write_text("faked-system-time 19700101T001000!\n")
    with pytest.raises(KeyUnusableError):
        signers.detached_sign(home, fingerprint, b"data")

    now = datetime.now(tz=UTC)
    signature = signers.detached_sign(home, fingerprint, b"data", at=now)

    assert signers.export_minimal(home, fingerprint, at=now) == certificate
    assert openpgp.verify_detached(signature, b"data", [certificate]).fingerprint == fingerprint


def test_a_key_that_is_not_there_cannot_be_used(gnupg: GnuPG) -> None:
    for call in (signers.export_minimal, signers.tuf_signer):
        with pytest.raises(KeyUnusableError):
            call(gnupg.home, "AB" * 20)
    with pytest.raises(KeyUnusableError):
        signers.detached_sign(gnupg.home, "AB" * 20, b"data")
    with pytest.raises(MalformedError):
        signers.export_minimal(gnupg.home, "ABCD")


def test_a_subkey_s_fingerprint_is_not_a_person_s(gnupg: GnuPG) -> None:
    primary = gnupg.key("Subkey Signer <subsigner@example.invalid>")
    gnupg.run("--quick-add-key", primary, "ed25519", "sign", "0")
    listing = gnupg.run("--with-colons", "--with-subkey-fingerprint", "--list-keys", primary).decode()
    subkey = [line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:")][1]

    with pytest.raises(KeyUnusableError, match="cannot be exported"):
        signers.export_minimal(gnupg.home, subkey)


@pytest.mark.parametrize(
    ("name", "email"),
    [
        ("", "a@b.invalid"),
        ("Eve\n%no-protection", "a@b.invalid"),
        ("Eve <x@y>", "a@b.invalid"),
        ("Eve", "a\nKey-Type: RSA"),
    ],
)
def test_a_name_cannot_smuggle_in_settings_of_the_key(home: Path, name: str, email: str) -> None:
    with pytest.raises(MalformedError):
        signers.generate_key(home, name, email)
    assert not home.exists()


def test_a_date_that_gnupg_does_not_understand_makes_no_key(home: Path) -> None:
    with pytest.raises(KeyUnusableError):
        signers.generate_key(home, "Alice Example", "alice@example.invalid", expires="tomorrow-ish")


def test_a_folder_that_cannot_hold_the_agent_s_socket_is_refused(tmp_path: Path, gnupg: GnuPG) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    with pytest.raises(KeyUnusableError, match="cannot be used") as caught:
        signers.secret_fingerprints(long)
    assert str(tmp_path) not in str(caught.value.to_json())
    with pytest.raises(KeyUnusableError):
        signers.tuf_signer(Path("/tmp/with space"), "AB" * 20)
    with pytest.raises(KeyUnusableError):
        signers.secret_fingerprints(gnupg.home / "absent")


def test_without_gnupg_nothing_is_signed(gnupg: GnuPG, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(KeyUnusableError):
        signers.secret_fingerprints(gnupg.home)


def test_an_agent_that_was_told_to_end_has_ended_and_left_no_socket(home: Path) -> None:
    signers.generate_key(home, "Alice Example", "alice@example.invalid")
    asked = ["gpg-connect-agent", "--homedir", str(home), "--no-autostart", "GETINFO pid", "/bye"]
    agent = os.pidfd_open(int(subprocess.run(asked, capture_output=True, check=True).stdout.split()[1]))
    try:
        gpgagent.stop_agents(home)

        assert select.select([agent], [], [], 0)[0] == [agent]
        assert list(home.glob("S.*")) == []
        gpgagent.stop_agents(home)  # where none runs
    finally:
        os.close(agent)


def test_ending_the_agents_of_a_folder_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    gpgagent.stop_agents(tmp_path / "absent")


_SIGN = """
import sys
from pathlib import Path
from media import gpgagent, signers
print("SIGNED", len(signers.detached_sign(Path(sys.argv[1]), sys.argv[2], b"a statement")))
"""


@pytest.mark.slow
@pytest.mark.skipif(not HAS_PINENTRY, reason="pinentry-curses asks for passphrases")
def test_a_passphrase_is_asked_for_at_the_terminal() -> None:
    with gnupg_home() as gpg:
        fingerprint = protected_key(gpg, "Alice Archer")

        told = at_a_terminal(_SIGN, gpg.home, fingerprint)

    assert "SIGNED" in told, told[-500:]
