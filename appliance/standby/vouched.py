"""DSSE envelopes that a box signs with its ledger key: one form, and only signatures of keys that the reader names.

The signed bytes are DSSE's pre-authentication encoding, so nothing signed here can be taken for a checkpoint.
"""

from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import Signature  # type: ignore[attr-defined]  # re-exported without __all__

from appliance.audit.log import Signer
from appliance.errors import PairingRefusedError
from media.digest import sha256_hex
from media.dsse import Envelope


def key_id(public: bytes) -> str:
    """Return the id under which a box's Ed25519 key signs envelopes: SHA-256 of the 32 raw bytes."""
    return sha256_hex(public)


def vouch(payload_type: str, payload: bytes, signer: Signer) -> bytes:
    """Return the envelope of a payload with this box's one signature, by the key that signs for its ledger now.

    Raises:
        KeyMissingError: This process may not use the ledger's key any more.
        LimitExceededError: The payload is larger than an envelope takes.
    """
    bare = Envelope(payload_type=payload_type, payload=payload, signatures=())
    made = Signature(key_id(signer.public), signer.sign(bare.signed_bytes()).hex())
    return Envelope(payload_type=payload_type, payload=payload, signatures=(made,)).to_bytes()


def joined(first: bytes, second: bytes) -> bytes:
    """Return one envelope with the signatures of two over the same payload.

    Raises:
        MalformedError: One is no envelope, or both were signed by one key.
        PairingRefusedError: They hold different payloads.
    """
    one, other = Envelope.from_bytes(first), Envelope.from_bytes(second)
    if (one.payload_type, one.payload) != (other.payload_type, other.payload):
        raise refused("the two boxes signed different statements")
    signatures = (*one.signatures, *other.signatures)
    return Envelope(payload_type=one.payload_type, payload=one.payload, signatures=signatures).to_bytes()


def require_vouched(untrusted: bytes, payload_type: str, publics: Mapping[str, bytes]) -> bytes:
    """Return the payload when exactly these boxes signed it, each once.

    Args:
        untrusted: Any bytes.
        payload_type: The only one that is accepted.
        publics: Ed25519 keys, 32 raw bytes each, by the box's name, which errors show.

    Raises:
        LimitExceededError: More bytes than an envelope may have.
        MalformedError: Not an envelope in its one form.
        PairingRefusedError: Another type, another signer, or a signature that does not hold.
    """
    envelope = Envelope.from_bytes(untrusted)
    if envelope.payload_type != payload_type:
        raise refused(f"it is of type {envelope.payload_type[:80]}, expected {payload_type}")
    wanted = {key_id(public): (name, public) for name, public in publics.items()}
    if sorted(wanted) != sorted(signature.keyid for signature in envelope.signatures):
        raise refused(f"it is not signed by exactly {', '.join(sorted(publics))}")
    signed = envelope.signed_bytes()
    for signature in envelope.signatures:
        name, public = wanted[signature.keyid]
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(bytes.fromhex(signature.signature), signed)
        except (InvalidSignature, ValueError) as error:
            raise refused(f"the signature of {name} does not hold") from error
    return envelope.payload


def refused(why: str) -> PairingRefusedError:
    """Return the error for what another box brought and this one does not take."""
    return PairingRefusedError(
        what="what the other box brought is refused",
        why=why,
        fix="make it anew on the other box; when it is refused again, pair the boxes again in person",
    )
