"""An engine's response: where it ends, whether its connection may go on, and how much of a head is read."""

import gc
import weakref
from typing import Any

import pytest
from httptools import HttpParserError

from appliance.gateway.response import EngineResponse
from tests.support.engine_bytes import Engine

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
OTHER = b"HTTP/1.1 101 Switching\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\nother"


def _response(*pieces: bytes) -> EngineResponse:
    engine: Any = Engine(pieces)
    return EngineResponse(engine)


def test_no_more_is_read_than_what_belongs_to_it() -> None:
    engine: Any = Engine([HEAD + b"\r\n{", b"}", b"of the next one"])
    response = EngineResponse(engine)

    assert [response.read(), response.read(), response.read()] == [b"{", b"}", b""]
    assert engine.left == [b"of the next one"]
    assert response.goes_on


@pytest.mark.parametrize("more", [b"HTTP/1.1 200 OK\r\n", b"\0", b"x", OTHER])
def test_a_connection_with_words_that_nobody_asked_for_is_not_used_again(more: bytes) -> None:
    response = _response(HEAD + b"\r\n{}" + more)

    assert response.read() == b"{}"
    assert response.is_whole
    assert not response.goes_on


def test_what_follows_an_engine_that_will_close_does_not_spoil_its_answer() -> None:
    response = _response(HEAD + b"Connection: close\r\n\r\n{}and more")

    assert (response.read(), response.read()) == (b"{}", b"")
    assert not response.goes_on


def test_what_was_said_before_a_fault_is_heard_and_then_the_fault() -> None:
    response = _response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nzz")

    assert response.read() == b"a"
    with pytest.raises(HttpParserError):
        response.read()
    with pytest.raises(HttpParserError):
        response.read()


def test_another_protocol_is_no_answer() -> None:
    with pytest.raises(HttpParserError):
        _response(OTHER).read()


def test_a_head_without_end_is_given_up() -> None:
    engine: Any = Engine([HEAD, *[b"X-More: " + b"x" * 1000 + b"\r\n"] * 1000])

    with pytest.raises(HttpParserError, match="too long"):
        EngineResponse(engine)

    assert len(engine.left) > 900


@pytest.mark.parametrize("endless", [b"1;" + b"x" * 1000, b"1\r\na\r\n0\r\nX-More: " + b"x" * 1000])
def test_a_body_of_which_nothing_comes_any_more_is_given_up(endless: bytes) -> None:
    engine: Any = Engine([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + endless, *[b"x" * 1000] * 1000])
    response = EngineResponse(engine)

    with pytest.raises(HttpParserError, match="too long"):
        list(iter(response.read, b""))

    assert len(engine.left) > 800


def test_nothing_of_it_waits_for_the_collector_once_it_was_read() -> None:
    # Cycles are searched for seldom here, and each would hold an answer until then.
    gc.disable()
    try:
        response = _response(HEAD + b"\r\n{}")
        response.read()
        left = weakref.ref(response)
        del response
        assert left() is None
    finally:
        gc.enable()
