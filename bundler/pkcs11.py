"""Private keys on PKCS#11 tokens: ECDSA on P-256 or P-384, made on the token and never out of it.

securesystemslib's own signer speaks another binding and takes a key as it is; this one refuses a key that the token
would give away. PyKCS11 is imported on use, because only people with a token install it. A key is named by an RFC 7512
address: `pkcs11:token=alice;object=release;id=%01?module-path=/usr/lib/softhsm/libsofthsm2.so`. An address with a PIN
in it is refused, because addresses are seen in process lists.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from securesystemslib.signer import Key, SecretsHandler, Signature, Signer, SSlibKey  # type: ignore[attr-defined]  # no __all__

from bundler.asked import Secrets
from bundler.errors import SigningError
from media.errors import UsageError

_ATTRIBUTE = re.compile(r"([a-z-]+)=((?:[A-Za-z0-9_.~:\[\]@!$'()*+,=/ -]|%[0-9A-Fa-f]{2})*)")
_CURVES: Final = {
    bytes.fromhex("06082a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("06052b81040022"): ec.SECP384R1(),
}
_HASHES: Final = {"ecdsa-sha2-nistp256": "sha256", "ecdsa-sha2-nistp384": "sha384"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPlace:
    """Where a key lies: the vendor's module, the token's label and the key's label or id."""

    module: str
    token: str
    label: str = ""
    id: bytes = b""

    @classmethod
    def from_uri(cls, text: str) -> "TokenPlace":
        """Read an RFC 7512 address; `SEALIFT_PKCS11_MODULE` names the module where the address does not.

        Raises:
            UsageError: It is none, holds a PIN, or does not say which token and key.
        """
        path, _, query = text.removeprefix("pkcs11:").partition("?")
        found: dict[str, bytes] = {}
        for part in [*filter(None, path.split(";")), *filter(None, query.split("&"))]:
            matched = _ATTRIBUTE.fullmatch(part)
            if not matched or matched[1] in found:
                raise _no_address("a part of it is not NAME=VALUE, or is there twice")
            found[matched[1]] = unquote_to_bytes(matched[2])
        if {"pin-value", "pin-source"} & set(found):
            raise _no_address("a PIN does not belong in an address: others see it; it is asked, or read by --secret-fd")
        if unknown := sorted(set(found) - {"token", "object", "id", "type", "module-path"}):
            raise _no_address(f"{unknown[0]} is not used here")
        module = found.get("module-path", b"").decode("utf-8", "replace") or os.environ.get("SEALIFT_PKCS11_MODULE", "")
        place = cls(
            module=module,
            token=found.get("token", b"").decode("utf-8", "replace"),
            label=found.get("object", b"").decode("utf-8", "replace"),
            id=found.get("id", b""),
        )
        if not place.module or not place.token or not (place.label or place.id):
            raise _no_address("it must say token, object or id, and module-path")
        return place


class TokenSigner(Signer):
    """Signs on a token in a session that `open_token` holds."""

    def __init__(self, session: Any, private: Any, public_key: SSlibKey, owner: str) -> None:
        """Take an open session and the handle of a private key that was judged."""
        self._session, self._private, self._public_key, self._owner = session, private, public_key, owner

    @property
    def public_key(self) -> SSlibKey:
        """The public half."""
        return self._public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> Signer:
        """Refuse: a session has an owner who closes it; use `open_token`."""
        raise NotImplementedError

    def sign(self, payload: bytes) -> Signature:
        """Sign on the token.

        Raises:
            SigningError: The token is gone, or refuses.
        """
        from PyKCS11 import CKM_ECDSA, Mechanism, PyKCS11Error

        digest = hashlib.new(_HASHES[self._public_key.scheme], payload).digest()
        try:
            raw = bytes(self._session.sign(self._private, digest, Mechanism(CKM_ECDSA, None)))
        except PyKCS11Error as error:
            raise _refused(self._owner, error) from error
        half = len(raw) // 2
        r, s = int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
        return Signature(self._public_key.keyid, encode_dss_signature(r, s).hex())


@contextmanager
def open_token(place: TokenPlace, secrets: Secrets) -> Iterator[TokenSigner]:
    """Lend a signer for a key on a token; the session and the login end with the block.

    The PIN is asked once for each token, also where several of its keys are lent.
    It is tried once: most tokens lock after three.

    Raises:
        SigningError: No such module, token or key; the PIN is wrong; or the token would give the key away.
    """
    library = _library(place)
    import PyKCS11

    session: Any = None
    is_login_ours = False
    try:
        session = library.openSession(_slot(library, place), PyKCS11.CKF_SERIAL_SESSION)
        if session.getSessionInfo().state not in {PyKCS11.CKS_RO_USER_FUNCTIONS, PyKCS11.CKS_RW_USER_FUNCTIONS}:
            session.login(secrets.ask(f"PIN of the token {place.token}"))
            is_login_ours = True
        private = _one(session, place, PyKCS11.CKO_PRIVATE_KEY)
        _require_kept(session, private, place)
        public_key = _public_key(session, _one(session, place, PyKCS11.CKO_PUBLIC_KEY), place)
        yield TokenSigner(session, private, public_key, place.token)
    except PyKCS11.PyKCS11Error as error:
        raise _refused(place.token, error) from error
    finally:
        if session is not None:
            for end in ([session.logout] if is_login_ours else []) + [session.closeSession]:
                with suppress(PyKCS11.PyKCS11Error):
                    end()
        library.unload()


def _library(place: TokenPlace) -> Any:
    try:
        import PyKCS11
    except ImportError as error:
        raise SigningError(
            what="tokens cannot be used on this machine",
            why="PyKCS11 is not installed",
            fix="install sealift with the extra bundler-hsm",
        ) from error
    library = PyKCS11.PyKCS11Lib()
    try:
        library.load(place.module)
    except PyKCS11.PyKCS11Error as error:
        raise SigningError(
            what="the PKCS#11 module cannot be loaded",
            why=str(error),
            fix="name the vendor's library with module-path=/… or SEALIFT_PKCS11_MODULE",
        ) from error
    return library


def _slot(library: Any, place: TokenPlace) -> Any:
    labels = {slot: library.getTokenInfo(slot).label.rstrip("\0 ") for slot in library.getSlotList(tokenPresent=True)}
    found = [slot for slot, label in labels.items() if label == place.token]
    if len(found) != 1:
        raise SigningError(
            what=f"the token {place.token} is not there",
            why=f"{len(found)} tokens with this label; present: {', '.join(filter(None, labels.values())) or 'none'}",
            fix="put the token in, and check with: pkcs11-tool --module MODULE --list-slots",
        )
    return found[0]


def _one(session: Any, place: TokenPlace, kind: int) -> Any:
    import PyKCS11

    template: list[tuple[int, Any]] = [(PyKCS11.CKA_CLASS, kind)]
    template += [(PyKCS11.CKA_LABEL, place.label)] if place.label else []
    template += [(PyKCS11.CKA_ID, tuple(place.id))] if place.id else []
    found = session.findObjects(template)
    if len(found) != 1:
        what = "private" if kind == PyKCS11.CKO_PRIVATE_KEY else "public"
        raise SigningError(
            what=f"the token {place.token} does not hold exactly one such key",
            why=f"{len(found)} {what} keys have this label and id",
            fix="check with: pkcs11-tool --module MODULE --login --list-objects",
        )
    return found[0]


def _require_kept(session: Any, private: Any, place: TokenPlace) -> None:
    """Refuse a key that the token would give away, or that was outside of it once."""
    import PyKCS11

    names = ("CKA_SENSITIVE", "CKA_EXTRACTABLE", "CKA_NEVER_EXTRACTABLE", "CKA_LOCAL", "CKA_SIGN")
    values = session.getAttributeValue(private, [getattr(PyKCS11, name) for name in names])
    is_kept = dict(zip(names, map(bool, values), strict=True))
    if is_kept != dict(zip(names, (True, False, True, True, True), strict=True)):
        raise SigningError(
            what=f"the key on the token {place.token} may not be used",
            why="it can leave the token, was made outside of it, or may not sign",
            fix="make it on the token: pkcs11-tool --keypairgen --key-type EC:secp384r1 --usage-sign --login",
        )


def _public_key(session: Any, public: Any, place: TokenPlace) -> SSlibKey:
    import PyKCS11

    parameters, point = session.getAttributeValue(public, [PyKCS11.CKA_EC_PARAMS, PyKCS11.CKA_EC_POINT])
    curve = _CURVES.get(bytes(parameters or ()))
    encoded = bytes(point or ())
    if curve is not None:
        # The standard wraps the point into a DER octet string; some tokens leave the wrapping out.
        bare = encoded[-(1 + 2 * ((curve.key_size + 7) // 8)) :]
        with suppress(ValueError):
            return SSlibKey.from_crypto(ec.EllipticCurvePublicKey.from_encoded_point(curve, bare))
    raise SigningError(
        what=f"the key on the token {place.token} may not be used",
        why="only ECDSA on P-256 and P-384 is used",
        fix="make it with: pkcs11-tool --keypairgen --key-type EC:secp384r1 --usage-sign --login",
    )


def _refused(owner: str, error: Exception) -> SigningError:
    import PyKCS11

    number = getattr(error, "value", None)
    said = {
        PyKCS11.CKR_PIN_INCORRECT: ("the PIN is wrong", "try again with care: most tokens lock after three"),
        PyKCS11.CKR_PIN_LOCKED: ("its PIN is locked", "its security officer unlocks it"),
        PyKCS11.CKR_TOKEN_NOT_PRESENT: ("it was taken out", "put it in and run the command again"),
        PyKCS11.CKR_DEVICE_REMOVED: ("it was taken out", "put it in and run the command again"),
    }
    why, fix = said.get(number, (str(error), "check with: pkcs11-tool --module MODULE --login --test"))
    return SigningError(what=f"the token {owner} did not sign", why=why, fix=fix)


def _no_address(why: str) -> UsageError:
    return UsageError(
        what="a PKCS#11 address cannot be used",
        why=why,
        fix="write pkcs11:token=LABEL;object=NAME?module-path=/usr/lib/…/module.so",
    )
