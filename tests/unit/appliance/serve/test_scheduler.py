"""Continuous batching over a deterministic decoder."""

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from appliance.errors import EngineProtocolError, EngineUnavailableError
from appliance.serve.engine import Generation, Piece, Sampling
from appliance.serve.scheduler import Handle, Scheduler
from tests.support.decoder import EchoDecoder


@pytest.fixture
def decoder() -> EchoDecoder:
    return EchoDecoder()


@pytest.fixture
def scheduler(decoder: EchoDecoder) -> Iterator[Scheduler]:
    scheduler = Scheduler(decoder)
    yield scheduler
    scheduler.stop()


def generation(prompt: str, **fields: object) -> Generation:
    return Generation(tokens=[ord(letter) for letter in prompt], **{"max_tokens": 20, **fields})  # type: ignore[arg-type]


def whole(handle: Handle) -> tuple[str, Piece]:
    pieces = list(handle.pieces())
    return "".join(piece.text for piece in pieces), pieces[-1]


def test_an_answer_comes_whole_with_its_reason_and_count(scheduler: Scheduler) -> None:
    text, last = whole(scheduler.submit(generation("abc")))

    assert (text, last.finish_reason, last.completion_tokens) == ("ABC", "stop", 3)


def test_many_callers_get_each_their_own_answer(scheduler: Scheduler) -> None:
    prompts = ["abc", "xyz", "hello", "q", "sealift"]

    handles = [scheduler.submit(generation(prompt)) for prompt in prompts]

    assert [whole(handle)[0] for handle in handles] == [prompt.upper() for prompt in prompts]


def test_two_answers_share_steps(scheduler: Scheduler, decoder: EchoDecoder) -> None:
    handles = [scheduler.submit(generation("abcdefgh")), scheduler.submit(generation("stuvwxyz"))]
    for handle in handles:
        whole(handle)

    assert any(len({row.sequence for row in rows}) == 2 for rows in decoder.steps)


def test_max_tokens_ends_with_length(scheduler: Scheduler) -> None:
    text, last = whole(scheduler.submit(generation("abcdef", max_tokens=2)))

    assert (text, last.finish_reason) == ("AB", "length")


def test_a_stop_text_is_not_part_of_the_answer(scheduler: Scheduler) -> None:
    text, last = whole(scheduler.submit(generation("abcdef", stop=("CD",))))

    assert (text, last.finish_reason) == ("AB", "stop")


def test_a_long_prompt_is_fed_in_chunks_beside_a_running_answer(scheduler: Scheduler, decoder: EchoDecoder) -> None:
    text, _ = whole(scheduler.submit(generation("a" * 30, max_tokens=1)))

    assert text == "A"
    assert max(len(rows) for rows in decoder.steps) <= decoder.batch_tokens


def test_leaving_the_loop_early_frees_the_sequence(scheduler: Scheduler, decoder: EchoDecoder) -> None:
    handle = scheduler.submit(generation("abcdefgh"))
    for _ in handle.pieces():
        break

    assert whole(scheduler.submit(generation("xy")))[0] == "XY"
    assert handle.is_cancelled


def test_a_request_that_can_never_fit_is_refused_with_both_numbers(scheduler: Scheduler) -> None:
    with pytest.raises(EngineUnavailableError) as caught:
        scheduler.submit(generation("abc", max_tokens=100))

    assert "103" in caught.value.why
    assert "64" in caught.value.why


def test_those_who_do_not_fit_together_wait_and_are_answered(scheduler: Scheduler) -> None:
    handles = [scheduler.submit(generation("abc", max_tokens=50)) for _ in range(3)]

    assert [whole(handle)[0] for handle in handles] == ["ABC"] * 3


def test_a_failed_step_fails_its_answers_and_not_the_next_one(decoder: EchoDecoder, scheduler: Scheduler) -> None:
    decoder.fail_at_step = 0
    with pytest.raises(EngineProtocolError):
        whole(scheduler.submit(generation("abc")))

    decoder.fail_at_step = None

    assert whole(scheduler.submit(generation("abc")))[0] == "ABC"


def test_scores_come_in_the_order_of_the_continuations(scheduler: Scheduler) -> None:
    assert scheduler.score([1], [[1, 2], [3]]) == [-2.0, -1.0]


class FaultyDecoder(EchoDecoder):
    """Has a fault of ours in it, for one temperature and for every score."""

    def begin(self, sequence: int, sampling: Sampling) -> None:
        if sampling.temperature == 1.5:
            raise OverflowError("text of a prompt")
        super().begin(sequence, sampling)

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        raise IndexError("text of a prompt")


def test_a_fault_of_ours_is_told_without_its_text_and_the_next_caller_is_answered() -> None:
    scheduler = Scheduler(FaultyDecoder())

    with pytest.raises(EngineProtocolError) as caught:
        whole(scheduler.submit(generation("abc", sampling=Sampling(temperature=1.5))))
    with pytest.raises(EngineProtocolError):
        scheduler.score([1], [[2]])

    assert "prompt" not in str(caught.value)
    assert whole(scheduler.submit(generation("abc")))[0] == "ABC"
    scheduler.stop()


def test_a_caller_that_leaves_ends_its_answer_also_while_it_waits(scheduler: Scheduler, decoder: EchoDecoder) -> None:
    decoder.context_tokens = 10**9
    gone = threading.Event()
    decoder.sample = lambda *_: ord("X")  # type: ignore[method-assign]
    handles = [scheduler.submit(generation("abc", max_tokens=10**8)) for _ in range(4)]

    gone.set()
    reasons = [list(handle.pieces(gone.is_set))[-1].finish_reason for handle in handles]

    assert reasons == ["cancelled"] * 4
    for _ in range(200):
        if (scheduler.running, scheduler.waiting) == (0, 0):
            break
        time.sleep(0.01)
    assert (scheduler.running, scheduler.waiting) == (0, 0)


def test_those_who_still_wait_at_the_end_are_told(decoder: EchoDecoder) -> None:
    decoder.context_tokens = 10**9
    decoder.sample = lambda *_: ord("X")  # type: ignore[method-assign]
    scheduler = Scheduler(decoder)
    handles = [scheduler.submit(generation("abc", max_tokens=10**8)) for _ in range(3)]
    next(handles[0].pieces())

    scheduler.stop()

    assert list(handles[2].pieces())[-1].finish_reason == "error"
    with pytest.raises(EngineUnavailableError):
        scheduler.score([1], [[2]])
