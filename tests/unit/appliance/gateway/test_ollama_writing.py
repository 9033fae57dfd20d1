"""What the last line of an answer in Ollama's shape says about time."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from appliance.gateway.assembly import Assembly
from appliance.gateway.dialect import About
from appliance.gateway.ollama_writing import LineWriter
from appliance.gateway.parameters import Endpoint
from appliance.gateway.reading import CallPiece, Text, Usage
from appliance.phi.tokens import TokenMap
from media.clock import FixedClock

SECOND = 10**9


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(at=datetime(2026, 11, 20, tzinfo=UTC))


def _writer(clock: FixedClock) -> LineWriter:
    about = About(
        endpoint=Endpoint.CHAT, request_id="r", model="m", clock=clock, began=clock.monotonic(), with_usage=True
    )
    return LineWriter(about, is_chat=True)


def _answer() -> Assembly:
    assembly = Assembly(TokenMap())
    for part in (Text(text="fine"), Usage(prompt_tokens=7, completion_tokens=20)):
        list(assembly.take(part))
    return assembly


def _times(body: Any) -> tuple[int, int, int]:
    return body["total_duration"], body["prompt_eval_duration"], body["eval_duration"]


def test_a_whole_answer_is_said_to_have_been_made_in_all_of_its_time(clock: FixedClock) -> None:
    writer = _writer(clock)
    clock.advance(4)

    body = writer.whole(_answer())

    assert _times(body) == (4 * SECOND, 0, 4 * SECOND)
    assert body["eval_count"] / body["eval_duration"] * SECOND == 5


def test_a_streams_time_is_parted_at_its_first_text(clock: FixedClock) -> None:
    writer = _writer(clock)
    clock.advance(1)
    writer.piece(Text(text="fi"))
    clock.advance(3)
    writer.piece(Text(text="ne"))

    assert _times(writer._end(_answer())) == (4 * SECOND, 1 * SECOND, 3 * SECOND)


def test_a_stream_without_a_text_is_as_a_whole_answer(clock: FixedClock) -> None:
    writer = _writer(clock)
    clock.advance(2)

    assert _times(writer._end(_answer())) == (2 * SECOND, 0, 2 * SECOND)


@pytest.mark.parametrize("arguments", ['{"dose": NaN}', '{"dose": [1, -Infinity]}', '{"dose": 1e999}'])
def test_arguments_that_hold_no_number_of_jsons_are_told_as_text(clock: FixedClock, arguments: str) -> None:
    assembly = Assembly(TokenMap())
    list(assembly.take(CallPiece(index=0, id="call_1", name="give", arguments=arguments)))

    body = json.loads(json.dumps(_writer(clock).whole(assembly), allow_nan=False))

    assert body["message"]["tool_calls"] == [{"function": {"name": "give", "arguments": {"arguments": arguments}}}]
