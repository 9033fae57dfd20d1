"""A secret of the site sealed for one box: X25519 with a throwaway key, HKDF-SHA-256, ChaCha20-Poly1305.

Sources: RFC 7748, 5869, 8439. Only the box whose card names the key can open it, and only under its own pairing.
"""

import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.errors import CiphertextError, KeyMissingError
from media import durable

FILE: Final = "box-sealing.x25519"
_KEY_BYTES: Final = 32
_NONCE: Final = bytes(12)  # the key is used once
_INFO: Final = b"sealift/sealed-for-box/1"


def create_key(folder: Path) -> bytes:
    """Make this box's sealing key where there is none, 0400; return its public half.

    Raises:
        KeyMissingError: It could not be written or read.
    """
    try:
        if not (folder / FILE).exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.place_new(folder / FILE, X25519PrivateKey.generate().private_bytes_raw(), mode=0o400)
            durable.sync_folder(folder)
    except OSError as error:
        raise _missing(error.strerror or "") from error
    return _read(folder).public_key().public_bytes_raw()


def seal(secret: bytes, public: bytes, context: bytes) -> bytes:
    """Return the secret sealed for the holder of a public key; `context` has to be named again to open it."""
    throwaway = X25519PrivateKey.generate()
    ours = throwaway.public_key().public_bytes_raw()
    key = _derived(throwaway.exchange(X25519PublicKey.from_public_bytes(public)), ours + public)
    return ours + ChaCha20Poly1305(key).encrypt(_NONCE, secret, context)


def unseal(untrusted: bytes, folder: Path, context: bytes) -> bytes:
    """Return what was sealed for this box in that context.

    Raises:
        CiphertextError: It was cut or altered, or is for another box or another context.
        KeyMissingError: This process may not read the box's sealing key.
    """
    private = _read(folder)
    public = private.public_key().public_bytes_raw()
    theirs, rest = untrusted[:_KEY_BYTES], untrusted[_KEY_BYTES:]
    try:
        key = _derived(private.exchange(X25519PublicKey.from_public_bytes(theirs)), theirs + public)
        return ChaCha20Poly1305(key).decrypt(_NONCE, rest, context)
    except (InvalidTag, ValueError) as error:
        raise CiphertextError(
            what="what was sealed for this box does not open",
            why="it was cut or altered, or is for another box",
            fix="make the bundle anew on the other box",
        ) from error


def _derived(shared: bytes, salt: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=_INFO).derive(shared)


def _read(folder: Path) -> X25519PrivateKey:
    try:
        fd = os.open(folder / FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as stream:
            found = stream.read(_KEY_BYTES + 1)
    except OSError as error:
        raise _missing(error.strerror or "") from error
    if len(found) != _KEY_BYTES:
        raise _missing(f"its file does not hold {_KEY_BYTES} bytes")
    return X25519PrivateKey.from_private_bytes(found)


def _missing(why: str) -> KeyMissingError:
    return KeyMissingError(
        what="this box's sealing key cannot be used", why=why, fix="run `sealift standby card` as root"
    )
