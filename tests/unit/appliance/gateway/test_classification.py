"""The documents' router (A15), and what an air gap makes of it."""

import pytest

from appliance.gateway.classification import DataClass, Route, decide, route_llm_request


@pytest.mark.parametrize("data_class", [DataClass.PII, DataClass.PHI, DataClass.CONFIDENTIAL, DataClass.SECRET])
@pytest.mark.parametrize("urgency", ["production", "development"])
def test_sensitive_data_is_answered_here_whatever_else(data_class: DataClass, urgency: str) -> None:
    assert route_llm_request(data_class, urgency) is Route.SELF_HOSTED


@pytest.mark.parametrize(
    ("data_class", "urgency", "volume", "expected"),
    [
        (DataClass.PUBLIC, "production", 1_000_001, Route.SELF_HOSTED),
        (DataClass.PUBLIC, "production", 10, Route.SELF_HOSTED),
        (DataClass.PUBLIC, "development", 10, Route.CLOUD),
        (DataClass.UNKNOWN, "development", 10, Route.SELF_HOSTED),
    ],
)
def test_the_rules_decide_the_rest(data_class: DataClass, urgency: str, volume: int, expected: Route) -> None:
    assert route_llm_request(data_class, urgency, estimated_volume=volume) is expected


def test_the_one_answer_that_would_leave_is_overridden_and_says_so() -> None:
    decision = decide("PUBLIC", has_phi=False, urgency="development")

    assert (decision.route, decision.overridden) == (Route.SELF_HOSTED, True)


@pytest.mark.parametrize(("label", "expected"), [("", "UNKNOWN"), (" phi ", "PHI"), ("TOP SECRET", "UNKNOWN")])
def test_a_label_that_is_not_known_is_the_most_restrictive(label: str, expected: str) -> None:
    assert decide(label, has_phi=False).data_class == expected


def test_a_finding_outweighs_a_label() -> None:
    assert decide("PUBLIC", has_phi=True).data_class is DataClass.PHI
