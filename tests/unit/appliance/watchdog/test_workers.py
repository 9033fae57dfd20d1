"""Signs of life of what gunicorn runs: its master tells, and only what its worker proved."""

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance import unit
from appliance.watchdog.workers import SharedPulse, WorkerWatch


class Hand:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        listening.bind(str(tmp_path / "n"))
        monkeypatch.setattr(unit, "_taken", {})
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield listening


@pytest.fixture
def watch(notices: socket.socket) -> Iterator[WorkerWatch]:
    made = WorkerWatch(now=Hand())
    yield made
    made._notifier.close()


def told(notices: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(notices.recv(100))
        except BlockingIOError:
            return found


def made(watch: WorkerWatch) -> tuple[Hand, SimpleNamespace, SimpleNamespace]:
    hand = watch._now
    assert isinstance(hand, Hand)
    worker = SimpleNamespace(tpool=ThreadPoolExecutor(1), tmp=SimpleNamespace(last_update=lambda: hand.at))
    server = SimpleNamespace(WORKERS={1: worker}, murder_workers=lambda: None)
    watch.pre_fork(server, worker)
    watch.when_ready(server)
    return hand, server, worker


def test_the_master_tells_while_its_worker_proves_itself_and_not_in_every_turn(
    notices: socket.socket, watch: WorkerWatch
) -> None:
    hand, server, worker = made(watch)

    for _ in range(60):
        hand.at += 1
        assert watch.prove_once(worker)
        server.murder_workers()

    assert told(notices) == [b"READY=1", *[b"WATCHDOG=1"] * 4]


def test_a_worker_that_loads_counts_and_one_that_fell_silent_does_not(
    notices: socket.socket, watch: WorkerWatch
) -> None:
    hand, server, worker = made(watch)

    hand.at += 10_000
    server.murder_workers()
    loading = told(notices)
    watch.prove_once(worker)
    hand.at += 31
    server.murder_workers()

    assert loading == [b"READY=1", b"WATCHDOG=1"]
    assert told(notices) == []


def test_a_pool_without_a_free_thread_a_loop_that_stands_or_a_failed_probe_prove_nothing(
    watch: WorkerWatch,
) -> None:
    hand, _, worker = made(watch)
    watch.probe = lambda: False
    assert not watch.prove_once(worker)
    watch.probe = lambda: True
    worker.tmp.last_update = lambda: hand.at - 31
    assert not watch.prove_once(worker)
    worker.tmp.last_update = lambda: hand.at

    freed = threading.Event()
    worker.tpool.submit(freed.wait)
    proven: list[bool] = []
    thread = threading.Thread(target=lambda: proven.append(watch.prove_once(worker)))
    thread.start()
    try:
        thread.join(0.05)
        assert proven == []
    finally:
        freed.set()
        thread.join(30)
    assert proven == [True]


def test_no_worker_at_all_is_no_life(notices: socket.socket, watch: WorkerWatch) -> None:
    _, server, _ = made(watch)
    server.WORKERS.clear()

    server.murder_workers()

    assert told(notices) == [b"READY=1"]


def test_the_time_of_a_proof_passes_from_a_child_to_its_parent() -> None:
    hand = Hand()
    pulse = SharedPulse(now=hand)
    assert pulse.within(0)

    child = os.fork()
    if child == 0:
        pulse.beat()
        os._exit(0)
    os.waitpid(child, 0)
    hand.at += 5

    assert pulse.within(5)
    assert not pulse.within(4)


def test_where_no_watchdog_is_set_gunicorn_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "_taken", {})
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    server = SimpleNamespace(murder_workers=None)

    WorkerWatch().when_ready(server)

    assert server.murder_workers is None


def test_ready_is_told_once_when_gunicorn_listens_or_when_its_worker_has_loaded(
    notices: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.kill", lambda *_: None)
    waits = WorkerWatch(announces=True, now=Hand())
    _, server, _ = made(waits)
    loading = told(notices)
    waits.loaded()
    server.murder_workers()
    server.murder_workers()
    waits._notifier.close()

    assert "NOTIFY_SOCKET" not in os.environ, "gunicorn itself would tell READY before"
    assert loading == []
    assert [one for one in told(notices) if b"READY" in one] == [b"READY=1\nSTATUS=loaded"]
