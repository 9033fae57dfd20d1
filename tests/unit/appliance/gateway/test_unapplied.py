"""What an operator records about callers and the test stage holds within a second, whoever brings the state up."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from appliance.audit.leaf import Leaf
from appliance.audit.memory import MemoryLedger
from appliance.config import Places
from appliance.errors import LedgerUnavailableError
from appliance.gateway.routing import StateRoutes
from appliance.gateway.stageroutes import StageRoutes
from appliance.gateway.unapplied import Unapplied, loads
from appliance.state.database import open_state
from appliance.state.projection import catch_up
from media.clock import FixedClock
from tests.support.gateway import site_file
from tests.support.ledger import DIGEST_A, DIGEST_B, bodies, rollout_bodies

STOP = {**rollout_bodies()["stop.made"], "what": "key", "name": "k1"}
FREE = {**rollout_bodies()["stop.lifted"], "what": "key", "name": "k1"}
SECOND = 1.1


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return site_file(tmp_path).at


class Leaving(MemoryLedger):
    """A ledger that may stop answering."""

    is_away = False

    def leaves(self, *asked: Any, **named: Any) -> list[Leaf]:
        if self.is_away:
            raise LedgerUnavailableError(what="the ledger does not answer", why="", fix="")
        return super().leaves(*asked, **named)


@pytest.fixture
def ledger(clock: FixedClock) -> Leaving:
    return Leaving(clock)


@pytest.fixture
def state(places: Places, ledger: MemoryLedger) -> Iterator[Engine]:
    made = open_state(places)
    for kind in ("release.received", "model.registered", "promotion.made"):
        ledger.append(kind, bodies()[kind])
    catch_up(made, ledger)
    yield made
    made.dispose()


def test_a_key_that_was_stopped_is_refused_within_a_second_though_nobody_brought_the_state_up(
    places: Places, clock: FixedClock, ledger: MemoryLedger, state: Engine
) -> None:
    routes = StateRoutes(places, clock, ledger=ledger)
    assert not routes.is_stopped(key_id="k1", department="x")

    ledger.append("stop.made", STOP)
    clock.advance(SECOND)
    assert routes.is_stopped(key_id="k1", department="x")
    assert not routes.is_stopped(key_id="k2", department="x")

    ledger.append("stop.lifted", FREE)
    clock.advance(SECOND)
    assert not routes.is_stopped(key_id="k1", department="x")


def test_a_stop_that_the_state_tells_is_lifted_by_the_record_alone(
    places: Places, clock: FixedClock, ledger: MemoryLedger, state: Engine
) -> None:
    ledger.append("stop.made", STOP)
    catch_up(state, ledger)
    routes = StateRoutes(places, clock, ledger=ledger)
    assert routes.is_stopped(key_id="k1", department="x")

    ledger.append("stop.lifted", FREE)
    clock.advance(SECOND)

    assert not routes.is_stopped(key_id="k1", department="x")
    catch_up(state, ledger)
    clock.advance(SECOND)
    assert not routes.is_stopped(key_id="k1", department="x")


def test_a_version_that_an_operator_lent_to_the_test_stage_answers_there(
    places: Places, clock: FixedClock, ledger: MemoryLedger, state: Engine
) -> None:
    routes = StageRoutes(places, clock, ledger=ledger)
    assert routes.lines().first is None

    ledger.append("stage.loaded", {"model_digest": DIGEST_A, "person": "iris"})
    clock.advance(SECOND)
    first = routes.lines().first
    assert first is not None
    assert first.production.model_digest == DIGEST_A

    ledger.append("stage.unloaded", {"model_digest": DIGEST_A, "person": "iris"})
    clock.advance(SECOND)
    assert routes.lines().first is None


def test_what_was_loaded_last_comes_first(ledger: MemoryLedger) -> None:
    ledger.append("stage.loaded", {"model_digest": DIGEST_A, "person": "iris"})
    leaves = ledger.leaves(0, 10, kinds=("stage.loaded",))

    found = loads([(DIGEST_B, "b"), (DIGEST_A, "a")], leaves)

    assert [digest for digest, _ in found] == [DIGEST_A, DIGEST_B]
    assert loads([(DIGEST_B, "b"), (DIGEST_A, "a")], ()) == ((DIGEST_B, "b"), (DIGEST_A, "a"))


def test_while_the_ledger_does_not_answer_what_was_stopped_stays_so(
    places: Places, clock: FixedClock, ledger: "Leaving", state: Engine
) -> None:
    routes = StateRoutes(places, clock, ledger=ledger)
    ledger.append("stop.made", STOP)
    assert routes.is_stopped(key_id="k1", department="x")

    ledger.is_away = True
    clock.advance(SECOND)

    assert routes.is_stopped(key_id="k1", department="x")


def test_without_a_ledger_the_state_alone_is_read(clock: FixedClock) -> None:
    assert Unapplied(None, clock).since(-1) == ()
