"""Where a version is from, who stands for it and how it did: one record of each version, made of what is proven.

The sender's part was signed with the release (`provenance.json`); the rest follows from the ledger and is written
nowhere else: who approved it, when it was deployed, what its gates measured, how it compares with the one before.
Thousandths and milliseconds are whole numbers, as in the evidence. A field that nobody stated is None, never guessed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.audit.facts import EVERY, Ledger
from appliance.audit.leaf import Leaf
from appliance.config import Config
from appliance.promote.sheet import JUDGED
from appliance.registry import deletion, evidence
from appliance.registry.carriers import carrier
from appliance.registry.catalog import PROVENANCE, Version
from appliance.store.content import ContentStore
from media import canonical
from media.errors import SealiftError

# What gates call the figures of the requirements' performance baseline (I6), the first that is there.
_BASELINE: Final[Mapping[str, tuple[str, ...]]] = {
    "latency_p50_millis": ("latency_p50_millis", "p50_millis"),
    "latency_p99_millis": ("latency_p99_millis", "p99_millis"),
    "throughput_millis": ("requests_per_second_millis", "throughput_millis"),
    "tokens_per_second_millis": ("tokens_per_second_millis",),
    "load_millis": ("load_millis",),
    "accuracy_millis": ("accuracy_millis",),
}
_IMPACT: Final = {
    "latency": "latency_p50_millis",
    "quality": "accuracy_millis",
    "throughput": "throughput_millis",
    "load": "load_millis",
}
_DEPLOYED: Final = ("promotion.made", "promotion.cut-over")
_STARTED: Final = "promotion.canary-started"
_REQUESTED: Final = "promotion.requested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The record; `to_json` has the requirements' names (I2, I5 to I8)."""

    version: Version
    sent: Mapping[str, Any]
    baseline: Mapping[str, int]
    before: Mapping[str, int]
    before_digest: str | None
    requested_by: str | None
    reviewed_by: tuple[str, ...]
    approved_by: tuple[str, ...]
    deployed: str | None
    tested: bool
    hold: str | None
    release: str

    @property
    def review_status(self) -> str:
        """Approved by two people, tested and waiting for them, or not reviewed at all."""
        if self.approved_by:
            return "approved"
        return "tested" if self.tested else "not reviewed"

    def impact(self) -> dict[str, str]:
        """Return how it compares with the version that was in production before it, in percent of that."""
        changes = {}
        for name, figure in _IMPACT.items():
            own, other = self.baseline.get(figure), self.before.get(figure)
            if own is not None and other:
                changes[name] = f"{(own - other) * 100 / other:+.1f} %"
        return changes

    def to_json(self) -> dict[str, Any]:
        """Return every field that governance asks for."""
        descriptor = self.version.descriptor
        weights = [one["path"] for one in descriptor.get("files", ()) if one.get("role") == "weights"]
        return {
            "name": self.version.name,
            "version": self.version.version,
            "source": self.sent.get("source"),
            "package": self.sent.get("package"),
            "sha256": self.version.weights_digest,
            "files": self.sent.get("files"),
            "download_date": self.sent.get("download_date"),
            "license": descriptor.get("license"),
            "quantization": descriptor.get("quantization"),
            "derived_from": self.sent.get("derived_from"),
            "model_signing": self.sent.get("model_signing"),
            "model_path": weights[0] if weights else None,
            "created_by": self.sent.get("created_by"),
            "approved_by": list(self.approved_by),
            "deployment_date": self.deployed,
            "review_status": self.review_status,
            "performance_baseline": dict(self.baseline) or None,
            "approval": {
                "requested_by": self.requested_by,
                "reviewed_by": list(self.reviewed_by),
                "approved_by": list(self.approved_by),
                "tested": self.tested,
            },
            "changelog": {
                "version": self.version.version,
                "date": self.sent.get("download_date"),
                "changes": list(self.sent.get("changes", ())),
                "compared_with": self.before_digest,
                "impact": self.impact() or None,
            },
            "legal_hold": self.hold,
            "release": self.release,
            "serial": self.version.serial,
        }


def provenance(config: Config, ledger: Ledger, version: Version) -> Provenance:
    """Return a version's record.

    Raises:
        UnknownVersionError: The ledger knows no such version.
    """
    digest = version.model_digest
    registered = deletion.registration(ledger, digest)
    made = _first_deployment(ledger, digest)
    before = None if made is None else made.body.get("previous")
    held = deletion.hold_on(ledger, digest)
    gates = _newest_gates(ledger, digest)
    signed = _signed(ledger, digest, made)
    return Provenance(
        version=version,
        sent=_sent(config, registered, version),
        baseline=_baseline(config, gates),
        before={} if not before else _baseline(config, _newest_gates(ledger, str(before))),
        before_digest=None if not before else str(before),
        requested_by=_asker(ledger, digest, signed),
        reviewed_by=_judges(ledger, digest),
        approved_by=_approvers(ledger, digest, signed),
        deployed=None if made is None else made.time,
        tested=bool(gates) and all(leaf.body.get("passed") is True for leaf in gates.values()),
        hold=None if held is None else f"{held.body.get('person')}: {held.body.get('reason')}",
        release=str(registered.body.get("release", "")),
    )


def _sent(config: Config, registered: Leaf, version: Version) -> Mapping[str, Any]:
    """Return what the sender says of it: as recorded when it was registered, else from the store."""
    recorded = registered.body.get("provenance")
    if isinstance(recorded, Mapping):
        return recorded
    try:
        stored, descriptor, _ = carrier(ContentStore(config.at.store), version.model_digest)
        folder = descriptor.template_path.rpartition("/")[0]
        return canonical.mapping(canonical.loads(stored.read(f"{folder}/{PROVENANCE}")), PROVENANCE)
    except (SealiftError, OSError):
        return {}


def _first_deployment(ledger: Ledger, digest: str) -> Leaf | None:
    found = [
        leaf
        for kind in _DEPLOYED
        for leaf in ledger.find(kind=kind, field="model_digest", value=digest, limit=1, newest_first=False)
    ]
    return min(found, key=lambda leaf: leaf.sequence, default=None)


def _judges(ledger: Ledger, digest: str) -> tuple[str, ...]:
    """Return who judged its answers, blinded, since it is here; who asked for a promotion may have read nothing."""
    begun = deletion.gone_at(ledger, digest)
    judged = ledger.find(kind=JUDGED, field="model_digest", value=digest, limit=EVERY, newest_first=False)
    return tuple(dict.fromkeys(str(leaf.body.get("person")) for leaf in judged if leaf.sequence > begun))


def _signed(ledger: Ledger, digest: str, made: Leaf | None) -> Leaf | None:
    """Return the record of what people signed for its first deployment; of a cut-over often its canary's start."""
    if made is None or made.body.get("approvals"):
        return made
    started = ledger.find(kind=_STARTED, field="terms.version", value=digest, limit=EVERY)
    return next((leaf for leaf in started if leaf.sequence < made.sequence), None)


def _asker(ledger: Ledger, digest: str, signed: Leaf | None) -> str | None:
    """Return who asked for what brought it into production, whoever asked for it again since; or who asked last."""
    if signed is not None:
        return str(signed.body.get("requested_by"))
    asked = ledger.find(kind=_REQUESTED, field="model_digest", value=digest, limit=1)
    return str(asked[0].body.get("requested_by")) if asked else None


def _approvers(ledger: Ledger, digest: str, signed: Leaf | None) -> tuple[str, ...]:
    """Return who approved what brought it into production, or who has approved it so far."""
    approvals = None if signed is None else signed.body.get("approvals")
    if isinstance(approvals, list | tuple) and approvals:
        return tuple(str(one.get("name") or one.get("person")) for one in approvals)
    given = ledger.find(kind="approval.given", field="model_digest", value=digest, limit=EVERY)
    return tuple(dict.fromkeys(str(leaf.body.get("name") or leaf.body.get("person")) for leaf in reversed(given)))


def _newest_gates(ledger: Ledger, digest: str) -> dict[str, Leaf]:
    newest: dict[str, Leaf] = {}
    begun = deletion.gone_at(ledger, digest)
    for leaf in ledger.find(kind="gate.result", field="model_digest", value=digest, limit=EVERY):
        if leaf.sequence > begun:
            newest.setdefault(str(leaf.body.get("gate")), leaf)
    return newest


def _baseline(config: Config, gates: Mapping[str, Leaf]) -> dict[str, int]:
    found: dict[str, int] = {}
    for leaf in gates.values():
        for figures in _figures(config, leaf):
            for name, called in _BASELINE.items():
                for one in called:
                    value = figures.get(one)
                    if type(value) is int and name not in found:
                        found[name] = value
    return found


def _figures(config: Config, leaf: Leaf) -> Iterator[Mapping[str, Any]]:
    """Yield what a gate measured: under load by most callers first, as the evidence has it, then as it was recorded."""
    try:
        document = evidence.read(config.at, str(leaf.body.get("evidence_digest")))
        for gate in canonical.array(document.get("gates"), "evidence.gates"):
            own = canonical.mapping(gate, "evidence.gates")
            figures = canonical.mapping(own.get("figures"), "figures")
            if own.get("gate") == leaf.body.get("gate"):
                levels = [one for one in figures.get("levels", ()) if isinstance(one, Mapping)]
                yield from sorted(levels, key=lambda level: -int(level.get("callers", 0)))[:1]
                yield figures
    except (SealiftError, TypeError, ValueError):
        pass  # not every reader of the ledger reads the box's folders
    recorded = leaf.body.get("figures")
    if isinstance(recorded, Mapping):
        yield recorded
