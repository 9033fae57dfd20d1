"""A validation report of a test appliance: what its gates found of one version, proven by its ledger (format 1).

Promises: a report has one byte form and one signature, of the test box that the pairing names; each gate's result is a
record of that box's ledger with its proof, the evidence is the very document whose digest the records name. Where the
box's key was rotated, `succession` holds the records that lead to the one that signed. What a report is worth is for
the box that takes it to judge (`require_sound`), by its own policy and its own clock.
"""

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Self

from appliance.audit.leaf import Leaf
from appliance.audit.succession import Keys
from appliance.errors import GateFailedError
from appliance.standby import peerkeys, vouched
from appliance.standby.carried import Carried
from appliance.standby.pairing import Paired
from media import canonical, clock
from media.dsse import Envelope

FORMAT: Final = 1
TYPE: Final = "sealift/validation-report"
PAYLOAD_TYPE: Final = "application/vnd.sealift.validation-report+json"
GATE: Final = "gate.result"
MOST_DAYS: Final = 30
"""A report whose run is older than this is stale."""
_AHEAD: Final = timedelta(hours=1)
_MOST_GATES: Final = 32
_SUCCESSION: Final = "succession"
_FIELDS: Final = (
    *("format", "type", "site", "pairing_sha256", "sender", "receiver", "model_digest", "weights_digest"),
    *("policy_digest", "evidence_digest", "evidence", "gates", "at"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The signed part; `gates` are records of the sender's ledger, `evidence` the document that they name."""

    site: str
    pairing_sha256: str
    sender: str
    receiver: str
    model_digest: str
    weights_digest: str
    policy_digest: str
    evidence_digest: str
    evidence: bytes
    gates: tuple[Carried, ...]
    at: datetime
    succession: tuple[bytes, ...] = ()

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
                "model_digest": self.model_digest,
                "weights_digest": self.weights_digest,
                "policy_digest": self.policy_digest,
                "evidence_digest": self.evidence_digest,
                "evidence": base64.b64encode(self.evidence).decode(),
                "gates": [one.to_json() for one in self.gates],
                "at": clock.to_text(self.at),
                **({_SUCCESSION: peerkeys.to_json(self.succession)} if self.succession else {}),
            }
        )

    @classmethod
    def from_payload(cls, untrusted: bytes) -> Self:
        """Parse the signed bytes; nothing in them is verified by that.

        Raises:
            MalformedError: It is not canonical JSON of exactly these fields.
            PairingRefusedError: It is of another type or format.
            ProofError: A record in it does not read.
        """
        fields = canonical.exact_keys(canonical.loads_canonical(untrusted), _FIELDS, (_SUCCESSION,), what="report")
        if fields["format"] != FORMAT or fields["type"] != TYPE:
            raise vouched.refused("it is not a validation report of this format")
        return cls(
            site=canonical.text(fields["site"], "report.site"),
            pairing_sha256=canonical.sha256_hex(fields["pairing_sha256"], "report.pairing_sha256"),
            sender=canonical.text(fields["sender"], "report.sender"),
            receiver=canonical.text(fields["receiver"], "report.receiver"),
            model_digest=canonical.sha256_hex(fields["model_digest"], "report.model_digest"),
            weights_digest=canonical.sha256_hex(fields["weights_digest"], "report.weights_digest"),
            policy_digest=canonical.sha256_hex(fields["policy_digest"], "report.policy_digest"),
            evidence_digest=canonical.sha256_hex(fields["evidence_digest"], "report.evidence_digest"),
            evidence=_document(fields["evidence"]),
            gates=tuple(
                Carried.from_json(one) for one in canonical.array(fields["gates"], "report.gates", most=_MOST_GATES)
            ),
            at=canonical.moment(fields["at"], "report.at"),
            succession=peerkeys.from_json(fields.get(_SUCCESSION, []), f"report.{_SUCCESSION}"),
        )


def shown_keys(untrusted: bytes) -> tuple[bytes, ...]:
    """Return the records of key rotations that a report brings; nothing is verified by that.

    Raises:
        LimitExceededError, MalformedError, PairingRefusedError, ProofError: It is not in its form.
    """
    return Report.from_payload(Envelope.from_bytes(untrusted).payload).succession


def require_sound(
    untrusted: bytes, pair: Paired, keys: Keys, *, policy_digest: str, gates: tuple[str, ...], now: datetime
) -> tuple[Report, tuple[Leaf, ...]]:
    """Return a report of the paired test box for this one, and its gates' records, proven.

    Args:
        untrusted: The envelope.
        pair: With the test appliance.
        keys: Those of its ledger, after what the report says of them (`shown_keys`).
        policy_digest: Of this box's gate policy; a report under another says nothing here.
        gates: Those that must have passed.
        now: This box's time.

    Raises:
        GateFailedError: A gate is missing or failed, the policy is another, or the run is stale.
        LimitExceededError, MalformedError: It is not in its form.
        PairingRefusedError: It is of another box, for another box, or altered.
        ProofError: A record is not proven by that box's ledger, or the evidence is another document.
    """
    payload = vouched.require_vouched(untrusted, PAYLOAD_TYPE, {pair.peer.name: keys.in_force(pair.peer.origin).public})
    report = Report.from_payload(payload)
    found = (report.site, report.sender, report.receiver, report.pairing_sha256)
    if found != (pair.own.site, pair.peer.origin, pair.own.origin, pair.sha256):
        raise vouched.refused("it was made by or for another box, or under another pairing")
    if sha256(report.evidence).hexdigest() != report.evidence_digest:
        raise vouched.refused("its evidence is not the document that its gates name")
    leaves = tuple(one.require(pair.peer, keys) for one in report.gates)
    _require_passed(report, leaves, policy_digest=policy_digest, gates=gates)
    oldest = min(clock.from_text(leaf.time) for leaf in leaves)
    if now - oldest > timedelta(days=MOST_DAYS) or max(report.at, oldest) - now > _AHEAD:
        raise _failed(report, f"its run was at {clock.to_text(oldest)}, and reports count for {MOST_DAYS} days")
    return report, leaves


def _require_passed(report: Report, leaves: tuple[Leaf, ...], *, policy_digest: str, gates: tuple[str, ...]) -> None:
    if report.policy_digest != policy_digest:
        raise _failed(report, "it was judged under another policy than this box's")
    passed: list[str] = []
    for leaf in leaves:
        figures = leaf.body.get("figures")
        policy = figures.get("policy_digest") if isinstance(figures, dict) else None
        named = (leaf.kind, leaf.body.get("model_digest"), leaf.body.get("evidence_digest"), policy)
        if named != (GATE, report.model_digest, report.evidence_digest, policy_digest):
            raise _failed(report, f"record {leaf.sequence} is of another run, version or policy")
        if leaf.body.get("passed") is not True:
            raise _failed(report, f"the gate {str(leaf.body.get('gate'))[:40]} did not pass")
        passed.append(str(leaf.body.get("gate")))
    if sorted(passed) != sorted(gates):
        raise _failed(report, f"it has results of {', '.join(sorted(passed)) or 'no gate'}")


def _failed(report: Report, why: str) -> GateFailedError:
    return GateFailedError(
        what=f"the report on version {report.model_digest[:12]} is refused",
        why=why,
        fix="validate it anew on the test appliance and export the report again",
    )


def _document(untrusted: Any) -> bytes:
    try:
        return base64.b64decode(canonical.text(untrusted, "report.evidence", most=8 * 2**20), validate=True)
    except (binascii.Error, ValueError) as error:
        raise vouched.refused("its evidence is not base64") from error
