"""What streams say is as the API's description has it, event by event and line by line, and nothing else is."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from appliance.gateway.openapi import PATH
from tests.support.engine import THINKING_ALOUD, Script
from tests.support.gateway import MODEL, Rig, events
from tests.support.json_schema import fits

Schema = dict[str, Any]
HELLO = [{"role": "user", "content": "MRN: 12345678 is here"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CALLS = tuple({"id": f"call_{at}", "function": {"name": "f", "arguments": '{"city": "Bern"}'}} for at in "ab")
LIKELY = {"token": "So", "logprob": -0.5, "bytes": [83, 111], "top_logprobs": [{"token": "No", "logprob": -2.0}]}
LEGACY = {"tokens": ["So"], "token_logprobs": [-0.5], "top_logprobs": [{"No": -2.0}]}
COUNTED = {"stream_options": {"include_usage": True}}
USAGE: dict[str, Any] = {
    "prompt_tokens": 4,
    "completion_tokens": 3,
    "dropped_tokens": 2,
    "completion_tokens_details": {"reasoning_tokens": 1},
}


def likely(said: dict[str, Any], logprobs: dict[str, Any]) -> Script:
    """Return a script that tells how likely its one token was."""
    choice = {"index": 0, **said, "logprobs": logprobs}
    return Script(
        events=({"choices": [choice]}, {"choices": [{**choice, "logprobs": None, "finish_reason": "length"}]})
    )


CHATS: dict[str, tuple[Script, dict[str, Any]]] = {
    "plain": (Script(), {}),
    "several": (Script(), {"n": 2}),
    "counted": (Script(usage=USAGE), COUNTED),
    "not counted": (Script(counts=False), COUNTED),
    "nothing": (Script(text=""), {}),
    "cut": (Script(), {"max_tokens": 2}),
    "calls": (Script(text="", tool_calls=CALLS), {"tools": TOOLS, **COUNTED}),
    "thoughts": (Script(events=THINKING_ALOUD), {}),
    "likely": (likely({"delta": {"content": "So"}}, {"content": [LIKELY]}), {"logprobs": True, "top_logprobs": 1}),
    "filtered": (Script(events=({"choices": [{"delta": {}, "finish_reason": "content_filter"}]},)), {}),
    "failed": (Script(error_after=1), COUNTED),
    "torn": (Script(tear_after=1), {}),
}
TEXTS: dict[str, tuple[Script, dict[str, Any]]] = {
    "plain": (Script(), {}),
    "several": (Script(), {"prompt": ["one", "two"]}),
    "counted": (Script(usage=USAGE), COUNTED),
    "likely": (likely({"text": "So"}, LEGACY), {"logprobs": 1}),
    "failed": (Script(error_after=1), {}),
}
OLLAMAS: dict[str, tuple[Script, dict[str, Any]]] = {
    "plain": (Script(), {}),
    "counted": (Script(usage=USAGE), {}),
    "not counted": (Script(counts=False), {}),
    "cut": (Script(), {"options": {"num_predict": 2}}),
    "thoughts": (Script(events=THINKING_ALOUD), {}),
    "failed": (Script(error_after=1), {}),
}
ASKED: list[tuple[str, dict[str, Any], Script]] = [
    *(("/v1/chat/completions", {"messages": HELLO, "stream": True, **more}, how) for how, more in CHATS.values()),
    *(("/v1/completions", {"prompt": "hello", "stream": True, **more}, how) for how, more in TEXTS.values()),
    *(("/api/chat", {"messages": HELLO, **more}, how) for how, more in OLLAMAS.values()),
    ("/api/chat", {"messages": HELLO, "tools": TOOLS}, CHATS["calls"][0]),
    *(("/api/generate", {"prompt": "hello", **more}, how) for how, more in OLLAMAS.values()),
]


def shut(schema: Any) -> Any:
    """Return a schema whose objects have no other members than those it names."""
    if isinstance(schema, list):
        return [shut(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "properties" in schema else {}
    return {**closed, **{name: shut(one) for name, one in schema.items()}}


def described(rig: Rig, path: str) -> tuple[str, Schema]:
    """Return what a stream of a route is, and what each event or line of it looks like."""
    document = rig.client.get(PATH, headers=rig.headers()).get_json()
    content = document["paths"][path]["post"]["responses"]["200"]["content"]
    (kind,) = set(content) - {"application/json"}
    return kind, dict(content[kind]["schema"])


def parts_of(data: bytes, kind: str) -> list[Any]:
    """Return each event or line as the description sees it."""
    if kind == "text/event-stream":
        return [{"data": one if isinstance(one, str) else json.dumps(one)} for one in events(data)]
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.parametrize(("path", "body", "script"), ASKED)
def test_whatever_a_stream_says_is_described_to_the_last_member(
    rig: Rig, path: str, body: dict[str, Any], script: Script
) -> None:
    kind, schema = described(rig, path)
    rig.engine.script = script
    answer = rig.ask({"model": MODEL, **body}, path=path)

    assert (answer.status_code, answer.mimetype) == (200, kind)
    parts = parts_of(answer.data, kind)
    assert parts
    assert [one for one in parts if not fits(one, shut(schema))] == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_every_form_of_an_event_is_told_from_others(rig: Rig, path: str) -> None:
    kind, schema = described(rig, path)
    body = {"messages": HELLO} if "chat" in path else {"prompt": "hello"}
    answer = rig.ask({"model": MODEL, "stream": True, **COUNTED, **body}, path=path)
    *chunks, usage, _ = events(answer.data)
    changes: list[Callable[[dict[str, Any]], Any]] = [
        lambda one: one.pop("id"),
        lambda one: one.update(object="chat.completion"),
        lambda one: one.pop("choices"),
        lambda one: one["choices"][0].pop("index"),
        lambda one: one["choices"][0].update(finish_reason="abort"),
        lambda one: one["choices"].append(one["choices"][0]),
    ]

    for change in changes:
        broken = json.loads(json.dumps(chunks[-1]))
        change(broken)
        assert not fits({"data": json.dumps(broken)}, schema), broken
    for text in ("[DONE", "{}", json.dumps({**usage, "usage": None}), json.dumps({"error": "no"})):
        assert not fits({"data": text}, schema), text
    assert kind == "text/event-stream"
    assert ("the role" in schema["description"]) == ("chat" in path)


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_every_form_of_a_line_is_told_from_others(rig: Rig, path: str) -> None:
    _, schema = described(rig, path)
    body = {"messages": HELLO} if "chat" in path else {"prompt": "hello"}
    first, *_, last = parts_of(rig.ask({"model": MODEL, **body}, path=path).data, "")

    assert fits(first, schema)
    assert not fits({**first, "done": True}, schema)
    assert not fits({**last, "done_reason": "load"}, schema)
    assert not fits({name: one for name, one in last.items() if name != "total_duration"}, schema)
    assert not fits({name: one for name, one in first.items() if name not in {"message", "response"}}, schema)
