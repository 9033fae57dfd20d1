"""The standard note against an engine of a few lines: figures are what the clock and the tokens say."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import EngineProtocolError
from appliance.serve.capacity import ANSWER_TOKENS, CALLERS, NOTE_TOKENS, Capacity, Level, Stopwatch
from appliance.serve.client import EngineClient
from media.clock import FixedClock, SystemClock
from tests.support.engine import FakeEngine, Script, fake_engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    with fake_engine(tmp_path / "e.sock", script=Script(text="word " * ANSWER_TOKENS)) as running:
        yield running


def measured(engine: FakeEngine, *, seconds: float = 60.0, n_ctx: int = 4096) -> Capacity:
    with EngineClient(engine.path) as client:
        return Stopwatch(client, clock=SystemClock(), seconds=seconds, n_ctx=n_ctx).measure()


def test_every_level_asks_the_note_and_counts_whole_answers(engine: FakeEngine) -> None:
    found = measured(engine)

    assert [level.callers for level in found.levels] == list(CALLERS)
    assert abs(found.note_tokens - NOTE_TOKENS) <= 16
    assert found.left_out == ()
    for level in found.levels:
        assert level.answer_tokens == ANSWER_TOKENS
        assert level.notes_per_hour == pytest.approx(level.callers * 3600 / level.seconds_per_note)
    assert found.best.notes_per_hour == max(level.notes_per_hour for level in found.levels)


def test_no_two_notes_begin_alike_so_no_cache_answers_for_the_machine(engine: FakeEngine) -> None:
    measured(engine)

    starts = [body["messages"][0]["content"][:60] for route, body in engine.asked if route.endswith("completions")]
    assert len(set(starts)) == len(starts) == 2 + sum(CALLERS)


def test_an_answer_that_ends_early_does_not_make_the_machine_faster(engine: FakeEngine) -> None:
    engine.script = Script(text=("word " * 25).rstrip())

    with EngineClient(engine.path) as client:
        watch = Stopwatch(client, clock=_Ticking(), seconds=1e9, n_ctx=4096)
        level = watch._level(100, 1, ANSWER_TOKENS)

    # One tick for each look at the clock: began 1, first token 2, ended 3; ten times the tokens cost ten times 1.
    assert level.tokens_per_second == pytest.approx(25 / 2)
    assert level.seconds_per_note == pytest.approx(2 + 225 * 1 / 25)


def test_a_small_context_gets_a_shorter_note_and_a_tiny_one_is_refused(engine: FakeEngine) -> None:
    assert measured(engine, n_ctx=600).note_tokens <= 600 - ANSWER_TOKENS
    with pytest.raises(EngineProtocolError, match="too small"):
        measured(engine, n_ctx=280)


def test_levels_that_would_take_too_long_are_left_out_and_named(engine: FakeEngine) -> None:
    engine.script = Script(text="word " * ANSWER_TOKENS, hold=threading.Event())
    released = threading.Timer(0.2, engine.script.hold.set)  # type: ignore[union-attr]
    released.start()

    found = measured(engine, seconds=0.0)

    released.join()
    assert [level.callers for level in found.levels] == [1]
    assert found.left_out == (4, 16)


def test_an_engine_that_says_nothing_has_no_capacity(engine: FakeEngine) -> None:
    engine.script = Script(pieces=())

    with pytest.raises(EngineProtocolError, match="nothing"):
        measured(engine)


def test_what_is_recorded_are_whole_numbers() -> None:
    level = Level(
        callers=4,
        answer_tokens=250,
        tokens_per_second=12.3456,
        seconds_per_note=81.25,
        notes_per_hour=177.2,
        first_token_seconds=0.5,
    )
    found = Capacity(note_tokens=903, prefill_tokens_per_second=150.7, levels=(level,), left_out=(16,)).to_json()

    assert found["notes_per_hour"] == 177
    assert found["levels"][0]["tokens_per_second_millis"] == 12346
    assert all(type(value) is int for value in found["levels"][0].values())


class _Ticking(FixedClock):
    def __init__(self) -> None:
        super().__init__(at=None)  # type: ignore[arg-type]

    def monotonic(self) -> float:
        self.ticks += 1
        return self.ticks
