"""A cut-over in a maintenance window: what is said before, what stops and starts, and what a failure leaves."""

from typing import Any

import pytest

from appliance.actions import canary, teststage, window, window_plan
from appliance.actions.promote import promote
from appliance.errors import ConflictError, EngineLoadError, NotEnoughApprovalsError, UnitError, UnknownPersonError
from appliance.registry import windows
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.memory import Room
from appliance.registry.windows import Asked, Purpose
from media.errors import MalformedError, UsageError
from tests.support.floor import Floor, approved, serving_floor
from tests.support.scripted_http import Reply
from tests.support.signatories import signatories

__all__ = ["approved", "serving_floor"]  # fixtures
pytestmark = pytest.mark.fault
ANA, BEN, *_ = signatories()


def unit(digest: str, stage: str = "production") -> str:
    return f"sealift-engine-{stage}@{digest[:12]}.service"


def asked_for(digest: str, *, person: str, reason: str) -> Asked:
    return Asked(purpose=Purpose.CUT_OVER, model_digest=digest, person=person, reason=reason)


def asked(floor: Floor, since: int) -> list[tuple[str, str]]:
    return list(floor.supervisor.asked[since:])


def test_it_stops_production_tests_cuts_over_and_is_watched(floor: Floor, new: ModelDescriptor) -> None:
    old, since = str(floor.in_production()), len(floor.supervisor.asked)
    planned = window_plan.plan(floor.here, new.model_digest)
    assert planned.to_json()["return_seconds"] is not None
    assert "going back later: 0.0 s when it was last measured here" in planned.lines[-1]

    facts = window.cut_over(floor.here, asked_for(new.model_digest, person=ANA.id, reason="the night of the change"))

    assert asked(floor, since) == [
        ("rest", unit(old)),
        ("start", unit(new.model_digest, "test")),
        ("stop", unit(new.model_digest, "test")),
        ("stop", unit(old)),
        ("start", unit(new.model_digest)),
    ]
    assert (floor.in_production(), floor.running()) == (new.model_digest, {unit(new.model_digest)})
    told = facts.to_json()
    assert (told["previous"], told["watch_hours"]) == (old, 48)
    assert 0 <= told["tested_seconds"] <= told["silent_seconds"]
    watch = canary.judge(floor.here)["watch"]
    assert (watch["version"], watch["before"], watch["loaded"]) == (new.model_digest, old, False)
    (closed,) = floor.site.ledger.find(kind=windows.CLOSED)
    assert (closed.body["cut_over"], closed.body["person"], closed.body["previous"]) == (True, ANA.id, old)


def test_nothing_stops_without_approvals_a_person_a_reason_or_beside_a_canary(floor: Floor) -> None:
    old, brought, here = str(floor.in_production()), floor.bring("new"), floor.here
    floor.validate(brought).require_passed()
    since = len(floor.supervisor.asked)
    with pytest.raises(NotEnoughApprovalsError) as none:
        window.cut_over(here, asked_for(brought.model_digest, person=ANA.id, reason="x"))
    floor.approve(brought, ANA)
    with pytest.raises(NotEnoughApprovalsError) as one:
        window.cut_over(here, asked_for(brought.model_digest, person=ANA.id, reason="x"))
    assert (none.value.why, one.value.why) == ("0 of 2 have approved", "1 of 2 have approved")
    floor.site.approve(here.promoter.pending()[0], BEN)
    with pytest.raises(UnknownPersonError):
        window.cut_over(here, asked_for(brought.model_digest, person="nobody", reason="x"))
    with pytest.raises(MalformedError):
        window.cut_over(here, asked_for(brought.model_digest, person=ANA.id, reason=" "))
    with pytest.raises(UsageError):
        window.cut_over(here, asked_for(old, person=ANA.id, reason="x"))
    assert (asked(floor, since), floor.running()) == ([], {unit(old)})
    canary.start(floor.here, brought.model_digest)
    with pytest.raises(ConflictError, match="canary runs"):
        window.cut_over(floor.here, asked_for(brought.model_digest, person=ANA.id, reason="x"))


def test_a_candidate_that_does_not_start_in_the_test_stage_never_goes_forward(
    floor: Floor, new: ModelDescriptor
) -> None:
    old = str(floor.in_production())
    floor.supervisor.versions.pop(unit(new.model_digest, "test"))

    with pytest.raises(EngineLoadError, match="ended with the version before"):
        window.cut_over(floor.here, asked_for(new.model_digest, person=ANA.id, reason="the night of the change"))

    assert (floor.in_production(), floor.running()) == (old, {unit(old)})
    assert floor.here.promoter.current()["model_digest"] == old
    (closed,) = floor.site.ledger.find(kind=windows.CLOSED)
    assert closed.body["cut_over"] is False
    assert floor.site.client.reviews() == ()


@pytest.mark.parametrize("said", [{}, {"choices": []}, {"choices": [{"message": {"content": " "}}]}])
def test_one_that_answers_nothing_in_the_test_stage_never_goes_forward(
    floor: Floor, new: ModelDescriptor, said: dict[str, Any]
) -> None:
    old = str(floor.in_production())
    floor.supervisor.versions[unit(new.model_digest, "test")]["/v1/chat/completions"] = Reply(body=said)

    with pytest.raises(EngineLoadError, match="ended with the version before"):
        window.cut_over(floor.here, asked_for(new.model_digest, person=ANA.id, reason="x"))

    assert (floor.in_production(), floor.running()) == (old, {unit(old)})


def test_whoever_breaks_it_off_leaves_the_version_before(floor: Floor, new: ModelDescriptor) -> None:
    old, here = str(floor.in_production()), floor.here

    def interrupted(text: str) -> None:
        if text.startswith("starting version"):
            raise KeyboardInterrupt

    object.__setattr__(here, "tell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        window.cut_over(here, asked_for(new.model_digest, person=ANA.id, reason="x"))

    assert (floor.in_production(), floor.running()) == (old, {unit(old)})


def test_one_that_was_brought_forward_and_does_not_serve_is_gone_back_from_in_that_persons_name(
    floor: Floor, new: ModelDescriptor
) -> None:
    old = str(floor.in_production())
    floor.supervisor.versions.pop(unit(new.model_digest))

    with pytest.raises(EngineLoadError, match="ended with the version before"):
        window.cut_over(floor.here, asked_for(new.model_digest, person=BEN.id, reason="the night of the change"))

    assert (floor.in_production(), floor.running()) == (old, {unit(old)})
    last = floor.here.promoter.current()["last"]
    assert (last["kind"], last["person"]) == ("rolled-back", BEN.id)
    assert "the night of the change" in last["reason"]
    assert [one["what"] for one in floor.site.client.reviews()] == ["went back"]


def test_a_window_that_was_cut_off_is_ended_by_promoting_what_is_in_production(
    floor: Floor, new: ModelDescriptor
) -> None:
    old = str(floor.in_production())
    floor.supervisor.stop(unit(old))  # the power failed after that

    promote(floor.here, "production", person="")
    assert (floor.in_production(), floor.running()) == (old, {unit(old)})
    floor.supervisor.stop(unit(old))
    window.cut_over(floor.here, asked_for(new.model_digest, person=ANA.id, reason="once more"))
    assert (floor.in_production(), floor.running()) == (new.model_digest, {unit(new.model_digest)})


def test_what_developers_have_in_the_test_stage_is_not_stopped_under_them(floor: Floor, new: ModelDescriptor) -> None:
    teststage.load(floor.bench, new.model_digest, person=ANA.id, memory=Room(total=2**40, available=2**40))
    since = len(floor.supervisor.asked)

    with pytest.raises(ConflictError, match="is in use in the test stage"):
        window.cut_over(floor.here, asked_for(new.model_digest, person=ANA.id, reason="x"))

    assert asked(floor, since) == []


def test_where_going_back_is_refused_something_serves_all_the_same(floor: Floor, new: ModelDescriptor) -> None:
    here = floor.here

    def interrupted(text: str) -> None:
        if text.startswith("promotion "):
            raise KeyboardInterrupt

    object.__setattr__(here, "tell", interrupted)
    with pytest.raises(UnknownPersonError):
        window.cut_over(here, asked_for(new.model_digest, person=ANA.id, reason="x"), password="not hers")

    assert (floor.in_production(), floor.running()) == (new.model_digest, {unit(new.model_digest)})


def test_where_the_version_before_does_not_start_either_that_is_said(floor: Floor, new: ModelDescriptor) -> None:
    old = str(floor.in_production())
    floor.supervisor.versions.pop(unit(new.model_digest, "test"))
    floor.supervisor.versions.pop(unit(old))

    with pytest.raises(UnitError):
        window.cut_over(floor.here, asked_for(new.model_digest, person=ANA.id, reason="a bad night"))
