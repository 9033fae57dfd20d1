"""A cut-over in a maintenance window, for boxes whose memory holds one version: test, bring forward, or put back.

Promises: nothing stops before the approvals are there and the time of going back is said; the candidate answers in the
test stage before it goes forward; whatever fails, the version before serves again, and where another had gone forward
already that is recorded as going back, in the name and with the reason of whoever opened the window. What it took is a
record (`window.closed`). A window that was cut off is ended by `sealift promote production`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.actions.fit import FitFacts, fit, loading_seconds
from appliance.actions.production import STAGE, Served, Surroundings, is_production, settle
from appliance.actions.promote import waiting
from appliance.errors import ConflictError, EngineLoadError, NotEnoughApprovalsError, UnknownPersonError
from appliance.install.supervisor import UnitState, engine_unit
from appliance.promote.approvals import LEAST_PEOPLE
from appliance.promote.enrolment import require_reason
from appliance.promote.record import Promotion
from appliance.promote.terms import WATCH_HOURS
from appliance.registry import stageloads
from appliance.registry.carriers import carrier
from appliance.serve.client import EngineClient
from appliance.serve.readiness import wait_ready
from appliance.store.content import ContentStore
from media.errors import SealiftError, UsageError

CLOSED: Final = "window.closed"
TEST: Final = "test"
_QUESTION: Final = "Which day comes after Monday? Answer in one word."
_MOST_TOKENS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a window would do, said before anything stops.

    Attributes:
        fit: What memory holds, and the version in production with the time of loading it again.
        load_seconds: How long the candidate took to load here, when that was last measured; None when never.
        approved_by: Who approved it so far.
        needed: How many different people must.
    """

    fit: FitFacts
    load_seconds: float | None
    approved_by: tuple[str, ...]
    needed: int

    @property
    def lines(self) -> tuple[str, ...]:
        """The steps in sentences, with what is known of their times."""
        facts, before = self.fit, self.fit.production
        name = f"{facts.version.name} {facts.version.version}"
        was = "what serves now" if before is None else f"{before.name} {before.version}"
        loads, returns = _took(self.load_seconds), _took(facts.return_seconds)
        return (
            f"{was} is stopped when what it began is answered; callers get a clear 503 from then on.",
            f"{name} starts in the test stage, must be what was approved, and answers a question; {loads}.",
            f"It is brought forward and starts again in production; {loads}.",
            f"If anything fails, {was} serves again; {returns}.",
            f"The watch holds it against {was} for {WATCH_HOURS} hours; going back later: {returns}.",
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers; times in seconds."""
        return {
            "fit": self.fit.to_json(),
            "load_seconds": self.load_seconds,
            "return_seconds": self.fit.return_seconds,
            "approved_by": list(self.approved_by),
            "needed": self.needed,
            "watch_hours": WATCH_HOURS,
            "steps": list(self.lines),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowFacts:
    """What a window did.

    Attributes:
        plan: What was said before.
        promotion: Of the version that went forward.
        served: What serves since.
        tested_seconds: How long the candidate took in the test stage until it had answered.
        silent_seconds: For how long callers got no answer.
    """

    plan: Plan
    promotion: Promotion
    served: Served
    tested_seconds: float
    silent_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers; times in seconds."""
        return {
            "plan": self.plan.to_json(),
            "model_digest": self.promotion.model_digest,
            "previous": self.promotion.previous,
            "sequence": self.promotion.sequence,
            "tested_seconds": round(self.tested_seconds, 3),
            "silent_seconds": round(self.silent_seconds, 3),
            "return_seconds": self.plan.fit.return_seconds,
            "watch_hours": WATCH_HOURS,
            "started": list(self.served.started),
            "stopped": list(self.served.stopped),
        }


def plan(here: Surroundings, which: str) -> Plan:
    """Return what a window would do.

    Raises:
        UnknownVersionError: No such version is registered.
        EngineLoadError: It is known not to fit this machine's memory.
        UsageError: Nothing is in production, or it is the version itself.
        ConflictError: A canary runs, or developers have the version in the test stage.
    """
    found = fit(here.config, here.ledger, here.state, which)
    found.require_loadable()
    digest = found.version.model_digest
    if found.production is None:
        raise UsageError(
            what="no window is needed",
            why="it is in production" if found.serves else "nothing is in production",
            fix=f"run `sealift promote {digest[:12]}`",
        )
    with here.state.connect() as session:
        stageloads.require_not_loaded(session, digest)
    if here.promoter.canary()["canary"] is not None:
        raise ConflictError(
            what="a canary runs", why="a window replaces what serves", fix="end it first: `sealift canary abort`"
        )
    request = waiting(here, digest)
    return Plan(
        fit=found,
        load_seconds=loading_seconds(here.ledger, digest),
        approved_by=() if request is None else tuple(one.shown for one in request.approvals),
        needed=max(here.config.policy.approvals, LEAST_PEOPLE),
    )


def cut_over(here: Surroundings, which: str, *, person: str, reason: str, password: str | None = None) -> WindowFacts:
    """Open a window, test, bring the version forward, and close it.

    Args:
        here: What the action works with; engines are switched by this process itself.
        which: A digest, the beginning of one, a name, or NAME:VERSION.
        person: In whose name it goes back when the version does not serve.
        reason: Why, for the record.
        password: Proves the person where the command line's word is not enough.

    Raises:
        NotEnoughApprovalsError: Nobody asked for approvals yet, or too few people approved; nothing was stopped.
        UnknownPersonError: Nobody of that id is enrolled; nothing was stopped.
        ConflictError: A canary runs, developers have the version in the test stage, or this process may not switch
            engines.
        EngineLoadError: The version did not load or answer; the version before serves again.
        RemoteError: The promoter refused; the version before serves again.
        UnitError: The version before did not start again either.
    """
    if here.follow is not None:
        raise ConflictError(
            what="a window is opened at the machine",
            why="it stops and starts engines of both stages",
            fix="run the command as root",
        )
    planned, why = plan(here, which), require_reason(reason)
    digest = planned.fit.version.model_digest
    request = waiting(here, digest)
    if request is None or len(request.approvals) < planned.needed:
        ask = "promote" if request is None else "approve"
        raise NotEnoughApprovalsError(
            what=f"{planned.fit.version.name} {planned.fit.version.version} is not approved",
            why=f"{len(planned.approved_by)} of {planned.needed} have approved",
            fix=f"run `sealift {ask} {digest[:12]} --as PERSON`; nothing was stopped",
        )
    if person not in {one["person"] for one in here.promoter.people() if not one["revoked"]}:
        raise UnknownPersonError(what=f"nobody called {person[:64]} is enrolled", why="", fix="see `sealift people`")
    for line in planned.lines:
        here.tell(line)
    began = here.clock.monotonic()
    promotion: Promotion | None = None
    try:
        _stop_production(here)
        tested = _test(here, digest)
        promotion = here.promoter.promote(request.statement.sha256)
        here.tell(f"promotion {promotion.number} is recorded at sequence {promotion.sequence}")
        before_start = here.clock.monotonic()
        served = settle(here)
    except BaseException as error:  # whatever it was, callers get answers again
        _put_back(here, promotion, person=person, reason=why, password=password)
        seconds = here.clock.monotonic() - began
        _close(here, planned, person=person, reason=why, held=False, tested=0.0, silent=seconds)
        if not isinstance(error, SealiftError):
            raise
        raise EngineLoadError(
            what=f"the window ended with the version before, after {seconds:.1f} s without answers",
            why=f"{error.what}: {error.why}",
            fix="look at the engine's journal and at `sealift history`; the version before serves",
        ) from error
    silent = before_start - began + served.seconds
    _close(here, planned, person=person, reason=why, held=True, tested=tested, silent=silent)
    return WindowFacts(plan=planned, promotion=promotion, served=served, tested_seconds=tested, silent_seconds=silent)


def _stop_production(here: Surroundings) -> None:
    for unit in here.supervisor.units():
        if is_production(unit.name) and unit.state is not UnitState.INACTIVE:
            here.tell(f"stopping {unit.name}")
            here.supervisor.stop(unit.name)


def _test(here: Surroundings, digest: str) -> float:
    """Let the candidate answer a question in the test stage; return the seconds until it had."""
    unit, began = engine_unit(TEST, digest), here.clock.monotonic()
    _, descriptor, _ = carrier(ContentStore(here.config.at.store), digest)
    here.tell(f"starting {unit}")
    try:
        here.supervisor.start(unit)
        with EngineClient(here.config.at.socket(f"engine-{TEST}-{digest[:12]}")) as engine:
            status = wait_ready(
                engine,
                model_digest=digest,
                stage=TEST,
                seconds=here.config.engine.start_seconds,
                clock=here.clock,
                sleep=here.sleep,
            )
            if status.weights_digest != descriptor.weights_digest:
                raise EngineLoadError(
                    what=f"the test engine of {digest[:12]} loaded other weights",
                    why=f"{status.weights_digest[:12]}, and {descriptor.weights_digest[:12]} were approved",
                    fix="scrub the store: `sealift scrub`",
                )
            body = {"messages": [{"role": "user", "content": _QUESTION}], "max_tokens": _MOST_TOKENS, "temperature": 0}
            said = _text_of(engine.chat(body))
    finally:
        here.supervisor.stop(unit)
    if not said.strip():
        raise EngineLoadError(
            what=f"{digest[:12]} gave an empty answer", why="in the test stage", fix="validate it again"
        )
    return here.clock.monotonic() - began


def _text_of(untrusted_answer: Mapping[str, Any]) -> str:
    try:
        said = untrusted_answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return ""
    return said if isinstance(said, str) else ""


def _put_back(
    here: Surroundings, promotion: Promotion | None, *, person: str, reason: str, password: str | None
) -> None:
    """Let the version before serve again, which is going back where another was brought forward already.

    Where going back is refused, what the chain says serves, rather than nothing.
    """
    try:
        if promotion is not None:
            text = f"the window: it did not serve ({reason})"[:500]
            here.promoter.rollback(person=person, reason=text, model_digest=str(promotion.previous), password=password)
    finally:
        settle(here)


def _close(
    here: Surroundings, planned: Plan, *, person: str, reason: str, held: bool, tested: float, silent: float
) -> None:
    version, before = planned.fit.version, planned.fit.production
    here.ledger.append(
        CLOSED,
        {
            "model_digest": version.model_digest,
            "previous": None if before is None else before.model_digest,
            "person": person,
            "reason": reason,
            "cut_over": held,
            "tested_millis": round(tested * 1000),
            "silent_millis": round(silent * 1000),
            "return_millis": None if planned.fit.return_seconds is None else round(planned.fit.return_seconds * 1000),
            "stage": STAGE,
        },
    )


def _took(seconds: float | None) -> str:
    return "never measured here" if seconds is None else f"{seconds:.1f} s when it was last measured here"
