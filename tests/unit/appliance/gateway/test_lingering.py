"""A thread that answered serves the next request of its connection where that comes soon; others have their turn."""

import gc
import io
import socket
import time
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Request
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.errors import ParseException
from gunicorn.workers.gthread import TConn

from appliance.gateway.heads import HeadWorker
from appliance.gateway.lingering import LingeringWorker, let_go


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, callers = socket.socketpair()
    with ours, callers:
        yield ours, callers


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What gunicorn's own worker served: each byte is a request, an `x` the last one of its connection."""
    found: list[bytes] = []

    def handle(_worker: HeadWorker, conn: Any) -> bool:
        found.append(conn.sock.recv(1))
        return found[-1] not in (b"", b"x")

    monkeypatch.setattr(HeadWorker, "handle", handle)
    return found


class _Pool:
    """Takes what is handed to threads, and runs none of it."""

    def submit(self, *_: Any) -> Any:
        return SimpleNamespace(add_done_callback=lambda _: None)


def _serve(conn: Any, *, waiting: int = 0, alive: bool = True) -> object:
    """Serve a connection that was handed over, while others wait for a thread."""
    worker = LingeringWorker(1, 1, [], None, 30, Config(), None)
    worker.tpool, worker.alive = _Pool(), alive
    for one in (conn, *range(waiting)):
        worker.enqueue_req(one)
    try:
        return worker.handle(conn)
    finally:
        worker.tmp.close()


def _connection(sock: socket.socket, *, unread: bytes = b"", is_http2: bool = False) -> Any:
    parser = SimpleNamespace(unreader=SimpleNamespace(buf=io.BytesIO(unread)))
    return SimpleNamespace(sock=sock, parser=parser, is_http2=is_http2)


def test_requests_that_come_one_after_the_other_are_served_at_once(
    pair: tuple[socket.socket, socket.socket], served: list[bytes]
) -> None:
    ours, callers = pair
    callers.sendall(b"abc")

    assert _serve(_connection(ours)) is True

    assert served == [b"a", b"b", b"c"]


def test_a_silent_connection_is_given_back_soon(pair: tuple[socket.socket, socket.socket], served: list[bytes]) -> None:
    ours, callers = pair
    callers.sendall(b"a")

    began = time.monotonic()
    assert _serve(_connection(ours)) is True

    assert time.monotonic() - began < 5
    assert served == [b"a"]


def test_a_connection_that_never_pauses_lets_others_have_their_turn_where_somebody_waits_for_a_thread(
    pair: tuple[socket.socket, socket.socket], served: list[bytes]
) -> None:
    ours, callers = pair
    callers.sendall(b"a" * 100)

    assert _serve(_connection(ours), waiting=1) is True

    assert served == [b"a"]


def test_a_connection_that_ends_is_given_back_as_one_that_ended(
    pair: tuple[socket.socket, socket.socket], served: list[bytes]
) -> None:
    ours, callers = pair
    callers.sendall(b"axa")

    assert _serve(_connection(ours)) is False

    assert served == [b"a", b"x"]


@pytest.mark.parametrize("more", [{"unread": b"GET"}, {"is_http2": True}])
def test_what_only_gunicorn_may_go_on_with_is_left_to_it(
    pair: tuple[socket.socket, socket.socket], served: list[bytes], more: dict[str, Any]
) -> None:
    ours, callers = pair
    callers.sendall(b"aa")

    assert _serve(_connection(ours, **more)) is True

    assert served == [b"a"]


def test_a_worker_that_stops_waits_for_nothing(pair: tuple[socket.socket, socket.socket], served: list[bytes]) -> None:
    ours, callers = pair
    callers.sendall(b"aa")

    assert _serve(_connection(ours), alive=False) is True

    assert served == [b"a"]


@pytest.mark.parametrize("read", [4, 2, 0])
def test_what_an_answer_left_unread_of_a_body_is_no_request(
    pair: tuple[socket.socket, socket.socket], read: int
) -> None:
    ours, callers = pair
    callers.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbodyGET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    conn = TConn(Config(), ours, ("", 0), ("", 0))
    conn.init()
    first = next(conn.parser)
    assert first.body.read(read) == b"body"[:read]
    worker = LingeringWorker(1, 1, [], None, 30, Config(), None)
    try:
        assert worker._keepalive_after(conn, keepalive=True) is True
        assert worker._keepalive_after(conn, keepalive=False) is False
    finally:
        worker.tmp.close()

    assert next(conn.parser).path == "/next"


def test_where_a_body_broke_off_no_connection_is_kept(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, callers = pair
    callers.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    conn = TConn(Config(), ours, ("", 0), ("", 0))
    conn.init()
    with pytest.raises(ParseException):
        next(conn.parser).body.read()
    worker = LingeringWorker(1, 1, [], None, 30, Config(), None)
    try:
        assert worker._keepalive_after(conn, keepalive=True) is False
    finally:
        worker.tmp.close()


@pytest.mark.parametrize("lets_go", [True, False])
def test_nothing_of_a_request_stays_until_a_search_for_cycles(
    pair: tuple[socket.socket, socket.socket],
    lets_go: bool,  # noqa: FBT001 - parametrized
) -> None:
    ours, callers = pair
    callers.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
    conn = TConn(Config(), ours, ("", 0), ("", 0))
    conn.init()
    gc.disable()
    try:
        asked = next(conn.parser)
        response, environ = wsgi.create(asked, ours, ("", 0), ("", 0), Config())
        request = Request(environ)
        left = [weakref.ref(one) for one in (response, request)]
        if lets_go:
            let_go(None, asked, environ, response)
        del response, environ, request

        # Where this is not so without it, it can go: gunicorn and Flask refer to a request no more from its variables.
        assert [one() is None for one in left] == [lets_go, lets_go]
    finally:
        gc.enable()
        gc.collect()
