"""Until a stream's first word another instance can be asked; how answers end says whether an instance is well."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import EngineProtocolError, EngineRefusedError, EngineUnavailableError
from appliance.gateway.fleet import Fleet
from appliance.gateway.instances import FAULTS, FIRST_OUT_SECONDS, Instance
from appliance.gateway.metrics import Metrics
from media.clock import FixedClock
from tests.support.engine import THINKING_ALOUD, FakeEngine, Script, fake_engine

ROUTE = "/v1/chat/completions"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
STREAM = {**CHAT, "stream": True}
ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
TOKEN = {"logprob": -0.5, "token": "", "bytes": []}


def _choice(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, **more}]}


DIES = Script(tear_after=0)
GIVEN_UP = _choice({}, finish_reason="abort")
CALL = _choice({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "look", "arguments": ""}}]})
END = _choice({}, finish_reason="stop")
BAD = {"error": {"message": "no", "type": "invalid_request_error", "code": "invalid_value"}}
BAD_OF_VLLM = {"error": {"message": "no", "type": "BadRequestError", "param": None, "code": 400}}


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 20, tzinfo=UTC))


@contextmanager
def _two(folder: Path, clock: FixedClock) -> Iterator[tuple[FakeEngine, FakeEngine, Fleet, Metrics]]:
    metrics = Metrics()
    with ExitStack() as stack:
        first, second = (stack.enter_context(fake_engine(folder / f"{name}.sock")) for name in ("e", "e-2"))
        fleet = Fleet(folder / "e.sock", clock=clock, metrics=metrics)
        assert fleet.is_well()  # so that it knows both
        yield first, second, fleet, metrics
        fleet.close()


def _read(fleet: Fleet, body: dict[str, Any] = STREAM) -> list[dict[str, Any]]:
    call = fleet.start(ROUTE, body)
    try:
        return list(call.events()) if body is STREAM else [call.answer()]
    finally:
        call.close()


def _text(events: list[dict[str, Any]]) -> str:
    choices = [one for event in events for one in event["choices"]]
    return "".join(one.get("delta", one.get("message", {})).get("content") or "" for one in choices)


def _known(fleet: Fleet, name: str = "e.sock") -> Instance:
    return fleet._instances.known[name]


def _make_due(fleet: Fleet, clock: FixedClock) -> None:
    """Put the first instance out, and let the time come at which one call tries it."""
    for _ in range(FAULTS):
        fleet.failed("e.sock")
    clock.advance(FIRST_OUT_SECONDS)


BEFORE_A_WORD = {
    "it breaks off": Script(tear_after=0),
    "it says that it failed": Script(error_after=0),
    "it gives up": Script(events=(ROLE, GIVEN_UP)),
    "it ends": Script(events=(ROLE,)),
    "it ends without a word": Script(events=()),
    "it says what is no word": Script(events=(ROLE, {"choices": [{"index": 0, "delta": {"content": 7}}]})),
}


@pytest.mark.parametrize("script", BEFORE_A_WORD.values(), ids=BEFORE_A_WORD)
def test_an_instance_that_fails_before_a_word_of_a_stream_is_left_for_another_one(
    tmp_path: Path, clock: FixedClock, script: Script
) -> None:
    with _two(tmp_path, clock) as (first, second, fleet, metrics):
        first.script = script
        events = _read(fleet)

        assert _text(events) == "You said: hi"
        assert not [one for event in events for one in event["choices"] if "role" in one["delta"]], (
            "the gateway says it"
        )
        assert (len(first.asked), len(second.asked)) == (1, 1)
        assert metrics.registry.get_sample_value("sealift_asked_elsewhere_total") == 1
        assert (_known(fleet).faults, _known(fleet, "e-2.sock").faults) == (1, 0)


@pytest.mark.parametrize("script", [Script(events=({"error": {"code": 500}},)), Script(events=(GIVEN_UP,))])
def test_an_instance_that_says_in_a_whole_answer_that_it_failed_is_left_for_another_one(
    tmp_path: Path, clock: FixedClock, script: Script
) -> None:
    with _two(tmp_path, clock) as (first, _, fleet, _):
        first.script = script
        assert _text(_read(fleet, CHAT)) == "You said: hi"
        assert _known(fleet).faults == 1


@pytest.mark.parametrize(
    "word",
    [THINKING_ALOUD[1], CALL, END, _choice({}, logprobs={"content": [TOKEN]})],
    ids=["thought", "call", "end", "likelihood"],
)
def test_whatever_is_said_first_is_the_first_word_and_nobody_else_is_asked_then(
    tmp_path: Path, clock: FixedClock, word: dict[str, Any]
) -> None:
    with _two(tmp_path, clock) as (first, second, fleet, _):
        first.script = Script(events=(ROLE, word, {"error": {"code": "engine_failed"}}))
        said: list[dict[str, Any]] = []
        call = fleet.start(ROUTE, STREAM)
        with pytest.raises(EngineProtocolError):
            said.extend(call.events())
        call.close()
        assert not second.asked


@pytest.mark.parametrize("refusal", [BAD, BAD_OF_VLLM])
def test_a_request_that_is_refused_inside_a_stream_is_asked_nowhere_else_and_is_no_fault(
    tmp_path: Path, clock: FixedClock, refusal: dict[str, Any]
) -> None:
    with _two(tmp_path, clock) as (first, second, fleet, _):
        first.script = second.script = Script(events=(ROLE, refusal))
        fleet.failed("e.sock")
        for _ in range(2 * FAULTS):
            with pytest.raises(EngineRefusedError) as refused:
                _read(fleet)
            assert refused.value.http_status == 400
        assert len(first.asked) + len(second.asked) == 2 * FAULTS
        assert (_known(fleet).faults, _known(fleet, "e-2.sock").faults) == (1, 0), "and no answer that ended well"


def test_the_first_word_is_timed_and_not_that_the_request_was_taken_in(tmp_path: Path, clock: FixedClock) -> None:
    with _two(tmp_path, clock) as (first, _, fleet, _):
        first.script = Script(text="fine", hold=threading.Event())
        call = fleet.start(ROUTE, STREAM)
        call.opened()
        assert len(_known(fleet).firsts) == 0
        events = call.events()
        reader = threading.Thread(target=lambda: list(events))
        reader.start()
        clock.advance(9.0)
        assert first.script.hold is not None
        first.script.hold.set()
        reader.join(30)
        call.close()
        assert list(_known(fleet).firsts) == [9.0]


@pytest.mark.parametrize("script", [Script(error_after=1), Script(tear_after=1), Script(error_after=0)])
def test_an_instance_all_of_whose_streams_fail_is_out_behind_three(
    tmp_path: Path, clock: FixedClock, script: Script
) -> None:
    """It is well when asked a short question, and always the least loaded, since it fails at once."""
    with _two(tmp_path, clock) as (first, second, fleet, metrics):
        first.script = script
        _known(fleet, "e-2.sock").running = 2
        for _ in range(4 * FAULTS):
            with suppress(EngineProtocolError):
                _read(fleet)
        assert (len(first.asked), len(second.asked)) == (
            FAULTS,
            4 * FAULTS - (FAULTS if script.error_after != 0 else 0),
        )
        assert metrics.registry.get_sample_value("sealift_engines_out", {"engine": "e"}) == 1


@pytest.mark.parametrize(
    ("script", "body", "faults"),
    [
        (Script(error_after=0), STREAM, 0),
        (Script(error_after=1), {**STREAM, "response_format": {"type": "json_object"}}, 0),
        (Script(error_after=1), STREAM, 1),
    ],
)
def test_what_fails_alike_with_each_or_may_by_its_form_is_a_fault_of_none(
    tmp_path: Path, clock: FixedClock, script: Script, body: dict[str, Any], faults: int
) -> None:
    """Scenario: a schema that no token fits, or that a server does not take; it is asked again and again."""
    with _two(tmp_path, clock) as (first, second, fleet, _):
        first.script = second.script = script
        call = fleet.start(ROUTE, body)
        with pytest.raises(EngineProtocolError):
            list(call.events())
        call.close()
        assert _known(fleet).faults + _known(fleet, "e-2.sock").faults == faults


@pytest.mark.parametrize(
    ("body", "first"),
    [(STREAM, DIES), (CHAT, DIES), (STREAM, Script(error_after=0)), (STREAM, Script(events=(GIVEN_UP,)))],
)
def test_what_two_engines_may_have_died_of_is_asked_of_no_third(
    tmp_path: Path, clock: FixedClock, body: dict[str, Any], first: Script
) -> None:
    with ExitStack() as stack:
        engines = [stack.enter_context(fake_engine(tmp_path / f"{name}.sock")) for name in ("e", "e-2", "e-standby")]
        fleet = Fleet(tmp_path / "e.sock", clock=clock, metrics=Metrics())
        assert fleet.is_well()
        engines[0].script, engines[1].script = first, DIES
        with pytest.raises((EngineProtocolError, EngineUnavailableError)):
            _read(fleet, body)
        assert [len(one.asked) for one in engines] == [1, 1, 0]
        fleet.close()


def test_who_answers_to_the_end_between_failures_stays_in(tmp_path: Path, clock: FixedClock) -> None:
    with _two(tmp_path, clock) as (first, _, fleet, _):
        _known(fleet, "e-2.sock").running = 2
        for _ in range(2 * FAULTS):
            first.script = Script(error_after=1)
            with pytest.raises(EngineProtocolError):
                _read(fleet)
            assert _known(fleet).faults == 1
            first.script = Script()
            assert _text(_read(fleet)) == "You said: hi"
            assert _known(fleet).faults == 0
        assert not _known(fleet).is_out


def test_a_caller_that_leaves_in_the_middle_is_neither_a_failure_nor_a_success(
    tmp_path: Path, clock: FixedClock
) -> None:
    with _two(tmp_path, clock) as (_, second, fleet, _):
        fleet.failed("e.sock")
        _known(fleet, "e-2.sock").running = 2
        call = fleet.start(ROUTE, STREAM)
        events = call.events()
        next(events)
        call.cancel()
        with suppress(EngineProtocolError):
            list(events)
        call.close()
        closed = fleet.start(ROUTE, STREAM)
        leaving = closed.events()
        next(leaving)
        closed.close()
        del leaving
        assert (_known(fleet).faults, _known(fleet).answers) == (1, 0)
        assert not second.asked


def test_an_instance_that_was_out_is_in_at_a_first_word_and_out_for_longer_at_one_failure(
    tmp_path: Path, clock: FixedClock
) -> None:
    with _two(tmp_path, clock) as (first, _, fleet, _):
        first.script = Script(error_after=1)
        _make_due(fleet, clock)
        call = fleet.start(ROUTE, STREAM)
        events = call.events()
        next(events)
        assert not _known(fleet).is_out
        with pytest.raises(EngineProtocolError):
            list(events)
        call.close()
        assert _known(fleet).out_until == clock.monotonic() + 2 * FIRST_OUT_SECONDS


@pytest.mark.parametrize("body", [STREAM, CHAT])
def test_an_instance_that_was_out_stays_so_where_the_one_call_ends_before_a_word(
    tmp_path: Path, clock: FixedClock, body: dict[str, Any]
) -> None:
    with _two(tmp_path, clock) as (first, second, fleet, _):
        first.script = Script(error_after=0)
        _make_due(fleet, clock)
        assert _text(_read(fleet, body)) == "You said: hi"
        assert (len(first.asked), len(second.asked)) == (1, 1)
        assert _known(fleet).out_until == clock.monotonic() + 2 * FIRST_OUT_SECONDS


def test_a_wrong_shape_is_a_fault_unless_its_caller_left(tmp_path: Path, clock: FixedClock) -> None:
    with _two(tmp_path, clock) as (_, _, fleet, _):
        for leaves, faults in ((False, 1), (True, 1)):
            _known(fleet, "e-2.sock").running = 2
            call = fleet.start(ROUTE, STREAM)
            next(iter(call.events()))
            if leaves:
                call.cancel()
            call.misspoke()
            call.close()
            call.misspoke()
            assert _known(fleet).faults == faults
