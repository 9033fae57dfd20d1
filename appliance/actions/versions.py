"""What may serve, what serves, and how it came to that: versions with their gates, and production's history."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.promote.policy import packaged
from appliance.registry import catalog
from appliance.registry.catalog import Judgement, Version

_KINDS: Final = {
    "promotion.requested": "requested",
    "promotion.made": "made",
    "promotion.rolled-back": "rolled back",
    "promotion.stopped": "stopped",
    "approval.given": "approved",
}
_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFacts:
    """One version with its stage and what its gates said."""

    version: Version
    stage: str
    gates: tuple[Judgement, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        gates = [
            {
                "gate": one.gate,
                "passed": one.passed,
                "evidence_digest": one.evidence_digest,
                "sequence": one.sequence,
                "figures": one.figures,
            }
            for one in self.gates
        ]
        return {**self.version.to_json(), "stage": self.stage, "gates": gates}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step of production's history, as the ledger has it."""

    sequence: int
    at: str
    what: str
    model_digest: str | None
    people: tuple[str, ...]
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "sequence": self.sequence,
            "at": self.at,
            "what": self.what,
            "model_digest": self.model_digest,
            "people": list(self.people),
            "reason": self.reason,
        }


def list_versions(state: Engine) -> tuple[VersionFacts, ...]:
    """Return all versions, the last registered first."""
    with state.connect() as session:
        current = catalog.in_production(session)
        return tuple(
            VersionFacts(
                version=one,
                stage=_stage(one, current, gates := catalog.judgements(session, one.model_digest)),
                gates=gates,
            )
            for one in catalog.versions(session)
        )


def show(state: Engine, which: str) -> VersionFacts:
    """Return one version.

    Raises:
        UnknownVersionError: There is none, or the digits fit several.
    """
    with state.connect() as session:
        version = catalog.version(session, which)
        gates = catalog.judgements(session, version.model_digest)
        return VersionFacts(version=version, stage=_stage(version, catalog.in_production(session), gates), gates=gates)


def history(ledger: Ledger) -> tuple[Event, ...]:
    """Return everything that was asked, approved and done about production, in order."""
    events: list[Event] = []
    start = 0
    while page := ledger.leaves(start, _PAGE, kinds=set(_KINDS)):
        events.extend(_event(leaf) for leaf in page)
        start = page[-1].sequence + 1
    return tuple(events)


def _stage(version: Version, current: str | None, gates: tuple[Judgement, ...]) -> str:
    if version.model_digest == current:
        return "production"
    if not all(gate.passed for gate in gates):
        return "failed"
    return "validated" if {gate.gate for gate in gates} >= set(packaged().gates) else "registered"


def _event(leaf: Leaf) -> Event:
    body = leaf.body
    alone = str(body.get("person") or body.get("requested_by") or "")
    approvals = body.get("approvals")
    people = [str(one.get("name")) for one in approvals] if isinstance(approvals, list | tuple) else [alone]
    digest = body.get("model_digest")
    return Event(
        sequence=leaf.sequence,
        at=leaf.time,
        what=_KINDS[leaf.kind],
        model_digest=None if digest is None else str(digest),
        people=tuple(people),
        reason=str(body.get("reason") or ""),
    )
