"""What engines and routes do while a canary comes and goes, in one process: what starts, what stops, in which order."""

from types import SimpleNamespace

import pytest

from appliance.actions import affected, canary, production, rollback, stop
from appliance.actions.fit import Holds
from appliance.actions.promote import promote
from appliance.errors import ConflictError, NotEnoughApprovalsError, UnitError
from appliance.install.supervisor import UnitState
from appliance.promote.reviews import DEPARTMENT
from media.errors import UsageError
from tests.support.floor import Floor, serving_floor
from tests.support.signatories import signatories

__all__ = ["serving_floor"]  # a fixture
pytestmark = pytest.mark.fault
ANA, BEN, *_ = signatories()


def unit(digest: str) -> str:
    return f"sealift-engine-production@{digest[:12]}.service"


def running(floor: Floor) -> set[str]:
    found = floor.supervisor.units()
    return {one.name for one in found if "production@" in one.name and one.state is UnitState.ACTIVE}


def started(floor: Floor) -> tuple[str, str]:
    """Start a canary and return the digests of production and of the canary."""
    old, new = floor.in_production(), floor.bring("new")
    assert old is not None
    floor.validate(new).require_passed()
    floor.approve(new, ANA, BEN)
    facts = canary.start(floor.here, new.model_digest)
    assert facts.to_json()["version"] == new.model_digest
    return old, new.model_digest


def test_a_canary_runs_beside_production_until_it_is_aborted(floor: Floor) -> None:
    old, new = started(floor)
    assert running(floor) == {unit(old), unit(new)}
    assert floor.in_production() == old

    facts = canary.step(floor.here, "abort", person=ANA.id, reason="no")

    assert facts.served.stopped == (unit(new),)
    assert running(floor) == {unit(old)}


def test_going_back_while_a_canary_runs_ends_it_and_leaves_production(floor: Floor) -> None:
    old, new = started(floor)

    facts = rollback.rollback(floor.here, person=BEN.id, reason="night")

    assert (facts.to_json()["canary"], facts.to_json()["was_warm"]) == (new, True)
    assert (floor.in_production(), running(floor)) == (old, {unit(old)})


def test_a_version_is_stopped_where_it_is_a_canary_and_where_it_is_production(floor: Floor) -> None:
    old, new = started(floor)

    stop.stop_version(floor.here, new, person=ANA.id, reason="x")
    assert running(floor) == {unit(old)}
    with pytest.raises(ConflictError):
        stop.stop_version(floor.here, new, person=ANA.id, reason="x")
    stop.stop_version(floor.here, old, person=ANA.id, reason="x")
    assert (floor.in_production(), running(floor)) == (None, set())


def test_a_candidate_whose_engine_does_not_start_changes_nothing_for_callers(floor: Floor) -> None:
    old, new = floor.in_production(), floor.bring("new")
    floor.validate(new).require_passed()
    floor.approve(new, ANA, BEN)
    floor.supervisor.versions.pop(unit(new.model_digest))

    with pytest.raises(UnitError):
        canary.start(floor.here, new.model_digest)

    assert floor.in_production() == old
    with floor.state.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM rollout").scalar_one() == 0
    canary.step(floor.here, "abort", person=ANA.id, reason="it does not start")
    assert running(floor) == {unit(str(old))}


def test_what_was_decided_and_cut_off_is_finished_by_the_judges_next_look(floor: Floor) -> None:
    old, new = started(floor)
    floor.site.client.step_canary("abort", person=ANA.id, reason="and then the power failed")
    assert running(floor) == {unit(old), unit(new)}

    found = canary.judge(floor.here)

    assert (found["stopped"], running(floor)) == ([unit(new)], {unit(old)})
    floor.supervisor.stop(unit(old))  # by hand, for maintenance
    assert canary.judge(floor.here)["started"] == []


def test_the_version_before_stays_for_the_watch_and_then_goes(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = started(floor)
    floor.site.clock.advance(48 * 3600)
    with pytest.raises(NotEnoughApprovalsError):
        canary.cut_over(floor.here, person=ANA.id, reason="quiet")
    asked = promote(floor.here, new, person=ANA.id, meaning="quiet, and still").request
    assert asked is not None
    floor.site.approve(asked, ANA, BEN)
    with pytest.raises(ConflictError, match="canary runs"):
        promote(floor.here, new, person="")
    canary.cut_over(floor.here, person=ANA.id, reason="quiet")
    assert (floor.in_production(), running(floor)) == (new, {unit(old), unit(new)})
    monkeypatch.setattr(affected, "ledger_may_exist", lambda _: True)  # this site's is in memory
    found = affected.affected(floor.site.config, floor.site.ledger, affected.Doubt(keys=frozenset("x"), since=None))
    assert {one["model_digest"] for each in found for one in each.versions if one["in_production"]} == {new}

    floor.site.clock.advance(48 * 3600)
    assert canary.judge(floor.here)["stopped"] == [unit(old)]


def test_where_memory_holds_one_the_engine_before_stops_first_and_no_canary_runs(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = SimpleNamespace(holds=Holds.ONE)
    monkeypatch.setattr(production, "fit", lambda *_, **__: one)
    monkeypatch.setattr(canary, "fit", lambda *_, **__: one)
    old, new = str(floor.in_production()), floor.bring("new")
    floor.validate(new).require_passed()
    floor.approve(new, ANA, BEN)
    with pytest.raises(ConflictError, match="memory"):
        canary.start(floor.here, new.model_digest)
    asked = len(floor.supervisor.asked)

    promote(floor.here, new.model_digest, person="")

    assert floor.supervisor.asked[asked:] == [("stop", unit(old)), ("start", unit(new.model_digest))]


def test_an_engine_is_left_only_when_what_it_began_is_answered(floor: Floor) -> None:
    old, new = started(floor)
    waits: list[float] = []
    body = {"request_id": "req_slow", "model_digest": new, "arm": "canary"}
    floor.site.ledger.append("request.intent", body)

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        assert unit(new) in running(floor)
        if len(waits) == 3:
            floor.site.ledger.append("request.outcome", {"request_id": "req_slow", "outcome": "ok"})

    here = floor.here
    object.__setattr__(here, "sleep", sleep)
    canary.step(here, "abort", person=ANA.id, reason="no")

    assert (len(waits), running(floor)) == (3, {unit(old)})


def test_a_caller_that_nobody_knows_is_not_stopped(floor: Floor) -> None:
    with pytest.raises(UsageError):
        stop.stop_caller(floor.here, what=DEPARTMENT, name="nowhere", person=ANA.id, reason="x")


def test_the_outlook_says_beforehand_whether_the_requests_will_be_enough(floor: Floor) -> None:
    new = floor.bring("new")
    assert "too few to judge by" in canary.outlook(floor.here, new.model_digest).text
    for number in range(100):
        floor.site.ledger.append("request.intent", {"request_id": f"req_{number}", "model_digest": "x"})
    floor.site.clock.advance(600)

    found = canary.outlook(floor.here, new.model_digest, percent=20)

    assert (found.expected, found.is_enough) == (960, True)
