"""Callers who send slowly, with a key or without, while others are answered by the gateway as its unit runs it."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import openai
import pytest

from tests.support.gateway import MODEL
from tests.support.gateway_server import Server, gateway_server

pytestmark = pytest.mark.slow  # whole commands and processes, seconds in all

THREADS = 8
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: box\r\nContent-Length: 4000\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with gateway_server(tmp_path_factory.mktemp("gateway"), threads=THREADS) as running:
        yield running


@contextmanager
def _slow_callers(server: Server, begin: bytes) -> Iterator[list[socket.socket]]:
    """Have three callers for each thread send a byte each fifth of a second, and again and again when they are out."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    is_over = threading.Event()
    with ExitStack() as stack:

        def connected() -> socket.socket:
            caller = stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            caller.sendall(begin)
            return caller

        callers = [connected() for _ in range(3 * THREADS)]

        def send() -> None:
            while not is_over.wait(0.2):
                for place, caller in enumerate(callers):
                    try:
                        caller.sendall(b" ")
                    except OSError:
                        with suppress(OSError):
                            callers[place] = connected()

        sends = threading.Thread(target=send)
        sends.start()
        try:
            yield callers
        finally:
            is_over.set()
            sends.join()


@pytest.mark.parametrize("kind", ["silent", "head", "body without a key", "body", "does not hang up"])
def test_who_sends_slowly_does_not_keep_others_from_their_answers(server: Server, kind: str) -> None:
    key = b"Authorization: Bearer " + server.key.encode()
    begin = {
        "silent": b"",
        "head": HEAD + b"X-Long: ",
        "body without a key": HEAD + b"\r\n{",
        "body": HEAD + key + b"\r\n\r\n{",
        "does not hang up": b"GET /livez HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n",
    }[kind]

    with (
        _slow_callers(server, begin),
        openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=20) as client,
    ):
        for _ in range(5):
            answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])
            assert answer.choices[0].message.content == "You said: hello"


def test_a_body_that_makes_room_is_told_so_and_recorded(server: Server) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    with ExitStack() as stack:
        slow = []
        for _ in range(THREADS // 2 + 1):
            slow.append(stack.enter_context(socket.create_connection((host, int(port)), timeout=30)))
            slow[-1].sendall(HEAD + b"Authorization: Bearer " + server.key.encode() + b"\r\n\r\n{")
        first = next(one for one in slow if _is_told(one))
        with http.client.HTTPResponse(first) as told:
            told.begin()
            answer = json.load(told)

    assert told.status == 408
    assert answer["error"]["code"] == "request_timeout"
    assert any(dict(one.body)["code"] == "request_timeout" for one in server.doors[0].find(kind="request.refused"))


def _is_told(caller: socket.socket) -> bool:
    caller.settimeout(5)
    try:
        return bool(caller.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False
