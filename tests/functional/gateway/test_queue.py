"""Waiting for a place at a gateway as its unit runs it."""

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.engine import Script
from tests.support.gateway import MODEL
from tests.support.gateway_server import Server, gateway_server

pytestmark = pytest.mark.slow
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


def _depth(server: Server) -> float:
    text = httpx.get(f"http://127.0.0.1:{server.metrics_port}/metrics").text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("sealift_queue_depth{"))


def _depth_of_model(server: Server) -> dict[str, float]:
    lines = httpx.get(f"http://127.0.0.1:{server.metrics_port}/metrics").text.splitlines()
    start = 'vllm:num_requests_waiting{model_name="'
    found = (line.removeprefix(start).split('"} ') for line in lines if line.startswith(start))
    return {name: float(value) for name, value in found}


def _wait_for(what: Callable[[], bool], *, seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.02)


def _ask(server: Server, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    own = {"Authorization": f"Bearer {server.key}", **named}
    return httpx.post(f"{server.url}/v1/chat/completions", json=BODY, headers=own, timeout=60)


def test_requests_wait_leave_and_are_served_in_turn(tmp_path: Path) -> None:
    # Nobody's own wait ends while this test looks, so who is gone from the queue is gone because it left.
    with gateway_server(tmp_path, limits="concurrent_requests = 1\nqueue_length = 8\nqueue_seconds = 600") as server:
        hold = threading.Event()
        server.engine.script = Script(hold=hold)
        with ThreadPoolExecutor(3) as pool:
            first = pool.submit(_ask, server)
            assert server.engine.started.wait(30)
            second = pool.submit(_ask, server)
            _wait_for(lambda: _depth(server) == 1)
            assert _depth_of_model(server) == {MODEL: 1}
            # A caller that leaves while it waits is out of the queue at once, and no engine heard of it.
            content = json.dumps(BODY).encode()
            host, port = server.url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as leaving:
                leaving.sendall(
                    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
                    b"Authorization: Bearer %b\r\n\r\n%b" % (len(content), server.key.encode(), content)
                )
                _wait_for(lambda: _depth(server) == 2)
                left = time.monotonic()
            _wait_for(lambda: _depth(server) == 1)
            assert time.monotonic() - left < 1
            hopeless = _ask(server, X_Sealift_Max_Wait="0")
            hold.set()
            answers = [first.result(60), second.result(60)]

        assert [one.status_code for one in answers] == [200, 200]
        assert [one.headers["x-sealift-queue-position"] for one in answers] == ["0", "1"]
        assert int(answers[1].headers["x-sealift-queue-ms"]) > 0
        assert hopeless.status_code == 503
        assert hopeless.json()["error"]["code"] == "overloaded"
        assert int(hopeless.headers["retry-after"]) >= 1
        assert len(server.outcomes()) == 2
        refused = [dict(leaf.body) for leaf in server.doors[0].find(kind="request.refused", limit=50)]
        assert sorted(str(one["code"]) for one in refused) == ["caller_left", "overloaded"]
