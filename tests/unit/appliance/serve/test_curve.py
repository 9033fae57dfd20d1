"""How steps are measured, and how many answers go on in one step by what was measured."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import EngineProtocolError
from appliance.serve.curve import Curve, Plan, fits, measure
from appliance.serve.engine import Row
from media.clock import FixedClock
from tests.support.decoder import EchoDecoder

# Measured on the development machine, Q8_0 and Q4_0 with one thread, in tenths of a millisecond (field/serving.md 6).
Q8 = {1: 54, 2: 151, 3: 194, 4: 233, 6: 327, 7: 332, 8: 259, 12: 326, 16: 375}
Q4 = {1: 41, 2: 80, 4: 75, 6: 157, 7: 199, 8: 165, 16: 235}


def plan(micros: dict[int, int], most: int = 16) -> Plan:
    return Plan(Curve(threads=1, micros=micros), most=most)


def test_without_a_curve_everybody_goes_on_in_every_step() -> None:
    assert [Plan(None, most=4).rows(answers) for answers in range(5)] == [0, 1, 2, 3, 4]


def test_few_answers_take_turns_where_a_batch_is_slower() -> None:
    assert [plan(Q8).rows(answers) for answers in (1, 2, 3)] == [1, 1, 1]


def test_a_batch_is_filled_up_where_that_is_faster() -> None:
    assert plan(Q8).rows(7) == 8
    assert plan(Q4).rows(7) == 4  # then three more
    assert plan(Q8).rows(16) == 16


def test_a_batch_is_never_filled_up_where_each_answer_has_a_context_of_its_own() -> None:
    apart = Plan(Curve(threads=1, micros=Q8), most=16, fills=False)

    assert all(apart.rows(answers) <= answers for answers in range(17))
    assert apart.rows(2) == plan(Q8).rows(2)


def test_a_curve_that_only_rises_a_little_is_no_reason_for_anything_but_a_batch() -> None:
    found = plan({rows: 100 + rows for rows in range(1, 17)})

    assert [found.rows(answers) for answers in range(17)] == list(range(17))


def test_a_slow_model_reads_prompts_in_smaller_parts() -> None:
    assert Plan(None, most=4).chunk == plan({1: 1_000, 8: 4_000}).chunk == 256
    assert plan({1: 5_000, 8: 20_000}).chunk == 80
    assert plan({1: 20_000, 16: 320_000, 32: 640_000}).chunk == 32
    # A large model: 32 rows take longer than the second in which whoever leaves is to be let go.
    assert plan({1: 60_000, 16: 900_000, 32: 1_800_000}).chunk == 8
    assert plan({1: 900_000, 2: 1_600_000}).chunk == 4
    # One that memory holds up takes as long for few rows: reading them apart would only take longer.
    assert plan({1: 710_000, 8: 780_000, 16: 860_000, 32: 1_020_000}).chunk == 32


def test_prompts_are_read_in_their_order_as_far_as_a_step_goes() -> None:
    slow = plan({1: 5_000, 8: 20_000})  # 80 tokens a step

    assert slow.read([60, 9, 30], beside=3, most=500) == [60, 9, 11]
    assert slow.read([60, 9, 30], beside=3, most=53) == [50, 0, 0]
    assert slow.read([60, 9], beside=3, most=3) == [0, 0]


def test_prompts_of_about_one_length_are_read_as_far_as_the_shortest_where_contexts_are_apart() -> None:
    apart = Plan(Curve(threads=1, micros={1: 5_000, 8: 20_000}), most=16, fills=False)

    assert apart.read([8, 9, 11, 10], beside=0, most=500) == [8, 8, 8, 8]
    assert apart.read([8, 30, 31], beside=0, most=500) == [8, 30, 30]
    assert apart.read([2, 3, 1], beside=9, most=500) == [1, 1, 1]  # each with the next step of those who are answered
    assert apart.read([400, 8], beside=0, most=500) == [80, 0]
    assert apart.read([8, 400], beside=0, most=500) == [8, 72]
    assert apart.read([8, 9], beside=500, most=500) == [0, 0]


@given(
    unread=st.lists(st.integers(min_value=2, max_value=300), min_size=1, max_size=20),
    beside=st.integers(min_value=0, max_value=16),
    fills=st.booleans(),
)
def test_every_step_reads_on_and_never_too_much(unread: list[int], beside: int, fills: bool) -> None:  # noqa: FBT001
    found = Plan(Curve(threads=1, micros=Q8), most=16, fills=fills)
    steps = 0
    while unread:
        counts = found.read(unread, beside=beside, most=64 + beside)
        assert all(0 <= count <= tokens for count, tokens in zip(counts, unread, strict=True))
        assert counts[0] > 0
        assert sum(counts) <= 64
        unread = [left for left in map(int.__sub__, unread, counts) if left > 0]
        steps += 1
    assert steps < 6001


@pytest.mark.parametrize("micros", [Q8, Q4])
def test_the_plan_is_never_slower_than_one_batch_and_everyone_gets_a_token(micros: dict[int, int]) -> None:
    curve, found = Curve(threads=1, micros=micros), plan(micros)
    for answers in range(1, 17):
        left, seconds = answers, 0.0
        while left:
            rows = found.rows(left)
            seconds += curve.seconds(rows)
            left -= min(rows, left)
        assert seconds <= curve.seconds(answers) * 1.001


class TimedDecoder(EchoDecoder):
    """Takes as long as a table says."""

    def __init__(self, clock: FixedClock, **settings: Any) -> None:
        super().__init__(**settings)
        self._clock = clock

    def decode(self, rows: Sequence[Row]) -> bool:
        is_done = super().decode(rows)
        self._clock.advance(len(rows) / 1000 + (0.5 if len(self.steps) % 6 == 3 else 0))
        return is_done


def test_steps_are_measured_without_their_noise_and_leave_nothing_behind() -> None:
    clock = FixedClock(datetime(2026, 11, 20, tzinfo=UTC))
    decoder = TimedDecoder(clock, sequences=5, batch_tokens=64)

    curve = measure(decoder, clock=clock, threads=3, seconds=1000)

    assert (curve.threads, curve.micros) == (3, {rows: rows * 1000 for rows in (1, 2, 3, 4, 5)})
    assert len(decoder.steps) == 5 * 6
    assert not any(decoder.prompts.values())


def test_measuring_ends_in_time_and_always_knows_the_single_row() -> None:
    clock = FixedClock(datetime(2026, 11, 20, tzinfo=UTC))

    curve = measure(TimedDecoder(clock, sequences=8), clock=clock, threads=1, seconds=0)

    assert set(curve.micros) == {1}


def test_a_curve_comes_back_from_what_is_kept_of_it() -> None:
    curve = Curve(threads=2, micros=Q8)

    assert Curve.from_json(curve.to_json()) == curve
    assert "machine" not in curve.to_json()
    marked = Curve(threads=2, micros=Q8, machine="ab" * 32)
    assert Curve.from_json(marked.to_json()) == marked


@pytest.mark.parametrize(
    ("micros", "is_so"),
    [
        ({1: 1000, 4: 4000}, True),
        ({1: 1499, 4: 2667}, True),
        ({1: 1501, 4: 4000}, False),
        ({1: 666, 4: 4000}, False),
        ({1: 1000, 4: 6001}, False),
        ({1: 1000, 3: 99999, 4: 4000}, True),
        ({1: 1000, 6: 6000}, False),
        ({1: 1000}, True),
    ],
    ids=["same", "nearly", "faster", "slower", "only the widest", "between is not looked at", "wider", "one"],
)
def test_a_curve_fits_where_its_narrowest_and_widest_steps_take_that_long(
    micros: dict[int, int], *, is_so: bool
) -> None:
    clock = FixedClock(datetime(2026, 11, 20, tzinfo=UTC))
    decoder = TimedDecoder(clock, sequences=5, batch_tokens=64)

    assert fits(Curve(threads=1, micros=micros), decoder, clock=clock) is is_so
    assert len(decoder.steps) <= 12
    assert not any(decoder.prompts.values())


@pytest.mark.parametrize(
    "untrusted",
    [
        None,
        {},
        {"format": 2, "threads": 1, "steps": []},
        {"format": 1, "threads": 1, "steps": []},
        {"format": 1, "threads": 1, "steps": [{"rows": 2, "micros": 5}]},
        {"format": 1, "threads": 1, "steps": [{"rows": 1, "micros": 0}]},
        {"format": 1, "threads": 0, "steps": [{"rows": 1, "micros": 5}]},
        {"format": 1, "threads": 1, "steps": [{"rows": True, "micros": 5}]},
        {"format": 1, "threads": 1, "steps": [7]},
        {"format": 1, "threads": 1, "steps": [{"rows": 1, "micros": 5}], "machine": "my box"},
        {"format": 1, "threads": 1, "steps": [{"rows": 1, "micros": 5}], "machine": None},
    ],
)
def test_what_is_no_curve_is_refused(untrusted: Any) -> None:
    with pytest.raises(EngineProtocolError):
        Curve.from_json(untrusted)
