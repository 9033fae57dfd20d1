"""What happened in a time, counted record by record. Every number is a sum over records that `audit list` shows.

answers            request.intent; each has one request.outcome, or is still open at the end of the time. Of one that a
                   restarted ledger closed as unknown and whose gateway recorded it after all, the later one counts
refusals           request.refused, by code; a record that stands for several counts as so many
everything else    one record, one event
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.audit.leaf import Leaf

INTENT: Final = "request.intent"
OUTCOME: Final = "request.outcome"
REFUSED: Final = "request.refused"
UNKNOWN: Final = "unknown"
"""The outcome by which a ledger that starts closes what it finds open; a gateway that lived on may tell it later."""
_PRODUCTION: Final = ("promotion.", "stop.")
_MEDIA: Final = frozenset(
    {"release.received", "release.partly-received", "release.reverified", "release.refused", "medium.refused"}
)
_CUSTODY: Final = "custody."
_DRILLS: Final = (
    "backup.",
    "erasure.",
    "retention.",
    "install.returned",
    "standby.taken-over",
    "standby.drilled",
    "clock.set",
)
_NOT_REQUESTED: Final = frozenset({"promotion.canary-judged", "promotion.watch-judged"})
"""Figures that the promoter tells every few minutes; nobody did anything."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts and lists of one time."""

    answers: Counter[str] = field(default_factory=Counter)
    tokens_in: Counter[str] = field(default_factory=Counter)
    tokens_out: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    days: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    phi: Counter[str] = field(default_factory=Counter)
    with_phi: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    arms: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    ended_from_before: int = 0
    production: list[dict[str, Any]] = field(default_factory=list)
    custody: list[dict[str, Any]] = field(default_factory=list)
    drills: list[dict[str, Any]] = field(default_factory=list)
    _open: dict[str, str] = field(default_factory=dict)
    _unknown: dict[str, str] = field(default_factory=dict)
    _told_later: int = 0

    @property
    def open(self) -> int:
        """How many answers began and had not ended when the time was over."""
        return len(self._open)

    @property
    def ended(self) -> int:
        """How many of the answers that began in this time ended in it."""
        return self.kinds[OUTCOME] - self.ended_from_before - self._told_later

    @property
    def is_whole(self) -> bool:
        """Whether every answer that began is accounted for: ended, or open."""
        return self.kinds[INTENT] == self.ended + self.open == self.answers.total()

    def take(self, leaf: Leaf) -> None:
        """Add a record."""
        self.kinds[leaf.kind] += 1
        body = leaf.body
        if leaf.kind == INTENT:
            self._begun(leaf)
        elif leaf.kind == OUTCOME:
            self._ended(body)
        elif leaf.kind == REFUSED:
            self.refusals[str(body.get("code"))] += whole(body.get("repeated"), 1)
        elif leaf.kind.startswith(_PRODUCTION) and leaf.kind not in _NOT_REQUESTED:
            line = {"line": body["line"]} if isinstance(body.get("line"), int) else {}
            self.production.append({**_event(leaf, body.get("reason")), **line})
        elif leaf.kind in _MEDIA or leaf.kind.startswith(_CUSTODY):
            self.custody.append(_event(leaf, _of_medium(body)))
        elif leaf.kind.startswith(_DRILLS):
            self.drills.append(_event(leaf, body.get("level") or body.get("reason") or body.get("verified")))

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        counters = ("answers", "tokens_in", "tokens_out", "outcomes", "refusals", "days", "classes", "phi", "with_phi")
        lists = ("production", "custody", "drills")
        return {
            **{name: dict(sorted(getattr(self, name).items())) for name in (*counters, "versions", "arms", "kinds")},
            **{name: list(getattr(self, name)) for name in lists},
            "ended": self.ended,
            "open": self.open,
            "ended_from_before": self.ended_from_before,
            "is_whole": self.is_whole,
        }

    def _begun(self, leaf: Leaf) -> None:
        body = leaf.body
        department = str(body.get("department") or "")
        self.answers[department] += 1
        self._open[str(body.get("request_id"))] = department
        self.days[leaf.time[:10]] += 1
        self.classes[str(body.get("classification") or "not said")] += 1
        self.versions[str(body.get("model_digest"))] += 1
        self.arms[str(body.get("arm") or "production")] += 1
        found = body.get("phi")
        counts = {str(name): whole(count, 0) for name, count in found.items()} if isinstance(found, Mapping) else {}
        self.phi.update({name: count for name, count in counts.items() if count})
        if any(counts.values()):
            self.with_phi[department] += 1

    def _ended(self, body: Mapping[str, Any]) -> None:
        request_id, outcome = str(body.get("request_id")), str(body.get("outcome"))
        department = self._open.pop(request_id, None)
        if department is None and request_id in self._unknown:
            department = self._unknown.pop(request_id)
            self.outcomes -= Counter((UNKNOWN,))
            self._told_later += 1
        self.outcomes[outcome] += 1
        if department is None:
            self.ended_from_before += 1
            return
        if outcome == UNKNOWN:
            self._unknown[request_id] = department
        self.tokens_in[department] += whole(body.get("prompt_tokens"), 0)
        self.tokens_out[department] += whole(body.get("completion_tokens"), 0)


def _event(leaf: Leaf, said: Any) -> dict[str, Any]:
    body = leaf.body
    approvals = body.get("approvals")
    people = [str(one.get("person")) for one in approvals if isinstance(one, Mapping)] if approvals else []
    named = body.get("person") or body.get("by") or ""
    return {
        "sequence": leaf.sequence,
        "at": leaf.time,
        "kind": leaf.kind,
        "about": str(body.get("model_digest") or body.get("release") or body.get("name") or "")[:64],
        "people": people or ([str(each) for each in named] if isinstance(named, list | tuple) else [str(named)]),
        "said": "" if said is None else str(said)[:200],
    }


def _of_medium(body: Mapping[str, Any]) -> str:
    custody = body.get("custody")
    accepted = custody.get("accepted_by") if isinstance(custody, Mapping) else None
    if isinstance(accepted, Mapping):
        return f"accepted by {accepted.get('name')}: {accepted.get('reason')}"
    findings = custody.get("findings") if isinstance(custody, Mapping) else None
    return str(body.get("error") or body.get("reason") or ("; ".join(map(str, findings)) if findings else ""))


def whole(value: Any, otherwise: int) -> int:
    """Return a count of a record; what is no count stands for `otherwise`."""
    return value if type(value) is int and value >= 0 else otherwise
