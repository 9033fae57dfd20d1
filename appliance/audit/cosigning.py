"""The second signature of checkpoints: ML-DSA-87 (FIPS 204), for the day when Ed25519 proves nothing any more.

Each day, and on export, a checkpoint is signed twice: the note gets one more line, which readers that know Ed25519 only
ignore (C2SP signed notes). It is too long for a QR code, so prints carry Ed25519 alone. The key is named in the ledger
itself by a record ``ledger.key``; a new one is signed by the one before, and the newest record counts.
"""

import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey, MLDSA87PublicKey

from appliance.audit import note
from appliance.audit.leaf import Leaf, Via
from appliance.audit.log import Entry, Log
from appliance.errors import KeyMissingError, ProofError
from appliance.keys.provider import KeyProvider
from media.clock import Clock, from_text

KEY_NAME: Final = "ledger-mldsa"
NAMED: Final = "ledger.key"
COSIGNED: Final = "ledger.cosigned"
EVERY: Final = timedelta(days=1)
MARK: Final = b"\xffsealift/ml-dsa-87\n"
"""C2SP leaves kinds without a number to 0xff and a text of one's own."""

_PUBLIC_BYTES: Final = 2592


@dataclass(frozen=True, slots=True, kw_only=True)
class MlDsaKey:
    """A named ML-DSA-87 public key."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that go before each signature."""
        return sha256(self.name.encode() + b"\n" + MARK + self.public).digest()[:4]

    def to_text(self) -> str:
        """Return the vkey: ``NAME+KEYID+BASE64``."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(MARK + self.public).decode()}"

    @classmethod
    def from_text(cls, untrusted: str) -> "MlDsaKey":
        """Parse a vkey.

        Raises:
            ProofError: It is not one of an ML-DSA-87 key, or its key id is not its own.
        """
        name, _, rest = untrusted.partition("+")
        key_id, _, encoded = rest.partition("+")
        material = note.decoded(encoded)
        key = cls(name=name, public=material[len(MARK) :])
        if not material.startswith(MARK) or len(key.public) != _PUBLIC_BYTES or key.key_id.hex() != key_id:
            raise _bad("expected NAME+KEYID+BASE64 of an ML-DSA-87 key")
        return key

    def require(self, signature: bytes, data: bytes) -> None:
        """Pass only for a signature that this key made over the data, with an empty context.

        Raises:
            ProofError: It did not.
        """
        try:
            MLDSA87PublicKey.from_public_bytes(self.public).verify(signature, data)
        except (InvalidSignature, ValueError) as error:
            raise _bad(f"the ML-DSA signature of {self.name} is wrong") from error

    def require_cosigned(self, untrusted_note: str) -> None:
        """Pass only for a note that this key signed besides others.

        Raises:
            ProofError: It did not, or its signature is wrong.
        """
        text, signatures = note.parts(untrusted_note)
        mine = [blob[4:] for name, blob in signatures if (name, blob[:4]) == (self.name, self.key_id)]
        if len(mine) != 1:
            raise _bad(f"{self.name} did not sign it by ML-DSA")
        self.require(mine[0], text.encode())


class Cosigner:
    """Signs checkpoints of one log a second time."""

    def __init__(self, origin: str, seed: bytes) -> None:
        self._private = MLDSA87PrivateKey.from_seed_bytes(seed)
        self.key = MlDsaKey(name=origin, public=self._private.public_key().public_bytes_raw())

    def __call__(self, kept_note: str) -> str:
        """Return the note with one more line."""
        text, _ = note.parts(kept_note)
        return kept_note + note.line(self.key.name, self.key.key_id + self._private.sign(text.encode()))

    def vouch(self, new: MlDsaKey) -> str:
        """Return this key's signature, in base64, that another follows it."""
        return b64encode(self._private.sign(rotation(new))).decode()


def rotation(new: MlDsaKey) -> bytes:
    """Return the bytes that the key before signs."""
    return f"sealift/ledger-key\n{new.name}\n{new.to_text()}\n".encode()


def prepare(log: Log, keys: KeyProvider, *, may_name: bool = True) -> None:
    """Give a log its second signer, and name its key in a record when it is new; without a key there is none.

    Args:
        log: To be signed for.
        keys: Hold the key.
        may_name: Whether a new one may be named: else only the one that is named signs.

    Raises:
        LedgerUnavailableError: The key could not be recorded.
    """
    try:
        newest = keys.get(KEY_NAME)
    except KeyMissingError:
        return
    cosigner = Cosigner(log.origin, newest.bytes)
    last = log.find(kind=NAMED, limit=1)
    before = str(last[0].body.get("vkey", "")) if last and last[0].origin == log.origin else ""
    if before != cosigner.key.to_text():
        if not may_name:
            return
        body = {"algorithm": "ML-DSA-87", "vkey": cosigner.key.to_text(), **_vouched(log, keys, before, cosigner.key)}
        (outcome,) = log.append([Entry.of(NAMED, body, via=Via(door="ledger", uid=os.getuid()))])
        if isinstance(outcome, Exception):
            raise outcome
    log.cosigner = cosigner


def _vouched(log: Log, keys: KeyProvider, before: str, new: MlDsaKey) -> dict[str, str]:
    """Return who vouches for the new key: the one before, while it is still here; else nobody but the tree."""
    for version in keys.versions(KEY_NAME) if before else ():
        old = Cosigner(log.origin, keys.get(KEY_NAME, version=version).bytes)
        if old.key.to_text() == before:
            return {"previous": before, "signature": old.vouch(new)}
    return {"previous": "", "signature": ""}


def require_named(leaf: Leaf, before: MlDsaKey | None) -> MlDsaKey:
    """Return the key that a record names, when the one before vouches for it or none is said to.

    Raises:
        ProofError: It does not.
    """
    key = MlDsaKey.from_text(str(leaf.body.get("vkey", "")))
    previous = leaf.body.get("previous")
    if key.name != leaf.origin or (previous and (before is None or before.to_text() != previous)):
        raise _bad(f"record {leaf.sequence} names a key of another ledger, or follows another")
    if previous and before is not None:
        before.require(note.decoded(str(leaf.body.get("signature", ""))), rotation(key))
    return key


def due(log: Log, clock: Clock) -> Entry | None:
    """Return the record of a checkpoint that is signed twice, when a day has passed since the last; None otherwise.

    Raises:
        LedgerUnavailableError: The checkpoint could not be signed or kept.
    """
    if log.cosigner is None:
        return None
    last = log.find(kind=COSIGNED, limit=1)
    if last and timedelta(0) <= clock.now() - from_text(last[0].time) < EVERY:
        return None
    text = log.cosigner(log.checkpoint())
    body: Mapping[str, Any] = {"note": text, "size": note.Checkpoint.from_text(note.parts(text)[0]).size}
    return Entry.of(COSIGNED, body, via=Via(door="ledger", uid=os.getuid()))


def _bad(why: str) -> ProofError:
    return ProofError(what="a second signature does not verify", why=why, fix="run `sealift audit verify`")
