"""The decision router of requirement A15: where a request of a class may be answered. Here that is always this box.

The rules are the documents'; on an air-gapped appliance there is no external leg, so their one `cloud_api` answer is
overridden and the record says so. An unknown class is treated as the most restrictive one.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

VOLUME_FOR_OWN_HARDWARE: Final = 1_000_000


class Route(StrEnum):
    """Where the rules would send a request."""

    SELF_HOSTED = "self_hosted_llm"
    CLOUD = "cloud_api"


class DataClass(StrEnum):
    """Labels of data; UNKNOWN is what nobody labelled."""

    PHI = "PHI"
    PII = "PII"
    CONFIDENTIAL = "CONFIDENTIAL"
    SECRET = "SECRET"  # noqa: S105 - a label
    PUBLIC = "PUBLIC"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided: the class, where it is answered, and whether a rule was overridden for that."""

    data_class: DataClass
    route: Route
    overridden: bool


def route_llm_request(data_class: DataClass, urgency: str, *, estimated_volume: int = 0) -> Route:
    """Return where the documents' rules send a request."""
    if data_class in {DataClass.PII, DataClass.PHI, DataClass.CONFIDENTIAL, DataClass.SECRET}:
        return Route.SELF_HOSTED
    if urgency == "production" and estimated_volume > VOLUME_FOR_OWN_HARDWARE:
        return Route.SELF_HOSTED
    if data_class is DataClass.PUBLIC and urgency == "development":
        return Route.CLOUD
    return Route.SELF_HOSTED


def decide(untrusted_label: str, *, has_phi: bool, urgency: str = "production") -> Decision:
    """Classify a request by its label and by what was found in it; a finding outweighs every label."""
    label = untrusted_label.strip().upper()
    data_class = DataClass(label) if label in DataClass.__members__ else DataClass.UNKNOWN
    if has_phi:
        data_class = DataClass.PHI
    wanted = route_llm_request(data_class, urgency)
    return Decision(data_class=data_class, route=Route.SELF_HOSTED, overridden=wanted is not Route.SELF_HOSTED)
