"""What a maintenance window would do, said before anything stops, with the times that this box needed before."""

from dataclasses import dataclass
from typing import Any

from appliance.actions.fit import FitFacts, Holds, fit
from appliance.actions.production import Surroundings
from appliance.actions.promote import said_of, waiting
from appliance.errors import ConflictError
from appliance.promote import doubted
from appliance.promote.approvals import LEAST_PEOPLE
from appliance.promote.terms import WATCH_HOURS
from appliance.registry import catalog, stageloads
from appliance.registry.catalog import Version
from appliance.registry.loading import loading_seconds
from media.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a cut-over in a window would do.

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
        was, loads, returns = _was(self.fit), _took(self.load_seconds), _took(self.fit.return_seconds)
        name = _name(self.fit.version)
        return (
            _stopped(was),
            f"{name} starts in the test stage, must be what was approved, and answers a question; {loads}.",
            f"It is brought forward and starts again in production; {loads}.",
            f"If anything fails, {was} serves again; {returns}.",
            f"The watch holds it against {was} for {WATCH_HOURS} hours; going back later: {returns}.",
            *((self.fit.alias,) if self.fit.alias else ()),
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
class GatesPlan:
    """What gates in a window would do; `minutes` is how long it may last."""

    fit: FitFacts
    minutes: int

    @property
    def lines(self) -> tuple[str, ...]:
        """The steps in sentences."""
        was, returns = _was(self.fit), _took(self.fit.return_seconds)
        more = ("Memory holds both: its gates can run beside production, without a window.",)
        return (
            *(more if self.fit.holds is Holds.TWO else ()),
            _stopped(was),
            f"{_name(self.fit.version)} starts in the test stage, and its gates run.",
            f"It is stopped, and {was} is started after {self.minutes} minutes at the latest; loading: {returns}.",
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers; times in seconds."""
        return {
            "fit": self.fit.to_json(),
            "return_seconds": self.fit.return_seconds,
            "minutes": self.minutes,
            "steps": list(self.lines),
        }


def plan(here: Surroundings, which: str) -> Plan:
    """Return what a cut-over in a window would do.

    Raises:
        UnknownVersionError: No such version is registered.
        EngineLoadError: It is known not to fit this machine's memory.
        UsageError: Nothing is in production, or it is the version itself.
        ApprovalRefusedError: The version is in doubt.
        ConflictError: A canary runs, or developers have the version in the test stage.
    """
    found = _possible(here, which)
    digest = found.version.model_digest
    if found.serves:
        raise _not_needed("it is in production", digest)
    doubted.require_none(here.ledger, digest)  # before anything stops for it
    request = waiting(here, digest)
    return Plan(
        fit=found,
        load_seconds=loading_seconds(here.ledger, digest),
        approved_by=() if request is None else tuple(one.shown for one in request.approvals),
        needed=max(here.config.policy.approvals, LEAST_PEOPLE),
    )


def plan_gates(here: Surroundings, which: str, *, minutes: int) -> GatesPlan:
    """Return what gates in a window would do.

    Raises:
        UnknownVersionError, EngineLoadError, UsageError, ConflictError: As `plan`.
    """
    return GatesPlan(fit=_possible(here, which), minutes=minutes)


def _possible(here: Surroundings, which: str) -> FitFacts:
    with here.state.connect() as session:
        said = said_of(here, catalog.version(session, which).model_digest)
    found = fit(here.config, here.ledger, here.state, which, said=said)
    found.require_loadable()
    digest = found.version.model_digest
    if found.production is None and not found.serves:
        raise _not_needed("its line serves nothing" if found.lines.names else "nothing is in production", digest)
    with here.state.connect() as session:
        stageloads.require_not_loaded(session, digest)
    if here.promoter.canary()["canary"] is not None:
        raise ConflictError(
            what="a canary runs", why="a window replaces what serves", fix="end it first: `sealift canary abort`"
        )
    return found


def _not_needed(why: str, digest: str) -> UsageError:
    return UsageError(what="no window is needed", why=why, fix=f"run `sealift promote {digest[:12]}`")


def _stopped(was: str) -> str:
    return f"{was} is stopped when what it began is answered; callers get a clear 503 from then on."


def _was(facts: FitFacts) -> str:
    return "what serves now" if facts.production is None else _name(facts.production)


def _name(version: Version) -> str:
    return f"{version.name} {version.version}"


def _took(seconds: float | None) -> str:
    return "never measured here" if seconds is None else f"{seconds:.1f} s when it was last measured here"
