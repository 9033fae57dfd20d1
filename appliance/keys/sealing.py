"""The bytes of a ciphertext: AES-256-GCM below a header that names the key and its version.

    "SLK" format(1) | length of name(1) name | version(4, big endian) | nonce(12) | ciphertext and tag

The header is authenticated together with the caller's associated data, each preceded by its length, so that no part can
pass for another. The AES key is derived from the stored secret by HKDF-SHA256, bound to the name.
"""

import os
import struct
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.errors import CiphertextError

FORMAT: Final = 1
_MAGIC: Final = b"SLK" + bytes([FORMAT])
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_VERSION = struct.Struct(">I")
_LENGTH = struct.Struct(">Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Which key made a ciphertext, and where the sealed part begins."""

    key_id: str
    version: int
    end: int


def seal(secret: bytes, *, key_id: str, version: int, data: bytes, aad: bytes) -> bytes:
    """Encrypt `data` and prepend the header."""
    name = key_id.encode()
    header = _MAGIC + bytes([len(name)]) + name + _VERSION.pack(version)
    nonce = os.urandom(_NONCE_BYTES)
    return header + nonce + AESGCM(_derive(secret, key_id)).encrypt(nonce, data, _bind(header, aad))


def read_header(untrusted: bytes) -> Header:
    """Return which key is needed.

    Raises:
        CiphertextError: It is cut or not one of ours.
    """
    start = len(_MAGIC) + 1
    if len(untrusted) < start or not untrusted.startswith(_MAGIC):
        raise _bad("it does not begin as one of ours, format 1")
    end = start + untrusted[start - 1] + _VERSION.size
    if len(untrusted) < end + _NONCE_BYTES + _TAG_BYTES:
        raise _bad("it is cut")
    try:
        key_id = untrusted[start : end - _VERSION.size].decode("ascii")
    except UnicodeDecodeError as error:
        raise _bad("its key id is not a name") from error
    (version,) = _VERSION.unpack(untrusted[end - _VERSION.size : end])
    return Header(key_id=key_id, version=version, end=end)


def unseal(secret: bytes, *, header: Header, untrusted: bytes, aad: bytes) -> bytes:
    """Decrypt what `seal` made with the same secret and associated data.

    Raises:
        CiphertextError: Anything differs.
    """
    nonce = untrusted[header.end : header.end + _NONCE_BYTES]
    sealed = untrusted[header.end + _NONCE_BYTES :]
    try:
        return AESGCM(_derive(secret, header.key_id)).decrypt(nonce, sealed, _bind(untrusted[: header.end], aad))
    except InvalidTag as error:
        raise _bad("it was altered, or belongs to other data or another key") from error


def _derive(secret: bytes, key_id: str) -> bytes:
    return HKDF(SHA256(), 32, None, b"sealift/1/aes-256-gcm/" + key_id.encode()).derive(secret)


def _bind(header: bytes, aad: bytes) -> bytes:
    return _LENGTH.pack(len(header)) + header + _LENGTH.pack(len(aad)) + aad


def _bad(why: str) -> CiphertextError:
    return CiphertextError(what="a ciphertext does not open", why=why, fix="use the key and the data it was made for")
