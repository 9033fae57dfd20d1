"""What the API tests of vLLM and of llama.cpp's server try, in our words, asked of the gateway and llama.cpp's engine.

Theirs are vLLM's tests/entrypoints/openai and tests/tool_use, and llama.cpp's tools/server/tests/unit. What other files
here show as well is not repeated: shapes and streams (test_answers), values out of range and bodies that are no object
(test_refusals), schemas and several answers (test_structured), vectors (test_embeddings). What other servers take and
this one does not is in test_scenarios_refused, what their answers are made of in test_scenarios_answers.
"""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.echo_gateway import echo_gateway
from tests.support.gateway import MODEL, Rig, events, said

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "abc"}]}
TEXT: dict[str, Any] = {"model": MODEL, "prompt": "abc"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
NULLS = dict.fromkeys(
    ["logit_bias", "n", "seed", "stop", "stream", "stream_options", "user", "logprobs", "response_format", "max_tokens"]
)
EARLIER: dict[str, Any] = {"role": "assistant", "content": "x", "tool_calls": [], "refusal": None}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("scenarios")
    with echo_gateway(folder) as running:
        yield running


@pytest.mark.parametrize(
    ("change", "content"),
    [
        (NULLS, "ABC"),
        ({"tools": [TOOL], "tool_choice": "none"}, "ABC"),
        ({"tools": None, "tool_choice": "auto"}, "ABC"),
        ({"tools": []}, "ABC"),
        ({"stop": []}, "ABC"),
        ({"stop": "C"}, "AB"),
        ({"stop": ["never", "B"]}, "A"),
        ({"logit_bias": {}}, "ABC"),
        ({"response_format": {"type": "text"}}, "ABC"),
        ({"logprobs": False, "top_logprobs": 0}, "ABC"),
        ({"max_completion_tokens": 2}, "AB"),
        ({"messages": [*CHAT["messages"], EARLIER, *CHAT["messages"]]}, "ABCXABC"),
        ({"messages": [*CHAT["messages"], {"role": "assistant", "content": "y"}]}, "ABCY"),
        ({"messages": [{"role": "system", "content": "s"}]}, "S"),
        ({"messages": [*CHAT["messages"], {"role": "system", "content": "s"}, *CHAT["messages"]]}, "ABCSABC"),
        ({"messages": [{"role": "system", "content": "s"}, {"role": "developer", "content": "t"}]}, "ST"),
        ({"messages": [{"role": "user", "content": ""}, *CHAT["messages"]]}, "ABC"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": one} for one in "abc"]}]}, "ABC"),
        ({"parallel_tool_calls": True}, "ABC"),
        ({"stop": "A"}, ""),
        ({"stop": "CX"}, "ABC"),
        ({"stop": ["B", "B"]}, "A"),
        ({"seed": -1}, "ABC"),
        ({"seed": 2**63 - 1}, "ABC"),
    ],
)
def test_what_asks_for_nothing_special_is_answered_whole_and_streamed_alike(
    rig: Rig, change: dict[str, Any], content: str
) -> None:
    whole = rig.ask({**CHAT, **change})
    stream = events(rig.ask({**CHAT, **change, "stream": True}).data)

    assert whole.status_code == 200, whole.data
    assert whole.get_json()["choices"][0]["message"]["content"] == content == said(stream)
    reasons = [one["finish_reason"] for event in stream[:-1] for one in event["choices"] if one["finish_reason"]]
    assert reasons == [whole.get_json()["choices"][0]["finish_reason"]]


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        ("chat/completions", {**CHAT, "n": 0}, "n", "invalid_value"),
        ("chat/completions", {**CHAT, "stop": ""}, "stop", "invalid_value"),
        ("chat/completions", {**CHAT, "max_tokens": 5000, "max_completion_tokens": 2}, "max_tokens", "invalid_value"),
        (
            "chat/completions",
            {**CHAT, "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}},
            "tool_choice",
            "invalid_value",
        ),
        (
            "chat/completions",
            {**CHAT, "tools": [TOOL], "tool_choice": "required", "response_format": {"type": "json_object"}},
            "response_format",
            "unsupported_parameter",
        ),
        ("completions", {**TEXT, "prompt": ""}, "prompt", "invalid_value"),
        ("completions", {**TEXT, "prompt": []}, "prompt", "invalid_value"),
        ("completions", {"model": MODEL}, "prompt", "invalid_value"),
        ("completions", {**TEXT, "logprobs": 6}, "logprobs", "invalid_value"),
        ("completions", {**TEXT, "max_tokens": 0}, "max_tokens", "invalid_value"),
        ("completions", {**TEXT, "echo": True}, "echo", "unsupported_parameter"),
        ("embeddings", {"model": MODEL, "input": []}, "input", "invalid_value"),
        ("embeddings", {"model": MODEL, "input": ["a", ""]}, "input", "invalid_value"),
        ("embeddings", {"model": MODEL}, "input", "missing_required_parameter"),
        ("embeddings", {"model": MODEL, "input": "a", "encoding_format": "hex"}, "encoding_format", "invalid_value"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_parameter(
    rig: Rig, path: str, body: dict[str, Any], param: str, code: str
) -> None:
    refused = rig.ask(body, path=f"/v1/{path}")

    assert (refused.status_code, refused.get_json()["error"]["param"]) == (400, param)
    assert refused.get_json()["error"]["code"] == code


def test_of_two_lengths_the_newer_name_counts_and_the_other_is_named(rig: Rig) -> None:
    both = rig.ask({**CHAT, "max_tokens": 3, "max_completion_tokens": 2})
    equal = rig.ask({**CHAT, "max_tokens": 2, "max_completion_tokens": 2})

    assert both.get_json()["choices"][0]["message"]["content"] == "AB"
    assert both.headers["x-sealift-ignored"] == "max_tokens"
    assert "x-sealift-ignored" not in equal.headers


def test_a_completion_takes_a_text_or_a_list_of_one_and_counts_at_its_end(rig: Rig) -> None:
    asked = {**TEXT, "best_of": 1, "logprobs": 0, "stream": True, "stream_options": {"include_usage": True}}
    stream = events(rig.ask(asked, path="/v1/completions").data)
    listed = rig.ask({**TEXT, "prompt": ["abc"]}, path="/v1/completions").get_json()

    assert listed["choices"][0]["text"] == said(stream) == "ABC"
    assert stream[-2]["choices"] == []
    assert stream[-2]["usage"] == listed["usage"]


def test_the_same_question_at_temperature_0_has_one_answer_also_beside_others(rig: Rig) -> None:
    answers: list[str] = []

    def ask() -> None:
        with rig.app.test_client() as client:
            given = client.post("/v1/chat/completions", json={**CHAT, "temperature": 0}, headers=rig.headers())
            answers.append(json.loads(given.data)["choices"][0]["message"]["content"])

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert answers == ["ABC"] * 6


def test_health_needs_no_key_and_models_do(rig: Rig) -> None:
    assert rig.client.get("/health").status_code != 401
    assert rig.client.get("/v1/models").status_code == 401
    assert rig.client.get("/v1/models/other", headers=rig.headers()).get_json()["error"]["code"] == "model_not_found"
