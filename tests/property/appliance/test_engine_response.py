"""An engine's response, cut anywhere, is what `http.client` reads of it; bytes that are no HTTP are an error."""

import http.client
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway.response import BROKEN, EngineResponse
from tests.support.engine_bytes import Engine

_STATUSES = st.sampled_from([200, 400, 429, 500, 503])
_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """A whole response whose body is as long as its head says, is chunked, or lasts until the connection ends."""
    parts = draw(st.lists(st.binary(max_size=40), max_size=4))
    how = draw(st.sampled_from(["length", "chunked", "close"]))
    lines = [f"HTTP/1.1 {draw(_STATUSES)} Said so".encode(), b"Server: one", b"Content-Type: application/json"]
    body = b"".join(parts)
    if how == "length":
        lines.append(b"content-length: %d" % len(body))
    elif how == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
    else:
        lines.append(b"Connection: close")
    return draw(st.sampled_from([b"", _INTERIM])) + b"\r\n".join([*lines, b"", body])


@st.composite
def cut(draw: st.DrawFn, texts: st.SearchStrategy[bytes]) -> list[bytes]:
    """A text in pieces."""
    whole = draw(texts)
    places = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    return [whole[begin:end] for begin, end in zip([0, *places], [*places, len(whole)], strict=True)]


def _said(pieces: Sequence[bytes]) -> tuple[int, bytes, EngineResponse]:
    engine: Any = Engine(pieces)
    response = EngineResponse(engine)
    body = b""
    while untrusted := response.read():
        body += untrusted
    return response.status, body, response


@given(cut(responses()))
def test_it_is_what_http_client_reads(pieces: list[bytes]) -> None:
    oracle: Any = http.client.HTTPResponse(Engine(pieces))  # type: ignore[arg-type] # it makes a file of it alone
    oracle.begin()

    status, body, response = _said(pieces)

    assert (status, body) == (oracle.status, oracle.read())
    assert response.is_whole
    assert response.goes_on is not oracle.will_close


@given(cut(responses()), st.data())
def test_one_that_is_cut_short_is_never_taken_for_a_whole_one(pieces: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pieces)
    status, body, _ = _said([whole])
    shorter = whole[: data.draw(st.integers(0, len(whole) - 1))]

    try:
        found, less, response = _said([shorter])
    except BROKEN:
        return

    # All that can be known of a body without a length is that the connection ended.
    assert (found, response.goes_on) == (status, False)
    assert body.startswith(less)
    assert b"connection: close" in shorter.lower()


@given(cut(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(b"HTTP/1.1 200 OK\r\n".__add__))))
def test_whatever_an_engine_says_is_a_response_or_one_of_these_errors(pieces: list[bytes]) -> None:
    try:
        _, _, response = _said(pieces)
    except BROKEN:
        return
    assert response.is_whole
