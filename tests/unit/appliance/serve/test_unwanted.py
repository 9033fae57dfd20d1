"""A step that nobody wants any more ends in the middle; one that somebody wants does not."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from appliance.serve.engine import Generation, Row, Sampling
from appliance.serve.handles import Handle
from appliance.serve.scheduler import Scheduler
from tests.support.decoder import EchoDecoder
from tests.support.waiting import until

SECONDS = 20.0


@dataclass
class LongSteps(EchoDecoder):
    """Its step of number `long` goes on until nobody wants it or `go` is set; it holds half its rows when ended.

    The first of `leaves` leaves as a place is made for an answer: after the scheduler looked who did, before its step.
    """

    context_tokens: int = 256
    batch_tokens: int = 8
    sequences: int = 3
    long: int = 1
    go: threading.Event = field(default_factory=threading.Event)
    unwanted: threading.Event = field(default_factory=threading.Event)
    in_it: threading.Event = field(default_factory=threading.Event)
    ended: list[int] = field(default_factory=list)
    leaves: list[Handle] = field(default_factory=list)

    def begin(self, sequence: int, sampling: Sampling) -> None:
        super().begin(sequence, sampling)
        for handle in self.leaves[:1]:
            handle.cancel()

    def halt(self) -> None:
        super().halt()
        self.unwanted.set()

    def go_on(self) -> None:
        super().go_on()
        self.unwanted.clear()

    def decode(self, rows: Sequence[Row]) -> bool:
        if len(self.steps) + 1 == self.long and not self.go.is_set():
            self.in_it.set()
            while not (self.go.wait(0.01) or self.unwanted.is_set()):
                pass
        if self.unwanted.is_set():
            super().decode(rows[: len(rows) // 2])
            self.ended.append(len(self.steps))
            return False
        return super().decode(rows)


@pytest.fixture
def decoder() -> LongSteps:
    return LongSteps()


@pytest.fixture
def scheduler(decoder: LongSteps) -> Iterator[Scheduler]:
    scheduler = Scheduler(decoder)
    yield scheduler
    decoder.go.set()
    scheduler.stop()


def asked(scheduler: Scheduler, text: str, *, salt: str = "", answers: int = 1) -> Handle:
    return scheduler.submit(
        Generation(
            tokens=[ord(letter) for letter in text],
            max_tokens=50,
            sampling=Sampling(temperature=0),
            salt=salt,
            answers=answers,
        )
    )


def whole(handle: Handle) -> str:
    return "".join(piece.text for piece in handle.pieces())


def is_idle(scheduler: Scheduler) -> Callable[[], bool]:
    return lambda: scheduler.running == 0


@pytest.mark.parametrize("answers", [1, 3])
def test_a_step_for_one_who_left_ends_in_the_middle_and_the_next_caller_is_answered(
    scheduler: Scheduler, decoder: LongSteps, answers: int
) -> None:
    handle = asked(scheduler, "abcdefghijkl", answers=answers)
    assert decoder.in_it.wait(SECONDS)

    handle.cancel()

    until(is_idle(scheduler))
    assert decoder.ended == [1]
    assert decoder.wanted == [False, True]
    assert {piece.finish_reason for piece in handle.pieces()} == {"cancelled"}
    assert whole(asked(scheduler, "xyz")) == "XYZ"


def test_a_step_in_which_somebody_is_left_goes_on(scheduler: Scheduler, decoder: LongSteps) -> None:
    decoder.long = 3
    handles = [asked(scheduler, text) for text in ("abcdefgh", "ijklmnop")]
    assert decoder.in_it.wait(SECONDS)
    until(lambda: scheduler.running == 2)

    handles[0].cancel()

    assert not decoder.unwanted.wait(0.2)
    decoder.go.set()
    assert whole(handles[1]) == "IJKLMNOP"
    assert decoder.ended == []


def test_it_ends_once_the_last_one_left(scheduler: Scheduler, decoder: LongSteps) -> None:
    decoder.long = 4
    handles = [asked(scheduler, text) for text in ("abcdefgh", "ijklmnop")]
    assert decoder.in_it.wait(SECONDS)
    until(lambda: scheduler.running == 2)

    for handle in handles:
        handle.cancel()

    until(is_idle(scheduler))
    assert decoder.ended == [4]
    assert whole(asked(scheduler, "xyz")) == "XYZ"


def test_whoever_waits_for_a_place_is_not_asked_and_is_answered(scheduler: Scheduler, decoder: LongSteps) -> None:
    handle = asked(scheduler, "abcdefghijkl")
    assert decoder.in_it.wait(SECONDS)
    waiting = asked(scheduler, "xyz")

    handle.cancel()

    assert whole(waiting) == "XYZ"
    assert decoder.ended == [1]


def test_one_who_leaves_between_steps_ends_none(scheduler: Scheduler, decoder: LongSteps) -> None:
    decoder.go.set()
    handle = asked(scheduler, "abc")
    assert whole(handle) == "ABC"

    handle.cancel()

    assert decoder.wanted == []
    assert whole(asked(scheduler, "xyz")) == "XYZ"


@pytest.mark.parametrize("is_whole", [False, True])
def test_what_was_read_before_the_step_is_used_again_where_a_part_can_be_taken(
    scheduler: Scheduler, decoder: LongSteps, *, is_whole: bool
) -> None:
    decoder.long, decoder.is_whole = 2, is_whole
    handle = asked(scheduler, "abcdefghijkl", salt="ward")
    assert decoder.in_it.wait(SECONDS)
    handle.cancel()
    until(is_idle(scheduler))

    before = scheduler.counts.cached_tokens
    answer = whole(asked(scheduler, "abcdefghijkl", salt="ward"))

    assert answer == "ABCDEFGHIJKL"
    assert scheduler.counts.cached_tokens - before == (0 if is_whole else 8)


def test_a_caller_that_is_found_to_be_gone_while_another_is_looked_for_holds_nobody_up(
    scheduler: Scheduler, decoder: LongSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario: Python collects an iterator of pieces that nobody reads, within the look for another caller."""
    handle = asked(scheduler, "abcdefghijkl")
    assert decoder.in_it.wait(SECONDS)
    collected = Handle(on_cancel=scheduler._steps.look)
    halt = decoder.halt

    def collects() -> None:
        collected.cancel()
        halt()

    monkeypatch.setattr(decoder, "halt", collects)
    leaving = threading.Thread(target=handle.cancel, daemon=True)
    leaving.start()
    leaving.join(SECONDS)

    assert not leaving.is_alive()
    until(is_idle(scheduler))
    assert whole(asked(scheduler, "xyz")) == "XYZ"


def test_a_step_that_fails_while_it_is_unwanted_leaves_the_next_one_wanted(
    scheduler: Scheduler, decoder: LongSteps
) -> None:
    handle = asked(scheduler, "abcdefghijkl")
    assert decoder.in_it.wait(SECONDS)
    decoder.fail_at_step = 0

    handle.cancel()

    until(is_idle(scheduler))
    decoder.fail_at_step = None
    decoder.go.set()
    assert decoder.wanted == [False, True]
    assert whole(asked(scheduler, "xyz")) == "XYZ"


def test_a_step_is_not_begun_for_one_who_left_after_the_scheduler_looked(
    scheduler: Scheduler, decoder: LongSteps
) -> None:
    """Scenario: a caller leaves while its place is made, when no step goes on that could be ended."""
    decoder.go.set()
    assert whole(asked(scheduler, "abcdefghijkl", salt="ward")) == "ABCDEFGHIJKL"
    steps, cached = len(decoder.steps), scheduler.counts.cached_tokens
    handles = decoder.leaves

    scheduler.between_steps(lambda: handles.append(asked(scheduler, "abcdefghijkl", salt="ward")))

    assert [piece.finish_reason for piece in handles[0].pieces()] == ["cancelled"]
    assert len(decoder.steps) == steps
    assert decoder.wanted == []
    assert whole(asked(scheduler, "abcdefghijkl", salt="ward")) == "ABCDEFGHIJKL"
    assert scheduler.counts.cached_tokens - cached == 2 * 11, "what was read before is used again"


def test_a_step_of_two_is_begun_where_one_left_after_the_scheduler_looked(
    scheduler: Scheduler, decoder: LongSteps
) -> None:
    decoder.go.set()
    handles = decoder.leaves

    scheduler.between_steps(lambda: handles.extend(asked(scheduler, text) for text in ("abcd", "wxyz")))

    assert whole(handles[1]) == "WXYZ"
    assert [piece.finish_reason for piece in handles[0].pieces()] == [None, "cancelled"]
    assert len(decoder.steps[0]) == 8
