"""Guesses of a small model: an answer is what it is without them, in fewer steps; wrong ones leave nothing behind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import EngineProtocolError
from appliance.serve.drafting import Drafter
from appliance.serve.engine import Generation, Likelihood, Piece, Row
from appliance.serve.handles import Handle
from appliance.serve.scheduler import Scheduler
from media.clock import FixedClock
from tests.support.decoder import EchoDecoder

LETTERS = "abcdefghij"
CLOCK = FixedClock(datetime(2026, 11, 20, tzinfo=UTC))


@dataclass
class SmallDecoder(EchoDecoder):
    """Says what the large one says, but for the letters it gets wrong.

    Attributes:
        wrong: At which letters of an answer.
        logprob: How likely it says that each token is.
    """

    sequences: int = 1
    wrong: frozenset[int] = frozenset()
    logprob: float = -0.1
    asked: list[int] = field(default_factory=list)

    def sample(self, sequence: int, row: int) -> int:
        said = sum(chr(token).isupper() for token in self.prompts[sequence])
        return ord("Z") if said in self.wrong else super().sample(sequence, row)

    def likelihood(self, row: int, token: int, top: int) -> Likelihood:
        self.asked.append(token)
        return Likelihood(token=b"", logprob=self.logprob)


def drafter(small: EchoDecoder, *, most: int = 4) -> Drafter:
    return Drafter(small, most=most, clock=CLOCK)


def said(handle: Handle) -> tuple[str, Piece]:
    pieces = list(handle.pieces())
    return "".join(piece.text for piece in pieces), pieces[-1]


def generation(prompt: str, **fields: Any) -> Generation:
    return Generation(**{"tokens": [ord(letter) for letter in prompt], "max_tokens": 20, **fields})


def answered(
    asked: Sequence[Generation], *, small: SmallDecoder | None = None, most: int = 4, large: EchoDecoder | None = None
) -> tuple[list[tuple[str, Any]], EchoDecoder, Scheduler]:
    """Ask one after the other; return what was said, the large model, and the scheduler, which has ended."""
    large = large or EchoDecoder()
    scheduler = Scheduler(large, drafter=None if small is None else drafter(small, most=most))
    try:
        found = [said(scheduler.submit(one)) for one in asked]
    finally:
        scheduler.stop()
    return (
        [(text, (last.finish_reason, last.completion_tokens, last.cached_tokens)) for text, last in found],
        (large),
        scheduler,
    )


@given(
    prompts=st.lists(st.text("abcdefgh", min_size=1, max_size=12), min_size=1, max_size=3),
    wrong=st.frozensets(st.integers(0, 12)),
    most=st.integers(1, 6),
    max_tokens=st.integers(1, 14),
    stop=st.lists(st.text("ABCDEFGH", min_size=1, max_size=3), max_size=2),
    salt=st.sampled_from(["", "one"]),
)
def test_answers_are_what_they_are_without_guesses(
    prompts: list[str], wrong: frozenset[int], most: int, max_tokens: int, stop: list[str], salt: str
) -> None:
    # The decoder refuses a token that does not follow what its sequence holds, so nothing of a guess may stay.
    asked = [generation(one, max_tokens=max_tokens, stop=tuple(stop), salt=salt) for one in prompts]

    with_guesses, _, scheduler = answered(asked, small=SmallDecoder(wrong=wrong), most=most)
    without, _, _ = answered(asked)

    assert with_guesses == without
    assert scheduler.counts.kept <= scheduler.counts.guessed


def test_right_guesses_take_fewer_steps() -> None:
    found, with_guesses, scheduler = answered([generation(LETTERS)], small=SmallDecoder(), most=4)
    _, without, _ = answered([generation(LETTERS)])

    assert found[0][0] == LETTERS.upper()
    assert (len(without.steps), len(with_guesses.steps)) == (11, 3)
    assert (scheduler.counts.guessed, scheduler.counts.kept) == (8, 8)


def test_wrong_guesses_make_it_guess_less() -> None:
    wrong = SmallDecoder(wrong=frozenset(range(20)))
    found, large, scheduler = answered([generation(LETTERS)], small=wrong, most=4)

    assert found[0][0] == LETTERS.upper()
    assert [len(rows) for rows in large.steps[1:5]] == [5, 4, 3, 2]
    assert scheduler.counts.kept == 0


def test_it_says_only_what_it_is_sure_of() -> None:
    unsure = SmallDecoder(logprob=-1.0)
    found, _, scheduler = answered([generation(LETTERS)], small=unsure)

    assert found[0][0] == LETTERS.upper()
    assert unsure.asked
    assert scheduler.counts.guessed == 0


def test_while_two_answer_nothing_is_guessed() -> None:
    large, small = EchoDecoder(context_tokens=128), SmallDecoder()
    scheduler = Scheduler(large, drafter=drafter(small))
    handles: list[Handle] = []
    scheduler.between_steps(
        lambda: handles.extend(scheduler.submit(generation(prompt)) for prompt in ("abcdefgh", "stuvwxyz"))
    )
    answers = [said(handle)[0] for handle in handles]
    scheduler.stop()

    both = [rows for rows in large.steps if len({row.sequence for row in rows}) == 2]
    assert answers == ["ABCDEFGH", "STUVWXYZ"]
    assert both
    assert scheduler.counts.guessed == 0


def test_what_it_read_for_one_caller_is_gone_before_it_reads_for_another() -> None:
    small = SmallDecoder()
    answered([generation("abcdefgh", salt=salt) for salt in ("one", "one", "two", "", "")], small=small)

    begun = [row for rows in small.steps for row in rows if row.position == 0]
    assert len(begun) == 4  # the second of `one` alone found what was read


def test_a_long_prompt_is_read_in_batches_while_the_answer_goes_on() -> None:
    small = SmallDecoder(batch_tokens=4)
    found, large, scheduler = answered([generation("abcdefghijklmn")], small=small)

    assert found[0][0] == "ABCDEFGHIJKLMN"
    assert max(len(rows) for rows in small.steps) <= 4
    assert [len(rows) for rows in large.steps[1:4]] == [1, 1, 1]
    assert scheduler.counts.kept > 0


class Slow(SmallDecoder):
    """Takes as long for each token as a table says of its steps, the last of them ever after."""

    millis: Sequence[int] = (5,)

    def decode(self, rows: Sequence[Row]) -> bool:
        CLOCK.advance(len(rows) * self.millis[min(len(self.steps), len(self.millis) - 1)] / 1000)
        return super().decode(rows)


def test_a_long_prompt_is_read_for_a_fifth_of_a_second_a_step_whoever_may_come_meanwhile() -> None:
    small = Slow(context_tokens=4096, batch_tokens=512)
    large = EchoDecoder(context_tokens=4096, batch_tokens=512)

    _, _, scheduler = answered([generation("a" * 1500, max_tokens=60)], small=small, large=large)

    assert [len(rows) for rows in small.steps[:5]] == [16, 40, 40, 40, 40]
    assert max(len(rows) for rows in small.steps) == 40
    assert scheduler.counts.kept > 0


def test_how_much_is_read_at_once_follows_what_it_takes() -> None:
    small = Slow(context_tokens=4096, batch_tokens=512)
    small.millis = (5, 50, 1000, 1)  # something else takes the cores for a while

    answered([generation("a" * 600, max_tokens=20)], small=small, large=EchoDecoder(context_tokens=4096))

    assert [len(rows) for rows in small.steps[:6]] == [16, 40, 4, 1, 200, 200]


class Leaving(SmallDecoder):
    """Its step of number `at` is the one in which a caller leaves, and is half done then."""

    at: int = -1
    handles: list[Handle]

    def decode(self, rows: Sequence[Row]) -> bool:
        if len(self.steps) == self.at:
            self.handles[0].cancel()
            if self.wanted and not self.wanted[-1]:
                if len(rows) > 1:
                    super().decode(rows[: len(rows) // 2])
                return False
        return super().decode(rows)


@pytest.mark.parametrize("at", [0, 1, 3], ids=["reading", "reading on", "guessing"])
def test_what_it_computes_for_one_who_leaves_ends_in_the_middle(at: int) -> None:
    small, large = Leaving(context_tokens=64), EchoDecoder()
    small.at, small.handles = at, []
    scheduler = Scheduler(large, drafter=drafter(small))
    asked = generation("abcdefghijklmnopqrstuvwx", max_tokens=30, salt="one")  # two reads of each, then guesses
    scheduler.between_steps(lambda: small.handles.append(scheduler.submit(asked)))
    reasons = [piece.finish_reason for piece in small.handles[0].pieces()]
    steps = len(large.steps)
    again, _ = said(scheduler.submit(asked))
    scheduler.stop()

    assert reasons[-1] == "cancelled"
    assert small.wanted == [False, True]
    assert steps == 2 + (at > 0), "no step of the large one is begun for nobody"
    assert large.wanted == []
    assert again == "ABCDEFGHIJKLMNOPQRSTUVWX"
    assert scheduler.counts.kept > 0


class Failing(SmallDecoder):
    def decode(self, rows: Sequence[Row]) -> bool:
        raise EngineProtocolError(what="a decode step failed", why="as asked", fix="none")


@pytest.mark.parametrize(
    ("made", "large"),
    [(Failing, EchoDecoder()), (lambda: SmallDecoder(wrong=frozenset({3})), EchoDecoder(is_whole=True))],
    ids=["a small model that fails", "a large one that cannot let go of a guess"],
)
def test_answers_go_on_without_guesses(made: Callable[[], SmallDecoder], large: EchoDecoder) -> None:
    scheduler = Scheduler(large, drafter=drafter(made()))
    text, last = said(scheduler.submit(generation(LETTERS)))
    guessed = scheduler.counts.guessed
    again, _ = said(scheduler.submit(generation(LETTERS)))
    scheduler.stop()

    assert (text, again, last.finish_reason) == (LETTERS.upper(), LETTERS.upper(), "stop")
    assert scheduler.counts.guessed == guessed <= 8


def test_a_step_that_fails_with_guesses_in_it_ends_its_own_answer_alone() -> None:
    large = EchoDecoder(fail_at_step=1)
    scheduler = Scheduler(large, drafter=drafter(SmallDecoder()))
    with pytest.raises(EngineProtocolError):
        said(scheduler.submit(generation(LETTERS)))
    assert scheduler.counts.steps == 2, "a guess was in the second"
    large.fail_at_step = None

    text, _ = said(scheduler.submit(generation(LETTERS)))
    scheduler.stop()

    assert text == LETTERS.upper()
    assert not scheduler.running
