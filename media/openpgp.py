"""Detached OpenPGP signatures, verified by gpgv and judged by its status lines (TRUST-10 to TRUST-22).

Rules: the shape is fixed first (`media.packets`); gpgv gets a keyring made here from the trusted certificates, no home
and no other option than to ignore the clock, all of it in memory; its exit code proves nothing (it is 0 for a revoked
key), so its status, read from a pipe of its own, must hold exactly one NEWSIG, GOODSIG and VALIDSIG that agree with the
packet, and no line that is not known to be harmless.
"""

import hashlib
import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from threading import Timer
from typing import BinaryIO, Final

from media import limits, packets
from media.errors import BadSignatureError, CannotVerifyError, LimitExceededError, MalformedError
from media.packets import Certificate, PublicKey, SignaturePacket, require_signature_packet

__all__ = ["GoodSignature", "SignaturePacket", "certificate_fingerprint", "require_signature_packet", "verify_detached"]

_HASHES = {8: hashlib.sha256, 9: hashlib.sha384, 10: hashlib.sha512}
_LEAST_BITS = {packets.RSA: 3072, packets.ECDSA: 256, packets.EDDSA: 255}
_PREFIX = b"[GNUPG:] "
_HARMLESS = {b"KEY_CONSIDERED", b"SIG_ID", b"NOTATION_NAME", b"NOTATION_DATA", b"NOTATION_FLAGS"}
_WHY = {
    b"BADSIG": "the signature does not fit the file",
    b"ERRSIG": "the signature could not be checked",
    b"EXPSIG": "the signature has expired",
    b"EXPKEYSIG": "the key has expired",
    b"REVKEYSIG": "the key was revoked by its owner",
    b"KEYEXPIRED": "the key has expired",
    b"KEYREVOKED": "the key was revoked by its owner",
    b"NO_PUBKEY": "the key is not one that the root names",
    b"NODATA": "there is no signature",
}
_SECONDS = 60
_NO_HOME: Final = "/proc/self/fdinfo/home"  # never there


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodSignature:
    """A signature that holds.

    Args:
        fingerprint: The primary key's.
        created: The time that the signer's clock showed; evidence, not proof.
    """

    fingerprint: str
    created: datetime


def certificate_fingerprint(untrusted: bytes) -> str:
    """Return the primary fingerprint of one binary certificate.

    Raises:
        LimitExceededError: More bytes than a certificate may have.
        MalformedError: Not exactly one public version 4 certificate.
    """
    return Certificate.from_bytes(untrusted).fingerprint


def verify_detached(untrusted_signature: bytes, data: bytes, certificates: Sequence[bytes]) -> GoodSignature:
    """Return who signed the data, if one of the certificates' keys did.

    Args:
        untrusted_signature: The bytes of a signature file.
        data: What it is said to sign.
        certificates: The trusted ones, from the root or from enrolment; never from the medium.

    Raises:
        BadSignatureError: The signature is wrong, weak, expired, by a revoked, expired or unknown key.
        CannotVerifyError: gpgv is missing or died.
        LimitExceededError: The signature, the data or a certificate is too large.
        MalformedError: The signature file or a certificate is not in the one accepted form.
    """
    if len(data) > limits.SIGNED_BYTES:
        raise LimitExceededError(
            what="A signed file is too large",
            why=f"{len(data)} bytes, at most {limits.SIGNED_BYTES} are read",
            fix="Do not use this medium; ask the sender for a new one.",
        )
    packet = require_signature_packet(untrusted_signature)
    _require_policy(packet, data)
    certificate = _owner(packet, [Certificate.from_bytes(raw) for raw in certificates])
    status, code = _run_gpgv(untrusted_signature, data, certificate.raw)
    if code < 0:
        raise _cannot(f"gpgv was ended by signal {-code}")
    require_good_status(status, packet=packet, primary=certificate.fingerprint)
    if code != 0:
        raise _bad(packet, f"gpgv ended with {code}")
    return GoodSignature(fingerprint=certificate.fingerprint, created=packet.created)


def require_good_status(status: bytes, *, packet: SignaturePacket, primary: str) -> None:
    """Refuse everything but the status of exactly one good signature that is the packet's (TRUST-18 to TRUST-21).

    Args:
        status: All that gpgv wrote to its status pipe.
        packet: The signature file as parsed.
        primary: The primary fingerprint that the signing key must belong to.

    Raises:
        BadSignatureError: It is not.
    """
    wanted = [b"NEWSIG", b"GOODSIG", b"VALIDSIG"]
    lines: list[list[bytes]] = []
    for line in status.split(b"\n")[:-1]:
        if not line.startswith(_PREFIX):
            raise _bad(packet, "gpgv wrote something that is no status line")
        fields = line[len(_PREFIX) :].split(b" ")
        if fields[0] in wanted:
            lines.append(fields)
        elif fields[0] not in _HARMLESS:
            raise _bad(packet, _WHY.get(fields[0], "gpgv wrote a status line that is not known"))
    if not status.endswith(b"\n") or [fields[0] for fields in lines] != wanted:
        raise _bad(packet, "gpgv did not report exactly one good signature")
    good, valid = lines[1], lines[2]
    if good[1:2] != [packet.fingerprint[-16:].encode()]:
        raise _bad(packet, "gpgv reported another key")
    _require_same(valid, packet, primary)


def _require_same(valid: list[bytes], packet: SignaturePacket, primary: str) -> None:
    # VALIDSIG fingerprint date seconds expires version reserved key-algorithm hash-algorithm class primary
    expected = [
        packet.fingerprint.encode(),
        packet.created.strftime("%Y-%m-%d").encode(),
        b"%d" % int(packet.created.timestamp()),
        b"0",
        b"4",
        b"0",
        b"%d" % packet.key_algorithm,
        b"%d" % packet.hash_algorithm,
        b"00",
        primary.encode(),
    ]
    if valid[1:] != expected:
        raise _bad(packet, "gpgv's report does not agree with the signature file")


def _require_policy(packet: SignaturePacket, data: bytes) -> None:
    if packet.kind != 0:
        raise _bad(packet, f"it is of class {packet.kind:#04x}; only binary documents (0x00) are signed")
    if packet.hash_algorithm not in _HASHES:
        raise _bad(packet, f"hash algorithm {packet.hash_algorithm} is too weak or not known")
    digest = _HASHES[packet.hash_algorithm](data)
    digest.update(packet.trailer())
    if digest.digest()[:2] != packet.left:
        raise _bad(packet, "the signature does not fit the file")


def _owner(packet: SignaturePacket, certificates: Sequence[Certificate]) -> Certificate:
    owners: list[tuple[Certificate, PublicKey]] = [
        (certificate, key)
        for certificate in certificates
        for key in certificate.keys
        if key.fingerprint == packet.fingerprint
    ]
    if not owners:
        raise _bad(packet, _WHY[b"NO_PUBKEY"])
    if len(owners) > 1:
        raise MalformedError(
            what=f"The key {packet.fingerprint[-16:]} has two owners",
            why="a key may be in one certificate only",
            fix="Ask the sender for a root in which each key has one owner.",
        )
    certificate, key = owners[0]
    if key.algorithm != packet.key_algorithm or key.bits < _LEAST_BITS.get(key.algorithm, key.bits + 1):
        raise _bad(packet, "the key is too weak or of an unknown kind")
    return certificate


def _run_gpgv(signature: bytes, data: bytes, keyring: bytes) -> tuple[bytes, int]:
    with ExitStack() as stack:
        given = [stack.enter_context(_in_memory(content)) for content in (keyring, signature, data)]
        read_end, write_end = os.pipe()
        status = stack.enter_context(os.fdopen(read_end, "rb"))
        try:
            process = _start_gpgv([file.fileno() for file in given], write_end)
        finally:
            os.close(write_end)
        watch = Timer(_SECONDS, process.kill)
        watch.start()
        try:
            with process:  # waits; nothing else is read from gpgv, so neither can wait for the other
                lines = status.read()
        finally:
            watch.cancel()
        return lines, process.returncode


def _in_memory(content: bytes) -> BinaryIO:
    # No folder: an approval must verify on a full disk too, or what serves would be taken for what nobody approved.
    file = os.fdopen(os.memfd_create("gpgv"), "w+b", buffering=0)
    file.write(content)
    return file


def _start_gpgv(given: Sequence[int], status: int) -> subprocess.Popen[bytes]:
    keyring, signature, data = (f"/proc/self/fd/{descriptor}" for descriptor in given)
    command = ["gpgv", "--homedir", _NO_HOME, "--keyring", keyring, "--ignore-time-conflict"]
    command += ["--status-fd", str(status), signature, data]
    try:
        return subprocess.Popen(
            command,
            cwd="/",
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", "/usr/bin:/bin")},
            pass_fds=(*given, status),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        raise _cannot("gpgv is not installed or cannot be run") from error


def _bad(packet: SignaturePacket, why: str) -> BadSignatureError:
    return BadSignatureError(
        what=f"The signature by {packet.fingerprint[-16:]} is refused",
        why=why,
        fix="Do not use this medium; ask the sender who signed it.",
    )


def _cannot(why: str) -> CannotVerifyError:
    return CannotVerifyError(
        what="A signature could not be checked", why=why, fix="Install Debian's package gpgv and try again."
    )
