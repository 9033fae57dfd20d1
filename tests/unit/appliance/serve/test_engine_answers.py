"""The engine's own HTTP over a deterministic decoder: schemas, functions, several answers, probabilities."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from appliance.serve.chat_template import ChatTemplate
from tests.support.decoder import EchoDecoder
from tests.support.engine_app import engine_app, events

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "says the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture
def decoder() -> EchoDecoder:
    return EchoDecoder(context_tokens=4096, batch_tokens=64, sequences=4)


@pytest.fixture
def engine(request: pytest.FixtureRequest, decoder: EchoDecoder) -> Iterator[FlaskClient]:
    template = ChatTemplate(
        "{% for m in messages %}{% if loop.first and m.role == 'assistant' %}"
        "{{ raise_exception('the user begins') }}{% endif %}{{ m.content }}{% endfor %}"
    )
    app, scheduler = engine_app(decoder, template, system_prompt=getattr(request, "param", ""))
    yield app.test_client()
    scheduler.stop()


def chat(engine: FlaskClient, text: str = "abc", **fields: Any) -> Any:
    return engine.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": text}], **fields})


@pytest.mark.parametrize("engine", ["be brief. "], indirect=True)
def test_a_versions_own_prompt_goes_before_every_conversation(engine: FlaskClient) -> None:
    first = chat(engine, "abc").json
    counted = engine.post(
        "/sealift/v1/tokenize",
        json={"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]},
    ).json

    # The decoder says the letters of its prompt again in capitals.
    assert first["choices"][0]["message"]["content"] == "BEBRIEFABC"
    assert first["usage"]["prompt_tokens"] == len("be brief. abc")
    assert counted == {"tokens": len("be brief. xy")}


def test_messages_that_the_template_refuses_are_the_callers_fault(engine: FlaskClient) -> None:
    refused: Any = engine.post("/v1/chat/completions", json={"messages": [{"role": "assistant", "content": "abc"}]})

    error = refused.json["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "messages_refused", "messages")
    assert "the user begins" in error["message"]


def test_a_text_without_a_template_is_opened_as_the_models_tokenizer_does(
    engine: FlaskClient, decoder: EchoDecoder
) -> None:
    decoder.opening = (ord("<"), ord(">"))

    answer: Any = engine.post("/v1/completions", json={"prompt": "abc"}).json
    counted: Any = engine.post("/sealift/v1/tokenize", json={"prompt": "abc"}).json
    scored: Any = engine.post("/sealift/v1/score", json={"prompt": "ab", "continuations": ["c"]}).json
    chatted = chat(engine).json["usage"]["prompt_tokens"]

    assert (answer["usage"]["prompt_tokens"], counted["tokens"], chatted) == (5, 5, 3)
    assert scored["tokens"] == [1], "what goes on from a text is not opened again"


def test_an_answer_follows_its_schema(engine: FlaskClient) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}

    choice = chat(engine, response_format=wanted).json["choices"][0]

    assert json.loads(choice["message"]["content"]) == {"name": "x", "age": 7}
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}}, "response_format"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"response_format": {"type": "json_object"}, "tools": [WEATHER]}, "response_format"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "clock"}}}, "tools"),
        (
            {"tools": [{"function": {"name": "a", "strict": True, "parameters": {"type": "object", "minimum": 1}}}]},
            "tools",
        ),
        ({"n": 17}, "n"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"cache_salt": ""}, "cache_salt"),
        ({"priority": 10**6}, "priority"),
        ({"temperature": -1}, "temperature"),
        ({"presence_penalty": "much"}, "presence_penalty"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(engine: FlaskClient, fields: dict[str, Any], param: str) -> None:
    response = chat(engine, **fields)

    assert (response.status_code, response.json["error"]["param"]) == (400, param)


def test_a_function_is_called_when_it_must_be(engine: FlaskClient) -> None:
    choice = chat(engine, tools=[WEATHER, CLOCK], tool_choice="required").json["choices"][0]

    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "x"}
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)


@pytest.mark.parametrize("stop", ["\n", "weather", "x", '"'])
def test_a_stop_text_ends_no_call(engine: FlaskClient, stop: str) -> None:
    """Scenario: an application names a line break for its chats, and asks for a call with the same settings."""
    choice = chat(engine, tools=[WEATHER], tool_choice="required", stop=[stop]).json["choices"][0]

    (call,) = choice["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"city": "x"}
    assert choice["finish_reason"] == "tool_calls"


def test_the_function_that_was_named_is_called_and_the_reason_is_the_models(engine: FlaskClient) -> None:
    choice = chat(engine, tools=[WEATHER, CLOCK], tool_choice={"type": "function", "function": {"name": "clock"}})

    choice = choice.json["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "clock", "arguments": "{}"}
    assert choice["finish_reason"] == "stop"


def test_a_streamed_call_says_its_name_once_and_then_its_arguments(engine: FlaskClient) -> None:
    deltas = [
        choice["delta"]
        for event in events(chat(engine, tools=[WEATHER], tool_choice="required", stream=True))
        for choice in event["choices"]
    ]

    pieces = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert [piece["function"].get("name") for piece in pieces if "id" in piece] == ["weather"]
    assert json.loads("".join(piece["function"]["arguments"] for piece in pieces)) == {"city": "x"}
    assert not any(delta.get("content") for delta in deltas)


def test_nothing_is_called_where_nothing_may_be(engine: FlaskClient) -> None:
    message = chat(engine, tools=[WEATHER], tool_choice="none").json["choices"][0]["message"]

    assert message == {"role": "assistant", "content": "ABC"}


def test_several_answers_come_with_their_indices_and_are_counted_together(engine: FlaskClient) -> None:
    whole = chat(engine, n=3).json
    streamed = events(chat(engine, n=3, stream=True))

    assert [(one["index"], one["message"]["content"]) for one in whole["choices"]] == [(at, "ABC") for at in range(3)]
    assert whole["usage"]["completion_tokens"] == 9
    texts = [""] * 3
    for event in streamed:
        for choice in event["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == ["ABC"] * 3
    assert streamed[-1]["usage"]["completion_tokens"] == 9


def test_probabilities_come_with_the_tokens_they_are_about(engine: FlaskClient) -> None:
    whole = chat(engine, logprobs=True, top_logprobs=2).json["choices"][0]["logprobs"]["content"]
    streamed = [
        one
        for event in events(chat(engine, logprobs=True, stream=True))
        for choice in event["choices"]
        for one in (choice["logprobs"] or {"content": []})["content"]
    ]
    completion: Any = engine.post("/v1/completions", json={"prompt": "abc", "logprobs": 1}).json
    legacy = completion["choices"][0]["logprobs"]

    assert [(one["token"], one["bytes"], len(one["top_logprobs"])) for one in whole] == [
        ("A", [65], 2),
        ("B", [66], 2),
        ("C", [67], 2),
    ]
    assert [one["token"] for one in streamed] == ["A", "B", "C"]
    assert (legacy["tokens"], legacy["token_logprobs"]) == (["A", "B", "C"], [-0.5] * 3)
    assert len(legacy["top_logprobs"][0]) == 1


def test_an_engine_that_stops_is_an_error_and_no_short_answer(engine: FlaskClient, decoder: EchoDecoder) -> None:
    decoder.fail_at_step = 2

    assert chat(engine, "abcdef").status_code == 500
    decoder.fail_at_step = len(decoder.steps) + 2
    lines = chat(engine, "abcdef", stream=True).get_data(as_text=True)

    assert '"error"' in lines
    assert "[DONE]" not in lines
