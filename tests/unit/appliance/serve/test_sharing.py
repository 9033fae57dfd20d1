"""Prompts that begin alike are read once, answers that are wanted whole wake nobody early, and one thread computes."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from appliance.serve.curve import measure
from appliance.serve.engine import Generation, Row
from appliance.serve.handles import Handle
from appliance.serve.scheduler import Scheduler
from media.clock import SystemClock
from tests.support.decoder import EchoDecoder

SYSTEM = "youareahelpfulassistantofawardandsayhowitis"  # letters only: the fake answers them


def asked(prompt: str, **fields: object) -> Generation:
    return Generation(tokens=[ord(letter) for letter in prompt], **{"max_tokens": 200, "salt": "one", **fields})  # type: ignore[arg-type]


def text_of(handle: Handle) -> str:
    return "".join(piece.text for piece in handle.pieces())


@contextmanager
def reading(decoder: EchoDecoder, first: Generation) -> Iterator[tuple[Scheduler, Handle]]:
    """Hold the first step of the first prompt until the block ends, so that what is asked in it arrives meanwhile."""
    began, go, decode = threading.Event(), threading.Event(), decoder.decode

    def waits(rows: Sequence[Row]) -> bool:
        is_done = decode(rows)
        began.set()
        assert go.wait(20)
        return is_done

    decoder.decode = waits  # type: ignore[method-assign]
    scheduler = Scheduler(decoder)
    handle = scheduler.submit(first)
    assert began.wait(20)
    try:
        yield scheduler, handle
    finally:
        go.set()


def tokens_read(decoder: EchoDecoder) -> int:
    return sum(chr(row.token).islower() for rows in decoder.steps for row in rows)


def test_what_prompts_of_one_caller_begin_with_is_read_once() -> None:
    decoder = EchoDecoder(context_tokens=2048, sequences=8)
    with reading(decoder, asked(SYSTEM + "first")) as (scheduler, first):
        others = [scheduler.submit(asked(SYSTEM + letters)) for letters in ("second", "third", "last")]

    assert [text_of(one) for one in (first, *others)] == [
        (SYSTEM + letters).upper() for letters in ("first", "second", "third", "last")
    ]
    scheduler.stop()
    assert tokens_read(decoder) == len(SYSTEM + "first" + "second" + "third" + "last")


@pytest.mark.parametrize("fields", [{"salt": "two"}, {"salt": ""}, {"priority": -1}])
def test_nobody_waits_for_another_callers_prompt_or_a_less_urgent_one(fields: dict[str, object]) -> None:
    decoder = EchoDecoder(context_tokens=2048, sequences=8, batch_tokens=64)
    with reading(decoder, asked(SYSTEM * 2)) as (scheduler, first):
        other = scheduler.submit(asked(SYSTEM + "second", **fields))

    assert text_of(other) == (SYSTEM + "second").upper()
    assert text_of(first) == (SYSTEM * 2).upper()
    scheduler.stop()
    at_once = decoder.steps[1]
    assert len({row.sequence for row in at_once}) == 2


def test_a_long_prompt_holds_one_that_begins_alike_only_until_the_shared_part_is_read() -> None:
    decoder = EchoDecoder(context_tokens=2048, sequences=8, batch_tokens=32)
    with reading(decoder, asked(SYSTEM + "x" * 400, max_tokens=500)) as (scheduler, first):
        other = scheduler.submit(asked(SYSTEM + "y"))

    assert text_of(other) == (SYSTEM + "y").upper()
    assert text_of(first) == (SYSTEM + "x" * 400).upper()
    scheduler.stop()
    of_the_other = next(at for at, rows in enumerate(decoder.steps) if any(chr(row.token) == "y" for row in rows))
    all_read = max(at for at, rows in enumerate(decoder.steps) if any(chr(row.token) == "x" for row in rows))
    assert of_the_other < all_read


def test_who_waited_for_a_prompt_whose_caller_left_reads_it() -> None:
    decoder = EchoDecoder(context_tokens=2048, sequences=8)
    with reading(decoder, asked(SYSTEM + "first")) as (scheduler, first):
        others = [scheduler.submit(asked(SYSTEM + letters)) for letters in ("second", "third")]
        first.cancel()

    assert [text_of(one) for one in others] == [(SYSTEM + letters).upper() for letters in ("second", "third")]
    scheduler.stop()


def test_a_model_that_gives_no_part_is_not_waited_for_twice() -> None:
    decoder = EchoDecoder(context_tokens=2048, sequences=8, is_whole=True)
    with reading(decoder, asked(SYSTEM + "first")) as (scheduler, first):
        others = [scheduler.submit(asked(SYSTEM + letters)) for letters in ("second", "third")]

    assert [text_of(one) for one in (first, *others)] == [
        (SYSTEM + letters).upper() for letters in ("first", "second", "third")
    ]
    scheduler.stop()


def test_an_answer_wanted_whole_comes_in_one_piece() -> None:
    decoder = EchoDecoder(context_tokens=2048, sequences=8)
    scheduler = Scheduler(decoder)
    pieces = {way: list(scheduler.submit(asked("abc", is_streamed=way)).pieces()) for way in (True, False)}
    scheduler.stop()

    (whole,) = pieces[False]
    assert (whole.text, whole.finish_reason) == ("ABC", pieces[True][-1].finish_reason)
    assert len(pieces[True]) > 1
    assert whole.completion_tokens == pieces[True][-1].completion_tokens


def test_streamed_and_whole_answers_say_the_same() -> None:
    decoder = EchoDecoder(context_tokens=2048, sequences=8)
    scheduler = Scheduler(decoder)
    found = [text_of(scheduler.submit(asked("sealift", is_streamed=streamed))) for streamed in (True, False)]
    many = scheduler.submit(asked("abc", answers=3, is_streamed=False))
    texts = [(piece.index, piece.text) for piece in many.pieces()]
    scheduler.stop()

    assert found == ["SEALIFT"] * 2
    assert ["".join(text for at, text in texts if at == index) for index in range(3)] == ["ABC"] * 3


def test_calibration_computes_on_the_schedulers_thread() -> None:
    decoder = EchoDecoder(context_tokens=2048, sequences=8)
    threads, decode = set(), decoder.decode

    def noted(rows: Sequence[Row]) -> bool:
        threads.add(threading.current_thread().name)
        return decode(rows)

    decoder.decode = noted  # type: ignore[method-assign]
    scheduler = Scheduler(decoder)
    curve = scheduler.calibrate(lambda own: measure(own, clock=SystemClock(), threads=2, seconds=5))
    text = text_of(scheduler.submit(asked("abc")))
    scheduler.stop()

    assert (threads, text) == ({"scheduler"}, "ABC")
    assert scheduler.curve is curve
    assert set(curve.micros) >= {1, 2, 8}
