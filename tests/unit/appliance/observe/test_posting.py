"""Nobody who posts holds a thread for long: not by bytes that never end, nor by one connection that stays open."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import TConn

from appliance.actions.alerts import Alert
from appliance.observe import posting
from appliance.observe.alerts import MAX_BODY_BYTES, create_alerts_app
from media.clock import SystemClock

_HEAD = b"POST /alerts HTTP/1.1\r\nHost: x\r\n"
_ONE = {"status": "firing", "labels": {"alertname": "DiskFilling"}, "annotations": {"summary": "80 %"}}
_MESSAGE = json.dumps({"version": "4", "alerts": [_ONE]}).encode()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection on loopback, as Alertmanager's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname(), timeout=20)
        ours, _ = listener.accept()
        with ours, theirs:
            yield ours, theirs


def served(folder: Path, ours: socket.socket, *, say: tuple[Callable[[Alert], None], ...] = ()) -> Any:
    """Serve one connection as a thread of the worker does; return whether it may be kept."""
    config = Config()
    worker = posting.PostingWorker(1, 1, [], None, 30, config, Logger(config))
    worker.wsgi = create_alerts_app(folder, say=say, clock=SystemClock())
    try:
        return worker.handle(TConn(config, ours, ("127.0.0.1", 1), ("127.0.0.1", 2)))
    finally:
        worker.tmp.close()


def test_a_post_over_tcp_is_taken_and_its_connection_kept(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    ours, theirs = pair
    heard: list[Alert] = []
    theirs.sendall(_HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(_MESSAGE), _MESSAGE))

    assert served(tmp_path, ours, say=(heard.append,)) is True

    assert theirs.recv(4096).startswith(b"HTTP/1.1 204 ")
    assert [one.name for one in heard] == ["DiskFilling"]
    assert posting._read_since == {}


@pytest.mark.parametrize(
    ("how", "status"),
    # Of pieces no more than the bound is read, which then is no message.
    [(b"Content-Length: %d\r\n\r\n", b"413"), (b"Transfer-Encoding: chunked\r\n\r\n%x\r\n", b"400")],
)
def test_a_post_that_is_too_large_is_refused(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path, how: bytes, status: bytes
) -> None:
    ours, theirs = pair
    size = MAX_BODY_BYTES + 1

    def post() -> None:
        theirs.sendall(_HEAD + how % size)
        theirs.sendall(b"x" * size + (b"\r\n0\r\n\r\n" if b"chunked" in how else b""))

    posts = threading.Thread(target=post)
    posts.start()
    served(tmp_path, ours)
    posts.join()

    assert theirs.recv(4096).startswith(b"HTTP/1.1 %s " % status)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "begins",
    [
        b"POST /al",
        _HEAD + b"X: ",
        _HEAD + b"Content-Length: 1000\r\n\r\n{",
        _HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["a line", "a header", "a body", "a body of pieces"],
)
def test_who_never_ends_is_broken_off_however_often_a_byte_comes(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path, begins: bytes
) -> None:
    ours, theirs = pair
    kept: list[Any] = []
    thread = threading.Thread(target=lambda: kept.append(served(tmp_path, ours)))
    theirs.sendall(begins)
    thread.start()
    deadline = time.monotonic() + 20
    while not posting._read_since:
        assert time.monotonic() < deadline
        time.sleep(0.001)

    posting.break_off(now=time.monotonic())
    theirs.sendall(b"1")
    assert thread.is_alive()
    posting.break_off(now=time.monotonic() + posting.SECONDS)
    thread.join(2)

    assert not thread.is_alive()
    assert kept == [False]
    assert posting._read_since == {}
    assert not list(tmp_path.iterdir())


def test_what_was_read_whole_is_answered_however_long_telling_takes(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    ours, theirs = pair
    theirs.sendall(_HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(_MESSAGE), _MESSAGE))

    def collector(_: Alert) -> None:
        posting.break_off(now=time.monotonic() + 10 * posting.SECONDS)

    assert served(tmp_path, ours, say=(collector,)) is True

    assert theirs.recv(4096).startswith(b"HTTP/1.1 204 ")


def test_whoever_stays_after_a_refusal_does_not_hold_the_main_thread_that_closes(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    ours, theirs = pair
    theirs.sendall(b"nonsense\r\n\r\n")
    config = Config()

    assert served(tmp_path, ours) is False

    began = time.monotonic()
    TConn(config, ours, ("127.0.0.1", 1), ("127.0.0.1", 2)).close(graceful=True)
    assert time.monotonic() - began < 1
    assert theirs.recv(4096).startswith(b"HTTP/1.1 400 ")
