"""One person says yes: everything the statement names is checked and shown, then signed with the person's own key.

Promises: the digests in the statement are recomputed from the store and the evidence on this machine before anyone is
asked; what is shown is what changes against production; the private key is used by GnuPG (perhaps on a token), never
read; the promoter verifies what comes out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.actions.displaced import displaced, sentence
from appliance.actions.production import Surroundings
from appliance.actions.promote import waiting
from appliance.actions.summary import changes
from appliance.actions.ways import Way
from appliance.audit.facts import EVERY, Ledger
from appliance.errors import ApprovalRefusedError, ProofError
from appliance.promote import actors, doubted
from appliance.promote.destination import Said
from appliance.promote.policy import GatePolicy
from appliance.promote.promoter import Request
from appliance.promote.statement import BY_PERSON, BY_RELEASE
from appliance.promote.strictness import LOOSER
from appliance.registry import carriers, catalog, evidence
from appliance.registry.catalog import Version
from appliance.registry.descriptor import ModelDescriptor
from appliance.standby import carried
from appliance.store.content import ContentStore
from media import canonical
from media.clock import to_text

_REQUEST: Final = {
    BY_RELEASE: "the signed release counts as the request",
    BY_PERSON: "who requested it does not approve it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a person is asked to approve; `production` is what goes away, `goes` says so, and what stays.

    `ran_on` is the ledger of the box whose gates these are; empty for this one's own. `alias` says what changes for
    callers where a name of the site's own is the version's.
    """

    request: Request
    version: Version
    production: Version | None
    changes: tuple[tuple[str, str, str], ...]
    gates: tuple[tuple[str, bool, str], ...]
    thresholds: tuple[str, ...] = ()
    goes: str = ""
    ran_on: str = ""
    alias: str = ""

    def to_text(self) -> str:
        """Return what is shown before the signature."""
        statement = self.request.statement
        none = "nothing of this name" if self.goes else "nothing"
        now = none if self.production is None else f"{self.production.name} {self.production.version}"
        line = (f"            {self.version.name} {self.goes}",) if self.goes else ()
        lines = [
            f"Site        {statement.site}",
            f"Version     {self.version.name} {self.version.version}  ({statement.model_digest})",
            f"Weights     {statement.weights_digest}",
            f"Production  {now}",
            *line,
            *((f"  ! {self.alias}",) if self.alias else ()),
            f"Meaning     {statement.meaning}",
            f"Requested   by {actors.shown(statement.requested_by)}, {to_text(statement.requested_at)}",
            f"            {_REQUEST[statement.request]}",
            f"Expires     {to_text(statement.expires)}",
            f"Approved    {', '.join(one.shown for one in self.request.approvals) or 'by nobody yet'}",
            f"Policy      {statement.policy_digest}",
            *(f"  ! {one}" for one in self.thresholds),
            f"Gates, run on another box ({self.ran_on})" if self.ran_on else "Gates",
            *(f"  {'✓' if passed else '✗'} {gate}  {shown}" for gate, passed, shown in self.gates),
            "Changes against production",
            *(f"  {what}: {old} -> {new}" for what, old, new in self.changes),
        ]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveFacts:
    """The request after the approval."""

    request: Request
    needed: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "model_digest": self.request.statement.model_digest,
            "statement_sha256": self.request.statement.sha256,
            "approved_by": [one.name for one in self.request.approvals],
            "lower_class": {one.name: list(one.lower) for one in self.request.approvals if one.lower},
            "needed": self.needed,
        }


def approve(
    here: Surroundings, which: str, *, person: str, way: Way, agrees: Callable[[Question], bool]
) -> ApproveFacts:
    """Show what waits for approval, and sign it when the person agrees.

    Args:
        here: What the action works with.
        which: The version.
        person: Who approves, by id.
        way: How the person approves.
        agrees: Shows the question and returns the answer.

    Raises:
        ApprovalRefusedError: Nothing waits, the version is in doubt, or the person did not agree.
        ProofError: What the statement names is not what lies on this machine.
        UnknownPersonError: Nobody of that id is enrolled, or has what this way takes; said before anything is shown.
        KeyUnusableError: The key is not there or cannot sign.
        RemoteError: The promoter refused the signature.
    """
    way.require(here.promoter, person)
    with here.state.connect() as session:
        version = catalog.version(session, which)
        current = here.promoter.current()["model_digest"]
        production = catalog.version(session, current) if current else None
        request = waiting(here, version.model_digest)
        said = Said.of(None if request is None else request.statement)
        gone = displaced(session, said)
        if said != Said():
            production = gone
        goes = sentence(session, said, version)
    if request is None:
        raise ApprovalRefusedError(
            what=f"nothing waits for approval of {version.name} {version.version}",
            why="it was not requested, it has expired, or production changed since",
            fix=f"run `sealift promote {version.model_digest[:12]} --as PERSON`",
        )
    doubted.require_none(here.ledger, version.model_digest)
    gates, thresholds = _require_true(here, request, version)
    question = Question(
        request=request,
        version=version,
        production=production,
        changes=changes(None if production is None else production.descriptor, version.descriptor),
        gates=gates,
        thresholds=thresholds,
        goes=goes,
        ran_on=ran_on(here.ledger, version.model_digest, request.statement.evidence_digest),
        alias=here.config.models.taken_by(version.name),
    )
    if not agrees(question):
        raise ApprovalRefusedError(what="nothing was signed", why="you did not agree", fix="run the command again")
    presented = way.present(here.promoter, person, request.statement.to_bytes())
    updated = here.promoter.approve(request.statement.sha256, presented)
    return ApproveFacts(request=updated, needed=here.config.policy.approvals)


def _require_true(
    here: Surroundings, request: Request, version: Version
) -> tuple[tuple[tuple[str, bool, str], ...], tuple[str, ...]]:
    statement = request.statement
    descriptor = _descriptor(here, statement.model_digest)
    if descriptor.weights_digest != statement.weights_digest:
        raise ProofError(
            what=f"the statement about {version.name} {version.version} is not about what lies here",
            why="the store's descriptor has other digests",
            fix="do not approve; ask who requested it",
        )
    document = _evidence(here, statement.evidence_digest)
    about = (document.get("model_digest"), canonical.mapping(document.get("policy"), "evidence.policy").get("digest"))
    if about != (statement.model_digest, statement.policy_digest):
        raise ProofError(
            what="the evidence is about another version or policy",
            why=f"evidence {statement.evidence_digest[:12]}",
            fix="do not approve; ask who requested it",
        )
    gates = tuple(
        (str(gate["gate"]), gate["passed"] is True, _headline(canonical.mapping(gate["figures"], "evidence.figures")))
        for gate in canonical.array(document.get("gates"), "evidence.gates")
    )
    return gates, site_thresholds(document)


def ran_on(ledger: Ledger, model_digest: str, evidence_digest: str) -> str:
    """Return the ledger of the box that ran the gates of this evidence; empty where it was this one.

    A test appliance's report, and what a standby took over from the other box, are results of another machine.
    """
    for leaf in ledger.find(kind="gate.result", field="model_digest", value=model_digest, limit=EVERY):
        if leaf.body.get("evidence_digest") == evidence_digest:
            return carried.origin_of(leaf.body)
    return ""


def site_thresholds(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the site changed of the release's policy when this evidence was made, a line each; looser first.

    Raises:
        MalformedError: The evidence's policy is not one.
    """
    named = canonical.mapping(document.get("policy"), "evidence.policy")
    if "document" not in named:
        return ()
    site = GatePolicy.from_bytes(str(named["document"]).encode()).site
    changes = () if site is None else site.changes
    return tuple(one.text for one in sorted(changes, key=lambda one: one.direction != LOOSER))


def _descriptor(here: Surroundings, model_digest: str) -> ModelDescriptor:
    if here.proofs is not None:
        return ModelDescriptor.from_bytes(here.proofs.text("descriptor", model_digest))
    return carriers.carrier(ContentStore(here.config.at.store), model_digest)[1]


def _evidence(here: Surroundings, digest: str) -> dict[str, Any]:
    if here.proofs is not None:
        return canonical.mapping(canonical.loads_canonical(here.proofs.text("evidence", digest)), "evidence")
    return evidence.read(here.config.at, digest)


def _headline(figures: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in figures.items() if isinstance(value, int | str))
