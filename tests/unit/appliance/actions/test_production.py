"""From the promoter's decision to what callers reach."""

from collections.abc import Iterator

import pytest

from appliance.actions.history import history
from appliance.actions.production import settle
from appliance.actions.promote import Step, promote, waiting
from appliance.actions.rollback import rollback
from appliance.actions.stop import stop
from appliance.actions.versions import list_versions, show
from appliance.errors import (
    ApprovalRefusedError,
    ConflictError,
    EngineLoadError,
    GateFailedError,
    NotPromotedError,
    UnitError,
    UnknownVersionError,
)
from appliance.gateway.routing import StateRoutes
from appliance.install.supervisor import UnitState, engine_unit
from appliance.promote.policy import packaged
from appliance.promote.promoter import Request
from appliance.promote.validated import require_validated
from appliance.registry.descriptor import ModelDescriptor
from media.errors import UsageError
from tests.support.floor import Floor, open_floor
from tests.support.scripted_http import Reply
from tests.support.signatories import signatories

pytestmark = pytest.mark.slow

ANA, BEN, *_ = signatories()
LOWER = " (lower class: is an admin too)"


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


def unit_of(digest: str) -> str:
    return engine_unit("production", digest)


def test_the_same_command_asks_waits_and_serves(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.validate(descriptor)
    name = descriptor.model_digest[:12]

    asked = promote(floor.here, name, person=ANA.id, meaning="better answers")
    assert asked.request is not None
    assert (asked.step, asked.request.statement.meaning, asked.needed) == (Step.REQUESTED, "better answers", 2)
    assert promote(floor.here, name, person="").step is Step.WAITING
    floor.site.approve(asked.request, ANA)
    assert promote(floor.here, name, person="").approved_by == (f"Ana Petrova{LOWER}",)
    floor.site.approve(asked.request, BEN)
    served = promote(floor.here, name, person="")

    assert (served.step, served.promotion is not None) == (Step.SERVING, True)
    assert floor.in_production() == descriptor.model_digest
    assert floor.supervisor.state(unit_of(descriptor.model_digest)) is UnitState.ACTIVE
    again = promote(floor.here, name, person="")
    assert (again.step, again.promotion) == (Step.SERVING, None)
    assert again.to_json()["step"] == "serving"


def asked_for(floor: Floor, descriptor: ModelDescriptor, meaning: str) -> Request:
    """What waits after somebody asked by another door, as a script does, a minute later."""
    floor.site.clock.advance(60)
    validated = require_validated(floor.site.ledger, descriptor.model_digest, packaged())
    return floor.here.promoter.request(validated, meaning=meaning, requested_by=BEN.id)


def test_what_two_people_approved_is_promoted_though_the_same_is_asked_for_once_more(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.validate(descriptor)
    approved = asked_for(floor, descriptor, "better answers")
    floor.site.approve(approved, ANA)
    later = asked_for(floor, descriptor, "asked by a script")

    found = waiting(floor.here, descriptor.model_digest)
    floor.site.approve(approved, BEN)
    served = promote(floor.here, descriptor.model_digest, person="")

    assert (found and found.statement) == approved.statement
    assert (served.step, served.request and served.request.statement) == (Step.SERVING, approved.statement)
    assert later.statement.sha256 != approved.statement.sha256


def test_what_was_approved_before_a_newer_validation_keeps_nothing_back(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.validate(descriptor)
    outdated = asked_for(floor, descriptor, "better answers")
    floor.site.approve(outdated, ANA)
    floor.site.clock.advance(60)
    floor.validate(descriptor)
    newest = asked_for(floor, descriptor, "better answers")

    found = waiting(floor.here, descriptor.model_digest)

    assert newest.statement.evidence_digest != outdated.statement.evidence_digest
    assert found is not None
    assert found.statement == newest.statement


def test_a_newer_validation_has_the_same_command_ask_anew(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.validate(descriptor)
    old = asked_for(floor, descriptor, "better answers")
    floor.site.approve(old, ANA)
    floor.site.clock.advance(60)
    floor.validate(descriptor)

    assert floor.here.promoter.pending() == (), "nobody is asked for what cannot be promoted"
    with pytest.raises(ApprovalRefusedError, match="cannot be approved"):
        floor.site.approve(old, BEN)
    anew = promote(floor.here, descriptor.model_digest, person=ANA.id)
    assert (anew.step, anew.approved_by) == (Step.REQUESTED, ())
    assert anew.request is not None
    floor.site.approve(anew.request, ANA, BEN)
    assert promote(floor.here, descriptor.model_digest, person="").step is Step.SERVING


def test_nobody_asks_without_a_name(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.validate(descriptor)

    with pytest.raises(UsageError):
        promote(floor.here, descriptor.model_digest, person="")


def test_a_version_that_did_not_pass_is_not_asked_for(floor: Floor) -> None:
    descriptor = floor.bring(wrong=True)
    with pytest.raises(GateFailedError):
        promote(floor.here, descriptor.model_digest, person=ANA.id)
    floor.validate(descriptor)
    with pytest.raises(GateFailedError):
        promote(floor.here, descriptor.model_digest, person=ANA.id)
    with pytest.raises(UnknownVersionError):
        promote(floor.here, "elsewhere", person=ANA.id)


def test_the_version_before_is_stopped_only_when_the_new_one_answers(floor: Floor) -> None:
    first, second = floor.bring("first"), floor.bring("second")
    floor.serve(first)
    floor.supervisor.asked.clear()

    floor.serve(second)

    assert floor.supervisor.asked[-2:] == [
        ("start", unit_of(second.model_digest)),
        ("stop", unit_of(first.model_digest)),
    ]
    assert floor.in_production() == second.model_digest


def test_when_the_new_engine_does_not_start_callers_stay_where_they_are(floor: Floor) -> None:
    first, second = floor.bring("first"), floor.bring("second")
    floor.serve(first)
    floor.supervisor.broken = frozenset({unit_of(second.model_digest)})

    with pytest.raises(UnitError):
        floor.serve(second)

    assert floor.in_production() == first.model_digest
    assert floor.supervisor.state(unit_of(first.model_digest)) is UnitState.ACTIVE
    back = rollback(floor.here, person=ANA.id, reason="the new engine does not start")
    assert (back.promotion.model_digest, back.served.started) == (first.model_digest, ())
    assert floor.in_production() == first.model_digest


def test_callers_stay_there_too_when_another_command_brings_the_state_up(floor: Floor) -> None:
    first, second = floor.bring("first"), floor.bring("second")
    floor.serve(first)
    socket = floor.site.config.at.socket(f"engine-production-{first.model_digest[:12]}")
    socket.parent.mkdir(parents=True, exist_ok=True)
    socket.touch()
    floor.supervisor.broken = frozenset({unit_of(second.model_digest)})
    with pytest.raises(UnitError):
        floor.serve(second)

    floor.validate(first)

    routes = StateRoutes(floor.site.config.at, floor.site.clock)
    assert [one.model_digest for one in routes.lines().routes] == [first.model_digest]
    floor.supervisor.broken = frozenset()
    promote(floor.here, second.model_digest, person="")
    floor.site.clock.advance(2)
    assert [one.model_digest for one in routes.lines().routes] == [second.model_digest]


@pytest.mark.parametrize("goes_back", [True, False])
def test_what_is_decided_while_an_engine_loads_is_what_callers_are_told(
    floor: Floor, monkeypatch: pytest.MonkeyPatch, *, goes_back: bool
) -> None:
    old, new = floor.bring("old"), floor.bring("new")
    floor.serve(old)
    floor.validate(new)
    floor.approve(new, ANA, BEN)
    start, client = floor.supervisor.start, floor.site.client

    def loads(unit: str) -> None:
        start(unit)
        if unit == unit_of(new.model_digest):
            (client.rollback if goes_back else client.stop)(person=ANA.id, reason="the wrong one")

    monkeypatch.setattr(floor.supervisor, "start", loads)
    served = promote(floor.here, new.model_digest, person="").served

    routes = StateRoutes(floor.site.config.at, floor.site.clock).lines().routes
    assert [one.model_digest for one in routes] == ([old.model_digest] if goes_back else [])
    assert floor.running() == ({unit_of(old.model_digest)} if goes_back else set())
    assert served is not None
    assert unit_of(new.model_digest) in served.started


def test_a_promotion_cut_off_before_the_engine_is_finished_by_the_same_command(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.supervisor.broken = frozenset({unit_of(descriptor.model_digest)})
    with pytest.raises(UnitError):
        floor.serve(descriptor)
    assert floor.in_production() is None

    floor.supervisor.broken = frozenset()
    served = promote(floor.here, descriptor.model_digest, person="")

    assert (served.step, served.promotion) == (Step.SERVING, None)
    assert floor.in_production() == descriptor.model_digest


def test_an_engine_with_other_weights_is_never_routed_to(floor: Floor) -> None:
    descriptor = floor.bring()
    answer = floor.supervisor.versions[unit_of(descriptor.model_digest)]["/sealift/v1/status"]
    assert isinstance(answer, Reply)
    answer.body["weights_digest"] = "f" * 64

    with pytest.raises(EngineLoadError):
        floor.serve(descriptor)
    assert floor.in_production() is None


def test_promotions_that_were_tampered_with_start_nothing(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    floor.supervisor.stop(unit_of(descriptor.model_digest))
    (floor.site.config.at.promoter / "people.json").unlink()
    floor.supervisor.asked.clear()

    with pytest.raises(NotPromotedError):
        settle(floor.here)
    assert floor.supervisor.asked == []


def test_going_back_serves_the_version_before(floor: Floor) -> None:
    first, second = floor.bring("first"), floor.bring("second")
    floor.serve(first)
    floor.serve(second)

    facts = rollback(floor.here, person=BEN.id, reason="worse answers", to=first.model_digest[:10])

    assert facts.to_json()["model_digest"] == first.model_digest
    assert (facts.served.started, facts.served.stopped) == (
        (unit_of(first.model_digest),),
        (unit_of(second.model_digest),),
    )
    assert floor.in_production() == first.model_digest


def test_going_back_to_a_warm_version_starts_nothing(floor: Floor) -> None:
    first, second = floor.bring("first"), floor.bring("second")
    floor.serve(first)
    floor.serve(second, keep_warm=True)
    assert floor.supervisor.state(unit_of(first.model_digest)) is UnitState.ACTIVE

    facts = rollback(floor.here, person=BEN.id, reason="worse answers")

    assert facts.to_json()["was_warm"] is True
    assert floor.in_production() == first.model_digest


def test_a_stop_takes_the_route_away_and_ends_every_engine(floor: Floor) -> None:
    first, second = floor.bring("first"), floor.bring("second")
    floor.serve(first)
    floor.serve(second, keep_warm=True)

    facts = stop(floor.here, person=ANA.id, reason="incident")

    assert set(facts.to_json()["stopped"]) == {unit_of(first.model_digest), unit_of(second.model_digest)}
    assert floor.in_production() is None


def test_a_stop_that_was_cut_off_is_carried_out_by_the_same_command(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    floor.site.client.stop(person=ANA.id, reason="incident")
    routes = StateRoutes(floor.site.config.at, floor.site.clock)
    assert len(routes.lines().routes) == 1, "nobody brought the state up to it yet"

    with pytest.raises(ConflictError):
        stop(floor.here, person=ANA.id, reason="incident")

    floor.site.clock.advance(2)
    assert (routes.lines().routes, floor.running()) == ((), set())


def test_the_test_engine_of_another_is_left_alone(floor: Floor) -> None:
    descriptor = floor.bring()
    test_unit = engine_unit("test", descriptor.model_digest)
    floor.serve(descriptor)
    floor.supervisor.start(test_unit)

    stop(floor.here, person=ANA.id, reason="incident")

    assert floor.supervisor.state(test_unit) is UnitState.ACTIVE


def test_versions_are_listed_with_their_stage_and_gates(floor: Floor) -> None:
    served, failed = floor.bring("first"), floor.bring("second", wrong=True)
    fresh = floor.bring("third")
    floor.serve(served)
    floor.validate(failed)

    stages = {one.version.model_digest: one.stage for one in list_versions(floor.state)}

    assert stages == {
        served.model_digest: "production",
        failed.model_digest: "failed",
        fresh.model_digest: "registered",
    }
    shown = show(floor.state, served.model_digest[:8]).to_json()
    assert [gate["gate"] for gate in shown["gates"]] == list(packaged().gates)


def test_history_tells_who_did_what_in_order(floor: Floor) -> None:
    first, second = floor.bring("first"), floor.bring("second")
    floor.serve(first)
    floor.serve(second)
    rollback(floor.here, person=BEN.id, reason="worse answers")
    stop(floor.here, person=ANA.id, reason="incident")

    events = history(floor.site.ledger)

    assert [one.what for one in events] == [
        *["requested", "approved", "approved", "made"] * 2,
        "rolled back",
        "stopped",
    ]
    assert events[3].people == (f"Ana Petrova{LOWER}", f"Ben Okafor{LOWER}")
    assert (events[-2].people, events[-2].reason, events[-1].model_digest) == (("ben-okafor",), "worse answers", None)
