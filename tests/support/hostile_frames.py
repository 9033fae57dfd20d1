"""Answers of an engine that was taken over: frames by hypothesis for every route of the gateway, whole and streamed.

`OBJECTS` and `STREAMS` are hostile from end to end, and nearly all are refused. `spoiled` is what a good engine says
(`tests.support.good_frames`) with a member or two spoiled: much of it is answered, so that what is behind the first
check is reached, too.
"""

import base64
import copy
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
"""Any JSON, small."""
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "[SSN_1]", "[DONE]", "data: x\n\n", "\x00", "x" * 5000, "length", "NaN", "🙂", "\ud83d"])
)
_ANY = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_FUNCTION = st.fixed_dictionaries({}, optional={"name": _ANY, "arguments": _ANY})
_CALL = st.fixed_dictionaries({}, optional={"index": _ANY, "id": _ANY, "type": _ANY, "function": _FUNCTION | _ANY})
_SAID = st.fixed_dictionaries(
    {}, optional={"role": _ANY, "content": _ANY, "tool_calls": st.lists(_CALL, max_size=2) | _ANY, "refusal": _ANY}
)
_CHOICE = st.fixed_dictionaries(
    {},
    optional={
        "index": st.just(0) | _ANY,
        "delta": _SAID | _ANY,
        "message": _SAID | _ANY,
        "text": _ANY,
        "finish_reason": st.sampled_from(["stop", "length", "abort", "error", "", None]) | _ANY,
        "logprobs": _ANY,
    },
)
_USAGE = st.fixed_dictionaries({}, optional={"prompt_tokens": _ANY, "completion_tokens": _ANY, "total_tokens": _ANY})
_ROW = st.fixed_dictionaries(
    {},
    optional={
        "index": st.just(0) | _ANY,
        "embedding": _ANY
        | st.lists(_SCALARS, max_size=9)
        | st.binary(max_size=40).map(lambda raw: base64.b64encode(raw).decode()),
        "tokens": _ANY,
    },
)
OBJECTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "id": _ANY,
        "choices": st.lists(_CHOICE, max_size=3) | _ANY,
        "data": st.lists(_ROW, max_size=3) | _ANY,
        "usage": _USAGE | _ANY,
        "error": _ANY,
    },
)
"""What an engine answers whole, or as one event."""

_RAW = st.sampled_from(
    [
        b"data: {\n\n",
        b"data: [1]\n\n",
        b"data: null\n\n",
        b'data: "x"\n\n',
        b"data: " + b"[" * 3000 + b"\n\n",
        b"data:{}\n",
        b": comment\n\n",
        b"event: error\ndata: {}\n\n",
        b"\xff\xfe\n\n",
        b"data: [DONE]\n\n",
        b"data: [DONE]\n\ndata: {}\n\n",
        b"data: " + b"9" * 5000 + b"\n\n",
        b"\r\n\r\n",
    ]
)
STREAMS: st.SearchStrategy[tuple[Any, ...]] = st.lists(OBJECTS | _RAW, max_size=5).map(tuple)
"""The events of a stream: objects, and bytes that are sent as they are."""

Draw = Callable[[st.SearchStrategy[Any]], Any]
"""Hypothesis's, of a strategy or of a test's own data."""
_OPERATIONS = ("drop", "double", "other", "near", "near", "beside", "beside", "renamed")
_CALLED = {"index": 0, "id": "made-0", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
_BESIDE: tuple[tuple[str, Any], ...] = (
    ("content", "[SSN_1]"),
    ("text", "[SSN_1]"),
    ("reasoning_content", "[SSN_1]"),
    ("tool_calls", [_CALLED]),
    ("tool_calls", [_CALLED, {**_CALLED, "index": 1}]),
    ("delta", {"tool_calls": [_CALLED], "content": "[SSN_1]"}),
    ("message", {"tool_calls": [_CALLED], "content": "[SSN_1]"}),
    ("delta", {"reasoning_content": "[SSN_1]"}),
    ("message", {"reasoning_content": "[SSN_1]"}),
    ("logprobs", {"content": [{"token": "[SSN_1]", "logprob": -1, "bytes": None, "top_logprobs": []}]}),
    ("logprobs", {"tokens": ["[SSN_1]"], "token_logprobs": [-1], "top_logprobs": None}),
    ("finish_reason", "tool_calls"),
    ("usage", {"prompt_tokens": 1, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 9}}),
    ("error", {"message": "[SSN_1]"}),
    ("index", 1),
)
"""Members that are right elsewhere, with values that they have there."""


def _near(value: Any) -> st.SearchStrategy[Any]:
    """Return values of the same type, and some that a hurried reader takes for one."""
    if isinstance(value, bool):
        return st.just(not value) | st.just(int(value))
    if isinstance(value, int):
        return st.sampled_from([value + 1, -1, 0, 2**31, 2**63, 10**400, 0.5, bool(value), str(value)])
    if isinstance(value, float):
        return st.sampled_from([0.0, -0.0, 1e-45, 1e39, float("nan"), float("inf"), 10**400, True, str(value)])
    if isinstance(value, str):
        return st.sampled_from(["", value + "[SSN_1", "]" + value, value * 2, "[ssn 1]", "\ud83d", "stop", "abort"])
    if isinstance(value, list):
        return st.just([]) | st.just([value]) | st.just(value[::-1])
    return st.just({}) | st.just([value]) | st.just(None)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each member, however deep, with what holds it."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def spoil(draw: Draw, said: Any) -> None:
    """Drop, double, rename or change one member of an answer or a list of events, or put another beside it."""
    places = list(_places(said))
    if not places:
        return
    holder, key = draw(st.sampled_from(places))
    match draw(st.sampled_from(_OPERATIONS)):
        case "drop":
            del holder[key]
        case "double" if isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        case "double":
            holder[key] = [holder[key], copy.deepcopy(holder[key])]
        case "beside" | "renamed" as how if isinstance(holder, dict):
            name, value = draw(st.sampled_from(_BESIDE))
            holder[name] = copy.deepcopy(value) if how == "beside" else holder.pop(key)
        case "other":
            holder[key] = draw(_ANY)
        case _:
            holder[key] = draw(_near(holder[key]))


def spoiled(draw: Draw, good: Any, *, is_stream: bool) -> Any:
    """Return what a good engine says with up to two members spoiled, and among events bytes that are sent as they are.

    Args:
        draw: Hypothesis's.
        good: A whole answer, or the list of a stream's events; it is left as it is.
        is_stream: Which of both.
    """
    said = copy.deepcopy(good)
    for _ in range(draw(st.sampled_from([1, 0, 2, 1]))):
        if is_stream and draw(st.integers(0, 5)) == 5:
            said.insert(draw(st.integers(0, len(said))), draw(_RAW))
        else:
            spoil(draw, said)
    return said
