"""Who is let into a context that answers share, who gives way where they outgrow it, and what is kept of those."""

from collections.abc import Callable, Sequence

import pytest

from appliance.serve import context as contexts
from appliance.serve.context import MOST_PREEMPTIONS, Context
from appliance.serve.engine import Generation, Row
from appliance.serve.handles import Handle
from appliance.serve.jobs import Job, jobs_of
from appliance.serve.scheduler import Scheduler
from tests.support.decoder import TOKEN_BYTES, EchoDecoder, Suspended


def generation(prompt: str, *, most: int, priority: int = 0, salt: str = "") -> Generation:
    tokens = [ord(letter) for letter in prompt]
    return Generation(tokens=tokens, max_tokens=most, priority=priority, salt=salt)


def at_step(decoder: EchoDecoder, step: int, do: Callable[[], object]) -> None:
    """Do something on the decoder's thread within a step, so that its order is certain."""
    decode = decoder.decode

    def does(rows: Sequence[Row]) -> bool:
        if len(decoder.steps) == step:
            do()
        return decode(rows)

    decoder.decode = does  # type: ignore[method-assign]


def spoken(scheduler: Scheduler, decoder: EchoDecoder, first: Generation, *others: Generation) -> list[str]:
    """Ask the first, and the others while that one answers; return what each said."""
    handles: list[Handle] = []
    begins = len(decoder.steps) + len(first.tokens) // decoder.batch_tokens + 3
    at_step(decoder, begins, lambda: handles.extend(scheduler.submit(one) for one in others))
    said = ["".join(piece.text for piece in scheduler.submit(first).pieces())]
    return said + ["".join(piece.text for piece in handle.pieces()) for handle in handles]


def last_of(decoder: EchoDecoder, letter: str) -> int:
    return max(at for at, rows in enumerate(decoder.steps) if any(chr(row.token) == letter for row in rows))


def test_who_names_a_large_max_tokens_keeps_nobody_out() -> None:
    decoder = EchoDecoder(context_tokens=256, sequences=4)
    scheduler = Scheduler(decoder)

    said = spoken(scheduler, decoder, generation("a" * 60, most=196), generation("xyz", most=200))
    scheduler.stop()

    assert said == ["A" * 60, "XYZ"]
    assert last_of(decoder, "Z") < last_of(decoder, "A")
    assert scheduler.counts.preempted == 0


@pytest.mark.parametrize("is_kept", [True, False])
def test_where_answers_outgrow_the_context_the_newest_gives_way_and_ends_as_it_would_have(
    monkeypatch: pytest.MonkeyPatch, *, is_kept: bool
) -> None:
    if not is_kept:
        monkeypatch.setattr(contexts, "MOST_SUSPENDED_BYTES", 0)
    decoder = EchoDecoder(context_tokens=128, sequences=4)
    scheduler = Scheduler(decoder)
    first, second, third = (generation(letter * 32, most=90) for letter in "abc")

    said = spoken(scheduler, decoder, first, second, third)
    scheduler.stop()

    assert said == ["A" * 32, "B" * 32, "C" * 32]
    assert scheduler.counts.preempted == 1
    assert decoder.resumed == [is_kept]
    read = [sum(chr(row.token) == letter for rows in decoder.steps for row in rows) for letter in "abc"]
    assert read == [32, 32, 32 if is_kept else 64]
    assert last_of(decoder, "A") < last_of(decoder, "B") < last_of(decoder, "C")


def test_who_is_less_urgent_gives_way_before_who_is_newer() -> None:
    decoder = EchoDecoder(context_tokens=128, sequences=4)
    scheduler = Scheduler(decoder)
    patient, urgent = generation("a" * 50, most=78, priority=1), generation("b" * 50, most=78)

    said = spoken(scheduler, decoder, patient, urgent)
    scheduler.stop()

    assert said == ["A" * 50, "B" * 50]
    assert (scheduler.counts.preempted, last_of(decoder, "B") < last_of(decoder, "A")) == (1, True)


def test_what_rests_goes_before_anybody_gives_way() -> None:
    decoder = EchoDecoder(context_tokens=128, sequences=4)
    scheduler = Scheduler(decoder)
    list(scheduler.submit(generation("q" * 20, most=30, salt="one")).pieces())

    said = spoken(scheduler, decoder, generation("a" * 50, most=78), generation("xyz", most=3))
    scheduler.stop()

    assert said == ["A" * 50, "XYZ"]
    assert scheduler.counts.preempted == 0


def test_answers_with_contexts_of_their_own_take_nothing_from_each_other() -> None:
    decoder = EchoDecoder(context_tokens=256, sequences=4, is_apart=True)
    scheduler = Scheduler(decoder)

    said = spoken(scheduler, decoder, *(generation(letter * 32, most=32) for letter in "abcde"))
    scheduler.stop()

    assert said == [letter * 32 for letter in "ABCDE"]
    assert scheduler.counts.preempted == 0


def job(number: int, *, tokens: int, most: int = 1000, priority: int = 0, preempted: int = 0, kept: int = 0) -> Job:
    _, (made,) = jobs_of(Generation(tokens=[1] * tokens, max_tokens=most, priority=priority), number)
    made.preempted, made.held = preempted, tokens
    made.suspended = Suspended(held=[1] * kept)
    return made


def test_an_answer_claims_its_prompt_and_a_part_of_what_it_may_say() -> None:
    usual = Context(EchoDecoder(context_tokens=4096, sequences=4))
    many = Context(EchoDecoder(context_tokens=4096, sequences=32))
    none = Context(EchoDecoder(context_tokens=8, sequences=4))

    assert usual.claim(job(0, tokens=300, most=3796)) == 300 + 128
    assert usual.claim(job(0, tokens=300, most=5)) == 305
    assert many.claim(job(0, tokens=100)) == 100 + 32
    assert none.claim(job(0, tokens=2)) == 3


def test_the_oldest_of_the_most_urgent_stays_to_the_end() -> None:
    context = Context(EchoDecoder(context_tokens=4, sequences=8))
    active = [
        job(1, tokens=2, priority=1),
        job(2, tokens=2),
        job(3, tokens=2),
        job(4, tokens=2, priority=1),
        job(0, tokens=2, priority=1, preempted=MOST_PREEMPTIONS),
    ]
    left = []
    while (leaves := context.gives_way(active)) is not None:
        active.remove(leaves)
        left.append(leaves.number)

    assert left == [4, 1, 3]


def test_who_gave_way_to_more_urgent_ones_a_few_times_stays_for_a_new_one_too() -> None:
    context = Context(EchoDecoder(context_tokens=20, sequences=2))
    tired, fresh = job(0, tokens=10, priority=1, preempted=MOST_PREEMPTIONS), job(1, tokens=9, priority=1)

    assert context.leaving_for(job(2, tokens=5), [tired, fresh]) == [fresh]
    assert context.leaving_for(job(2, tokens=9), [tired, fresh]) == []


def test_what_is_kept_is_one_budget_of_which_each_takes_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "MOST_SUSPENDED_BYTES", 100 * TOKEN_BYTES)
    context = Context(EchoDecoder(context_tokens=150, sequences=3))
    first, second = job(0, tokens=90, kept=90), job(1, tokens=4, kept=4)

    assert context.bytes_for(first, []) == 100 * TOKEN_BYTES
    assert context.bytes_for(second, [first]) == 10 * TOKEN_BYTES
    assert context.bytes_for(job(2, tokens=60), [first]) == 10 * TOKEN_BYTES
    assert context.bytes_for(job(2, tokens=61), [first]) == 0, "never more tokens than the context has"
    assert context.bytes_for(job(2, tokens=1), [first, second, second]) == 0, "a state for each place at most"
