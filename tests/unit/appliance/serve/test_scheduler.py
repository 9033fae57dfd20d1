"""Continuous batching over a deterministic decoder."""

import itertools
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from appliance.errors import EngineProtocolError, EngineUnavailableError
from appliance.serve.curve import Curve
from appliance.serve.engine import Generation, Piece, Row, Sampling
from appliance.serve.handles import Handle
from appliance.serve.jobs import Job, jobs_of
from appliance.serve.scheduler import Scheduler
from appliance.serve.waiting import AGING_STEPS, LEAD, Shares
from tests.support.decoder import EchoDecoder, Suspended
from tests.support.waiting import until


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


def test_an_answer_with_a_context_of_its_own_may_fill_that_and_no_more() -> None:
    decoder = EchoDecoder(context_tokens=128, sequences=4, is_apart=True)
    scheduler = Scheduler(decoder)

    with pytest.raises(EngineUnavailableError) as caught:
        scheduler.submit(generation("abc", max_tokens=30))
    assert "32" in caught.value.why
    handles = [scheduler.submit(generation("abc", max_tokens=29)) for _ in range(6)]

    assert [whole(handle)[0] for handle in handles] == ["ABC"] * 6
    assert {row.sequence for rows in decoder.steps for row in rows} <= set(range(4))
    scheduler.stop()


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


def held(decoder: EchoDecoder, *, letters: str) -> threading.Event:
    """Let the decoder wait before each step that reads one of the letters."""
    go = threading.Event()
    decode = decoder.decode

    def waits(rows: Sequence[Row]) -> bool:
        is_done = decode(rows)
        if any(chr(row.token) in letters for row in rows):
            assert go.wait(20)
        return is_done

    decoder.decode = waits  # type: ignore[method-assign]
    return go


def test_several_answers_read_their_prompt_once_and_have_seeds_of_their_own() -> None:
    decoder = EchoDecoder(context_tokens=256, sequences=4)
    scheduler = Scheduler(decoder)

    handle = scheduler.submit(generation("abcdefgh", answers=3, sampling=Sampling(seed=5)))
    pieces = list(handle.pieces())
    scheduler.stop()

    texts = {index: "".join(piece.text for piece in pieces if piece.index == index) for index in range(3)}
    assert texts == dict.fromkeys(range(3), "ABCDEFGH")
    assert [tokens for _, _, tokens in decoder.copied] == [7, 7]
    assert [sampling.seed for sampling in decoder.begun] == [5, 6, 7]
    assert sum(piece.finish_reason is not None for piece in pieces) == 3


def test_what_was_read_is_used_again_for_the_same_caller_only(decoder: EchoDecoder, scheduler: Scheduler) -> None:
    first = whole(scheduler.submit(generation("abcdefgh", salt="one")))[1]
    other = whole(scheduler.submit(generation("abcdefgh", salt="two")))[1]
    nobody = whole(scheduler.submit(generation("abcdefgh")))[1]
    text, again = whole(scheduler.submit(generation("abcdefxy", salt="one")))

    assert (first.cached_tokens, other.cached_tokens, nobody.cached_tokens) == (0, 0, 0)
    assert text == "ABCDEFXY"
    assert again.cached_tokens in {0, 6}  # what rests may have had to go for the others


def test_the_same_prompt_costs_its_last_token_only(decoder: EchoDecoder, scheduler: Scheduler) -> None:
    whole(scheduler.submit(generation("abcdefgh", salt="one")))

    text, last = whole(scheduler.submit(generation("abcdefgh", salt="one")))

    assert (text, last.cached_tokens) == ("ABCDEFGH", 7)


@pytest.mark.parametrize("resting", [0, 3, 6])
def test_several_answers_read_their_prompt_once_also_beside_conversations_that_begin_alike(resting: int) -> None:
    decoder = EchoDecoder(context_tokens=4096, batch_tokens=128, sequences=8)
    scheduler = Scheduler(decoder)
    if resting:
        whole(scheduler.submit(generation("you are a nurse: x", salt="one", answers=resting)))
    before = len(decoder.steps)

    pieces = list(scheduler.submit(generation("you are a nurse: " + "abcdefgh" * 10, salt="one", answers=4)).pieces())
    scheduler.stop()

    read = sum(chr(row.token).islower() for rows in decoder.steps[before:] for row in rows)
    assert read <= len("you are a nurse: ") + 80 + 4
    assert sum(piece.finish_reason is not None for piece in pieces) == 4


def test_a_conversation_rests_on_while_another_of_the_same_caller_is_answered() -> None:
    decoder = EchoDecoder(context_tokens=4096, batch_tokens=128, sequences=8)
    scheduler = Scheduler(decoder)
    first = "you are a nurse: " + "abcdefgh" * 10
    whole(scheduler.submit(generation(first, salt="one")))

    other = whole(scheduler.submit(generation("you are a nurse: " + "zyxw" * 20, salt="one")))[1]
    again = whole(scheduler.submit(generation(first, salt="one")))[1]
    scheduler.stop()

    assert (other.cached_tokens, again.cached_tokens) == (17, len(first) - 1)


def test_what_was_used_longest_ago_makes_room_for_what_rests_on() -> None:
    decoder = EchoDecoder(context_tokens=4096, batch_tokens=128, sequences=2)
    scheduler = Scheduler(decoder)
    last = "you are a nurse: " + "abcdefgh" * 10
    whole(scheduler.submit(generation("q" * 60, salt="one")))
    whole(scheduler.submit(generation(last, salt="one")))

    whole(scheduler.submit(generation("you are a nurse: " + "zyxw" * 20, salt="one")))
    kept = whole(scheduler.submit(generation(last, salt="one")))[1]
    scheduler.stop()

    assert kept.cached_tokens == len(last) - 1


def test_what_rests_is_gone_on_with_where_nothing_fits_beside_it() -> None:
    decoder = EchoDecoder(context_tokens=64, sequences=2)
    scheduler = Scheduler(decoder)
    whole(scheduler.submit(generation("you are " + "a" * 20, salt="one", max_tokens=30)))

    text, last = whole(scheduler.submit(generation("you are " + "b" * 20, salt="one", max_tokens=30)))
    scheduler.stop()

    assert (text, last.cached_tokens) == ("YOUARE" + "B" * 20, 8)


def test_a_model_that_cannot_give_a_part_reads_again_and_says_the_same() -> None:
    decoder = EchoDecoder(context_tokens=256, sequences=3, is_whole=True)
    scheduler = Scheduler(decoder)

    whole(scheduler.submit(generation("abcdefgh", salt="one")))
    text, last = whole(scheduler.submit(generation("abcdexyz", salt="one")))
    pieces = list(scheduler.submit(generation("abc", answers=2)).pieces())
    scheduler.stop()

    assert (text, last.cached_tokens) == ("ABCDEXYZ", 0)
    assert "".join(piece.text for piece in pieces if piece.index == 1) == "ABC"


def test_a_beginning_before_a_window_that_slid_on_is_read_again_and_what_rests_goes_on() -> None:
    decoder = EchoDecoder(context_tokens=256, sequences=3, window=4)
    scheduler = Scheduler(decoder)
    whole(scheduler.submit(generation("abcdefghijkl", salt="one")))
    decoder.gone[0] = 12  # others were given the places of what no window sees any more

    early, turned = whole(scheduler.submit(generation("abcdefgxy", salt="one")))
    on, gone_on = whole(scheduler.submit(generation("abcdefghijklABCDEFGHIJKLzz", salt="one")))
    scheduler.stop()

    assert (early, turned.cached_tokens) == ("ABCDEFGXY", 0)
    assert (on, gone_on.cached_tokens) == ("ZZ", 24)


def test_nobody_is_given_a_beginning_that_its_holder_lost() -> None:
    decoder = EchoDecoder(context_tokens=256, sequences=3, window=4)
    scheduler = Scheduler(decoder)
    holder = scheduler.submit(generation("abcdefgh" * 8, salt="one", max_tokens=100)).pieces()
    next(holder)
    decoder.gone[0] = 40

    text, last = whole(scheduler.submit(generation("abcdefghxy", salt="one")))
    rest = sum(piece.completion_tokens for piece in holder if piece.finish_reason)
    scheduler.stop()

    assert (text, last.cached_tokens) == ("ABCDEFGHXY", 0)
    assert rest == 64


def test_what_rests_goes_before_anyone_is_turned_away(decoder: EchoDecoder, scheduler: Scheduler) -> None:
    for salt in ("one", "two", "three", "four"):
        assert whole(scheduler.submit(generation("abcdefgh", salt=salt, max_tokens=30)))[0] == "ABCDEFGH"

    assert whole(scheduler.submit(generation("a" * 20, max_tokens=44)))[0] == "A" * 20


@pytest.mark.parametrize("most_bytes", [None, 0])
def test_an_urgent_one_takes_the_place_of_another_that_goes_on_later_where_it_was(most_bytes: int | None) -> None:
    decoder = EchoDecoder(sequences=1)
    if most_bytes is not None:
        suspend = decoder.suspend
        decoder.suspend = lambda sequence, **_: suspend(sequence, most_bytes=0)  # type: ignore[method-assign]
    go = held(decoder, letters="D")
    scheduler = Scheduler(decoder)
    slow = scheduler.submit(generation("abcdefgh", priority=1))
    until(lambda: any(row.token == ord("D") for rows in decoder.steps for row in rows))
    urgent = scheduler.submit(generation("xyz", priority=0))
    go.set()

    assert whole(urgent)[0] == "XYZ"
    text, last = whole(slow)
    scheduler.stop()

    assert (text, last.completion_tokens) == ("ABCDEFGH", 8)
    assert (scheduler.counts.preempted, decoder.resumed) == (1, [most_bytes is None])


def test_one_that_cannot_be_set_aside_is_told_and_its_place_is_not_lost() -> None:
    decoder = EchoDecoder(sequences=1)

    def no_memory(sequence: int, **_: object) -> Suspended:
        raise MemoryError

    decoder.suspend = no_memory  # type: ignore[method-assign]
    go = held(decoder, letters="D")
    scheduler = Scheduler(decoder)
    slow = scheduler.submit(generation("abcdefgh", priority=1))
    until(lambda: any(row.token == ord("D") for rows in decoder.steps for row in rows))
    urgent = scheduler.submit(generation("xyz", priority=0))
    go.set()

    assert whole(urgent)[0] == "XYZ"
    ends = time.monotonic() + 30
    with pytest.raises(EngineProtocolError):
        list(slow.pieces(lambda: time.monotonic() > ends))
    scheduler.stop()


def test_equal_ones_do_not_take_each_others_places() -> None:
    decoder = EchoDecoder(sequences=1)
    scheduler = Scheduler(decoder)

    handles = [scheduler.submit(generation("abc", priority=1)), scheduler.submit(generation("xyz", priority=1))]

    assert [whole(handle)[0] for handle in handles] == ["ABC", "XYZ"]
    assert scheduler.counts.preempted == 0
    scheduler.stop()


def test_a_caller_with_many_requests_does_not_hold_up_one_with_few() -> None:
    decoder = EchoDecoder(sequences=1)
    go = held(decoder, letters="Z")
    scheduler = Scheduler(decoder)
    first = scheduler.submit(generation("z", salt="other"))
    many = [scheduler.submit(generation("abcd", salt="many")) for _ in range(4)]
    few = scheduler.submit(generation("xy", salt="few"))
    go.set()
    for handle in (first, *many, few):
        whole(handle)
    scheduler.stop()

    said = "".join(chr(row.token) for rows in decoder.steps for row in rows)
    assert said.index("xy") < said.rindex("abcd")
    assert said.count("abcd", 0, said.index("xy")) <= 1


def test_a_callers_many_long_prompts_hold_up_nobodys_short_one() -> None:
    decoder = EchoDecoder(sequences=4, context_tokens=4096, batch_tokens=16)
    go = held(decoder, letters="Z")
    scheduler = Scheduler(decoder)
    many = [scheduler.submit(generation("Z" + letter * 400, salt="many", max_tokens=1)) for letter in "abc"]
    until(lambda: bool(decoder.steps))
    few = scheduler.submit(generation("xyxy", salt="few", max_tokens=1))
    go.set()
    for handle in (*many, few):
        whole(handle)
    scheduler.stop()

    said = "".join(chr(row.token) for rows in decoder.steps for row in rows)
    assert said.index("x") < said.index("b") < said.index("c")


def test_a_caller_who_had_much_before_waits_no_longer_for_those_who_come_later() -> None:
    decoder = EchoDecoder(sequences=8, context_tokens=4096, batch_tokens=16)
    go = held(decoder, letters="Z")
    scheduler = Scheduler(decoder)
    for letter in "rst":
        whole(scheduler.submit(generation(letter * 400, salt="night", max_tokens=1)))
    first = scheduler.submit(generation("Z" + "b" * 400, salt="day", max_tokens=1))
    until(lambda: "Z" in "".join(chr(row.token) for rows in decoder.steps for row in rows))
    second = scheduler.submit(generation("c" * 400, salt="day", max_tokens=1))
    asked = scheduler.submit(generation("xyxy", salt="night", max_tokens=1))
    third = scheduler.submit(generation("d" * 400, salt="day", max_tokens=1))
    go.set()
    for handle in (first, second, asked, third):
        whole(handle)
    scheduler.stop()

    said = "".join(chr(row.token) for rows in decoder.steps for row in rows)
    assert said.index("x") < said.index("d")


def test_what_was_never_read_for_a_caller_counts_nothing() -> None:
    """Scenario: an editor asks for completions and leaves each at once, and its batch waits; then it asks."""
    decoder = EchoDecoder(sequences=8, context_tokens=4096, batch_tokens=16)
    go = held(decoder, letters="Z")
    scheduler = Scheduler(decoder)
    first = scheduler.submit(generation("Z" + "b" * 400, salt="other", max_tokens=1))
    until(lambda: bool(decoder.steps))
    batch = scheduler.submit(generation("e" * 400, salt="editor", max_tokens=1, priority=2))
    left = [scheduler.submit(generation("f" * 400, salt="editor", max_tokens=1)) for _ in range(3)]
    second = scheduler.submit(generation("c" * 400, salt="other", max_tokens=1))
    asked = scheduler.submit(generation("xyxy", salt="editor", max_tokens=1))
    for handle in left:
        handle.cancel()
    go.set()
    for handle in (first, second, asked, batch):
        whole(handle)
    scheduler.stop()

    said = "".join(chr(row.token) for rows in decoder.steps for row in rows)
    assert said.index("x") < said.index("c") < said.index("e")


@pytest.mark.parametrize("asks", ["other", "own"])
def test_a_short_question_waits_for_no_long_prompt_also_of_its_own_caller(asks: str) -> None:
    decoder = EchoDecoder(sequences=4, context_tokens=4096, batch_tokens=16)
    go = held(decoder, letters="Z")
    scheduler = Scheduler(decoder)
    long = scheduler.submit(generation("Z" + "b" * 400, salt="own", max_tokens=1))
    until(lambda: bool(decoder.steps))
    alike = scheduler.submit(generation("c" * 420, salt="third", max_tokens=1))
    short = scheduler.submit(generation("xyxy", salt=asks, max_tokens=1))
    go.set()
    texts = [whole(handle)[0] for handle in (long, alike, short)]
    scheduler.stop()

    said = "".join(chr(row.token) for rows in decoder.steps for row in rows)
    assert said.count("b", 0, said.index("x")) < decoder.batch_tokens
    assert said.rindex("b") < said.index("c")  # of about one length: one after another
    assert texts == ["B", "C", "X"]
    assert all(len(rows) == decoder.batch_tokens for rows in decoder.steps[1:-1])  # no step reads less for it


@pytest.mark.parametrize("callers", [["one"], ["one", "two", "three"], ["own"]])
def test_short_questions_without_end_hold_up_a_long_prompt_for_as_much_as_that_has_itself(callers: list[str]) -> None:
    shares, chunk, numbers = Shares(), 50, itertools.count()

    def asked(tokens: int, salt: str) -> Job:
        _, (job,) = jobs_of(Generation(tokens=[1] * tokens, max_tokens=1, salt=salt), next(numbers))
        return job

    reading = [asked(1000, "own"), *(asked(chunk, caller) for caller in callers)]
    long, passed = reading[0], dict.fromkeys(callers, 0)
    while long.unread:
        shares.sort(reading, step=0)
        first = reading[0]
        first.held += chunk
        shares.charge(first, chunk)
        if not first.unread and first is not long:
            passed[first.salt] += chunk
            reading[0] = asked(chunk, first.salt)

    assert all(900 <= tokens <= 1000 + chunk for tokens in passed.values())


@pytest.mark.parametrize("keys", [4, 100])
def test_a_long_prompt_has_its_part_however_many_keys_come_and_go(keys: int) -> None:
    """Scenario: four short prompts wait at any time, each of the next key; who comes has no more than who waits."""
    shares, chunk, numbers = Shares(), 100, itertools.count()

    def asked(tokens: int, salt: str) -> Job:
        _, (job,) = jobs_of(Generation(tokens=[1] * tokens, max_tokens=1, salt=salt), next(numbers))
        return job

    callers = itertools.cycle([f"key {number}" for number in range(keys)])
    reading = [asked(8000, "own"), *(asked(800, next(callers)) for _ in range(4))]
    long, steps = reading[0], 0
    while long.unread:
        shares.sort(reading, step=0)
        first, steps = reading[0], steps + 1
        first.held += chunk
        shares.charge(first, chunk)
        if not first.unread and first is not long:
            reading[0] = asked(800, next(callers))

    assert 320 <= steps <= 5 * 80 + 40


def test_a_prompt_of_a_lower_class_is_read_though_others_never_cease() -> None:
    shares, numbers = Shares(), itertools.count()

    def asked(salt: str, priority: int) -> Job:
        _, (job,) = jobs_of(Generation(tokens=[1] * 64, max_tokens=1, salt=salt, priority=priority), next(numbers))
        return job

    batch, step, reading = asked("batch", 2), 0, [asked("own", 1)]
    reading.append(batch)
    while batch.unread:
        shares.sort(reading, step=step)
        first, step = reading[0], step + 1
        first.held += 64
        shares.charge(first, 64)
        if first is not batch:
            reading[0] = asked("own", 1)
            reading[0].since = step

    assert AGING_STEPS <= step <= AGING_STEPS + 40


def test_nobody_waits_while_another_reads_much_more_than_the_lead() -> None:
    """Scenario: one caller's prompts are all shorter than the other's long one, which would be read through last."""
    decoder = EchoDecoder(sequences=32, context_tokens=65536, batch_tokens=64)
    go = held(decoder, letters="Z")
    scheduler = Scheduler(decoder)
    long = scheduler.submit(generation("Z" + "b" * 9000, salt="one", max_tokens=1))
    until(lambda: bool(decoder.steps))
    many = [scheduler.submit(generation(chr(0x4E00 + at) * 400, salt="many", max_tokens=1)) for at in range(20)]
    go.set()
    for handle in (long, *many):
        whole(handle)
    scheduler.stop()

    of_each = {"one": 0, "many": 0}
    for rows in decoder.steps:
        for row in rows:
            of_each["one" if chr(row.token) in "Zb" else "many"] += 1
        assert of_each["many"] <= of_each["one"] + LEAD + 400 + decoder.batch_tokens


def test_a_cancelled_prefill_ends_within_a_step() -> None:
    decoder = EchoDecoder(context_tokens=10**6, batch_tokens=8)
    go = held(decoder, letters="q")
    scheduler = Scheduler(decoder)
    handle = scheduler.submit(generation("q" * 10_000))
    until(lambda: bool(decoder.steps))
    handle.cancel()
    go.set()

    assert list(handle.pieces())[-1].finish_reason == "cancelled"
    until(lambda: scheduler.running == 0)
    assert len(decoder.steps) == 1
    scheduler.stop()


def test_a_running_answer_gets_a_token_in_each_step_that_reads_a_long_prompt() -> None:
    decoder = EchoDecoder(context_tokens=256, batch_tokens=8)
    go = held(decoder, letters="B")
    scheduler = Scheduler(decoder)
    running = scheduler.submit(generation("abcdefghijklmnop"))
    until(lambda: any(row.token == ord("B") for rows in decoder.steps for row in rows))
    long = scheduler.submit(generation("z" * 40, max_tokens=1))
    go.set()

    assert (whole(running)[0], whole(long)[0]) == ("ABCDEFGHIJKLMNOP", "Z")
    scheduler.stop()
    reading = [rows for rows in decoder.steps if any(chr(row.token) == "z" for row in rows)]
    assert [len(rows) for rows in reading] == [8, 8, 8, 8, 8, 6]  # five times seven letters and then five
    assert "".join(chr(rows[0].token) for rows in reading) == "CDEFGH"
    assert all(rows[0].wants_logits and {row.token for row in rows[1:]} == {ord("z")} for rows in reading)


@pytest.mark.parametrize("most", [1, 2])
def test_a_prompt_is_read_also_while_as_many_answer_as_a_step_has_rows(most: int) -> None:
    decoder = EchoDecoder(context_tokens=4096, batch_tokens=most, sequences=3)
    answering, go, decode = threading.Event(), threading.Event(), decoder.decode

    def waits(rows: Sequence[Row]) -> bool:
        is_done = decode(rows)
        if all(chr(row.token).isupper() for row in rows) and len(rows) == most:
            answering.set()
            assert go.wait(20)
        return is_done

    decoder.decode = waits  # type: ignore[method-assign]
    scheduler = Scheduler(decoder)
    scheduler.submit(generation("a" * 300, max_tokens=400, answers=most))
    assert answering.wait(20)
    before = len(decoder.steps)
    late = scheduler.submit(generation("bcd", salt="late"))
    go.set()

    text = whole(late)[0]
    ends = max(at for at, step in enumerate(decoder.steps) if any(chr(row.token) in "BCD" for row in step))
    scheduler.stop()

    assert text == "BCD"
    assert ends - before < 30


def test_steps_are_filled_up_or_taken_in_rounds_as_the_curve_says() -> None:
    micros = {1: 10, 2: 30, 3: 40, 4: 28}
    for prompts, widths in ((2, {1}), (3, {4}), (4, {4})):
        decoder = EchoDecoder(context_tokens=256, sequences=4)
        go = held(decoder, letters="a")
        scheduler = Scheduler(decoder, curve=Curve(threads=1, micros=micros))
        handles = [scheduler.submit(generation("bcd" + "aefg")) for _ in range(prompts)]
        go.set()

        assert [whole(handle)[0] for handle in handles] == ["BCDAEFG"] * prompts
        scheduler.stop()
        alone = [rows for rows in decoder.steps if sum(chr(row.token).isupper() for row in rows) == len(rows)]
        in_all = {len({row.sequence for row in rows} - {4}) for rows in alone}
        assert {len(rows) for rows in alone} & widths
        assert prompts in in_all or widths == {1}


def test_one_answers_failure_leaves_the_others_alone(decoder: EchoDecoder, scheduler: Scheduler) -> None:
    sample = decoder.sample

    def fails(sequence: int, row: int) -> int:
        if ord("q") in decoder.prompts[sequence]:
            raise EngineProtocolError(what="no token fits", why="as asked", fix="none")
        return sample(sequence, row)

    decoder.sample = fails  # type: ignore[method-assign]
    good, bad = scheduler.submit(generation("abcd")), scheduler.submit(generation("q"))

    with pytest.raises(EngineProtocolError):
        whole(bad)
    assert whole(good)[0] == "ABCD"


def test_tokens_are_told_with_the_text_they_made(scheduler: Scheduler) -> None:
    pieces = list(scheduler.submit(generation("abcdef", top_logprobs=2, stop=("DX", "EF"))).pieces())

    told = [one for piece in pieces for one in piece.likelihoods]
    assert "".join(piece.text for piece in pieces) == "ABCD"
    assert b"".join(one.token for one in told) == b"ABCD"
    assert [len(one.top) for one in told] == [2] * 4
