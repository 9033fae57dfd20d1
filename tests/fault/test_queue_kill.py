"""Two gateways of one box share their places; one is killed while it holds one and others wait for it."""

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.engine import Script
from tests.support.gateway import MODEL
from tests.support.gateway_server import Server, further_gateway, gateway_server

pytestmark = pytest.mark.fault
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


def _client(server: Server, socket: str) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(server.site.places.socket(socket)))
    headers = {"Authorization": f"Bearer {server.key}"}
    return httpx.Client(transport=transport, base_url="http://gateway", headers=headers, timeout=120)


def _ask(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/chat/completions", json=BODY)


def _depth(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("sealift_queue_depth{"))


def _wait_for(what: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_places_are_those_of_the_box_and_free_again_when_a_gateway_is_killed(tmp_path: Path) -> None:
    limits = "concurrent_requests = 2\nqueue_length = 8\nqueue_seconds = 600"
    with gateway_server(tmp_path, limits=limits, gateways=2) as server, further_gateway(server, 2) as second:
        hold = threading.Event()
        server.engine.script = Script(hold=hold)
        with _client(server, "gateway") as here, _client(server, "gateway-2") as there, ThreadPoolExecutor(4) as pool:
            lost = pool.submit(_ask, there)
            _wait_for(lambda: len(server.engine.asked) == 1)
            first = pool.submit(_ask, here)
            _wait_for(lambda: len(server.engine.asked) == 2)
            waiting = [pool.submit(_ask, here)]
            _wait_for(lambda: _depth(here) == 1)
            waiting.append(pool.submit(_ask, here))
            _wait_for(lambda: _depth(here) == 2)
            assert len(server.engine.asked) == 2, "a place of the box that is taken there is not free here"

            for child in Path(f"/proc/{second.pid}/task/{second.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
            second.kill()
            _wait_for(lambda: len(server.engine.asked) == 3)
            assert _depth(here) == 1, "the one place that it held, and no more"

            hold.set()
            assert first.result(60).status_code == 200
            assert sorted(one.result(60).headers["x-sealift-queue-position"] for one in waiting) == ["1", "2"]
            assert lost.exception(60) is not None
