"""DSSE envelopes: signed statements of people whom the root names (TRUST-40 to TRUST-44).

An envelope has one form, canonical JSON; every signature in it must hold and count. The signed bytes are DSSE's
pre-authentication encoding, which securesystemslib computes from payload type and payload.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any, Final, Self

from securesystemslib import dsse as library
from securesystemslib.signer import Signature, Signer  # type: ignore[attr-defined]  # re-exported without __all__

from media import canonical, keys, limits
from media.errors import LimitExceededError, MalformedError
from media.people import People, Person

INTOTO: Final = "application/vnd.in-toto+json"
CUSTODY: Final = "application/vnd.sealift.custody+json"

_TYPE = re.compile(r"[a-z]+/[a-z0-9][a-z0-9.+-]{0,126}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A payload and its signatures, parsed but not verified.

    Args:
        payload_type: Says how to read the payload.
        payload: The bytes.
        signatures: In the order of their key ids.
    """

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Read an envelope.

        Raises:
            LimitExceededError: More bytes than an envelope may have.
            MalformedError: Not exactly what `to_bytes` writes.
        """
        value = canonical.exact_keys(
            canonical.loads(untrusted, max_bytes=limits.ENVELOPE_BYTES),
            ("payload", "payloadType", "signatures"),
            (),
            "An envelope",
        )
        envelope = cls(
            payload_type=_payload_type(value["payloadType"]),
            payload=_base64(value["payload"]),
            signatures=tuple(
                _signature(each) for each in canonical.array(value["signatures"], "An envelope", most=limits.SIGNATURES)
            ),
        )
        if envelope.to_bytes() != untrusted:
            raise _malformed("it is not in canonical form, or its signatures are not sorted by key id")
        return envelope

    def to_bytes(self) -> bytes:
        """Return the one form of this envelope.

        Raises:
            LimitExceededError: The payload is larger than one may be.
            MalformedError: Two signatures are under one key id, or there is none.
        """
        if len(self.payload) > limits.PAYLOAD_BYTES:
            raise _too_large(len(self.payload))
        keyids = [each.keyid for each in self.signatures]
        if not keyids or len(set(keyids)) != len(keyids):
            raise _malformed("it has no signature, or two under one key id")
        return canonical.dumps(
            {
                "payload": base64.b64encode(self.payload).decode(),
                "payloadType": self.payload_type,
                "signatures": [_to_json(each) for each in sorted(self.signatures, key=lambda each: each.keyid)],
            }
        )

    def signed_bytes(self) -> bytes:
        """Return what the signatures cover."""
        encoded: bytes = library.Envelope(self.payload, self.payload_type, {}).pae()
        return encoded


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A payload that people of the root signed.

    Args:
        payload_type: Says how to read the payload.
        payload: The bytes.
        signers: Who, each once.
    """

    payload_type: str
    payload: bytes
    signers: tuple[Person, ...]


def sign(payload_type: str, payload: bytes, *signers: Signer) -> bytes:
    """Return an envelope with a signature by each signer; under the hybrid policy a person needs two.

    Raises:
        LimitExceededError: The payload is larger than one may be.
        MalformedError: The payload type, or what a signer returned, is not one that `verify` would read; or no signer.
    """
    unsigned = Envelope(payload_type=_payload_type(payload_type), payload=payload, signatures=())
    made = tuple(_made(unsigned, signer) for signer in signers)
    return Envelope(payload_type=payload_type, payload=payload, signatures=made).to_bytes()


def countersign(untrusted: bytes, signer: Signer) -> bytes:
    """Return the envelope with one more signature; verify it first.

    Raises:
        LimitExceededError: More bytes than an envelope may have.
        MalformedError: Not an envelope, or the key signed it before.
    """
    envelope = Envelope.from_bytes(untrusted)
    return Envelope(
        payload_type=envelope.payload_type,
        payload=envelope.payload,
        signatures=(*envelope.signatures, _made(envelope, signer)),
    ).to_bytes()


def verify(
    untrusted: bytes, people: People, role: str, threshold: int = 1, *, payload_type: str | None = None
) -> Statement:
    """Return the payload and who signed it.

    Args:
        untrusted: Any bytes.
        people: Of the trusted root.
        role: What every signer must be allowed to do.
        threshold: How many people must have signed.
        payload_type: The only one that is accepted, if given.

    Raises:
        BadSignatureError: A signature does not hold, or is by a key that the root does not name for this.
        LimitExceededError: More bytes than an envelope may have.
        MalformedError: Not an envelope, or of another payload type.
        SamePersonError: Enough signatures, but of fewer people.
        ThresholdError: Not enough signatures.
    """
    envelope = Envelope.from_bytes(untrusted)
    if payload_type is not None and envelope.payload_type != payload_type:
        raise _malformed(f"expected a payload of type {payload_type}")
    signed = envelope.signed_bytes()
    for signature in envelope.signatures:
        people.by_keyid(signature.keyid)
        keys.verify(people.key_objects[signature.keyid], signature, signed, "an envelope")
    signers = people.require_key_signers([each.keyid for each in envelope.signatures], role, threshold)
    return Statement(payload_type=envelope.payload_type, payload=envelope.payload, signers=signers)


def _made(envelope: Envelope, signer: Signer) -> Signature:
    made: dict[str, Any] = signer.sign(envelope.signed_bytes()).to_dict()
    return keys.require_signature(made, "an envelope")


def _signature(untrusted: Any) -> Signature:
    value = dict(canonical.mapping(untrusted, "A signature of an envelope"))
    value["sig"] = _base64(value.get("sig")).hex()
    return keys.require_signature(value, "an envelope")


def _to_json(signature: Signature) -> dict[str, str]:
    rendered = {"keyid": signature.keyid, "sig": base64.b64encode(bytes.fromhex(signature.signature)).decode()}
    if "other_headers" in signature.unrecognized_fields:
        rendered["other_headers"] = signature.unrecognized_fields["other_headers"]
    return rendered


def _payload_type(untrusted: Any) -> str:
    found = canonical.text(untrusted, "An envelope's payload type", most=128)
    if not _TYPE.fullmatch(found):
        raise _malformed("its payload type is not a media type in lower case")
    return found


def _base64(untrusted: Any) -> bytes:
    if not isinstance(untrusted, str):
        raise _malformed("a field is not base64 text")
    try:
        return base64.b64decode(untrusted.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise _malformed("a field is not standard base64") from error


def _too_large(found: int) -> LimitExceededError:
    return LimitExceededError(
        what="The payload of an envelope is too large",
        why=f"{found} bytes, at most {limits.PAYLOAD_BYTES} are written",
        fix="Do not use this medium; ask the sender for a new one.",
    )


def _malformed(why: str) -> MalformedError:
    return MalformedError(
        what="An envelope is malformed", why=why, fix="Do not use this file; ask its maker for a correct one."
    )
