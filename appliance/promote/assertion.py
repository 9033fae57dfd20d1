"""What a security key says: the one module that speaks WebAuthn (W3C, Level 2), by the library py_webauthn.

The challenge of an approval is the SHA-256 of the statement, so the authenticator signs this statement and no other.
Promises: user verification (a PIN or a fingerprint at the key) is required; relying party, origin and credential are
those of the registration; an assertion made in a frame of another site is refused; no attestation is asked for.
The library is imported on use: sites without security keys never load it.
"""

import json
from dataclasses import dataclass
from typing import Any, Final, Self

from appliance.promote import base64text
from media import canonical
from media.errors import BadSignatureError, MalformedError

FORMAT: Final = 1
_FIELDS: Final = ("credential_id", "authenticator_data", "client_data", "signature")
_MAX_BYTES: Final = 8 * 1024
ALGORITHMS: Final = (-7, -8, -257)
"""COSE's numbers of ES256, EdDSA and RS256, of which every authenticator speaks one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """An authenticator's answer to `navigator.credentials.get`, as it is kept in approvals."""

    credential_id: str
    authenticator_data: bytes
    client_data: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """Return the one form in which it is kept."""
        return canonical.dumps(
            {
                "format": FORMAT,
                "credential_id": self.credential_id,
                "authenticator_data": base64text.encode_url(self.authenticator_data),
                "client_data": base64text.encode_url(self.client_data),
                "signature": base64text.encode_url(self.signature),
            }
        )

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse what `to_bytes` gave.

        Raises:
            MalformedError: It is not canonical JSON of these fields.
        """
        value = canonical.loads_canonical(untrusted, max_bytes=_MAX_BYTES)
        fields = canonical.exact_keys(value, ("format", *_FIELDS), what="assertion")
        canonical.integer(fields["format"], "assertion.format", minimum=FORMAT, maximum=FORMAT)
        return cls.from_fields(fields)

    @classmethod
    def from_fields(cls, untrusted: dict[str, Any]) -> Self:
        """Parse the fields as a browser sends them, in base64url.

        Raises:
            MalformedError: One is missing or of another shape.
        """
        name = canonical.text(untrusted.get("credential_id"), "assertion.credential_id")
        base64text.decode_url(name, "assertion.credential_id")
        data, client, signature = (
            base64text.decode_url(untrusted.get(field), f"assertion.{field}") for field in _FIELDS[1:]
        )
        return cls(credential_id=name, authenticator_data=data, client_data=client, signature=signature)

    @property
    def counter(self) -> int:
        """How often the authenticator says it signed; 0 when it does not count (section 6.1, authenticator data)."""
        return int.from_bytes(self.authenticator_data[33:37], "big")

    def require(self, challenge: bytes, *, key: bytes, credential_id: str, rp_id: str, origin: str) -> None:
        """Return when this credential's owner, verified by the key, signed this challenge here.

        The counter is the promoter's to judge, which remembers the last one.

        Raises:
            BadSignatureError: They did not.
        """
        if self.credential_id != credential_id:
            raise _bad("another credential answered")
        from webauthn import verify_authentication_response

        answer = {
            "id": self.credential_id,
            "rawId": self.credential_id,
            "type": "public-key",
            "response": {
                "authenticatorData": base64text.encode_url(self.authenticator_data),
                "clientDataJSON": base64text.encode_url(self.client_data),
                "signature": base64text.encode_url(self.signature),
            },
        }
        try:
            verify_authentication_response(
                credential=answer,
                expected_challenge=challenge,
                expected_rp_id=rp_id,
                expected_origin=origin,
                credential_public_key=key,
                credential_current_sign_count=0,
                require_user_verification=True,
            )
        except Exception as error:
            raise _bad(str(error)[:200]) from error
        _require_same_origin(self.client_data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A credential that an authenticator just made."""

    credential_id: str
    key: bytes
    counter: int


def require_registration(untrusted: dict[str, Any], *, challenge: bytes, rp_id: str, origin: str) -> Registration:
    """Return the credential of an answer to `navigator.credentials.create`; its maker is not asked (no attestation).

    Args:
        untrusted: `credential_id`, `attestation` and `client_data` in base64url.
        challenge: What was given out for it.
        rp_id: The relying party: this site's host name.
        origin: The admin page's address.

    Raises:
        BadSignatureError: It answers something else, or the user was not verified.
        MalformedError: A field is missing or of another shape.
    """
    names = ("credential_id", "attestation", "client_data")
    texts = {name: canonical.text(untrusted.get(name), f"registration.{name}", most=_MAX_BYTES) for name in names}
    for name, text in texts.items():
        base64text.decode_url(text, f"registration.{name}")
    from webauthn import verify_registration_response
    from webauthn.helpers.cose import COSEAlgorithmIdentifier as Algorithm

    answer = {
        "id": texts["credential_id"],
        "rawId": texts["credential_id"],
        "type": "public-key",
        "response": {"attestationObject": texts["attestation"], "clientDataJSON": texts["client_data"]},
    }
    try:
        found = verify_registration_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=rp_id,
            expected_origin=origin,
            require_user_verification=True,
            supported_pub_key_algs=[Algorithm(number) for number in ALGORITHMS],
        )
    except Exception as error:
        raise _bad(str(error)[:200]) from error
    _require_same_origin(base64text.decode_url(texts["client_data"], "registration.client_data"))
    return Registration(
        credential_id=base64text.encode_url(found.credential_id),
        key=found.credential_public_key,
        counter=found.sign_count,
    )


def public_key(cose: bytes) -> Any:
    """Return a COSE key as cryptography's object.

    Raises:
        MalformedError: It is none.
    """
    from webauthn.helpers import decode_credential_public_key, decoded_public_key_to_cryptography

    try:
        return decoded_public_key_to_cryptography(decode_credential_public_key(cose))
    except Exception as error:
        raise MalformedError(
            what="a security key's public key is malformed", why=str(error)[:100], fix="register the key again"
        ) from error


def _require_same_origin(client_data: bytes) -> None:
    # Level 2, 5.8.1: true when the call came from a frame of another site. The library parsed these bytes before.
    if json.loads(client_data).get("crossOrigin"):
        raise _bad("it was asked for by a frame of another site")


def _bad(why: str) -> BadSignatureError:
    return BadSignatureError(
        what="the security key's answer is refused", why=why, fix="reload the page and touch the key again"
    )
