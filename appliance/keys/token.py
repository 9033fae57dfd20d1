"""Keys on a PKCS#11 token or HSM: made there, used there, never out of it (PKCS#11 v3.1: EdDSA, SHA-256-HMAC, AES-GCM).

Objects are labelled `sealift/NAME.vN`. What is encrypted is sealed by a data key of its own, which the token wraps
(envelope encryption), so that long texts do not go through it:

    "SLE" format(1) | nonce(12) | length(2, big endian) | wrapped data key | a sealed text as in `sealing`
"""

import secrets
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from appliance.errors import CiphertextError, KeyMissingError
from appliance.keys import sealing
from appliance.keys.provider import PURPOSES, SECRET_BYTES, Key, Purpose
from appliance.keys.tokenfolder import Seen, let_in, look, made_in, opening
from appliance.keys.tokenmaking import ED25519, make_pair, make_secret, require_mechanisms, unmake
from appliance.keys.tokensession import TokenSession, recall, remember

_ENVELOPE: Final = b"SLE\x01"
_LENGTH = struct.Struct(">H")
_IV_BYTES: Final = 12
_TAG_BITS: Final = 128
_MOST_WRAPPED: Final = 512
_HEAD: Final = "sealift/ledger-head"


class TokenKeys:
    """A `KeyProvider` over one token. One object serves all threads of a process, also after a fork.

    Args:
        module: The vendor's library.
        token: The token's label.
        pin_file: Holds the user PIN; a line end after it is not part of it.
        variables: What the module is told through the environment, as ``NAME=/path``; it holds no secret.
        shared: The folder in which the module keeps files, and the group of the services that use them, if it does.
    """

    def __init__(
        self,
        module: str,
        token: str,
        pin_file: Path,
        variables: Sequence[str] = (),
        *,
        shared: tuple[Path, str] | None = None,
    ) -> None:
        self._label = token
        self._shared = shared
        self._token = TokenSession(module, token, pin_file, variables)

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the versions; see `KeyProvider.versions`."""
        _purpose(name)
        with self._token.lent():
            return tuple(sorted(version for known, version in self._token.objects if known == name))

    def names(self) -> tuple[str, ...]:
        """Return the names of the keys that the token holds.

        Raises:
            KeyMissingError: It cannot be asked.
        """
        return tuple(name for name in PURPOSES if self.versions(name))

    def newest(self, name: str) -> int:
        """Return the newest version; see `KeyProvider.newest`."""
        found = self.versions(name)
        if not found:
            raise self._token.missing(name, "the token does not hold it")
        return found[-1]

    def get(self, name: str, *, version: int | None = None) -> Key:
        """Return what a library must hold: a secret that the token derives. Other keys stay where they are.

        Raises:
            KeyMissingError: The key is for something else, or is not there.
        """
        if _purpose(name) is not Purpose.SECRET:
            raise self._token.missing(name, "it never leaves its token")
        chosen = version or self.newest(name)
        return Key(id=name, version=chosen, bytes=self._mac(name, b"sealift/1/secret/" + name.encode(), chosen))

    def wrap(self, name: str, data: bytes, aad: bytes) -> bytes:
        """Encrypt; see `KeyProvider.wrap`."""
        self._require(name, Purpose.WRAP)
        version, fresh = self.newest(name), secrets.token_bytes(SECRET_BYTES)
        iv = secrets.token_bytes(_IV_BYTES)
        with self._token.lent() as session:
            handle = self._token.handle(name, version, "secret")
            wrapped = bytes(session.encrypt(handle, fresh, _gcm(iv, name, version)))
        sealed = sealing.seal(fresh, key_id=name, version=version, data=data, aad=aad)
        return _ENVELOPE + iv + _LENGTH.pack(len(wrapped)) + wrapped + sealed

    def unwrap(self, name: str, ciphertext: bytes, aad: bytes) -> bytes:
        """Decrypt; see `KeyProvider.unwrap`."""
        import PyKCS11

        self._require(name, Purpose.WRAP)
        iv, wrapped, sealed = _parts(ciphertext)
        header = sealing.read_header(sealed)
        if header.key_id != name:
            raise _bad(f"it was made for another key than {name}")
        with self._token.lent() as session:
            handle = self._token.handle(name, header.version, "secret")
            try:
                fresh = bytes(session.decrypt(handle, wrapped, _gcm(iv, name, header.version)))
            except PyKCS11.PyKCS11Error as error:
                session.getSessionInfo()  # a token that went away is no bad ciphertext
                raise _bad("the token does not open its data key") from error
        return sealing.unseal(fresh, header=header, untrusted=sealed, aad=aad)

    def sign(self, name: str, data: bytes, *, version: int | None = None) -> bytes:
        """Sign with Ed25519; see `KeyProvider.sign`."""
        self._require(name, Purpose.SIGN)
        version = version or self.newest(name)
        import PyKCS11

        with self._token.lent() as session:
            handle = self._token.handle(name, version, "private")
            return bytes(session.sign(handle, data, PyKCS11.Mechanism(PyKCS11.CKM_EDDSA, None)))

    def public(self, name: str, *, version: int | None = None) -> bytes:
        """Return the public half; see `KeyProvider.public`."""
        self._require(name, Purpose.SIGN)
        version = version or self.newest(name)
        import PyKCS11

        with self._token.lent() as session:
            handle = self._token.handle(name, version, "public")
            parameters, point = session.getAttributeValue(handle, [PyKCS11.CKA_EC_PARAMS, PyKCS11.CKA_EC_POINT])
        if bytes(parameters) not in ED25519:
            raise self._token.missing(name, "it is not an Ed25519 key")
        return bytes(point)[-SECRET_BYTES:]  # the standard wraps it into an octet string; some tokens leave that out

    def hmac(self, name: str, data: bytes, *, version: int | None = None) -> bytes:
        """Authenticate; see `KeyProvider.hmac`."""
        self._require(name, Purpose.HMAC)
        return self._mac(name, data, version or self.newest(name))

    def require_fit(self) -> None:
        """Refuse a token on which not every key could be made; one that holds them all has shown that it can.

        Raises:
            KeyMissingError: It lacks a mechanism, or cannot be asked; nothing was made on it.
        """
        if self.names() == tuple(PURPOSES):
            return
        with self._token.lent() as session:
            offered = session.pykcs11.getMechanismList(session.getSessionInfo().slotID)
        require_mechanisms(self._label, offered)

    def create(self, name: str) -> int:
        """Make the next version on the token, sensitive and not extractable; return its number.

        Raises:
            KeyMissingError: The token refuses, or gave it other properties, or the services' group cannot be let at its
                file; then it is taken off again.
        """
        purpose = _purpose(name)
        self.require_fit()
        version = max(self.versions(name), default=0) + 1
        label = f"sealift/{name}.v{version}"
        before = self._before(name)
        with self._token.lent(name) as session:
            if purpose is Purpose.SIGN:
                made = make_pair(session, label)
            else:
                made = make_secret(session, label, wraps=purpose is Purpose.WRAP)
            try:
                self._let_in(name, before)
                self._token.look(session)
            except KeyMissingError:
                unmake(session, made)  # else every later session would find it, and refuse the token
                raise
        return version

    def create_missing(self) -> list[str]:
        """Make version 1 of every key that has none, all of them or none; return their names.

        Raises:
            KeyMissingError: The token refuses one; those made before it are off the token again, if it lets us.
        """
        made: dict[str, int] = {}
        try:
            for name in [name for name in PURPOSES if not self.versions(name)]:
                made[name] = self.create(name)
        except KeyMissingError:
            # Only what was made here: another box may be making its keys on the same HSM.
            with suppress(KeyMissingError):
                for name, version in made.items():
                    self.remove(name, version)
            raise
        return list(made)

    def remove(self, name: str, version: int) -> None:
        """Remove one version from the token.

        Raises:
            KeyMissingError: It is not there, or the token refuses.
        """
        _purpose(name)
        with self._token.lent() as session:
            handles = self._token.objects.get((name, version))
            if not handles:
                raise self._token.missing(name, f"version {version} is not on the token")
            for handle in handles.values():
                session.destroyObject(handle)
            self._token.look(session)

    def destroy(self, name: str) -> None:
        """Remove every version from the token; see `KeyProvider.destroy`."""
        versions = self.versions(name)
        if not versions:
            raise self._token.missing(name, "the token does not hold it")
        for version in versions:
            self.remove(name, version)

    def recall(self) -> tuple[bytes, ...]:
        """Return the ledger's heads that the token remembers; see `appliance.audit.remembering`.

        Raises:
            KeyMissingError: It cannot be asked.
        """
        with self._token.lent() as session:
            return recall(session, _HEAD)

    def remember(self, value: bytes) -> None:
        """Lay the ledger's head onto the token in place of the one before.

        Raises:
            KeyMissingError: It refuses.
        """
        with self._token.lent() as session:
            remember(session, _HEAD, value)

    def close(self) -> None:
        """End the session; the next use begins another."""
        self._token.close()

    def _before(self, name: str) -> Seen:
        if self._shared is None:
            return frozenset()
        try:
            return look(self._shared[0])
        except OSError as error:
            raise _alone(name, *self._shared, error.strerror or "", "look at the folder as root") from error

    def _let_in(self, name: str, before: Seen) -> None:
        if self._shared is None:
            return
        folder, group = self._shared
        try:
            let_in(folder, group, before)
        except KeyError as error:
            raise _alone(name, *self._shared, "there is no such group", "name one in keys.group") from error
        except OSError as error:
            by_hand = f"{opening(made_in(folder, before) or [folder], group, below=folder)}, and again"
            raise _alone(name, *self._shared, error.strerror or "", by_hand) from error

    def _mac(self, name: str, data: bytes, version: int) -> bytes:
        import PyKCS11

        with self._token.lent() as session:
            handle = self._token.handle(name, version, "secret")
            return bytes(session.sign(handle, data, PyKCS11.Mechanism(PyKCS11.CKM_SHA256_HMAC, None)))

    def _require(self, name: str, purpose: Purpose) -> None:
        if _purpose(name) is not purpose:
            raise self._token.missing(name, f"it is a key to {PURPOSES[name]}, not to {purpose}")


def _purpose(name: str) -> Purpose:
    try:
        return PURPOSES[name]
    except KeyError:
        raise KeyMissingError(
            what=f"the key {name[:40]} cannot be used", why="no key has this name", fix="see docs/operator/keys.md"
        ) from None


def _alone(name: str, folder: Path, group: str, why: str, fix: str) -> KeyMissingError:
    return KeyMissingError(
        what=f"the key {name} would be root's alone, so it was not made",
        why=f"the group {group} cannot be let at its file in {folder}: {why}",
        fix=fix,
    )


def _gcm(iv: bytes, name: str, version: int) -> Any:
    from PyKCS11 import AES_GCM_Mechanism

    return AES_GCM_Mechanism(iv, f"sealift/1/envelope/{name}.v{version}".encode(), _TAG_BITS)


def _parts(untrusted: bytes) -> tuple[bytes, bytes, bytes]:
    start = len(_ENVELOPE) + _IV_BYTES + _LENGTH.size
    if len(untrusted) < start or not untrusted.startswith(_ENVELOPE):
        raise _bad("it does not begin as one of a token's, format 1")
    (length,) = _LENGTH.unpack(untrusted[start - _LENGTH.size : start])
    if length > _MOST_WRAPPED or len(untrusted) < start + length:
        raise _bad("it is cut")
    iv = untrusted[len(_ENVELOPE) : len(_ENVELOPE) + _IV_BYTES]
    return iv, untrusted[start : start + length], untrusted[start + length :]


def _bad(why: str) -> CiphertextError:
    return CiphertextError(what="a ciphertext does not open", why=why, fix="use the key and the data it was made for")
