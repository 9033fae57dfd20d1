"""Who comes at the same moment begins in the same step; who comes alone waits for nobody."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from appliance.serve import coming
from appliance.serve.curve import Curve
from appliance.serve.engine import Generation
from appliance.serve.scheduler import Scheduler
from tests.support.decoder import EchoDecoder

SLOW = Curve(threads=1, micros={1: 10**8})
"""A step takes so long that only the most that is ever waited bounds it."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coming, "MOST_SECONDS", 20.0)


def asked(text: str) -> Generation:
    return Generation(tokens=[ord(letter) for letter in text], max_tokens=9, salt="one")


@contextmanager
def served(curve: Curve | None) -> Iterator[tuple[Scheduler, EchoDecoder]]:
    decoder = EchoDecoder(context_tokens=256, sequences=4)
    scheduler = Scheduler(decoder, curve=curve)
    try:
        yield scheduler, decoder
    finally:
        scheduler.stop()


def test_the_first_step_waits_for_those_who_are_being_read() -> None:
    with served(SLOW) as (scheduler, decoder), ExitStack() as stack:
        stack.enter_context(scheduler.coming.one())
        first = scheduler.submit(asked("abc"))
        time.sleep(0.05)
        assert not decoder.steps
        second = scheduler.submit(asked("xyz"))
        stack.close()

        assert ["".join(piece.text for piece in one.pieces()) for one in (first, second)] == ["ABC", "XYZ"]
    assert {row.sequence for row in decoder.steps[0]} == {0, 1}


@pytest.mark.parametrize("curve", [SLOW, None])
def test_who_comes_alone_waits_for_nobody(curve: Curve | None) -> None:
    with served(curve) as (scheduler, _):
        began = time.monotonic()
        with scheduler.coming.one():
            pass
        text = "".join(piece.text for piece in scheduler.submit(asked("abc")).pieces())

    assert text == "ABC"
    assert time.monotonic() - began < 10


def test_one_that_never_comes_is_waited_for_no_longer_than_the_step_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Curve(threads=1, micros={1: 1_000})
    monkeypatch.setattr(coming, "MOST_SECONDS", 600.0)
    with served(quick) as (scheduler, _), scheduler.coming.one():
        assert "".join(piece.text for piece in scheduler.submit(asked("abc")).pieces()) == "ABC"


def test_answers_that_are_being_made_never_wait_for_who_comes() -> None:
    with served(SLOW) as (scheduler, decoder):
        decode = decoder.decode
        decoder.decode = lambda rows: (time.sleep(0.02), decode(rows))[1]  # type: ignore[method-assign, func-returns-value]
        long = Generation(tokens=[ord("a")] * 100, max_tokens=100, salt="one")
        first = iter(scheduler.submit(long).pieces())
        next(first)
        with scheduler.coming.one():
            second = "".join(piece.text for piece in scheduler.submit(asked("xyz")).pieces())
            assert scheduler.running == 1  # it ended before the first one, which never stood still

    assert second == "XYZ"
