"""Engines that speak as none of ours does: no words behind an end, no tokens beyond a limit, no record lost."""

import codecs
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Script
from tests.support.gateway import MODEL, Rig, events, gateway, said

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello there"}]}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALLED: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}


def _told(text: str, reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "message": {"content": text}, "delta": {"content": text}, "finish_reason": reason}


def _fragment(function: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": function, **more}]}}]}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_half_a_letter_that_nobody_counted_loses_no_outcome(tmp_path: Path, *, stream: bool) -> None:
    with gateway(tmp_path, limits="tokens_per_day = 4000") as rig:
        rig.engine.script = Script(events=({"choices": [_told("a\ud800b", "stop")]},))

        response = rig.ask({**CHAT, "stream": stream})

        assert response.status_code == 200
        assert b"internal_error" not in response.data
        assert [one["outcome"] for one in rig.bodies("request.outcome")] == ["ok"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_key_does_not_pay_for_more_tokens_than_it_asked_for(tmp_path: Path, *, stream: bool) -> None:
    with gateway(tmp_path, limits="tokens_per_day = 400") as rig:
        rig.engine.script = Script(text="one two", usage={"prompt_tokens": 3, "completion_tokens": 41})

        response = rig.ask({**CHAT, "max_tokens": 20, "n": 2, "stream": stream})
        rig.engine.script = Script()

        assert b'"engine_error"' in response.data
        assert [(one["outcome"], one["status"]) for one in rig.bodies("request.outcome")] == [("error", 502)]
        assert rig.ask({**CHAT, "max_tokens": 20}).status_code == 200


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("at_once", [True, False])
def test_words_behind_an_answers_end_are_nobodys(rig: Rig, *, at_once: bool, stream: bool) -> None:
    ended, more = _told("the answer", "stop"), _told("of somebody else", "stop")
    told = ({"choices": [ended, more]},) if at_once or not stream else ({"choices": [ended]}, {"choices": [more]})
    rig.engine.script = Script(events=told)

    response = rig.ask({**CHAT, "stream": stream})

    assert b"somebody" not in response.data
    assert b'"engine_error"' in response.data
    assert [one["outcome"] for one in rig.bodies("request.outcome")] == ["error"]


@pytest.mark.parametrize(
    "fragments",
    [
        pytest.param(
            [
                _fragment({"name": "weather", "arguments": '{"city":'}, id="call_a"),
                _fragment({"name": "weather", "arguments": ' "Bern"}'}, id="call_a"),
            ],
            id="name and id again",
        ),
        pytest.param(
            [
                _fragment({"arguments": '{"city":'}),
                _fragment({"name": "weather", "arguments": ' "Bern"}'}, id="call_a"),
            ],
            id="arguments first",
        ),
        pytest.param(
            [_fragment({}, id="call_a"), _fragment({"name": "weather", "arguments": '{"city": "Bern"}'})],
            id="id first",
        ),
    ],
)
def test_a_call_is_named_once_however_it_comes(rig: Rig, fragments: list[dict[str, Any]]) -> None:
    rig.engine.script = Script(events=(*fragments, CALLED))

    *chunks, _ = events(rig.ask({**CHAT, "tools": TOOLS, "stream": True}).data)

    pieces = [call for one in chunks for call in one["choices"][0]["delta"].get("tool_calls", ())]
    # As OpenAI's clients do, texts of one field are joined.
    assert "".join(one.get("id", "") for one in pieces) == "call_a"
    assert "".join(one["function"].get("name", "") for one in pieces) == "weather"
    assert "".join(one["function"]["arguments"] for one in pieces) == '{"city": "Bern"}'
    assert pieces[0]["function"]["name"] == "weather", "clients make room for a call when they hear its name"


def test_an_id_that_comes_late_is_not_a_second_one(rig: Rig) -> None:
    late = [_fragment({"name": "weather", "arguments": "{"}), _fragment({"arguments": "}"}, id="call_a")]
    rig.engine.script = Script(events=(*late, CALLED))

    *chunks, _ = events(rig.ask({**CHAT, "tools": TOOLS, "stream": True}).data)

    pieces = [call for one in chunks for call in one["choices"][0]["delta"].get("tool_calls", ())]
    assert "".join(one.get("id", "") for one in pieces) == "call_0"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_call_of_no_function_is_none_unless_it_was_cut(rig: Rig, *, stream: bool) -> None:
    call = [{"index": 0, "id": "call_a", "function": {"arguments": "{}"}}]
    told = {"index": 0, "delta": {"tool_calls": call}, "finish_reason": "tool_calls"}
    rig.engine.script = Script(events=({"choices": [told]},))
    assert b'"engine_error"' in rig.ask({**CHAT, "tools": TOOLS, "stream": stream}).data

    rig.engine.script = Script(events=({"choices": [{**told, "finish_reason": "length"}]},))
    cut = rig.ask({**CHAT, "tools": TOOLS, "stream": stream})

    assert cut.status_code == 200
    assert b"tool_calls" not in cut.data


def test_a_mark_of_byte_order_takes_no_word_of_an_answer(rig: Rig) -> None:
    first = codecs.BOM_UTF8 + b"data: " + json.dumps({"choices": [_told("one ")]}).encode() + b"\r\n\r\n"
    rig.engine.script = Script(events=(first, {"choices": [_told("two", "stop")]}))

    assert said(events(rig.ask({**CHAT, "stream": True}).data)) == "one two"


_WEATHER: dict[str, Any] = {"index": 0, "id": "call_a", "function": {"name": "weather", "arguments": "{}"}}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", {**CHAT, "tools": TOOLS, "tool_choice": "none"}),
        ("/v1/completions", {"model": MODEL, "prompt": "hello there"}),
        ("/api/generate", {"model": MODEL, "prompt": "hello there"}),
    ],
)
def test_a_call_where_no_function_may_be_called_is_no_answer(
    rig: Rig, path: str, body: dict[str, Any], *, stream: bool
) -> None:
    told = {"index": 0, "delta": {"tool_calls": [_WEATHER]}, "finish_reason": "stop"}
    rig.engine.script = Script(events=({"choices": [told]},))

    response = rig.ask({**body, "stream": stream}, path=path)

    assert b"weather" not in response.data
    assert b"engine_error" in response.data
    assert [one["outcome"] for one in rig.bodies("request.outcome")] == ["error"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_thought_in_a_completion_is_no_answer(rig: Rig, *, stream: bool) -> None:
    told = {"index": 0, "delta": {"reasoning_content": "hm", "content": "yes"}, "finish_reason": "stop"}
    rig.engine.script = Script(events=({"choices": [told]},))

    response = rig.ask({"model": MODEL, "prompt": "hello there", "stream": stream}, path="/v1/completions")

    assert b"hm" not in response.data
    assert b"engine_error" in response.data
    assert [one["outcome"] for one in rig.bodies("request.outcome")] == ["error"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_probabilities_that_nobody_asked_for_are_not_told(rig: Rig, *, stream: bool) -> None:
    one = {"token": "yes", "logprob": -0.5, "bytes": None, "top_logprobs": []}
    rig.engine.script = Script(events=({"choices": [{**_told("yes", "stop"), "logprobs": {"content": [one]}}]},))

    unasked = rig.ask({**CHAT, "stream": stream})
    asked = rig.ask({**CHAT, "stream": stream, "logprobs": True})

    assert unasked.status_code == 200
    assert b"-0.5" not in unasked.data
    assert b"-0.5" in asked.data


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_two_calls_of_one_id_are_told_apart(rig: Rig, *, stream: bool) -> None:
    calls = [{**_WEATHER, "index": index, "id": told} for index, told in enumerate(["call_2", "call_2", ""])]
    told = {"index": 0, "delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}
    rig.engine.script = Script(events=({"choices": [told]},))

    response = rig.ask({**CHAT, "tools": TOOLS, "stream": stream})

    chunks = events(response.data)[:-1] if stream else [response.json]
    said_calls = [
        call
        for chunk in chunks
        for choice in chunk["choices"]
        for call in choice["delta" if stream else "message"].get("tool_calls", ())
    ]
    ids = [call["id"] for call in said_calls if "id" in call]
    assert ids[0] == "call_2"
    assert len(set(ids)) == len(ids) == 3


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_answer_without_a_call_did_not_end_with_one(rig: Rig, *, stream: bool) -> None:
    rig.engine.script = Script(events=({"choices": [_told("yes", "tool_calls")]},))

    response = rig.ask({**CHAT, "tools": TOOLS, "stream": stream})

    last = events(response.data)[-2] if stream else response.json
    assert last["choices"][0]["finish_reason"] == "stop"
    assert [one["finish_reason"] for one in rig.bodies("request.outcome")] == ["stop"]


def test_no_more_tokens_are_thoughts_than_were_written(rig: Rig) -> None:
    counted = {"prompt_tokens": 3, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 5}}
    rig.engine.script = Script(events=({"choices": [_told("yes", "stop")], "usage": counted},))

    told = rig.ask(CHAT).json["usage"]

    assert (told["completion_tokens"], told["completion_tokens_details"]) == (4, {"reasoning_tokens": 4})
