"""The seam to whatever holds keys: files, or a PKCS#11 token.

The set of names is closed, and each has one purpose: a key that signs never encrypts. Material that a provider can keep
to itself never leaves it; `get` is for libraries that must hold the bytes, and a token refuses it for all other keys.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

SECRET_BYTES: Final = 32


class Purpose(StrEnum):
    """What a key may be used for."""

    SIGN = "sign"
    HMAC = "hmac"
    WRAP = "wrap"
    SECRET = "secret"  # noqa: S105 - a word, not a password


PURPOSES: Final = {
    "ledger-checkpoint": Purpose.SIGN,
    "ledger-mldsa": Purpose.SECRET,
    "api-key-pepper": Purpose.HMAC,
    "identity-hmac": Purpose.HMAC,
    "content-hmac": Purpose.HMAC,
    "phi-map": Purpose.WRAP,
    "session": Purpose.SECRET,
    "retention": Purpose.WRAP,
    # The test stage's own; see `appliance.keys.stages`.
    "test-api-key-pepper": Purpose.HMAC,
    "test-identity-hmac": Purpose.HMAC,
    "test-content-hmac": Purpose.HMAC,
    "test-phi-map": Purpose.WRAP,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One version of a key. Its material is not part of its text."""

    id: str
    version: int
    bytes: "bytes" = field(repr=False)


class KeyProvider(Protocol):
    """Keys by name; versions count from 1 and the newest is used to make, any to check."""

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the versions that are here, oldest first; none when there is no such key.

        Raises:
            KeyMissingError: No key has this name, or the provider cannot be asked.
        """
        ...

    def newest(self, name: str) -> int:
        """Return the version that makes.

        Raises:
            KeyMissingError: There is no such key.
        """
        ...

    def get(self, name: str, *, version: int | None = None) -> Key:
        """Return the key with its material, the newest version unless one is named.

        Raises:
            KeyMissingError: There is no such key, it cannot be used, or it does not leave its token.
        """
        ...

    def wrap(self, name: str, data: bytes, aad: bytes) -> bytes:
        """Encrypt `data` for this key; the ciphertext names key and version and is bound to `aad`.

        Raises:
            KeyMissingError: As `get`, or the key does not encrypt.
        """
        ...

    def unwrap(self, name: str, ciphertext: bytes, aad: bytes) -> bytes:
        """Decrypt what `wrap` made under the same name with the same `aad`.

        Raises:
            KeyMissingError: The version it names is gone: it was destroyed or never here.
            CiphertextError: It is cut, altered, for another key, or bound to other data.
        """
        ...

    def sign(self, name: str, data: bytes, *, version: int | None = None) -> bytes:
        """Return the Ed25519 signature, by the newest version unless one is named.

        Raises:
            KeyMissingError: As `get`, or the key does not sign.
        """
        ...

    def public(self, name: str, *, version: int | None = None) -> bytes:
        """Return the 32 bytes of the public key, of the newest version unless one is named.

        Raises:
            KeyMissingError: As `sign`.
        """
        ...

    def hmac(self, name: str, data: bytes, *, version: int | None = None) -> bytes:
        """Return HMAC-SHA256 under the key itself.

        Raises:
            KeyMissingError: As `get`, or the key is for something else.
        """
        ...

    def destroy(self, name: str) -> None:
        """Make every version unusable for ever; what was wrapped by it is erased with it. Records nothing itself.

        Raises:
            KeyMissingError: There is no such key, or it could not be removed.
        """
        ...
