"""The gateway as its unit runs it, asked by OpenAI's own client and by clients that misbehave."""

import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import openai
import pytest

from tests.support.engine import MODEL_DIGEST, Script
from tests.support.gateway import MODEL, key_text
from tests.support.gateway_server import Server, gateway_server
from tests.support.ledger import ROOT

pytestmark = pytest.mark.slow  # whole commands and processes, seconds in all

TEXT = "SSN 123-45-6789, MRN: 12345678"
CANARY = "kestrel-prompt"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with gateway_server(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(autouse=True)
def plain_engine(server: Server) -> None:
    server.engine.script = Script()
    server.engine.cancelled.clear()
    server.engine.started.clear()


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=60) as client:
        yield client


def _messages(text: str) -> Any:
    return [{"role": "user", "content": text}]


def _raw(server: Server, body: dict[str, Any]) -> socket.socket:
    """Send a request and return the connection, unread."""
    content = json.dumps({"model": MODEL, "messages": _messages("hello"), **body}).encode()
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nAuthorization: Bearer %b\r\n\r\n%b"
        % (len(content), server.key.encode(), content)
    )
    return connection


def test_openais_client_lists_models(client: openai.OpenAI) -> None:
    assert [one.id for one in client.models.list()] == [MODEL, "production"]
    assert client.models.retrieve("production").owned_by == "sealift"


def test_openais_client_gets_an_answer(client: openai.OpenAI, server: Server) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=_messages(TEXT))

    assert answer.choices[0].message.content == f"You said: {TEXT}"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")
    assert server.engine.last["messages"][0]["content"] == "SSN [SSN_1], MRN: [MRN_1]"
    assert (server.engine.last["temperature"], server.engine.last["top_p"]) == (0.25, 0.9)


def test_openais_client_streams_an_answer(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="production", messages=_messages(TEXT), stream=True, stream_options={"include_usage": True}
    )

    chunks = list(stream)

    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == f"You said: {TEXT}"
    assert [one.choices[0].finish_reason for one in chunks if one.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert {one.id for one in chunks} == {chunks[0].id}


def test_openais_client_completes_a_text(client: openai.OpenAI) -> None:
    assert client.completions.create(model=MODEL, prompt="hi").choices[0].text == "You said: hi"
    stream = client.completions.create(model=MODEL, prompt="hi", stream=True)
    assert "".join(one.choices[0].text for one in stream) == "You said: hi"


def test_openais_client_reads_our_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=_messages(TEXT), user="jane")

    assert raw.headers["x-model-version"] == MODEL_DIGEST
    assert raw.headers["x-sealift-phi"] == "ssn=1, mrn=1"
    assert raw.headers["x-sealift-ignored"] == "user"
    assert raw.headers["x-ratelimit-limit-requests"] == "600"


def test_openais_client_raises_its_own_errors(client: openai.OpenAI, server: Server) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=_messages("x"))
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=MODEL, messages=_messages("x"), temperature=3)
    with pytest.raises(openai.AuthenticationError) as stranger:
        client.with_options(api_key="sk-wrong").models.list()
    server.engine.script = Script(refuse=(503, "loading"))
    with pytest.raises(openai.InternalServerError) as busy:
        client.chat.completions.create(model=MODEL, messages=_messages("x"))

    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert (wrong.value.code, wrong.value.param) == ("invalid_value", "temperature")
    assert wrong.value.request_id is not None
    assert stranger.value.code == "invalid_api_key"
    assert busy.value.response.headers["retry-after"] == "2"


def test_openais_client_sees_an_error_in_the_middle_of_a_stream(client: openai.OpenAI, server: Server) -> None:
    server.engine.script = Script(error_after=2)
    stream = client.chat.completions.create(model=MODEL, messages=_messages("a b c"), stream=True)

    with pytest.raises(openai.APIError, match="middle of an answer"):
        list(stream)


def test_openais_client_reads_hostile_text_as_it_was_said(client: openai.OpenAI, server: Server) -> None:
    pieces = ("a\r\n\r\ndata: [DONE]\n\n", "\u2028\u2029\x85\r", "data: {}\n\n:", "😀")
    server.engine.script = Script(pieces=pieces)

    stream = client.chat.completions.create(model=MODEL, messages=_messages("x"), stream=True)

    assert "".join(one.choices[0].delta.content or "" for one in stream) == "".join(pieces)


@pytest.mark.parametrize("way", ["whole", "streamed"])
def test_a_caller_that_leaves_while_the_engine_is_silent_cancels_it_within_a_second(server: Server, way: str) -> None:
    before, taken = len(server.outcomes()), list[float]()
    # The median of five: other work on this machine must not decide, and one quick try is not how it is.
    for number in range(1, 6):
        server.engine.script = Script(hold=threading.Event())
        server.engine.cancelled.clear()
        server.engine.started.clear()
        connection = _raw(server, {"stream": way == "streamed"})
        assert server.engine.started.wait(60)

        left = time.monotonic()
        connection.close()

        assert server.engine.cancelled.wait(60), "nothing is written meanwhile, so nobody would notice it by that"
        taken.append(time.monotonic() - left)
        outcome = server.wait_for_outcome(before + number)
        assert (outcome["outcome"], outcome["status"]) == ("cancelled", 499)
    assert median(taken) < 1, taken


def test_a_caller_that_stops_reading_does_not_hold_up_others(server: Server, client: openai.OpenAI) -> None:
    server.engine.script = Script(pieces=("x" * 65536,) * 200)
    connection = _raw(server, {"stream": True})
    assert server.engine.started.wait(60)
    server.engine.script = Script()

    assert client.chat.completions.create(model=MODEL, messages=_messages("hi")).choices
    connection.close()


def test_a_caller_that_stops_reading_holds_no_place_when_its_answer_is_made_and_gets_all_of_it_later(
    tmp_path: Path,
) -> None:
    """Scenario: many places are held by callers who pause their reading; the next one would be turned away."""
    said = tuple(f"{number:05} " + "x" * 8000 for number in range(400))
    with gateway_server(tmp_path, limits="concurrent_requests = 1\nqueue_seconds = 20") as server:
        server.engine.script = Script(pieces=said)
        paused = _raw(server, {"stream": True})
        assert server.engine.started.wait(60)
        server.engine.script = Script()
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=60) as client:
            assert client.chat.completions.create(model=MODEL, messages=_messages("hi")).choices
        (first,) = server.outcomes()

        response = http.client.HTTPResponse(paused)
        response.begin()
        answer = response.read().decode()
        response.close()
        paused.close()

        events = re.findall(r"^data: (\{.*)$", answer, flags=re.MULTILINE)
        told = "".join(one["delta"].get("content") or "" for event in events for one in json.loads(event)["choices"])
        assert told == "".join(said)
        assert "data: [DONE]" in answer
        assert first["completion_tokens"] < 400, "the other one's: an answer that is not read yet is not over"
        assert server.wait_for_outcome(2)["outcome"] == "ok"


def _noted(server: Server, request_id: str) -> dict[str, Any]:
    """Return the log's line about a request that ended; it is written behind the record."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        lines = [line for line in server.stderr.read_text().split("\n")[:-1] if request_id in line]
        if lines:
            return dict(json.loads(lines[-1]))
        time.sleep(0.02)
    raise AssertionError("nothing was logged")


def test_what_a_caller_did_not_take_is_not_recorded_as_delivered(server: Server) -> None:
    """Scenario: a caller pauses, the engine ends its long answer meanwhile, and the caller hangs up."""
    before = len(server.outcomes())
    said = tuple(f"{number:05} " + "x" * 8000 for number in range(400))
    server.engine.script = Script(pieces=said)
    paused = _raw(server, {"stream": True})
    assert server.engine.started.wait(60)
    time.sleep(1)  # for the engine to say all of it, 3 MB
    paused.close()

    ended = server.wait_for_outcome(before + 1)

    assert (ended["outcome"], ended["status"]) == ("cancelled", 499)
    noted = _noted(server, ended["request_id"])
    assert noted["error"] == "caller_left"
    assert 0 < noted["response_length"] < len("".join(said)) - len(said[0])


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_body_without_an_end_is_refused_at_its_limit_and_harms_nobody(
    server: Server, client: openai.OpenAI, *, is_chunked: bool
) -> None:
    piece = b" " * (64 << 10)
    framed = b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece
    told = b"transfer-encoding: chunked" if is_chunked else b"content-length: 100000000"
    host, _, port = server.url.removeprefix("http://").partition(":")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: box\r\nauthorization: Bearer %b\r\n%b\r\n\r\n"
    sent = 0
    with socket.create_connection((host, int(port)), timeout=30) as caller:
        caller.sendall(head % (server.key.encode(), told))
        with suppress(ConnectionError):  # it hangs up on what it does not read
            while sent < 100 << 20 and not select.select([caller], [], [], 0)[0]:
                caller.sendall(framed)
                sent += len(piece)
        answer = caller.recv(4096)
        other = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 32 << 20, "it was not read to its end"
    assert other.choices[0].message.content == "You said: hello"


def test_many_callers_at_once_get_their_own_answers(server: Server) -> None:
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, timeout=60) as client:
            text = f"I am {100 + number}-45-6789"
            stream = client.chat.completions.create(model=MODEL, messages=_messages(text), stream=True)
            answers[number] = "".join(one.choices[0].delta.content or "" for one in stream)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert answers == {number: f"You said: I am {100 + number}-45-6789" for number in range(24)}


def test_one_connection_serves_many_requests(server: Server) -> None:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
    headers = {"X-Api-Key": server.key}

    for body in ({"stream": True}, {}, {"temperature": 9}, {}):
        content = json.dumps({"model": MODEL, "messages": _messages("hi"), **body})
        connection.request("POST", "/v1/chat/completions", body=content, headers=headers)
        response = connection.getresponse()
        response.read()
        assert response.status == (400 if "temperature" in body else 200)
        assert not response.will_close
    connection.close()


def _seconds_until(holds: Callable[[], bool]) -> float:
    """Return after how many seconds it holds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + 60
        time.sleep(0.05)
    return time.monotonic() - began


def test_a_revoked_key_is_out_within_two_seconds(server: Server, client: openai.OpenAI) -> None:
    taken = []
    # The median, here and below: other work on this machine must not decide, and one quick try is not how it is.
    for number in range(2, 7):
        name = f"revokeme2{number}"
        mine = client.with_options(api_key=server.add_key(key_text(name)))
        mine.models.list()

        server.happen("key.revoked", {"key_id": name, "reason": "left"})

        taken.append(_seconds_until(partial(_is_out, mine)))
    assert median(taken) < 2, taken


def _is_out(client: openai.OpenAI) -> bool:
    try:
        client.models.list()
    except openai.AuthenticationError:
        return True
    return False


def test_a_stop_and_a_new_promotion_are_in_force_within_two_seconds(server: Server, client: openai.OpenAI) -> None:
    def until_there_are(models: list[str]) -> float:
        return _seconds_until(lambda: [one.id for one in client.models.list()] == models)

    stopping, promoting = list[float](), list[float]()
    for _ in range(3):
        server.happen("promotion.stopped", {"previous": MODEL_DIGEST, "person": "ada", "reason": "test"})
        stopping.append(until_there_are([]))
        with pytest.raises(openai.InternalServerError) as stopped:
            client.chat.completions.create(model=MODEL, messages=_messages("x"))
        server.promote()
        promoting.append(until_there_are([MODEL, "production"]))

        assert stopped.value.code == "no_model"
        assert client.chat.completions.create(model=MODEL, messages=_messages("x")).choices
    assert max(median(stopping), median(promoting)) < 2, (stopping, promoting)


def test_metrics_are_on_loopback_and_for_this_machine_only(server: Server) -> None:
    assert b"llm_requests_total" in _get(f"127.0.0.1:{server.metrics_port}")[1]
    assert _get(server.url.removeprefix("http://"))[0] == 404
    assert b"llm_requests_total" in _over_unix(server, b"")
    assert b"404" in _over_unix(server, b"X-Forwarded-For: 10.0.0.1\r\n").split(b"\r\n")[0]


def _get(address: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", "/metrics")
    with connection.getresponse() as response:
        found = response.status, response.read()
    connection.close()
    return found


def _over_unix(server: Server, headers: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(server.site.places.socket("gateway")))
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + b"\r\n")
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_what_cannot_be_parsed_is_not_quoted_in_the_log(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    for request in (
        b"GET /%b HTTP/9.9\r\n\r\n" % CANARY.encode(),
        b"GET / HTTP/1.1\r\nAuthorization Bearer %b\r\n\r\n" % CANARY.encode(),
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n%b"
        % CANARY.encode(),
    ):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(request)
            connection.settimeout(60)
            assert b" 400 " in connection.recv(4096) or b" 505 " in connection.recv(4096)


def test_the_log_is_json_lines_without_content(server: Server, client: openai.OpenAI) -> None:
    client.chat.completions.create(model=MODEL, messages=_messages(f"{CANARY} {TEXT}"), user="heron-user")

    text = server.stderr.read_text()
    assert all(json.loads(line)["event"] for line in text.splitlines() if line.startswith("{"))
    assert '"event":"llm_request"' in text
    assert not any(canary in text for canary in (CANARY, "6789", "12345678", "heron-user", server.key))


def test_without_a_ledger_nothing_is_answered_and_with_it_all_is_again(tmp_path: Path) -> None:
    with gateway_server(tmp_path) as server:
        body = json.dumps({"model": MODEL, "messages": _messages("hi")})
        door = server.site.places.socket("ledger-gateway")
        hidden = door.with_suffix(".away")

        def ask() -> int:
            connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
            connection.request("POST", "/v1/chat/completions", body=body, headers={"X-Api-Key": server.key})
            with connection.getresponse() as response:
                response.read()
            connection.close()
            return response.status

        door.rename(hidden)
        assert ask() == 503
        hidden.rename(door)
        assert ask() == 200


def _held_up(server: Server, *, breaks_off: bool = False) -> tuple[threading.Event, socket.socket, socket.socket]:
    """Ask for a streamed and a whole answer; return what lets the engine go on, and both once it was asked.

    Where it `breaks_off` then, both are streamed.
    """
    hold = threading.Event()
    server.engine.script = Script(hold=hold, done=not breaks_off)
    streamed, whole = (_raw(server, {"stream": stream}) for stream in (True, breaks_off))
    deadline = time.monotonic() + 30
    while len(server.engine.asked) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return hold, streamed, whole


def test_a_gateway_that_is_told_to_stop_lets_answers_come_to_their_ends(tmp_path: Path) -> None:
    with gateway_server(tmp_path) as server:
        hold, streamed, whole = _held_up(server)

        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)  # it has stopped taking requests in by now, and still stands for those that it has
        running = server.process.poll() is None
        hold.set()
        answers = [_rest(streamed), _rest(whole)]

        assert running
        assert server.process.wait(30) == 0
        assert answers[0].endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert b"You said: hello" in answers[1]
        assert [one["outcome"] for one in server.outcomes()] == ["ok", "ok"]


def test_answers_that_do_not_end_in_time_end_with_an_error_that_says_so_and_are_recorded(tmp_path: Path) -> None:
    """Scenario: a restart while a slow model writes for minutes, and others wait for its one place."""
    with gateway_server(tmp_path, limits="concurrent_requests = 2\nqueue_length = 4", graceful_seconds=5) as server:
        hold, streamed, whole = _held_up(server)
        waiting = _raw(server, {"stream": False})
        time.sleep(0.5)

        server.process.send_signal(signal.SIGTERM)
        answers = [_rest(streamed), _rest(whole), _rest(waiting)]

        assert server.process.wait(30) == 0
        assert all(b'"code":"stopping"' in answer.replace(b": ", b":") for answer in answers), answers
        assert answers[0].startswith(b"HTTP/1.1 200")
        assert answers[0].endswith(b"\r\n0\r\n\r\n")
        assert all(answer.startswith(b"HTTP/1.1 503") and b"retry-after: 2" in answer.lower() for answer in answers[1:])
        assert [(one["outcome"], one["status"]) for one in server.outcomes()] == 2 * [("cancelled", 503)]
        (refused,) = server.doors[0].find(kind="request.refused", limit=5)
        assert (refused.body["code"], refused.body.get("arm", "")) == ("stopping", "")
        hold.set()


def test_an_engine_that_goes_while_the_gateway_stops_has_failed_nobody(tmp_path: Path) -> None:
    """Scenario: all of the box stops; the engine breaks off what it began, and is not there for who waits."""
    with gateway_server(tmp_path, limits="concurrent_requests = 2\nqueue_length = 4", graceful_seconds=5) as server:
        hold, *streamed = _held_up(server, breaks_off=True)
        waiting = _raw(server, {"stream": False})
        time.sleep(0.5)

        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        server.engine.path.unlink()
        hold.set()
        answers = [_rest(one) for one in (*streamed, waiting)]

        assert server.process.wait(30) == 0
        assert all(b'"code":"stopping"' in answer.replace(b": ", b":") for answer in answers), answers
        assert [(one["outcome"], one["status"]) for one in server.outcomes()] == 2 * [("cancelled", 503)]
        (refused,) = server.doors[0].find(kind="request.refused", limit=5)
        assert (refused.body["code"], refused.body.get("arm", "")) == ("stopping", "")


def _rest(connection: socket.socket) -> bytes:
    """Return all that comes until the other side closes."""
    connection.settimeout(30)
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_gateway_answers_on_the_core_that_its_unit_names(tmp_path: Path) -> None:
    core = max(os.sched_getaffinity(0))
    with gateway_server(tmp_path, core=core) as server:
        asked = [_raw(server, {}) for _ in range(4)]
        for connection in asked:
            with connection:
                assert connection.recv(12) == b"HTTP/1.1 200"
        (worker,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        threads = [int(task.name) for task in Path(f"/proc/{worker}/task").iterdir()]
        cores = {thread: os.sched_getaffinity(thread) for thread in threads}

    assert len(cores) > len(asked)
    assert all(allowed == {core} for allowed in cores.values()), cores


def test_the_example_asks_and_names_the_record(server: Server) -> None:
    environment = {"PATH": os.environ["PATH"], "SEALIFT_KEY": server.key, "SEALIFT_URL": f"{server.url}/v1"}
    command = [sys.executable, str(ROOT / "examples/ask.py"), "hello there"]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)

    assert (done.returncode, done.stdout) == (0, "You said: hello there\n"), done.stderr
    assert re.search(r"x-request-id: req_[a-z2-7]{26}\n", done.stderr)
    assert f"x-model-version: {MODEL_DIGEST}" in done.stderr
