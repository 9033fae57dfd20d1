"""What a caller of any of the gateway's routes was told, read by the letter of its API: another shape fails."""

import base64
import json
import math
import struct
from dataclasses import dataclass, field
from typing import Any, Final

REASONS: Final = {"stop", "length", "tool_calls", "content_filter"}
_ENDED: Final = {"total_duration", "load_duration", "prompt_eval_duration", "eval_duration"}
_COUNTED: Final = {"prompt_eval_count", "eval_count"}


@dataclass(slots=True, kw_only=True)
class Told:
    """One answer. `calls` are ids, names and arguments; Ollama's have no ids, and objects as arguments."""

    text: str = ""
    thoughts: str = ""
    calls: list[list[Any]] = field(default_factory=list)
    finish: str = ""
    logprobs: int = 0

    def delivered(self) -> str:
        """Return what the record's `response_hmac` is made over, where arguments are texts."""
        return self.text + "".join(f"\n{name}{arguments}" for _, name, arguments in self.calls)


@dataclass(slots=True, kw_only=True)
class Whole:
    """All answers to one request, with prompt's and answers' tokens where they were told, or its vectors."""

    answers: list[Told] = field(default_factory=list)
    counted: tuple[int, ...] | None = None
    vectors: list[tuple[float, ...]] = field(default_factory=list)


def _count(value: object) -> int:
    assert type(value) is int, value
    assert value >= 0
    return value


def _usage(told: dict[str, Any]) -> tuple[int, ...]:
    details = told.pop("completion_tokens_details", {"reasoning_tokens": told["completion_tokens"]})
    assert set(details) == {"reasoning_tokens"}
    assert _count(details["reasoning_tokens"]) <= told["completion_tokens"]
    assert _count(told.pop("dropped_tokens", 1)) > 0
    assert set(told) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    prompt, made = _count(told["prompt_tokens"]), _count(told["completion_tokens"])
    assert told["total_tokens"] == prompt + made
    return prompt, made


def _object(told: dict[str, Any], kind: str) -> list[Any]:
    assert {"id", "object", "created", "model", "choices"} <= set(told) <= _OPENAI
    assert told["object"] == kind
    assert told["id"].startswith("chatcmpl-" if kind.startswith("chat.") else "cmpl-")
    assert type(told["created"]) is int
    return list(told["choices"])


_OPENAI: Final = {"id", "object", "created", "model", "choices", "usage"}


def _likelihood(one: dict[str, Any], *, has_top: bool) -> None:
    assert set(one) == {"token", "logprob", "bytes", *(["top_logprobs"] if has_top else [])}
    assert isinstance(one["token"], str)
    assert isinstance(one["logprob"], float)
    assert -math.inf < one["logprob"] <= 0
    assert one["bytes"] is None or bytes(one["bytes"]) is not None
    for other in one.get("top_logprobs", []):
        _likelihood(other, has_top=False)


def _logprobs(told: dict[str, Any] | None, *, is_chat: bool) -> int:
    """Return of how many tokens probabilities are told."""
    if told is None:
        return 0
    if is_chat:
        assert set(told) == {"content", "refusal"}
        for one in told["content"]:
            _likelihood(one, has_top=True)
        return len(told["content"])
    assert set(told) == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
    assert len({len(one) for one in told.values()}) == 1
    assert all(isinstance(one, str) for one in told["tokens"])
    for one in [*told["token_logprobs"], *(value for top in told["top_logprobs"] for value in top.values())]:
        assert isinstance(one, float)
        assert -math.inf < one <= 0
    assert told["text_offset"] == sorted(map(_count, told["text_offset"]))
    return len(told["tokens"])


def _call(told: dict[str, Any]) -> list[Any]:
    assert set(told) == {"id", "type", "function"}
    assert told["type"] == "function"
    assert set(told["function"]) == {"name", "arguments"}
    found = [told["id"], told["function"]["name"], told["function"]["arguments"]]
    assert all(isinstance(one, str) for one in found)
    assert found[0]
    assert found[1]
    return found


def whole_of_openai(content: bytes, *, is_chat: bool) -> Whole:
    """Read the whole answer of a chat or a completion."""
    told = json.loads(content)
    found = Whole(counted=_usage(told["usage"]) if "usage" in told else None)
    for place, choice in enumerate(_object(told, "chat.completion" if is_chat else "text_completion")):
        assert set(choice) == {"index", "message" if is_chat else "text", "logprobs", "finish_reason"}
        assert choice["index"] == place
        answer = Told(finish=choice["finish_reason"], logprobs=_logprobs(choice["logprobs"], is_chat=is_chat))
        if is_chat:
            said = choice["message"]
            assert {"role", "content", "refusal"} <= set(said) <= {
                "role", "content", "refusal", "reasoning_content", "tool_calls",
            }  # fmt: skip
            assert (said["role"], said["refusal"]) == ("assistant", None)
            assert isinstance(said["content"], str) or (said["content"] is None and said["tool_calls"])
            answer.text = said["content"] or ""
            answer.thoughts = said.get("reasoning_content", "")
            answer.calls = [_call(one) for one in said.get("tool_calls", [])]
            assert answer.calls or "tool_calls" not in said
        else:
            answer.text = choice["text"]
        found.answers.append(answer)
    _require_texts(found)
    return found


def _require_texts(found: Whole) -> None:
    for answer in found.answers:
        assert answer.finish in REASONS
        assert answer.calls or answer.finish != "tool_calls"
        assert isinstance(answer.text, str)
        assert isinstance(answer.thoughts, str)
        ids = [one[0] for one in answer.calls]
        assert len(set(ids)) == len(ids), "whoever answers one of two calls names it by its id"


def stream_of_openai(content: bytes, *, is_chat: bool, answers: int, with_usage: bool) -> Whole | None:
    """Read the events of a chat or a completion; None where they end in an error instead of `[DONE]`."""
    text = content.decode()
    assert text.endswith("\n\n")
    lines = text.removesuffix("\n\n").split("\n\n")
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    said = [line.removeprefix("data: ") for line in lines]
    assert said.count("[DONE]") == (said[-1] == "[DONE]")
    events = [json.loads(one) for one in said if one != "[DONE]"]
    failed = [at for at, event in enumerate(events) if "error" in event]
    if said[-1] != "[DONE]":
        assert failed == [len(events) - 1]
        assert set(events[-1]["error"]) >= {"message", "type", "code"}
        return None
    assert not failed
    found = Whole(answers=[Told() for _ in range(answers)])
    kind = "chat.completion.chunk" if is_chat else "text_completion"
    if with_usage and not events[-1]["choices"]:
        last = events.pop()
        _object(last, kind)
        found.counted = _usage(last["usage"])
    roles = [0] * answers
    for event in events:
        (choice,) = _object(event, kind)
        assert ("usage" in event) is with_usage
        assert event.get("usage") is None
        answer = found.answers[choice["index"]]
        assert not answer.finish, "nothing comes behind an answer's end"
        if is_chat:
            roles[choice["index"]] += _delta(choice["delta"], answer, is_first=not roles[choice["index"]])
        else:
            assert set(choice) == {"index", "text", "logprobs", "finish_reason"}
            answer.text += choice["text"]
        answer.logprobs += _logprobs(choice.get("logprobs"), is_chat=is_chat)
        answer.finish = choice["finish_reason"] or ""
    assert roles == [1 if is_chat else 0] * answers
    assert len({(one["id"], one["created"], one["model"]) for one in events}) == 1
    for answer in found.answers:
        answer.calls = [one[:3] for one in sorted(answer.calls, key=lambda one: _count(one[3]))]
    _require_texts(found)
    return found


def _delta(delta: dict[str, Any], answer: Told, *, is_first: bool) -> int:
    """Add what a chunk says; return how many roles it names."""
    assert set(delta) <= {"role", "content", "reasoning_content", "tool_calls"}
    assert ("role" in delta) is is_first
    assert delta.get("role", "assistant") == "assistant"
    answer.text += delta.get("content", "")
    answer.thoughts += delta.get("reasoning_content", "")
    for call in delta.get("tool_calls", []):
        place = {one[3]: one for one in answer.calls}.get(call["index"])
        if place is None:
            answer.calls.append([*_call({name: one for name, one in call.items() if name != "index"}), call["index"]])
        else:
            assert set(call) == {"index", "function"}
            assert set(call["function"]) == {"arguments"}
            place[2] += call["function"]["arguments"]
    return int("role" in delta)


def ollama_of(lines: list[dict[str, Any]], *, is_chat: bool) -> Whole | None:
    """Read Ollama's lines, or the one object of a whole answer; None where they end in an error."""
    if "error" in lines[-1]:
        assert isinstance(lines[-1]["error"], str)
        assert not any("error" in one or one["done"] for one in lines[:-1])
        return None
    answer, last = Told(), lines[-1]
    for line in lines:
        assert {"model", "created_at", "done", "message" if is_chat else "response"} <= set(line)
        assert line["done"] is (line is last)
        said = line["message"] if is_chat else line
        if is_chat:
            assert said["role"] == "assistant"
            assert set(said) <= {"role", "content", "thinking", "tool_calls"}
        answer.text += said["content" if is_chat else "response"]
        answer.thoughts += said.get("thinking", "")
        for call in said.get("tool_calls", []):
            assert set(call) == {"function"}
            assert set(call["function"]) == {"name", "arguments"}
            assert isinstance(call["function"]["arguments"], dict)
            answer.calls.append(["", call["function"]["name"], call["function"]["arguments"]])
            assert call["function"]["name"]
    assert last["done_reason"] in {"stop", "length"}
    assert all(_count(last[name]) >= 0 for name in _ENDED)
    assert set(last) & _COUNTED in (_COUNTED, set())
    answer.finish = last["done_reason"]
    counted = (_count(last["prompt_eval_count"]), _count(last["eval_count"])) if "eval_count" in last else None
    return Whole(answers=[answer], counted=counted)


def vectors_of(content: bytes, *, path: str, is_base64: bool = False) -> Whole:
    """Read vectors."""
    told = json.loads(content)
    if path == "/api/embeddings":
        assert set(told) == {"embedding"}
        rows, counted = [told["embedding"]], None
    elif path == "/api/embed":
        assert set(told) == {"model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"}
        rows, counted = told["embeddings"], (_count(told["prompt_eval_count"]),)
    else:
        assert set(told) == {"object", "data", "model", "usage"}
        assert [one["index"] for one in told["data"]] == list(range(len(told["data"])))
        assert all(set(one) == {"object", "index", "embedding"} for one in told["data"])
        assert set(told["usage"]) == {"prompt_tokens", "total_tokens"}
        assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"]
        rows, counted = [one["embedding"] for one in told["data"]], (_count(told["usage"]["prompt_tokens"]),)
    if is_base64:
        raws = [base64.b64decode(one, validate=True) for one in rows]
        rows = [struct.unpack(f"<{len(raw) // 4}f", raw) for raw in raws]
    vectors = [tuple(one) for one in rows]
    assert all(isinstance(value, float) and math.isfinite(value) for one in vectors for value in one)
    return Whole(vectors=vectors, counted=counted)
