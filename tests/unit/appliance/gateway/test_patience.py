"""When an engine that is away is asked again: nobody waits for another one's lookup, and each absence is its own."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from appliance.audit.leaf import Leaf
from appliance.audit.memory import MemoryLedger
from appliance.errors import EngineUnavailableError
from appliance.gateway.admission import Admission, MemoryDesk
from appliance.gateway.metrics import Metrics
from appliance.gateway.patience import Patience
from appliance.gateway.problems import from_error
from appliance.gateway.queueing import Bounds
from media.clock import FixedClock
from tests.support.ledger import bodies

VERSION, OTHER = "ab" * 32, "cd" * 32


class _Ledger(MemoryLedger):
    """A ledger that takes its time to find what is of one version."""

    slow = ""

    def __init__(self, clock: FixedClock) -> None:
        super().__init__(clock)
        self.asked, self.may_answer = threading.Event(), threading.Event()
        self.looks: list[Any] = []

    def find(self, *asked: Any, **named: Any) -> list[Leaf]:
        self.looks.append(named["value"])
        if named["value"] == self.slow:
            self.asked.set()
            assert self.may_answer.wait(30)
        return super().find(*asked, **named)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 20, tzinfo=UTC))


@pytest.fixture
def ledger(clock: FixedClock) -> _Ledger:
    ledger = _Ledger(clock)
    for version in (VERSION, OTHER):
        ledger.append(
            "gate.result", {**bodies(version)["gate.result"], "gate": "load", "figures": {"load_millis": 300_000}}
        )
    return ledger


@pytest.fixture
def patience(ledger: _Ledger, clock: FixedClock) -> Patience:
    desk = MemoryDesk(Bounds(places=1, waiting=1))
    return Patience(ledger, Admission(desk, clock=clock, metrics=Metrics()), clock)


def _told(patience: Patience, version: str = VERSION) -> float | None:
    problem = from_error(EngineUnavailableError(what="", why="", fix=""))
    problem.asked_version = version
    return patience.told(problem).retry_after_seconds


def test_nobody_waits_for_what_the_ledger_is_asked_for_another_one(patience: Patience, ledger: _Ledger) -> None:
    assert _told(patience, OTHER) == 300
    ledger.slow = VERSION
    with ThreadPoolExecutor(max_workers=3) as pool:
        first = pool.submit(_told, patience)
        try:
            assert ledger.asked.wait(30)
            assert pool.submit(_told, patience, OTHER).result(10) == 300
            assert pool.submit(_told, patience).result(10) == 2, "it is not known yet"
        finally:
            ledger.may_answer.set()
        assert first.result(30) == 300
    assert _told(patience) == 300
    assert ledger.looks == [OTHER, VERSION]


def test_what_was_known_is_told_while_it_is_looked_up_anew(
    patience: Patience, ledger: _Ledger, clock: FixedClock
) -> None:
    assert _told(patience) == 300
    clock.advance(100)
    ledger.slow = VERSION
    with ThreadPoolExecutor(max_workers=2) as pool:
        first = pool.submit(_told, patience)
        try:
            assert ledger.asked.wait(30)
            assert pool.submit(_told, patience).result(10) == 200
        finally:
            ledger.may_answer.set()
        assert first.result(30) == 200


def test_an_engine_that_answered_and_went_away_again_has_all_of_its_loading_before_it(
    patience: Patience, clock: FixedClock
) -> None:
    patience.answered(VERSION)
    assert _told(patience) == 300
    clock.advance(150)
    patience.answered(OTHER)
    assert _told(patience) == 150
    clock.advance(50)
    patience.answered(VERSION)
    clock.advance(200)
    assert _told(patience) == 300
