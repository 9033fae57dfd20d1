"""What one box gives another to keep it current: two byte strings, the same on a medium and on the network (format 1).

    bundle.dsse.json   who made it for whom, where its records begin, the checkpoint, and the digest of the other file
    leaves.jsonl       each line the exact bytes of one ledger record
    evidence.jsonl     beside it, where there is any: documents that records name by their digest; nobody signs them

Promises: a bundle is for one box and signed by one box; what it holds is proven against that box's own checkpoint, and
each record that takes effect is judged anew.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from appliance.audit import succession
from appliance.audit.facts import Ledger
from appliance.audit.log import Signer
from appliance.audit.succession import Keys
from appliance.errors import PairingRefusedError
from appliance.standby import vouched
from appliance.standby.ending import Ending
from appliance.standby.pairing import Paired
from media import canonical, clock
from media.digest import sha256_hex

FORMAT: Final = 1
TYPE: Final = "sealift/standby-bundle"
PAYLOAD_TYPE: Final = "application/vnd.sealift.standby-bundle+json"
ENVELOPE_NAME: Final = "bundle.dsse.json"
LEAVES_NAME: Final = "leaves.jsonl"
EVIDENCE_NAME: Final = "evidence.jsonl"
MOST_BYTES: Final = 2**30
AIM_BYTES: Final = 2**28
"""Of records in one bundle, where there is a checkpoint for it to end with: what takes it needs five times as much."""
_PAGE: Final = 500
_FIELDS: Final = (
    *("format", "type", "site", "pairing_sha256", "sender", "receiver", "start", "size", "checkpoint"),
    *("leaves_sha256", "releases", "sealed", "at"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The signed part.

    Attributes:
        pairing_sha256: Of the statement file that both boxes hold.
        sender, receiver: Origins of the two ledgers.
        start: Sequence of the first record in it.
        size: How many records the checkpoint signs; the last one in it is the one before.
        releases: Serials that the sender has installed, for people to see what the receiver lacks.
        sealed: The site's secret for API keys, sealed for the receiver; empty for a test appliance.
    """

    site: str
    pairing_sha256: str
    sender: str
    receiver: str
    start: int
    size: int
    checkpoint: str
    leaves_sha256: str
    releases: tuple[int, ...]
    sealed: bytes
    at: datetime

    def to_payload(self) -> bytes:
        """Return the bytes that are signed."""
        return canonical.dumps(
            {
                "format": FORMAT,
                "type": TYPE,
                "site": self.site,
                "pairing_sha256": self.pairing_sha256,
                "sender": self.sender,
                "receiver": self.receiver,
                "start": self.start,
                "size": self.size,
                "checkpoint": self.checkpoint,
                "leaves_sha256": self.leaves_sha256,
                "releases": list(self.releases),
                "sealed": base64.b64encode(self.sealed).decode(),
                "at": clock.to_text(self.at),
            }
        )

    @classmethod
    def from_payload(cls, untrusted: bytes) -> Self:
        """Parse the signed bytes.

        Raises:
            MalformedError: It is not canonical JSON of exactly these fields.
            PairingRefusedError: It is of another type or format.
        """
        fields = canonical.exact_keys(canonical.loads_canonical(untrusted), _FIELDS, what="bundle")
        if fields["format"] != FORMAT or fields["type"] != TYPE:
            raise vouched.refused("it is not a bundle of this format")
        return cls(
            site=canonical.text(fields["site"], "bundle.site"),
            pairing_sha256=canonical.sha256_hex(fields["pairing_sha256"], "bundle.pairing_sha256"),
            sender=canonical.text(fields["sender"], "bundle.sender"),
            receiver=canonical.text(fields["receiver"], "bundle.receiver"),
            start=canonical.integer(fields["start"], "bundle.start"),
            size=canonical.integer(fields["size"], "bundle.size"),
            checkpoint=canonical.text(fields["checkpoint"], "bundle.checkpoint", most=16 * 1024, lines=True),
            leaves_sha256=canonical.sha256_hex(fields["leaves_sha256"], "bundle.leaves_sha256"),
            releases=tuple(
                canonical.integer(one, "bundle.releases", minimum=1)
                for one in canonical.array(fields["releases"], "bundle.releases", most=10_000)
            ),
            sealed=_sealed(fields["sealed"]),
            at=canonical.moment(fields["at"], "bundle.at"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A bundle that was verified as one of the peer for this box; its records are proven by the mirror."""

    bundle: Bundle
    leaves: tuple[bytes, ...]


def make(
    ledger: Ledger,
    pair: Paired,
    *,
    since: int,
    releases: Sequence[int],
    sealed: bytes,
    at: datetime,
    signer: Signer,
    ends: Ending | None = None,
) -> tuple[bytes, bytes]:
    """Return envelope and leaves of a bundle for the peer.

    Args:
        ledger: This box's own.
        pair: For whom.
        since: How many records the peer holds already.
        releases: Serials that are installed here.
        sealed: The secret for API keys, sealed for the peer, or nothing.
        at: The present time.
        signer: The key that signs for the ledger now.
        ends: Where it ends before the newest record.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
        PairingRefusedError: The peer is said to hold more than there is, or the records are too many bytes.
        ProofError: The ledger shows no checkpoint.
    """
    text = ledger.checkpoint() if ends is None else ends.note
    signed = succession.of_ledger(ledger).checkpoint(text)
    if since > signed.size:
        raise PairingRefusedError(
            what=f"the other box is said to hold {since} records",
            why=f"there are {signed.size}",
            fix="give the number that `sealift standby import` names there; where that is larger, see"
            " docs/operator/standby.md: a fork",
        )
    parts: list[bytes] = []
    total, sequence = 0, since
    while sequence < signed.size and (page := ledger.leaves(sequence, min(_PAGE, signed.size - sequence))):
        parts += [leaf.raw + b"\n" for leaf in page]
        sequence += len(page)
        total += sum(len(leaf.raw) + 1 for leaf in page)
        if total > MOST_BYTES:
            raise PairingRefusedError(
                what=f"more than {MOST_BYTES} bytes of records are missing there",
                why="and no checkpoint lies between them since the key of this box's ledger was named",
                fix="see docs/operator/standby.md: not done",
            )
    leaves = b"".join(parts)
    bundle = Bundle(
        site=pair.own.site,
        pairing_sha256=pair.sha256,
        sender=pair.own.origin,
        receiver=pair.peer.origin,
        start=since,
        size=signed.size,
        checkpoint=text,
        leaves_sha256=sha256_hex(leaves),
        releases=tuple(sorted(set(releases))),
        sealed=sealed,
        at=at,
    )
    return vouched.vouch(PAYLOAD_TYPE, bundle.to_payload(), signer), leaves


def require(untrusted_envelope: bytes, untrusted_leaves: bytes, pair: Paired, keys: Keys) -> Opened:
    """Return a bundle of the peer for this box.

    Args:
        untrusted_envelope: Who made it and what it holds.
        untrusted_leaves: The records.
        pair: With the box that it must be of.
        keys: Those of its ledger, after what these records say of them.

    Raises:
        LimitExceededError, MalformedError: It is not in its form.
        PairingRefusedError: It is of another box, for another box, of another pairing, or altered.
    """
    publics = {pair.peer.name: keys.in_force(pair.peer.origin).public}
    payload = vouched.require_vouched(untrusted_envelope, PAYLOAD_TYPE, publics)
    bundle = Bundle.from_payload(payload)
    found = (bundle.site, bundle.sender, bundle.receiver, bundle.pairing_sha256)
    if found != (pair.own.site, pair.peer.origin, pair.own.origin, pair.sha256):
        raise vouched.refused("it was made for another box or under another pairing")
    if len(untrusted_leaves) > MOST_BYTES or sha256_hex(untrusted_leaves) != bundle.leaves_sha256:
        raise vouched.refused("its records are not the ones that were signed")
    leaves = lines_of(untrusted_leaves)
    if len(leaves) != bundle.size - bundle.start:
        raise vouched.refused("it does not hold as many records as it says")
    return Opened(bundle=bundle, leaves=leaves)


def lines_of(untrusted_leaves: bytes) -> tuple[bytes, ...]:
    """Return the exact bytes of each record."""
    return tuple(untrusted_leaves.split(b"\n")[:-1])


def context(pair: Paired) -> bytes:
    """Return what the sealed secret is bound to: the pairing."""
    return f"{TYPE}/{pair.sha256}".encode()


def _sealed(untrusted: Any) -> bytes:
    try:
        return base64.b64decode(canonical.text(untrusted, "bundle.sealed", most=4096, may_be_empty=True), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PairingRefusedError(
            what="the bundle is refused", why="its sealed part is not base64", fix="make it anew"
        ) from error
