"""Answers of an engine that was taken over: frames by hypothesis for every route of the gateway, whole and streamed."""

import base64
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
    | st.sampled_from(["", "[SSN_1]", "[DONE]", "data: x\n\n", "\x00", "x" * 5000, "length", "NaN", "🙂"])
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
