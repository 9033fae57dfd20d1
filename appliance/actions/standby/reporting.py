"""Reports of a separate test appliance: made there, accepted by production as the gates of a version (A7, I9).

Production records each gate's result as its own, with where it was proven, and keeps the evidence; from then on the way
to production is the usual one: request, two approvals over this evidence's digest, promotion. A gate that fails on
production later, or a newer report, contradicts an older one as always.
"""

from dataclasses import dataclass
from typing import Any, Final

from appliance.audit import rotating
from appliance.audit.facts import EVERY, Ledger
from appliance.config import Config
from appliance.errors import ConflictError, UnknownVersionError
from appliance.keys.provider import KeyProvider
from appliance.promote.policy import packaged
from appliance.promote.policybook import in_force
from appliance.promote.validated import require_validated
from appliance.registry import evidence
from appliance.standby import carried, peerkeys, report, vouched
from appliance.standby.carried import Carried
from appliance.standby.pairing import Relation, require_paired
from appliance.standby.report import GATE, PAYLOAD_TYPE, Report
from media.clock import Clock, from_text
from media.digest import sha256_hex

EXPORTED: Final = "standby.report-exported"
ACCEPTED: Final = "standby.report-accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A report that counts here now."""

    model_digest: str
    evidence_digest: str
    gates: tuple[str, ...]
    sequence: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "model_digest": self.model_digest,
            "evidence_digest": self.evidence_digest,
            "gates": list(self.gates),
            "sequence": self.sequence,
        }


def make(config: Config, peer: str, model_digest: str, *, ledger: Ledger, keys: KeyProvider, clock: Clock) -> bytes:
    """Return a signed report on a version for the production box.

    Args:
        config: The test appliance's site file.
        peer: The production box's name.
        model_digest: A version that passed its gates here.
        ledger: The test appliance's own.
        keys: Hold the ledger's key.
        clock: For the report's time.

    Raises:
        GateFailedError, UnknownVersionError: It did not pass every gate in one run here.
        KeyMissingError: This process may not use the key.
        PairingRefusedError: This box is not that box's test appliance.
        ProofError: The evidence is gone or altered.
    """
    pair = require_paired(config.at, peer, Relation.TEST)
    if pair.is_first:
        raise vouched.refused(f"{peer} tests for this box, not this box for it")
    validated = require_validated(ledger, model_digest, in_force(ledger))
    document = evidence.content(config.at, validated.evidence_digest)
    body = {"peer": peer, "model_digest": model_digest, "evidence_digest": validated.evidence_digest}
    ledger.append(EXPORTED, body)
    ledger.checkpoint()  # covers the results, so that each has a proof
    made = Report(
        site=config.site,
        pairing_sha256=pair.sha256,
        sender=pair.own.origin,
        receiver=pair.peer.origin,
        model_digest=model_digest,
        weights_digest=validated.weights_digest,
        policy_digest=validated.policy_digest,
        evidence_digest=validated.evidence_digest,
        evidence=document,
        gates=tuple(_results(ledger, model_digest, validated.evidence_digest)),
        at=clock.now().replace(microsecond=0),
        succession=peerkeys.shown(ledger),
    )
    return vouched.vouch(PAYLOAD_TYPE, made.to_payload(), rotating.in_force(ledger, keys))


def accept(config: Config, peer: str, untrusted: bytes, *, ledger: Ledger, clock: Clock, dry_run: bool) -> Accepted:
    """Take a report of the test appliance as the gates of a version here.

    Args:
        config: The production box's site file.
        peer: The test appliance's name.
        untrusted: The report.
        ledger: The production box's own; records every result.
        clock: By which a report is stale.
        dry_run: Verify and change nothing.

    Raises:
        ConflictError: It was accepted before, or a gate that ran here since then says otherwise.
        GateFailedError: A gate is missing or failed, the policy is another, or the run is stale.
        LimitExceededError, MalformedError, PairingRefusedError, ProofError: It is not of that box, or altered.
        UnknownVersionError: This box has not registered the version with these weights.
    """
    pair = require_paired(config.at, peer, Relation.TEST)
    if not pair.is_first:
        raise vouched.refused(f"this box tests for {peer}, and takes no reports of it")
    policy = in_force(ledger)
    known, news = peerkeys.followed(ledger, pair.peer, report.shown_keys(untrusted))
    found, leaves = report.require_sound(
        untrusted, pair, known, policy_digest=policy.digest, gates=policy.gates, now=clock.now()
    )
    _require_registered(ledger, found)
    first = min(from_text(leaf.time) for leaf in leaves).isoformat()
    recorded = _recorded(ledger, found, pair.peer.origin, first=first)
    if len(recorded) == len(leaves):
        raise ConflictError(
            what="this report was accepted before",
            why=f"record {min(recorded.values())}",
            fix="nothing is to be done",
        )
    gates = tuple(str(leaf.body["gate"]) for leaf in leaves)
    if dry_run:
        return Accepted(
            model_digest=found.model_digest, evidence_digest=found.evidence_digest, gates=gates, sequence=-1
        )
    peerkeys.record(ledger, pair.peer, news)
    if not evidence.keep(config.at, found.evidence, found.evidence_digest):
        raise vouched.refused("its evidence is not a document of this format")
    body = {"peer": peer, "origin": pair.peer.origin, "report_sha256": sha256_hex(untrusted)}
    done = ledger.append(
        ACCEPTED, {**body, "model_digest": found.model_digest, "evidence_digest": found.evidence_digest}
    )
    for leaf in leaves:
        if str(leaf.body["gate"]) not in recorded:  # by an earlier turn that was cut off
            ledger.append(GATE, carried.marked(leaf, pair.peer))
    return Accepted(
        model_digest=found.model_digest,
        evidence_digest=found.evidence_digest,
        gates=gates,
        sequence=done.sequence,
    )


def _results(ledger: Ledger, model_digest: str, evidence_digest: str) -> list[Carried]:
    newest: dict[str, Carried] = {}
    for leaf in ledger.find(kind=GATE, field="model_digest", value=model_digest, limit=EVERY):
        gate = str(leaf.body.get("gate"))
        if gate in packaged().gates and leaf.body.get("evidence_digest") == evidence_digest:
            newest.setdefault(gate, Carried.of(ledger, leaf.sequence))
    return [newest[gate] for gate in sorted(newest)]


def _require_registered(ledger: Ledger, found: Report) -> None:
    registered = ledger.find(kind="model.registered", field="model_digest", value=found.model_digest, limit=1)
    if not registered or registered[0].body.get("weights_digest") != found.weights_digest:
        raise UnknownVersionError(
            what=f"version {found.model_digest[:12]} is not registered on this box with these weights",
            why="the test appliance saw another, or this box lacks its release",
            fix="receive and install the same release here",
        )


def _recorded(ledger: Ledger, found: Report, origin: str, *, first: str) -> dict[str, int]:
    """Return where the gates of this very run are recorded here, by their names.

    Raises:
        ConflictError: A gate that ran here since says otherwise.
    """
    recorded: dict[str, int] = {}
    for leaf in ledger.find(kind=GATE, field="model_digest", value=found.model_digest, limit=EVERY):
        if leaf.body.get("evidence_digest") == found.evidence_digest and carried.origin_of(leaf.body) == origin:
            recorded[str(leaf.body.get("gate"))] = leaf.sequence
        elif from_text(leaf.time).isoformat() > first and leaf.body.get("passed") is not True:
            raise ConflictError(
                what="a gate that ran since then says otherwise",
                why=f"{str(leaf.body.get('gate'))[:40]} failed at record {leaf.sequence}",
                fix="validate the version anew on the test appliance",
            )
    return recorded
