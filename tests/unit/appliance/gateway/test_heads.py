"""Callers who send a request slowly, or do not hang up, hold nobody up: gunicorn's real loop, over loopback."""

import os
import resource
import select
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers import gthread
from gunicorn.workers.gthread import TConn

from appliance.gateway import bodywaits, heads
from appliance.gateway.bodywaits import BodyWaits, BoundedUnreader
from appliance.gateway.lingering import LingeringWorker
from tests.support.chart import tls_secret

THREADS = 4
PATIENCE_SECONDS = 30
GOOD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"


def _application(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
    """Read a body where it is asked to, as routes do once a key was found to be right."""
    status, said = "200 OK", b"fine"
    try:
        if environ["PATH_INFO"] == "/read":
            said = environ["wsgi.input"].read()
    except OSError:
        status, said = "408 Request Timeout", b"late"
    start(status, [("Content-Length", str(len(said)))])
    return [said]


class _Served:
    """A worker's loop in a thread, and those who call it."""

    def __init__(
        self, worker: LingeringWorker, address: tuple[str, int], stack: ExitStack, trust: ssl.SSLContext | None
    ) -> None:
        self.worker = worker
        self._address = address
        self._stack = stack
        self._trust = trust

    def call(self, begin: bytes = b"") -> socket.socket:
        caller = self.secured(self.call_plainly())
        caller.sendall(begin)
        return caller

    def secured(self, caller: socket.socket) -> socket.socket:
        return caller if self._trust is None else self._stack.enter_context(self._trust.wrap_socket(caller))

    def call_plainly(self, begin: bytes = b"") -> socket.socket:
        caller = self._stack.enter_context(socket.create_connection(self._address, timeout=PATIENCE_SECONDS))
        caller.sendall(begin)
        return caller

    def is_answered(self) -> bool:
        return _answer(self.call(GOOD)).startswith(b"HTTP/1.1 200")


@contextmanager
def _running(connections: int = 1000, tls: Path | None = None) -> Iterator[_Served]:
    settings = Config()
    values: dict[str, Any] = {"threads": THREADS, "worker_connections": connections, "keepalive": 60}
    trust = None
    if tls is not None:
        values |= {"certfile": str(tls / "tls.crt"), "keyfile": str(tls / "tls.key")}
        trust = ssl.create_default_context(cafile=str(tls / "ca.crt"))
        trust.check_hostname = False
    for name, value in values.items():
        settings.set(name, value)
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        worker = LingeringWorker(1, os.getppid(), [listener], None, 30, settings, Logger(settings))
        worker.tpool, worker.poller, worker.wsgi = worker.get_thread_pool(), selectors.DefaultSelector(), _application
        worker.method_queue.init()
        loop = threading.Thread(target=worker.run, daemon=True)
        loop.start()
        try:
            yield _Served(worker, listener.getsockname(), stack, trust)
        finally:
            stack.close()
            worker.handle_exit(None, None)
            loop.join(PATIENCE_SECONDS)
            worker.tmp.close()
    assert not loop.is_alive(), "it stops once its callers are gone"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tls_secret(tmp_path_factory.mktemp("pod") / "tls")


@pytest.fixture(params=["plain", "tls"])
def served(request: pytest.FixtureRequest, tls: Path) -> Iterator[_Served]:
    with _running(tls=tls if request.param == "tls" else None) as running:
        yield running


def _answer(caller: socket.socket) -> bytes:
    """Return one answer, or what came before the end."""
    came = b""
    while not came.endswith((b"fine", b"late", b"123456789")) and (more := caller.recv(4096)):
        came += more
    return came


def _ends(caller: socket.socket) -> bool:
    try:
        return caller.recv(1) == b""
    except ConnectionResetError:
        return True


def _takes(caller: socket.socket, more: bytes) -> bool:
    try:
        caller.sendall(more)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("begin", [b"", b"GET / HT", GOOD[:-2]])
def test_heads_without_an_end_take_no_thread(served: _Served, begin: bytes) -> None:
    slow = [served.call(begin) for _ in range(3 * THREADS)]

    assert served.is_answered()
    for one in slow:  # a byte for each, which woke a thread of gunicorn's own for another wait
        one.sendall(GOOD[len(begin) : len(begin) + 1])
    assert served.is_answered()
    for one in slow:
        one.sendall(GOOD[len(begin) + 1 :])
    assert all(_answer(one).startswith(b"HTTP/1.1 200") for one in slow)


def test_a_head_has_its_time_in_all_however_its_bytes_come(served: _Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "HEAD_SECONDS", 0.5)
    kept = served.call(GOOD)
    _answer(kept)
    slow = [kept, served.call(), served.call()]

    is_open = [True, True]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(is_open):
        assert time.monotonic() < deadline
        is_open = [_takes(one, b"G") for one in slow[:2]]
        time.sleep(0.05)

    assert all(map(_ends, slow))
    assert served.is_answered()


def test_a_kept_connection_waits_for_its_next_head_for_longer(served: _Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "HEAD_SECONDS", 0.1)
    kept, silent = served.call(GOOD), served.call()
    _answer(kept)

    assert _ends(silent)
    kept.sendall(GOOD[:9])
    kept.sendall(GOOD[9:])
    assert _answer(kept).startswith(b"HTTP/1.1 200")


def test_two_requests_in_one_go_are_both_answered_also_where_the_second_comes_in_parts(served: _Served) -> None:
    caller = served.call(GOOD + POST[:20])
    assert _answer(caller).endswith(b"fine")

    caller.sendall(POST[20:] + b"1234")
    caller.sendall(b"56789")

    assert _answer(caller).endswith(b"123456789")


def test_two_requests_in_one_record_of_tls_are_both_answered(served: _Served) -> None:
    head = GOOD[:-2] + b"X: "
    head += b"a" * (SocketUnreader(None).mxchunk - len(head) - 4) + b"\r\n\r\n"  # so that a read ends with it

    caller = served.call(head + GOOD)

    came = b""
    while came.count(b"fine") < 2 and (more := caller.recv(4096)):
        came += more
    assert came.count(b"HTTP/1.1 200") == 2


def test_a_head_that_never_ends_is_refused_by_its_size(served: _Served) -> None:
    caller = served.call(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000)

    assert caller.recv(4096).startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize(
    "head", [GOOD.replace(b"\r", b""), GOOD[:-2] + b"\n", GOOD[:-4] + b"\n\r\n", b"GET / HTTP/1.1\nHost: a\r\n\n"]
)
def test_a_head_whose_lines_end_without_a_carriage_return_is_refused_at_once(served: _Served, head: bytes) -> None:
    assert served.call(head).recv(4096).startswith(b"HTTP/1.1 400")

    in_parts = served.call(head[:-1])
    _until(partial(_has, served.worker._unfinished, 1))
    in_parts.sendall(head[-1:])
    assert in_parts.recv(4096).startswith(b"HTTP/1.1 400")


def test_who_does_not_hang_up_after_an_answer_holds_nobody_up(served: _Served) -> None:
    stays = [served.call(GOOD.replace(b"a\r\n", b"a\r\nConnection: close\r\n")) for _ in range(PATIENCE_SECONDS)]

    assert served.is_answered(), "gunicorn's own waits for each of them, two seconds, before it goes on"
    assert all(_answer(one).endswith(b"fine") for one in stays)
    assert all(map(_ends, stays))


def test_who_leaves_in_the_middle_of_a_head_is_forgotten(served: _Served) -> None:
    for _ in range(3):
        served.call(b"GET").close()

    assert served.is_answered()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while served.worker.nr_conns > 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_body_that_nobody_reads_is_not_waited_for(served: _Served) -> None:
    unread = POST.replace(b"/read", b"/")
    slow = [served.call(unread) for _ in range(3 * THREADS)]

    assert served.is_answered()
    assert all(_answer(one).endswith(b"fine") for one in slow)
    assert all(map(_ends, slow))


def test_bodies_hold_half_of_the_threads_and_the_first_of_them_makes_room(served: _Served) -> None:
    slow = []
    for number in range(THREADS // 2):
        slow.append(served.call(POST + b"1234"))
        _until(partial(_wait, served.worker, number + 1))
    slow.append(served.call(POST + b"1234"))

    assert _answer(slow[0]).endswith(b"late")
    assert served.is_answered()
    for one in slow[1:]:
        one.sendall(b"56789")
        assert _answer(one).endswith(b"123456789")


def test_all_threads_held_by_bodies_at_once_are_free_again_for_others(served: _Served) -> None:
    for _ in range(THREADS):
        served.call(POST + b"1234")

    assert served.is_answered()
    _until(partial(_wait, served.worker, THREADS // 2))


def test_bodies_that_come_at_an_ordinary_pace_are_waited_for_by_all_threads(
    served: _Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedUnreader, "is_slow", lambda _: False)
    callers = [served.call(POST + b"1234") for _ in range(THREADS)]
    _until(partial(_wait, served.worker, THREADS))

    for one in callers:
        one.sendall(b"56789")
        assert _answer(one).endswith(b"123456789")


def test_who_has_sent_much_in_little_time_is_not_slow() -> None:
    ours, callers = socket.socketpair()
    with ours, callers:
        unreader = BoundedUnreader(ours, BodyWaits(1))
        callers.sendall(GOOD + bytes(100_000))
        assert unreader.has_head()
        assert not unreader.is_slow(), "it has only begun"
        unreader.read(len(GOOD) + 100_000)

        unreader.began -= 0.6
        assert not unreader.is_slow()
        unreader.began -= 0.4
        assert unreader.is_slow(), "less than a megabit in a second"


def test_where_connections_are_all_taken_the_oldest_unfinished_head_makes_room() -> None:
    with _running(connections=THREADS + 6) as served:
        slow = []
        for number in range(THREADS + 5):
            slow.append(served.call(b"GET"))
            _until(partial(_are_unfinished, served.worker, number + 1))

        assert served.is_answered()
        assert _ends(slow[0])
        slow[-1].sendall(GOOD[3:])
        assert _answer(slow[-1]).endswith(b"fine")


def test_where_connections_are_kept_or_answered_the_first_kept_one_makes_room() -> None:
    with _running(connections=THREADS + 2) as served:
        kept = [served.call(GOOD) for _ in range(2)]
        assert all(_answer(one).endswith(b"fine") for one in kept)
        served.worker._waits = BodyWaits(THREADS)
        for number in range(THREADS - 1):
            served.call(POST)
            _until(partial(_wait, served.worker, number + 1))

        assert served.is_answered()
        # The loop makes room once it has looked, perhaps after a thread answered already.
        ended, _, _ = select.select(kept, [], [], PATIENCE_SECONDS)
        assert len(ended) == 1


def test_a_stopping_worker_answers_whose_handshake_or_head_comes_in_parts(
    served: _Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    _let_stopping_take(PATIENCE_SECONDS, monkeypatch)
    kept, begun, silent = served.call(GOOD), served.call(GOOD[:4]), served.call_plainly()
    _answer(kept)
    _until(partial(_has, served.worker._unfinished, 2))
    with _between_two_looks(served.worker):
        served.worker.handle_exit(None, None)

    callers = [kept, begun, served.secured(silent)]
    for part, whose in ((GOOD[:4], [callers[0], callers[2]]), (GOOD[4:9], callers)):
        for one in whose:
            one.sendall(part)
        _until(partial(_has, served.worker._unfinished, 3))
    for one in callers:
        one.sendall(GOOD[9:])
    assert all(_answer(one).startswith(b"HTTP/1.1 200") for one in callers)


def test_a_stopping_worker_waits_for_a_head_a_moment_however_its_bytes_come(
    served: _Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    _let_stopping_take(0.2, monkeypatch)
    slow = served.call(GOOD[:9])
    _until(partial(_has, served.worker._unfinished, 1))
    served.worker.handle_exit(None, None)

    began = time.monotonic()
    while _takes(slow, b"a"):
        assert time.monotonic() - began < PATIENCE_SECONDS
        time.sleep(0.05)
    assert time.monotonic() - began < heads.HEAD_SECONDS / 2


@pytest.mark.parametrize("is_", ["unfinished", "parting", "kept"])
def test_who_says_something_while_another_takes_its_place_ends_nobody_but_itself(is_: str) -> None:
    begin = {"unfinished": b"GET", "parting": GOOD.replace(b"a\r\n", b"a\r\nConnection: close\r\n"), "kept": GOOD}[is_]
    with _running(connections=THREADS + 2) as served:
        worker = served.worker
        places = {"unfinished": worker._unfinished, "parting": worker._parting, "kept": worker.keepalived_conns}[is_]
        held = []
        for number in range(2 if is_ == "kept" else THREADS + 1):
            held.append(served.call(begin))
            _until(partial(_has, places, number + 1))
        if is_ == "kept":
            served.worker._waits = BodyWaits(THREADS)
            for number in range(THREADS - 1):
                served.call(POST)
                _until(partial(_wait, worker, number + 1))

        with _between_two_looks(worker):  # so that the poller names them all at once
            newcomer = served.call_plainly(b"GET")
            for one in held:
                one.sendall(b" ")

        newcomer.sendall(GOOD[3:])
        assert _answer(newcomer).endswith(b"fine")
        assert served.is_answered()


def test_where_no_file_is_left_for_another_connection_an_unfinished_one_makes_room() -> None:
    with _running() as served:
        slow = served.call(b"GET")
        _until(partial(_has, served.worker._unfinished, 1))
        assert served.is_answered()
        _until(partial(_has, served.worker.keepalived_conns, 1))
        kept = served.worker.keepalived_conns[0]
        with ExitStack() as until_left:
            with _between_two_looks(served.worker):
                newcomer = served.call(GOOD)
                until_left.enter_context(_no_file_left())
            assert _answer(newcomer).endswith(b"fine")
        assert _ends(slow)
        assert kept in served.worker.keepalived_conns


def test_where_no_file_is_left_and_nobody_can_make_room_others_wait_until_there_is_one() -> None:
    with _running() as served:
        with ExitStack() as until_left:
            with _between_two_looks(served.worker):
                newcomer = served.call(GOOD)
                until_left.enter_context(_no_file_left())
            assert not select.select([newcomer], [], [], 0.2)[0]
        assert _answer(newcomer).endswith(b"fine")


def test_a_connection_that_is_closed_already_is_passed_over_when_the_poller_names_it() -> None:
    with _running() as served, _between_two_looks(served.worker):
        ours, callers = socket.socketpair()
        with ours, callers:
            conn = TConn(served.worker.cfg, ours, b"", b"")
            for callback in (
                served.worker._on_bytes,
                served.worker._on_last_bytes,
                served.worker.on_client_socket_readable,
            ):
                callback(conn, ours)
            callers.sendall(b"a")
            assert ours.recv(1) == b"a", "nobody has read or closed it"


def test_a_handshake_that_does_not_end_takes_no_thread(tls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _running(tls=tls) as served:
        callers = [
            served.call_plainly(begin) for begin in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n") for _ in range(5)
        ]

        assert served.is_answered()
        monkeypatch.setattr(heads, "HEAD_SECONDS", 0.1)
        late = served.call_plainly(b"\x16\x03\x01")
        assert _ends(late)
        assert served.is_answered()
        assert _ends(callers[-1]), "that is no handshake"


def test_a_body_has_longer_the_more_of_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    waits = BodyWaits(1)
    monkeypatch.setattr(waits, "wait", lambda _unreader, seconds: waited.append(seconds))
    ours, callers = socket.socketpair()
    with ours, callers:
        unreader = BoundedUnreader(ours, waits)
        callers.sendall(GOOD)
        assert unreader.has_head()
        unreader.read()
        for _ in range(30):
            callers.sendall(bytes(bodywaits.BYTES_PER_SECOND))
            unreader.read(bodywaits.BYTES_PER_SECOND)

        unreader.began -= 59
        with pytest.raises(TimeoutError, match="in time"):
            unreader.read()
        unreader.began -= 1
        with pytest.raises(TimeoutError, match="in time"):
            unreader.read()

    assert len(waited) == 1, "30 s, and as many for what came"
    assert 0 < waited[0] <= 1


@contextmanager
def _no_file_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first_free = os.dup(0)
    os.close(first_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _let_stopping_take(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_PARTING_SECONDS", seconds)
    monkeypatch.setattr(gthread, "STOP_KEEPALIVE_LINGER", seconds)


@contextmanager
def _between_two_looks(worker: LingeringWorker) -> Iterator[None]:
    """Hold the loop in a callback, so that whatever is done meanwhile comes in the poller's next answer."""
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go.wait(PATIENCE_SECONDS)

    worker.method_queue.defer(hold)
    assert held.wait(PATIENCE_SECONDS)
    try:
        yield
    finally:
        go.set()


def _has(places: Sized, number: int) -> bool:
    return len(places) == number


def _wait(worker: LingeringWorker, threads: int) -> bool:
    return len(worker._waits._waiting) == threads


def _are_unfinished(worker: LingeringWorker, heads_: int) -> bool:
    return len(worker._unfinished) == heads_


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)
