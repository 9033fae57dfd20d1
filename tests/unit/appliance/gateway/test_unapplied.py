"""What an operator records about callers and the test stage holds within a second, whoever brings the state up."""

import threading
import time
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
from appliance.gateway.unapplied import Unapplied, loads, stops
from appliance.state.database import open_state
from appliance.state.projection import catch_up
from media.clock import FixedClock, SystemClock
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


def test_a_ledger_that_never_answered_or_not_for_long_is_not_taken_for_one_without_stops(
    places: Places, clock: FixedClock, ledger: Leaving, state: Engine
) -> None:
    routes = StateRoutes(places, clock, ledger=ledger)
    ledger.is_away = True
    with pytest.raises(LedgerUnavailableError):
        routes.is_stopped(key_id="k1", department="x")

    ledger.is_away = False
    assert not routes.is_stopped(key_id="k1", department="x")
    ledger.is_away = True
    clock.advance(11)
    with pytest.raises(LedgerUnavailableError):
        routes.is_stopped(key_id="k1", department="x")


def test_what_a_ledger_that_was_set_back_lost_is_forgotten_and_what_it_got_since_is_seen(clock: FixedClock) -> None:
    before, after = Leaving(clock), Leaving(clock)
    for _ in range(3):
        before.append("stop.made", STOP)
    after.append("stop.made", {**STOP, "name": "k2"})
    unapplied = Unapplied(before, clock)
    assert stops(frozenset(), unapplied.since(-1)) == {("key", "k1")}

    unapplied._ledger = after  # the same door, and another ledger behind it
    clock.advance(SECOND)

    assert stops(frozenset(), unapplied.since(-1)) == {("key", "k2")}


def test_one_thread_with_an_older_state_misses_nothing(clock: FixedClock, ledger: Leaving) -> None:
    ledger.append("stop.made", STOP)
    stopped = ledger.leaves(0, 10, kinds=("stop.made",))[0].sequence
    unapplied = Unapplied(ledger, clock)
    assert unapplied.since(stopped) == ()

    assert [leaf.kind for leaf in unapplied.since(stopped - 1)] == ["stop.made"]


def test_callers_do_not_wait_for_a_silent_ledger_one_after_the_other(clock: FixedClock) -> None:
    asked: list[float] = []

    class Silent(MemoryLedger):
        def leaves(self, *_: Any, **__: Any) -> list[Leaf]:
            asked.append(time.monotonic())
            time.sleep(0.3)
            raise LedgerUnavailableError(what="the ledger does not answer", why="", fix="")

    unapplied = Unapplied(Silent(clock), SystemClock())

    def ask() -> None:
        with pytest.raises(LedgerUnavailableError):
            unapplied.since(-1)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(asked) == 1


def test_without_a_ledger_the_state_alone_is_read(clock: FixedClock) -> None:
    assert Unapplied(None, clock).since(-1) == ()
