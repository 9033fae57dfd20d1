"""What a person approves with: the public half of a key, of one class, for as long as it counts.

    class          key                                                     a signature is
    openpgp        binary certificate                                      a detached signature packet
    webauthn       COSE key (RFC 9052), with credential id, rp id, origin  an assertion (`appliance.promote.assertion`)
    pkcs11         SubjectPublicKeyInfo, P-256 or P-384                    ECDSA in DER, SHA-256 or SHA-384
    password-totp  SubjectPublicKeyInfo, Ed25519                           Ed25519, made by the promoter

Promises: a signature holds over the very bytes or is refused; what a security key signed holds only for the site and
address that it was registered at, whatever the site file says today.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from appliance.promote import assertion, base64text
from appliance.promote.classes import CLASSES, OPENPGP, PASSWORD_TOTP, WEBAUTHN
from media import canonical, openpgp
from media.errors import BadSignatureError, MalformedError
from media.packets import Certificate, curve_material

_KEY_BYTES: Final = 64 * 1024
_CURVES: Final = {"secp256r1": ("nistp256", SHA256()), "secp384r1": ("nistp384", SHA384())}
_DETAILS: Final = ("credential_id", "rp_id", "origin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One public key of one person.

    Attributes:
        approves_by: Its class.
        key: As the table above has it.
        fingerprint: Names it: OpenPGP's own, else the SHA-256 of `key`.
        since: Ledger sequence from which on it counts (the record itself excluded).
        until: Ledger sequence at which it ended; approvals in promotions before keep their force.
        credential_id: The authenticator's name for it; security keys only, as are `rp_id` and `origin`.
    """

    approves_by: str
    key: bytes = field(repr=False)
    fingerprint: str
    since: int = 0
    until: int | None = None
    credential_id: str = ""
    rp_id: str = ""
    origin: str = ""

    @classmethod
    def of(cls, approves_by: str, key: bytes, *, credential_id: str = "", rp_id: str = "", origin: str = "") -> Self:
        """Return a credential that was just made.

        Raises:
            MalformedError: The key is not one of its class.
        """
        made = cls(
            approves_by=approves_by,
            key=key,
            fingerprint=_fingerprint(approves_by, key),
            credential_id=credential_id,
            rp_id=rp_id,
            origin=origin,
        )
        _ = made.material
        return made

    def counts_at(self, sequence: int) -> bool:
        """Return whether it counted at that place of the ledger."""
        return self.since < sequence and (self.until is None or sequence < self.until)

    @property
    def material(self) -> frozenset[str]:
        """What names the key itself, whatever form it came in, so that one key is seen as one.

        Raises:
            MalformedError: The key is not one of its class.
        """
        if self.approves_by == OPENPGP:
            return frozenset(one.material for one in Certificate.from_bytes(self.key).keys)
        if self.approves_by == WEBAUTHN:
            return frozenset({_material(assertion.public_key(self.key))})
        return frozenset({_material(_load(self.approves_by, self.key))})

    def require(self, statement: bytes, untrusted_signature: bytes) -> None:
        """Return when the signature is this key's over these bytes.

        Raises:
            BadSignatureError: It is not.
            LimitExceededError, MalformedError: It is not in its form.
        """
        if self.approves_by == OPENPGP:
            openpgp.verify_detached(untrusted_signature, statement, [self.key])
        elif self.approves_by == WEBAUTHN:
            assertion.Assertion.from_bytes(untrusted_signature).require(
                sha256(statement).digest(),
                key=self.key,
                credential_id=self.credential_id,
                rp_id=self.rp_id,
                origin=self.origin,
            )
        else:
            _require_plain(self.approves_by, self.key, statement, untrusted_signature)

    def to_json(self) -> dict[str, Any]:
        """Return the fields of people.json and of the ledger's records."""
        details = {name: getattr(self, name) for name in _DETAILS if self.approves_by == WEBAUTHN}
        return {
            "class": self.approves_by,
            "key": base64text.encode(self.key),
            "fingerprint": self.fingerprint,
            "since": self.since,
            "until": self.until,
            **details,
        }

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Parse what `to_json` gave.

        Raises:
            MalformedError: A field is missing or of another shape, or the fingerprint is another key's.
        """
        required = ("class", "key", "fingerprint", "since", "until")
        fields = canonical.exact_keys(untrusted, required, _DETAILS, what="credential")
        approves_by = canonical.one_of(fields["class"], CLASSES, "credential.class")
        key = base64text.decode(fields["key"], "credential.key")
        until = fields["until"]
        names = _DETAILS if approves_by == WEBAUTHN else ()
        if set(_DETAILS) & set(fields) != set(names):
            raise _malformed("a security key has an id, a relying party and an origin, nothing else has")
        if fields["fingerprint"] != _fingerprint(approves_by, key):
            raise _malformed("its fingerprint is not that of its key")
        return cls(
            approves_by=approves_by,
            key=key,
            fingerprint=fields["fingerprint"],
            since=canonical.integer(fields["since"], "credential.since"),
            until=None if until is None else canonical.integer(until, "credential.until"),
            **{name: canonical.text(fields[name], f"credential.{name}") for name in names},
        )


def spki_of(key: Ed25519PublicKey | ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key as SubjectPublicKeyInfo, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _fingerprint(approves_by: str, key: bytes) -> str:
    return Certificate.from_bytes(key).fingerprint if approves_by == OPENPGP else sha256(key).hexdigest()


def _load(approves_by: str, key: bytes) -> Any:
    try:
        loaded: Any = load_der_public_key(key[: _KEY_BYTES + 1])
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _malformed("it is no public key in DER") from error
    if approves_by == PASSWORD_TOTP:
        is_right = isinstance(loaded, Ed25519PublicKey)
    else:
        is_right = isinstance(loaded, ec.EllipticCurvePublicKey) and loaded.curve.name in _CURVES
    if not is_right:
        raise _malformed(f"{approves_by} takes another kind of key: P-256 or P-384 on a token")
    if spki_of(loaded) != key:
        raise _malformed("its encoding is not the one form")
    return loaded


def _material(key: Any) -> str:
    if isinstance(key, Ed25519PublicKey):
        return curve_material("ed25519", key.public_bytes_raw().hex())
    if isinstance(key, ec.EllipticCurvePublicKey):
        point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        name = _CURVES[key.curve.name][0] if key.curve.name in _CURVES else key.curve.name
        return curve_material(name, point.hex())
    digest = sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    return f"spki:{digest}"


def _require_plain(approves_by: str, key: bytes, statement: bytes, untrusted_signature: bytes) -> None:
    loaded = _load(approves_by, key)
    try:
        if isinstance(loaded, ec.EllipticCurvePublicKey):
            loaded.verify(untrusted_signature, statement, ec.ECDSA(_CURVES[loaded.curve.name][1]))
        else:
            loaded.verify(untrusted_signature, statement)
    except (InvalidSignature, ValueError) as error:
        raise BadSignatureError(
            what="the signature does not fit the statement",
            why="it is over other bytes, or by another key",
            fix="sign the statement as it is shown",
        ) from error


def _malformed(why: str) -> MalformedError:
    return MalformedError(what="a credential is malformed", why=why, fix="enrol with another key")
