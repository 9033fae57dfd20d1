"""Guesses of a small model: an answer is what it is without them, in fewer steps; wrong ones leave nothing behind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import EngineProtocolError
from appliance.serve.drafting import Drafter
from appliance.serve.engine import Generation, Likelihood, Piece, Row
from appliance.serve.handles import Handle
from appliance.serve.scheduler import Scheduler
from tests.support.decoder import EchoDecoder

LETTERS = "abcdefghij"


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
    scheduler = Scheduler(large, drafter=None if small is None else Drafter(small, most=most))
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
    scheduler = Scheduler(large, drafter=Drafter(small, most=4))
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


def test_a_long_prompt_is_read_a_batch_a_step() -> None:
    small = SmallDecoder(batch_tokens=4)
    found, large, scheduler = answered([generation("abcdefghijklmn")], small=small)

    assert found[0][0] == "ABCDEFGHIJKLMN"
    assert max(len(rows) for rows in small.steps) <= 4
    assert [len(rows) for rows in large.steps[1:4]] == [1, 1, 1]
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
    scheduler = Scheduler(large, drafter=Drafter(made(), most=4))
    text, last = said(scheduler.submit(generation(LETTERS)))
    guessed = scheduler.counts.guessed
    again, _ = said(scheduler.submit(generation(LETTERS)))
    scheduler.stop()

    assert (text, again, last.finish_reason) == (LETTERS.upper(), LETTERS.upper(), "stop")
    assert scheduler.counts.guessed == guessed <= 8


def test_a_step_that_fails_with_guesses_in_it_ends_its_own_answer_alone() -> None:
    large = EchoDecoder(fail_at_step=1)
    scheduler = Scheduler(large, drafter=Drafter(SmallDecoder(), most=4))
    with pytest.raises(EngineProtocolError):
        said(scheduler.submit(generation(LETTERS)))
    assert scheduler.counts.steps == 2, "a guess was in the second"
    large.fail_at_step = None

    text, _ = said(scheduler.submit(generation(LETTERS)))
    scheduler.stop()

    assert text == LETTERS.upper()
    assert not scheduler.running
