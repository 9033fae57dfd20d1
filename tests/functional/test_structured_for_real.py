"""What llama.cpp's engine promises beyond the contract of all engines, with the real model.

Run as the contract's test of a real engine is: by `SEALIFT_ENGINE_SOCKET`, which names an engine's socket.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.serve.client import EngineClient

REAL = os.environ.get("SEALIFT_ENGINE_SOCKET", "")
CHAT = {"messages": [{"role": "user", "content": "Count from one to twenty in words, please."}]}
GREEDY = {"temperature": 0, "seed": 1, "max_tokens": 24}

pytestmark = pytest.mark.skipif(not REAL, reason="no real engine is named")


@pytest.fixture
def client() -> Iterator[EngineClient]:
    with EngineClient(Path(REAL), read_seconds=120) as client:
        yield client


def _text(answer: dict[str, Any]) -> str:
    choice = answer["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


def _streamed(events: list[dict[str, Any]]) -> str:
    choices = [choice for event in events for choice in event["choices"]]
    return "".join(one["delta"].get("content") or "" if "delta" in one else one["text"] for one in choices)


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["größe", 'a "b"', "c\\d"]},
        "age": {"type": "integer"},
        "friend": {"anyOf": [{"$ref": "#/$defs/Friend"}, {"type": "null"}]},
    },
    "required": ["name", "kind", "age", "friend"],
    "additionalProperties": False,
    "$defs": {
        "Friend": {
            "type": "object",
            "properties": {"since": {"type": "string", "format": "date"}},
            "required": ["since"],
        }
    },
}
LOOK_UP = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.mark.parametrize("seed", range(4))
def test_an_answer_follows_its_schema_at_any_temperature(client: EngineClient, seed: int) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
    body = {**CHAT, "temperature": 0.4 * seed, "seed": seed, "max_tokens": 256, "response_format": wanted}

    answer = client.chat(body)
    streamed = _streamed(list(client.chat_stream(body)))

    assert answer["choices"][0]["finish_reason"] == "stop"
    for text in (_text(answer), streamed):
        person = json.loads(text)
        assert list(person) == ["name", "kind", "age", "friend"]
        assert len(person["name"]) <= 12
        assert person["kind"] in {"größe", 'a "b"', "c\\d"}
        assert type(person["age"]) is int
        assert person["friend"] is None or re.fullmatch(r"\d{4}-\d\d-\d\d", person["friend"]["since"])


def test_a_property_without_a_name_is_one_of_its_object_and_not_the_answer(client: EngineClient) -> None:
    nameless = {"type": "object", "properties": {"": {"enum": [7]}}, "required": [""], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "nameless", "schema": nameless}}

    answer = client.chat({**CHAT, **GREEDY, "response_format": wanted})

    assert json.loads(_text(answer)) == {"": 7}


def test_any_json_object_is_an_object(client: EngineClient) -> None:
    body = {**CHAT, "temperature": 1.0, "seed": 3, "max_tokens": 300, "response_format": {"type": "json_object"}}

    answer = client.chat(body)

    assert answer["choices"][0]["finish_reason"] == "length" or isinstance(json.loads(_text(answer)), dict)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look_up"}}])
def test_a_function_that_must_be_called_is_called(client: EngineClient, choice: Any) -> None:
    body = {**CHAT, **GREEDY, "max_tokens": 128, "tools": [LOOK_UP], "tool_choice": choice}

    answer = client.chat(body)["choices"][0]
    deltas = [one["delta"] for event in client.chat_stream(body) for one in event["choices"]]

    (call,) = answer["message"]["tool_calls"]
    pieces = [one for delta in deltas for one in delta.get("tool_calls") or []]
    assert call["function"]["name"] == pieces[0]["function"]["name"] == "look_up"
    assert set(json.loads(call["function"]["arguments"])) == {"city"}
    assert "".join(one["function"]["arguments"] for one in pieces) == call["function"]["arguments"]
    assert answer["finish_reason"] == ("tool_calls" if choice == "required" else "stop")


def test_a_function_that_may_be_called_leaves_text_or_a_call(client: EngineClient) -> None:
    message = client.chat({**CHAT, **GREEDY, "tools": [LOOK_UP]})["choices"][0]["message"]

    assert bool(message["content"]) != bool(message.get("tool_calls"))


def test_several_answers_differ_by_their_seeds_and_repeat(client: EngineClient) -> None:
    body = {**CHAT, "temperature": 1.0, "seed": 11, "max_tokens": 12, "n": 3}

    answer, again = client.chat(body), client.chat(body)

    texts = [one["message"]["content"] for one in sorted(answer["choices"], key=lambda one: one["index"])]
    assert [one["index"] for one in sorted(answer["choices"], key=lambda one: one["index"])] == [0, 1, 2]
    assert len(set(texts)) > 1
    assert again["usage"] == answer["usage"]
    assert answer["usage"]["completion_tokens"] <= 36


def test_probabilities_are_those_of_the_tokens_that_were_said(client: EngineClient) -> None:
    choice = client.chat({**CHAT, **GREEDY, "logprobs": True, "top_logprobs": 3})["choices"][0]

    told = choice["logprobs"]["content"]
    assert "".join(one["token"] for one in told).strip() == choice["message"]["content"].strip()
    for one in told:
        assert len(one["top_logprobs"]) == 3
        assert one["logprob"] == pytest.approx(one["top_logprobs"][0]["logprob"])  # greedy takes the likeliest
        assert one["logprob"] <= 0


def test_what_was_read_for_one_salt_changes_no_answer(client: EngineClient) -> None:
    texts = {
        _text(client.chat({**CHAT, **GREEDY, "max_tokens": 6, **salt}))
        for salt in ({}, {"cache_salt": "one"}, {"cache_salt": "one"}, {"cache_salt": "two"})
    }

    assert len(texts) == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_hot_answer_is_still_json_that_strict_readers_take(client: EngineClient, seed: int) -> None:
    note = {"type": "object", "properties": {"text": {"type": "string", "maxLength": 40}}, "required": ["text"]}
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": note}}
    wanted = {"type": "json_schema", "json_schema": {"name": "note", "schema": schema}}

    answer = client.chat({**CHAT, "temperature": 2.0, "seed": seed, "max_tokens": 400, "response_format": wanted})

    assert set(json.loads(_text(answer), strict=True)) == {"text"}


def test_a_bias_decides_which_token_is_drawn(client: EngineClient) -> None:
    asked = {**CHAT, **GREEDY, "max_tokens": 4}
    free = _text(client.chat(asked))
    pushed = _text(client.chat({**asked, "logit_bias": {"1000": 100}}))
    assert pushed != free
    assert len(set(re.findall(r"\S+", pushed))) == 1, "the same token again and again"
