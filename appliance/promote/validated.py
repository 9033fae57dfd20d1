"""Whether a version passed its gates, read from the ledger: asked before a request, again before a promotion.

Promises: for each gate of the current policy only the newest result counts; all must have passed, come from one run
(one evidence digest) and have been judged under this very policy. So a report of another version, an old report, or one
that a later failure contradicts never opens the way. A level that is not for production passes only where a person
accepted it for this version by name, whatever its gates said.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from appliance.audit.facts import EVERY, Ledger
from appliance.errors import ApprovalRefusedError, GateFailedError, UnknownVersionError
from appliance.promote.levels import acceptance, require_content_addressed, require_level_for_production
from appliance.promote.policy import GatePolicy
from appliance.promote.statement import Statement
from appliance.registry import deletion
from media import canonical
from media.errors import MalformedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """A version whose gates all passed in one run."""

    model_digest: str
    weights_digest: str
    evidence_digest: str
    policy_digest: str


def require_validated(ledger: Ledger, model_digest: str, policy: GatePolicy) -> Validated:
    """Return the one run in which this version passed every gate.

    Raises:
        UnknownVersionError: The ledger knows no such version, or it was deleted.
        GateFailedError: A gate is missing, failed, of another run or of another policy; or its level is not for
            production.
    """
    registered = deletion.registration(ledger, model_digest)
    descriptor = canonical.mapping(registered.body.get("descriptor"), "descriptor")
    require_level_for_production(descriptor, model_digest, acceptance(ledger, model_digest))
    require_content_addressed(descriptor, model_digest)
    newest = _newest_results(ledger, model_digest, policy)
    digests = {str(body.get("evidence_digest")) for body in newest.values()}
    if len(digests) != 1:
        raise _failed(model_digest, "its newest gate results come from different runs")
    return Validated(
        model_digest=model_digest,
        weights_digest=str(registered.body.get("weights_digest", "")),
        evidence_digest=digests.pop(),
        policy_digest=policy.digest,
    )


def require_newest(ledger: Ledger, statement: Statement, policy: GatePolicy) -> None:
    """Return when a statement names its version's newest evidence, and the present policy.

    Raises:
        ApprovalRefusedError: It does not: the gates ran again since, or another policy holds.
        UnknownVersionError, GateFailedError: As `require_validated`.
    """
    if not _names(statement, require_validated(ledger, statement.model_digest, policy)):
        raise ApprovalRefusedError(
            what="the statement cannot be approved or promoted",
            why="its evidence or its policy is not the newest one",
            fix=f"request it again: `sealift promote {statement.model_digest[:12]} --as PERSON`",
        )


def newest(ledger: Ledger, policy: Callable[[], GatePolicy]) -> Callable[[Statement], bool]:
    """Return what tells of statements whether `require_newest` holds; each version is looked up once.

    Where no policy can be told, it holds of none.
    """

    @cache
    def found(model_digest: str) -> Validated | None:
        try:
            return require_validated(ledger, model_digest, policy())
        except (ApprovalRefusedError, GateFailedError, MalformedError, UnknownVersionError):
            return None

    def is_newest(statement: Statement) -> bool:
        known = found(statement.model_digest)
        return known is not None and _names(statement, known)

    return is_newest


def _names(statement: Statement, known: Validated) -> bool:
    return (statement.evidence_digest, statement.policy_digest) == (known.evidence_digest, known.policy_digest)


def _newest_results(ledger: Ledger, model_digest: str, policy: GatePolicy) -> dict[str, dict[str, object]]:
    newest: dict[str, dict[str, object]] = {}
    results = ledger.find(kind="gate.result", field="model_digest", value=model_digest, limit=EVERY)
    begun = deletion.gone_at(ledger, model_digest)
    for leaf in results:
        if leaf.sequence < begun:
            break  # what it passed before it was deleted says nothing of the bytes that came back
        newest.setdefault(str(leaf.body.get("gate")), dict(leaf.body))
    for gate in policy.gates:
        body = newest.get(gate)
        if body is None:
            raise _failed(model_digest, f"the gate {gate} has not run")
        if body.get("passed") is not True:
            raise _failed(model_digest, f"the gate {gate} did not pass")
        figures = body.get("figures")
        if not isinstance(figures, dict) or figures.get("policy_digest") != policy.digest:
            raise _failed(model_digest, f"the gate {gate} was judged under another policy")
    return {gate: newest[gate] for gate in policy.gates}


def _failed(model_digest: str, why: str) -> GateFailedError:
    return GateFailedError(
        what=f"version {model_digest[:12]} may not be requested for production",
        why=why,
        fix=f"run `sealift validate {model_digest[:12]}`",
    )
