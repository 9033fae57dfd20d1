"""What a sender needs to believe a site's ledger: its key, a signed checkpoint, and a path from a record to it.

The forms are public: C2SP signed notes and checkpoints with Ed25519 keys, RFC 9162 inclusion proofs. The appliance has
its own reader of them, because the two sides import nothing of each other.
"""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from media.errors import BadSignatureError, MalformedError

_ED25519: Final = b"\x01"
_NAME = re.compile(r"[^\s+\u2014]{1,200}")
_SIZE = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_LINE = re.compile("\u2014 ([^ +]+) ([A-Za-z0-9+/]+={0,2})")
_MAX_NOTE: Final = 64 * 2**10
_MAX_PATH: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerKey:
    """The public key of a site's ledger, as `ledger.pub` holds it (``NAME+KEYID+BASE64``)."""

    name: str
    public: bytes

    @classmethod
    def from_text(cls, untrusted: str) -> Self:
        """Read a key.

        Raises:
            MalformedError: It is not one, or its key id is not its own.
        """
        name, _, rest = untrusted.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        material = from_base64(encoded)
        if not _NAME.fullmatch(name) or len(material) != 33 or material[:1] != _ED25519:
            raise _malformed("a ledger's key", "expected NAME+KEYID+BASE64 of an Ed25519 key")
        key = cls(name=name, public=material[1:])
        if key.key_id.hex() != key_id:
            raise _malformed("a ledger's key", "the key id is not that of the key")
        return key

    @property
    def key_id(self) -> bytes:
        """Four bytes that go before each signature in a note."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def to_text(self) -> str:
        """Return the one form of this key."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(_ED25519 + self.public).decode()}"

    def verify(self, signature: bytes, data: bytes, what: str) -> None:
        """Pass only when the key made this signature.

        Raises:
            BadSignatureError: It did not.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, data)
        except (InvalidSignature, ValueError):
            raise BadSignatureError(
                what=f"{what} is not signed by the ledger {self.name}",
                why="the signature does not hold",
                fix="ask the site to send the file again; compare its ledger key by telephone",
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A tree head that the ledger signed."""

    origin: str
    size: int
    root: bytes


def checkpoint(untrusted: str, key: LedgerKey) -> Checkpoint:
    """Return the checkpoint of a note that the key signed.

    Raises:
        MalformedError: It is no signed note of a checkpoint.
        BadSignatureError: The key did not sign it.
    """
    text, signatures = parts(untrusted)
    found = False
    for name, blob in signatures:
        if (name, blob[:4]) == (key.name, key.key_id):
            key.verify(blob[4:], text.encode(), "a checkpoint")
            found = True
    if not found:
        raise BadSignatureError(
            what="a checkpoint is not signed by the site's ledger",
            why=f"expected a signature by {key.name}",
            fix="compare the site's ledger key by telephone",
        )
    return checkpoint_of(text)


def parts(untrusted: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Return the signed text of a note and, for each signature, its name and its bytes, the key id first.

    Raises:
        MalformedError: It is no signed note; no signature is verified.
    """
    head, separator, tail = untrusted.rpartition("\n\n")
    if len(untrusted) > _MAX_NOTE or not separator or not tail.endswith("\n"):
        raise _malformed("a checkpoint", "expected a note and its signatures")
    signatures = []
    for line in tail[:-1].split("\n"):
        matched = _LINE.fullmatch(line)
        blob = from_base64(matched[2]) if matched else b""
        if not matched or len(blob) < 5:
            raise _malformed("a checkpoint", "a signature line is not in its form")
        signatures.append((matched[1], blob))
    return f"{head}\n", signatures


def checkpoint_of(text: str) -> Checkpoint:
    """Return the checkpoint in the signed text of a note; lines after the third are extensions.

    Raises:
        MalformedError: It is none.
    """
    lines = text.split("\n")
    root = from_base64(lines[2]) if len(lines) >= 4 else b""
    if len(root) != 32 or not _SIZE.fullmatch(lines[1]):
        raise _malformed("a checkpoint", "expected origin, size and root, each on a line")
    return Checkpoint(origin=lines[0], size=int(lines[1]), root=root)


def require_included(leaf: bytes, index: int, path: Sequence[bytes], head: Checkpoint) -> None:
    """Pass only when the path leads from a record to the checkpoint's root (RFC 9162, 2.1.3.2).

    Raises:
        BadSignatureError: It does not.
    """
    first, last, current = index, head.size - 1, sha256(b"\x00" + leaf).digest()
    if not 0 <= index < head.size or len(path) > _MAX_PATH:
        raise _unproven("the record lies outside the ledger")
    for sibling in path:
        if not last:
            raise _unproven("the path is too long")
        if first & 1 or first == last:
            current = sha256(b"\x01" + sibling + current).digest()
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            current = sha256(b"\x01" + current + sibling).digest()
        first, last = first >> 1, last >> 1
    if last or not compare_digest(current, head.root):
        raise _unproven("the path leads to another root")


def from_base64(untrusted: str) -> bytes:
    """Return the bytes of standard base64 in its one form.

    Raises:
        MalformedError: It is not that.
    """
    try:
        decoded = b64decode(untrusted, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if b64encode(decoded).decode() != untrusted:
        raise _malformed("something", "it is not base64 in its one form")
    return decoded


def _malformed(what: str, why: str) -> MalformedError:
    return MalformedError(what=f"{what} is malformed", why=why, fix="ask the site to send it again")


def _unproven(why: str) -> BadSignatureError:
    return BadSignatureError(
        what="the receipt's record is not in the ledger that signed", why=why, fix="ask the site for a new receipt"
    )
