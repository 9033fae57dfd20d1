"""C2SP signed notes and the checkpoints written in them, with Ed25519 keys in Go's vkey form.

A note is text that ends in a newline, an empty line, and one line ``\u2014 NAME BASE64(key id || signature)`` for each
signature. A checkpoint is a note of three lines: origin, decimal size, base64 root. Signatures by keys that a reader
does not know are ignored, as the specification says; a known key's bad signature is an error.
"""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance.errors import ProofError

_ALGORITHM_ED25519: Final = b"\x01"
_MAX_NOTE_BYTES: Final = 64 * 1024
_MAX_SIGNATURES: Final = 32
_NAME = re.compile(r"[^\s+\u2014]{1,200}")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_SIGNATURE = re.compile("\u2014 ([^ +]+) ([A-Za-z0-9+/]+={0,2})")

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A named Ed25519 public key."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that go before each signature."""
        return sha256(self.name.encode() + b"\n" + _ALGORITHM_ED25519 + self.public).digest()[:4]

    def to_text(self) -> str:
        """Return the vkey: ``NAME+KEYID+BASE64``."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(_ALGORITHM_ED25519 + self.public).decode()}"

    @classmethod
    def from_text(cls, untrusted: str) -> "VerifierKey":
        """Parse a vkey.

        Raises:
            ProofError: It is not one, or its key id is not its own.
        """
        name, _, rest = untrusted.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        material = decoded(encoded)
        if not _NAME.fullmatch(name) or len(material) != 33 or material[:1] != _ALGORITHM_ED25519:
            raise _bad("expected NAME+KEYID+BASE64 of an Ed25519 key")
        key = cls(name=name, public=material[1:])
        if key.key_id.hex() != key_id:
            raise _bad("the key id is not that of the key")
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A tree head as it is signed."""

    origin: str
    size: int
    root: bytes

    def to_text(self) -> str:
        """Return the three signed lines."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"

    @classmethod
    def from_text(cls, untrusted: str) -> "Checkpoint":
        """Parse the signed text of a checkpoint; lines after the third are extensions and ignored.

        Raises:
            ProofError: It is not a checkpoint.
        """
        lines = untrusted.split("\n")
        if len(lines) < 4 or lines[-1] or not lines[0] or "" in lines[:-1]:
            raise _bad("expected origin, size and root, each on a line")
        root = decoded(lines[2])
        if not _SIZE.fullmatch(lines[1]) or len(root) != 32:
            raise _bad("the size or the root is not in its form")
        return cls(origin=lines[0], size=int(lines[1]), root=root)


def sign(text: str, key: VerifierKey, signer: Sign) -> str:
    """Return the note: `text` with one signature."""
    return f"{text}\n{line(key.name, key.key_id + signer(text.encode()))}"


def line(name: str, blob: bytes) -> str:
    """Return one signature line; `blob` is the key id and the signature."""
    return f"\u2014 {name} {b64encode(blob).decode()}\n"


def verify(untrusted: str, keys: Sequence[VerifierKey]) -> str:
    """Return the signed text when at least one of `keys` signed it.

    Raises:
        ProofError: It is not a note, no known key signed it, or a known key's signature is wrong.
    """
    text, signatures = parts(untrusted)
    known = {(key.name, key.key_id): key for key in keys}
    good = 0
    for name, blob in signatures:
        key = known.get((name, blob[:4]))
        if key is None:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(blob[4:], text.encode())
        except (InvalidSignature, ValueError) as error:
            raise _bad(f"the signature of {name} is wrong") from error
        good += 1
    if not good:
        raise _bad("no known key signed it")
    return text


def verify_checkpoint(untrusted: str, keys: Sequence[VerifierKey]) -> Checkpoint:
    """Return the checkpoint in a note that one of `keys` signed.

    Raises:
        ProofError: As `verify`, or the text is not a checkpoint.
    """
    return Checkpoint.from_text(verify(untrusted, keys))


def parts(untrusted: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Return the signed text and, for each signature, its name and its bytes, the key id first; none is verified.

    Raises:
        ProofError: It is not a note.
    """
    if len(untrusted) > _MAX_NOTE_BYTES:
        raise _bad("it is too long")
    if any(ord(character) < 0x20 and character != "\n" for character in untrusted):
        raise _bad("it holds control characters")
    try:
        untrusted.encode()
    except UnicodeEncodeError as error:
        raise _bad("it is not UTF-8") from error
    head, separator, tail = untrusted.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise _bad("it has no signatures")
    lines = tail[:-1].split("\n")
    if len(lines) > _MAX_SIGNATURES:
        raise _bad("it has too many signatures")
    return head + "\n", [_signature(line) for line in lines]


def _signature(untrusted_line: str) -> tuple[str, bytes]:
    match = _SIGNATURE.fullmatch(untrusted_line)
    blob = decoded(match[2]) if match else b""
    if not match or len(blob) < 5:
        raise _bad("a signature line is not in its form")
    return match[1], blob


def decoded(untrusted: str) -> bytes:
    """Return what base64 encodes, in its one form only.

    Raises:
        ProofError: It is not base64, or another way to write it.
    """
    try:
        decoded = b64decode(untrusted, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad("something is not base64") from error
    if b64encode(decoded).decode() != untrusted:
        raise _bad("something is not base64 in its one form")
    return decoded


def _bad(why: str) -> ProofError:
    return ProofError(what="a signed note does not verify", why=why, fix="ask who printed or sent it for the original")
