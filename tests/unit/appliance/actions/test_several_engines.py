"""Several engines of the version in production, as the site file names them: the same gates, the same ways."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from appliance.actions.canary import judge
from appliance.actions.fit import fit
from appliance.actions.production import settle
from appliance.actions.rollback import rollback
from appliance.actions.stop import stop
from appliance.config import Config
from appliance.enginesections import EnginesSection, ProductionEngines
from appliance.errors import JobRefusedError
from appliance.install.engines import wanted_engines
from appliance.install.jobdesk import JobDesk
from appliance.install.sitefile import render
from appliance.install.supervisor import UnitState, engine_unit
from appliance.registry.memory import Room
from appliance.wire import Peer
from tests.support.floor import Floor, open_floor
from tests.support.signatories import signatories
from tests.support.supervisor import FakeSupervisor

pytestmark = pytest.mark.slow  # whole sites and processes, a second and more each

ANA, BEN, *_ = signatories()
THREE = ProductionEngines(count=2, standby=True)


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        name(opened, THREE)
        yield opened


def name(floor: Floor, engines: ProductionEngines) -> None:
    """Let the site file name these engines."""
    changed = {"engines": EnginesSection(production=engines)}
    floor.site.config = floor.site.config.model_copy(update=changed)


def units_of(digest: str, *which: str) -> list[str]:
    return [engine_unit("production", digest, one) for one in which]


def ask(floor: Floor, kind: str, digest12: str, **named: str) -> Mapping[str, Any]:
    """Ask the job service through the door of the switch of production."""
    desk = JobDesk(floor.site.config, floor.site.ledger, supervisor=floor.supervisor, runner=FakeSupervisor())
    peer = Peer(door="jobs-switch", pid=1, uid=os.getuid(), gid=0)
    return desk(peer, {"do": "ask", "kind": kind, "digest12": digest12, **named})


def running(floor: Floor) -> set[str]:
    return {
        one.name for one in floor.supervisor.units() if one.state is UnitState.ACTIVE and "-production@" in one.name
    }


def test_the_first_engine_answers_before_the_others_start(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)

    started = [unit for verb, unit in floor.supervisor.asked if verb == "start" and "-production@" in unit]
    assert started == units_of(descriptor.model_digest, "", "2", "standby")
    assert settle(floor.here).started == ()
    assert judge(floor.here)["started"] == [], "what the site file names is nothing to mend"


def test_a_version_that_replaces_another_has_them_too_and_the_other_none(floor: Floor) -> None:
    first, second = floor.bring("first"), floor.bring("second")
    floor.serve(first)
    floor.serve(second)
    assert running(floor) == set(units_of(second.model_digest, "", "2", "standby"))

    rollback(floor.here, person=BEN.id, reason="worse answers")
    assert running(floor) == set(units_of(first.model_digest, "", "2", "standby"))

    stopped = stop(floor.here, person=ANA.id, reason="incident").served.stopped
    assert set(stopped) == set(units_of(first.model_digest, "", "2", "standby"))
    assert running(floor) == set()


def test_one_that_is_kept_warm_keeps_its_first_engine_alone(floor: Floor) -> None:
    first, second = floor.bring("first"), floor.bring("second")
    floor.serve(first)
    floor.serve(second, keep_warm=True)

    kept = units_of(first.model_digest, "")
    assert running(floor) == {*units_of(second.model_digest, "", "2", "standby"), *kept}


def test_one_that_does_not_start_costs_nobody_anything(floor: Floor) -> None:
    descriptor = floor.bring()
    (broken,) = units_of(descriptor.model_digest, "2")
    floor.supervisor.broken = frozenset({broken})

    floor.serve(descriptor)

    assert floor.in_production() == descriptor.model_digest
    assert running(floor) == set(units_of(descriptor.model_digest, "", "standby"))
    floor.supervisor.broken = frozenset()
    assert settle(floor.here).started == (broken,)


def test_a_site_file_that_names_fewer_stops_the_rest(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    name(floor, ProductionEngines())

    assert set(settle(floor.here).stopped) == set(units_of(descriptor.model_digest, "2", "standby"))
    assert running(floor) == set(units_of(descriptor.model_digest, ""))


def test_memory_is_given_to_them_in_their_order_after_what_must_answer(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    facts = fit(floor.site.config, floor.site.ledger, floor.state, descriptor.model_digest)
    assert facts.need is not None
    one = facts.need.total

    def told(engines: float) -> dict[str, object]:
        room = Room(total=int(one * engines / 0.85) + 4096, available=0)
        found = fit(floor.site.config, floor.site.ledger, floor.state, descriptor.model_digest, room=room)
        return {**found.to_json()["further_engines"], "plan": found.plan[-1]}

    assert told(3) | {"plan": ""} == {"bytes": 2 * one, "names": ["2", "standby"], "plan": ""}
    assert told(2)["plan"] == "Memory does not hold all of them."
    name(floor, ProductionEngines(count=3, overflow="cpu", standby=True))
    second = floor.bring("second")
    beside = fit(
        floor.site.config, floor.site.ledger, floor.state, second.model_digest, room=Room(total=one * 5, available=0)
    )
    assert beside.holds == "one", "what further engines hold is not free for a canary"


def test_the_job_service_starts_what_the_site_file_names_and_keeps_the_first(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    digest12 = descriptor.model_digest[:12]
    floor.supervisor.asked.clear()

    assert ask(floor, "start-production-engine", digest12, which="2")["state"] == "done"
    with pytest.raises(JobRefusedError) as caught:
        ask(floor, "start-production-engine", digest12, which="cpu")
    assert caught.value.why == "the site file names no such engine"
    assert ask(floor, "stop-production-engine", digest12, which="2")["state"] == "done"
    with pytest.raises(JobRefusedError):
        ask(floor, "stop-production-engine", digest12)
    (further,) = units_of(descriptor.model_digest, "2")
    assert floor.supervisor.asked == [("start", further), ("stop", further)]


def test_the_job_service_starts_what_a_site_file_names_that_was_changed_after_it_began(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    began, peer = floor.site.config, Peer(door="jobs-switch", pid=1, uid=os.getuid(), gid=0)
    desk = JobDesk(
        began,
        floor.site.ledger,
        supervisor=floor.supervisor,
        runner=FakeSupervisor(),
        read=lambda: floor.site.config,
    )
    name(floor, ProductionEngines(count=3))
    asked = {"do": "ask", "kind": "start-production-engine", "digest12": descriptor.model_digest[:12]}

    assert desk(peer, {**asked, "which": "3"})["state"] == "done"
    with pytest.raises(JobRefusedError):
        desk(peer, {**asked, "which": "standby"})  # named when it began, and no more


def test_the_order_of_engines_is_that_of_their_need() -> None:
    config = Config(
        site="s", engines=EnginesSection(production=ProductionEngines(count=3, overflow="cpu", standby=True))
    )
    first, canary = "a" * 64, "b" * 64

    assert wanted_engines(config, (first, canary), first) == (
        *(engine_unit("production", one) for one in (first, canary)),
        *units_of(first, "2", "3", "cpu", "standby"),
    )
    assert wanted_engines(config, (), None) == ()
    assert wanted_engines(config, (canary,), None) == (engine_unit("production", canary),)
    assert 'production = { "count" = 3, "overflow" = "cpu", "standby" = true' in render(config)
