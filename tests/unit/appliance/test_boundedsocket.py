"""Waits on our own sockets end at their bound, as what they are: a timeout."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from appliance.boundedsocket import BoundedSocket
from tests.support.versions import short_folder

SECONDS = 0.05


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with short_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(folder / "s"))
        listening.listen(0)
        yield listening


@pytest.fixture
def caller(listener: socket.socket) -> Iterator[BoundedSocket]:
    with BoundedSocket(SECONDS) as connected:
        connected.connect(listener.getsockname())
        yield connected


def test_what_is_said_in_time_is_read(listener: socket.socket, caller: BoundedSocket) -> None:
    answering, _ = listener.accept()
    with answering:
        answering.sendall(b"one")
        assert caller.recv(10) == b"one"
    assert caller.recv(10) == b"", "the end of what there is to read"


def test_silence_is_no_end_of_what_there_is_to_read(caller: BoundedSocket) -> None:
    with pytest.raises(TimeoutError, match="timed out"):
        caller.recv(1)


def test_a_reader_who_reads_nothing_holds_nobody(caller: BoundedSocket) -> None:
    with pytest.raises(TimeoutError, match="timed out"):
        caller.sendall(bytes(8 * 2**20))


def test_a_listener_that_takes_nobody_in_holds_nobody(listener: socket.socket, caller: BoundedSocket) -> None:
    assert caller.fileno() >= 0  # it waits to be taken in, and the queue has room for one

    with BoundedSocket(SECONDS) as late, pytest.raises(TimeoutError, match="timed out"):
        late.connect(listener.getsockname())


def test_a_bound_may_be_another_for_what_follows(caller: BoundedSocket, tmp_path: Path) -> None:
    caller.wait_at_most(0)  # the least there is, and not for ever, as the kernel would take it

    with pytest.raises(TimeoutError, match="timed out"):
        caller.recv(1)
    with BoundedSocket(SECONDS) as nobody, pytest.raises(FileNotFoundError):
        nobody.connect(str(tmp_path / "s"))


def test_a_read_that_goes_on_waits_as_long_as_it_is_told_to(listener: socket.socket, caller: BoundedSocket) -> None:
    answering, _ = listener.accept()
    asked: list[int] = []

    def goes_on() -> bool:
        asked.append(1)
        if len(asked) == 3:
            answering.sendall(b"late")
        return len(asked) < 6

    caller.wait_at_most(SECONDS, goes_on=goes_on)
    with answering:
        assert caller.recv(4) == b"late"
        assert len(asked) == 3
        with pytest.raises(TimeoutError, match="timed out"):
            caller.recv(1)

    assert len(asked) == 6


def test_a_bound_in_all_is_kept_though_something_is_said_now_and_then(
    listener: socket.socket, caller: BoundedSocket
) -> None:
    answering, _ = listener.accept()
    ended = threading.Event()

    def drip() -> None:
        while not ended.wait(SECONDS / 10):
            answering.sendall(b"x")

    caller.wait_at_most(2 * SECONDS, in_all=True)
    dripping = threading.Thread(target=drip)
    dripping.start()
    heard = 0
    began = time.monotonic()
    with suppress(TimeoutError):
        while time.monotonic() < began + 30:
            heard += len(caller.recv(1))
    took = time.monotonic() - began
    ended.set()
    dripping.join()
    answering.close()

    assert heard
    assert took < 30
    caller.wait_at_most(SECONDS)
    assert caller.recv(1) in {b"x", b""}, "what follows has a bound of its own again"
