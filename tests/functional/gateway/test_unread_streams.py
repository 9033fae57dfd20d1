"""Many answers that nobody reads, streams and whole ones, at a real gateway: everybody else is answered."""

import http.client
import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Script
from tests.support.gateway import MODEL, key_text
from tests.support.gateway_server import Server, gateway_server

pytestmark = pytest.mark.slow

LONG = Script(pieces=("x" * 8000,) * 75)
IDLE = 40


def question(**more: Any) -> bytes:
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}], **more}).encode()


def unread(server: Server, key: str) -> socket.socket:
    """Ask for a stream as nginx does, over a socket whose buffers hold a small part of it, and read nothing."""
    return sent(server, key, b"/v1/chat/completions", question(stream=True))


def unread_vectors(server: Server, key: str) -> socket.socket:
    """Ask for embeddings likewise: a whole answer of more than the socket holds."""
    texts = [f"text {number}" for number in range(2048)]
    return sent(server, key, b"/v1/embeddings", json.dumps({"model": MODEL, "input": texts}).encode())


def sent(server: Server, key: str, route: bytes, content: bytes) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(server.site.places.socket("gateway")))
    connection.sendall(
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nAuthorization: Bearer %b\r\n\r\n%b"
        % (route, len(content), key.encode(), content)
    )
    return connection


def ask(server: Server, key: str, **more: Any) -> tuple[int, str]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "X-Sealift-Max-Wait": "20"}
    connection.request("POST", "/v1/chat/completions", body=question(**more), headers=headers)
    with connection.getresponse() as response:
        found = response.status, response.read().decode()
    connection.close()
    return found


def wait_until_asked(server: Server, count: int) -> None:
    """Wait until the engine was asked so often, and for a second no more."""
    deadline, changed, seen = time.monotonic() + 60, time.monotonic(), -1
    while seen < count or time.monotonic() - changed < 1:
        assert time.monotonic() < deadline, f"asked {seen} times"
        if (now := len(server.engine.asked)) != seen:
            changed, seen = time.monotonic(), now
        time.sleep(0.02)


def test_beside_forty_streams_that_nobody_reads_everybody_is_answered(tmp_path: Path) -> None:
    """Scenario: many pages lie open in background tabs; there are fewer places than those, and others ask."""
    with gateway_server(tmp_path, limits="concurrent_requests = 4\nqueue_length = 64") as server, ExitStack() as open_:
        server.engine.script = LONG
        mine, others = server.key, server.add_key(key_text("otherkey23"))
        for number in range(IDLE):
            open_.enter_context(unread(server, mine))
            if number % 8 == 7:  # one key may have half of the queue at most
                wait_until_asked(server, number + 1)
        server.engine.script = Script()

        with ThreadPoolExecutor(max_workers=6) as pool:
            asked = [pool.submit(ask, server, key, stream=how) for key in (mine, others) for how in (True, False) * 10]
            answers = [one.result() for one in asked]

        assert {status for status, _ in answers} == {200}
        assert all("You said: hello" in said or "[DONE]" in said for _, said in answers)
        ended = server.doors[0].find(kind="request.outcome", limit=200)
        whole = sum(leaf.body["outcome"] == "ok" for leaf in ended)
        assert whole == len(answers), "of the others none is: nobody has read them"


def test_a_key_whose_callers_do_not_read_leaves_another_one_s_slow_callers_their_part(tmp_path: Path) -> None:
    """Scenario: one application opens more streams than are kept without a place; a slow reader of another comes."""
    limits = "concurrent_requests = 4\nkey_concurrent_requests = 1\nqueue_length = 64\nqueue_seconds = 60"
    with gateway_server(tmp_path, limits=limits) as server, ExitStack() as open_:
        server.engine.script = LONG
        other = server.add_key(key_text("otherkey23"))
        for first in (0, 24, 48):
            for _ in range(24):
                open_.enter_context(unread(server, server.key))
            wait_until_asked(server, min(first + 24, 49))
        before = len(server.engine.asked)
        open_.enter_context(unread(server, other))
        wait_until_asked(server, before + 1)
        server.engine.script = Script()

        status, said = ask(server, other)
        assert (status, "You said: hello" in said) == (200, True), "its unread stream holds the only place that it has"


def test_a_key_s_unread_streams_that_hold_all_places_are_broken_off_where_others_wait(tmp_path: Path) -> None:
    """Scenario: one application opens more streams than are kept without a place, and more again than places."""
    limits = "concurrent_requests = 2\nqueue_length = 64\nqueue_seconds = 60"
    with gateway_server(tmp_path, limits=limits) as server, ExitStack() as open_:
        server.engine.script = LONG
        other = server.add_key(key_text("otherkey23"))
        for count in (24, 48, 50):
            for _ in range(24 if count < 50 else 2):
                open_.enter_context(unread(server, server.key))
            wait_until_asked(server, count)
        server.engine.script = Script()

        status, said = ask(server, other)

        assert (status, "You said: hello" in said) == (200, True)
        broken = [leaf.body for leaf in server.doors[0].find(kind="request.outcome", limit=200)]
        assert 1 <= sum(one["status"] == 499 for one in broken) <= 2, "who has room is waited for"


def test_a_key_that_reads_no_whole_answer_does_not_have_all_threads(tmp_path: Path) -> None:
    threads = 100
    with gateway_server(tmp_path, threads=threads) as server, ExitStack() as open_:
        other = server.add_key(key_text("otherkey23"))
        for number in range(threads + 4):
            open_.enter_context(unread_vectors(server, server.key))
            if number % 16 == 15:
                wait_until_recorded(server, number + 1)

        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(15)
            probe.connect(str(server.site.places.socket("gateway")))
            probe.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert probe.recv(15).startswith(b"HTTP/1.1 200")
        status, said = ask(server, other)

        assert (status, "You said: hello" in said) == (200, True)


def wait_until_recorded(server: Server, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(server.outcomes()) < count:
        assert time.monotonic() < deadline, "not all were made"
        time.sleep(0.05)


def test_a_whole_answer_that_nobody_reads_holds_no_stop_up(tmp_path: Path) -> None:
    with gateway_server(tmp_path, graceful_seconds=100) as server, unread_vectors(server, server.key):
        server.wait_for_outcome(1)
        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(25) == 0, "silence is waited for longer else, and what goes on for 80 s here"
