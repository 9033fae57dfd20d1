"""People with OpenPGP keys for tests: GnuPG makes each key once, Python signs with it, so a test may sign often."""

import hashlib
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from media import gpgagent, signers


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatory:
    """Someone with an Ed25519 key and its certificate."""

    name: str
    fingerprint: str
    certificate: bytes
    secret: Ed25519PrivateKey = field(repr=False)

    @property
    def id(self) -> str:
        """The id that an enrolment makes of the name."""
        return self.name.lower().replace(" ", "-")

    def sign(self, data: bytes, *, created: int | None = None) -> bytes:
        """Return a binary detached signature just as GnuPG writes it."""
        issuer = bytes.fromhex(self.fingerprint)
        moment = int(time.time()) if created is None else created
        area = b"\x16\x21\x04" + issuer + b"\x05\x02" + moment.to_bytes(4, "big")
        hashed = bytes((4, 0, 22, 10)) + len(area).to_bytes(2, "big") + area
        digest = hashlib.sha512(data + hashed + b"\x04\xff" + len(hashed).to_bytes(4, "big")).digest()
        raw = self.secret.sign(digest)
        unhashed = b"\x09\x10" + issuer[-8:]
        body = hashed + len(unhashed).to_bytes(2, "big") + unhashed + digest[:2] + _mpi(raw[:32]) + _mpi(raw[32:])
        return b"\x88" + len(body).to_bytes(1, "big") + body


NAMES = ("Ana Petrova", "Ben Okafor", "Chi Nguyen", "Dag Lindqvist")


@cache
def signatories() -> tuple[Signatory, ...]:
    """Return four people, made once in a test run."""
    with tempfile.TemporaryDirectory(prefix="slf", dir="/tmp") as folder:
        home = Path(folder) / "g"
        try:
            return tuple(_make(home, name) for name in NAMES)
        finally:
            gpgagent.stop_agents(home)


def _make(home: Path, name: str) -> Signatory:
    fingerprint = signers.generate_key(home, name, f"{name.split(maxsplit=1)[0].lower()}@site.example")
    exported = subprocess.run(
        ["gpg", "--homedir", str(home), "--batch", "--export-secret-keys", fingerprint], capture_output=True, check=True
    ).stdout
    return Signatory(
        name=name,
        fingerprint=fingerprint,
        certificate=signers.export_minimal(home, fingerprint),
        secret=Ed25519PrivateKey.from_private_bytes(_seed(exported)),
    )


def _seed(secret_key: bytes) -> bytes:
    # Old-format packet of tag 5 with a one-octet length; version, time, algorithm, curve, point, then the bare secret.
    body = secret_key[2 : 2 + secret_key[1]]
    at = 6 + 1 + body[6]
    at += 2 + (int.from_bytes(body[at : at + 2], "big") + 7) // 8
    assert body[at] == 0, "the key is protected"
    length = (int.from_bytes(body[at + 1 : at + 3], "big") + 7) // 8
    return body[at + 3 : at + 3 + length].rjust(32, b"\0")


def _mpi(raw: bytes) -> bytes:
    number = int.from_bytes(raw, "big")
    return number.bit_length().to_bytes(2, "big") + number.to_bytes((number.bit_length() + 7) // 8, "big")
