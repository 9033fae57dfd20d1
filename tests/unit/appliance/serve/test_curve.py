"""How steps are measured, and how many answers go on in one step by what was measured."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.errors import EngineProtocolError
from appliance.registry import evidence
from appliance.serve.curve import Curve, Plan, fits, measure
from appliance.serve.engine import Row
from media import canonical
from media.clock import FixedClock
from tests.support.decoder import EchoDecoder

TESTS: Final = Path(__file__).resolve().parents[3]
EVIDENCE_OF_BEFORE: Final = TESTS / "corpus/box/0.1.0/var/lib/sealift/registry/evidence"

# Measured on the development machine, Q8_0 and Q4_0 with one thread, in tenths of a millisecond (field/serving.md 6).
Q8 = {1: 54, 2: 151, 3: 194, 4: 233, 6: 327, 7: 332, 8: 259, 12: 326, 16: 375}
Q4 = {1: 41, 2: 80, 4: 75, 6: 157, 7: 199, 8: 165, 16: 235}


def plan(micros: dict[int, int], most: int = 16, *, prompts: dict[int, int] | None = None) -> Plan:
    return Plan(Curve(threads=1, micros=micros, prompts=prompts or {}), most=most)


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


def test_a_slow_model_reads_prompts_in_smaller_parts_by_what_reading_takes() -> None:
    assert Plan(None, most=4).chunk == plan({1: 1_000}, prompts={1: 1_000, 32: 13_000, 256: 100_000}).chunk == 256
    assert plan({1: 5_000}, prompts={1: 5_000, 32: 100_000, 80: 200_000}).chunk == 80
    assert plan({1: 20_000}, prompts={1: 20_000, 32: 640_000}).chunk == 32
    # Not in proportion: a step costs something whatever it reads.
    assert plan({1: 102_000}, prompts={1: 102_000, 32: 148_000}).chunk == 67
    # A large model: 32 take longer than others are to wait for a token.
    assert plan({1: 60_000}, prompts={1: 60_000, 4: 240_000, 8: 460_000, 16: 900_000}).chunk == 8
    assert plan({1: 900_000}, prompts={1: 900_000, 4: 3_600_000, 8: 7_000_000}).chunk == 4
    assert plan({1: 20_000_000}, prompts={1: 20_000_000}).chunk == 4
    # One that memory holds up takes as long for few: reading them apart would only take longer.
    assert plan({1: 710_000}, prompts={1: 710_000, 8: 780_000, 16: 860_000, 32: 1_020_000}).chunk == 32


def test_what_an_earlier_release_measured_is_drawn_on_in_a_line() -> None:
    assert plan({1: 1_000, 8: 4_000}).chunk == 256
    assert plan({1: 5_000, 8: 20_000}).chunk == 92
    assert plan({1: 20_000, 16: 320_000, 32: 640_000}).chunk == 32
    assert plan({1: 60_000, 16: 900_000, 32: 1_800_000}).chunk == 8
    assert plan({1: 900_000, 2: 1_600_000}).chunk == 4
    assert plan({1: 900_000}).chunk == 4
    assert plan({1: 710_000, 8: 780_000, 16: 860_000, 32: 1_020_000}).chunk == 32


def test_a_step_that_is_wider_than_any_that_was_measured_costs_what_each_row_added() -> None:
    found = Curve(threads=1, micros={1: 10_000, 2: 28_000, 5: 50_000})
    assert found.seconds(9) == pytest.approx(0.09)
    assert found.reading(33) == pytest.approx(0.33)
    # A single width, of a slow model: what a row costs beside is known by prompts.
    slow = Curve(threads=1, micros={1: 314_000}, prompts={1: 314_000, 32: 748_000})
    assert slow.seconds(4) == pytest.approx(0.356)
    assert Curve(threads=1, micros={1: 314_000}).seconds(4) == pytest.approx(4 * 0.314)
    # The machine was busy while the narrow one was measured.
    assert Curve(threads=1, micros={1: 90_000, 4: 50_000}).seconds(9) == pytest.approx(0.05)


def test_prompts_are_read_in_their_order_as_far_as_a_step_goes() -> None:
    slow = plan({1: 5_000}, prompts={1: 5_000, 80: 200_000})

    assert slow.read([60, 9, 30], beside=3, most=500) == [60, 9, 11]
    assert slow.read([60, 9, 30], beside=3, most=53) == [50, 0, 0]
    assert slow.read([60, 9], beside=3, most=3) == [0, 0]


def test_prompts_of_about_one_length_are_read_as_far_as_the_shortest_where_contexts_are_apart() -> None:
    curve = Curve(threads=1, micros={1: 5_000}, prompts={1: 5_000, 80: 200_000})
    apart = Plan(curve, most=16, fills=False)

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
    assert sum(step[-1].position < 6 for step in decoder.steps) == 5 * 6
    assert curve.prompts == {1: 1000, 32: 32_000, 64: 64_000}
    assert not any(decoder.prompts.values())


def test_measuring_ends_in_time_and_always_knows_the_single_row_and_how_prompts_are_read() -> None:
    clock = FixedClock(datetime(2026, 11, 20, tzinfo=UTC))

    curve = measure(TimedDecoder(clock, sequences=8), clock=clock, threads=1, seconds=0)

    assert (set(curve.micros), set(curve.prompts)) == ({1}, {1, 16})


class Costing(EchoDecoder):
    """A step takes what a function of its rows says, in seconds."""

    def __init__(self, cost: Callable[[int], float], **settings: Any) -> None:
        super().__init__(context_tokens=4096, **{"batch_tokens": 512, **settings})
        self.clock = FixedClock(datetime(2026, 11, 20, tzinfo=UTC))
        self.cost = cost

    def decode(self, rows: Sequence[Row]) -> bool:
        self.clock.advance(self.cost(len(rows)))
        return super().decode(rows)

    def measured(self) -> Curve:
        return measure(self, clock=self.clock, threads=1, seconds=2.0)


@pytest.mark.parametrize("places", [1, 8])
@pytest.mark.parametrize(
    ("cost", "chunk", "took"),
    [
        (lambda rows: 0.0005 + 0.0001 * rows, 256, 1),
        (lambda rows: 0.004 + 0.002 * rows, 98, 2),
        (lambda rows: 0.1 + 0.0015 * rows, 66, 4),
        (lambda rows: max(0.1, 0.003 * rows), 65, 4),
        (lambda rows: 0.3 + 0.014 * rows, 32, 6),
        (lambda rows: 0.4 + 0.03 * rows, 16, 6),
        (lambda rows: 0.06 * rows, 8, 6),
        (lambda rows: 0.2 + 0.3 * -(-rows // 8) if rows > 1 else 0.2, 16, 6),
        (lambda rows: 2 + 0.5 * rows, 8, 25),
        (lambda rows: 3 + 0.02 * rows, 32, 20),
        (lambda rows: 2.5 * rows, 4, 35),
        (lambda rows: 20.0 * rows, 4, 40),
    ],
    ids=[
        "tiny",
        "small",
        "7B",
        "memory holds it up as far as 33 rows",
        "70B with AMX",
        "7B on few cores",
        "in proportion",
        "eight rows cost what one does",
        "70B on few cores",
        "its weights come from the disk",
        "slow in proportion",
        "hopeless",
    ],
)
def test_prompts_are_read_as_fast_as_steps_allow_whatever_a_step_costs(
    cost: Callable[[int], float], chunk: int, took: float, places: int
) -> None:
    decoder = Costing(cost, sequences=places)

    found = Plan(decoder.measured(), most=places).chunk

    assert found == chunk
    assert decoder.clock.monotonic() <= took
    assert not any(decoder.prompts.values())


def test_answers_of_a_slow_model_go_on_together_where_only_few_were_measured_and_a_second_row_costs_most() -> None:
    decoder = Costing(lambda rows: 0.2 if rows == 1 else 0.6 + 0.06 * rows, sequences=16)

    curve = decoder.measured()

    assert set(curve.micros) == {1, 2}
    assert Plan(curve, most=16).rows(16) == 16  # in 1.6 s, where rounds of one take 3.2


def test_what_prompts_take_is_no_time_taken_from_steps_of_several_answers() -> None:
    decoder = Costing(lambda rows: 0.1 + 0.0015 * rows, sequences=8)

    assert set(decoder.measured().micros) == {1, 2, 3, 4, 5, 6}


@given(
    base=st.floats(min_value=0.0001, max_value=2),
    a_row=st.floats(min_value=0.00001, max_value=0.5),
    batch_tokens=st.integers(min_value=1, max_value=512),
    places=st.integers(min_value=1, max_value=64),
)
@example(base=0.0625, a_row=0.0859375, batch_tokens=9, places=1)
def test_a_step_that_reads_is_short_or_reads_about_as_fast_as_a_longer_one(
    base: float, a_row: float, batch_tokens: int, places: int
) -> None:
    decoder = Costing(lambda rows: base + a_row * rows, sequences=places, batch_tokens=batch_tokens)

    curve = decoder.measured()

    assert Curve.from_json(canonical.loads_canonical(canonical.dumps(curve.to_json()))) == curve
    chunk = min(Plan(curve, most=min(places, batch_tokens)).chunk, batch_tokens)
    seconds, least = decoder.cost(chunk), min(32, batch_tokens)
    assert seconds < 0.21 or chunk <= 32
    assert chunk == least or seconds < 0.21 or decoder.cost(chunk * 2 + 1) > 0.8  # half of an odd number, too
    assert chunk / seconds > 0.45 * least / decoder.cost(least)
    assert decoder.clock.monotonic() < 2 + 30 + 4 * decoder.cost(2)


def test_a_curve_comes_back_from_what_is_kept_of_it() -> None:
    curve = Curve(threads=2, micros=Q8)

    assert Curve.from_json(curve.to_json()) == curve
    assert "machine" not in curve.to_json()
    marked = Curve(threads=2, micros=Q8, machine="ab" * 32, prompts={1: 54, 32: 570})
    assert Curve.from_json(marked.to_json()) == marked
    assert (curve.to_json()["format"], marked.to_json()["format"]) == (1, 2)


def test_what_released_versions_kept_reads_as_it_did() -> None:
    (kept,) = EVIDENCE_OF_BEFORE.glob("*.json")
    document = canonical.mapping(canonical.loads_canonical(kept.read_bytes()), "evidence")

    curve = Curve.from_json(evidence.steps_of(document))

    assert (curve.threads, curve.machine, curve.prompts) == (1, "", {})
    assert curve.micros == {1: 7436, 2: 12697, 3: 13289, 4: 13888}
    assert curve.to_json() == evidence.steps_of(document)


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
        {"format": 3, "threads": 1, "steps": [{"rows": 1, "micros": 5}], "prompts": [{"rows": 1, "micros": 5}]},
        {"format": True, "threads": 1, "steps": [{"rows": 1, "micros": 5}]},
        {"format": 2, "threads": 1, "steps": [{"rows": 1, "micros": 5}]},
        {"format": 2, "threads": 1, "steps": [{"rows": 1, "micros": 5}], "prompts": []},
        {"format": 2, "threads": 1, "steps": [{"rows": 1, "micros": 5}], "prompts": {"rows": 1, "micros": 5}},
        {"format": 2, "threads": 1, "steps": [{"rows": 1, "micros": 5}], "prompts": [{"rows": 32, "micros": 5}]},
        {"format": 2, "threads": 1, "steps": [{"rows": 1, "micros": 5}], "prompts": [{"rows": 1, "micros": 0}]},
        {"format": 2, "threads": 1, "steps": [], "prompts": [{"rows": 1, "micros": 5}]},
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
