"""The keys of each stage: the test stage has four of its own, and never sees production's.

Promises: what is hashed or encrypted for the test stage is so under keys that production's units do not hold, and the
other way round; so no record, key or token of one stage means anything in the other.
"""

from typing import Final

from appliance.keys.provider import Key, KeyProvider
from appliance.stages import Stage

PEPPER: Final = "api-key-pepper"
OWN: Final = (PEPPER, "identity-hmac", "content-hmac", "phi-map")


def key_name(stage: Stage, name: str) -> str:
    """Return the name that a key of the gateway has in a stage."""
    return f"{stage}-{name}" if stage is Stage.TEST and name in OWN else name


class StageKeys:
    """The keys of the test stage under the names that the gateway knows; see `KeyProvider` for each method."""

    def __init__(self, inner: KeyProvider) -> None:
        self._inner = inner

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the versions."""
        return self._inner.versions(key_name(Stage.TEST, name))

    def newest(self, name: str) -> int:
        """Return the version that makes."""
        return self._inner.newest(key_name(Stage.TEST, name))

    def get(self, name: str, *, version: int | None = None) -> Key:
        """Return the key with its material."""
        return self._inner.get(key_name(Stage.TEST, name), version=version)

    def wrap(self, name: str, data: bytes, aad: bytes) -> bytes:
        """Encrypt."""
        return self._inner.wrap(key_name(Stage.TEST, name), data, aad)

    def unwrap(self, name: str, ciphertext: bytes, aad: bytes) -> bytes:
        """Decrypt."""
        return self._inner.unwrap(key_name(Stage.TEST, name), ciphertext, aad)

    def sign(self, name: str, data: bytes, *, version: int | None = None) -> bytes:
        """Sign."""
        return self._inner.sign(key_name(Stage.TEST, name), data, version=version)

    def public(self, name: str, *, version: int | None = None) -> bytes:
        """Return a public key."""
        return self._inner.public(key_name(Stage.TEST, name), version=version)

    def hmac(self, name: str, data: bytes, *, version: int | None = None) -> bytes:
        """Authenticate."""
        return self._inner.hmac(key_name(Stage.TEST, name), data, version=version)

    def destroy(self, name: str) -> None:
        """Destroy."""
        self._inner.destroy(key_name(Stage.TEST, name))


def keys_of(stage: Stage, keys: KeyProvider) -> KeyProvider:
    """Return the keys that a gateway of this stage uses."""
    return StageKeys(keys) if stage is Stage.TEST else keys
