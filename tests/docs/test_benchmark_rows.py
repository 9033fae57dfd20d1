"""Each row of the benchmarks of engines says how many threads decoded: without them its figures are of no machine.

Whoever gives no answer has no figure in any of them.
"""

import http.client
import io
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench import asking, engine, vllm, vllm_callers
from bench.levels import Picked
from bench.measuring import Row
from bench.vllm_callers import Measured
from bench.vllm_steps import Steps


def _threads(rows: list[Row]) -> set[object]:
    assert rows
    return {row.to_json().get("threads") for row in rows}


def _measured() -> Measured:
    steps = Steps(steps=10.0, tokens=100.0, computed=10.0, within_seconds=1.0)
    return Measured(tokens_per_second=[100.0], first_seconds=[0.5], whole_seconds=[1.0], steps=[steps])


def test_of_the_engine_and_its_peers() -> None:
    speeds = {name: [100.0, 101.0] for name in ("ours", "llama_cpp.server", "llama.cpp C++", "bare loop")}

    for count in (1, 16):
        assert _threads(engine._speed_rows("Q4_1", count, speeds)) == {engine.THREADS}
    firsts = {name: [[0.1, 0.2], [0.1, 0.3]] for name in speeds}
    assert _threads(engine._first_rows("Q4_1", firsts)) == {engine.THREADS}


def test_of_vllm_behind_the_gateway_and_beside_our_engine() -> None:
    ours, peer = _measured(), _measured()

    for way in ("whole", "streamed"):
        assert _threads(vllm._gateway_rows(ours, peer, way=way)) == {vllm.THREADS}
        assert _threads(vllm._gateway_alone(ours, peer, way=way)) == {vllm.THREADS}
    level = Picked(name="Q8_0", weights=Path("weights.gguf"), calibrated={})
    assert _threads(vllm._engine_rows(level, ours, peer)) == {vllm.ENGINE_THREADS}


class _Streams(http.client.HTTPConnection):
    """A contestant that sends these events to whoever asks."""

    def __init__(self, events: Sequence[dict[str, Any]]) -> None:
        super().__init__("engine")
        lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        self._body = f"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{lines}data: [DONE]\n\n".encode()

    def connect(self) -> None:
        """Connect to nobody."""
        self.sock = _Sent(self._body)  # as much of a socket as a connection uses


class _Sent:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def sendall(self, _data: bytes) -> None:
        """Take a request."""

    def makefile(self, _mode: str) -> io.BytesIO:
        """Return the answer."""
        return io.BytesIO(self._body)

    def close(self) -> None:
        """Close nothing."""


_ROLE: dict[str, Any] = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
_TEXT: dict[str, Any] = {"choices": [{"delta": {"content": "The"}}]}
_END: dict[str, Any] = {"choices": [], "usage": {"completion_tokens": 1}}
_FAILED: dict[str, Any] = {"error": {"code": "engine_failed"}}


@pytest.mark.parametrize("events", [[_ROLE, _END], [_FAILED], []])
def test_a_streamed_answer_without_text_is_no_first_token_at_all(
    events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.Contestant, "connection", lambda _: _Streams(events))
    monkeypatch.setattr(vllm_callers.Contestant, "connection", lambda _: _Streams(events))

    with pytest.raises(SystemExit, match="no text"):
        engine.Callers(engine.Contestant(name="ours"), 1, stream=True).run()
    with pytest.raises(SystemExit, match="no text"):
        vllm_callers.Callers(vllm_callers.Contestant(name="ours", model="m"), [["?"]], stream=True).run()


def test_the_first_token_is_that_of_the_first_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.Contestant, "connection", lambda _: _Streams([_ROLE, _TEXT, _END]))
    monkeypatch.setattr(vllm_callers.Contestant, "connection", lambda _: _Streams([_ROLE, _TEXT, _END]))
    of_engines = engine.Callers(engine.Contestant(name="ours"), 2, stream=True)
    of_vllm = vllm_callers.Callers(vllm_callers.Contestant(name="ours", model="m"), [["?"]], stream=True)

    of_engines.run()
    of_vllm.run()

    assert len(of_engines.first) == 2
    assert all(one > 0 for one in (*of_engines.first, *of_vllm.first))
    assert of_vllm.tokens == 1


@contextmanager
def _streaming(end: bytes | None) -> Iterator[int]:
    """Answer each caller at a port with a stream that says one word; then its end, or nothing more."""
    begin = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwait\n\r\n"
    kept: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            kept.append(caller)
            caller.recv(65536)
            caller.sendall(begin + b"d\r\n: is waiting\n\r\n" + (end or b""))

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for caller in kept:
                caller.close()


def _idle(port: int) -> None:
    opened = asking.idle(asking.Contestant(name="ours", port=port, model="m"), 3)
    try:
        asking.require_open(opened)
    finally:
        for connection, response in opened:
            response.close()
            connection.close()


def test_idle_streams_that_say_nothing_more_are_open() -> None:
    with _streaming(None) as port:
        _idle(port)


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b"5\r\nend\n\n\r\n0\r\n\r\n", b"nonsense\r\n"])
def test_idle_streams_that_have_ended_are_nothing_to_be_measured_beside(end: bytes) -> None:
    """Scenario: a gateway ends each stream at once, and good callers are quick beside nobody."""
    with _streaming(end) as port, pytest.raises(SystemExit, match="3 of 3 idle streams ended"):
        _idle(port)
