"""An engine that was told to tells its steps, rows and times until a moment, and never a word of what it answers."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from appliance.config import parse
from appliance.errors import ConfigError
from appliance.serve import debugging
from appliance.serve.counts import Counts
from appliance.serve.engine import Generation, Sampling
from appliance.serve.scheduler import Scheduler
from media.clock import FixedClock, from_text
from tests.support.decoder import EchoDecoder

UNTIL = "2026-11-21T17:00:05Z"
FIELDS = {"timestamp", "event", "ms", "rows_a_step", "ms_a_step", "running", "waiting", *Counts.__slots__}


@dataclass
class Made:
    """A scheduler as far as it is asked."""

    counts: Counts = field(default_factory=Counts)
    is_alive: bool = True
    running: int = 0
    waiting: int = 0


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 21, 17, 0, tzinfo=UTC))


def told(scheduler: Any, clock: FixedClock, seconds: Callable[[int], None]) -> list[dict[str, Any]]:
    lines: list[str] = []
    passed = iter(range(100))

    def sleep(pause: float) -> None:
        clock.advance(pause)
        seconds(next(passed))

    debugging.tell(scheduler, from_text(UNTIL), clock=clock, sleep=sleep, write=lines.append)
    assert all(line.endswith("\n") for line in lines)
    return [json.loads(line) for line in lines]


def test_each_second_with_steps_has_a_line_and_none_after_the_moment(clock: FixedClock) -> None:
    made = Made()

    def second(number: int) -> None:
        if number == 2:
            return
        made.counts.steps += 10
        made.counts.rows += 40
        made.running = 4

    lines = told(made, clock, second)

    assert [one["timestamp"][-3:-1] for one in lines] == ["01", "02", "04", "05"]
    assert all((one["steps"], one["rows"], one["rows_a_step"], one["ms_a_step"]) == (10, 40, 4, 100) for one in lines)
    assert all(one["running"] == 4 for one in lines)


def test_who_waits_while_nothing_moves_is_told(clock: FixedClock) -> None:
    lines = told(Made(waiting=3), clock, lambda _: None)

    assert [(one["steps"], one["waiting"], one["ms_a_step"]) for one in lines] == [(0, 3, 0)] * 5


def test_it_ends_with_the_engine(clock: FixedClock) -> None:
    made = Made(waiting=1)

    def second(number: int) -> None:
        made.is_alive = number < 1

    assert len(told(made, clock, second)) == 2


def test_nothing_that_is_asked_or_answered_is_in_a_line(clock: FixedClock) -> None:
    decoder = EchoDecoder()
    scheduler = Scheduler(decoder)
    secret = "the patient's secret"

    def second(number: int) -> None:
        if number == 0:
            tokens = decoder.tokenize(secret, special=False)
            asked = Generation(tokens=tokens, max_tokens=40, sampling=Sampling(), salt=secret)
            list(scheduler.submit(asked).pieces())

    try:
        lines = told(scheduler, clock, second)
    finally:
        scheduler.stop()

    assert lines[0]["prompt_tokens"] > 0
    assert all(set(one) == FIELDS for one in lines)
    assert all(isinstance(value, int | float) for one in lines for value in list(one.values())[2:])


@pytest.mark.parametrize("until", ["", "2026-11-21T17:00:00Z"])
def test_without_a_moment_or_after_it_nothing_begins(clock: FixedClock, until: str) -> None:
    assert debugging.begin(Made(), until, clock=clock) is None


def test_before_it_a_thread_tells(clock: FixedClock) -> None:
    thread = debugging.begin(Made(is_alive=False), UNTIL, clock=clock)

    assert isinstance(thread, threading.Thread)
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize("said", ["tomorrow", "2026-11-21", "2026-11-21T17:00:05+01:00", "2026-13-21T17:00:05Z"])
def test_what_is_no_moment_is_refused_in_the_site_file(said: str) -> None:
    assert parse(f'site = "s"\n[engine]\ndebug_until = "{UNTIL}"\n'.encode()).engine.debug_until == UNTIL
    with pytest.raises(ConfigError, match=r"engine\.debug_until"):
        parse(f'site = "s"\n[engine]\ndebug_until = "{said}"\n'.encode())
