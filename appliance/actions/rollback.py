"""Go back to a version that was in production before: one person, one reason, at any hour.

While a canary runs, going back means ending it: production is the version before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appliance.actions.production import Served, Surroundings, settle
from appliance.promote.record import Promotion
from appliance.registry import catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackFacts:
    """What was gone back to, and how fast."""

    promotion: Promotion
    served: Served

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "model_digest": self.promotion.model_digest,
            "canary": None if self.promotion.terms is None else self.promotion.terms.version,
            "previous": self.promotion.previous,
            "person": self.promotion.person,
            "class": self.promotion.person_class,
            "sequence": self.promotion.sequence,
            "seconds": round(self.served.seconds, 3),
            "was_warm": not self.served.started,
            "stopped": list(self.served.stopped),
        }


def rollback(
    here: Surroundings, *, person: str, reason: str, to: str = "", line: str = "", password: str | None = None
) -> RollbackFacts:
    """Go back and serve.

    Args:
        here: What the action works with.
        person: Who decides, by id.
        reason: Why, for the record.
        to: The version to go back to; the one before when empty.
        line: The name of the model whose line goes back; needed where production has several and `to` is empty.
        password: Proves the person where the command line's word is not enough.

    Raises:
        UnknownVersionError: `to` names no version.
        RemoteError: The promoter refused: nobody of that id, no reason, nothing to go back to, or it is not said in
            which line.
        UnitError: It was decided, and the engine did not start.
    """
    target = ""
    if to:
        with here.state.connect() as session:
            target = catalog.version(session, to).model_digest
    if not target and here.promoter.canary()["canary"] is not None and ends_canary(here.promoter.current(), line):
        promotion = here.promoter.step_canary("abort", person=person, reason=reason, password=password)
        here.tell(f"the canary's end is recorded at sequence {promotion.sequence}")
        return RollbackFacts(promotion=promotion, served=settle(here))
    promotion = here.promoter.rollback(person=person, reason=reason, model_digest=target, line=line, password=password)
    here.tell(f"going back is recorded at sequence {promotion.sequence}")
    return RollbackFacts(promotion=promotion, served=settle(here))


def ends_canary(current: Mapping[str, Any], name: str) -> bool:
    """Tell whether going back in the line of this name ends the canary that runs; it does where none is named.

    Args:
        current: What the promoter answers to `current`.
        name: Of the model whose line goes back; may be empty.
    """
    return not name or any(one["name"] == name and one["canary"] for one in current["lines"])
