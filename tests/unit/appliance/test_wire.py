"""Our own processes' protocol: a door outlives whatever its callers do."""

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from appliance import wire
from appliance.errors import WireError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "door.sock"


@pytest.fixture
def listener(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(256)
        yield listener


def echo(peer: wire.Peer, untrusted: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"door": peer.door, "said": untrusted.get("do")}


class Exhausted(socket.socket):
    """A listener that has no descriptor left for its first callers."""

    failures = 2

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            self.failures -= 1
            raise OSError(24, "Too many open files")
        return super().accept()


def call(path: Path) -> dict[str, Any]:
    line = wire.Line(path, timeout_seconds=5)
    try:
        return line.call("hello")
    finally:
        line.close()


def test_a_door_answers_again_after_descriptors_ran_out(path: Path) -> None:
    with Exhausted(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        wire.serve({"door": listener}, echo)

        assert call(path) == {"door": "door", "said": "hello"}


def test_callers_beyond_the_limit_are_hung_up_on_and_places_come_free(path: Path, listener: socket.socket) -> None:
    wire.serve({"door": listener}, echo)
    idle = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(wire.MAX_CONVERSATIONS)]
    for one in idle:
        one.connect(str(path))

    with pytest.raises(WireError):
        call(path)

    for one in idle:
        one.sendall(b'{"do":"bye"}\n')
        assert one.recv(4096)
        one.close()
    for _ in range(100):
        try:
            answer = call(path)
        except WireError:
            continue
        break
    assert answer == {"door": "door", "said": "hello"}
