"""A person's own key on a PKCS#11 token: ECDSA over a statement, without the key ever leaving the token.

Tokens sign a digest and answer with both numbers side by side (PKCS#11 v3.1, 6.3.12); what is handed in is DER.
PyKCS11 is imported on use: only people with a token install it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from appliance.promote.credentials import spki_of
from media.errors import KeyUnusableError

_CURVES: Final = {
    bytes.fromhex("06082a8648ce3d030107"): (ec.SECP256R1(), hashlib.sha256),
    bytes.fromhex("06052b81040022"): (ec.SECP384R1(), hashlib.sha384),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """Where a key is: the vendor's library, the token's label, the key's label."""

    module: str
    token: str
    label: str


def sign(key: TokenKey, pin: str, statement: bytes) -> bytes:
    """Return the key's ECDSA signature over a statement, in DER: SHA-256 on P-256, SHA-384 on P-384.

    Raises:
        KeyUnusableError: The module, the token or the key is not there, the PIN is wrong, or the token refuses.
    """
    import PyKCS11

    with _session(key, pin) as session:
        private = _one(session, key, PyKCS11.CKO_PRIVATE_KEY)
        parameters = bytes(session.getAttributeValue(private, [PyKCS11.CKA_EC_PARAMS])[0])
        if parameters not in _CURVES:
            raise _unusable(key, "it is not a key on P-256 or P-384")
        digest = _CURVES[parameters][1](statement).digest()
        raw = bytes(session.sign(private, digest, PyKCS11.Mechanism(PyKCS11.CKM_ECDSA, None)))
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


def public_key(key: TokenKey, pin: str) -> bytes:
    """Return the public key for an enrolment, as SubjectPublicKeyInfo in DER.

    Raises:
        KeyUnusableError: As `sign`.
    """
    import PyKCS11

    with _session(key, pin) as session:
        public = _one(session, key, PyKCS11.CKO_PUBLIC_KEY)
        names = [PyKCS11.CKA_EC_PARAMS, PyKCS11.CKA_EC_POINT]
        parameters, point = (bytes(value) for value in session.getAttributeValue(public, names))
    if parameters not in _CURVES:
        raise _unusable(key, "it is not a key on P-256 or P-384")
    curve = _CURVES[parameters][0]
    # The standard wraps the point into an octet string; some tokens leave that out.
    size = 1 + 2 * ((curve.key_size + 7) // 8)
    return spki_of(ec.EllipticCurvePublicKey.from_encoded_point(curve, point[-size:]))


@contextmanager
def _session(key: TokenKey, pin: str) -> Iterator[Any]:
    try:
        import PyKCS11
    except ImportError as error:
        raise _unusable(key, "PyKCS11 is not installed") from error
    library = PyKCS11.PyKCS11Lib()
    session = None
    try:
        library.load(key.module)
        slots = [one for one in library.getSlotList(tokenPresent=True) if _label(library, one) == key.token]
        if len(slots) != 1:
            raise _unusable(key, f"{len(slots)} tokens of this label are there")
        session = library.openSession(slots[0], PyKCS11.CKF_SERIAL_SESSION)
        session.login(pin)
        yield session
    except PyKCS11.PyKCS11Error as error:
        raise _unusable(key, str(error)) from error
    finally:
        if session is not None:
            with suppress(PyKCS11.PyKCS11Error):
                session.logout()
            with suppress(PyKCS11.PyKCS11Error):
                session.closeSession()


def _label(library: Any, slot: int) -> str:
    return str(library.getTokenInfo(slot).label).strip("\0 ")


def _one(session: Any, key: TokenKey, kind: int) -> Any:
    import PyKCS11

    found = session.findObjects([(PyKCS11.CKA_CLASS, kind), (PyKCS11.CKA_LABEL, key.label)])
    if len(found) != 1:
        raise _unusable(key, f"the token holds {len(found)} such keys")
    return found[0]


def _unusable(key: TokenKey, why: str) -> KeyUnusableError:
    return KeyUnusableError(
        what=f"the key {key.label} on the token {key.token} cannot be used",
        why=why,
        fix="plug in the token, check its label with `pkcs11-tool --list-objects`, and type its PIN",
    )
