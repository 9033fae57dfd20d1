"""What other servers take and this one does not, and what none of them takes: each is refused by its name.

Theirs are vLLM's tests/entrypoints and tests/tool_use, llama.cpp's tools/server/tests/unit and Ollama's server and
middleware tests. A caller of theirs learns from `param` what to leave out.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.echo_gateway import echo_gateway
from tests.support.gateway import MODEL, Rig, events, said

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "abc"}]}
TEXT: dict[str, Any] = {"model": MODEL, "prompt": "abc"}
FUNCTION: dict[str, Any] = {"name": "f", "parameters": {"type": "object", "properties": {}}}
TOOLS: dict[str, Any] = {"tools": [{"type": "function", "function": FUNCTION}]}
CALL: dict[str, Any] = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}

OF_OTHERS: dict[str, Any] = {  # vLLM's first, then llama.cpp's
    "use_beam_search": True, "min_tokens": 1, "ignore_eos": True, "stop_token_ids": [1], "length_penalty": 1.0,
    "skip_special_tokens": False, "include_stop_str_in_output": True, "prompt_logprobs": 1, "chat_template": "x",
    "add_generation_prompt": False, "continue_final_message": True, "truncate_prompt_tokens": 4, "priority": 1,
    "guided_json": {}, "structured_outputs": {"regex": "a"}, "return_token_ids": True, "cache_salt": "x",
    "include_reasoning": False, "documents": [], "request_id": "x", "thinking_token_budget": 1,
    "grammar": "root ::= a", "json_schema": {}, "n_predict": 1, "cache_prompt": True, "id_slot": 0, "n_probs": 1,
    "timings_per_token": True, "return_progress": True, "mirostat": 1, "typical_p": 0.5, "samplers": ["top_k"],
    "repeat_penalty": 1.1, "reasoning_format": "none", "post_sampling_probs": True, "response_fields": ["x"],
}  # fmt: skip
ROUTES_OF_OTHERS = [
    *("/", "/chat/completions", "/completions", "/embeddings", "/models", "/v1/responses", "/v1/messages"),
    *("/tokenize", "/detokenize", "/apply-template", "/infill", "/props", "/slots", "/v1/rerank", "/score", "/pooling"),
    *("/version", "/ping", "/load", "/invocations", "/v1/audio/transcriptions", "/v1/moderations", "/v1/completions/"),
    *("/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/x"),
]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("refused")
    often = "unauthenticated_per_minute = 1000\nrequests_per_minute = 6000"
    with echo_gateway(folder, limits=often) as running:
        yield running


def _refusal(response: Any) -> tuple[int, str | None, str]:
    error = response.get_json()["error"]
    return response.status_code, error["param"], error["code"]


@pytest.mark.parametrize(("path", "body"), [("chat/completions", CHAT), ("completions", TEXT)])
@pytest.mark.parametrize("name", OF_OTHERS)
def test_words_of_other_servers_are_refused_by_name(rig: Rig, path: str, body: dict[str, Any], name: str) -> None:
    refused = rig.ask({**body, name: OF_OTHERS[name]}, path=f"/v1/{path}")

    assert _refusal(refused) == (400, name, "unknown_parameter")


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"best_of": 2}, "best_of", "unsupported_parameter"),
        ({"stream": True, "stream_options": {"continuous_usage_stats": True}}, "continuous_usage_stats", ""),
        ({"stream": True, "stream_options": {"continuous_usage_stats": 1}}, "continuous_usage_stats", "invalid_value"),
        ({"stream_options": {"include_usage": None}}, "stream_options", "invalid_value"),
        ({"chat_template_kwargs": {"enable_thinking": False, "x": 1}}, "chat_template_kwargs", "unsupported_parameter"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "invalid_value"),
        ({"response_format": {"type": "json_object", "schema": {"const": "42"}}}, "response_format", "invalid_value"),
        ({"response_format": {}}, "response_format", "invalid_value"),
        ({**TOOLS, "tool_choice": {}}, "tool_choice", "invalid_value"),
        ({**TOOLS, "tool_choice": {"type": "function", "name": "f"}}, "tool_choice", "invalid_value"),
        (
            {**TOOLS, "tool_choice": {"type": "function", "function": {"name": "f", "strict": True}}},
            "tool_choice",
            "invalid_value",
        ),
        ({**TOOLS, "tool_choice": ["auto"]}, "tool_choice", "invalid_value"),
        ({"model": MODEL.upper()}, "model", "model_not_found"),
        ({"messages": [{"role": "my-own", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages", "invalid_value"),
    ],
)
def test_what_is_asked_otherwise_is_refused_by_name(rig: Rig, change: dict[str, Any], param: str, code: str) -> None:
    status, named, said_code = _refusal(rig.ask({**CHAT, **change}))

    assert status in {400, 404}
    assert named is not None
    assert named.removeprefix("stream_options.") == param
    assert said_code == (code or "unsupported_parameter")


@pytest.mark.parametrize(
    ("changed", "member"),
    [
        ({"parameters": "x"}, "parameters"),
        ({"parameters": ["x"]}, "parameters"),
        ({"description": 7}, "description"),
        ({"strict": "yes"}, "strict"),
    ],
)
@pytest.mark.parametrize("choice", ["auto", "required", "none"])
def test_a_function_that_is_described_in_other_types_is_refused(
    rig: Rig, changed: dict[str, Any], member: str, choice: str
) -> None:
    tools = [{"type": "function", "function": {**FUNCTION, **changed}}]

    refused = rig.ask({**CHAT, "tools": tools, "tool_choice": choice})

    assert _refusal(refused) == (400, f"tools[0].function.{member}", "invalid_value")


@pytest.mark.parametrize(
    "change",
    [{}, {"parameters": None}, {"parameters": {}}, {"parameters": []}, {"description": None}, {"strict": None}],
)
def test_a_function_may_be_described_by_its_name_alone(rig: Rig, change: dict[str, Any]) -> None:
    tools = [{"type": "function", "function": {"name": "f", **change}}]

    message = rig.ask({**CHAT, "tools": tools, "tool_choice": "required"}).get_json()["choices"][0]["message"]

    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    ("call", "at"),
    [({**CALL, "x": 1}, ""), ({**CALL, "function": {"name": "f", "arguments": "{}", "x": 1}}, ".function")],
)
def test_what_an_earlier_call_holds_besides_is_refused_and_not_dropped(rig: Rig, call: dict[str, Any], at: str) -> None:
    refused = rig.ask({**CHAT, "messages": [*CHAT["messages"], {"role": "assistant", "tool_calls": [call]}]})

    assert _refusal(refused) == (400, f"messages[1].tool_calls[0]{at}", "unknown_parameter")


@pytest.mark.parametrize("member", ["index", "description", "provider_specific_fields"])
def test_what_clients_put_beside_an_earlier_call_with_nothing_in_it_is_taken(rig: Rig, member: str) -> None:
    function = {"name": "f", "arguments": "{}", member: 0 if member == "index" else None}
    call = {**CALL, "custom": None, "function": function}
    messages = [*CHAT["messages"], {"role": "assistant", "tool_calls": [call]}]
    answered = rig.ask({**CHAT, "messages": [*messages, {"role": "tool", "tool_call_id": "a", "content": "x"}]})

    assert answered.status_code == 200
    assert ("index" in answered.headers.get("x-sealift-ignored", "")) == (member == "index")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"truncate_prompt_tokens": 4}, "truncate_prompt_tokens"),
        ({"embed_dtype": "float16"}, "embed_dtype"),
        ({"endianness": "big"}, "endianness"),
        ({"use_activation": False}, "use_activation"),
        ({"add_special_tokens": False}, "add_special_tokens"),
        ({"messages": CHAT["messages"]}, "messages"),
        ({"encoding_format": "bytes"}, "encoding_format"),
        ({"input": ["a", [1, 2]]}, "input"),
        ({"input": [1, "a", 2]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": {"content": "a"}}, "input"),
        ({"input": ""}, "input"),
        ({"dimensions": 0}, "dimensions"),
    ],
)
def test_vectors_are_asked_for_in_openais_words_alone(rig: Rig, change: dict[str, Any], param: str) -> None:
    status, named, _ = _refusal(rig.ask({"model": MODEL, "input": "a", **change}, path="/v1/embeddings"))

    assert (status, named) == (400, param)


def test_null_and_no_ask_for_nothing_of_a_stream(rig: Rig) -> None:
    for options in ({"include_usage": None}, {"continuous_usage_stats": False, "include_obfuscation": None}, {}):
        stream = events(rig.ask({**CHAT, "stream": True, "stream_options": options}).data)

        assert said(stream) == "ABC"
        assert not any("usage" in event for event in stream[:-1])


@pytest.mark.parametrize("path", ROUTES_OF_OTHERS)
def test_routes_of_other_servers_are_not_there(rig: Rig, path: str) -> None:
    for method in ("GET", "POST"):
        assert rig.client.open(path, method=method, json={}).status_code == 401
        answer = rig.client.open(path, method=method, json={}, headers=rig.headers())
        body = answer.get_json()
        assert (answer.status_code, body.get("code") or body["error"]["code"]) == (404, "not_found")


def test_pages_of_other_origins_are_not_let_in(rig: Rig) -> None:
    asking = {"Origin": "https://elsewhere.test", "Access-Control-Request-Method": "POST"}

    assert rig.client.options("/v1/chat/completions", headers=asking).status_code == 401
    with_key = rig.client.options("/v1/chat/completions", headers={**rig.headers(), **asking})
    answered = rig.ask(CHAT, Origin="https://elsewhere.test")

    assert (with_key.status_code, answered.status_code) == (405, 200)
    told = [name.lower() for answer in (with_key, answered) for name, _ in answer.headers]
    assert not any(name.startswith("access-control") for name in told)


def test_the_body_alone_is_read_whatever_is_said_of_it(rig: Rig) -> None:
    for kind in ("", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"):
        headers = {**rig.headers(), **({"Content-Type": kind} if kind else {})}
        where = "/v1/chat/completions?stream=true&api-version=1"
        answer = rig.client.post(where, data=json.dumps(CHAT), headers=headers)

        assert answer.get_json()["choices"][0]["message"]["content"] == "ABC"


def test_a_callers_own_request_id_is_not_taken(rig: Rig) -> None:
    answers = [rig.ask(CHAT, **{"X-Request-Id": "mine", "X-Client-Request-Id": "mine"}) for _ in range(2)]

    assert all(one.headers["x-request-id"].startswith("req_") for one in answers)
    assert len({one.headers["x-request-id"] for one in answers}) == 2


@pytest.mark.parametrize(
    ("path", "change", "param", "code"),
    [
        ("chat", {"logprobs": True}, "logprobs", "unsupported_parameter"),
        ("generate", {"top_logprobs": -1}, "top_logprobs", "unsupported_parameter"),
        ("chat", {"truncate": True}, "truncate", "unknown_parameter"),
        ("generate", {"shift": True}, "shift", "unknown_parameter"),
        ("chat", {"format": "xml"}, "format", "invalid_value"),
        ("chat", {"think": "low"}, "think", "unsupported_parameter"),
        ("generate", {"options": {"num_predict": 0}}, "options.num_predict", "invalid_value"),
        ("chat", {"tools": [{"type": "function", "function": {"name": "f", "description": 7}}]}, "description", ""),
        (
            "chat",
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}, "x": 1}}]}]},
            "messages[0].tool_calls[0].function",
            "unknown_parameter",
        ),
    ],
)
def test_what_ollama_takes_and_this_does_not_is_refused_by_name(
    rig: Rig, path: str, change: dict[str, Any], param: str, code: str
) -> None:
    body = CHAT if path == "chat" else TEXT
    refused = rig.ask({**body, **change}, path=f"/api/{path}")

    assert refused.status_code == 400
    assert refused.get_json()["param"].removeprefix("tools[0].function.") == param
    assert refused.get_json()["code"] == (code or "invalid_value")
