"""A box's card: who it is to other boxes of its site, signed by its own ledger key (format 2).

Promises: a card has one byte form; its signature shows that who made it holds the ledger key that it names. That the
card is of the right box is for people to say: they type its code, SHA-256 of the signed bytes, at the other box.

Format 2 adds `reads`, the formats that the box's release reads (`appliance.formats`). Format 1 says nothing of them:
such a card is read, and its box taken for one that reads what there was before.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from appliance import formats
from appliance.audit.note import VerifierKey
from appliance.standby import vouched
from media import canonical, clock
from media.digest import sha256_hex
from media.dsse import Envelope
from media.release import require_site_name

FORMAT: Final = 2
_WITHOUT_FORMATS: Final = 1
TYPE: Final = "sealift/box-card"
PAYLOAD_TYPE: Final = "application/vnd.sealift.box-card+json"
_NAME: Final = re.compile(r"(?=.{1,32}\Z)[a-z0-9](-?[a-z0-9]){0,31}")
_RESERVED: Final = "own"
"""Beside the pairings, each in a file of the other box's name, this box's own card lies under this one."""
_FIELDS: Final = ("format", "type", "site", "environment", "name", "vkey", "channel", "sealing", "made_at")
_ENVIRONMENTS: Final = ("demo", "rehearsal", "production")
_CHANNEL_CHARS: Final = 8192
_X25519_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxCard:
    """What one box says of itself.

    Attributes:
        name: What people call it; lower-case letters, digits and hyphens.
        vkey: Its ledger's origin, and the key that signed for it when the card was made.
        channel: PEM of the certificate that it shows on the channel between boxes.
        sealing: Its X25519 public key, 32 bytes, to seal a site's secret for it.
        reads: The newest format that its release reads of each thing; empty in a card of format 1.
    """

    site: str
    environment: str
    name: str
    vkey: VerifierKey
    channel: str
    sealing: bytes
    made_at: datetime
    reads: Mapping[str, int] = field(default_factory=dict, hash=False)

    @property
    def format(self) -> int:
        """The format of its bytes."""
        return FORMAT if self.reads else _WITHOUT_FORMATS

    @property
    def origin(self) -> str:
        """What its ledger's checkpoints call it."""
        return self.vkey.name

    @property
    def channel_der(self) -> bytes:
        """The channel's certificate as it is compared after a handshake."""
        return _certificate(self.channel)

    def to_payload(self) -> bytes:
        """Return the bytes that are signed."""
        return canonical.dumps(
            {
                "format": self.format,
                **({formats.FIELD: dict(self.reads)} if self.reads else {}),
                "type": TYPE,
                "site": self.site,
                "environment": self.environment,
                "name": self.name,
                "vkey": self.vkey.to_text(),
                "channel": self.channel,
                "sealing": base64.b64encode(self.sealing).decode(),
                "made_at": clock.to_text(self.made_at),
            }
        )

    @property
    def code(self) -> str:
        """What people compare and type: SHA-256 of the signed bytes, 64 hex digits."""
        return sha256_hex(self.to_payload())

    @classmethod
    def from_payload(cls, untrusted: bytes) -> Self:
        """Parse the signed bytes; the signature is not verified by that.

        Raises:
            MalformedError: It is not canonical JSON of exactly these fields.
            PairingRefusedError: A field is of another form.
            ProofError: The ledger key is none.
        """
        fields = canonical.exact_keys(canonical.loads_canonical(untrusted), _FIELDS, (formats.FIELD,), what="card")
        if fields["format"] != (FORMAT if formats.FIELD in fields else _WITHOUT_FORMATS) or fields["type"] != TYPE:
            raise vouched.refused("it is not a box's card of this format")
        channel = canonical.text(fields["channel"], "card.channel", most=_CHANNEL_CHARS, lines=True)
        _certificate(channel)
        return cls(
            site=require_site_name(canonical.text(fields["site"], "card.site")),
            environment=canonical.one_of(fields["environment"], _ENVIRONMENTS, "card.environment"),
            name=require_name(canonical.text(fields["name"], "card.name")),
            vkey=VerifierKey.from_text(canonical.text(fields["vkey"], "card.vkey")),
            channel=channel,
            sealing=_sealing(fields["sealing"]),
            made_at=canonical.moment(fields["made_at"], "card.made_at"),
            reads=formats.parse(fields[formats.FIELD], "card.reads") if formats.FIELD in fields else {},
        )

    @classmethod
    def from_envelope(cls, untrusted: bytes) -> Self:
        """Return the card that the ledger key in it signed.

        Raises:
            LimitExceededError, MalformedError: Not an envelope, or not a card.
            PairingRefusedError: The signature is not by the key that the card names.
        """
        card = cls.from_payload(Envelope.from_bytes(untrusted).payload)
        vouched.require_vouched(untrusted, PAYLOAD_TYPE, {card.name: card.vkey.public})
        return card


def require_name(untrusted: str) -> str:
    """Return a box's name: 1 to 32 lower-case letters and digits, single hyphens between; not ``own``.

    Raises:
        PairingRefusedError: It is not in that form.
    """
    if not _NAME.fullmatch(untrusted) or untrusted == _RESERVED:
        raise vouched.refused(
            "a box's name is 1 to 32 lower-case letters and digits, single hyphens between; not `own`"
        )
    return untrusted


def _sealing(untrusted: Any) -> bytes:
    try:
        found = base64.b64decode(canonical.text(untrusted, "card.sealing"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise vouched.refused("its sealing key is not base64") from error
    if len(found) != _X25519_BYTES:
        raise vouched.refused("its sealing key is not an X25519 key")
    return found


def _certificate(pem: str) -> bytes:
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise vouched.refused("its channel's certificate does not read") from error
    return certificate.public_bytes(Encoding.DER)
