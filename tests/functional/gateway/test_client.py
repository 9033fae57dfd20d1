"""The Python client, and `sealift run` and `chat`, against a gateway over TCP."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from appliance.cli.chat import _go_on_after
from appliance.cli.context import Context
from appliance.cli.main import build
from appliance.client import InferenceClient, ToolCall
from appliance.errors import ServiceError
from media.errors import UsageError
from tests.support import tls
from tests.support.engine import MODEL_DIGEST, THINKING_ALOUD, Script
from tests.support.gateway import MODEL, Rig, gateway
from tests.support.mailrelay import certificate, certified

SECRET = "kestrel-prompt"
SILENT = "the service was silent for longer than it is waited for"
HELLO = [{"role": "user", "content": "hello"}]
PLACES = ("Oslo", "Bergen")
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway on loopback."""

    rig: Rig
    url: str


@dataclass(slots=True)
class Service:
    """What answers every question with one status, or not before it is told to; it counts them."""

    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None
    sends_half: bool = False
    asked: int = 0
    url: str = ""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        Request(environ).get_data()
        self.asked += 1
        if self.hold is not None and not self.sends_half:
            self.hold.wait(20)
        headers = {**self.headers, "x-request-id": "req_service"}
        body = self._half() if self.sends_half else [b'{"error": {"code": "busy", "message": "wait"}}']
        return Response(body, self.status, headers)(environ, start_response)

    def _half(self) -> Iterator[bytes]:
        yield b'{"choices": '
        if self.hold is not None:
            self.hold.wait(20)


@pytest.fixture
def site(rig: Rig) -> Iterator[Site]:
    with _served(rig.app) as url:
        yield Site(rig, url)


@contextmanager
def _service(**options: Any) -> Iterator[Service]:
    service = Service(**options)
    with _served(service) as service.url:
        try:
            yield service
        finally:
            if service.hold is not None:
                service.hold.set()


@contextmanager
def _served(app: Any) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _client(site: Site, sleep: Callable[[float], Any] = lambda _: None, **options: Any) -> InferenceClient:
    return InferenceClient(site.url, site.rig.key, sleep=sleep, **options)


def _call(index: int, place: str) -> dict[str, Any]:
    """Return a call as an engine makes it."""
    function = {"name": "weather", "arguments": json.dumps({"at": place})}
    return {"index": index, "id": f"c{index}", "type": "function", "function": function}


def _failure(service: Service, waits: list[float], **options: Any) -> ServiceError:
    """Ask, which must fail; return the error."""
    with (
        InferenceClient(service.url, "k", sleep=waits.append, **options) as client,
        pytest.raises(ServiceError) as caught,
    ):
        client.complete("hello")
    return caught.value


def test_an_answer_names_its_record_its_version_and_its_tokens(site: Site) -> None:
    with _client(site, user="nurse-7") as client:
        answer = client.complete("hello", system="be brief")

    asked = site.rig.engine.last
    assert answer.content == "You said: hello"
    assert (answer.model, answer.model_version, answer.finish_reason) == (MODEL, MODEL_DIGEST, "stop")
    assert answer.usage is not None
    assert site.rig.bodies("request.intent")[0]["request_id"] == answer.request_id
    assert site.rig.bodies("request.intent")[0]["user_hash"]
    assert (asked["temperature"], asked["max_tokens"], asked["top_p"]) == (0.0, 2048, 0.95)
    assert asked["messages"][0] == {"role": "system", "content": "be brief"}


def test_a_person_may_have_any_name_that_fits_a_line(site: Site) -> None:
    for name in ("Łukasz Müller", "山田"):
        with _client(site, user=name) as client:
            client.complete("hello")
        hashed = site.rig.keys.hmac("identity-hmac", name.encode()).hex()
        assert site.rig.bodies("request.intent")[-1]["user_hash"] == hashed
    for name in ("a\nb", "\ud800"):
        with _client(site, user=name) as client, pytest.raises(ServiceError, match="fits no header"):
            client.complete("hello")


def test_a_key_that_is_none_is_in_no_error(site: Site) -> None:
    with _client(site) as client:
        assert client.complete("hello").content
    with InferenceClient(site.url, f"{site.rig.key}\n") as client:
        assert client.complete("hello").content, "a file's last line has an end"
    for key in (f"secret\n{site.rig.key}", "sécret", "secret\x7f"):
        with pytest.raises(ServiceError) as caught:
            InferenceClient(site.url, key)
        said = f"{caught.value.what}{caught.value.why}{caught.value.fix}"
        assert "cret" not in said


def test_a_stream_gives_text_as_it_is_written_and_the_answer_at_the_end(site: Site) -> None:
    site.rig.engine.script = Script(pieces=("one ", "two ", "three"))
    with _client(site) as client:
        stream = client.stream_complete("count")
        pieces = list(stream)

    assert "".join(pieces) == stream.answer.content == "one two three"
    assert len(pieces) > 1
    assert stream.answer.usage is not None
    assert stream.answer.request_id.startswith("req_")


def test_thoughts_are_beside_the_answer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.rig.engine.script = Script(events=THINKING_ALOUD)
    heard: list[str] = []
    with _client(site) as client:
        stream = client.stream_complete("why?")
        stream.on_thought = heard.append
        pieces = list(stream)
    monkeypatch.setenv("SEALIFT_KEY", site.rig.key)
    done = CliRunner().invoke(build(), ["run", "why?", "--url", site.url])
    as_json = CliRunner().invoke(build(), ["--json", "run", "why?", "--url", site.url])
    site.rig.promote(engine="llama.cpp")
    CliRunner().invoke(build(), ["run", "why?", "--url", site.url, "--no-think"])

    assert (pieces, heard, stream.answer.thoughts) == (["So."], ["Let me see."], "Let me see.")
    assert done.stdout == "So.\n"
    assert "Let me see." in done.stderr
    assert json.loads(as_json.stdout)["thoughts"] == "Let me see."
    assert site.rig.engine.last["thoughts"] == "none"


def test_a_terminal_obeys_nothing_that_a_model_thinks(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    thought = [
        {"index": 0, "delta": {"reasoning_content": "\x1b]0;mine\x07\x9b2J :smile: [red]x"}, "finish_reason": None}
    ]
    cut = [{"index": 0, "delta": {}, "finish_reason": "length"}]
    site.rig.engine.script = Script(events=({"choices": thought}, {"choices": cut}))
    monkeypatch.setenv("SEALIFT_KEY", site.rig.key)
    done = CliRunner().invoke(build(), ["run", "why?", "--url", site.url])

    shown, _, origin = done.stderr.partition("\n")
    assert shown == "]0;mine2J :smile: [red]x"
    assert origin.lstrip().startswith("req_")


def test_a_stream_that_breaks_off_is_an_error_and_no_answer(site: Site) -> None:
    site.rig.engine.script = Script(pieces=("one ", "two "), error_after=1)
    with _client(site) as client:
        stream = client.stream_complete("count")
        with pytest.raises(ServiceError) as broken:
            list(stream)

    assert (broken.value.what, broken.value.service_code) == ("the answer broke off", "engine_error")
    assert broken.value.why == "engine_error: The engine failed in the middle of an answer."
    assert broken.value.request_id.startswith("req_")
    with pytest.raises(ServiceError):
        _ = stream.answer


@pytest.mark.parametrize(
    ("code", "told", "hint"),
    [("context_length_exceeded", "context_length_exceeded", True), ("odd", "engine_refused", False)],
)
def test_what_an_engine_refuses_behind_a_streams_head_is_a_refusal_and_not_to_be_asked_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, code: str, told: str, *, hint: bool
) -> None:
    refusal = {"error": {"message": "no", "type": "invalid_request_error", "code": code}}
    site.rig.engine.script = Script(events=({"choices": [{"index": 0, "delta": {"role": "assistant"}}]}, refusal))
    with _client(site) as client, pytest.raises(ServiceError) as refused:
        list(client.stream_chat(HELLO))
    said: list[str] = []
    _go_on_after(cast("Context", SimpleNamespace(say=said.append)), refused.value, is_typed=True)

    assert refused.value.what == "the service refused the request"
    assert (refused.value.service_code, refused.value.fix) == (told, "see docs/api.md for the code")
    assert any("/new" in one for one in said) is hint


def test_what_fails_for_a_moment_is_asked_again_after_the_wait_that_was_asked_for(site: Site) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        site.rig.ledger.available = True

    site.rig.ledger.available = False
    with _client(site, sleep) as client:
        assert client.complete("hello").content == "You said: hello"
    assert waits == [2.0]


def test_a_service_that_is_away_is_asked_three_times_with_growing_waits() -> None:
    waits: list[float] = []
    with InferenceClient("http://127.0.0.1:9/v1", "k", sleep=waits.append) as client, pytest.raises(ServiceError):
        client.complete("hello")
    assert waits == [2.0, 4.0]


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, 2.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "-1"}, 2.0),
        ({"retry-after": "soon"}, 2.0),
        ({"retry-after": "nan"}, 2.0),
        ({"retry-after": "inf"}, 2.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
    ],
)
def test_a_busy_service_is_asked_again_after_the_wait_that_it_asked_for(headers: dict[str, str], wait: float) -> None:
    waits: list[float] = []
    with _service(status=429, headers=headers) as service:
        refused = _failure(service, waits, attempts=2)

    assert (waits, service.asked) == ([wait], 2)
    assert (refused.http_status, refused.service_code, refused.request_id) == (429, "busy", "req_service")


@pytest.mark.parametrize("headers", [{"retry-after": "121"}, {"retry-after-ms": "120001"}])
def test_a_service_that_asked_for_a_longer_wait_than_anybody_waits_is_not_asked_sooner(headers: dict[str, str]) -> None:
    waits: list[float] = []
    with _service(status=503, headers=headers) as service:
        refused = _failure(service, waits)

    assert (waits, service.asked) == ([], 1)
    assert (refused.fix, refused.may_be_asked_again) == ("ask again in 121 s", True)


def test_a_service_that_wants_no_more_questions_gets_none() -> None:
    waits: list[float] = []
    with _service(status=429, headers={"retry-after": "7", "x-should-retry": "false"}) as service:
        refused = _failure(service, waits)

    assert (waits, service.asked) == ([], 1)
    assert not refused.may_be_asked_again


@pytest.mark.parametrize(("attempts", "asked"), [(0, 1), (1, 1), (2, 2), (5, 5)])
def test_a_question_is_asked_as_often_as_was_agreed(attempts: int, asked: int) -> None:
    waits: list[float] = []
    with _service() as service:
        refused = _failure(service, waits, attempts=attempts)

    assert (service.asked, len(waits)) == (asked, asked - 1)
    assert refused.http_status == 503


def test_the_waits_grow_to_30_seconds_and_no_further() -> None:
    waits: list[float] = []
    with _service() as service:
        _failure(service, waits, attempts=8)

    assert waits == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_service_that_says_nothing_is_asked_again_and_then_reported() -> None:
    waits: list[float] = []
    with _service(hold=threading.Event()) as service:
        silent = _failure(service, waits, timeout_seconds=0.2, attempts=2)

    assert (silent.what, silent.may_be_asked_again) == (SILENT, True)
    assert (silent.http_status, silent.may_be_asked_again, waits) == (0, True, [2.0])


def test_an_answer_that_stops_in_its_middle_is_reported_and_not_asked_for_again() -> None:
    waits: list[float] = []
    with _service(status=200, hold=threading.Event(), sends_half=True) as service:
        broken = _failure(service, waits, timeout_seconds=3.0)

    assert (broken.what, broken.may_be_asked_again) == (SILENT, False)
    assert (broken.request_id, service.asked, waits) == ("req_service", 1, [])


def test_a_refusal_is_not_asked_again_and_says_why(site: Site) -> None:
    waits: list[float] = []
    with _client(site, waits.append) as client, pytest.raises(ServiceError) as refused:
        client.chat([{"role": "user", "content": "x"}], temperature=9)

    assert (refused.value.http_status, refused.value.service_code, waits) == (400, "invalid_value", [])


def test_many_questions_come_back_in_their_order_and_one_failure_stops_no_other(site: Site) -> None:
    site.rig.engine.script = Script()
    with _client(site) as client:
        found = dict(client.batch(["one", "two", "x" * 40000, "four"], at_once=2))

    assert [type(found[n]).__name__ for n in range(4)] == ["Answer", "Answer", "ServiceError", "Answer"]


@pytest.mark.parametrize("number", [2, 8, "2"])
def test_several_answers_at_once_are_refused_before_anything_is_sent(site: Site, number: object) -> None:
    with _client(site) as client:
        asks: tuple[Callable[..., object], ...] = (client.chat, client.stream_chat)
        for ask in asks:
            with pytest.raises(ServiceError, match="one answer to a question"):
                ask(HELLO, n=number)
        assert not site.rig.engine.asked
        assert client.chat(HELLO, n=1).content == "You said: hello"


def test_an_answer_that_would_come_another_way_is_refused_before_anything_is_sent(site: Site) -> None:
    with _client(site) as client:
        for ask, stream in ((client.chat, True), (client.stream_chat, False)):
            with pytest.raises(ServiceError, match="as it was asked for"):
                ask(HELLO, stream=stream)
        assert not site.rig.engine.asked
        assert client.chat(HELLO, stream=False).content == "You said: hello"
        assert "".join(client.stream_chat(HELLO, stream=True)) == "You said: hello"


def test_an_answer_that_was_not_read_to_its_end_is_called_so(site: Site) -> None:
    with _client(site) as client:
        stream = client.stream_chat(HELLO)
        with pytest.raises(ServiceError) as early:
            _ = stream.answer
        stream.close()

    assert early.value.why == "it was not read to its end"
    assert early.value.request_id == stream.request_id


def test_functions_that_a_model_calls_are_in_the_answer_whole_or_streamed(site: Site) -> None:
    site.rig.engine.script = Script(text="", tool_calls=tuple(_call(at, place) for at, place in enumerate(PLACES)))
    with _client(site) as client:
        whole = client.chat(HELLO, tools=TOOLS, parallel_tool_calls=True)
        stream = client.stream_chat(HELLO, tools=TOOLS, parallel_tool_calls=True)
        pieces = list(stream)
        site.rig.engine.script = Script()
        calls = [one.to_json() for one in whole.tool_calls]
        said = {"role": "assistant", "content": whole.content, "tool_calls": calls}
        heard = [{"role": "tool", "tool_call_id": one.id, "content": "rain"} for one in whole.tool_calls]
        plain = client.chat([*HELLO, said, *heard], tools=TOOLS)

    for answer in (whole, stream.answer):
        assert (answer.content, answer.finish_reason, pieces) == ("", "tool_calls", [])
        assert [(one.name, json.loads(one.arguments)) for one in answer.tool_calls] == [
            ("weather", {"at": place}) for place in PLACES
        ]
    sent = site.rig.engine.last["messages"]
    assert [one["id"] for one in sent[1]["tool_calls"]] == [one["tool_call_id"] for one in sent[2:]]
    assert plain.tool_calls == ()


def _fragment(index: object, arguments: str, **first: Any) -> dict[str, Any]:
    """Return a piece of a call; the first one of each has its id and name."""
    name = {"name": first.pop("name")} if first else {}
    return {"index": index, **first, "function": {**name, "arguments": arguments}}


def test_fragments_of_calls_are_joined_by_their_index() -> None:
    fragments = [
        [_fragment(1, "", id="c2", name="pulse"), _fragment(0, '{"at"', id="c1", name="weather")],
        [_fragment(1, '{"of": ')],
        [_fragment(0, ': "Oslo"}'), _fragment(1, "7}")],
    ]
    with _served(_streams(fragments)) as url, InferenceClient(url, "k") as client:
        stream = client.stream_chat(HELLO, tools=TOOLS)
        assert list(stream) == []

    assert stream.answer.tool_calls == (
        ToolCall(id="c1", name="weather", arguments='{"at": "Oslo"}'),
        ToolCall(id="c2", name="pulse", arguments='{"of": 7}'),
    )


@pytest.mark.parametrize(
    "fragments",
    [
        [[_fragment([], "", id="c", name="x")]],
        [[_fragment(0, "", id="c", name=7)]],
        [[_fragment(0, "", id=7, name="x")]],
        [[{"id": "c"}]],
        [7],
        [[_fragment(0, "", id="c", name="x"), _fragment("0", "", id="d", name="y")]],
    ],
    ids=repr,
)
def test_what_are_no_fragments_of_calls_are_no_answer(fragments: list[Any]) -> None:
    with _served(_streams(fragments)) as url, InferenceClient(url, "k") as client:
        stream = client.stream_chat(HELLO, tools=TOOLS)
        with pytest.raises(ServiceError, match="broke off"):
            list(stream)


def test_nesting_without_end_is_no_answer() -> None:
    def service(environ: Any, start_response: Any) -> Any:
        Request(environ).get_data()
        return Response([b"data: ", b"[" * 200_000, b"\n\n"])(environ, start_response)

    with _served(service) as url, InferenceClient(url, "k") as client:
        stream = client.stream_chat(HELLO)
        with pytest.raises(ServiceError, match="broke off"):
            list(stream)


def _streams(fragments: list[Any]) -> Callable[[Any, Any], Any]:
    """Return a service that streams these pieces of calls."""

    def service(environ: Any, start_response: Any) -> Any:
        Request(environ).get_data()
        deltas = [*({"tool_calls": one} for one in fragments), {}]
        choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        choices[-1]["finish_reason"] = "tool_calls"
        events = [json.dumps({"model": MODEL, "choices": [one]}) for one in choices]
        return Response([f"data: {one}\n\n".encode() for one in [*events, "[DONE]"]])(environ, start_response)

    return service


def test_what_was_expected_is_required(site: Site) -> None:
    site.rig.engine.script = Script(text='{"dose": 5}')
    with _client(site) as client:
        assert client.complete("json please").require("json") == {"dose": 5}
        site.rig.engine.script = Script(text="five")
        with pytest.raises(ServiceError, match="not what was expected"):
            client.complete("json please").require("json")


def test_the_log_has_counts_and_no_text(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sealift.client")
    with _client(site) as client:
        client.complete(SECRET)

    lines = [record.getMessage() for record in caplog.records if record.name == "sealift.client"]
    assert any("inference_complete" in line for line in lines)
    assert SECRET not in "".join(lines)


def test_an_answer_that_was_cut_is_logged_as_a_warning_whole_or_streamed(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="sealift.client")
    with _client(site) as client:
        whole = client.complete(f"{SECRET} two three", max_tokens=2)
        stream = client.stream_complete(f"{SECRET} two three", max_tokens=2)
        assert "".join(stream) == whole.content == "You said:"

    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert (whole.finish_reason, whole.is_cut, stream.answer.is_cut) == ("length", True, True)
    assert [record.name for record in warnings] == ["sealift.client"] * 2
    for answer, record in zip((whole, stream.answer), warnings, strict=True):
        assert record.getMessage() == f"the answer was cut at max_tokens id={answer.request_id}"


def test_an_answer_that_ended_by_itself_is_no_warning(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sealift.client")
    with _client(site) as client:
        answer = client.complete("hello")

    assert not answer.is_cut
    assert [record.levelno for record in caplog.records if record.name == "sealift.client"] == [logging.INFO]


def test_a_stop_text_ends_an_answer_whole_or_streamed(site: Site) -> None:
    with _client(site) as client:
        whole = client.complete("one END two", stop=(" END", "never said"))
        asked = site.rig.engine.last["stop"]
        stream = client.stream_complete("one END two", stop=[" END"])
        streamed = "".join(stream)
        of_one_word = client.complete("one END two", stop=" END")
        client.complete("one END two")

    assert (whole.content, streamed, of_one_word.content) == ("You said: one", "You said: one", "You said: one")
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 0
    assert (whole.finish_reason, stream.answer.finish_reason) == ("stop", "stop")
    assert asked == [" END", "never said"]
    assert not site.rig.engine.last.get("stop")


def test_run_prints_the_answer_and_where_it_is_recorded(site: Site, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(site.rig.key + "\n")
    done = CliRunner().invoke(build(), ["run", "-", "--url", site.url, "--key-file", str(key_file)], input="hello")
    as_json = CliRunner().invoke(build(), ["--json", "run", "hello", "--url", site.url, "--key-file", str(key_file)])

    assert done.stdout == "You said: hello\n"
    assert "req_" in done.stderr
    assert json.loads(as_json.stdout)["model_version"] == MODEL_DIGEST


@pytest.mark.parametrize("command", ["run", "chat"])
@pytest.mark.parametrize(("own", "words", "sent"), [(0, [], 300), (200, [], 200), (200, ["--max-tokens", "40"], 40)])
def test_who_names_no_length_at_a_terminal_gets_the_versions_on_any_site(
    tmp_path: Path, command: str, own: int, words: list[str], sent: int
) -> None:
    with gateway(tmp_path, limits="max_tokens = 300\ndefault_max_tokens = 300") as rig, _served(rig.app) as url:
        rig.promote(max_tokens=own)
        key = {"SEALIFT_KEY": rig.key}
        asked = ["run", "hello"] if command == "run" else ["chat"]
        done = CliRunner().invoke(build(), [*asked, "--url", url, *words], input="hello\n\n", env=key)

        assert done.exit_code == 0, done.stderr
        assert rig.engine.last["max_tokens"] == sent


def test_that_an_answer_was_cut_is_said_once(site: Site) -> None:
    words = ["run", "one two three four", "--max-tokens", "2", "--url", site.url]
    command = [sys.executable, "-m", "appliance.cli.main", *words]
    environment = {**os.environ, "SEALIFT_KEY": site.rig.key}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)

    assert done.stdout == "You said:\n"
    assert done.stderr.count("cut at") == 1


def _typed(site: Site, *words: str, encoding: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command where a terminal has that encoding."""
    command = [sys.executable, "-m", "appliance.cli.main", *words, "--url", site.url]
    environment = {**os.environ, "SEALIFT_KEY": site.rig.key, "PYTHONIOENCODING": f"{encoding}:strict"}
    return subprocess.run(command, capture_output=True, timeout=60, check=False, env=environment, input=given)


@pytest.mark.parametrize("words", [("run", "-"), ("chat",)])
def test_a_question_in_another_encoding_is_told_as_such_and_not_asked(site: Site, words: tuple[str, ...]) -> None:
    done = _typed(site, *words, encoding="utf-8", given="Müller\n".encode("latin-1"))

    assert done.returncode == UsageError.exit_code
    assert b"standard input is not utf-8" in done.stderr
    assert not site.rig.engine.asked


def test_an_answer_is_shown_also_where_a_terminal_has_not_all_its_letters(site: Site) -> None:
    site.rig.engine.script = Script(text="10 \u00b5g \u2192 20")
    done = _typed(site, "run", "how much?", encoding="latin-1")

    assert (done.returncode, done.stdout.decode("latin-1")) == (0, "10 \u00b5g \\u2192 20\n")


def test_how_a_token_is_drawn_is_said_from_the_command_line(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEALIFT_KEY", site.rig.key)
    said = ["--top-k", "40", "--min-p", "0.05", "--repeat-penalty", "1.1"]
    done = CliRunner().invoke(build(), ["run", "hello", "--url", site.url, *said])

    asked = site.rig.engine.last
    assert done.exit_code == 0, done.output
    assert (asked["top_k"], asked["min_p"], asked["repetition_penalty"]) == (40, 0.05, 1.1)


def test_whoever_asks_from_a_terminal_says_how_long_a_silence_may_be(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEALIFT_KEY", site.rig.key)
    site.rig.engine.script = Script(hold=threading.Event())
    done = CliRunner().invoke(build(), ["run", "hello", "--url", site.url, "--timeout", "1"])

    assert isinstance(done.exception, ServiceError)
    assert done.exception.what == SILENT
    assert "--timeout" in done.exception.fix


def test_chat_sends_what_was_said_before_until_it_begins_anew(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEALIFT_KEY", site.rig.key)
    done = CliRunner().invoke(build(), ["chat", "--url", site.url], input="one\ntwo\n/new\nthree\n/bye\n")

    assert done.exit_code == 0, done.output
    assert [len(body["messages"]) for _, body in site.rig.engine.asked] == [1, 3, 1]


def test_a_conversation_that_is_wanted_as_json_is_one_document(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEALIFT_KEY", site.rig.key)
    done = CliRunner().invoke(build(), ["--json", "chat", "--url", site.url], input="one\ntwo\n")

    assert [one["content"] for one in json.loads(done.stdout)["answers"]] == ["You said: one", "You said: two"]


def test_a_services_own_words_hold_nothing_that_a_terminal_obeys() -> None:
    def service(environ: Any, start_response: Any) -> Any:
        error = {"message": "no\x1b]0;x\x07\u202egood", "code": "x\x1b[2J", "param": "p\x1b[7m"}
        body = json.dumps({"error": error})
        return Response(body, 400, headers={"x-request-id": "req_\x9b1m"})(environ, start_response)

    with _served(service) as url, InferenceClient(url, "k") as client, pytest.raises(ServiceError) as caught:
        client.chat([{"role": "user", "content": "x"}])

    told = f"{caught.value.why}{caught.value.request_id}"
    assert told.isprintable()
    assert "no]0;xgood" in told


@pytest.mark.parametrize("as_json", [False, True])
def test_a_question_that_fails_where_nobody_types_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    monkeypatch.setenv("SEALIFT_KEY", "k")
    with _service(status=400) as service:
        flags = ["--json"] if as_json else []
        done = CliRunner().invoke(build(), [*flags, "chat", "--url", service.url], input="one\ntwo\n")

    assert done.exit_code != 0
    assert service.asked == 1
    if as_json:
        told = json.loads(done.stdout)
        assert (told["answers"], told["error"]["what"]) == ([], "the service refused the request")


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_conversation_ends_where_the_next_question_would_be_refused_too(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEALIFT_KEY", "k")
    with _service(status=status) as service:
        done = CliRunner().invoke(build(), ["chat", "--url", service.url], input="one\ntwo\n")

    assert isinstance(done.exception, ServiceError)
    assert service.asked == 1


@pytest.mark.parametrize(
    ("arguments", "key", "what"),
    [
        (["hello", "--ca-file", "/nowhere/trust.crt"], "k", "the authority file cannot be used"),
        (["hello", "--ca-file", "README.md"], "k", "the authority file cannot be used"),
        (["hello", "--url", "127.0.0.1:8000/v1"], "k", "the address is not whole"),
        (["hello"], "one\ntwo", "what was given is no API key"),
        (["hello"], "schl\u00fcssel", "what was given is no API key"),
        ([" "], "k", "there is no question"),
    ],
)
def test_what_cannot_be_asked_is_a_mistake_of_usage_and_no_fault_of_ours(
    site: Site, monkeypatch: pytest.MonkeyPatch, arguments: list[str], key: str, what: str
) -> None:
    monkeypatch.setenv("SEALIFT_KEY", key)
    done = CliRunner().invoke(build(), ["run", "--url", site.url, *arguments])

    assert isinstance(done.exception, UsageError)
    assert done.exception.what == what
    assert not site.rig.engine.asked


def test_a_refusal_names_its_parameter_and_an_address_without_its_end_says_so(site: Site) -> None:
    with _client(site) as client, pytest.raises(ServiceError) as refused:
        client.chat([{"role": "user", "content": "x"}], max_tokens=99999)
    with (
        InferenceClient(site.url.removesuffix("/v1"), site.rig.key) as client,
        pytest.raises(ServiceError) as misdirected,
    ):
        client.complete("hello")

    assert refused.value.why.startswith("HTTP 400, invalid_value (max_tokens): ")
    assert misdirected.value.fix == "check the address: it ends in /v1"


def test_a_service_that_nobody_vouches_for_is_asked_once_and_a_name_that_is_not_known_is_called_so(
    tmp_path: Path,
) -> None:
    context = certified(certificate(tmp_path / "service.pem", tls.authority()))
    waits: list[float] = []
    server = make_server("127.0.0.1", 0, Service(), ssl_context=context, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        url = f"https://127.0.0.1:{server.server_port}/v1"
        with InferenceClient(url, "k", sleep=waits.append) as client, pytest.raises(ServiceError) as untrusted:
            client.complete("hello")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    with (
        InferenceClient("http://no-such-box.invalid/v1", "k", attempts=1) as client,
        pytest.raises(ServiceError) as unknown,
    ):
        client.complete("hello")

    assert ": its certificate is not to be trusted: " in untrusted.value.why
    assert waits == []
    assert unknown.value.why.endswith("no name server here knows that name")


def test_without_a_key_nothing_is_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEALIFT_KEY", raising=False)
    done = CliRunner().invoke(build(), ["run", "hello", "--url", site.url])

    assert done.exit_code != 0
    assert not site.rig.engine.asked


def test_no_connection_is_left_open_behind_an_answer_or_a_refusal(site: Site) -> None:
    with _service(status=403) as service:
        with InferenceClient(site.url, site.rig.key) as client:
            stream = client.stream_complete("hello")
            assert "".join(stream)
        with InferenceClient(service.url, "k") as client, pytest.raises(ServiceError) as refused:
            client.complete("hello")

        # As long as both are held nothing but the client can have closed them.
        assert (_left_open(site.url), _left_open(service.url)) == (0, 0), (stream, refused)


def _left_open(url: str) -> int:
    """Return how many connections to a service are open on this side."""
    port = f":{int(url.rpartition(':')[2].partition('/')[0]):04X}"
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(there.endswith(port) and state in {"01", "08"} for _, _, there, state, *_ in lines)
