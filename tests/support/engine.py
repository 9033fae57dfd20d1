"""A deterministic engine that speaks the whole contract over a Unix socket, and can be told to misbehave.

Its model repeats what it was last told. A token is a word with the space around it, so counts are plain.
"""

import base64
import json
import math
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from appliance.serve.engine import BEYOND_OPENAI
from tests.support.decoder import example_of
from tests.support.unix_http import QuietHandler, QuietServer, serving

MODEL_DIGEST = "ab" * 32
WEIGHTS_DIGEST = "cd" * 32
DIMENSIONS = 8
EMBEDDED_TOKENS = 32_768  # of one text, at most
_TOKEN = re.compile(r"\s*\S+|\s+")


@dataclass(slots=True, kw_only=True)
class Script:
    """How the next answers are made.

    Attributes:
        text: What to say; the last message is repeated when absent.
        pieces: What to say, cut exactly so.
        tool_calls: Tool calls to stream, as OpenAI's deltas, each cut in the middle of its arguments.
        hold: Wait for this before the first token.
        tear_after: Break the connection after so many pieces.
        tear_inside: Break the connection in the middle of a whole answer, after its head.
        error_after: Report a failure after so many pieces.
        refuse: Answer with this HTTP status and error code.
        counts: Whether usage is told.
        usage: What is told as usage instead of what was counted.
        events: Send these events and nothing else.
        done: Whether a stream ends with `[DONE]`.
    """

    text: str | None = None
    pieces: tuple[str, ...] | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    hold: threading.Event | None = None
    tear_after: int | None = None
    tear_inside: bool = False
    error_after: int | None = None
    refuse: tuple[int, str] | None = None
    counts: bool = True
    usage: Mapping[str, int] | None = None
    events: tuple[Any, ...] | None = None
    done: bool = True


THINKING_ALOUD: tuple[Any, ...] = (
    {"choices": [{"index": 0, "delta": {"role": "assistant"}}]},
    {"choices": [{"index": 0, "delta": {"reasoning_content": "Let me see."}}]},
    {"choices": [{"index": 0, "delta": {"content": "So."}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
)
"""The events of a model that thinks aloud."""


@dataclass(slots=True)
class FakeEngine:
    """A running engine. `asked` holds every body, `cancelled` is set when a caller left before its answer was whole."""

    path: Path
    n_ctx: int = 4096
    script: Script = field(default_factory=Script)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)
    is_ready: bool = True
    takes: tuple[str, ...] | None = BEYOND_OPENAI
    model: Any = None
    model_digest: str = MODEL_DIGEST
    weights_digest: str = WEIGHTS_DIGEST
    prompt_tokens: int = 0
    answer_tokens: int = 0
    tells_figures: bool = True

    @property
    def embedded(self) -> list[Any]:
        """The inputs of every request for embeddings, oldest first."""
        return [body["input"] for route, body in self.asked if route == "/v1/embeddings"]

    @property
    def last(self) -> dict[str, Any]:
        """The body of the last generation that was asked for."""
        return next(body for route, body in reversed(self.asked) if route.endswith("completions"))


def tokens(text: str) -> list[str]:
    """Cut a text into the fake model's tokens."""
    return _TOKEN.findall(text)


class _RefusedError(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class _CallerLeftError(Exception):
    pass


class _Server(QuietServer):
    engine: FakeEngine


class _Handler(QuietHandler, BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        engine = self.server.engine
        match self.path:
            case "/health":
                self.send_json({"status": "ok" if engine.is_ready else "loading"}, 200 if engine.is_ready else 503)
            case "/v1/models":
                self.send_json({"object": "list", "data": [{"id": engine.model_digest, "object": "model"}]})
            case "/metrics" if engine.tells_figures:
                self._send_metrics()
            case "/sealift/v1/status":
                self.send_json(
                    {
                        "model_digest": engine.model_digest,
                        "weights_digest": engine.weights_digest,
                        "stage": "production",
                        "state": "ready",
                        "n_ctx": engine.n_ctx,
                        **({} if engine.takes is None else {"takes": list(engine.takes)}),
                        **({} if engine.model is None else {"model": engine.model}),
                    }
                )
            case _:
                self._error(404, "not_found")

    def do_POST(self) -> None:
        engine = self.server.engine
        try:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if not isinstance(body, dict):
                raise _RefusedError(400, "invalid_json")
            engine.asked.append((self.path, body))
            match self.path:
                case "/v1/chat/completions" | "/v1/completions":
                    self._generate(body, engine.script)
                case "/v1/embeddings":
                    self._embed(body, engine.script)
                case "/sealift/v1/tokenize":
                    self.send_json({"tokens": len(tokens(_prompt(body)))})
                case "/sealift/v1/score":
                    self.send_json(_scores(body))
                case _:
                    self._error(404, "not_found")
        except json.JSONDecodeError:
            self._error(400, "invalid_json")
        except _RefusedError as refused:
            self._error(refused.status, refused.code)
        except (_CallerLeftError, OSError):
            engine.cancelled.set()
            self.close_connection = True

    def _send_metrics(self) -> None:
        engine = self.server.engine
        told = f"vllm:prompt_tokens_total {engine.prompt_tokens}\nvllm:generation_tokens_total {engine.answer_tokens}\n"
        self.send_response(200)
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told.encode())

    def _generate(self, body: Mapping[str, Any], script: Script) -> None:
        script = _of_form(body, script)
        if script.refuse is not None:
            raise _RefusedError(*script.refuse)
        prompt = _prompt(body)
        count = len(tokens(prompt))
        if count >= self.server.engine.n_ctx:
            raise _RefusedError(400, "context_length_exceeded")
        chat = self.path == "/v1/chat/completions"
        said, reason = _said(body, script)
        self.server.engine.started.set()
        answers = body.get("n") or 1
        made = len(said) * answers
        usage = {"prompt_tokens": count, "completion_tokens": made, "total_tokens": count + made}
        usage = dict(script.usage or usage)
        self.server.engine.prompt_tokens += usage.get("prompt_tokens", 0)
        self.server.engine.answer_tokens += usage.get("completion_tokens", 0)
        top = (body.get("top_logprobs") or 0) if chat and body.get("logprobs") is True else None
        if body.get("stream"):
            told = usage if script.counts else None
            self._stream(said, reason, chat=chat, script=script, usage=told, answers=answers, top=top)
            return
        self._wait(script)
        if script.error_after is not None:
            raise _RefusedError(500, "engine_failed")
        if script.tear_after is not None:
            self._tear()
            return
        calls = [{**call, "type": "function"} for call in script.tool_calls]
        message = {"role": "assistant", "content": "".join(said), **({"tool_calls": calls} if calls else {})}
        choice: dict[str, Any] = {"message": message} if chat else {"text": "".join(said)}
        if top is not None:
            choice["logprobs"] = _likely(said, top)
        choices = [{"index": index, **choice, "finish_reason": reason} for index in range(answers)]
        answer = {"id": "x", "choices": choices, "usage": usage}
        if script.events is not None:
            answer = script.events[0]
        self.send_json(answer, keep=0.5 if script.tear_inside else 1.0)
        if script.tear_inside:
            self._tear()

    def _embed(self, body: Mapping[str, Any], script: Script) -> None:
        if script.refuse is not None:
            raise _RefusedError(*script.refuse)
        if any(len(text) > EMBEDDED_TOKENS for text in body["input"]):
            raise _RefusedError(400, "context_length_exceeded")
        self.server.engine.started.set()
        self._wait(script)
        if script.tear_after is not None:
            self._tear()
            return
        made = _vectors(body["input"], counts=script.counts)
        if body.get("encoding_format") == "float":
            raws = [(one, base64.b64decode(one["embedding"])) for one in made["data"][::-1]]
            made["data"] = [{**one, "embedding": struct.unpack(f"<{DIMENSIONS}f", raw)} for one, raw in raws]
        self.send_json(made if script.events is None else script.events[0])

    def _stream(
        self,
        said: list[str],
        reason: str,
        *,
        chat: bool,
        script: Script,
        usage: dict[str, int] | None,
        answers: int,
        top: int | None,
    ) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if script.events is not None:
            for event in script.events:
                self._event(event)
        else:
            for event in _events(said, reason, chat=chat, script=script, wait=self._wait, usage=usage, top=top):
                if event is None:
                    self._tear()
                    return
                for index in range(answers if event.get("choices") else 1):
                    self._event(
                        {**event, "choices": [{**one, "index": index} for one in event.get("choices", [])]}
                        if index
                        else event
                    )
        if script.done:
            self._chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, event: Any) -> None:
        self._require_caller()
        self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n" if not isinstance(event, bytes) else event)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _wait(self, script: Script) -> None:
        deadline = time.monotonic() + 20
        while script.hold is not None and not script.hold.wait(0.005) and time.monotonic() < deadline:
            self._require_caller()
        self._require_caller()

    def _require_caller(self) -> None:
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP)
        if poll.poll(0):
            raise _CallerLeftError

    def _tear(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _error(self, status: int, code: str) -> None:
        said = {"message": "a text that quotes the prompt", "code": code, "param": "a_word_of_the_prompt"}
        self.send_json({"error": said}, status)


def _prompt(body: Mapping[str, Any]) -> str:
    if isinstance(body.get("prompt"), str):
        return str(body["prompt"])
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _RefusedError(400, "invalid_value")
    told = body.get("tools") if body.get("tool_choice") != "none" else None
    called = [{name: one[name] for name in ("content", "tool_calls") if one.get(name)} for one in messages]
    said = [one.get("content") or "" if "tool_calls" not in one else json.dumps(one) for one in called]
    lines = "".join(f"<{one['role']}> {text}\n" for one, text in zip(messages, said, strict=True))
    return lines + (json.dumps(told) if told else "")


def _of_form(body: Mapping[str, Any], script: Script) -> Script:
    """Return what makes an answer of the form that was asked for, or a call; the script where that says what to say."""
    if script.text is not None or script.pieces is not None or script.tool_calls or script.events is not None:
        return script
    wanted, choice = body.get("response_format") or {}, body.get("tool_choice")
    if wanted.get("type") == "json_schema":
        schema = wanted["json_schema"]["schema"]
        return replace(script, text=json.dumps(example_of(schema, schema.get("$defs", {})), separators=(",", ":")))
    if isinstance(choice, dict) or choice == "required":
        named = choice["function"]["name"] if isinstance(choice, dict) else body["tools"][0]["function"]["name"]
        (called,) = (one["function"] for one in body["tools"] if one["function"]["name"] == named)
        arguments = json.dumps(example_of(called.get("parameters") or {"type": "object"}, {}))
        call = {"id": "call_made", "function": {"name": named, "arguments": arguments}}
        return replace(script, text="", tool_calls=(call,))
    return script


def _likely(said: list[str], top: int) -> dict[str, Any]:
    """Return the probabilities of tokens: each as likely as the next, and likelier than others."""
    found = []
    for token in said:
        one = {"token": token, "logprob": -0.5, "bytes": [*token.encode(errors="surrogatepass")]}
        others = [{"token": f"{token}{place}", "logprob": -0.5 - place, "bytes": None} for place in range(1, top)]
        found.append({**one, "top_logprobs": [one, *others][:top]})
    return {"content": found}


def _said(body: Mapping[str, Any], script: Script) -> tuple[list[str], str]:
    if script.pieces is not None:
        return list(script.pieces), "stop"
    last = body["prompt"] if "prompt" in body else body["messages"][-1].get("content") or ""
    text = script.text if script.text is not None else f"You said: {last}"
    stops = body.get("stop") or []
    cuts = [text.index(stop) for stop in ([stops] if isinstance(stops, str) else stops) if stop in text]
    said = tokens(text[: min(cuts)] if cuts else text)
    limit = body.get("max_tokens", 256)
    if len(said) > limit:
        return said[:limit], "length"
    return said, "tool_calls" if script.tool_calls else "stop"


def _events(
    said: list[str],
    reason: str,
    *,
    chat: bool,
    script: Script,
    wait: Any,
    usage: dict[str, int] | None,
    top: int | None,
) -> Iterator[dict[str, Any] | None]:
    def choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        content: dict[str, Any] = {"delta": delta} if chat else {"text": delta.get("content", "")}
        if top is not None and delta.get("content"):
            content["logprobs"] = _likely([delta["content"]], top)
        return {"id": "x", "choices": [{"index": 0, **content, "finish_reason": finish}], "usage": None}

    if chat:
        yield choice({"role": "assistant", "content": ""})
    wait(script)
    for place, piece in enumerate(said):
        if place == script.error_after:
            yield {"error": {"message": piece, "code": "engine_failed"}}
            return
        if place == script.tear_after:
            yield None
        yield choice({"content": piece})
    for index, call in enumerate(script.tool_calls):
        arguments = call["function"]["arguments"]
        half = len(arguments) // 2
        named = {"index": index, "id": call["id"], "type": "function"}
        yield choice({"tool_calls": [named | {"function": {"name": call["function"]["name"], "arguments": ""}}]})
        for piece in (arguments[:half], arguments[half:]):
            yield choice({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield choice({}, reason)
    if usage is not None:
        yield {"id": "x", "choices": [], "usage": usage}


def _vectors(texts: list[Any], *, counts: bool) -> dict[str, Any]:
    """Return a vector for each text: how often each letter is in it, by its number modulo `DIMENSIONS`."""
    rows = []
    for index, text in enumerate(texts):
        row = [0.0] * DIMENSIONS
        for letter in text:
            row[(ord(letter) if isinstance(letter, str) else letter) % DIMENSIONS] += 1
        length = math.sqrt(sum(one * one for one in row))
        raw = struct.pack(f"<{DIMENSIONS}f", *(one / length for one in row))
        count = {"tokens": len(text)} if counts else {}
        rows.append({"index": index, "embedding": base64.b64encode(raw).decode(), **count})
    usage = {"prompt_tokens": sum(map(len, texts))} if counts else None
    return {"object": "list", "data": rows[::-1], "usage": usage}  # the order is told by the index alone


def _scores(body: Mapping[str, Any]) -> dict[str, Any]:
    prompt, continuations = body.get("prompt"), body.get("continuations")
    if not isinstance(prompt, str) or not isinstance(continuations, list):
        raise _RefusedError(400, "invalid_value")
    counts = [max(1, len(tokens(one))) for one in continuations]
    # What the prompt already holds is likelier.
    return {
        "log_likelihoods": [
            -count * (0.25 if one.strip() in prompt else 2.0) for one, count in zip(continuations, counts, strict=True)
        ],
        "tokens": counts,
    }


def serve_on(listener: socket.socket, engine: FakeEngine, *, ready: Callable[[], None]) -> None:
    """Serve on a socket that listens already, without end."""
    server = _Server(str(engine.path), _Handler, bind_and_activate=False)
    server.socket.close()
    server.socket, server.engine = listener, engine
    ready()
    server.serve_forever(poll_interval=0.02)


@contextmanager
def fake_engine(path: Path, **settings: Any) -> Iterator[FakeEngine]:
    """Run an engine on a Unix socket until the block ends."""
    engine = FakeEngine(path=path, **settings)
    server = _Server(str(path), _Handler)
    server.engine = engine
    with serving(server):
        try:
            yield engine
        finally:
            if engine.script.hold is not None:
                engine.script.hold.set()
