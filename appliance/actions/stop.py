"""Take production out of service: one person, one reason, at any hour. Bringing it back takes two."""

from dataclasses import dataclass
from typing import Any

from appliance.actions.production import Served, Surroundings, settle
from appliance.promote.record import Promotion


@dataclass(frozen=True, slots=True, kw_only=True)
class StopFacts:
    """What was stopped."""

    promotion: Promotion
    served: Served

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "previous": self.promotion.previous,
            "person": self.promotion.person,
            "class": self.promotion.person_class,
            "sequence": self.promotion.sequence,
            "stopped": list(self.served.stopped),
        }


def stop(here: Surroundings, *, person: str, reason: str, password: str | None = None) -> StopFacts:
    """Record the stop, take the route away, then end the engines.

    Raises:
        RemoteError: The promoter refused: nobody of that id, no reason, or nothing in production.
        UnitError: It was decided, and an engine did not end.
    """
    promotion = here.promoter.stop(person=person, reason=reason, password=password)
    here.tell(f"the stop is recorded at sequence {promotion.sequence}")
    return StopFacts(promotion=promotion, served=settle(here))
