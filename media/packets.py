"""OpenPGP packets, read strictly: what GnuPG 2.2 writes passes, every other spelling of it is refused (TRUST-10 to 15).

gpgv tolerates 91 of the 952 one-bit changes of a signature file. None of them changes what was signed, but a file that
may differ and still pass is no evidence, so the shape is fixed here before gpgv looks at the content.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from media import limits
from media.errors import LimitExceededError, MalformedError

SIGNATURE_TAG = 2
_PRIMARY_TAG, _SUBKEY_TAG, _USER_ID_TAG, _ATTRIBUTE_TAG = 6, 14, 13, 17
_CERTIFICATE_TAGS = {_PRIMARY_TAG, _SUBKEY_TAG, _USER_ID_TAG, _ATTRIBUTE_TAG, SIGNATURE_TAG}

RSA, ECDSA, EDDSA = 1, 19, 22
_MPIS = {RSA: 1, ECDSA: 2, EDDSA: 2}  # numbers at the end of a signature

_CREATED, _ISSUER, _NOTATION, _SIGNER_USER_ID, _ISSUER_FINGERPRINT = 2, 16, 20, 28, 33
# The hashed area is under the signature itself: GnuPG adds the user id when asked by address, other makers a salt.
_HASHED_ALLOWED = {_CREATED, _ISSUER_FINGERPRINT, _SIGNER_USER_ID, _NOTATION}

_CURVES = {
    bytes.fromhex("2b06010401da470f01"): ("ed25519", 255),
    bytes.fromhex("2a8648ce3d030107"): ("nistp256", 256),
    bytes.fromhex("2b81040022"): ("nistp384", 384),
    bytes.fromhex("2b81040023"): ("nistp521", 521),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignaturePacket:
    """What the one packet of a signature file says, before anything is verified.

    Args:
        fingerprint: The key that claims to have signed: a primary key or a subkey.
        created: The time that the signer's clock showed.
        kind: The signature's class; 0 is a binary document.
        key_algorithm: OpenPGP's number.
        hash_algorithm: OpenPGP's number.
        hashed: The part of the packet that the signature covers.
        left: The first two octets of the digest, as the packet claims them.
    """

    fingerprint: str
    created: datetime
    kind: int
    key_algorithm: int
    hash_algorithm: int
    hashed: bytes
    left: bytes

    def trailer(self) -> bytes:
        """Return what is hashed after the document: the covered part and its length."""
        return self.hashed + b"\x04\xff" + len(self.hashed).to_bytes(4, "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """One key of a certificate.

    Args:
        fingerprint: Version 4, forty upper-case digits.
        algorithm: OpenPGP's number.
        bits: Size of the modulus or the field.
        material: Names the key material itself, whatever packet or PEM file it came in.
    """

    fingerprint: str
    algorithm: int
    bits: int
    material: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A minimal binary certificate: one primary key first, its user ids, subkeys and their signatures.

    Args:
        keys: The primary key, then the subkeys.
        raw: The bytes it was read from.
        signature_hashes: OpenPGP's numbers of the hashes under its signatures, 1 for MD5 and 2 for SHA-1.
    """

    keys: tuple[PublicKey, ...]
    raw: bytes
    signature_hashes: tuple[int, ...] = ()

    @property
    def fingerprint(self) -> str:
        """The primary key's fingerprint."""
        return self.keys[0].fingerprint

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> "Certificate":
        """Read a certificate.

        Raises:
            LimitExceededError: More bytes than a certificate may have.
            MalformedError: Not exactly one public version 4 certificate, or it holds a private key.
        """
        if len(untrusted) > limits.CERTIFICATE_BYTES:
            raise _too_large("A certificate", len(untrusted), limits.CERTIFICATE_BYTES)
        keys = []
        packets = list(_packets(untrusted, "A certificate"))
        for number, (tag, body) in enumerate(packets):
            if tag not in _CERTIFICATE_TAGS or (tag == _PRIMARY_TAG) != (number == 0):
                raise _malformed("A certificate", "expected one public key with its user ids and subkeys, nothing else")
            if tag in {_PRIMARY_TAG, _SUBKEY_TAG}:
                keys.append(_public_key(body))
        if not {_PRIMARY_TAG, _USER_ID_TAG, SIGNATURE_TAG} <= {tag for tag, _ in packets}:
            raise _malformed("A certificate", "it holds no user id that its owner signed")
        hashes = tuple(body[3] for tag, body in packets if tag == SIGNATURE_TAG and len(body) > 3)
        return cls(keys=tuple(keys), raw=untrusted, signature_hashes=hashes)


def require_signature_packet(untrusted: bytes) -> SignaturePacket:
    """Return what a detached signature file says, if it is exactly one version 4 signature packet (TRUST-10 to 13).

    Raises:
        LimitExceededError: More bytes than a signature may have.
        MalformedError: Armor, text, two packets, another version, an area with more than it should hold, or numbers
            that are not written in their shortest form.
    """
    if len(untrusted) > limits.SIGNATURE_BYTES:
        raise _too_large("A signature", len(untrusted), limits.SIGNATURE_BYTES)
    packets = list(_packets(untrusted, "A signature", shortest=True))
    if [tag for tag, _ in packets] != [SIGNATURE_TAG]:
        raise _malformed("A signature", f"expected one signature packet, found {len(packets)} packets")
    body = packets[0][1]
    packet, after = _covered_part(body)
    after = _unhashed_area(body, after, packet.fingerprint)
    if len(body) < after + 2:
        raise _malformed("A signature", "it ends early")
    rest = _numbers(body, after + 2, _MPIS[packet.key_algorithm])
    if rest != len(body):
        raise _malformed("A signature", "bytes follow the signature's numbers")
    return packet_with_left(packet, body[after : after + 2])


def require_covered_part(untrusted: bytes) -> SignaturePacket:
    """Return what `other_headers` of a TUF or DSSE signature by an OpenPGP key says, under the same rules (TRUST-14).

    Raises:
        MalformedError: Not exactly the covered part of one version 4 signature.
    """
    if len(untrusted) > limits.SIGNATURE_BYTES:
        raise _malformed("A signature", "its covered part is too large")
    packet, after = _covered_part(untrusted)
    if after != len(untrusted):
        raise _malformed("A signature", "bytes follow its covered part")
    return packet


def packet_with_left(packet: SignaturePacket, left: bytes) -> SignaturePacket:
    """Return the packet with the two octets of the digest that it claims."""
    return SignaturePacket(
        fingerprint=packet.fingerprint,
        created=packet.created,
        kind=packet.kind,
        key_algorithm=packet.key_algorithm,
        hash_algorithm=packet.hash_algorithm,
        hashed=packet.hashed,
        left=left,
    )


def _covered_part(body: bytes) -> tuple[SignaturePacket, int]:
    if len(body) < 6 or body[0] != 4:
        raise _malformed("A signature", "expected version 4")
    if body[2] not in _MPIS:
        raise _malformed("A signature", f"key algorithm {body[2]} is not used here")
    end = 6 + int.from_bytes(body[4:6], "big")
    if end > len(body):
        raise _malformed("A signature", "it ends early")
    found = _subpackets(body[6:end])
    kinds = [kind for kind, _ in found]
    if not set(kinds) <= _HASHED_ALLOWED or kinds.count(_CREATED) != 1 or kinds.count(_ISSUER_FINGERPRINT) != 1:
        raise _malformed("A signature", "its hashed area does not hold one time and one issuer fingerprint")
    fields = dict(found)
    issuer, created = fields[_ISSUER_FINGERPRINT], fields[_CREATED]
    if len(created) != 4 or len(issuer) != 21 or issuer[0] != 4:
        raise _malformed("A signature", "its time or its issuer fingerprint has another length")
    packet = SignaturePacket(
        fingerprint=issuer[1:].hex().upper(),
        created=datetime.fromtimestamp(int.from_bytes(created, "big"), tz=UTC),
        kind=body[1],
        key_algorithm=body[2],
        hash_algorithm=body[3],
        hashed=body[:end],
        left=b"",
    )
    return packet, end


def _unhashed_area(body: bytes, start: int, fingerprint: str) -> int:
    end = start + 2 + int.from_bytes(body[start : start + 2], "big")
    if len(body) < start + 2 or end > len(body):
        raise _malformed("A signature", "it ends early")
    expected = bytes((9, _ISSUER)) + bytes.fromhex(fingerprint)[-8:]
    if body[start + 2 : end] != expected:
        raise _malformed("A signature", "its unhashed area holds something else than the key id of its issuer")
    return end


def _subpackets(area: bytes) -> list[tuple[int, bytes]]:
    found = []
    at = 0
    while at < len(area):
        length = area[at]
        at += 1
        if 192 <= length < 255:
            if at >= len(area):
                raise _malformed("A signature", "a subpacket ends early")
            length = ((length - 192) << 8) + area[at] + 192
            at += 1
        elif length == 255:
            raise _malformed("A signature", "a subpacket is too large")
        if length == 0 or at + length > len(area):
            raise _malformed("A signature", "a subpacket ends early")
        found.append((area[at], area[at + 1 : at + length]))  # the critical bit is part of the number: refused
        at += length
    return found


def _numbers(body: bytes, start: int, count: int) -> int:
    for _ in range(count):
        if start + 2 > len(body):
            raise _malformed("A signature", "it ends early")
        bits = int.from_bytes(body[start : start + 2], "big")
        end = start + 2 + (bits + 7) // 8
        if end > len(body):
            raise _malformed("A signature", "it ends early")
        if int.from_bytes(body[start + 2 : end], "big").bit_length() != bits:
            raise _malformed("A signature", "a number is not written in its shortest form")
        start = end
    return start


def _packets(untrusted: bytes, what: str, *, shortest: bool = False) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(untrusted):
        first = untrusted[at]
        at += 1
        if not first & 0x80:
            raise _malformed(what, "it is not binary OpenPGP")
        if first & 0x40:
            tag, (length, used) = first & 0x3F, _new_length(untrusted[at : at + 5], what)
        else:
            tag, (length, used) = (first >> 2) & 0x0F, _old_length(first & 3, untrusted[at : at + 4], what)
        at += used
        if at + length > len(untrusted):
            raise _malformed(what, "it ends early")
        if shortest and used != _shortest(length, new=bool(first & 0x40)):
            raise _malformed(what, "a length is not written in its shortest form")
        yield tag, untrusted[at : at + length]
        at += length


def _old_length(kind: int, head: bytes, what: str) -> tuple[int, int]:
    used = (1, 2, 4, 0)[kind]
    if not used or len(head) < used:
        raise _malformed(what, "a packet has no definite length")
    return int.from_bytes(head[:used], "big"), used


def _new_length(head: bytes, what: str) -> tuple[int, int]:
    if head and head[0] < 192:
        return head[0], 1
    if len(head) >= 2 and 192 <= head[0] < 224:
        return ((head[0] - 192) << 8) + head[1] + 192, 2
    if len(head) == 5 and head[0] == 255:
        return int.from_bytes(head[1:], "big"), 5
    raise _malformed(what, "a packet has no definite length")


def _shortest(length: int, *, new: bool) -> int:
    if new:
        return 1 if length < 192 else 2 if length < 8384 else 5
    return 1 if length < 256 else 2 if length < 65536 else 4


def _public_key(body: bytes) -> PublicKey:
    if len(body) < 7 or body[0] != 4 or len(body) > 65535:
        raise _malformed("A certificate", "expected keys of version 4")
    # SHA-1 names version 4 keys by definition (RFC 4880, 12.2); it protects nothing here.
    name = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False)
    bits, material = _material(body[5], body[6:])
    return PublicKey(fingerprint=name.hexdigest().upper(), algorithm=body[5], bits=bits, material=material)


def _material(algorithm: int, fields: bytes) -> tuple[int, str]:
    if algorithm == RSA:
        modulus, at = _number(fields, 0)
        exponent, _ = _number(fields, at)
        return modulus.bit_length(), rsa_material(modulus, exponent)
    if algorithm in {ECDSA, EDDSA}:
        oid = fields[1 : 1 + fields[0]]
        point, _ = _number(fields, 1 + fields[0])
        name, bits = _CURVES.get(oid, (f"curve-{oid.hex()}", 0))
        digits = f"{point:x}"
        return bits, curve_material(name, digits.removeprefix("40" if name == "ed25519" else "4"))
    return 0, f"openpgp-{algorithm}:{hashlib.sha256(fields).hexdigest()}"


def _number(fields: bytes, at: int) -> tuple[int, int]:
    bits = int.from_bytes(fields[at : at + 2], "big")
    end = at + 2 + (bits + 7) // 8
    if len(fields) < end or len(fields) < at + 2:
        raise _malformed("A certificate", "a key ends early")
    return int.from_bytes(fields[at + 2 : end], "big"), end


def rsa_material(modulus: int, exponent: int) -> str:
    """Name an RSA key by what it is."""
    return f"rsa:{modulus:x}:{exponent:x}"


def curve_material(curve: str, point_hex: str) -> str:
    """Name a key on a curve by what it is: the 32 octets of Ed25519, or both coordinates."""
    return f"{curve}:{point_hex.lower()}"


def _too_large(what: str, found: int, most: int) -> LimitExceededError:
    return LimitExceededError(
        what=f"{what} is too large",
        why=f"{found} bytes, at most {most} are read",
        fix="Do not use this medium; ask the sender for a new one.",
    )


def _malformed(what: str, why: str) -> MalformedError:
    return MalformedError(
        what=f"{what} is malformed", why=why, fix="Do not use this medium; ask the sender for a new one."
    )
