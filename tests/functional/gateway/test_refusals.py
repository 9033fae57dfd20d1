"""Who and what is turned away, how it is told, and that the ledger knows."""

import gzip
import io
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

from appliance.gateway.access import Access, access_of
from appliance.gateway.application import running
from appliance.phi.policy import PhiMode
from tests.support.engine import Script, fake_engine
from tests.support.gateway import MODEL, Rig, gateway, key_text
from tests.support.scripted_http import Reply, scripted_server

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello there"}]}
SECRET = "canary-7f3a"


def _error(response: Any) -> dict[str, Any]:
    body = response.get_json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = body["error"]
    return error


def _refused(rig: Rig) -> list[tuple[str, str | None, int, str]]:
    return [(one["endpoint"], one["key_id"], one["status"], one["code"]) for one in rig.bodies("request.refused")]


def test_every_route_has_a_decision_who_may_call_it(rig: Rig) -> None:
    decisions = {rule.rule: access_of(rig.app.view_functions[rule.endpoint]) for rule in rig.app.url_map.iter_rules()}

    assert decisions == {
        "/v1/chat/completions": Access.KEYED,
        "/v1/completions": Access.KEYED,
        "/v1/models": Access.KEYED,
        "/v1/models/<path:name>": Access.KEYED,
        "/v1/feedback": Access.KEYED,
        "/v1/files": Access.KEYED,
        "/v1/files/<file_id>": Access.KEYED,
        "/v1/files/<file_id>/content": Access.KEYED,
        "/v1/batches": Access.KEYED,
        "/v1/batches/<batch_id>": Access.KEYED,
        "/v1/batches/<batch_id>/cancel": Access.KEYED,
        "/v1/embeddings": Access.KEYED,
        "/v1/openapi.json": Access.KEYED,
        "/api/embed": Access.KEYED,
        "/api/embeddings": Access.KEYED,
        "/api/chat": Access.KEYED,
        "/api/generate": Access.KEYED,
        "/api/tags": Access.KEYED,
        "/api/ps": Access.KEYED,
        "/api/show": Access.KEYED,
        "/api/version": Access.KEYED,
        "/livez": Access.PUBLIC,
        "/health": Access.PUBLIC,
        "/readyz": Access.PUBLIC,
        "/metrics": Access.LOCAL,
    }
    assert not any("OPTIONS" in (rule.methods or ()) for rule in rig.app.url_map.iter_rules())


def test_a_route_without_a_decision_answers_nobody(rig: Rig) -> None:
    rig.app.view_functions["openai.models"] = lambda: "open"

    assert rig.client.get("/v1/models").status_code == 401
    response = rig.client.get("/v1/models", headers=rig.headers())
    assert (response.status_code, _error(response)["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer " + key_text("zzzzzzzzzz")},
        {"Authorization": f"Bearer {key_text()[:-1]}x"},
        {"Authorization": "Basic " + key_text()},
        {"Authorization": "Bearer not-a-key"},
        {"X-Api-Key": key_text("zzzzzzzzzz")},
        {"X-Api-Key": "x" * 5000},
        {"Authorization": "Bearer sl-abcdefgh23-'; DROP TABLE api_key; --"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/nothing/here"])
def test_a_missing_and_a_wrong_key_get_the_same_answer(rig: Rig, headers: dict[str, str], path: str) -> None:
    response = rig.client.open(path, method="POST" if "chat" in path else "GET", headers=headers, json=CHAT)

    assert response.status_code == 401
    assert _error(response) == {
        "message": "Give a valid API key as `Authorization: Bearer KEY` or `X-Api-Key: KEY`.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-request-id"].startswith("req_")
    assert rig.engine.asked == []
    assert [one[1:] for one in _refused(rig)] == [(None, 401, "invalid_api_key")]


@pytest.mark.parametrize("headers", [{"Authorization": "bearer " + key_text()}, {"X-Api-Key": key_text()}])
def test_a_key_is_taken_from_either_header(rig: Rig, headers: dict[str, str]) -> None:
    assert rig.client.get("/v1/models", headers=headers).status_code == 200


def test_a_revoked_key_is_refused(rig: Rig) -> None:
    rig.api_keys.known.clear()

    assert rig.chat("hello").status_code == 401


def test_a_model_that_is_not_promoted_is_not_found_and_its_name_not_repeated(rig: Rig) -> None:
    response = rig.ask({**CHAT, "model": SECRET})

    assert response.status_code == 404
    assert (_error(response)["code"], _error(response)["param"]) == ("model_not_found", "model")
    assert SECRET.encode() not in response.data
    assert _refused(rig) == [("chat", "abcdefgh23", 404, "model_not_found")]


def test_nothing_promoted_means_come_back_later(rig: Rig) -> None:
    rig.routes.route = None

    response = rig.ask(CHAT)

    assert (response.status_code, _error(response)["code"]) == (503, "no_model")
    assert response.headers["retry-after"] == "5"
    assert _refused(rig) == [("chat", "abcdefgh23", 503, "no_model")]


UNSUPPORTED = "unsupported_parameter"
TOOLS = {"tools": [{"type": "function", "function": {"name": "f"}}]}
_CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def _talk(**message: Any) -> dict[str, Any]:
    return {**TOOLS, "messages": [message]}


WRONG: list[tuple[dict[str, Any], str | None, str]] = [
    ({"temperature": 2.1}, "temperature", "invalid_value"),
    ({"temperature": -0.1}, "temperature", "invalid_value"),
    ({"temperature": "1"}, "temperature", "invalid_value"),
    ({"temperature": True}, "temperature", "invalid_value"),
    ({"top_p": 1.01}, "top_p", "invalid_value"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"max_tokens": 4097}, "max_tokens", "invalid_value"),
    ({"max_tokens": 1.0}, "max_tokens", "invalid_value"),
    ({"max_completion_tokens": 4097}, "max_completion_tokens", "invalid_value"),
    ({"n": 9}, "n", "invalid_value"),
    ({"n": True}, "n", "invalid_value"),
    ({"stream": "yes"}, "stream", "invalid_value"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ({"stream": True, "stream_options": {"other": 1}}, "stream_options", "unknown_parameter"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage", "invalid_value"),
    ({"stream": True, "stream_options": []}, "stream_options", "invalid_value"),
    ({"stop": ["a"] * 5}, "stop", "invalid_value"),
    ({"stop": [""]}, "stop", "invalid_value"),
    ({"stop": 7}, "stop", "invalid_value"),
    ({"stop": ["a", "\x00\x07"]}, "stop", "invalid_value"),
    ({"reasoning_effort": "low"}, "reasoning_effort", "unsupported_parameter"),
    ({"verbosity": "high"}, "verbosity", "unsupported_parameter"),
    ({"seed": 2**63}, "seed", "invalid_value"),
    ({"seed": 1.5}, "seed", "invalid_value"),
    ({"user": 7}, "user", "invalid_value"),
    ({"logprobs": 1}, "logprobs", "invalid_value"),
    ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"logprobs": True, "top_logprobs": 20, "n": 3, "max_tokens": 4096}, "top_logprobs", "invalid_value"),
    (
        {"logprobs": True, "top_logprobs": 20, "n": 5, "max_tokens": 4096, "stream": True},
        "top_logprobs",
        "invalid_value",
    ),
    ({"logit_bias": {"1": 101}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"1": True}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"-1": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"one": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {str(token): 1 for token in range(301)}}, "logit_bias", "invalid_value"),
    ({"logit_bias": [1]}, "logit_bias", "invalid_value"),
    ({"response_format": {"type": "grammar"}}, "response_format", "invalid_value"),
    ({"response_format": {"type": ["text"]}}, "response_format", "invalid_value"),
    ({"response_format": {"type": {}}}, "response_format", "invalid_value"),
    ({"response_format": {"type": "json_object", "more": 1}}, "response_format", "invalid_value"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
        "response_format.json_schema.name",
        "invalid_value",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
        "response_format.json_schema.schema",
        "invalid_value",
    ),
    ({"frequency_penalty": 2.5}, "frequency_penalty", "invalid_value"),
    ({"presence_penalty": "x"}, "presence_penalty", "invalid_value"),
    ({"top_k": 1001}, "top_k", "invalid_value"),
    ({"top_k": -2}, "top_k", "invalid_value"),
    ({"top_k": True}, "top_k", "invalid_value"),
    ({"min_p": 1.1}, "min_p", "invalid_value"),
    ({"repetition_penalty": 0}, "repetition_penalty", "invalid_value"),
    ({"repetition_penalty": 2.1}, "repetition_penalty", "invalid_value"),
    ({"functions": []}, "functions", "unsupported_parameter"),
    ({"tempreature": 1}, "tempreature", "unknown_parameter"),
    ({"prompt": "x"}, "prompt", "unknown_parameter"),
    ({f"{SECRET} \n": 1}, None, "unknown_parameter"),
    ({"tools": "x"}, "tools", "invalid_value"),
    ({"tools": [{"type": "retrieval"}]}, "tools[0]", "invalid_value"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
    (
        {"tools": [{"type": "function", "function": {"name": "a", "x": 1}}]},
        "tools[0].function",
        "unknown_parameter",
    ),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ({**TOOLS, "tool_choice": "always"}, "tool_choice", "invalid_value"),
    ({**TOOLS, "tool_choice": {"type": "function", "function": {"name": "a b"}}}, "tool_choice", "invalid_value"),
    ({**TOOLS, "tool_choice": 7}, "tool_choice", "invalid_value"),
    (
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        "stream_options.include_obfuscation",
        UNSUPPORTED,
    ),
    ({"messages": [{"role": "user", "content": "x"}] * 2049}, "messages", "invalid_value"),
    (_talk(role="user", content="x", tool_calls=[_CALL]), "messages[0].tool_calls", "invalid_value"),
    (_talk(role="assistant", tool_calls=[7]), "messages[0].tool_calls[0]", "invalid_value"),
    (_talk(role="assistant", tool_calls=[{**_CALL, "id": "a b"}]), "messages[0].tool_calls[0].id", "invalid_value"),
    (
        _talk(role="assistant", tool_calls=[{**_CALL, "function": {"name": "f", "arguments": {}}}]),
        "messages[0].tool_calls[0].function",
        "invalid_value",
    ),
    (_talk(role="tool", content="x"), "messages[0].tool_call_id", "invalid_value"),
    (_talk(role="user", content="x", tool_call_id="a"), "messages[0].tool_call_id", "invalid_value"),
    (
        _talk(role="user", content=[{"type": "text", "text": "x", "y": 1}]),
        "messages[0].content[0]",
        "unknown_parameter",
    ),
    (_talk(role="user", content=[{"type": "text", "text": 7}]), "messages[0].content[0]", UNSUPPORTED),
    ({"messages": []}, "messages", "missing_required_parameter"),
    ({"messages": None}, "messages", "missing_required_parameter"),
    ({"messages": ["x"]}, "messages[0]", "invalid_value"),
    ({"messages": [{"role": "root", "content": "x"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "invalid_value"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_value"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content", "invalid_value"),
    ({"messages": [{"role": "user", "content": "x", "url": "y"}]}, "messages[0]", "unknown_parameter"),
    (
        {"messages": [{"role": "user", "content": "x" * 32001}]},
        "messages[0].content",
        "string_above_max_length",
    ),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content", "invalid_encoding"),
    ({"messages": [{"role": "user", "content": "x", "name": "a b"}]}, "messages[0].name", "invalid_value"),
    (
        {"messages": [{"role": "assistant", "content": "x", "audio": {"id": 1}}]},
        "messages[0].audio",
        "unsupported_parameter",
    ),
    ({"model": None}, "model", "missing_required_parameter"),
    ({"model": 7}, "model", "missing_required_parameter"),
]


@pytest.mark.parametrize(("change", "param", "code"), WRONG)
def test_a_wrong_parameter_is_refused_by_name(rig: Rig, change: dict[str, Any], param: str | None, code: str) -> None:
    response = rig.client.post("/v1/chat/completions", data=json.dumps({**CHAT, **change}), headers=rig.headers())

    assert response.status_code == 400
    error = _error(response)
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")
    assert SECRET.encode() not in response.data
    assert rig.engine.asked == []
    assert _refused(rig) == [("chat", "abcdefgh23", 400, code)]


def test_a_body_that_is_compressed_is_refused_as_such(rig: Rig) -> None:
    headers = {**rig.headers(), "content-encoding": "gzip", "content-type": "application/json"}

    response = rig.client.post("/v1/chat/completions", data=gzip.compress(json.dumps(CHAT).encode()), headers=headers)

    assert (response.status_code, _error(response)["code"]) == (415, "unsupported_encoding")
    assert _refused(rig) == [("chat", "abcdefgh23", 415, "unsupported_encoding")]


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\n%b" % SECRET.encode(),
        b"-1\r\n",
        b"2;=\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}x\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\n%b\r\n\r\n" % SECRET.encode(),
        b"2\r\n{}\r\n0\r\nx: y\r\n",
    ],
    ids=["no number", "below zero", "extension", "longer than told", "trailer", "no end"],
)
def test_chunks_that_are_none_are_the_callers_fault(rig: Rig, chunks: bytes, caplog: pytest.LogCaptureFixture) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    unreader = IterUnreader(iter([head, chunks]))
    body = Body(ChunkedReader(Request(Config(), unreader, ("", 0)), unreader))

    response = rig.client.post(
        "/v1/chat/completions",
        headers={**rig.headers(), "transfer-encoding": "chunked"},
        environ_overrides={"wsgi.input": body, "wsgi.input_terminated": True},
    )

    assert (response.status_code, _error(response)["code"]) == (400, "invalid_chunks")
    assert _refused(rig) == [("chat", "abcdefgh23", 400, "invalid_chunks")]
    assert '"fault"' not in caplog.text
    assert SECRET not in response.text + caplog.text


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/x", "file:///etc/passwd", "gopher://x", "data:image/png;base64,AA"]
)
def test_nothing_in_a_request_makes_this_box_fetch_anything(rig: Rig, url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}

    response = rig.ask({"model": MODEL, "messages": [{"role": "user", "content": [part]}]})

    assert (response.status_code, _error(response)["code"]) == (400, "unsupported_parameter")
    assert _error(response)["param"] == "messages[0].content[0]"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'"x"', "invalid_json"),
        (b'{"a":NaN}', "invalid_json"),
        (b'{"a":-1e999}', "invalid_json"),
        (b'{"model":"a","model":"b"}', "invalid_json"),
        (b'{"a":' + b"[" * 100_000, "invalid_json"),
        (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", "invalid_json"),
        (b'{"model":"\xff"}', "invalid_encoding"),
        ('{"model":"x"}'.encode("utf-16"), "invalid_encoding"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(rig: Rig, body: bytes, code: str) -> None:
    response = rig.client.post("/v1/chat/completions", data=body, headers=rig.headers())

    assert (response.status_code, _error(response)["code"]) == (400, code)


def test_a_completion_takes_texts(rig: Rig) -> None:
    for prompt in (["a", ""], ["a", 1], [1, 2], [["a"]], 7, None):
        response = rig.ask({"model": MODEL, "prompt": prompt}, path="/v1/completions")
        assert (response.status_code, _error(response)["param"]) == (400, "prompt")
    assert rig.ask({"model": MODEL, "prompt": ["a"]}, path="/v1/completions").status_code == 200
    assert rig.ask({"model": MODEL, "prompt": "a", "messages": []}, path="/v1/completions").status_code == 400


def test_tools_are_refused_where_the_engine_calls_none(rig: Rig) -> None:
    rig.promote(has_tools=False)

    response = rig.ask({**CHAT, "tools": [{"type": "function", "function": {"name": "f"}}]})

    assert (_error(response)["code"], _error(response)["param"]) == ("unsupported_parameter", "tools")
    for one in ({"role": "tool", "content": "x", "tool_call_id": "a"}, {"role": "assistant", "tool_calls": [_CALL]}):
        told = _error(rig.ask({**CHAT, "messages": [*CHAT["messages"], one]}))
        assert (told["code"], told["param"]) == ("unsupported_parameter", "messages")
    assert not rig.engine.asked


@pytest.mark.parametrize("takes", [None, ("top_k",)], ids=["a release from before", "it knows fewer"])
def test_an_engine_that_would_pass_over_a_word_is_not_asked_with_it(rig: Rig, takes: tuple[str, ...] | None) -> None:
    rig.engine.takes = takes

    response = rig.ask({**CHAT, "repetition_penalty": 1.1})

    assert (_error(response)["code"], _error(response)["param"]) == ("unsupported_parameter", "repetition_penalty")
    assert rig.engine.asked == []
    assert rig.ask({**CHAT, "repetition_penalty": 1, "top_k": -1, "min_p": 0}).status_code == 200


def test_an_engine_of_others_that_has_no_status_is_not_asked_with_words_beyond_openais(
    rig: Rig, tmp_path: Path
) -> None:
    with scripted_server(tmp_path / "foreign.sock", {}) as foreign:
        rig.promote(socket=foreign.path)

        response = rig.ask({**CHAT, "min_p": 0.1})
        running(rig.app).upstreams.close()

    assert (_error(response)["code"], _error(response)["param"]) == ("unsupported_parameter", "min_p")


def test_a_body_that_is_too_large_is_refused(rig: Rig) -> None:
    response = rig.client.post("/v1/chat/completions", data=b" " * (4 * 1024 * 1024 + 1), headers=rig.headers())

    assert (response.status_code, _error(response)["code"]) == (413, "request_too_large")


class _StalledBody(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise BlockingIOError

    readinto = read  # type: ignore[assignment]


def test_a_body_that_does_not_come_in_time_is_given_up(rig: Rig) -> None:
    response = rig.client.post("/v1/chat/completions", input_stream=_StalledBody(b"x" * 100), headers=rig.headers())

    assert (response.status_code, _error(response)["code"]) == (408, "request_timeout")


def test_an_unknown_path_and_method_are_told_in_the_same_shape(rig: Rig) -> None:
    assert _error(rig.client.get(f"/v1/{SECRET}", headers=rig.headers()))["code"] == "not_found"
    wrong = rig.client.get("/v1/chat/completions", headers=rig.headers())
    assert (wrong.status_code, _error(wrong)["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    assert [one[0] for one in _refused(rig)] == ["unknown", "unknown"]
    assert SECRET not in str(rig.bodies("request.refused"))


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1//chat/completions"), ("GET", "/v1//models")])
def test_nobody_is_led_to_another_address(rig: Rig, method: str, path: str) -> None:
    """A client whose base URL ends in two slashes would be sent elsewhere, by a name and a scheme that others wrote."""
    response = rig.client.open(path, method=method, json=CHAT, headers=rig.headers())

    assert (response.status_code, _error(response)["code"]) == (404, "not_found")
    assert "location" not in response.headers
    assert [one[0] for one in _refused(rig)] == ["unknown"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/api/chat"])
@pytest.mark.parametrize("model", [MODEL, "auto"])
def test_what_no_token_could_make_fit_is_refused_before_it_is_searched(tmp_path: Path, path: str, model: str) -> None:
    """Scenario: somebody sends megabytes of notes at once, or again and again.

    Each was searched for identifiers for seconds, in which all others waited, and refused then all the same.
    """
    rules = f'[[router.rules]]\nname = "any"\nmodel = "{MODEL}"\ntasks = ["none"]\n'
    limits = "input_tokens = 10\nmessage_characters = 100000"
    with gateway(tmp_path, limits=limits, more=rules, detector=_BrokenDetector()) as rig:
        rig.promote(also=("production", "auto"))
        text = "word " * 20_000
        ways: dict[str, dict[str, Any]] = {
            "/v1/completions": {"prompt": text},
            "/v1/embeddings": {"input": [text]},
        }
        asked = ways.get(path, {"messages": [{"role": "user", "content": text}]})

        response = rig.ask({"model": model, **asked}, path=path)

        assert response.status_code == 400
        assert rig.bodies("request.refused")[-1]["code"] == "context_length_exceeded"
        assert rig.engine.asked == []


def test_a_request_above_the_token_limit_is_refused_by_the_engines_count(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="input_tokens = 100") as rig:
        fits = rig.chat("word " * 90)
        response = rig.chat("word " * 120)

        assert fits.status_code == 200
        assert (response.status_code, _error(response)["code"]) == (400, "context_length_exceeded")
        assert _error(response)["param"] == "messages"
        assert [route for route, _ in rig.engine.asked].count("/sealift/v1/tokenize") == 2
        assert rig.ask({"model": MODEL, "prompt": "w " * 200}, path="/v1/completions").status_code == 400


LONG = {"type": "function", "function": {"name": "f", "description": "word " * 120}}
CALLED = {"id": "a", "type": "function", "function": {"name": "f", "arguments": json.dumps({"x": "word " * 120})}}
CONVERSATIONS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "hello"}], "tools": [LONG]},
    {
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": None, "tool_calls": [CALLED]},
            {"role": "tool", "content": "x", "tool_call_id": "a"},
        ],
        **TOOLS,
    },
]


@pytest.mark.parametrize("asked", CONVERSATIONS, ids=["functions", "calls"])
def test_functions_and_calls_of_them_are_part_of_what_the_engine_reads(tmp_path: Path, asked: dict[str, Any]) -> None:
    with gateway(tmp_path, limits="input_tokens = 100") as rig:
        response = rig.ask({"model": MODEL, **asked})

        assert (response.status_code, _error(response)["code"]) == (400, "context_length_exceeded")
    with gateway(tmp_path / "roomy", limits="tokens_per_day = 100000") as rig:
        told = rig.ask({"model": MODEL, **asked, "max_tokens": 1})
        assert int(told.get_json()["usage"]["prompt_tokens"]) > 100
    with gateway(tmp_path / "spent", limits="tokens_per_day = 500") as rig:
        assert _error(rig.ask({"model": MODEL, **asked, "max_tokens": 1}))["code"] == "insufficient_quota"
    with gateway(tmp_path / "unread", limits="input_tokens = 100") as rig:
        unread = {"messages": [{"role": "user", "content": "hello"}], "tools": [LONG], "tool_choice": "none"}
        assert rig.ask({"model": MODEL, **unread}).status_code == 200, "the model hears of none of them"


def test_an_engine_that_cannot_count_keeps_its_own_limit(rig: Rig, tmp_path: Path) -> None:
    with scripted_server(
        tmp_path / "foreign.sock",
        {"/v1/chat/completions": Reply(body={"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]})},
    ) as foreign:
        rig.promote(socket=foreign.path)
        assert rig.chat("word " * 2000).get_json()["choices"][0]["message"]["content"] == "ok"
        foreign.replies["/sealift/v1/tokenize"] = Reply(status=500, body={})
        assert rig.chat("word " * 2000).status_code == 502
        running(rig.app).upstreams.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"prompt": "long"}, "prompt"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "long"}]}, "messages"),
    ],
)
def test_what_does_not_fit_the_engine_is_refused_by_the_callers_own_name(
    rig: Rig, path: str, body: dict[str, Any], param: str, *, stream: bool
) -> None:
    rig.engine.script = Script(refuse=(400, "context_length_exceeded"))
    response = rig.ask({"model": MODEL, "stream": stream, **body}, path=path)

    assert response.status_code == 400
    assert (_error(response)["code"], _error(response)["param"]) == ("context_length_exceeded", param)


def test_a_short_request_is_not_counted_by_the_engine(rig: Rig) -> None:
    rig.chat("hello")

    assert [route for route, _ in rig.engine.asked] == ["/v1/chat/completions"]


def test_a_key_that_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="requests_per_minute = 2") as rig:
        assert [rig.chat("a").status_code for _ in range(3)] == [200, 200, 429]

        response = rig.chat("a")
        assert _error(response) == {
            "message": "The key has spent its requests a minute; ask again after Retry-After.",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
        assert response.headers["retry-after"] == "30"
        assert response.headers["retry-after-ms"] == "30000"
        assert response.headers["x-ratelimit-limit-requests"] == "2"
        assert response.headers["x-ratelimit-remaining-requests"] == "0"
        assert response.headers["x-ratelimit-reset-requests"] == "1m0s"
        rig.clock.advance(30)
        assert rig.chat("a").status_code == 200


@pytest.mark.parametrize("per_minute", [7, 13, 60, 97])
def test_who_comes_when_it_was_told_to_is_answered(tmp_path: Path, per_minute: int) -> None:
    with gateway(tmp_path, limits=f"requests_per_minute = {per_minute}\ntokens_per_minute = 10000") as rig:
        for _ in range(per_minute):
            rig.client.get("/v1/models", headers=rig.headers())
        for _ in range(3):
            refused = rig.chat("a")
            assert refused.status_code == 429
            rig.clock.advance(int(refused.headers["retry-after-ms"]) / 1000)
            assert rig.chat("a").status_code == 200


def test_a_higher_tier_has_a_higher_ceiling_and_an_unknown_one_the_lowest(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="requests_per_minute = 8") as rig:
        premium = rig.api_keys.add(key_text("premium234"), tier="premium")
        unknown = rig.api_keys.add(key_text("unknown234"), tier="platinum")

        def limit(key: str) -> str:
            return rig.client.get("/v1/models", headers=rig.headers(key)).headers["x-ratelimit-limit-requests"]

        assert (limit(premium), limit(unknown), limit(rig.key)) == ("32", "2", "8")


def test_wrong_keys_of_one_address_run_out_and_right_ones_do_not(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="unauthenticated_per_minute = 2") as rig:

        def knock(address: str) -> int:
            return rig.client.get("/v1/models", environ_base={"REMOTE_ADDR": address}).status_code

        assert [knock("10.0.0.1") for _ in range(4)] == [401, 401, 429, 429]
        assert knock("10.0.0.2") == 401
        assert rig.chat("a").status_code == 200
        rig.clock.advance(30)
        assert knock("10.0.0.1") == 401


def test_many_addresses_without_a_key_give_no_key_its_requests_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.gateway.limits._REMEMBERED_CALLERS", 2)
    with gateway(tmp_path, limits="requests_per_minute = 1") as rig:
        assert [rig.chat("a").status_code for _ in range(2)] == [200, 429]
        for last in range(3):
            address = {"REMOTE_ADDR": f"10.0.0.{last}"}
            assert rig.client.get("/v1/models", environ_base=address).status_code == 401
        assert rig.chat("a").status_code == 429


def test_behind_the_proxy_the_address_is_the_one_the_proxy_wrote(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="unauthenticated_per_minute = 1") as rig:

        def knock(peer: str, forwarded: str) -> int:
            return rig.client.get(
                "/v1/models", environ_base={"REMOTE_ADDR": peer}, headers={"X-Forwarded-For": forwarded}
            ).status_code

        assert [knock("", "10.0.0.1"), knock("", "10.0.0.2"), knock("", "forged, 10.0.0.1")] == [401, 401, 429]
        assert [knock("127.0.0.1", "10.0.0.3"), knock("127.0.0.1", "10.0.0.4")] == [401, 429]


def test_a_machine_with_many_addresses_of_one_network_has_one_allowance_without_a_key(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="unauthenticated_per_minute = 3") as rig:

        def ask(address: str) -> int:
            headers = {"X-Forwarded-For": address}
            return rig.client.get("/v1/models", headers=headers, environ_base={"REMOTE_ADDR": ""}).status_code

        assert [ask(f"2001:db8:0:1::{number:x}") for number in range(5)] == [401] * 3 + [429] * 2
        assert ask("2001:db8:0:2::1") == 401
        assert [ask(f"::ffff:192.0.2.{number}") for number in range(5)] == [401] * 5
        assert ask("fe80::1%eth0:") == ask("no:address") == 401
        assert len(rig.bodies("request.refused")) == 3 + 1 + 1 + 5 + 2


def test_refusals_for_asking_too_often_share_records_that_count_them(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="requests_per_minute = 1") as rig:
        codes = [rig.chat("a").status_code for _ in range(6)]
        assert codes == [200, 429, 429, 429, 429, 429]
        assert len(_refused(rig)) == 1

        rig.clock.advance(2)
        assert rig.chat("a").status_code == 429
        first, counted = rig.bodies("request.refused")
        assert "repeated" not in first
        assert counted["repeated"] == 4
        rig.clock.advance(2)
        running(rig.app).refusals.flush()
        assert [body.get("repeated") for body in rig.bodies("request.refused")] == [None, 4, None]
        assert rig.sample("sealift_requests_refused_total", code="rate_limit_exceeded") == 6


def test_what_was_counted_while_the_ledger_was_down_is_recorded_when_it_is_back(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="requests_per_minute = 1") as rig:
        for _ in range(5):
            rig.chat("a")
        rig.ledger.available = False
        rig.clock.advance(2)
        rig.chat("a")
        rig.ledger.available = True

        rig.chat("a")

        assert 3 in [body.get("repeated") for body in rig.bodies("request.refused")]


def test_all_places_taken_and_nobody_may_wait_means_come_back_soon(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="concurrent_requests = 1\nqueue_length = 0") as rig:
        first = rig.client.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=rig.headers())

        response = rig.ask(CHAT)
        assert (response.status_code, _error(response)["code"]) == (503, "overloaded")
        assert response.headers["retry-after"] == "1"
        assert first.data.endswith(b"data: [DONE]\n\n")
        assert rig.ask(CHAT).status_code == 200
        assert _refused(rig) == [("chat", "abcdefgh23", 503, "overloaded")]


def test_a_key_that_is_revoked_while_its_request_waits_gets_no_answer(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="concurrent_requests = 1\nqueue_seconds = 60") as rig:
        leaked = rig.api_keys.add(key_text("leakedkey2"))
        first = rig.client.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=rig.headers())
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(
                lambda: rig.app.test_client().post("/v1/chat/completions", json=CHAT, headers=rig.headers(leaked))
            )
            until = time.monotonic() + 30
            while not rig.sample("sealift_queue_depth", priority="interactive"):
                assert time.monotonic() < until
                time.sleep(0.01)
            del rig.api_keys.known["leakedkey2"]
            assert first.data.endswith(b"data: [DONE]\n\n")
            response = waits.result(30)

        assert (response.status_code, _error(response)["code"]) == (401, "invalid_api_key")
        assert len(rig.engine.asked) == 1
        assert _refused(rig) == [("chat", "leakedkey2", 401, "invalid_api_key")]


def test_a_key_with_as_many_answers_at_once_as_it_may_have_waits_and_others_are_answered(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="key_concurrent_requests = 1") as rig:
        first = rig.client.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=rig.headers())
        other, higher = (
            rig.api_keys.add(key_text("otherkey23")),
            rig.api_keys.add(key_text("highertier"), tier="premium"),
        )
        at_once = {"X-Sealift-Max-Wait": "0"}

        mine = rig.client.post("/v1/chat/completions", json=CHAT, headers=rig.headers() | at_once)
        others = rig.client.post("/v1/chat/completions", json=CHAT, headers=rig.headers(other) | at_once)
        streams = [
            rig.client.post(
                "/v1/chat/completions", json={**CHAT, "stream": True}, headers=rig.headers(higher) | at_once
            )
            for _ in range(5)
        ]

        assert (mine.status_code, _error(mine)["code"]) == (429, "class_full")
        assert mine.headers["retry-after"] == "1"
        assert others.status_code == 200
        assert [one.status_code for one in streams] == [200] * 4 + [429]
        assert all(one.data.endswith(b"data: [DONE]\n\n") for one in (first, *streams[:4]))
        assert rig.client.post("/v1/chat/completions", json=CHAT, headers=rig.headers() | at_once).status_code == 200


def test_identifiers_are_refused_for_a_key_that_blocks_them(rig: Rig) -> None:
    key = rig.api_keys.add(key_text("blocker234"), mode=PhiMode.BLOCK)

    response = rig.client.post(
        "/v1/chat/completions",
        json={"model": MODEL, "messages": [{"role": "user", "content": "SSN 123-45-6789"}]},
        headers=rig.headers(key),
    )

    assert (response.status_code, _error(response)["code"]) == (400, "phi_blocked")
    assert "ssn=1" in _error(response)["message"]
    assert b"6789" not in response.data
    assert rig.engine.asked == []


class _BrokenDetector:
    def find(self, text: str) -> Any:
        raise RuntimeError(text)


def test_a_detector_that_fails_means_refusal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with gateway(tmp_path, detector=_BrokenDetector()) as rig:
        response = rig.chat(SECRET)

        assert (response.status_code, _error(response)["code"]) == (500, "phi_unavailable")
        assert response.headers["x-should-retry"] == "false"
        assert rig.engine.asked == []
        assert _refused(rig) == [("chat", "abcdefgh23", 500, "phi_unavailable")]
        assert SECRET not in caplog.text
        (line,) = (one for one in caplog.records if "request_refused" in one.message)
        assert (line.levelno, json.loads(line.message)["error"]) == (logging.ERROR, "RuntimeError")
        assert _counted(rig) == {"error": 1}


def _counted(rig: Rig) -> dict[str, float]:
    """Return how requests ended that reached no version."""
    ways = {way: rig.sample("llm_requests_total", model="none", endpoint="chat", status=way) for way in WAYS}
    return {way: count for way, count in ways.items() if count}


WAYS = ("success", "refused", "error", "cancelled")


def test_a_fault_of_this_box_is_counted_as_one_and_what_is_by_order_or_for_want_of_room_is_not(rig: Rig) -> None:
    rig.routes.route = None
    assert rig.chat("hello").status_code == 503
    assert _counted(rig) == {"error": 1}

    assert rig.ask({"model": MODEL}).status_code == 400
    rig.routes.stopped.add("abcdefgh23")
    assert rig.chat("hello").status_code == 503
    assert _counted(rig) == {"error": 1, "refused": 2}


def test_a_long_request_is_counted_and_answered_by_the_engine_that_is_there(tmp_path: Path) -> None:
    with gateway(tmp_path, limits="input_tokens = 100") as rig, fake_engine(tmp_path / "nobody-2.sock") as second:
        rig.promote(socket=tmp_path / "nobody.sock")

        assert rig.client.get("/readyz").status_code == 200
        assert rig.chat("word " * 90).status_code == 200
        assert [route for route, _ in second.asked] == ["/sealift/v1/tokenize", "/v1/chat/completions"]
        assert rig.bodies("request.refused") == []


@pytest.mark.parametrize("text", ["hello", "word " * 90])
def test_a_caller_that_leaves_while_engines_are_asked_whether_they_are_well_is_let_go(
    tmp_path: Path, text: str
) -> None:
    content = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
    with ExitStack() as stack:
        for name in ("silent.sock", "silent-2.sock"):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(tmp_path / name))
            listener.listen(8)
        rig = stack.enter_context(gateway(tmp_path, limits="input_tokens = 100"))
        rig.promote(socket=tmp_path / "silent.sock")
        caller, ours = socket.socketpair()
        stack.enter_context(ours)
        threading.Timer(0.1, caller.close).start()

        began = time.monotonic()
        environ = {"werkzeug.socket": ours}
        response = rig.client.post(
            "/v1/chat/completions", json=content, headers=rig.headers(), environ_overrides=environ
        )
        took = time.monotonic() - began

        assert (response.status_code, _error(response)["code"]) == (499, "caller_left")
        assert took < 0.9, "a question may take a second"
        assert _refused(rig) == [("chat", "abcdefgh23", 499, "caller_left")]


def test_an_engine_that_is_not_there_is_told_as_such(rig: Rig, tmp_path: Path) -> None:
    rig.promote(socket=tmp_path / "nobody.sock")

    response = rig.ask(CHAT)

    assert (response.status_code, _error(response)["code"]) == (503, "engine_unavailable")
    assert _refused(rig) == [("chat", "abcdefgh23", 503, "engine_unavailable")]
    assert rig.bodies("request.intent") == []


@pytest.mark.parametrize(
    ("refuse", "status", "code"),
    [
        ((400, "context_length_exceeded"), 400, "context_length_exceeded"),
        ((400, "messages_refused"), 400, "messages_refused"),
        ((400, "invalid_value"), 400, "engine_refused"),
        ((503, "loading"), 503, "overloaded"),
        ((429, "busy"), 503, "overloaded"),
        ((400, "engine_unavailable"), 503, "overloaded"),
        ((500, "engine_failed"), 502, "engine_error"),
    ],
)
@pytest.mark.parametrize("way", ["whole", "streamed"])
def test_what_an_engine_refuses_is_told_in_our_words_before_a_stream_begins(
    rig: Rig, refuse: tuple[int, str], status: int, code: str, way: str
) -> None:
    rig.engine.script = Script(refuse=refuse)

    response = rig.ask({**CHAT, "stream": way == "streamed"})

    assert (response.status_code, _error(response)["code"]) == (status, code)
    assert "quotes" not in _error(response)["message"]
    assert _error(response)["param"] in {None, "messages"}, "what an engine calls it is no parameter of ours"
    assert _refused(rig) == []
    (outcome,) = rig.bodies("request.outcome")
    assert (outcome["outcome"], outcome["status"]) == ("error", status)


def test_a_fault_of_ours_is_logged_by_type_and_place_only(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Any:
        raise RuntimeError(SECRET)

    rig.routes.serving = broken  # type: ignore[method-assign]

    response = rig.chat("hello")

    assert (response.status_code, _error(response)["code"]) == (500, "internal_error")
    assert SECRET not in caplog.text + response.text
    fault = json.loads(next(one.message for one in caplog.records if "fault" in one.message))
    assert fault["error"] == "RuntimeError"
    assert fault["request_id"] == response.headers["x-request-id"]


def test_every_name_of_a_person_is_checked_also_where_another_counts(rig: Rig) -> None:
    error = rig.chat("hello", safety_identifier="nurse-7", user=7).get_json()["error"]

    assert (error["code"], error["param"]) == ("invalid_value", "user")


@pytest.mark.parametrize("arguments", ['{"place": "\\ud83d"}', '{"\\ude00": 1}', '"\\ud83d"', '[{"a": ["\\ud83d"]}]'])
def test_half_a_letter_in_the_arguments_of_a_call_is_refused(rig: Rig, arguments: str) -> None:
    """A model that was cut in the middle of an escape wrote it, and its client sends the conversation again."""
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    messages = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Nothing."},
    ]

    refused = rig.ask({"model": MODEL, "messages": messages})

    assert (refused.status_code, refused.get_json()["error"]["code"]) == (400, "invalid_encoding")
    assert refused.get_json()["error"]["param"] == "messages[1].tool_calls[0].function.arguments"


def test_a_whole_letter_that_is_spelled_in_two_halves_is_taken_in_arguments(rig: Rig) -> None:
    written = '{"place": "\\ud83d\\ude00"}'
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": written}}
    messages = [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "user", "content": "And?"}]

    assert rig.ask({"model": MODEL, "messages": messages}).status_code == 200
    assert rig.engine.last["messages"][0]["tool_calls"][0]["function"]["arguments"] == written


def test_a_control_character_that_is_spelled_in_arguments_parts_no_identifier(rig: Rig) -> None:
    written = '{"note\\u0007": "SSN 123-45\\u0000-6789,\\tas told"}'
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": written}}
    messages = [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "user", "content": "And?"}]

    assert rig.ask({"model": MODEL, "messages": messages}).status_code == 200

    read = json.loads(rig.engine.last["messages"][0]["tool_calls"][0]["function"]["arguments"])
    assert read == {"note": "SSN [SSN_1],\tas told"}
