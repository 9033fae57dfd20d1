"""Rollouts as people run them: start a canary, hold, resume, abort, cut over; let the judge look; say how it stands.

The promoter decides and records; engines and state follow, as for every change of production (`actions.production`).
Every step may be repeated, so one that was cut off is finished by running it, or `sealift canary judge`, again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from appliance.actions import keyrules
from appliance.actions.fit import Holds, fit, line_for
from appliance.actions.following import is_anothers
from appliance.actions.production import STAGE, Served, Surroundings, is_production, settle, unit_digest
from appliance.actions.promote import said_of, waiting
from appliance.audit.leaf import Leaf
from appliance.errors import ConflictError, NotEnoughApprovalsError
from appliance.install.engines import wanted_engines
from appliance.install.supervisor import UnitState, engine_unit
from appliance.promote.approvals import LEAST_PEOPLE
from appliance.promote.destination import Said
from appliance.promote.folder import PromoterFolder
from appliance.promote.history import Production
from appliance.promote.judging import ENOUGH_REQUESTS, STATED_POWER
from appliance.promote.line import Line
from appliance.promote.record import BY_JUDGE, Promotion
from appliance.promote.terms import HOURS, PERCENT, WATCH_HOURS, Terms
from appliance.registry import catalog
from appliance.registry.catalog import Version
from appliance.stages import FIRST_LINE, is_tried
from appliance.state import lines, projection
from media.clock import from_text

_INTENT: Final = "request.intent"
_LOOKED_AT: Final = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a canary would see, said before it starts."""

    version: Version
    percent: int
    hours: int
    holds: Holds
    requests_per_hour: float

    @property
    def expected(self) -> int:
        """Requests of the canary in its time, at the rate of late."""
        return math.floor(self.requests_per_hour * self.hours * self.percent / 100)

    @property
    def is_enough(self) -> bool:
        """Whether that many would let one person cut over."""
        return self.expected >= ENOUGH_REQUESTS

    @property
    def text(self) -> str:
        """What a person reads."""
        seen = f"about {self.expected} requests of the canary in {self.hours} h ({self.percent} % of the callers)"
        if self.is_enough:
            return f"{seen}; {ENOUGH_REQUESTS} say enough ({STATED_POWER})"
        return (
            f"{seen}; {ENOUGH_REQUESTS} are needed ({STATED_POWER}): too few to judge by, so two people will be asked"
            " to approve the cut-over anew"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "model_digest": self.version.model_digest,
            "name": self.version.name,
            "version": self.version.version,
            "percent": self.percent,
            "hours": self.hours,
            "memory_holds": str(self.holds),
            "requests_per_hour": round(self.requests_per_hour, 1),
            "expected_requests": self.expected,
            "needed_requests": ENOUGH_REQUESTS,
            "enough": self.is_enough,
            "power": STATED_POWER,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryFacts:
    """What was done, and what serves."""

    promotion: Promotion
    served: Served
    outlook: Outlook | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "step": str(self.promotion.kind),
            "version": None if self.promotion.terms is None else self.promotion.terms.version,
            "model_digest": self.promotion.model_digest,
            "previous": self.promotion.previous,
            "person": self.promotion.person,
            "class": self.promotion.person_class,
            "sequence": self.promotion.sequence,
            "seconds": round(self.served.seconds, 3),
            "stopped": list(self.served.stopped),
            "outlook": None if self.outlook is None else self.outlook.to_json(),
        }


def outlook(here: Surroundings, which: str, *, percent: int = PERCENT, hours: int = HOURS) -> Outlook:
    """Return what a canary of a version would see.

    Raises:
        UnknownVersionError: No such version is registered.
        ConflictError: The terms are not sensible.
    """
    with here.state.connect() as session:
        version = catalog.version(session, which)
    Terms(version=version.model_digest, percent=percent, hours=hours).require_sensible()
    said = said_of(here, version.model_digest)
    holds = fit(here.config, here.ledger, here.state, version.model_digest, said=said).holds
    rate = _rate(here, version, said)
    return Outlook(version=version, percent=percent, hours=hours, holds=holds, requests_per_hour=rate)


def start(
    here: Surroundings, which: str, *, percent: int = PERCENT, hours: int = HOURS, watch_hours: int = WATCH_HOURS
) -> CanaryFacts:
    """Start a canary of a version that enough people approved.

    Raises:
        UnknownVersionError: No such version is registered.
        ConflictError: Memory does not hold two versions, a canary runs already, or the terms are not sensible.
        NotEnoughApprovalsError: Nobody asked for approvals yet, or too few people approved.
        RemoteError: The promoter refused.
        UnitError: It was recorded, and its engine did not start: callers stay with production; abort it.
    """
    seen = outlook(here, which, percent=percent, hours=hours)
    digest = seen.version.model_digest
    if seen.holds in {Holds.ONE, Holds.NONE}:
        raise ConflictError(
            what="memory does not hold two versions, so no canary can run",
            why=f"see `sealift models fit {digest[:12]}`",
            fix=f"cut over in a maintenance window: `sealift promote {digest[:12]} --window --as PERSON --reason TEXT`",
        )
    needed = max(here.config.policy.approvals, LEAST_PEOPLE)
    request = waiting(here, digest)
    if request is None or len(request.approvals) < needed:
        approved = len(request.approvals) if request else 0
        ask = (
            f"`sealift approve {digest[:12]} --as PERSON`"
            if request
            else f"`sealift promote {digest[:12]} --as PERSON`"
        )
        raise NotEnoughApprovalsError(
            what=f"{seen.version.name} {seen.version.version} is not approved",
            why=f"{approved} of {needed} have approved",
            fix=f"run {ask}",
        )
    promotion = here.promoter.start_canary(
        request.statement.sha256, percent=percent, hours=hours, watch_hours=watch_hours
    )
    here.tell(f"the canary is recorded at sequence {promotion.sequence}")
    return CanaryFacts(promotion=promotion, served=settle(here), outlook=seen)


def step(here: Surroundings, what: str, *, person: str, reason: str, password: str | None = None) -> CanaryFacts:
    """Hold, resume or abort the canary that runs; `what` is one of these words.

    Raises:
        RemoteError: The promoter refused: nobody of that id, no reason, or nothing to do it to.
        UnitError: It was decided, and an engine did not end.
    """
    promotion = here.promoter.step_canary(what, person=person, reason=reason, password=password)
    here.tell(f"it is recorded at sequence {promotion.sequence}")
    return CanaryFacts(promotion=promotion, served=settle(here))


def cut_over(here: Surroundings, *, person: str, reason: str, password: str | None = None) -> CanaryFacts:
    """Make the canary's version the one in production; the version before stays loaded for the watch.

    Raises:
        ConflictError: Keys are pinned to the version before, and there is no watch: they would have no notice.
        RemoteError: The promoter refused; it says what is missing.
        UnitError: It was decided, and an engine did not follow; run `sealift canary judge`.
    """
    before = here.promoter.canary()["canary"] or {}
    pinned = [one for one in keyrules.rules(here.state) if one.model_digest == before.get("production")]
    require_notice(before, [f"{one.key_id} of {one.department}" for one in pinned])
    promotion = here.promoter.cut_over(person=person, reason=reason, keeps_before=True, password=password)
    here.tell(f"the cut-over is recorded at sequence {promotion.sequence}")
    return CanaryFacts(promotion=promotion, served=settle(here))


def require_notice(canary: Mapping[str, Any], pinned: Sequence[str]) -> None:
    """Return when a cut-over leaves keys that are pinned to the version before their notice.

    Raises:
        ConflictError: There is no watch, so they would have none.
    """
    if pinned and not canary.get("watch_hours"):
        raise ConflictError(
            what=f"{len(pinned)} keys are pinned to the version that would be retired at once",
            why=", ".join(pinned[:10]),
            fix="start the canary with --watch-hours, which is their notice, or free them: `sealift canary free KEY`",
        )


def judge(here: Surroundings) -> dict[str, Any]:
    """Let the promoter look at what is new, follow what it decided, finish what was cut off; return the standing.

    Nothing is touched while engines and state are as decided.

    Raises:
        RemoteError: The promoter refused, or the ledger does not answer.
        UnitError: An engine did not follow.
    """
    found = here.promoter.judge_canary()
    while found["changed"] is None and _is_behind(found):
        found = here.promoter.judge_canary()
    if found["changed"] is None and here.follow is None and not _is_unfinished(here):
        return {**found, "started": [], "stopped": []}
    served = settle(here)
    return {**found, "started": list(served.started), "stopped": list(served.stopped)}


def _is_behind(found: dict[str, Any]) -> bool:
    judged = [found["canary"], found["watch"], *(one["watch"] for one in found.get("lines", ()))]
    return any(one is not None and one["verdict"]["behind"] is True for one in judged)


def _is_unfinished(here: Surroundings) -> bool:
    """Tell whether engines or state are behind what was decided; what somebody stopped by hand stays stopped."""
    production = PromoterFolder(here.config.at.promoter).production()
    decided = [
        line
        for line in production.lines.values()
        if _is_the_judges(line) and not is_anothers(here.config, here.ledger, line.last)
    ]
    if not decided:
        return False
    named = set(wanted_engines(here.config, production.loadable, production.current))
    running = {one.name for one in here.supervisor.units() if one.state is UnitState.ACTIVE and is_production(one.name)}
    return any(
        (line.last is not None and not projection.is_told(here.state, line.last.sequence))
        or (line.canary is not None and not {engine_unit(STAGE, digest) for digest in line.loadable} <= running)
        or any(is_left_by(line, unit_digest(unit), production) for unit in running - named)
        for line in decided
    )


def _is_the_judges(line: Line) -> bool:
    """Tell whether what was decided last about a line is finished by the judge's look, should it have been cut off."""
    return line.last is not None and (line.last.kind.is_rollout or line.last.person_class == BY_JUDGE)


def is_left_by(line: Line, digest12: str, production: Production) -> bool:
    """Tell whether an engine that nobody names is this line's to end: it was its own, or no other line's."""
    found = {one.number for one in production.lines.values() if _is_known(one, digest12)}
    return not found or line.number in found


def _is_known(line: Line, digest12: str) -> bool:
    last = () if line.last is None else (line.last.previous or "", line.last.about)
    return any(one.startswith(digest12) for one in (*line.versions, *last))


def _rate(here: Surroundings, version: Version, said: Said) -> float:
    """Return requests per hour over the last week, of the line that a version is for, from the newest records.

    Who asks may be an operator, who reads state and ledger and not the promoter's folder.
    """
    with here.state.connect() as session:
        line, homes, opened = line_for(session, version, said), lines.homes(session), lines.opened(session)
    found = here.ledger.find(kind=_INTENT, limit=_LOOKED_AT)
    week, now = timedelta(days=7), here.clock.now()
    asked = [(leaf, moment) for leaf in found if now - (moment := from_text(leaf.time)) <= week]
    own = [moment for leaf, moment in asked if not is_tried(leaf.body) and _is_of(leaf, line, homes)]
    if not own:
        return 0.0
    # From the oldest of them on: a site that is new, or busy, has a shorter time to look at. One of several lines is
    # as old as the record that opened it: the first request of a line that few ask may be of an hour ago.
    since = own[-1]
    if len(opened) > 1:
        since = max(min(moment for _, moment in asked), from_text(opened[line]))
    return len(own) / max((now - since).total_seconds() / 3600, 1.0)


def _is_of(leaf: Leaf, line: int, homes: Mapping[str, int]) -> bool:
    return homes.get(str(leaf.body.get("model_digest")), FIRST_LINE) == line
