"""Validate a version: start it in test, run the gates, keep the evidence, record each verdict.

Promises: verdicts are recorded only with evidence that is durable under its digest; the test engine is stopped
whatever happened; a supervisor that does not answer is not a verdict on the version.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Engine

from appliance.actions import fit as fitting
from appliance.actions import gates, known
from appliance.actions.gates import Bench, Progress, Verdict
from appliance.actions.gating import cards
from appliance.actions.gating.alike import EmbeddingJudge
from appliance.actions.gating.bench import Leaks, machine_memory_bytes
from appliance.actions.gating.privacy import through_the_gateway
from appliance.actions.registering import register_what_is_installed
from appliance.actions.reviewing import BoxReviews
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import ConflictError, GateFailedError, ProofError
from appliance.install.supervisor import Supervisor, serving
from appliance.promote import sitesets
from appliance.promote.policy import GATES, GatePolicy, packaged
from appliance.promote.policybook import in_force
from appliance.promote.taskset import TaskSet
from appliance.registry import carriers, catalog, evidence, gpufigures, memory, stageloads
from appliance.registry import reference as references
from appliance.registry.catalog import Version
from appliance.registry.memory import Room
from appliance.serve.client import EngineClient
from appliance.state import projection
from appliance.store.content import ContentStore
from media import canonical
from media.clock import Clock, to_text
from media.errors import UsageError

GATE_RESULT = "gate.result"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """What the gates said of one version in one run."""

    version: Version
    verdicts: tuple[Verdict, ...]
    evidence_digest: str
    policy: GatePolicy
    stopped_early: bool

    @property
    def passed(self) -> bool:
        """Whether every gate that ran passed, and none was left out after a failure."""
        return not self.stopped_early and all(verdict.passed for verdict in self.verdicts)

    def figures_of(self, gate: str) -> dict[str, Any]:
        """Return what one gate measured; nothing where it did not run."""
        return next((verdict.figures for verdict in self.verdicts if verdict.gate == gate), {})

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "model_digest": self.version.model_digest,
            "name": self.version.name,
            "version": self.version.version,
            "passed": self.passed,
            "evidence_digest": self.evidence_digest,
            "policy_digest": self.policy.digest,
            "gates": [verdict.to_json() for verdict in self.verdicts],
        }

    def require_passed(self) -> None:
        """Return when the version passed.

        Raises:
            GateFailedError: A gate did not.
        """
        for verdict in self.verdicts:
            if not verdict.passed:
                raise GateFailedError(
                    what=f"{self.version.name} {self.version.version} did not pass the gate {verdict.gate}",
                    why=verdict.why,
                    fix=f"see evidence {self.evidence_digest[:12]}; the running service is untouched{_more(verdict)}",
                )


def _more(verdict: Verdict) -> str:
    """Return what else may help: speed is measured on a machine that may be doing something else."""
    return "; validate again where this machine was busy with something else" if verdict.gate == "performance" else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the action works with; `room` is what the machine has, which is asked of the kernel when not given."""

    config: Config
    ledger: Ledger
    state: Engine
    supervisor: Supervisor
    clock: Clock
    sleep: Callable[[float], None] = time.sleep
    leaks: Leaks = through_the_gateway
    room: Room | None = None


def validate(
    here: Surroundings, which: str, *, only: str = "", progress: Progress = lambda *_: None
) -> ValidationReport:
    """Run the gates of the current policy, or one of them, and record what they said.

    Args:
        here: What the action works with.
        which: A digest, the beginning of one, a name, or NAME:VERSION.
        only: One gate; what it needs runs before it, but is not recorded.
        progress: Told of each gate's steps.

    Raises:
        UnknownVersionError: No such version is registered.
        UsageError: There is no such gate.
        ConflictError: Application developers use it in the test stage, or production serves and memory does not hold
            both.
        UnitError: No supervisor answers; nothing was judged.
        LedgerUnavailableError: The verdicts could not be recorded.
    """
    policy = in_force(here.ledger)
    require_gate(only)
    register_what_is_installed(here.config, here.ledger, here.state)
    with here.state.connect() as session:
        version = catalog.version(session, which)
        stageloads.require_not_loaded(session, version.model_digest)
    _require_beside(here, version)
    judge = _similarity_judge(here, version)
    with EngineClient(here.config.at.engine_socket(gates.TEST_STAGE, version.model_digest)) as engine:
        bench = _bench(here, version, engine, policy, judge, progress)
        here.supervisor.state(bench.unit)  # raises when no supervisor answers: no verdict on the version
        started = here.clock.now()
        try:
            verdicts = _run(bench, (only,) if only else policy.gates)
        finally:
            here.supervisor.stop(bench.unit)
            if judge is not None:
                judge.close()
    wanted = (only,) if only else policy.gates
    document = {
        "site": here.config.site,
        "model_digest": version.model_digest,
        "weights_digest": version.weights_digest,
        "serial": version.serial,
        "policy": _kept(policy),
        "environment": here.config.environment,
        "started": to_text(started),
        "finished": to_text(here.clock.now()),
        "gates": [verdict.to_json() for verdict in verdicts],
    }
    digest = evidence.store(here.config.at, document)
    for verdict in verdicts:
        here.ledger.append(GATE_RESULT, _body(verdict, version, digest, policy))
    projection.catch_up(here.state, here.ledger)
    return ValidationReport(
        version=version,
        verdicts=verdicts,
        evidence_digest=digest,
        policy=policy,
        stopped_early=len(verdicts) < len(wanted),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a validation would do: nothing was started, nothing recorded."""

    version: Version
    policy: GatePolicy
    sets: tuple[tuple[str, str, int], ...]
    production: str
    full_precision: str
    demands_review: bool
    similarity_judge: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "dry_run": True,
            "model_digest": self.version.model_digest,
            "name": self.version.name,
            "version": self.version.version,
            "policy": self.policy.named(),
            "gates": list(self.policy.gates),
            "sets": [{"name": name, "origin": origin, "items": items} for name, origin, items in self.sets],
            "compared_with_production": self.production or None,
            "compared_with_full_precision": self.full_precision or None,
            "demands_review": self.demands_review,
            "similarity_judge": self.similarity_judge or None,
        }


def require_gate(name: str) -> None:
    """Return when there is a gate of this name, or none is named.

    Raises:
        UsageError: There is none.
    """
    if name and name not in GATES:
        raise UsageError(
            what=f"there is no gate {name[:40]}", why=", ".join(GATES), fix="see `sealift validate --help`"
        )


def plan(here: Surroundings, which: str) -> Plan:
    """Return what `validate` would do with a version.

    Raises:
        UnknownVersionError: No such version is registered, or the store holds none.
        MalformedError, StoreDamagedError: A task set cannot be read as it was received.
    """
    policy, places = in_force(here.ledger), here.config.at
    with here.state.connect() as session:
        version = catalog.version(session, which)
    stored, descriptor, paths = carriers.carrier(ContentStore(places.store), version.model_digest)
    sets = [("release", TaskSet.from_bytes(stored.read(path))) for path in paths]
    sets += [("site", TaskSet.from_bytes(sitesets.content(places, one))) for one in sitesets.active(here.ledger)]
    others = known.others(here.config, here.state, version)
    said = references.declared(stored, descriptor).values()
    judge = carriers.similarity_judge(ContentStore(places.store), but=version.model_digest)
    parent = "" if others.full_precision is None else f"version {others.full_precision.model_digest[:12]}"
    return Plan(
        version=version,
        policy=policy,
        sets=tuple((tasks.name, origin, len(tasks.items)) for origin, tasks in sets),
        production="" if others.production is None else others.production.model_digest,
        full_precision=parent or ("reference outputs" if any(one.path for one in said) else ""),
        demands_review=here.config.environment in policy.review.demanded_in,
        similarity_judge=f"{judge.name} {judge.version}" if judge is not None else "",
    )


def report_of(version: Version, evidence_digest: str, document: Mapping[str, Any]) -> ValidationReport:
    """Return the report of a run whose evidence this is, under the policy that it was made under.

    Raises:
        ProofError: The evidence is about another version, or the policy in it is not the one that it names.
    """
    if document.get("model_digest") != version.model_digest:
        raise ProofError(
            what=f"the evidence {evidence_digest[:12]} is about another version", why="", fix="validate it again"
        )
    verdicts = tuple(
        Verdict(
            gate=str(gate["gate"]), passed=gate["passed"] is True, figures=dict(gate["figures"]), why=str(gate["why"])
        )
        for gate in document["gates"]
    )
    policy = _policy_of(document)
    return ValidationReport(
        version=version,
        verdicts=verdicts,
        evidence_digest=evidence_digest,
        policy=policy,
        stopped_early=len(verdicts) < len(policy.gates),
    )


def _kept(policy: GatePolicy) -> dict[str, Any]:
    # A policy of the site's own is whole in the evidence, so that whoever reads that later needs nothing else.
    return policy.named() if policy.site is None else {**policy.named(), "document": policy.to_bytes().decode()}


def _policy_of(document: Mapping[str, Any]) -> GatePolicy:
    named = canonical.mapping(document.get("policy"), "evidence.policy")
    if named.get("digest") == packaged().digest:
        return packaged()
    if "document" not in named:  # of another release: its gates are known by what ran
        gates = tuple(str(gate["gate"]) for gate in document["gates"])
        return replace(packaged(), name=str(named.get("name")), digest=str(named.get("digest")), gates=gates)
    policy = GatePolicy.from_bytes(str(named["document"]).encode())
    if policy.digest != named.get("digest"):
        raise ProofError(
            what="the policy in the evidence is not the one that it names", why="", fix="validate the version again"
        )
    return policy


def _run(bench: Bench, wanted: tuple[str, ...]) -> tuple[Verdict, ...]:
    if len(wanted) == 1:
        for needed in gates.NEEDS[wanted[0]]:
            before = gates.run(needed, bench)
            if not before.passed:
                return (Verdict(gate=wanted[0], passed=False, figures=before.figures, why=before.why),)
    verdicts: list[Verdict] = []
    for gate in wanted:
        verdicts.append(gates.run(gate, bench))
        if not verdicts[-1].passed:
            break
    return tuple(verdicts)


def _require_beside(here: Surroundings, version: Version) -> None:
    """Return unless it is known that memory does not hold the version beside production, and production serves."""
    if not serving(here.supervisor):
        return
    found = fitting.fit(here.config, here.ledger, here.state, version.model_digest, room=here.room or memory.machine())
    # The version in production itself would be loaded a second time, by the test engine.
    twice = 0 if found.need is None or not found.serves else 2 * found.need.total + found.tested.total
    if found.holds is fitting.Holds.ONE or twice > found.room.engines:
        was = "production" if found.production is None else f"{found.production.name} {found.production.version}"
        raise ConflictError(
            what=f"{version.name} {version.version} does not fit beside {was}",
            why="memory holds one of them, and its gates would take it from callers",
            fix=f"run `sealift validate {version.model_digest[:12]} --window --as PERSON --reason TEXT`",
        )


def _similarity_judge(here: Surroundings, version: Version) -> EmbeddingJudge | None:
    found = carriers.similarity_judge(ContentStore(here.config.at.store), but=version.model_digest)
    if found is None:
        return None
    with here.state.connect() as session:
        is_lent = any(one.model_digest == found.model_digest for one in stageloads.loads(session))
    return EmbeddingJudge(
        descriptor=found,
        config=here.config,
        supervisor=here.supervisor,
        clock=here.clock,
        sleep=here.sleep,
        is_lent=is_lent,
    )


def _bench(
    here: Surroundings,
    version: Version,
    engine: EngineClient,
    policy: GatePolicy,
    judge: EmbeddingJudge | None,
    progress: Progress,
) -> Bench:
    places, ledger = here.config.at, here.ledger
    stored, descriptor, task_paths = carriers.carrier(ContentStore(places.store), version.model_digest)
    others = known.others(here.config, here.state, version)
    return Bench(
        descriptor=descriptor,
        stored=stored,
        task_paths=task_paths,
        engine=engine,
        supervisor=here.supervisor,
        policy=policy,
        clock=here.clock,
        start_seconds=here.config.engine.start_seconds,
        environment=here.config.environment,
        memory_bytes=machine_memory_bytes(),
        gpus=cards.of_stage(here.config.engines.test.gpus, gpufigures.told(places, here.clock)),
        leaks=here.leaks,
        reviews=BoxReviews(places=places, ledger=ledger),
        pins=carriers.pins(stored, version.model_digest),
        site_sets=tuple(sitesets.content(places, one) for one in sitesets.active(ledger)),
        production=others.production,
        full_precision=others.full_precision,
        accepted=known.accepted(ledger, version.model_digest),
        similarity=judge,
        progress=progress,
        sleep=here.sleep,
    )


def _body(verdict: Verdict, version: Version, evidence_digest: str, policy: GatePolicy) -> dict[str, Any]:
    headline = {name: value for name, value in verdict.figures.items() if not isinstance(value, list | dict)}
    return {
        "model_digest": version.model_digest,
        "gate": verdict.gate,
        "passed": verdict.passed,
        "evidence_digest": evidence_digest,
        "figures": {**headline, "policy_digest": policy.digest, "why": verdict.why},
    }
