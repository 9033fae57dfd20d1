"""By which promotion a version answered, in which line of production, as proven records say it.

Promises: the promotion is one by which people approved the version for the very line in which it could be loaded when
the answer began, or until a moment before in that line; and no other line held a version of its name, so a caller that
asked by that name was meant for this one.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from appliance.actions.proven_ledger import ProvenLedger
from appliance.audit.leaf import Leaf
from appliance.errors import ProofError
from appliance.promote.history import Production
from appliance.promote.line import Line
from appliance.promote.linenames import other_line_with
from appliance.promote.record import Promotion
from appliance.registry import catalog
from media.clock import from_text

CHANGING: Final = timedelta(minutes=15)
"""How long callers may still reach the version before, while production changes (the new engine loads)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """A version as it stood when an answer began.

    Attributes:
        made: By which people approved it for its line.
        line: Its line, as it stood then.
        is_changing: Whether its line had just gone on to another version.
    """

    made: Promotion
    line: Line
    is_changing: bool

    @property
    def shown(self) -> str:
        """What a person reads of its line: nothing of the first."""
        return "".join(f", {name} {number}" for name, number in self.line.mark.items())


def answering(ledger: ProvenLedger, intent: Leaf, *, is_whole: bool = False) -> Answering:
    """Return how the version of an answer stood when the answer began.

    Args:
        ledger: Proves each record.
        intent: The record by which the answer began.
        is_whole: Whether the promoter's own files must know of no promotion that the records do not show.

    Raises:
        ProofError: It was not approved, not in production, or not the only line of its name.
    """
    digest = str(intent.body.get("model_digest"))
    made: Promotion | None = None
    left: Promotion | None = None
    number, is_loaded, whole = 0, False, Production()
    for production in ledger.productions(before=intent.sequence):
        line, whole = production.line_of(digest), production
        if line is not None:
            made, number, is_loaded = production.made_for(digest), line.number, True
        elif is_loaded:
            left, is_loaded = production.last, False
    if is_whole:
        ledger.require_whole(whole, before=intent.sequence)
    if made is None:
        raise ProofError(what=f"version {digest[:12]} was not approved before it answered", why="", fix="")
    line = whole.lines[number]
    is_changing = (
        not is_loaded and left is not None and line.last is left and from_text(intent.time) - left.at <= CHANGING
    )
    if not is_loaded and not is_changing:
        served = [str(one.current)[:12] for one in whole.serving]
        raise ProofError(
            what=f"version {digest[:12]} was not in production when it answered",
            why=f"{' and '.join(served) or 'nothing'} {'was' if len(served) < 2 else 'were'}",
            fix="",
        )
    other = other_line_with(whole, line, digest, lambda one: _name(ledger, one))
    if other is not None:
        raise ProofError(
            what=f"version {digest[:12]} was not the only one of its name when it answered",
            why=f"lines {line.number} and {other.number} of production both held {_name(ledger, digest)[:64]}",
            fix="",
        )
    return Answering(made=made, line=line, is_changing=is_changing)


def _name(ledger: ProvenLedger, model_digest: str) -> str:
    leaf = ledger.one(catalog.REGISTERED, "model_digest", model_digest)
    return "" if leaf is None else str(leaf.body.get("name", ""))
