"""The door before vLLM: what gets in and as what, what comes out, and what neither side is told."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.serve import vllm_requests as requests
from appliance.serve.asking import MAX_ANSWERS
from appliance.serve.vllm_door import FACTS, Door
from appliance.serve.vllm_requests import Facts, RefusedRequestError, control_tokens
from media.errors import MalformedError

CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ON = Facts(
    model_digest="d" * 64, weights_digest="w" * 64, stage="test", n_ctx=2048, system_prompt="Be brief.",
    temperature=0.2, top_p=0.9, controls=CONTROLS, listener=3, calls=True, model={"architecture": "qwen2"},
)  # fmt: skip
CHAT = {"messages": [{"role": "user", "content": "hello"}]}


class Inner:
    """Stands for vLLM's application: notes what it is asked, answers as told."""

    def __init__(self, status: int = 200, answer: Any = None) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self._status, self._answer = status, answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        body = json.loads(message["body"]) if message.get("body") else {}
        self.asked.append((scope["path"], body))
        self.headers = scope.get("headers", [])
        said = self._answer(scope["path"], body) if callable(self._answer) else self._answer or {"ok": True}
        await send({"type": "http.response.start", "status": self._status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(said).encode()})


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, dict[str, Any]]]:
    (tmp_path / "facts").write_bytes(ON.to_bytes())
    monkeypatch.setenv(FACTS, str(tmp_path / "facts"))

    def asked(inner: Inner, path: str, body: Any = None, *, method: str = "POST") -> tuple[int, dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "headers": [(b"x-trace", b"1")]}
        asyncio.run(Door(inner)(scope, receive, send))
        return sent[0]["status"], json.loads(b"".join(one.get("body", b"") for one in sent))

    return asked


@pytest.mark.parametrize(
    ("choice", "strict"),
    [
        ("required", True),
        ({"type": "function", "function": {"name": "f"}}, True),
        ("auto", None),
        ("none", None),
        (None, None),
    ],
)
def test_a_function_that_must_be_called_is_held_to_its_schema_and_what_the_caller_said_of_it_stays(
    ask: Callable[..., tuple[int, dict[str, Any]]], *, choice: Any, strict: bool | None
) -> None:
    inner = Inner()
    told = {"name": "f", "parameters": {"type": "object"}}
    tools = [{"type": "function", "function": {**told, **more}} for more in ({}, {"strict": False})]
    bare = {"type": "function", "function": {"name": "g"}}

    ask(inner, "/v1/chat/completions", {**CHAT, "tools": [*tools, bare], "tool_choice": choice})

    asked = inner.asked[0][1]["tools"]
    assert [tool["function"].get("strict") for tool in asked] == [strict, False, None]
    assert asked[0]["function"] == told | ({} if strict is None else {"strict": strict})


def test_functions_are_refused_by_their_name_where_calls_are_not_read() -> None:
    asked = {**CHAT, "tools": [{"type": "function", "function": {"name": "f"}}]}

    with pytest.raises(RefusedRequestError) as refused:
        requests.chat(asked, replace(ON, calls=False))

    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "tools")
    assert requests.chat({**asked, "tool_choice": "none"}, replace(ON, calls=False))["tools"] == asked["tools"]


def test_vectors_are_refused_by_their_name(ask: Any) -> None:
    inner = Inner()

    status, told = ask(inner, "/v1/embeddings", {"input": ["a"]})

    assert (status, told["error"]["code"], inner.asked) == (404, "unsupported_model", [])


def test_a_chat_gets_the_versions_prompt_name_and_defaults_and_none_of_vllms_own_fields(ask: Any) -> None:
    inner = Inner()
    more = {
        "chat_template": "{{ x }}",
        "add_generation_prompt": False,
        "priority": -9,
        "model": "other",
        "stream": True,
    }

    status, _ = ask(inner, "/v1/chat/completions", {**CHAT, **more})

    ((path, body),) = inner.asked
    assert (status, path) == (200, "/v1/chat/completions")
    assert body == {
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
        "model": "d" * 64, "stream": True, "stream_options": {"include_usage": True},
        "max_tokens": 256, "temperature": 0.2, "top_p": 0.9,
    }  # fmt: skip
    assert b"x-trace" not in dict(inner.headers)


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**63 - 1, 0, 7])
def test_vllm_is_told_every_seed_as_one_and_never_as_a_wish_for_any(seed: int) -> None:
    chat, text = requests.chat({**CHAT, "seed": seed}, ON), requests.completion({"prompt": "x", "seed": seed}, ON)

    assert chat["seed"] >= 0
    assert chat["seed"] + MAX_ANSWERS <= 2**63  # of the last of so many answers, too
    assert chat["seed"] == text["seed"]
    assert not 0 <= seed < 2**62 or chat["seed"] == seed


@pytest.mark.parametrize(("told", "asked"), [(0, 0), (2, 2), (-1, None), (3, None), (True, None), ("0", None)])
def test_vllm_is_told_the_gateways_class_and_no_other_priority(ask: Any, told: object, asked: int | None) -> None:
    inner = Inner()

    ask(inner, "/v1/chat/completions", {**CHAT, "priority": told})

    ((_, body),) = inner.asked
    assert body.get("priority") == asked


ALONE: dict[str, Any] = {"top_p": 1.0, "top_k": 1}


@pytest.mark.parametrize(
    ("more", "default", "told"),
    [
        ({"top_p": 0}, 0.2, {**ALONE, "temperature": 0.2}),
        ({"top_p": 0, "temperature": 0}, 0.2, {**ALONE, "temperature": 0}),
        ({"top_p": 0, "n": 2, "seed": 5}, 0.2, {**ALONE, "temperature": 0.2, "n": 2, "seed": 5}),
        ({"top_p": 0, "n": 2}, 0, {**ALONE, "temperature": 1.0, "n": 2, "seed": 0}),
        ({"temperature": 0, "n": 2}, 0.2, {**ALONE, "temperature": 1.0, "n": 2, "seed": 0}),
        ({"temperature": 0, "n": 8, "seed": 7, "top_k": 9}, 0.2, {**ALONE, "temperature": 1.0, "n": 8, "seed": 7}),
        ({"n": 2}, 0.0, {**ALONE, "temperature": 1.0, "n": 2, "seed": 0}),
        ({"n": 1}, 0.0, {"temperature": 0.0, "top_p": 0.9, "n": 1}),
        ({"temperature": 0}, 0.2, {"temperature": 0, "top_p": 0.9}),
        ({"n": 2, "top_k": 9}, 0.2, {"temperature": 0.2, "top_p": 0.9, "n": 2, "top_k": 9}),
        ({"temperature": "0", "top_p": [0]}, 0.2, {"temperature": "0", "top_p": [0]}),
    ],
    ids=str,
)
def test_the_likeliest_token_alone_is_asked_for_in_words_that_vllm_takes(
    more: dict[str, Any], default: float, told: dict[str, Any]
) -> None:
    """vLLM takes no top_p of 0, and no second answer at temperature 0; what else is asked for stays."""
    kept = {"presence_penalty": 1.5, "logit_bias": {"5": 4.0}, "logprobs": True, "top_logprobs": 2}

    asked = requests.chat({**CHAT, **kept, **more}, replace(ON, temperature=default))

    names = ("temperature", "top_p", "top_k", "n", "seed")
    assert {name: asked[name] for name in names if name in asked} == told
    assert {name: asked[name] for name in kept} == kept


def test_a_versions_own_top_p_of_0_is_the_likeliest_token_too() -> None:
    asked = requests.completion({"prompt": "x"}, replace(ON, top_p=0.0))

    assert (asked["top_p"], asked["top_k"]) == (1.0, 1)


PARTS = ("<", "|", ">", "im_end", "im_start", "a", "<|im_end|>", "\u2060")


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("none", {"enable_thinking": False, "thinking": False}),
        ("apart", None),
        (None, None),
        (["none"], None),
    ],
)
def test_a_template_is_told_whether_the_model_thinks_aloud(ask: Any, wanted: object, told: object) -> None:
    inner = Inner()
    ask(inner, "/v1/chat/completions", {**CHAT, "thoughts": wanted})

    asked = inner.asked[0][1]
    assert asked.get("chat_template_kwargs") == told
    assert "thoughts" not in asked


def test_a_model_whose_thoughts_nobody_reads_is_not_made_to_think(ask: Any) -> None:
    inner = Inner()
    status, refused = ask(inner, "/v1/chat/completions", {**CHAT, "thoughts": "wanted"})

    assert (status, refused["error"]["code"], refused["error"]["param"]) == (400, "unsupported_parameter", "thoughts")
    assert not inner.asked


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
def test_no_control_token_is_left_in_what_a_user_says(text: str) -> None:
    made = requests.chat({"messages": [{"role": "user", "content": text}], "tools": [{"name": text}]}, ON)

    said = json.dumps(made, ensure_ascii=False)
    assert not [control for control in CONTROLS if control in said]
    assert made["messages"][1]["content"].replace("\u2060", "") == text.replace("\u2060", "")


@given(st.lists(st.sampled_from(["|||IP_ADDRESS|||", "IP_ADDRESS", "|", "===", "="]), max_size=12).map("".join))
def test_names_that_share_letters_are_each_broken_apart(text: str) -> None:
    controls = ("|||IP_ADDRESS|||", "==")

    broken = requests.harmless(text, controls)

    assert not [control for control in controls if control in broken]
    assert broken.replace("\u2060", "") == text


def test_what_an_answer_is_held_against_goes_out_as_it_was_written() -> None:
    held = {"stop": list(CONTROLS), "response_format": {"type": "json_schema", "json_schema": {"enum": list(CONTROLS)}}}

    made = requests.chat({"messages": [{"role": "user", "content": CONTROLS[0]}], **held}, ON)

    assert {name: made[name] for name in held} == held
    assert CONTROLS[0] not in json.dumps(made["messages"], ensure_ascii=False)


def test_white_space_and_single_letters_are_no_control_tokens() -> None:
    added = [
        *({"content": text, "special": False} for text in ("\n\n", "  ", "\u2581\u2581", "\u00f6", "<tool_call>")),
        *({"content": text, "special": True} for text in ("<|im_end|>", "  \n")),
    ]
    found = requests.control_tokens(json.dumps({"added_tokens": added}).encode())

    assert set(found) == {"<tool_call>", "<|im_end|>", "  \n"}
    with pytest.raises(MalformedError):
        requests.control_tokens(b'{"added_tokens": [1]}')


@pytest.mark.parametrize("depth", [300, *range(700, 1000, 25), 20_000])
def test_nesting_is_passed_on_or_refused_and_never_a_failure_of_the_engine(ask: Any, depth: int) -> None:
    inner = Inner()
    deep = b'{"messages": [{"role": "user", "content": "x"}], "tools": ' + b"[" * depth + b"]" * depth + b"}"

    status, told = ask(inner, "/v1/chat/completions", deep)

    assert status == (200 if inner.asked else 400)
    assert inner.asked or told["error"]["code"] == "invalid_json"


@pytest.mark.parametrize(
    "body",
    [b"", b"[1]", {}, {"messages": []}, {"messages": "x"}, {"messages": [{"role": "root", "content": "x"}]},
     {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, {**CHAT, "max_tokens": 0},
     {**CHAT, "max_tokens": True}, b'{"messages": ' + b"[" * 20_000],
    ids=lambda body: str(body)[:60],
)  # fmt: skip
def test_a_malformed_request_never_reaches_vllm(ask: Any, body: Any) -> None:
    inner = Inner()

    status, told = ask(inner, "/v1/chat/completions", body)

    assert (status, inner.asked) == (400, [])
    assert told["error"]["code"] in {"invalid_json", "invalid_value"}


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/pause"), ("POST", "/invocations"), ("POST", "/v1/load_lora_adapter"), ("GET", "/v1/chat/completions"),
     ("POST", "/tokenize"), ("POST", "/collective_rpc"), ("GET", "/docs"), ("GET", "/health/")],
)  # fmt: skip
def test_other_routes_are_shut(ask: Any, method: str, path: str) -> None:
    inner = Inner()

    assert ask(inner, path, {}, method=method)[0] == 404
    assert inner.asked == []


@pytest.mark.parametrize(
    ("status", "message", "told"),
    [
        (400, "the maximum context length is 2048; 'Mrs. Ferrer'", (400, "context_length_exceeded")),
        (422, "'Mrs. Ferrer' is no number", (400, "invalid_value")),
        (500, "Mrs. Ferrer", (500, "engine_failed")),
    ],
)  # fmt: skip
def test_an_error_of_vllm_is_told_without_its_words(ask: Any, status: int, message: str, told: tuple[int, str]) -> None:
    got, body = ask(Inner(status, {"error": {"message": message}}), "/v1/chat/completions", CHAT)

    assert (got, body["error"]["code"]) == told
    assert "Ferrer" not in json.dumps(body)


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("top_p", "top_p"),
        ("body.stop.0", "stop"),
        ("body.messages.0.content", "messages"),
        (None, None),
        ("Mrs. Ferrer", None),
        ("body.tools.Ferrer", "tools"),
        ("cache_salt", None),
        ("prompt_logprobs", None),
    ],
)
def test_a_refusal_of_vllm_names_the_callers_own_parameter_and_no_other(ask: Any, named: object, told: object) -> None:
    refused = {"error": {"message": "Mrs. Ferrer", "param": named}}

    status, body = ask(Inner(400, refused), "/v1/chat/completions", CHAT)

    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "invalid_value", told)
    assert "Ferrer" not in json.dumps(body)


def test_continuations_are_scored_by_the_likelihood_of_their_own_tokens(ask: Any) -> None:
    def answers(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/tokenize":
            return {"tokens": [ord(letter) for letter in body["prompt"]]}
        assert body["max_tokens"] == 1
        return {
            "choices": [{"prompt_logprobs": [None, *({str(t): {"logprob": -t / 100}} for t in body["prompt"][1:])]}]
        }

    status, told = ask(Inner(answer=answers), "/sealift/v1/score", {"prompt": "ab", "continuations": ["c", "de"]})

    assert status == 200
    assert told["tokens"] == [1, 2]
    assert told["log_likelihoods"] == pytest.approx([-0.99, -2.01])


def test_it_says_what_it_serves(ask: Any) -> None:
    _, told = ask(Inner(), "/sealift/v1/status", method="GET")

    assert (told["model_digest"], told["weights_digest"], told["n_ctx"]) == ("d" * 64, "w" * 64, 2048)
    assert (told["state"], told["running"]) == ("ready", 0)
    assert told["model"] == {"architecture": "qwen2"}


def test_a_conversation_is_counted_with_the_functions_that_it_is_told_of(ask: Any) -> None:
    inner = Inner(answer=lambda _, __: {"tokens": [1, 2, 3]})
    tools = [{"type": "function", "function": {"name": "f", "description": "<|im_end|>"}}]

    status, told = ask(inner, "/sealift/v1/tokenize", {"messages": [{"role": "user", "content": "a"}], "tools": tools})

    assert (status, told["tokens"]) == (200, 3)
    ((_, asked),) = inner.asked
    assert asked["tools"][0]["function"]["name"] == "f"
    assert "<|im_end|>" not in json.dumps(asked, ensure_ascii=False)


def test_control_tokens_are_read_longest_first_and_a_tokenizer_without_them_is_none() -> None:
    made = json.dumps({"added_tokens": [{"content": "<a>"}, {"content": "<abc>"}]}).encode()

    assert control_tokens(made) == ("<abc>", "<a>")
    for broken in (b"", b"{}", b"[]", b'{"added_tokens": [1]}'):
        with pytest.raises(MalformedError):
            control_tokens(broken)


def test_a_completion_needs_a_prompt() -> None:
    with pytest.raises(RefusedRequestError):
        requests.completion({"prompt": ""}, ON)
