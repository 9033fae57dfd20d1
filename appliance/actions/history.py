"""Everything that was asked, decided and done about versions and production: who, what, when, why; from the ledger.

Where several models are in production it says in which line, of whatever is not about the first one alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.promote.classes import shown
from appliance.promote.destination import Said
from appliance.promote.withdrawing import WITHDRAWN
from appliance.registry import deletion
from media import canonical
from media.errors import MediaError

_REQUESTED: Final = "promotion.requested"
_APPROVED: Final = "approval.given"
_KINDS: Final = {
    deletion.REGISTERED: "registered",
    "gate.result": "validated",
    _REQUESTED: "requested",
    _APPROVED: "approved",
    WITHDRAWN: "request withdrawn",
    "approval.policy-adopted": "policy adopted",
    "promotion.made": "made",
    "promotion.rolled-back": "rolled back",
    "promotion.stopped": "stopped",
    "promotion.canary-started": "canary started",
    "promotion.canary-judged": "canary judged",
    "promotion.canary-held": "canary held",
    "promotion.canary-resumed": "canary resumed",
    "promotion.canary-aborted": "canary aborted",
    "promotion.cut-over": "cut over",
    "promotion.retired": "retired",
    "stop.made": "caller stopped",
    "stop.lifted": "caller freed",
    "stop.reviewed": "reviewed",
    "model.damaged": "found damaged",
    "model.sound": "found sound",
    deletion.HELD: "put on hold",
    deletion.LIFTED: "hold lifted",
    deletion.DELETED: "deleted",
}
PRODUCTION: Final = frozenset(
    kind
    for kind in _KINDS
    if kind.startswith(("promotion.", "approval.", "stop.")) and kind != "promotion.canary-judged"
)
"""What is about production alone; the rest is about versions."""
_PAGE = 200
_STOPPED: Final = "promotion.stopped"
_BRINGS: Final = frozenset({"promotion.made", "promotion.rolled-back", "promotion.cut-over"})
_FIRST: Final[tuple[int | None, str]] = (None, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step, as the ledger has it.

    Attributes:
        line: The further line that it is of; None for the first, for one that is not open yet, and for all.
        where: The same for people: nothing for the first, "a further line" for one that is not open yet, "all lines".
    """

    sequence: int
    at: str
    what: str
    model_digest: str | None
    people: tuple[str, ...]
    reason: str
    line: int | None = None
    where: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "sequence": self.sequence,
            "at": self.at,
            "what": self.what,
            "model_digest": self.model_digest,
            "people": list(self.people),
            "reason": self.reason,
            **({} if self.line is None else {"line": self.line}),
            **({"where": self.where} if self.where else {}),
        }


def history(ledger: Ledger, *, every: bool = False, model_digest: str = "") -> tuple[Event, ...]:
    """Return what happened, in order.

    Args:
        ledger: Where it stands.
        every: Registrations, gates, holds, deletions and damage, too, not only what was decided about production.
        model_digest: Only what is about one version; implies `every`.
    """
    kinds = set(_KINDS) if every or model_digest else set(PRODUCTION)
    events: list[Event] = []
    signed: dict[str, str] = {}
    lines = _Lines()
    start = 0
    while page := ledger.leaves(start, _PAGE, kinds=kinds):
        for leaf in page:
            line, where = lines.follow(leaf)
            if model_digest in {"", *_about(leaf.body)}:
                events.append(replace(_event(leaf, signed), line=line, where=where))
        start = page[-1].sequence + 1
    return tuple(events)


class _Lines:
    """Follows the lines of production, so that what was asked for one can be told to be of it."""

    def __init__(self) -> None:
        self._brought: dict[str, int] = {}
        self._asked: dict[str, tuple[int | None, str]] = {}

    def follow(self, leaf: Leaf) -> tuple[int | None, str]:
        """Take the next record; return of which line it is, and in words."""
        body, line = leaf.body, leaf.body.get("line")
        if leaf.kind in {_APPROVED, WITHDRAWN}:
            return self._asked.get(str(body.get("statement_sha256")), _FIRST)
        if leaf.kind == _REQUESTED:
            found = self._asked[str(body.get("statement_sha256"))] = self._requested(body)
            return found
        if not leaf.kind.startswith("promotion.") or not isinstance(line, int):
            is_of_all = leaf.kind == _STOPPED and bool(self._brought)
            return (None, "all lines") if is_of_all else _FIRST
        if leaf.kind in _BRINGS:
            self._brought[str(body.get("model_digest"))] = line
        return line, f"line {line}"

    def _requested(self, body: Mapping[str, Any]) -> tuple[int | None, str]:
        said = Said.of_fields(_signed(body))
        if said == Said():
            return _FIRST
        line = self._brought.get(said.replaces)
        return line, "a further line" if line is None else f"line {line}"


def _about(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the versions that a record is about: a canary's is in its terms."""
    terms = body.get("terms")
    version = terms.get("version") if isinstance(terms, Mapping) else None
    return tuple(str(one) for one in (version, body.get("model_digest")) if one)


def _event(leaf: Leaf, signed: dict[str, str]) -> Event:
    """Return what a record says; `signed` keeps the words of each statement, which an approval names by its digest."""
    body = leaf.body
    # Who signed stands there by name, as in the statement's other forms (21 CFR 11.50).
    named = body.get("name") if leaf.kind == _APPROVED else None
    alone = shown(str(named or body.get("person") or body.get("requested_by") or ""), body.get("lower", []))
    if leaf.kind == _REQUESTED:
        signed[str(body.get("statement_sha256"))] = _meaning(body)
    approvals = body.get("approvals")
    people = (
        [shown(str(one.get("name")), one.get("lower", [])) for one in approvals]
        if isinstance(approvals, list | tuple) and approvals
        else [alone]
    )
    about = _about(body)
    return Event(
        sequence=leaf.sequence,
        at=leaf.time,
        what=_KINDS[leaf.kind],
        model_digest=about[0] if about else None,
        people=tuple(one for one in people if one) or ("",),
        reason=signed.get(str(body.get("statement_sha256")), "") if leaf.kind == _APPROVED else _why(leaf),
    )


def _why(leaf: Leaf) -> str:
    body = leaf.body
    said = _WHY.get(leaf.kind)
    if said is not None:
        return said(body)
    return str(body.get("reason") or body.get("note") or body.get("why") or "")


def _meaning(body: Mapping[str, Any]) -> str:
    """Return the words that people signed."""
    return str(_signed(body).get("meaning", ""))


def _signed(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields that people signed; none where they do not read."""
    try:
        return canonical.mapping(canonical.loads(str(body.get("statement", "")).encode()), "statement")
    except MediaError:
        return {}


def _gate(body: Mapping[str, Any]) -> str:
    figures = body.get("figures")
    why = str(figures.get("why", "")) if isinstance(figures, Mapping) else ""
    return f"{body.get('gate')} {'passed' if body.get('passed') is True else f'failed: {why}'}"


_WHY: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    deletion.REGISTERED: lambda body: f"{body.get('name')} {body.get('version')}, release serial {body.get('serial')}",
    "gate.result": _gate,
    "approval.policy-adopted": _meaning,
    _REQUESTED: _meaning,
    "promotion.made": _meaning,
    "promotion.canary-started": _meaning,
}
