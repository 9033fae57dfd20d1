"""Laws of the gateway's reading and writing, for any input."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.config import LimitsSection
from appliance.errors import EngineProtocolError
from appliance.gateway import sse
from appliance.gateway.assembly import Assembly
from appliance.gateway.body import read_object
from appliance.gateway.parameters import Asked, Endpoint, read
from appliance.gateway.problems import Problem
from appliance.gateway.protection import protected, texts_of
from appliance.gateway.reading import Finish, parts_of
from appliance.gateway.shapes import Shape
from appliance.phi.detect import PatternDetector
from appliance.phi.policy import PhiMode, protect
from appliance.phi.tokens import TokenMap
from appliance.serve.events import DONE, EventReader

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
_role = st.sampled_from(["system", "user", "assistant", "tool", "developer"])
_messages = st.lists(
    st.fixed_dictionaries(
        {"role": _role, "content": st.text(max_size=20)}, optional={"name": _json, "tool_calls": _json}
    ),
    max_size=3,
)
_names = st.sampled_from(
    [
        *("model", "messages", "prompt", "temperature", "top_p", "max_tokens", "n", "stream", "stream_options", "stop"),
        *("seed", "tools", "tool_choice", "user", "store", "logprobs", "response_format", "metadata", "surprise"),
    ]
)
_requests = st.dictionaries(_names, _json, max_size=6).flatmap(
    lambda base: st.fixed_dictionaries({"model": st.just("m")}, optional={"messages": _messages}).map(base.__or__)
)


def _require_refusal(problem: Problem) -> None:
    assert problem.status == 400
    assert problem.code


@given(_requests, st.sampled_from(list(Endpoint)))
def test_any_request_is_read_or_refused_and_nothing_else(request: dict[str, Any], endpoint: Endpoint) -> None:
    try:
        asked = read(request, endpoint=endpoint, limits=LimitsSection())
    except Problem as problem:
        _require_refusal(problem)
        return
    assert isinstance(asked, Asked)
    found = protect(texts_of(asked), mode=PhiMode.TOKENISE, detector=PatternDetector())
    masked = protected(asked, found, mode=PhiMode.TOKENISE)
    assert [one.role for one in masked.messages] == [one.role for one in asked.messages]


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_refused(untrusted: bytes) -> None:
    try:
        assert isinstance(read_object(untrusted), dict)
    except Problem as problem:
        _require_refusal(problem)


@given(_requests)
def test_an_object_is_read_as_it_was_written(request: dict[str, Any]) -> None:
    assert read_object(json.dumps(request).encode()) == request


@given(_json)
def test_anything_an_engine_says_is_parts_or_its_error(said: Any) -> None:
    try:
        list(parts_of(said if isinstance(said, dict) else {"choices": said}))
    except EngineProtocolError:
        return


@given(st.lists(st.text(max_size=12), max_size=8), st.data())
def test_any_text_is_read_from_a_stream_as_it_was_said(pieces: list[str], data: st.DataObject) -> None:
    shape = Shape(endpoint=Endpoint.CHAT, request_id="req_a", created=1, model="m")
    assembly = Assembly(TokenMap())
    written = b""
    for piece in pieces:
        for event in ({"choices": [{"index": 0, "delta": {"content": piece}}]},):
            for part in parts_of(event):
                written += b"".join(sse.event(shape.piece(one)) for one in assembly.take(part))
    assert not list(assembly.take(Finish(reason="stop")))
    written += b"".join(sse.event(shape.piece(one)) for one in assembly.close()) + sse.DONE

    cuts = sorted(data.draw(st.sets(st.integers(0, len(written)), max_size=6)) | {0, len(written)})
    reader = EventReader(name="test")
    seen = [event for start, end in pairwise(cuts) for event in reader.feed(written[start:end])]

    assert seen[-1] is DONE
    assert "".join(one["choices"][0]["delta"]["content"] for one in seen[:-1]) == "".join(pieces)
    assert written.isascii()
