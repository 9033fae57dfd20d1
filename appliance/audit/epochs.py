"""Epochs: a ledger that was restored from a backup goes on under a new origin and a new key, and says so itself.

The records that a backup covers stay as they are. The first record after them, of kind ``ledger.restored``, names the
tree it continues, the new origin and the new key, so that no two trees of one size ever bear the same origin: a head
that the lost box signed after its last backup belongs to the epoch that ended.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.audit.note import VerifierKey
from appliance.errors import LedgerDamagedError

OPENED: Final = "ledger.opened"
RESTORED: Final = "ledger.restored"
MOST: Final = 1000
_OWN_DOOR: Final = "ledger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """A run of records under one origin and one key.

    Args:
        number: From 1.
        origin: What its checkpoints call the ledger.
        vkey: What they verify with.
        start: The sequence of its first record.
        facts: The body of that record.
    """

    number: int
    origin: str
    vkey: VerifierKey
    start: int
    facts: Mapping[str, Any]


def begun_by(leaf: Leaf) -> Epoch:
    """Return the epoch that a record begins.

    Raises:
        LedgerDamagedError: It is not the first record of an epoch.
        ProofError: The key it names is none.
    """
    first = leaf.sequence == 0
    if leaf.kind != (OPENED if first else RESTORED) or leaf.via.door != _OWN_DOOR:
        raise LedgerDamagedError(
            what="the ledger does not begin with its opening", fix="see docs/operator/ledger.md: recovery"
        )
    number = 1 if first else leaf.body.get("epoch")
    if type(number) is not int or number < 1:
        raise _damaged(leaf, "it has no number")
    vkey = VerifierKey.from_text(str(leaf.body.get("vkey", "")))
    if vkey.name != leaf.origin:
        raise _damaged(leaf, "its key is named after another origin")
    return Epoch(number=number, origin=leaf.origin, vkey=vkey, start=leaf.sequence, facts=leaf.body)


def epochs(ledger: Ledger) -> tuple[Epoch, ...]:
    """Return all epochs, the first first; what each says is proven by `appliance.audit.verify`.

    Raises:
        LedgerDamagedError, ProofError: One does not read.
        LedgerUnavailableError: There is no ledger.
    """
    later = ledger.leaves(1, MOST, kinds=[RESTORED])
    return tuple(begun_by(leaf) for leaf in (ledger.leaf(0), *later))


def continued(facts: Mapping[str, Any]) -> tuple[str, int, str]:
    """Return origin, size and root of the tree that an epoch says it continues; empty values where it says nothing."""
    before = facts.get("continues")
    fields = before if isinstance(before, Mapping) else {}
    size = fields.get("size")
    return str(fields.get("origin", "")), size if type(size) is int else -1, str(fields.get("root", ""))


def printed_size(facts: Mapping[str, Any]) -> int:
    """Return how many records people could show that the lost box had; 0 where they had no print."""
    shown = facts.get("printed")
    size = shown.get("size") if isinstance(shown, Mapping) else 0
    return size if type(size) is int and size > 0 else 0


def _damaged(leaf: Leaf, why: str) -> LedgerDamagedError:
    return LedgerDamagedError(
        what=f"the epoch that record {leaf.sequence} begins does not read",
        why=why,
        fix="see docs/operator/ledger.md: recovery",
    )
