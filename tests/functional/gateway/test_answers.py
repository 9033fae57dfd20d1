"""What a caller gets: bodies, chunks and headers, exactly."""

import re
from typing import Any

import pytest

from tests.support.engine import MODEL_DIGEST, Script
from tests.support.gateway import MODEL, Rig, events, said

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello there"}]}
REQUEST_ID = re.compile(r"req_[a-z2-7]{26}")


def test_a_chat_is_answered_in_openais_shape(rig: Rig) -> None:
    response = rig.ask(CHAT)

    assert response.status_code == 200
    body = response.get_json()
    assert REQUEST_ID.fullmatch(response.headers["x-request-id"])
    assert body == {
        "id": "chatcmpl-" + response.headers["x-request-id"].removeprefix("req_"),
        "object": "chat.completion",
        "created": int(rig.clock.now().timestamp()),
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "You said: hello there", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8},
    }


def test_every_answer_says_which_version_gave_it_and_what_was_done(rig: Rig) -> None:
    headers = rig.ask({**CHAT, "store": False, "user": "jane", "metadata": {}}).headers

    assert headers["x-model-version"] == MODEL_DIGEST
    assert headers["x-sealift-phi"] == "none"
    assert headers["x-sealift-ignored"] == "metadata, store, user"
    assert headers["openai-processing-ms"] == "0"
    assert headers["x-ratelimit-limit-requests"] == "600"
    assert headers["x-ratelimit-remaining-requests"] == "599"
    assert headers["x-ratelimit-reset-requests"] == "100ms"
    assert headers["cache-control"] == "no-store"


def test_a_stream_names_the_role_first_one_reason_last_and_is_done(rig: Rig) -> None:
    response = rig.ask({**CHAT, "stream": True})

    stream = events(response.data)
    chunks = stream[:-1]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["cache-control"] == "no-cache"
    assert stream[-1] == "[DONE]"
    assert chunks[0]["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
    assert said(chunks) == "You said: hello there"
    assert [one["choices"][0]["finish_reason"] for one in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert {(one["id"], one["created"], one["model"], one["object"]) for one in chunks} == {
        (
            "chatcmpl-" + response.headers["x-request-id"].removeprefix("req_"),
            int(rig.clock.now().timestamp()),
            MODEL,
            "chat.completion.chunk",
        )
    }
    assert all("usage" not in one for one in chunks)


def test_usage_comes_in_one_chunk_without_choices_only_when_asked_for(rig: Rig) -> None:
    *chunks, usage, done = events(rig.ask({**CHAT, "stream": True, "stream_options": {"include_usage": True}}).data)

    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}
    assert all(one["usage"] is None for one in chunks)


def test_a_completion_is_answered_whole_and_streamed(rig: Rig) -> None:
    body = {"model": "production", "prompt": "hello there"}

    whole = rig.ask(body, path="/v1/completions").get_json()
    *chunks, done = events(rig.ask({**body, "stream": True}, path="/v1/completions").data)

    assert whole["object"] == "text_completion"
    assert whole["id"].startswith("cmpl-")
    assert whole["choices"] == [
        {"index": 0, "text": "You said: hello there", "logprobs": None, "finish_reason": "stop"}
    ]
    assert said(chunks) == "You said: hello there"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert done == "[DONE]"


def test_an_answer_that_was_cut_says_so(rig: Rig) -> None:
    body = rig.ask({**CHAT, "max_tokens": 2}).get_json()

    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 2


def test_tool_calls_are_passed_on_whole_and_streamed(rig: Rig) -> None:
    call: dict[str, Any] = {"id": "call_a", "function": {"name": "get_weather", "arguments": '{"city": "Bern"}'}}
    rig.engine.script = Script(text="", tool_calls=(call,))
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]

    whole = rig.ask({**CHAT, "tools": tools, "tool_choice": "auto"}).get_json()["choices"][0]
    *chunks, _ = events(rig.ask({**CHAT, "tools": tools, "stream": True}).data)

    assert whole["finish_reason"] == "tool_calls"
    assert whole["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [call | {"type": "function"}],
    }
    pieces = [
        one["choices"][0]["delta"]["tool_calls"][0] for one in chunks if "tool_calls" in one["choices"][0]["delta"]
    ]
    assert (pieces[0]["id"], pieces[0]["type"], pieces[0]["function"]["name"]) == ("call_a", "function", "get_weather")
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"city": "Bern"}'
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert rig.engine.last["tools"] == tools


@pytest.mark.parametrize(
    "tools",
    [{"tools": [{"type": "function", "function": {"name": "f"}}]}, {}, {"tools": []}],
    ids=["given", "left out at the end", "none"],
)
def test_a_tools_answer_is_taken_whether_or_not_there_are_tools_still(rig: Rig, tools: dict[str, Any]) -> None:
    call = {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "annotations": []},
        {"role": "tool", "tool_call_id": "call_a", "content": "done"},
    ]

    assert rig.ask({"model": MODEL, "messages": messages, **tools}).status_code == 200
    assert rig.engine.last["messages"] == [
        messages[0],
        {"role": "assistant", "content": None, "tool_calls": [call | {"id": "call00001"}]},
        messages[2] | {"tool_call_id": "call00001"},
    ]


def test_a_developers_orders_are_the_systems(rig: Rig) -> None:
    said = [{"role": "developer", "content": [{"type": "text", "text": "Be brief."}]}, {"role": "user", "content": "x"}]

    assert (
        rig.ask({"model": MODEL, "messages": said, "reasoning_effort": "none", "verbosity": "medium"}).status_code
        == 200
    )
    assert rig.engine.last["messages"][0] == {"role": "system", "content": "Be brief."}


def test_the_engine_gets_explicit_values_and_the_digest_as_its_models_name(rig: Rig) -> None:
    rig.promote(temperature=0.2, top_p=0.8)

    rig.ask(CHAT)

    assert rig.engine.last == {
        "model": MODEL_DIGEST,
        "stream": False,
        "max_tokens": 1024,
        "temperature": 0.2,
        "top_p": 0.8,
        "messages": [{"role": "user", "content": "hello there"}],
    }


@pytest.mark.parametrize(
    ("own", "named", "sent"),
    [
        (256, {}, 256),
        (256, {"max_tokens": None}, 256),
        (256, {"max_tokens": 1024}, 1024),
        (256, {"max_completion_tokens": 7}, 7),
        (100_000, {}, 4096),
        (0, {}, 1024),
    ],
    ids=["the version's", "null is none", "the caller's", "its newer name", "never above the site's", "the site's"],
)
def test_who_names_no_length_gets_the_versions(rig: Rig, own: int, named: dict[str, Any], sent: int) -> None:
    rig.promote(max_tokens=own)

    assert rig.ask({**CHAT, **named}).status_code == 200
    assert rig.engine.last["max_tokens"] == sent


def test_a_version_without_room_for_the_callers_length_does_not_lift_the_sites_ceiling(rig: Rig) -> None:
    rig.promote(max_tokens=100_000)

    assert rig.ask({**CHAT, "max_tokens": 4097}).status_code == 400


def test_the_engine_gets_what_the_caller_asked_for_and_no_person(rig: Rig) -> None:
    rig.ask(
        {
            **CHAT,
            "temperature": 2,
            "top_p": 0.5,
            "max_completion_tokens": 7,
            "seed": -3,
            "stop": "\n",
            "stream": True,
            "user": "jane.doe",
            "n": 1,
            "logit_bias": {},
            "frequency_penalty": 0.0,
        }
    )

    assert rig.engine.last == {
        "model": MODEL_DIGEST,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 7,
        "temperature": 2.0,
        "top_p": 0.5,
        "seed": -3,
        "stop": ["\n"],
        "messages": [{"role": "user", "content": "hello there"}],
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_the_callers_choice_of_tool_is_passed_on(rig: Rig, choice: Any, sent: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]

    assert rig.ask({**CHAT, "tools": tools, "tool_choice": choice, "parallel_tool_calls": False}).status_code == 200
    assert rig.engine.last["tool_choice"] == sent
    assert rig.engine.last["parallel_tool_calls"] is False


def test_the_models_are_the_promoted_one_and_its_alias(rig: Rig) -> None:
    body = rig.client.get("/v1/models", headers=rig.headers()).get_json()

    assert body["object"] == "list"
    assert [(one["id"], one["object"], one["owned_by"]) for one in body["data"]] == [
        (MODEL, "model", "sealift"),
        ("production", "model", "sealift"),
    ]
    assert body["data"][0]["sealift"]["model_digest"] == MODEL_DIGEST
    assert rig.client.get(f"/v1/models/{MODEL}", headers=rig.headers()).get_json() == body["data"][0]


def test_there_are_no_models_while_nothing_is_promoted(rig: Rig) -> None:
    rig.routes.route = None

    assert rig.client.get("/v1/models", headers=rig.headers()).get_json() == {"object": "list", "data": []}
    assert rig.client.get(f"/v1/models/{MODEL}", headers=rig.headers()).status_code == 404


def test_text_parts_are_joined_and_control_characters_left_out(rig: Rig) -> None:
    parts = [{"type": "text", "text": "a\x00b\x1b[31m"}, {"type": "text", "text": "c\r\n\td\x7f"}]

    rig.ask({"model": MODEL, "messages": [{"role": "user", "content": parts}]})

    assert rig.engine.last["messages"][0]["content"] == "ab[31mc\r\n\td"


HOSTILE = (
    "line\rfeed",
    "a\r\n\r\ndata: {}\n\n",
    "\u2028data: [DONE]\u2029\x85",
    "data: [DONE]\n\n",
    "\n\nevent: error\n\n",
    ": comment\n",
    "</script>\x00\x1b",
    "\ud83d",
    "😀",
)


@pytest.mark.parametrize("pieces", [HOSTILE, ("".join(HOSTILE),)])
def test_no_text_of_a_model_breaks_out_of_an_event(rig: Rig, pieces: tuple[str, ...]) -> None:
    rig.engine.script = Script(pieces=pieces)

    streamed = rig.ask({**CHAT, "stream": True}).data
    whole = rig.ask(CHAT).get_json()["choices"][0]["message"]["content"]

    assert said(events(streamed)) == "".join(pieces) == whole
    assert streamed.isascii()
    assert streamed.count(b"\n\n") == len(events(streamed))
    assert b"\r" not in streamed


def test_a_model_that_says_nothing_is_answered_with_nothing(rig: Rig) -> None:
    rig.engine.script = Script(text="")

    *chunks, done = events(rig.ask({**CHAT, "stream": True}).data)

    assert said(chunks) == ""
    assert len(chunks) == 2
    assert done == "[DONE]"
    assert rig.ask(CHAT).get_json()["choices"][0]["message"]["content"] == ""


def test_an_engine_that_does_not_count_leaves_usage_out(rig: Rig) -> None:
    rig.engine.script = Script(counts=False)

    *chunks, done = events(rig.ask({**CHAT, "stream": True, "stream_options": {"include_usage": True}}).data)

    assert all(one["usage"] is None and one["choices"] for one in chunks)
    assert done == "[DONE]"
