"""What was decided by way of another node is carried out here: once it is told, once only; never for a single node."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.actions import canary, nodes
from appliance.actions.elsewhere import AGAIN, follow
from appliance.actions.production import Surroundings
from appliance.config import DatabaseSection
from appliance.errors import UnitError
from appliance.install.supervisor import engine_unit
from appliance.registry.descriptor import ModelDescriptor
from appliance.store.content import ContentStore
from tests.support.floor import Floor, open_floor
from tests.support.ledger import tell_all
from tests.support.signatories import signatories

pytestmark = pytest.mark.slow  # whole sites and processes, a second and more each

ANA, BEN, *_ = signatories()


def unit_of(version: ModelDescriptor) -> str:
    return engine_unit("production", version.model_digest)


@dataclass(slots=True)
class NodeB:
    """A floor that is node b, where node a decides: its records, and the state of both, are as a leaves them."""

    floor: Floor

    @property
    def here(self) -> Surroundings:
        among = DatabaseSection(kind="postgresql", socket="/nowhere", node="b")
        config = self.floor.site.config.model_copy(update={"database": among})
        return replace(self.floor.here, config=config)

    def decided(self, version: ModelDescriptor, *, by: str = "a", is_told: bool = True) -> None:
        """Let a version be promoted by way of a node, up to the state that callers are sent by."""
        floor = self.floor
        floor.validate(version).require_passed()
        floor.site.ledger.log.node = by
        floor.approve(version, ANA, BEN)
        floor.site.client.promote(floor.site.client.pending()[-1].statement.sha256)
        if is_told:
            self.told()
        floor.site.ledger.log.node = "b"

    def told(self) -> None:
        tell_all(self.floor.state, self.floor.site.ledger)

    def asked(self, version: ModelDescriptor, *, ok: bool | None, node: str = "b") -> None:
        """Record a job that started its engine, as the job service does; without an end where it was cut off."""
        ledger, named = self.floor.site.ledger, {"digest12": version.model_digest[:12]}
        ledger.log.node = node
        done = ledger.append("job.asked", {"kind": "start-production-engine", **named, "person": ""})
        if ok is not None:
            ledger.append("job.done", {"job": done.sequence, "kind": "start-production-engine", **named, "ok": ok})
        ledger.log.node = "b"


@pytest.fixture
def b() -> Iterator[NodeB]:
    with open_floor() as floor:
        yield NodeB(floor)


def test_a_promotion_by_way_of_another_node_is_followed_and_what_was_before_is_stopped(b: NodeB) -> None:
    first, second = b.floor.bring("first"), b.floor.bring("second")
    b.decided(first)
    assert follow(b.here) is not None
    assert b.floor.running() == {unit_of(first)}

    b.decided(second)
    served = follow(b.here)

    assert served is not None
    assert (served.started, served.stopped) == ((unit_of(second),), (unit_of(first),))
    assert b.floor.running() == {unit_of(second)}
    assert follow(b.here) is None


def test_nothing_is_done_before_callers_are_told_so_that_one_node_answers_at_any_time(b: NodeB) -> None:
    first, second = b.floor.bring("first"), b.floor.bring("second")
    b.decided(first)
    follow(b.here)

    b.decided(second, is_told=False)
    assert follow(b.here) is None
    assert b.floor.in_production() == first.model_digest
    b.told()
    assert follow(b.here) is not None

    assert b.floor.running() == {unit_of(second)}


def test_a_stop_is_followed_even_where_nobody_was_told(b: NodeB) -> None:
    first = b.floor.bring("first")
    b.decided(first)
    follow(b.here)
    b.floor.site.ledger.log.node = "a"
    b.floor.site.client.stop(person=ANA.id, reason="to be sure")
    b.floor.site.ledger.log.node = "b"

    follow(b.here)

    assert b.floor.running() == set()
    assert b.floor.in_production() is None


def test_going_back_by_way_of_another_node_is_followed(b: NodeB) -> None:
    first, second = b.floor.bring("first"), b.floor.bring("second")
    for version in (first, second):
        b.decided(version)
        follow(b.here)
    b.floor.site.ledger.log.node = "a"
    b.floor.site.client.rollback(person=ANA.id, reason="worse")
    b.told()
    b.floor.site.ledger.log.node = "b"

    follow(b.here)

    assert b.floor.running() == {unit_of(first)}


@pytest.mark.parametrize("by", ["b", ""])
def test_what_was_decided_here_or_while_a_single_node_answered_is_nothing_to_follow(b: NodeB, by: str) -> None:
    b.decided(b.floor.bring("first"), by=by)

    assert follow(b.here) is None
    assert b.floor.running() == set()


def test_a_site_with_one_node_follows_nothing(b: NodeB) -> None:
    b.decided(b.floor.bring("first"))

    assert follow(b.floor.here) is None


def test_what_was_started_once_and_stopped_by_hand_stays_stopped(b: NodeB) -> None:
    first = b.floor.bring("first")
    b.decided(first)
    follow(b.here)
    b.asked(first, ok=True)
    b.floor.supervisor.stop(unit_of(first))

    assert follow(b.here) is None


def test_a_start_of_another_node_or_of_an_earlier_time_in_production_counts_for_nothing(b: NodeB) -> None:
    first = b.floor.bring("first")
    b.asked(first, ok=True)
    b.decided(first)
    b.asked(first, ok=True, node="a")

    assert follow(b.here) is not None


def test_a_start_that_was_cut_off_is_made_again(b: NodeB) -> None:
    first = b.floor.bring("first")
    b.decided(first)
    b.asked(first, ok=None)

    assert follow(b.here) is not None


def test_an_engine_that_did_not_start_is_tried_again_after_a_while(b: NodeB) -> None:
    first = b.floor.bring("first")
    b.decided(first)
    b.floor.supervisor.broken = frozenset({unit_of(first)})
    with pytest.raises(UnitError):
        follow(b.here)
    b.asked(first, ok=False)
    b.floor.supervisor.broken = frozenset()

    b.floor.site.clock.advance((AGAIN - timedelta(seconds=1)).total_seconds())
    assert follow(b.here) is None
    b.floor.site.clock.advance(1)
    assert follow(b.here) is not None


def test_the_judge_s_look_leaves_another_node_s_canary_to_be_followed(b: NodeB) -> None:
    first, second = b.floor.bring("first"), b.floor.bring("second")
    b.decided(first)
    follow(b.here)
    b.floor.validate(second).require_passed()
    b.floor.site.ledger.log.node = "a"
    b.floor.approve(second, ANA, BEN)
    waits = b.floor.site.client.pending()[-1].statement.sha256
    b.floor.site.client.start_canary(waits, percent=20, hours=48, watch_hours=48)
    b.floor.site.ledger.log.node = "b"

    assert canary.judge(b.here)["started"] == []  # callers are not sent to it before the node that decided is ready
    b.told()
    assert follow(b.here) is not None

    assert b.floor.running() == {unit_of(first), unit_of(second)}


def test_a_version_that_this_node_does_not_hold_is_named(b: NodeB, monkeypatch: pytest.MonkeyPatch) -> None:
    first = b.floor.bring("first")
    b.decided(first)
    monkeypatch.setattr(nodes, "said", lambda _: ("node b, of a, b; a leads", []))
    monkeypatch.setattr(nodes, "keys", lambda *_: None)
    assert "node versions" not in {one.name for one in nodes.findings(b.here.config)}
    monkeypatch.setattr(nodes, "ContentStore", lambda _: ContentStore(Path("/nowhere")))

    (found,) = (one for one in nodes.findings(b.here.config) if one.name == "node versions")

    assert not found.is_good
    assert f"version {first.model_digest[:12]} is in production and cannot start on this node" in found.text
