"""A call to an engine: kept connections, stale ones, cancelling from another thread, engines that break off."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from appliance.boundedsocket import BoundedSocket
from appliance.errors import EngineProtocolError, EngineRefusedError, EngineUnavailableError
from appliance.gateway.connections import EngineConnection
from appliance.gateway.upstream import Upstream
from appliance.gateway.wellness import says_it_is_well
from tests.support.engine import FakeEngine, Script, fake_engine
from tests.support.unix_http import listening

CHAT = {"messages": [{"role": "user", "content": "hello there"}]}
ROUTE = "/v1/chat/completions"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    with fake_engine(tmp_path / "engine.sock") as running:
        yield running


@pytest.fixture
def upstream(engine: FakeEngine) -> Iterator[Upstream]:
    found = Upstream(engine.path, read_seconds=5)
    yield found
    found.close()


@contextmanager
def _server(
    path: Path, *answers: bytes, lingers: threading.Event | None = None, more: bytes = b""
) -> Iterator[list[int]]:
    """Answer each connection with the next bytes, then close it, a minute later where it lingers; count them.

    While it lingers it says `more` again and again.
    """
    accepted: list[int] = []

    def run(listener: socket.socket) -> None:
        for answer in answers:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            accepted.append(1)
            with connection:
                _read_request(connection)
                end = time.monotonic() + 60
                with suppress(OSError):
                    connection.sendall(answer)
                    while lingers is not None and not lingers.wait(0.05) and time.monotonic() < end:
                        connection.sendall(more)

    with listening(path, run):
        yield accepted


def _read_request(connection: socket.socket) -> None:
    read = b""
    while b"\r\n\r\n" not in read:
        if not (part := connection.recv(65536)):
            return  # its caller went without asking anything
        read += part
    head, _, body = read.partition(b"\r\n\r\n")
    (length,) = (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65536)


def _answer(body: bytes, *, keep: bool = True) -> bytes:
    connection = b"" if keep else b"Connection: close\r\n"
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (connection, len(body), body)


def test_a_connection_is_kept_and_used_again(upstream: Upstream, engine: FakeEngine) -> None:
    for stream in (False, True, False):
        call = upstream.start(ROUTE, {**CHAT, "stream": stream})
        if stream:
            assert list(call.events())
        else:
            assert call.answer()["choices"]
        call.close()

    assert len(upstream._connections._idle) == 1
    assert not engine.cancelled.is_set()


def test_a_request_leaves_in_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(BoundedSocket, "sendall", lambda _, data: sent.append(data))
    with _server(tmp_path / "s", b""):
        connection = EngineConnection(tmp_path / "s", connect_seconds=5, read_seconds=5)
        connection.ask("POST", ROUTE, headers={"content-type": "application/json"}, body=b"the body")
        connection.close()

    (whole,) = sent
    assert whole.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n")
    assert b"\r\nContent-Length: 8\r\n" in whole
    assert whole.endswith(b"\r\n\r\nthe body")


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_is_well_is_waited_for_however_long_it_says_nothing(engine: FakeEngine, *, stream: bool) -> None:
    held = threading.Event()
    engine.script = Script(hold=held)
    upstream = Upstream(engine.path, read_seconds=0.1)
    call = upstream.start(ROUTE, {**CHAT, "stream": stream})
    timer = threading.Timer(1, held.set)  # ten times the silence after which it is asked
    timer.start()

    assert list(call.events()) if stream else call.answer()["choices"]
    timer.join()
    upstream.close()


def test_an_engine_that_says_nothing_and_is_not_well_is_given_up(tmp_path: Path) -> None:
    with _server(tmp_path / "s", b"", lingers=threading.Event()):
        upstream = Upstream(tmp_path / "s", connect_seconds=0.2, read_seconds=0.1)
        call = upstream.start(ROUTE, CHAT)

        with pytest.raises(EngineUnavailableError):
            call.answer()
        call.close()
        upstream.close()


def test_a_caller_that_leaves_while_an_engine_is_asked_whether_it_is_well_waits_for_no_word(tmp_path: Path) -> None:
    with _server(tmp_path / "s", b"", lingers=threading.Event()):  # it says nothing, here and to the question
        upstream = Upstream(tmp_path / "s", connect_seconds=10, read_seconds=0.1)
        call = upstream.start(ROUTE, CHAT)
        timer = threading.Timer(0.5, call.cancel)
        timer.start()
        began = time.monotonic()
        with pytest.raises(EngineUnavailableError):
            call.answer()
        assert 0.4 < time.monotonic() - began < 1.5
        timer.join()
        call.close()
        upstream.close()


def test_a_caller_that_leaves_while_a_full_queue_is_waited_for_is_let_go(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as other:
        full.bind(str(tmp_path / "s"))
        full.listen(0)
        other.connect(str(tmp_path / "s"))
        began = time.monotonic()
        assert not says_it_is_well(tmp_path / "s", seconds=10, left=lambda: time.monotonic() > began + 0.3)
        assert 0.3 < time.monotonic() - began < 1.3


def test_a_kept_connection_that_the_engine_closed_is_not_used(tmp_path: Path) -> None:
    with _server(tmp_path / "s", _answer(b'{"a":1}'), _answer(b'{"a":2}')) as accepted:
        upstream = Upstream(tmp_path / "s")
        assert upstream.start(ROUTE, CHAT).answer() == {"a": 1}
        time.sleep(0.05)
        assert upstream.start(ROUTE, CHAT).answer() == {"a": 2}
        assert len(accepted) == 2
        upstream.close()


def test_a_kept_connection_that_closes_as_it_is_used_is_replaced_once(tmp_path: Path) -> None:
    with _server(tmp_path / "s", _answer(b'{"a":1}'), _answer(b'{"a":2}')):
        upstream = Upstream(tmp_path / "s")
        assert upstream.start(ROUTE, CHAT).answer() == {"a": 1}
        (kept,) = upstream._connections._idle
        kept.is_alive = lambda: True  # type: ignore[method-assign]

        assert upstream.start(ROUTE, CHAT).answer() == {"a": 2}
        upstream.close()


def test_what_an_engine_may_have_died_of_is_not_sent_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario: a request whose reading takes an engine more memory than it has, on a connection that was kept."""
    accepted: list[int] = []

    def run(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                accepted.append(1)
                with connection:
                    _read_request(connection)
                    connection.sendall(_answer(b'{"a":1}'))
                    _read_request(connection)

    for seconds, asked_of in ((1.0, 2), (0.0, 1)):
        monkeypatch.setattr("appliance.gateway.connections._CLOSED_SECONDS", seconds)
        accepted.clear()
        with listening(tmp_path / f"s{asked_of}", run):
            upstream = Upstream(tmp_path / f"s{asked_of}")
            assert upstream.start(ROUTE, CHAT).answer() == {"a": 1}
            call = upstream.start(ROUTE, CHAT)
            if asked_of == 2:  # it had closed what was idle, as far as can be told
                assert call.answer() == {"a": 1}
            else:
                with pytest.raises(EngineUnavailableError):
                    call.answer()
            call.close()
            upstream.close()
        assert len(accepted) == asked_of


def test_a_fresh_connection_that_closes_unanswered_is_an_engine_that_is_not_there(tmp_path: Path) -> None:
    with _server(tmp_path / "s", b""):
        call = Upstream(tmp_path / "s").start(ROUTE, CHAT)
        with pytest.raises(EngineUnavailableError):
            call.answer()
        call.close()


def test_nobody_listening_is_told_before_anything_is_recorded(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError):
        Upstream(tmp_path / "absent").start(ROUTE, CHAT)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"not http\r\n\r\n", EngineUnavailableError),
        (_answer(b"[1]"), EngineProtocolError),
        (_answer(b"{"), EngineProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", EngineProtocolError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", EngineProtocolError),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 8\r\n\r\nnot json", EngineRefusedError),
    ],
)
def test_an_engine_that_breaks_off_is_an_error_of_its_kind(
    tmp_path: Path, answer: bytes, error: type[Exception]
) -> None:
    with _server(tmp_path / "s", answer):
        upstream = Upstream(tmp_path / "s")
        call = upstream.start(ROUTE, CHAT)
        with pytest.raises(error):
            call.answer()
        call.close()
        upstream.close()


def test_an_answer_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.gateway.upstream.MAX_ANSWER_BYTES", 10)
    with _server(tmp_path / "s", _answer(b'{"a":"' + b"x" * 100 + b'"}')):
        call = Upstream(tmp_path / "s").start(ROUTE, CHAT)
        with pytest.raises(EngineProtocolError):
            call.answer()
        call.close()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error":{"code":"context_length_exceeded"}}', "context_length_exceeded"),
        (b'{"error":{"code":"the prompt was: secret"}}', ""),
        (b'{"error":{"code":7}}', ""),
        (b'{"error":"x"}', ""),
    ],
)
def test_of_an_engines_refusal_only_a_short_word_is_taken_over(tmp_path: Path, body: bytes, code: str) -> None:
    answer = b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with _server(tmp_path / "s", answer):
        upstream = Upstream(tmp_path / "s")
        call = upstream.start(ROUTE, CHAT)
        with pytest.raises(EngineRefusedError) as caught:
            call.opened()
        assert (caught.value.http_status, caught.value.engine_code) == (400, code)
        call.close()
        upstream.close()


@pytest.mark.parametrize("stream", ["whole", "streamed"])
def test_another_thread_can_cancel_a_read_that_waits(upstream: Upstream, engine: FakeEngine, stream: str) -> None:
    engine.script = Script(hold=threading.Event())
    call = upstream.start(ROUTE, {**CHAT, "stream": stream == "streamed"})
    threading.Timer(0.05, call.cancel).start()

    began = time.monotonic()
    with pytest.raises((EngineProtocolError, EngineUnavailableError)):
        list(call.events()) if stream == "streamed" else call.answer()

    assert time.monotonic() - began < 60, "the engine says nothing, and a read may wait for five minutes"
    assert call.is_cancelled
    assert engine.cancelled.wait(60)
    call.close()


def test_what_was_ended_before_it_was_connected_carries_no_request(tmp_path: Path) -> None:
    with _server(tmp_path / "s", b"") as accepted:
        connection = EngineConnection(tmp_path / "s", connect_seconds=5, read_seconds=5)
        connection.shut_down()
        with pytest.raises(OSError, match="Broken pipe"):
            connection.ask("POST", ROUTE, headers={}, body=b"the body")
        connection.close()

    assert len(accepted) <= 1


def test_a_request_of_a_caller_who_left_does_not_go_out_once_more(tmp_path: Path) -> None:
    enough = threading.Event()
    with _server(tmp_path / "s", b"", lingers=enough) as accepted:
        upstream = Upstream(tmp_path / "s")
        call = upstream.start(ROUTE, CHAT)
        assert call._connection is not None
        call._connection.kept = True
        call.cancel()

        began = time.monotonic()
        with pytest.raises(EngineUnavailableError):
            call.answer()
        assert time.monotonic() - began < 60, "a second request would wait for five minutes"
        call.close()
        enough.set()
        upstream.close()

    assert len(accepted) == 1


def test_a_late_cancel_does_not_reach_the_next_request(upstream: Upstream, engine: FakeEngine) -> None:
    first = upstream.start(ROUTE, CHAT)
    first.answer()
    engine.script = Script(hold=threading.Event())
    second = upstream.start(ROUTE, CHAT)

    first.cancel()
    first.close()
    assert engine.script.hold is not None
    engine.script.hold.set()

    assert second.answer()["choices"]


@pytest.mark.parametrize("more", [b"", b"1\r\n\n\r\n"])
def test_an_engine_that_lingers_after_done_costs_no_time(tmp_path: Path, more: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    enough = threading.Event()
    with _server(tmp_path / "s", head + b"e\r\ndata: [DONE]\n\n\r\n", lingers=enough, more=more):
        upstream = Upstream(tmp_path / "s")
        call = upstream.start(ROUTE, {**CHAT, "stream": True})
        began = time.monotonic()
        assert list(call.events()) == []
        assert time.monotonic() - began < 30
        call.close()
        enough.set()
        assert upstream._connections._idle == []


@pytest.mark.parametrize("keep", [True, False])
def test_a_call_given_up_in_the_middle_of_an_answer_leaves_no_connection_open(tmp_path: Path, *, keep: bool) -> None:
    begun = _answer(b'{"a":1}', keep=keep)[:-1]
    enough = threading.Event()
    with _server(tmp_path / "s", begun, lingers=enough):
        call = Upstream(tmp_path / "s").start(ROUTE, CHAT)
        assert call._connection is not None
        opened = call._connection._socket
        call.opened()
        assert opened is not None
        assert opened.fileno() >= 0
        call.close()

        assert opened.fileno() == -1, "it is closed at once, not when somebody collects what is left of the call"
        enough.set()


def test_a_connection_is_not_kept_for_an_engine_that_was_dropped_meanwhile(
    upstream: Upstream, engine: FakeEngine
) -> None:
    call = upstream.start(ROUTE, CHAT)
    assert call._connection is not None
    opened = call._connection._socket
    upstream.close()
    assert call.answer()["choices"], "what was begun is answered to its end"
    call.close()

    assert opened is not None
    assert opened.fileno() == -1
    assert upstream._connections._idle == []
