"""Stop production, one version, a key or a department: one person, one reason, at any hour. The way back takes two.

Nothing that served before is needed: callers get a clear 503.
"""

from dataclasses import dataclass
from typing import Any

from appliance.actions import keys
from appliance.actions.following import are_several
from appliance.actions.production import Served, Surroundings, settle
from appliance.errors import ConflictError
from appliance.promote.record import Promotion
from appliance.promote.reviews import KEY
from appliance.registry import catalog
from appliance.state import projection
from media.errors import SealiftError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class StopFacts:
    """What was stopped; `every_line` says that it was all of several lines."""

    promotion: Promotion
    served: Served
    every_line: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "previous": self.promotion.previous,
            "person": self.promotion.person,
            "class": self.promotion.person_class,
            "sequence": self.promotion.sequence,
            "stopped": list(self.served.stopped),
        }


def stop(here: Surroundings, *, person: str, reason: str, line: str = "", password: str | None = None) -> StopFacts:
    """Record the stop, take the route away, then end the engines: of every line, or of one model's.

    Where it was stopped already, what is left of that is carried out: the command may have been cut off before.

    Raises:
        RemoteError: The promoter refused: nobody of that id, no reason, or nothing in production.
        UnitError: It was decided, and an engine did not end.
    """
    try:
        promotion = here.promoter.stop(person=person, reason=reason, line=line, password=password)
    except SealiftError as error:
        if error.to_json()["code"] == ConflictError.code and here.promoter.current()["withdrawn"]:
            here.tell("it was stopped before; what is left of that is carried out now")
            settle(here)
        raise
    here.tell(f"the stop is recorded at sequence {promotion.sequence}")
    every = promotion.stops_all and are_several(here.promoter.current())
    return StopFacts(promotion=promotion, served=settle(here), every_line=every)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerFacts:
    """A key or a department that was stopped, or is answered again."""

    what: str
    name: str
    sequence: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {"what": self.what, "name": self.name, "sequence": self.sequence}


def stop_version(here: Surroundings, which: str, *, person: str, reason: str, password: str | None = None) -> StopFacts:
    """Stop one version: its line where it is in production, a canary where it is one; nothing where it serves nowhere.

    Raises:
        UnknownVersionError: There is no such version.
        ConflictError: It serves nowhere.
        RemoteError, UnitError: As `stop`.
    """
    line = where_served(here, which)
    if line is not None:
        return stop(here, person=person, reason=reason, line=line, password=password)
    promotion = here.promoter.step_canary("abort", person=person, reason=reason, password=password)
    here.tell(f"the canary's end is recorded at sequence {promotion.sequence}")
    return StopFacts(promotion=promotion, served=settle(here))


def where_served(here: Surroundings, which: str) -> str | None:
    """Return the name of the line that has a version in production; None where it is the canary that runs.

    Raises:
        UnknownVersionError: There is no such version.
        ConflictError: It serves nowhere.
    """
    with here.state.connect() as session:
        digest = catalog.version(session, which).model_digest
    for one in here.promoter.current()["lines"]:
        if one["model_digest"] == digest:
            return str(one["name"])
    if (here.promoter.canary()["canary"] or {}).get("version") != digest:
        raise ConflictError(
            what=f"version {digest[:12]} serves nowhere",
            why="it is neither in production nor a canary",
            fix="see `sealift canary status`",
        )
    return None


def stop_caller(
    here: Surroundings, *, what: str, name: str, person: str, reason: str, password: str | None = None
) -> CallerFacts:
    """Answer a key or a department no more; gateways see it within a second.

    Raises:
        UsageError: There is no such key, or no key of such a department.
        RemoteError: The promoter refused: nobody of that id, no reason, or stopped already.
    """
    require_known(here, what, name)
    done = here.promoter.stop_caller(what=what, name=name, person=person, reason=reason, password=password)
    projection.catch_up(here.state, here.ledger)
    return CallerFacts(what=what, name=name, sequence=done)


def free_caller(
    here: Surroundings, *, what: str, name: str, person: str, reason: str, password: str | None = None
) -> CallerFacts:
    """Answer a stopped key or department again; takes another person than the one who stopped it.

    Raises:
        RemoteError: The promoter refused: nobody of that id, the same person, or nothing that is stopped.
    """
    done = here.promoter.free_caller(what=what, name=name, person=person, reason=reason, password=password)
    projection.catch_up(here.state, here.ledger)
    return CallerFacts(what=what, name=name, sequence=done)


def require_known(here: Surroundings, what: str, name: str) -> None:
    """Return when a key, or a key of a department, was ever made.

    Raises:
        UsageError: There is none.
    """
    known = {facts.key_id if what == KEY else facts.department for facts in keys.list_keys(here.state)}
    if name not in known:
        raise UsageError(
            what=f"there is no {what} {name[:40]}", why="no such key was made", fix="see `sealift keys list`"
        )
