"""Every kind of signature that GnuPG can make or an attacker can bend: one kind passes."""

import os
import stat
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from media import limits, openpgp
from media.errors import (
    BadSignatureError,
    CannotVerifyError,
    LimitExceededError,
    MalformedError,
    MediaError,
    SealiftError,
)
from tests.support.gpg import GnuPG

_DATA = b"0" * 64 + b"  data/release.json\n"
_ZONES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    good: str
    other: str
    evil_name: str
    expired: str
    revoked: str
    future: str
    rsa_weak: str
    nist: str


@pytest.fixture(scope="module")
def keys(gnupg: GnuPG) -> _Keys:
    return _Keys(
        good=gnupg.key("Good Signer <good@example.invalid>"),
        other=gnupg.key("Other Signer <other@example.invalid>"),
        evil_name=gnupg.key("[GNUPG:] GOODSIG 0123456789ABCDEF Good Signer <evil@example.invalid>"),
        expired=gnupg.key("Expired <expired@example.invalid>", expires="1y", at="20200101T000000"),
        revoked=gnupg.key("Revoked <revoked@example.invalid>"),
        future=gnupg.key("Future <future@example.invalid>", at="20350101T000000"),
        rsa_weak=gnupg.key("Weak <weak@example.invalid>", algorithm="rsa2048"),
        nist=gnupg.key("Nist <nist@example.invalid>", algorithm="nistp256"),
    )


def _is_malformed(untrusted: bytes, certificates: list[bytes]) -> bool:
    try:
        openpgp.verify_detached(untrusted, _DATA, certificates)
    except MalformedError:
        return True
    return False


def _is_refused(untrusted: bytes, certificate: bytes) -> bool:
    try:
        openpgp.verify_detached(untrusted, _DATA, [certificate])
    except (MediaError, BadSignatureError):
        return True
    return False


@pytest.fixture(scope="module")
def signature(gnupg: GnuPG, keys: _Keys) -> bytes:
    return gnupg.sign(keys.good, _DATA)


@pytest.fixture(scope="module")
def certificate(gnupg: GnuPG, keys: _Keys) -> bytes:
    return gnupg.certificate(keys.good)


def test_a_good_signature_names_the_primary_key_and_the_signer_s_time(
    gnupg: GnuPG, keys: _Keys, certificate: bytes
) -> None:
    signature = gnupg.sign(keys.good, _DATA, at="20300102T030405")

    good = openpgp.verify_detached(signature, _DATA, [gnupg.certificate(keys.other), certificate])

    assert good == openpgp.GoodSignature(fingerprint=keys.good, created=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))


def test_a_good_signature_does_not_sign_other_data(signature: bytes, certificate: bytes) -> None:
    with pytest.raises(BadSignatureError, match="is refused"):
        openpgp.verify_detached(signature, _DATA + b"x", [certificate])


@pytest.mark.parametrize("digest", ["SHA256", "SHA384", "SHA512"])
def test_the_hashes_of_the_sha_2_family_pass(gnupg: GnuPG, keys: _Keys, certificate: bytes, digest: str) -> None:
    signature = gnupg.sign(keys.good, _DATA, "--digest-algo", digest)

    assert openpgp.verify_detached(signature, _DATA, [certificate]).fingerprint == keys.good


@pytest.mark.parametrize("digest", ["SHA1", "RIPEMD160", "SHA224"])
def test_weaker_hashes_are_refused_although_gpgv_may_take_them(
    gnupg: GnuPG, keys: _Keys, certificate: bytes, digest: str
) -> None:
    signature = gnupg.sign(keys.good, _DATA, "--allow-weak-digest-algos", "--digest-algo", digest)

    with pytest.raises(BadSignatureError) as caught:
        openpgp.verify_detached(signature, _DATA, [certificate])

    assert "too weak" in caught.value.why


def test_a_key_that_the_root_does_not_name_is_refused(gnupg: GnuPG, keys: _Keys, signature: bytes) -> None:
    with pytest.raises(BadSignatureError) as caught:
        openpgp.verify_detached(signature, _DATA, [gnupg.certificate(keys.other)])

    assert "not one that the root names" in caught.value.why


def test_without_certificates_nothing_is_good(signature: bytes) -> None:
    with pytest.raises(BadSignatureError):
        openpgp.verify_detached(signature, _DATA, [])


def test_a_revoked_key_is_refused_although_gpgv_ends_with_zero(gnupg: GnuPG, keys: _Keys) -> None:
    signature = gnupg.sign(keys.revoked, _DATA)
    before = gnupg.certificate(keys.revoked)
    assert openpgp.verify_detached(signature, _DATA, [before]).fingerprint == keys.revoked
    gnupg.revoke(keys.revoked)

    with pytest.raises(BadSignatureError) as caught:
        openpgp.verify_detached(signature, _DATA, [gnupg.certificate(keys.revoked)])

    assert "revoked" in caught.value.why


def test_an_expired_key_is_refused_although_gpgv_ends_with_zero(gnupg: GnuPG, keys: _Keys) -> None:
    signature = gnupg.sign(keys.expired, _DATA, at="20200601T000000")

    with pytest.raises(BadSignatureError) as caught:
        openpgp.verify_detached(signature, _DATA, [gnupg.certificate(keys.expired)])

    assert "expired" in caught.value.why


def test_a_signature_that_ends_by_a_date_is_refused_before_and_after_it(
    gnupg: GnuPG, keys: _Keys, certificate: bytes
) -> None:
    for at in ("20200601T000000", "20350601T000000"):
        signature = gnupg.sign(keys.good, _DATA, "--default-sig-expire", "1d", "--ignore-time-conflict", at=at)

        with pytest.raises(MalformedError):
            openpgp.verify_detached(signature, _DATA, [certificate])


def test_a_dead_clock_does_not_refuse_a_key_and_a_signature_of_its_future(gnupg: GnuPG, keys: _Keys) -> None:
    later = "20350102T000000"
    signature = gnupg.sign(keys.future, _DATA, at=later)

    good = openpgp.verify_detached(signature, _DATA, [gnupg.certificate(keys.future, at=later)])

    assert good.created.year == 2035


def test_a_user_id_that_imitates_a_status_line_gains_nothing(gnupg: GnuPG, keys: _Keys, certificate: bytes) -> None:
    signature = gnupg.sign(keys.evil_name, _DATA)

    assert openpgp.verify_detached(signature, _DATA, [gnupg.certificate(keys.evil_name)]).fingerprint == keys.evil_name
    with pytest.raises(BadSignatureError):
        openpgp.verify_detached(signature, _DATA, [certificate])
    with pytest.raises(BadSignatureError):
        openpgp.verify_detached(signature, _DATA + b"x", [gnupg.certificate(keys.evil_name)])


def test_a_short_rsa_key_is_refused(gnupg: GnuPG, keys: _Keys) -> None:
    signature = gnupg.sign(keys.rsa_weak, _DATA)

    with pytest.raises(BadSignatureError) as caught:
        openpgp.verify_detached(signature, _DATA, [gnupg.certificate(keys.rsa_weak)])

    assert "too weak" in caught.value.why


def test_a_long_rsa_key_passes_and_its_longer_packet_has_one_form(gnupg: GnuPG) -> None:
    fingerprint = gnupg.key("Long <long@example.invalid>", algorithm="rsa3072")
    certificate, signature = gnupg.certificate(fingerprint), gnupg.sign(fingerprint, _DATA)

    assert signature[0] == 0x89
    assert openpgp.verify_detached(signature, _DATA, [certificate]).fingerprint == fingerprint
    for spoilt in (b"\x8a\x00\x00" + signature[1:], b"\xc2\xff\x00\x00" + signature[1:], b"\x88" + signature[2:]):
        assert _is_malformed(spoilt, [certificate])


def test_a_key_on_a_nist_curve_passes(gnupg: GnuPG, keys: _Keys) -> None:
    signature = gnupg.sign(keys.nist, _DATA)

    assert openpgp.verify_detached(signature, _DATA, [gnupg.certificate(keys.nist)]).fingerprint == keys.nist


def test_a_signing_subkey_counts_as_its_primary_key(gnupg: GnuPG) -> None:
    primary = gnupg.key("Subkeys <subkeys@example.invalid>")
    gnupg.run("--quick-add-key", primary, "ed25519", "sign", "0")
    listing = gnupg.run("--with-colons", "--with-subkey-fingerprint", "--list-keys", primary).decode()
    subkey = [line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:")][1]

    signature = gnupg.sign(subkey, _DATA)

    assert openpgp.require_signature_packet(signature).fingerprint == subkey
    assert openpgp.verify_detached(signature, _DATA, [gnupg.certificate(primary)]).fingerprint == primary


def test_a_key_in_two_certificates_has_no_owner(signature: bytes, certificate: bytes) -> None:
    with pytest.raises(MalformedError, match="two owners"):
        openpgp.verify_detached(signature, _DATA, [certificate, certificate])


def test_the_user_id_and_notations_that_gnupg_may_add_under_the_signature_pass(
    gnupg: GnuPG, keys: _Keys, certificate: bytes
) -> None:
    signature = gnupg.run(
        *("-u", "good@example.invalid", "--set-notation", "salt@example.invalid=1", "--detach-sign"), data=_DATA
    )

    assert openpgp.verify_detached(signature, _DATA, [certificate]).fingerprint == keys.good


@pytest.mark.parametrize(
    "options",
    [
        ("--sig-keyserver-url", "http://keys.example.invalid"),
        ("--sig-policy-url", "http://policy.example.invalid"),
        ("--set-notation", "!critical@example.invalid=1"),
    ],
)
def test_other_additions_are_malformed(gnupg: GnuPG, keys: _Keys, certificate: bytes, options: tuple[str, ...]) -> None:
    signature = gnupg.sign(keys.good, _DATA, *options)

    with pytest.raises(MalformedError):
        openpgp.verify_detached(signature, _DATA, [certificate])


def test_a_signature_of_a_text_document_is_refused(gnupg: GnuPG, keys: _Keys, certificate: bytes) -> None:
    signature = gnupg.sign(keys.good, _DATA, "--textmode")

    with pytest.raises(BadSignatureError) as caught:
        openpgp.verify_detached(signature, _DATA, [certificate])

    assert "class 0x01" in caught.value.why


def test_whatever_is_not_exactly_one_binary_signature_packet_is_malformed(
    gnupg: GnuPG, keys: _Keys, signature: bytes, certificate: bytes
) -> None:
    select = ("-u", f"{keys.good}!")
    inline = gnupg.run(*select, "--sign", data=_DATA)
    spoilt = {
        "empty": b"",
        "junk": b"\x00" * 119,
        "text": b"-----BEGIN PGP SIGNATURE-----\n",
        "armored": gnupg.run(*select, "--armor", "--detach-sign", data=_DATA),
        "clear signed": gnupg.run(*select, "--clear-sign", data=_DATA),
        "inline, compressed": inline,
        "inline": gnupg.run(*select, "-z", "0", "--sign", data=_DATA),
        "twice the same": signature + signature,
        "two good": signature + gnupg.sign(keys.other, _DATA),
        "good and unknown": signature + gnupg.sign(keys.evil_name, _DATA),
        "text before": b"Trust me.\n" + signature,
        "text after": signature + b"\n",
        "one byte short": signature[:-1],
        "one byte more": signature + b"\x00",
        "a certificate": certificate,
        "a marker packet before": b"\xa8\x03PGP" + signature,
        "a length of two octets": b"\x89\x00" + signature[1:],
        "no length": b"\x8b" + signature[2:],
        "a partial length": b"\xc2\xe0" + signature[2:],
    }

    for name, untrusted in spoilt.items():
        assert _is_malformed(untrusted, [certificate, gnupg.certificate(keys.other)]), name


def test_a_new_format_header_of_shortest_length_is_the_same_signature(
    keys: _Keys, signature: bytes, certificate: bytes
) -> None:
    rewritten = b"\xc2" + signature[1:]

    assert openpgp.verify_detached(rewritten, _DATA, [certificate]).fingerprint == keys.good


@pytest.mark.parametrize("zone", range(_ZONES))
def test_no_changed_bit_of_the_signature_file_passes(signature: bytes, certificate: bytes, zone: int) -> None:
    """Scenario: somebody changes one bit of a .sig file on the medium. gpgv 2.2 accepts about one in ten of these."""
    for bit in range(zone, len(signature) * 8, _ZONES):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << (bit % 8)

        assert _is_refused(bytes(changed), certificate), f"bit {bit} may differ"


def test_every_fresh_signature_of_gnupg_has_the_accepted_form(gnupg: GnuPG, keys: _Keys) -> None:
    for number in range(40):  # one in 128 has a number with eight leading zero bits
        openpgp.require_signature_packet(gnupg.sign(keys.good, b"%d" % number))


def test_sizes_are_capped_before_anything_is_read(signature: bytes, certificate: bytes) -> None:
    with pytest.raises(LimitExceededError):
        openpgp.verify_detached(bytes(limits.SIGNATURE_BYTES + 1), _DATA, [certificate])
    with pytest.raises(LimitExceededError):
        openpgp.verify_detached(signature, bytes(limits.SIGNED_BYTES + 1), [certificate])
    with pytest.raises(LimitExceededError):
        openpgp.verify_detached(signature, _DATA, [bytes(limits.CERTIFICATE_BYTES + 1)])


def test_what_is_exactly_at_a_limit_is_judged_by_its_content(signature: bytes, certificate: bytes) -> None:
    with pytest.raises(BadSignatureError):
        openpgp.verify_detached(signature, bytes(limits.SIGNED_BYTES), [certificate])
    with pytest.raises(MalformedError):
        openpgp.verify_detached(bytes(limits.SIGNATURE_BYTES), _DATA, [certificate])
    with pytest.raises(MalformedError):
        openpgp.verify_detached(signature, _DATA, [bytes(limits.CERTIFICATE_BYTES)])


def _fake_gpgv(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "gpgv"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_a_missing_gpgv_is_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signature: bytes, certificate: bytes
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(CannotVerifyError) as caught:
        openpgp.verify_detached(signature, _DATA, [certificate])

    assert caught.value.fix == "Install Debian's package gpgv and try again."


def test_a_signature_is_judged_where_no_temporary_file_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: _Keys, signature: bytes, certificate: bytes
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))

    assert openpgp.verify_detached(signature, _DATA, [certificate]).fingerprint == keys.good


def test_a_gpgv_that_dies_is_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signature: bytes, certificate: bytes
) -> None:
    _fake_gpgv(tmp_path, monkeypatch, "kill -9 $$")

    with pytest.raises(CannotVerifyError):
        openpgp.verify_detached(signature, _DATA, [certificate])


@pytest.mark.parametrize("script", ["exit 0", "echo '[GNUPG:] NEWSIG' >/proc/self/fd/$7; exit 0", "exit 2"])
def test_an_exit_code_of_zero_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signature: bytes, certificate: bytes, script: str
) -> None:
    _fake_gpgv(tmp_path, monkeypatch, script)

    with pytest.raises(BadSignatureError):
        openpgp.verify_detached(signature, _DATA, [certificate])


def test_good_status_lines_do_not_excuse_a_bad_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: _Keys, signature: bytes, certificate: bytes
) -> None:
    (tmp_path / "status").write_bytes(_status(keys, signature))
    _fake_gpgv(tmp_path, monkeypatch, f"cat {tmp_path}/status >/proc/self/fd/$7; exit 1")

    with pytest.raises(SealiftError) as caught:
        openpgp.verify_detached(signature, _DATA, [certificate])

    assert caught.value.why == "gpgv ended with 1"


def _status(keys: _Keys, signature: bytes) -> bytes:
    packet = openpgp.require_signature_packet(signature)
    seconds = int(packet.created.timestamp())
    return (
        "[GNUPG:] NEWSIG\n"
        f"[GNUPG:] KEY_CONSIDERED {keys.good} 0\n"
        f"[GNUPG:] SIG_ID abc {packet.created:%Y-%m-%d} {seconds}\n"
        f"[GNUPG:] GOODSIG {keys.good[-16:]} Good Signer\n"
        f"[GNUPG:] VALIDSIG {keys.good} {packet.created:%Y-%m-%d} {seconds} 0 4 0 22 10 00 {keys.good}\n"
    ).encode()


def test_the_status_of_one_good_signature_passes(keys: _Keys, signature: bytes) -> None:
    packet = openpgp.require_signature_packet(signature)

    openpgp.require_good_status(_status(keys, signature), packet=packet, primary=keys.good)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"GOODSIG", b"BADSIG"),
        (b"GOODSIG", b"EXPSIG"),
        (b"GOODSIG", b"EXPKEYSIG"),
        (b"GOODSIG", b"REVKEYSIG"),
        (b"GOODSIG", b"ERRSIG"),
        (b"[GNUPG:] NEWSIG\n", b""),
        (b"[GNUPG:] NEWSIG\n", b"[GNUPG:] NEWSIG\n[GNUPG:] NEWSIG\n"),
        (b"[GNUPG:] NEWSIG\n", b"[GNUPG:] NEWSIG\n[GNUPG:] NO_PUBKEY 0123456789ABCDEF\n"),
        (b"[GNUPG:] NEWSIG\n", b"[GNUPG:] NEWSIG\n[GNUPG:] NODATA 4\n"),
        (b"[GNUPG:] NEWSIG\n", b"[GNUPG:] NEWSIG\n[GNUPG:] FAILURE gpg-exit 1\n"),
        (b"[GNUPG:] NEWSIG\n", b"[GNUPG:] NEWSIG\n[GNUPG:] SOMETHING_NEW\n"),
        (b"[GNUPG:] NEWSIG\n", b"[GNUPG:] NEWSIG\n\n"),
        (b"[GNUPG:] NEWSIG\n", b"gpgv: note\n[GNUPG:] NEWSIG\n"),
        (b"[GNUPG:] NEWSIG\n", b" [GNUPG:] NEWSIG\n"),
        (b"[GNUPG:] SIG_ID", b"\xff\xfe[GNUPG:] SIG_ID"),
        (b"[GNUPG:] NEWSIG", b"[gnupg:] NEWSIG"),
        (b"[GNUPG:] SIG_ID", b"123456789SIG_ID"),
        (b" 22 10 00 ", b" 22 2 00 "),
        (b" 22 10 00 ", b" 1 10 00 "),
        (b" 22 10 00 ", b" 22 10 01 "),
        (b" 0 4 0 ", b" 1900000000 4 0 "),
        (b" 0 4 0 ", b" 0 3 0 "),
        (b" Good Signer\n[GNUPG:] VALIDSIG", b" Good Signer [GNUPG:] VALIDSIG"),
    ],
)
def test_any_other_status_is_refused(keys: _Keys, signature: bytes, old: bytes, new: bytes) -> None:
    status = _status(keys, signature)
    assert old in status

    with pytest.raises(BadSignatureError):
        openpgp.require_good_status(
            status.replace(old, new, 1), packet=openpgp.require_signature_packet(signature), primary=keys.good
        )


def test_a_status_about_another_key_or_cut_short_is_refused(keys: _Keys, signature: bytes) -> None:
    packet = openpgp.require_signature_packet(signature)
    status = _status(keys, signature)

    for other in (
        status.replace(keys.good[-16:].encode() + b" Good", b"0" * 16 + b" Good"),
        status.replace(keys.good.encode() + b"\n", keys.other.encode() + b"\n"),
        status[:-1],
        status + b"[GNUPG:] BADSIG",
        status + status,
        b"",
    ):
        with pytest.raises(BadSignatureError):
            openpgp.require_good_status(other, packet=packet, primary=keys.good)
    with pytest.raises(BadSignatureError):
        openpgp.require_good_status(status, packet=packet, primary=keys.other)
