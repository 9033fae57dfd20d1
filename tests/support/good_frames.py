"""What an engine that keeps its contract says to each of the gateway's requests, by hypothesis: whole and streamed.

Answers hold stand-ins of identifiers, cut anywhere in streams: those that the request had, and those that it had not.
"""

import base64
import itertools
import json
import struct
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st

from tests.support.engine import DIMENSIONS

IDENTIFIER: Final = "123-45-6789"
STAND_IN: Final = "[SSN_1]"
MOST_TOKENS: Final = 64
CALLED: Final = "look_up"
_TOOLS: Final = [{"type": "function", "function": {"name": CALLED, "parameters": {"type": "object"}}}]
_TEXTS = st.lists(
    st.sampled_from(
        [STAND_IN, "So ", STAND_IN, "[ssn 1]", "[SSN_2]", "[NAME_1]", "[", "]", "ö🙂 ", "[SSN_", '"', "\n", "1"]
    ),
    min_size=1,
    max_size=5,
).map("".join)
_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One that nobody asked before.

    Attributes:
        body: What the caller sends, without the model.
        has_identifier: Which of its prompts hold one.
        answers: How many answers it wants to each prompt.
        has_tools: Whether functions may be called.
        dimensions: How many numbers each vector shall have.
    """

    body: dict[str, Any]
    has_identifier: tuple[bool, ...]
    answers: int = 1
    has_tools: bool = False
    dimensions: int = DIMENSIONS


def _words() -> str:
    """Return words that were in no request before, and that nothing finds an identifier in."""
    return "Again " + "".join("qwrtzpsdfg"[int(digit)] for digit in str(next(_NUMBERS))) + "."


def _question(draw: st.DrawFn) -> tuple[str, bool]:
    has_identifier = draw(st.sampled_from([True, True, False]))
    return _words() + (f" SSN {IDENTIFIER}" if has_identifier else ""), has_identifier


@st.composite
def requests(draw: st.DrawFn, path: str, *, is_stream: bool) -> Request:
    """Draw a request of a route, at temperature 0, so that its answer may be kept."""
    text, has = _question(draw)
    body: dict[str, Any] = {}
    has_tools, answers = False, 1
    if path in {"/v1/embeddings", "/api/embed", "/api/embeddings"}:
        return _vectors_wanted(draw, path)
    if path.startswith("/v1"):
        body = {"temperature": 0, "max_tokens": MOST_TOKENS, "stream": is_stream, "n": draw(st.sampled_from([1, 1, 2]))}
        answers = body["n"]
        if is_stream and draw(st.booleans()):
            body["stream_options"] = {"include_usage": True}
    else:
        body = {"options": {"temperature": 0, "num_predict": MOST_TOKENS}, "stream": is_stream}
    if path.endswith(("chat/completions", "api/chat")):
        body["messages"] = [{"role": "user", "content": text}]
        has_tools = draw(st.booleans())
        if has_tools:
            body["tools"] = _TOOLS
        if path.startswith("/v1") and draw(st.booleans()):
            body |= {"logprobs": True, "top_logprobs": 1}
    elif path == "/v1/completions":
        more, other = _question(draw)
        several = draw(st.sampled_from([False, False, True]))
        body |= {"prompt": [text, more] if several else text, "logprobs": draw(st.sampled_from([None, 1]))}
        if several:
            return Request(body=body, has_identifier=(has, other), answers=answers)
    else:
        body |= {"prompt": text, "raw": draw(st.booleans())}
    return Request(body=body, has_identifier=(has,), answers=answers, has_tools=has_tools)


def _vectors_wanted(draw: st.DrawFn, path: str) -> Request:
    if path == "/api/embeddings":
        return Request(body={"prompt": _words()}, has_identifier=(False,))
    inputs = [_words() for _ in range(draw(st.integers(1, 3)))]
    dimensions = draw(st.sampled_from([DIMENSIONS, DIMENSIONS, 3]))
    body: dict[str, Any] = {"input": inputs, **({"dimensions": dimensions} if dimensions < DIMENSIONS else {})}
    if path == "/v1/embeddings":
        body["encoding_format"] = draw(st.sampled_from(["float", "base64"]))
    return Request(body=body, has_identifier=(False,), dimensions=dimensions)


def _is_chat(body: dict[str, Any]) -> bool:
    return "messages" in body or body.get("raw") is False


def _usage(draw: st.DrawFn, answers: int) -> dict[str, int]:
    prompt, made = draw(st.integers(0, 40)), draw(st.integers(0, MOST_TOKENS * answers))
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def _logprobs(text: str, *, is_chat: bool) -> dict[str, Any]:
    if not is_chat:
        return {
            "tokens": [text],
            "token_logprobs": [-0.5],
            "top_logprobs": [{text: -0.5}],
            "bytes": [[*text.encode()]],
        }
    one = {"token": text, "logprob": -0.5, "bytes": [*text.encode()]}
    return {"content": [{**one, "top_logprobs": [one]}]}


@st.composite
def answers(draw: st.DrawFn, request: Request) -> dict[str, Any]:
    """Draw the whole answer to a request."""
    body = request.body
    if "input" in body or set(body) == {"prompt"}:
        return _vectors(draw, len(body.get("input", [0])))
    is_chat = _is_chat(body)
    choices = []
    for index in range(request.answers):
        text = draw(_TEXTS)
        choice: dict[str, Any] = {"index": index, "finish_reason": draw(st.sampled_from(["stop", "length"]))}
        if is_chat:
            message = choice["message"] = {"role": "assistant", "content": text}
            if draw(st.booleans()):
                message["reasoning_content"] = draw(_TEXTS)
            if request.has_tools and draw(st.booleans()):
                message["tool_calls"] = [_call(draw, at) for at in range(draw(st.integers(1, 2)))]
                message["content"] = draw(st.sampled_from([None, text]))
                choice["finish_reason"] = "tool_calls"
        else:
            choice["text"] = text
        if body.get("logprobs"):
            choice["logprobs"] = _logprobs(text, is_chat=is_chat)
        choices.append(choice)
    return {"id": "x", "choices": choices, "usage": _usage(draw, request.answers)}


def _call(draw: st.DrawFn, at: int) -> dict[str, Any]:
    arguments = json.dumps({"of": draw(_TEXTS)})
    return {"id": f"made-{at}", "type": "function", "function": {"name": CALLED, "arguments": arguments}}


def _vectors(draw: st.DrawFn, count: int) -> dict[str, Any]:
    numbers = st.lists(st.floats(-1, 1, width=32), min_size=DIMENSIONS, max_size=DIMENSIONS)
    is_text = draw(st.booleans())
    rows = []
    for at in range(count):
        vector: Any = draw(numbers)
        if is_text:
            vector = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *vector)).decode()
        rows.append({"index": at, "embedding": vector, "tokens": draw(st.integers(1, 9))})
    return {"object": "list", "data": rows, "usage": {"prompt_tokens": sum(one["tokens"] for one in rows)}}


@st.composite
def streams(draw: st.DrawFn, request: Request) -> list[dict[str, Any]]:
    """Draw the events of the answer to a request."""
    whole = draw(answers(request))
    events: list[dict[str, Any]] = []
    for choice in whole["choices"]:
        index = choice["index"]
        of_event: list[dict[str, Any]] = []
        if "text" in choice:
            of_event += [{"text": piece} for piece in _cut(draw, choice["text"])]
        else:
            of_event += [{"delta": one} for one in _deltas(draw, choice["message"])]
        if "logprobs" in choice:
            of_event[-1]["logprobs"] = choice["logprobs"]
        last: dict[str, Any] = {"text": ""} if "text" in choice else {"delta": {}}
        of_event.append({**last, "finish_reason": choice["finish_reason"]})
        events += [{"choices": [{"index": index, "finish_reason": None, **one}], "usage": None} for one in of_event]
    return [*events, {"choices": [], "usage": whole["usage"]}]


def _cut(draw: st.DrawFn, text: str) -> list[str]:
    places = sorted({0, *draw(st.lists(st.integers(0, len(text)), max_size=3))})
    return [text[start:end] for start, end in itertools.pairwise([*places, len(text)])]


def _deltas(draw: st.DrawFn, message: dict[str, Any]) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece} for piece in _cut(draw, message.get("reasoning_content") or "")]
    deltas += [{"content": piece} for piece in _cut(draw, message["content"] or "")]
    for at, call in enumerate(message.get("tool_calls", [])):
        named = {"index": at, "id": call["id"], "type": "function", "function": {"name": CALLED, "arguments": ""}}
        pieces = _cut(draw, call["function"]["arguments"])
        deltas += [{"tool_calls": [named]}]
        deltas += [{"tool_calls": [{"index": at, "function": {"arguments": piece}}]} for piece in pieces]
    return deltas
