"""A pairing: two boxes of one site that two people at each of them introduced to each other (format 1).

Promises: both boxes sign the same bytes, which follow from the two cards and the relation alone; a pairing counts only
with both signatures, over cards of one site and one environment, one of which is this box's own. It says who the other
box is, and nothing of what it brings later is believed for that: each thing is verified as if it came on a medium.

    BOXES/own.json      this box's card, an envelope
    BOXES/NAME.json     a pairing with the box of that name
"""

import base64
import binascii
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from appliance.audit import pin
from appliance.config import Places
from appliance.errors import PairingRefusedError
from appliance.standby import vouched
from appliance.standby.card import BoxCard
from media import canonical
from media.digest import sha256_hex

FORMAT: Final = 1
TYPE: Final = "sealift/pairing"
PAYLOAD_TYPE: Final = "application/vnd.sealift.pairing+json"
OWN: Final = "own.json"
_MOST_BYTES: Final = 256 * 1024
_MOST_BASE64: Final = 128 * 1024


class Relation(StrEnum):
    """What the second box is to the first."""

    STANDBY = "standby"
    TEST = "test"


def statement(first: BoxCard, second: BoxCard, relation: Relation) -> bytes:
    """Return the bytes that both boxes sign: `second` is the standby or the test appliance of `first`.

    Raises:
        PairingRefusedError: The cards are not of two boxes of one site.
    """
    if (first.site, first.environment) != (second.site, second.environment):
        raise vouched.refused(
            f"one box is of {first.site} ({first.environment}), the other of {second.site} ({second.environment})"
        )
    for what, one, other in (
        ("name", first.name, second.name),
        ("ledger origin", first.origin, second.origin),
        ("ledger key", first.vkey.public, second.vkey.public),
        ("channel certificate", first.channel_der, second.channel_der),
        ("sealing key", first.sealing, second.sealing),
    ):
        if one == other:
            raise vouched.refused(f"both boxes have one {what}: each has keys and a ledger of its own")
    return canonical.dumps(
        {
            "format": FORMAT,
            "type": TYPE,
            "site": first.site,
            "relation": str(relation),
            "first": {"name": first.name, "origin": first.origin, "card_sha256": first.code},
            "second": {"name": second.name, "origin": second.origin, "card_sha256": second.code},
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Two cards, and the statement in an envelope with both signatures, or with one while it is offered."""

    first: bytes
    second: bytes
    relation: Relation
    envelope: bytes

    @property
    def first_card(self) -> BoxCard:
        """The box that serves, or takes reports."""
        return BoxCard.from_envelope(self.first)

    @property
    def second_card(self) -> BoxCard:
        """The standby, or the test appliance."""
        return BoxCard.from_envelope(self.second)

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        return canonical.dumps(
            {
                "format": FORMAT,
                "relation": str(self.relation),
                "first": base64.b64encode(self.first).decode(),
                "second": base64.b64encode(self.second).decode(),
                "statement": base64.b64encode(self.envelope).decode(),
            }
        )

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse a file; neither cards nor signatures are verified by that.

        Raises:
            MalformedError: It is not in its one form.
        """
        required = ("format", "relation", "first", "second", "statement")
        value = canonical.loads_canonical(untrusted, max_bytes=_MOST_BYTES)
        fields = canonical.exact_keys(value, required, what="pairing")
        canonical.integer(fields["format"], "pairing.format", minimum=FORMAT, maximum=FORMAT)
        return cls(
            first=_base64(fields["first"], "pairing.first"),
            second=_base64(fields["second"], "pairing.second"),
            relation=canonical.one_of(fields["relation"], Relation, "pairing.relation"),
            envelope=_base64(fields["statement"], "pairing.statement"),
        )

    def require(self, *, signed_by: tuple[str, ...] = ()) -> tuple[BoxCard, BoxCard]:
        """Return both cards when the statement follows from them and the boxes signed it.

        Args:
            signed_by: Names of the boxes that must have signed, and no other; both by default.

        Raises:
            LimitExceededError, MalformedError, PairingRefusedError, ProofError: It does not hold.
        """
        first, second = self.first_card, self.second_card
        publics = {card.name: card.vkey.public for card in (first, second)}
        wanted = {name: publics[name] for name in signed_by} if signed_by else publics
        payload = vouched.require_vouched(self.envelope, PAYLOAD_TYPE, wanted)
        if payload != statement(first, second, self.relation):
            raise vouched.refused("its statement is not of these two cards")
        return first, second


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """A pairing from where one box stands."""

    own: BoxCard
    peer: BoxCard
    relation: Relation
    is_first: bool
    sha256: str


def paired(places: Places) -> tuple[Paired, ...]:
    """Return every pairing of this box, each verified again, by the peer's name.

    Raises:
        LimitExceededError, MalformedError, PairingRefusedError, ProofError: A file does not hold, or is not of this
            box; then none of them is believed.
    """
    folder = places.boxes
    try:
        names = sorted(path.name for path in folder.glob("*.json") if path.name != OWN)
    except OSError as error:
        raise vouched.refused(f"its folder cannot be read: {error.strerror}") from error
    return tuple(_read(places, name) for name in names)


def is_any(places: Places) -> bool:
    """Tell whether any box was introduced to this one; nothing is verified by that."""
    return any(path.name != OWN for path in places.boxes.glob("*.json"))


def require_paired(places: Places, name: str, *relations: Relation) -> Paired:
    """Return the pairing with the box of this name.

    Raises:
        PairingRefusedError: There is none, or it is of another relation.
    """
    for one in paired(places):
        if one.peer.name == name:
            if relations and one.relation not in relations:
                raise vouched.refused(f"{name} is paired as {one.relation}")
            return one
    raise not_paired(name)


def from_where(places: Places, pairing: Pairing) -> Paired:
    """Return a complete pairing as this box sees it.

    Raises:
        PairingRefusedError: Neither card is the one of this box's ledger.
    """
    first, second = pairing.require()
    pinned = pin.read_pin(places)
    own = None if pinned is None else pinned.name
    # The card may name a later key of this ledger than the one that is pinned, which is the first.
    if own not in {first.origin, second.origin}:
        raise vouched.refused("neither card is of this box's ledger; after a restore, pair again")
    is_first = own == first.origin
    mine, peer = (first, second) if is_first else (second, first)
    return Paired(
        own=mine, peer=peer, relation=pairing.relation, is_first=is_first, sha256=sha256_hex(pairing.to_bytes())
    )


def not_paired(name: str) -> PairingRefusedError:
    """Return the error for a box that this one does not know."""
    return PairingRefusedError(
        what=f"this box is not paired with {name[:32] or 'another'}",
        why="two people at each box introduce them to each other",
        fix="see docs/operator/standby.md: `sealift standby card`, `pair`, `join`",
    )


def _read(places: Places, name: str) -> Paired:
    try:
        with (places.boxes / name).open("rb") as stream:
            untrusted = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise vouched.refused(f"the pairing {name[:40]} cannot be read: {error.strerror}") from error
    return from_where(places, Pairing.from_bytes(untrusted))


def _base64(untrusted: Any, what: str) -> bytes:
    try:
        return base64.b64decode(canonical.text(untrusted, what, most=_MOST_BASE64), validate=True)
    except (binascii.Error, ValueError) as error:
        raise vouched.refused(f"{what} is not base64") from error
