"""Real gateways behind a real nginx with the role's configuration: what callers get, also where a gateway is gone.

Scenario: callers ask through nginx without pause while one of three gateways is killed with SIGKILL. Whatever a caller
got an answer to is in the ledger; what was inside the killed gateway fails for its caller and is asked nowhere else;
what comes after that is answered by the others.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from statistics import median
from typing import Any, Final

import pytest

from appliance.actions import tls
from appliance.actions.tls_placing import Here
from appliance.audit.memory import MemoryLedger
from media.clock import SystemClock
from tests.support import nginx
from tests.support.engine import Script
from tests.support.gateway import MODEL
from tests.support.gateway_server import Server, further_gateway, gateway_server
from tests.support.tls import HOST, site

PROGRAM: Final = nginx.program()
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(PROGRAM is None, reason="no nginx, and apt does not fetch Debian's"),
]
CALLERS: Final = 6
SLOW: Final = 160
"""More than the gateway has threads: each place, each who waits, and a few for health."""


@dataclass(slots=True)
class Load:
    """Callers that ask again and again, and what they were told: request id or None, by time."""

    port: int
    key: str
    context: ssl.SSLContext
    answered: list[tuple[float, str]] = field(default_factory=list)
    failed: list[tuple[float, int]] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", "Host": HOST}
        asked = urllib.request.Request(
            f"https://127.0.0.1:{self.port}/v1/chat/completions", data=json.dumps(body).encode(), headers=headers
        )
        try:
            with urllib.request.urlopen(asked, timeout=60, context=self.context) as answer:  # noqa: S310
                answer.read()
                self.answered.append((time.monotonic(), answer.headers["x-request-id"]))
        except urllib.error.HTTPError as error:
            with error:
                self.failed.append((time.monotonic(), error.code))

    def run(self) -> None:
        while not self.ending.is_set():
            self.ask()


@contextlib.contextmanager
def behind_nginx(server: Server, folder: Path, *, gateways: int = 1) -> Iterator[Load]:
    """Run the box's web server before a site's gateways; yield callers that come by it."""
    assert PROGRAM is not None
    own = Here(config=site(folder / "tls"), ledger=MemoryLedger(), clock=SystemClock())
    tls.rotate(own)
    (folder / "nginx").mkdir()
    with nginx.running(
        folder / "nginx",
        PROGRAM,
        tls=own.folder.path,
        gateway=server.site.places.socket("gateway"),
        hostname=HOST,
        clients="off",
        gateways=gateways,
    ) as web:
        trusted = ssl.create_default_context(cadata=own.folder.authority_file.read_bytes().decode())
        trusted.check_hostname = False  # loopback has no name; that names are checked is test_tls_nginx's
        yield Load(port=web.port, key=server.key, context=trusted)


def recorded(server: Server) -> set[str]:
    """Return the ids of the requests whose good end is in the ledger."""
    found: set[str] = set()
    start = 0
    while page := server.doors[0].leaves(start, 500, kinds=["request.outcome"]):
        found |= {str(leaf.body["request_id"]) for leaf in page if leaf.body["outcome"] == "ok"}
        start = page[-1].sequence + 1
    return found


def wait_until(load: Load, *, answers: int) -> None:
    """Wait until there are so many answers in all."""
    end = time.monotonic() + 90
    while len(load.answered) < answers:
        assert time.monotonic() < end, f"{len(load.answered)} answers, {load.failed[-5:]}"
        time.sleep(0.02)


def test_a_gateway_that_is_killed_under_load_loses_no_answer_that_a_caller_got(tmp_path: Path) -> None:
    rate = "requests_per_minute = 1000000"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(gateway_server(tmp_path, limits=rate, gateways=3))
        second = stack.enter_context(further_gateway(server, 2))
        stack.enter_context(further_gateway(server, 3))
        load = stack.enter_context(behind_nginx(server, tmp_path, gateways=3))
        threads = [threading.Thread(target=load.run) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        try:
            wait_until(load, answers=60)
            killed_at = time.monotonic()
            for child in _children(second.pid):
                os.kill(child, signal.SIGKILL)
            second.kill()
            wait_until(load, answers=len(load.answered) + 120)
        finally:
            load.ending.set()
            for thread in threads:
                thread.join(timeout=60)

        told = {name for _, name in load.answered}
        assert len(told) == len(load.answered)
        assert told <= recorded(server)
        # Each caller had at most one request inside the gateway that was killed, and nothing failed but those.
        assert len(load.failed) <= CALLERS, load.failed
        assert {code for _, code in load.failed} <= {502}
        assert all(at >= killed_at for at, _ in load.failed)


def test_a_gateway_that_restarts_behind_its_socket_loses_no_question(tmp_path: Path) -> None:
    """Scenario: callers ask without pause while the gateway stops and starts anew; its socket stays, as on a box."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(gateway_server(tmp_path, limits="requests_per_minute = 1000000"))
        load = stack.enter_context(behind_nginx(server, tmp_path))
        threads = [threading.Thread(target=load.run) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                wait_until(load, answers=len(load.answered) + 20)
                server.restart()
            wait_until(load, answers=len(load.answered) + 20)
        finally:
            load.ending.set()
            for thread in threads:
                thread.join(timeout=60)

        assert load.failed == []
        assert {name for _, name in load.answered} <= recorded(server)


def test_callers_that_send_slowly_never_read_or_send_too_much_hold_nobody_up(tmp_path: Path) -> None:
    """Scenario: many begin a request and stop, some ask for long streams and read nothing, one sends 60 MB."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(gateway_server(tmp_path, limits="requests_per_minute = 1000000"))
        load = stack.enter_context(behind_nginx(server, tmp_path))
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: %b\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
        )

        def begun(content: bytes, length: int) -> None:
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", load.port)))
            caller = stack.enter_context(load.context.wrap_socket(plain))
            caller.sendall(head % (HOST.encode(), server.key.encode(), length) + content)

        for _ in range(SLOW):
            begun(b'{"model": ', 5000)
        began = time.monotonic()
        server.engine.script = Script(pieces=("x" * 65536,) * 200)
        asked = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
        for _ in range(8):
            server.engine.started.clear()
            begun(asked, len(asked))
            assert server.engine.started.wait(30)
        server.engine.script = Script()
        huge = http.client.HTTPSConnection("127.0.0.1", load.port, context=load.context, timeout=60)
        huge.putrequest("POST", "/v1/chat/completions")
        huge.putheader("Content-Length", str(60 * 2**20))
        huge.endheaders()
        too_large = huge.getresponse().status
        huge.close()

        for _ in range(10):
            load.ask()
        took = time.monotonic() - began

    assert too_large == 413
    assert (len(load.answered), load.failed) == (10, [])
    assert took < 25, "the slow ones may take 30 seconds for their bodies, and were not waited for"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Load]]:
    """One gateway behind nginx, for tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("served")
    with gateway_server(folder) as server, behind_nginx(server, folder) as load:
        yield server, load


def told(load: Load, path: str, *, length: int = 2) -> tuple[http.client.HTTPResponse, Any]:
    """Ask without a key; return the answer and its JSON."""
    line = http.client.HTTPSConnection("127.0.0.1", load.port, context=load.context, timeout=60)
    with contextlib.closing(line):
        line.putrequest("POST", path)
        line.putheader("Content-Length", str(length))
        line.endheaders(b"{}")
        answer = line.getresponse()
        return answer, json.load(answer)


@pytest.fixture
def gone(served: tuple[Server, Load]) -> Iterator[None]:
    """Take the gateway's socket away, and put it back at the end."""
    path = served[0].site.places.socket("gateway")
    aside = path.rename(path.with_suffix(".aside"))
    yield
    aside.rename(path)


def check_own(answer: http.client.HTTPResponse, body: Any, *, code: str, is_ollamas: bool) -> None:
    """Check what nginx answered by itself: the gateway's shapes and headers."""
    error = body if is_ollamas else body["error"]
    assert set(error) == ({"error", "code", "param"} if is_ollamas else {"message", "type", "param", "code"})
    assert (error["code"], error["param"]) == (code, None)
    assert error["error" if is_ollamas else "message"].endswith(".")
    assert answer.headers["content-type"] == "application/json"
    assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


ROUTES: Final = [
    ("/v1/chat/completions", False),
    ("/api/chat", True),
    ("/test/v1/chat/completions", False),
    ("/test/api/chat", True),
]


@pytest.mark.parametrize(("path", "is_ollamas"), ROUTES)
def test_a_body_that_nginx_refuses_is_refused_in_the_routes_shape(
    served: tuple[Server, Load], path: str, *, is_ollamas: bool
) -> None:
    answer, body = told(served[1], path, length=60 * 2**20)

    assert answer.status == 413
    assert "retry-after" not in answer.headers
    check_own(answer, body, code="request_too_large", is_ollamas=is_ollamas)


@pytest.mark.usefixtures("gone")
@pytest.mark.parametrize(("path", "is_ollamas"), ROUTES)
def test_a_gateway_that_is_gone_is_told_in_the_routes_shape(
    served: tuple[Server, Load], path: str, *, is_ollamas: bool
) -> None:
    answer, body = told(served[1], path)

    assert answer.status == 502
    assert answer.headers["retry-after"] == "2"
    check_own(answer, body, code="gateway_unavailable", is_ollamas=is_ollamas)
    assert is_ollamas or body["error"]["type"] == "server_error"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/nothing", "/api/chat"])
def test_what_the_gateway_refuses_passes_as_it_is(served: tuple[Server, Load], path: str) -> None:
    answer, body = told(served[1], path)

    assert answer.status == 401
    assert (body if path.startswith("/api/") else body["error"])["code"] == "invalid_api_key"
    assert [len(one) for one in answer.headers.get_all("x-request-id", [])] == [len("req_") + 26]
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize("way", ["whole", "streamed"])
def test_a_caller_that_leaves_nginx_cancels_the_engine_within_a_second(served: tuple[Server, Load], way: str) -> None:
    """Scenario: a caller hangs up while the engine is silent, so that nobody would notice by writing."""
    server, load = served
    before, taken = len(server.outcomes()), list[float]()
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "stream": way == "streamed"}
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json", "Host": HOST}
    # The median of five: other work on this machine must not decide, and one quick try is not how it is.
    for number in range(1, 6):
        server.engine.script = Script(hold=threading.Event())
        server.engine.cancelled.clear()
        server.engine.started.clear()
        caller = http.client.HTTPSConnection("127.0.0.1", load.port, context=load.context, timeout=60)
        caller.request("POST", "/v1/chat/completions", body=json.dumps(body), headers=headers)
        assert server.engine.started.wait(60)
        if way == "streamed":
            # What stands before the first word has come, so nothing is written on this way either from here on.
            assert caller.getresponse().readline().startswith(b"data: ")

        left = time.monotonic()
        caller.close()

        assert server.engine.cancelled.wait(10), "nginx did not pass on that its caller left"
        taken.append(time.monotonic() - left)
        outcome = server.wait_for_outcome(before + number)
        assert (outcome["outcome"], outcome["status"]) == ("cancelled", 499)
    assert median(taken) < 1, taken


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class _Answering(StreamRequestHandler):
    """A gateway that answers whatever it is asked."""

    def handle(self) -> None:
        while self.rfile.readline() not in {b"\r\n", b""}:
            pass
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


def test_a_dead_gateway_is_met_by_all_workers_together_and_not_by_each(tmp_path: Path) -> None:
    """Scenario: one of two gateways is gone; each of nginx's workers is asked by turns, all others being stopped."""
    assert PROGRAM is not None
    workers, times, at_most = 3, 8, 3
    own = Here(config=site(tmp_path / "tls"), ledger=MemoryLedger(), clock=SystemClock())
    tls.rotate(own)
    (tmp_path / "nginx").mkdir()
    began = time.monotonic()
    with (
        serving(tmp_path / "gateway.sock", _Answering),
        nginx.running(
            tmp_path / "nginx",
            PROGRAM,
            tls=own.folder.path,
            gateway=tmp_path / "gateway.sock",
            hostname=HOST,
            clients="off",
            gateways=2,
            workers=workers,
        ) as web,
    ):
        trusted = ssl.create_default_context(cadata=own.folder.authority_file.read_bytes().decode())
        trusted.check_hostname = False
        while len(numbers := _children(web.process.pid)) < workers:
            assert time.monotonic() < began + 60, "not all workers began"
            time.sleep(0.02)
        answers = []
        for asked in numbers:
            others = [number for number in numbers if number != asked]
            for number in others:
                os.kill(number, signal.SIGSTOP)
            # One that is about to stop could still be the one that the kernel wakes for a caller.
            while not all("\nState:\tT" in Path(f"/proc/{number}/status").read_text() for number in others):
                time.sleep(0.01)
            try:
                for _ in range(times):
                    caller = http.client.HTTPSConnection("127.0.0.1", web.port, context=trusted, timeout=60)
                    caller.request("GET", "/v1/models", headers={"Connection": "close"})
                    answers.append(caller.getresponse().status)
                    caller.close()
            finally:
                for number in others:
                    os.kill(number, signal.SIGCONT)
        met = re.findall(r"\[crit\] (\d+)#.*connect\(\) to unix:\S+gateway-2\.sock failed", web.log)

    assert answers == [200] * workers * times
    assert 0 < len(met) <= at_most + int((time.monotonic() - began) // 30), f"it was met by {Counter(met)}"


@contextlib.contextmanager
def serving(path: Path, handler: type[StreamRequestHandler]) -> Iterator[None]:
    """Answer at a Unix socket."""
    with ThreadingUnixStreamServer(str(path), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join(timeout=30)


def test_all_gateways_have_their_share() -> None:
    text = nginx.rendered(gateways=3)

    assert text.count("max_fails=3 fail_timeout=30s") == 3
    assert "zone gateway 64k;\n        least_conn;" in text
    assert "least_conn;" not in nginx.rendered(), "there is nothing to choose"
    assert "proxy_next_upstream error;" in text
    assert "non_idempotent" not in text
    assert "proxy_next_upstream off;" in nginx.rendered()


def test_each_gateway_is_read_by_itself() -> None:
    text = nginx.rendered(gateways=3, monitoring=True)

    read = re.findall(
        r"location = /metrics/(gateway(?:-[0-9])?) {[^}]+proxy_pass http://unix:/run/sealift/(\S+).sock:/metrics;", text
    )
    assert read == 2 * [("gateway", "gateway"), ("gateway-2", "gateway-2"), ("gateway-3", "gateway-3")]
