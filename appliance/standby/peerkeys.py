"""The keys of a paired box's ledger: the one of its card, and those that took over, each named by the one before.

A box that rotates the key of its checkpoints shows the records that say so with what it signs next. Each is signed by
the key before (`appliance.audit.succession`), so nothing else need be believed; what was followed is recorded here, and
from then on the older key signs nothing larger than the tree that ended it, whoever has it.
"""

import base64
import binascii
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from appliance.audit import succession
from appliance.audit.facts import EVERY, Ledger
from appliance.audit.leaf import MAX_LEAF_BYTES, Leaf
from appliance.audit.succession import ROTATED, Keys
from appliance.errors import LedgerDamagedError, ProofError
from appliance.standby.card import BoxCard
from media import canonical

FOLLOWED: Final = "standby.key-followed"
MOST: Final = 64
"""Rotations of one epoch that are shown at once."""
_MOST_TEXT: Final = 4 * (MAX_LEAF_BYTES // 3 + 2)


def known(ledger: Ledger, box: BoxCard) -> Keys:
    """Return the keys of a paired box as this box followed them so far.

    Raises:
        LedgerUnavailableError: This box's ledger does not answer.
    """
    return _followed(ledger, box)[0]


def followed(ledger: Ledger, box: BoxCard, untrusted_records: Iterable[bytes]) -> tuple[Keys, tuple[Leaf, ...]]:
    """Return the keys of a paired box after these records of its, and those among them that are news.

    Args:
        ledger: This box's own.
        box: The card of the other one.
        untrusted_records: The exact bytes of records of its ledger; those that rotate no key are passed over, and
            those from before the key of its card.

    Raises:
        LedgerDamagedError: A record is no leaf.
        LedgerUnavailableError: This box's ledger does not answer.
        ProofError: A record is signed by another key than the one that it would follow.
    """
    keys, seen = _followed(ledger, box)
    news: list[Leaf] = []
    leaves = [Leaf.from_bytes(raw) for raw in untrusted_records if ROTATED.encode() in raw and raw not in seen]
    for leaf in sorted(leaves, key=lambda one: one.sequence):
        held = keys.of(box.origin)
        is_before = len(held) == 1 and leaf.body.get("previous") != held[0].key.to_text()
        if leaf.kind != ROTATED or leaf.origin != box.origin or is_before or leaf.sequence < held[-1].first:
            continue
        keys.take(leaf)
        news.append(leaf)
    return keys, tuple(news)


def record(ledger: Ledger, box: BoxCard, news: Iterable[Leaf]) -> None:
    """Record each rotation that was followed: what the older key signs from then on is refused here.

    Raises:
        LedgerUnavailableError: It could not be recorded.
    """
    for leaf in news:
        body = {"peer": box.name, "origin": box.origin, "vkey": leaf.body["vkey"], "record": leaf.raw.decode()}
        ledger.append(FOLLOWED, body)


def shown(ledger: Ledger) -> tuple[bytes, ...]:
    """Return the records by which a reader of this box's ledger goes from its first key to the one in force.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    origin = ledger.head().origin
    return tuple(leaf.raw for leaf in succession.records(ledger, kinds=(ROTATED,)) if leaf.origin == origin)


def to_json(records: Iterable[bytes]) -> list[str]:
    """Return records as they go in signed documents."""
    return [base64.b64encode(raw).decode() for raw in records]


def from_json(untrusted: Any, what: str) -> tuple[bytes, ...]:
    """Parse what `to_json` gave; nothing is verified by that.

    Raises:
        MalformedError: It is of another shape.
        ProofError: A record is not base64.
    """
    try:
        return tuple(
            base64.b64decode(canonical.text(one, what, most=_MOST_TEXT), validate=True)
            for one in canonical.array(untrusted, what, most=MOST)
        )
    except (binascii.Error, ValueError) as error:
        raise ProofError(what=f"{what} is not base64", why="it was altered", fix="make it anew") from error


def _followed(ledger: Ledger, box: BoxCard) -> tuple[Keys, frozenset[bytes]]:
    keys, taken = succession.followed((), box.vkey), set[bytes]()
    found = ledger.find(kind=FOLLOWED, field="origin", value=box.origin, limit=EVERY, newest_first=False)
    for raw in sorted((str(leaf.body.get("record")).encode() for leaf in found), key=_place):
        # Each was verified when it was recorded, and is again: one that does not hold, or is from before the card's
        # key, leads nowhere.
        with suppress(LedgerDamagedError, ProofError):
            keys.take(Leaf.from_bytes(raw))
            taken.add(raw)
    return keys, frozenset(taken)


def _place(raw: bytes) -> int:
    with suppress(LedgerDamagedError):
        return Leaf.from_bytes(raw).sequence
    return -1
