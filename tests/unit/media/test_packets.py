"""OpenPGP packets: certificates, and what of a signature is covered."""

import pytest

from media import limits, packets
from media.errors import LimitExceededError, MalformedError
from tests.support.gpg import GnuPG
from tests.support.sender import Sender


@pytest.fixture(scope="module")
def certificate(sender: Sender) -> bytes:
    return sender.certificates["alice"]


def test_a_certificate_has_the_fingerprint_that_gpg_shows(sender: Sender, certificate: bytes) -> None:
    parsed = packets.Certificate.from_bytes(certificate)

    assert parsed.fingerprint == sender.fingerprints["alice", "release"]
    assert parsed.raw == certificate
    assert [(key.algorithm, key.bits) for key in parsed.keys] == [(packets.EDDSA, 255)]


def test_the_same_point_has_the_same_name_in_tuf_and_openpgp(sender: Sender, certificate: bytes) -> None:
    public = sender.signers["alice", "release"].public_key.keyval["public"]["q"]

    assert packets.Certificate.from_bytes(certificate).keys[0].material == f"ed25519:{public}"


@pytest.mark.parametrize(
    ("algorithm", "kind", "bits"),
    [("rsa3072", "rsa", 3072), ("nistp384", "nistp384", 384), ("nistp521", "nistp521", 521)],
)
def test_other_kinds_of_keys_are_measured(gnupg: GnuPG, algorithm: str, kind: str, bits: int) -> None:
    fingerprint = gnupg.key(f"Kind {algorithm} <{algorithm}@example.invalid>", algorithm=algorithm)

    key = packets.Certificate.from_bytes(gnupg.certificate(fingerprint)).keys[0]

    assert (key.fingerprint, key.bits, key.material.partition(":")[0]) == (fingerprint, bits, kind)


def test_a_curve_that_nobody_asked_for_has_no_strength(gnupg: GnuPG) -> None:
    fingerprint = gnupg.key("Curve <curve@example.invalid>", algorithm="brainpoolP256r1")

    key = packets.Certificate.from_bytes(gnupg.certificate(fingerprint)).keys[0]

    assert (key.bits, key.material.partition(":")[0]) == (0, "curve-2b2403030208010107")


def test_subkeys_are_listed_after_the_primary_key(gnupg: GnuPG) -> None:
    primary = gnupg.key("Two Keys <two@example.invalid>")
    gnupg.run("--quick-add-key", primary, "cv25519", "encr", "0")

    keys = packets.Certificate.from_bytes(gnupg.certificate(primary)).keys

    assert [key.algorithm for key in keys] == [packets.EDDSA, 18]
    assert keys[0].fingerprint == primary
    assert keys[1].material.startswith("openpgp-18:")


def test_a_certificate_is_one_public_key_and_nothing_else(gnupg: GnuPG, sender: Sender, certificate: bytes) -> None:
    fingerprint = sender.fingerprints["alice", "release"]
    key, user_id = certificate[: 2 + certificate[1]], certificate[2 + certificate[1] :]
    spoilt = {
        "empty": b"",
        "junk": b"\xff" * 40,
        "text": b"-----BEGIN PGP PUBLIC KEY BLOCK-----",
        "armored": sender.gnupg.run("--armor", "--export", fingerprint),
        "private": sender.gnupg.run("--export-secret-keys", fingerprint),
        "two": certificate + sender.certificates["bob"],
        "twice": certificate + certificate,
        "no key": user_id,
        "only a key": key,
        "key last": user_id + key,
        "cut": certificate[:-1],
        "byte after": certificate + b"\x00",
        "a signature": sender.detached("alice", b"x"),
        "version 3": bytes((key[0], key[1], 3)) + key[3:] + user_id,
        "key too short": b"\x98\x03\x04\x00\x00" + user_id,
        "key ends in a number": b"\x98\x13" + key[2:21] + user_id,
        "rsa ends in a number": b"\x98\x0a\x04\x00\x00\x00\x00\x01\xff\xff\x00\x00" + user_id,
        "no numbers": b"\x98\x07\x04\x00\x00\x00\x00\x01\x00" + user_id,
        "no curve": b"\x98\x07\x04\x00\x00\x00\x00\x16\xff" + user_id,
        "marker": certificate + b"\xa8\x03PGP",
        "length that never ends": b"\x9b" + key[2:] + user_id,
        "length of five octets cut": b"\xc6\xff\x00\x00",
        "length of four octets cut": b"\x9a\x00\x00",
        "length of two octets cut": certificate + b"\xcd\xc0",
        "no length at all": certificate + b"\xcd",
        "a user id that never ends": key + b"\xb7" + user_id[2 + user_id[1] :],
        "a partial user id": certificate + b"\xcd\xe0\x00\x00\x00\x00",
        "not a packet": bytes((key[0] & 0x7F,)) + certificate[1:],
    }

    for name, untrusted in spoilt.items():
        assert _is_malformed(untrusted), name


def _is_malformed(untrusted: bytes) -> bool:
    try:
        packets.Certificate.from_bytes(untrusted)
    except MalformedError:
        return True
    return False


def test_a_certificate_may_use_any_definite_length(certificate: bytes, sender: Sender) -> None:
    length, rest = certificate[1], certificate[2:]

    for header in (b"\x99\x00", b"\x9a\x00\x00\x00", b"\xc6", b"\xc6\xff\x00\x00\x00"):
        parsed = packets.Certificate.from_bytes(header + bytes((length,)) + rest)

        assert parsed.fingerprint == sender.fingerprints["alice", "release"]


def test_a_certificate_is_capped_before_it_is_read() -> None:
    with pytest.raises(LimitExceededError):
        packets.Certificate.from_bytes(b"\x98" * (limits.CERTIFICATE_BYTES + 1))


def _signature(sender: Sender) -> bytes:
    return sender.detached("alice", b"x")


def test_the_first_octet_of_a_signature_is_that_of_a_packet(sender: Sender) -> None:
    signature = _signature(sender)

    for first in set(range(256)) - {0x88, 0xC2}:
        with pytest.raises(MalformedError):
            packets.require_signature_packet(bytes((first,)) + signature[1:])


def test_the_covered_part_is_read_alone(sender: Sender) -> None:
    whole = packets.require_signature_packet(_signature(sender))

    alone = packets.require_covered_part(whole.hashed)

    assert (alone.fingerprint, alone.created, alone.kind) == (whole.fingerprint, whole.created, 0)
    assert alone.left == b""
    assert whole.trailer()[-6:-4] == b"\x04\xff"
    for spoilt in (whole.hashed + b"\x00", whole.hashed[:-1], b"", bytes(limits.SIGNATURE_BYTES + 1)):
        with pytest.raises(MalformedError):
            packets.require_covered_part(spoilt)


def _covered(area: bytes, *, version: int = 4, algorithm: int = 22) -> bytes:
    return bytes((version, 0, algorithm, 8)) + len(area).to_bytes(2, "big") + area


_TIME = b"\x05\x02\x00\x00\x00\x01"
_ISSUER = b"\x16\x21\x04" + b"\xab" * 20


@pytest.mark.parametrize(
    "area",
    [
        b"",
        _TIME,
        _ISSUER,
        _TIME + _TIME + _ISSUER,
        _TIME + _ISSUER + _ISSUER,
        _TIME + _ISSUER + b"\x09\x10" + b"\xab" * 8,
        _TIME + _ISSUER + b"\x05\x03\x00\x00\x00\x01",
        b"\x04\x02\x00\x00\x00" + _ISSUER,
        _TIME + b"\x16\x21\x05" + b"\xab" * 20,
        _TIME + b"\x15\x21\x04" + b"\xab" * 19,
        b"\x05\x82\x00\x00\x00\x01" + _ISSUER,
        _TIME + _ISSUER + b"\x00",
        _TIME + _ISSUER + b"\x05\x1c",
        _TIME + _ISSUER + b"\xc0",
        _TIME + _ISSUER + b"\xff\x00\x00\x00\x01\x1c",
    ],
)
def test_a_covered_area_with_anything_else_is_malformed(area: bytes) -> None:
    assert packets.require_covered_part(_covered(_TIME + _ISSUER)).fingerprint == "AB" * 20
    with pytest.raises(MalformedError):
        packets.require_covered_part(_covered(area))


def test_a_long_notation_in_the_covered_area_passes() -> None:
    notation = b"\xc1\x00" + b"\x14" + bytes(447)

    assert packets.require_covered_part(_covered(_TIME + _ISSUER + notation)).fingerprint == "AB" * 20


def test_other_versions_and_algorithms_are_malformed() -> None:
    for part in (
        _covered(_TIME + _ISSUER, version=3),
        _covered(_TIME + _ISSUER, version=5),
        _covered(_TIME + _ISSUER, algorithm=17),
        _covered(_TIME + _ISSUER, algorithm=99),
    ):
        with pytest.raises(MalformedError):
            packets.require_covered_part(part)


def _packet(after_covered: bytes) -> bytes:
    body = _covered(_TIME + _ISSUER) + after_covered
    return b"\x88" + bytes((len(body),)) + body


_UNHASHED = b"\x00\x0a\x09\x10" + b"\xab" * 8


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"\x00",
        b"\x00\x0a\x09\x10",
        b"\x00\x00" + b"\x12\x34\x00\x01\x01\x00\x01\x01",
        b"\x00\x0a\x09\x10" + b"\xac" * 8 + b"\x12\x34\x00\x01\x01\x00\x01\x01",
        b"\x00\x10" + _UNHASHED[2:] + _TIME + b"\x12\x34\x00\x01\x01\x00\x01\x01",
        b"\x00\x14" + _UNHASHED[2:] * 2 + b"\x12\x34\x00\x01\x01\x00\x01\x01",
        _UNHASHED,
        _UNHASHED + b"\x12",
        _UNHASHED + b"\x12\x34",
        _UNHASHED + b"\x12\x34\x00",
        _UNHASHED + b"\x12\x34\x00\x01\x01",
        _UNHASHED + b"\x12\x34\x00\x01\x01\x00\x09\x01",
        _UNHASHED + b"\x12\x34\x00\x02\x01\x00\x01\x01",
        _UNHASHED + b"\x12\x34\x00\x01\x01\x00\x01\x01\x00\x01\x01",
    ],
)
def test_what_follows_the_covered_part_has_one_form(rest: bytes) -> None:
    good = packets.require_signature_packet(_packet(_UNHASHED + b"\x12\x34\x00\x01\x01\x00\x01\x01"))
    assert good.left == b"\x12\x34"

    with pytest.raises(MalformedError):
        packets.require_signature_packet(_packet(rest))
