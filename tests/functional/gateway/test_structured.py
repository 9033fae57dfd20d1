"""Schemas, functions, several answers and probabilities through the gateway and llama.cpp's engine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.phi.policy import PhiMode
from tests.support.decoder import EchoDecoder
from tests.support.echo_engine import echo_engine
from tests.support.engine import Script
from tests.support.gateway import MODEL, Rig, events, key_text

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "look_up", "parameters": PERSON}}


@pytest.fixture
def decoder(tmp_path: Path) -> Iterator[EchoDecoder]:
    with echo_engine(tmp_path / "ours.sock") as decoder:
        yield decoder


@pytest.fixture
def ours(rig: Rig, decoder: EchoDecoder, tmp_path: Path) -> Rig:
    """The gateway before llama.cpp's engine."""
    rig.promote(socket=tmp_path / "ours.sock", engine="llama.cpp")
    return rig


def test_an_answer_follows_its_schema_whole_and_streamed(ours: Rig) -> None:
    whole = ours.chat("abc", response_format=SCHEMA).get_json()["choices"][0]
    stream = events(ours.chat("abc", response_format=SCHEMA, stream=True).data)

    text = "".join(one["delta"].get("content") or "" for event in stream[:-1] for one in event["choices"])
    assert json.loads(whole["message"]["content"]) == json.loads(text) == {"name": "x", "age": 7}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {}}}}}, "response"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": PERSON, "strict": True}}]}, ""),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "f", "strict": True, "parameters": {"type": "object", "allOf": []}},
                    }
                ]
            },
            "tools[0].function.parameters",
        ),
        ({"tools": [TOOL], "response_format": SCHEMA}, "response"),
    ],
)
def test_a_schema_that_is_not_kept_is_refused_by_name(ours: Rig, fields: dict[str, Any], param: str) -> None:
    response = ours.chat("abc", **fields)

    assert response.status_code == (400 if param else 200)
    assert param in str(response.get_json().get("error", {}).get("param"))


def test_a_function_is_called_whole_and_streamed(ours: Rig) -> None:
    whole = ours.chat("abc", tools=[TOOL], tool_choice="required").get_json()["choices"][0]
    stream = events(ours.chat("abc", tools=[TOOL], tool_choice="required", stream=True).data)

    pieces = [call for event in stream[:-1] for one in event["choices"] for call in one["delta"].get("tool_calls", [])]
    (call,) = whole["message"]["tool_calls"]
    assert whole["finish_reason"] == "tool_calls"
    assert json.loads(call["function"]["arguments"]) == {"name": "x", "age": 7}
    assert pieces[0]["function"]["name"] == "look_up"
    assert json.loads("".join(one["function"]["arguments"] for one in pieces)) == {"name": "x", "age": 7}


def test_several_answers_are_told_apart_counted_and_recorded_as_one_request(ours: Rig) -> None:
    whole = ours.chat("abc", n=3).get_json()
    stream = events(ours.chat("abc", n=3, stream=True, stream_options={"include_usage": True}).data)

    assert [(one["index"], one["message"]["content"]) for one in whole["choices"]] == [(at, "ABC") for at in range(3)]
    assert whole["usage"]["completion_tokens"] == 9
    reasons = [
        (one["index"], one["finish_reason"]) for e in stream[:-1] for one in e["choices"] if one["finish_reason"]
    ]
    assert reasons == [(0, "stop"), (1, "stop"), (2, "stop")]
    assert stream[-2]["usage"]["completion_tokens"] == 9
    outcomes = ours.bodies("request.outcome")
    assert [one["completion_tokens"] for one in outcomes] == [9, 9]
    expected = ours.keys.hmac("content-hmac", b"ABC\x1eABC\x1eABC").hex()
    assert {one["response_hmac"] for one in outcomes} == {expected}


def test_probabilities_come_in_both_endpoints_shapes(ours: Rig) -> None:
    chat = ours.chat("abc", logprobs=True, top_logprobs=1).get_json()["choices"][0]["logprobs"]["content"]
    body = {"model": MODEL, "prompt": "abc", "logprobs": 1}
    text = ours.ask(body, path="/v1/completions").get_json()["choices"][0]["logprobs"]
    stream = events(ours.ask({**body, "stream": True}, path="/v1/completions").data)

    assert [(one["token"], one["logprob"], one["bytes"], len(one["top_logprobs"])) for one in chat] == [
        (letter, -0.5, [ord(letter)], 1) for letter in "ABC"
    ]
    assert text["tokens"] == ["A", "B", "C"]
    assert text["text_offset"] == [0, 1, 2]
    drawn = ours.ask({**body, "logprobs": 0}, path="/v1/completions").get_json()["choices"][0]["logprobs"]
    assert drawn["top_logprobs"] == [{letter: -0.5} for letter in "ABC"]  # the drawn token is always among them
    told = [one["logprobs"] for event in stream[:-1] for one in event["choices"] if one["logprobs"]]
    assert [offset for one in told for offset in one["text_offset"]] == [0, 1, 2]
    assert ours.chat("abc").get_json()["choices"][0]["logprobs"] is None


@pytest.mark.parametrize(
    ("fields", "mib"),
    [
        ({"n": 1, "max_tokens": 4096}, 32),
        ({"n": 2, "max_tokens": 4096}, 32),
        ({"n": 8}, 32),
        ({"n": 4, "max_tokens": 4096, "stream": True}, 64),
    ],
    ids=["one", "two", "eight of the usual length", "four in a stream"],
)
def test_as_many_probabilities_as_may_be_asked_for_fit_an_answer(ours: Rig, fields: dict[str, Any], mib: int) -> None:
    assert ours.chat("abc", logprobs=True, top_logprobs=20, **fields).status_code == 200
    told = fields["n"] * fields.get("max_tokens", 1024) * 21
    long = {
        "token": "\ufffd" * 12,
        "logprob": -12.345678901234567,
        "bytes": [237] * 12,
    }
    assert told * len(json.dumps(long, separators=(",", ":")) + ",") < mib * 2**20


def test_what_was_read_for_one_key_is_used_again_for_no_other(ours: Rig, decoder: EchoDecoder) -> None:
    other = ours.api_keys.add(key_text("other23456"))

    ours.chat("abcdefgh")
    before = len(decoder.steps)
    ours.chat("abcdefgh")
    again = len(decoder.steps[before])
    before = len(decoder.steps)
    ours.client.post(
        "/v1/chat/completions",
        json={"model": MODEL, "messages": [{"role": "user", "content": "abcdefgh"}]},
        headers=ours.headers(other),
    )

    assert again == 1
    assert len(decoder.steps[before]) == 8


def test_an_engine_that_is_not_ours_is_told_nothing_of_the_caller(rig: Rig) -> None:
    rig.chat("hello")
    assert not {"cache_salt", "priority"} & set(rig.engine.last)

    rig.promote(engine="vllm")
    rig.ask({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}, X_Sealift_Priority="batch")

    assert rig.engine.last["priority"] == 2
    assert len(rig.engine.last["cache_salt"]) == 32
    assert rig.key.split("-")[1] not in rig.engine.last["cache_salt"]


def test_identifiers_in_a_schema_are_protected_and_restored_inside_json(rig: Rig) -> None:
    schema = {"type": "object", "properties": {"id": {"enum": ["123-45-6789", "none"]}}, "required": ["id"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    rig.engine.script = Script(pieces=('{"id": "[SS', 'N_1]"}'))

    answer = rig.chat("who", response_format=wanted).get_json()["choices"][0]["message"]["content"]

    sent = rig.engine.last["response_format"]["json_schema"]["schema"]
    assert sent["properties"]["id"]["enum"] == ["[SSN_1]", "none"]
    assert json.loads(answer) == {"id": "123-45-6789"}


DATED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "born": {"type": "string", "format": "date"},
        "seen": {"type": ["string", "null"], "format": "date-time"},
        "format": {"type": "string"},
        "id": {"type": "string", "format": "uuid"},
    },
    "required": ["born", "seen", "format", "id"],
    "additionalProperties": False,
}


def test_a_date_that_was_replaced_can_be_answered_where_a_schema_asks_for_a_date(rig: Rig) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": DATED}}
    rig.engine.script = Script(pieces=('{"born": "[DATE_1]", "seen": "[DATE', '_2]", "format": "x", "id": "y"}'))

    answer = rig.chat("Born 3/14/1962, seen 2024-05-02.", response_format=wanted)

    sent = rig.engine.last["response_format"]["json_schema"]["schema"]["properties"]
    assert sent["born"] == {"anyOf": [DATED["properties"]["born"], {"enum": ["[DATE_1]", "[DATE_2]"]}]}
    assert sent["seen"]["anyOf"][0] == DATED["properties"]["seen"]
    assert (sent["format"], sent["id"]) == (DATED["properties"]["format"], DATED["properties"]["id"])
    said = json.loads(answer.get_json()["choices"][0]["message"]["content"])
    assert (said["born"], said["seen"]) == ("3/14/1962", "2024-05-02")


def test_functions_take_the_dates_of_the_question_and_llama_cpps_engine_keeps_them(ours: Rig) -> None:
    book: dict[str, Any] = {"type": "function", "function": {"name": "book", "strict": True, "parameters": DATED}}

    response = ours.chat("Born 3/14/1962.", tools=[book], tool_choice="required")

    (call,) = response.get_json()["choices"][0]["message"]["tool_calls"]
    assert set(json.loads(call["function"]["arguments"])) == set(DATED["properties"])


def test_without_dates_and_with_more_than_an_engine_can_keep_a_schema_stays_one_that_is_kept(ours: Rig) -> None:
    born = {"anyOf": [DATED["properties"]["born"]] * 40}  # as many ways to read a text, each of them wider
    schema = {**DATED, "properties": {**DATED["properties"], "born": born}}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}

    for text in ("nobody", " ".join(f"1/{day}/1962" for day in range(1, 29))):
        response = ours.chat(text, response_format=wanted)
        assert response.status_code == 200, response.get_json()
        assert set(json.loads(response.get_json()["choices"][0]["message"]["content"])) == set(DATED["properties"])


@pytest.mark.parametrize(
    "choice",
    [
        {"index": 1, "message": {"content": "more"}},
        {"index": -1, "message": {"content": "x"}},
        {"index": True, "message": {"content": "x"}},
        {"index": 0, "message": {"content": "x"}, "logprobs": []},
        {"index": 0, "message": {"content": "x"}, "logprobs": {"content": [{"token": 1, "logprob": 0}]}},
        {"index": 0, "message": {"content": "x"}, "logprobs": {"content": [{"token": "a", "logprob": "x"}]}},
        {"index": 0, "message": {"content": "x"}, "logprobs": {"tokens": ["a"], "token_logprobs": []}},
    ],
)
def test_answers_nobody_asked_for_are_the_engines_error(rig: Rig, choice: dict[str, Any]) -> None:
    rig.engine.script = Script(events=({"choices": [choice]},))

    response = rig.chat("hello")

    assert (response.status_code, response.get_json()["error"]["code"]) == (502, "engine_error")


def test_a_key_that_blocks_identifiers_blocks_them_in_schemas(rig: Rig) -> None:
    key = rig.api_keys.add(key_text("blocks2345"), mode=PhiMode.BLOCK)
    schema = {"type": "object", "properties": {"a": {"const": "123-45-6789"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}

    response = rig.client.post(
        "/v1/chat/completions",
        json={"model": MODEL, "messages": [{"role": "user", "content": "x"}], "response_format": wanted},
        headers=rig.headers(key),
    )

    assert response.get_json()["error"]["code"] == "phi_blocked"


def test_biases_reach_the_sampler_and_tokens_that_there_are_not_are_refused(ours: Rig, decoder: EchoDecoder) -> None:
    assert ours.chat("abc", logit_bias={"65": -100, "66": 0.5}).status_code == 200
    assert decoder.begun[-1].logit_bias == ((65, -100.0), (66, 0.5))

    refused = ours.chat("abc", logit_bias={str(decoder.vocabulary_tokens): 1})
    error = refused.get_json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "engine_refused", "logit_bias")


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize(("form", "said"), [("json", {}), (PERSON, {"name": "x", "age": 7})])
def test_ollamas_format_is_kept_as_a_schema(ours: Rig, path: str, form: Any, said: dict[str, Any]) -> None:
    asked = {"messages": [{"role": "user", "content": "abc"}]} if path == "/api/chat" else {"prompt": "abc"}
    answer = ours.ask({"model": MODEL, "stream": False, "format": form, **asked}, path=path).get_json()
    text = answer["message"]["content"] if path == "/api/chat" else answer["response"]
    assert json.loads(text) == said


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"format": "yaml"}, "invalid_value"),
        ({"format": {"type": "object", "not": {}}}, "invalid_schema"),
        ({"format": "json", "raw": True}, "unsupported_parameter"),
    ],
)
def test_a_format_that_is_not_kept_is_refused_as_ollama_names_it(ours: Rig, fields: dict[str, Any], code: str) -> None:
    refused = ours.ask({"model": MODEL, "prompt": "abc", "stream": False, **fields}, path="/api/generate").get_json()
    assert (refused["code"], refused["param"]) == (code, "format")


def test_what_a_model_did_not_see_of_a_conversation_is_told(rig: Rig) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "dropped_tokens": 236}
    rig.engine.script = Script(text="fine", usage=usage)

    whole = rig.chat("abc")
    assert whole.headers["x-sealift-dropped-tokens"] == "236"
    assert whole.get_json()["usage"]["dropped_tokens"] == 236
    *_, last, _done = events(rig.chat("abc", stream=True, stream_options={"include_usage": True}).data)
    assert last["usage"]["dropped_tokens"] == 236
    asked = {"model": MODEL, "prompt": "abc", "stream": False}
    assert rig.ask(asked, path="/api/generate").get_json()["dropped_tokens"] == 236
