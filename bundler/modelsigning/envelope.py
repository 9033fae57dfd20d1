"""The signature file: a Sigstore bundle (version 0.3, JSON) that holds one DSSE envelope.

Only signatures by a key or by certificates are read. A keyless one, made with an account and an online log, can be
judged only online; it is refused by that name.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final

from bundler.errors import SourceError
from bundler.modelsigning.manifest import malformed
from media import canonical
from media.dsse import INTOTO
from media.dsse import Envelope as Signed
from media.errors import MediaError
from media.limits import ENVELOPE_BYTES

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_MOST_CERTIFICATES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One signature over one statement, parsed but not verified.

    `key_hint` is the SHA-256 of the PEM of the signer's key; `chain` holds DER certificates, the signer's first.
    """

    payload: bytes
    signature: bytes
    key_hint: str = ""
    chain: tuple[bytes, ...] = ()

    @property
    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return pae(self.payload)

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> "Bundle":
        """Read a signature file.

        Raises:
            SourceError: It is not one, or is keyless.
        """
        try:
            return cls._parsed(canonical.mapping(canonical.loads(untrusted, max_bytes=ENVELOPE_BYTES), "the bundle"))
        except MediaError as error:
            raise malformed(f"{error.what}: {error.why}") from error

    @classmethod
    def _parsed(cls, bundle: dict[str, Any]) -> "Bundle":
        if bundle.get("mediaType") != MEDIA_TYPE:
            raise malformed(f"its media type is not {MEDIA_TYPE}")
        material = canonical.mapping(bundle.get("verificationMaterial"), "verificationMaterial")
        if "certificate" in material or material.get("tlogEntries"):
            raise SourceError(
                what="the model signature is keyless",
                why="it can be judged only with Sigstore's online services",
                fix="verify it with upstream's tool before the build, or ask for a signature by key",
            )
        envelope = canonical.mapping(bundle.get("dsseEnvelope"), "dsseEnvelope")
        if envelope.get("payloadType") != INTOTO:
            raise malformed(f"its payload type is not {INTOTO}")
        # Upstream looks at the first signature and passes over others; two readings are one too many.
        signatures = canonical.array(envelope.get("signatures"), "signatures", most=1)
        signature = canonical.mapping(next(iter(signatures), None), "a signature")
        hint = canonical.mapping(material.get("publicKey", {}), "publicKey").get("hint") or ""
        chain = canonical.mapping(material.get("x509CertificateChain", {}), "x509CertificateChain")
        certificates = canonical.array(chain.get("certificates", []), "certificates", most=_MOST_CERTIFICATES)
        return cls(
            payload=_base64(envelope.get("payload")),
            signature=_base64(signature.get("sig")),
            key_hint=canonical.text(hint, "hint", may_be_empty=True),
            chain=tuple(_base64(canonical.mapping(each, "a certificate").get("rawBytes")) for each in certificates),
        )

    def to_bytes(self) -> bytes:
        """Return the signature file."""
        material: dict[str, Any] = {"tlogEntries": []}
        if self.chain:
            listed = [{"rawBytes": base64.b64encode(each).decode()} for each in self.chain]
            material["x509CertificateChain"] = {"certificates": listed}
        else:
            material["publicKey"] = {"hint": self.key_hint}
        return canonical.dumps(
            {
                "mediaType": MEDIA_TYPE,
                "verificationMaterial": material,
                "dsseEnvelope": {
                    "payload": base64.b64encode(self.payload).decode(),
                    "payloadType": INTOTO,
                    "signatures": [{"sig": base64.b64encode(self.signature).decode(), "keyid": ""}],
                },
            }
        )


def pae(payload: bytes) -> bytes:
    """Return DSSE's encoding of a statement, which is what gets signed."""
    return Signed(payload_type=INTOTO, payload=payload, signatures=()).signed_bytes()


def _base64(untrusted: Any) -> bytes:
    if not isinstance(untrusted, str):
        raise malformed("a field is not base64 text")
    try:
        return base64.b64decode(untrusted.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise malformed("a field is not standard base64") from error
