"""Callers are told that production rests, until when, and when to ask again; nothing else is told differently."""

from datetime import UTC, datetime
from typing import Any

import pytest

from appliance.audit.leaf import Leaf
from appliance.audit.memory import MemoryLedger
from appliance.errors import LedgerUnavailableError
from appliance.gateway.problems import Problem, from_error, no_model
from appliance.gateway.resting import Resting
from appliance.registry import windows
from appliance.stages import Stage
from media.clock import FixedClock

NOW = datetime(2026, 9, 27, 12, 0, tzinfo=UTC)


class Counted(MemoryLedger):
    """A ledger that counts who looks."""

    looks = 0
    is_away = False

    def find(self, *asked: Any, **named: Any) -> list[Leaf]:
        self.looks += 1
        if self.is_away:
            raise LedgerUnavailableError(what="no ledger", why="", fix="")
        return super().find(*asked, **named)


def away() -> Problem:
    problem = Problem(503, "engine_unavailable", "The engine does not answer.", retry_after_seconds=2)
    problem.recorded, problem.arm = True, "production"
    return problem


def opened(ledger: MemoryLedger, clock: Any, minutes: int = 30, line: int = 1) -> windows.Window:
    asked = windows.Asked(
        purpose=windows.Purpose.VALIDATE, model_digest="ab" * 32, person="ana", reason="4711", minutes=minutes
    )
    return windows.open_now(ledger, clock, asked, previous=None, line=line)


def test_an_engine_that_is_away_is_explained_while_a_window_is_open() -> None:
    clock = FixedClock(at=NOW)
    ledger = Counted(clock)
    resting = Resting(ledger, clock)
    assert resting.explained(away()).code == "engine_unavailable"
    window = opened(ledger, clock)
    clock.advance(2)

    said = resting.explained(away())

    assert (said.status, said.code, said.retry_after_seconds) == (503, "maintenance_window", 30)
    assert window.until in said.message
    assert (said.recorded, said.arm) == (True, "production")
    windows.close(ledger, window, why=windows.Closing.DONE)
    clock.advance(2)
    assert resting.explained(away()).code == "engine_unavailable"


def test_a_window_of_one_line_explains_no_engine_of_another() -> None:
    clock = FixedClock(at=NOW)
    ledger = Counted(clock)
    opened(ledger, clock, line=4)
    resting, of_line_4 = Resting(ledger, clock), away()
    of_line_4.line = 4

    assert [resting.explained(one).code for one in (away(), of_line_4)] == ["engine_unavailable", "maintenance_window"]


def test_a_window_of_another_node_explains_no_engine_of_this_one() -> None:
    clock = FixedClock(at=NOW)
    ledger = Counted(clock)
    ledger.log.node = "a"
    opened(ledger, clock)
    of_a, of_b = (Resting(ledger, clock, node=node) for node in ("a", "b"))

    assert [one.explained(away()).code for one in (of_a, of_b)] == ["maintenance_window", "engine_unavailable"]
    assert (of_a.line(), of_b.line()) == (1, None)


def test_callers_are_asked_back_soon_where_it_is_nearly_over() -> None:
    clock = FixedClock(at=NOW)
    ledger = Counted(clock)
    opened(ledger, clock, minutes=1)
    clock.advance(48)
    assert Resting(ledger, clock).explained(away()).retry_after_seconds == 12
    clock.advance(60)
    assert Resting(ledger, clock).explained(away()).retry_after_seconds == 5


def test_it_is_looked_for_every_other_second_and_only_where_an_engine_is_away() -> None:
    clock = FixedClock(at=NOW)
    ledger = Counted(clock)
    opened(ledger, clock)
    resting, tested = Resting(ledger, clock), Resting(ledger, clock, Stage.TEST)
    before = ledger.looks

    for problem in (no_model(), from_error(ValueError("x"))):
        assert resting.explained(problem) is problem
    assert tested.explained(away()).code == "engine_unavailable"
    assert ledger.looks == before
    for _ in range(50):
        resting.explained(away())
    assert ledger.looks - before <= 2


def test_where_the_ledger_is_away_the_engine_is_still_told_of() -> None:
    clock = FixedClock(at=NOW)
    ledger = Counted(clock)
    opened(ledger, clock)
    ledger.is_away = True

    assert Resting(ledger, clock).explained(away()).code == "engine_unavailable"


def test_a_silent_ledger_is_asked_by_one_of_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FixedClock(at=NOW)
    ledger = Counted(clock)
    ledger.is_away = True
    resting = Resting(ledger, clock)
    find = ledger.find

    def silent(*asked: Any, **named: Any) -> list[Leaf]:
        clock.advance(10)  # as long as it is waited for
        return find(*asked, **named)

    monkeypatch.setattr(ledger, "find", silent)

    assert [resting.explained(away()).code for _ in range(3)] == ["engine_unavailable"] * 3
    assert ledger.looks == 1
