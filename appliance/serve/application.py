"""The engine's own HTTP: OpenAI's chat and completion routes and `/sealift/v1/*`, on a Unix socket, for the gateway.

It trusts nobody's parameters all the same: sizes are checked, unknown fields are ignored (the gateway's list is the
public contract), and no text of a prompt or an answer enters a log or an error.
"""

import json
import secrets
import select
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from appliance.errors import EngineProtocolError, EngineUnavailableError
from appliance.serve.chat_template import ChatTemplate
from appliance.serve.embedding import Embedding, NotEmbeddedError
from appliance.serve.engine import Decoder, Generation, Piece, Sampling
from appliance.serve.handles import Handle
from appliance.serve.scheduler import Scheduler
from media.clock import Clock
from media.errors import SealiftError

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What one engine process serves."""

    model_digest: str
    weights_digest: str
    stage: str
    name: str
    system_prompt: str
    n_ctx: int
    temperature: float
    top_p: float
    top_k: int = 0
    repeat_penalty: float = 1.0
    stop: tuple[str, ...] = ()


class _RefusedError(Exception):
    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.status = status


def create_engine_app(
    serving: Serving,
    *,
    decoder: Decoder,
    scheduler: Scheduler,
    template: ChatTemplate,
    clock: Clock,
    embedding: Embedding | None = None,
) -> Flask:
    """Return the WSGI application of one loaded version; without `embedding` it makes no embeddings."""
    app = Flask("sealift-engine")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    engine = _Engine(serving=serving, decoder=decoder, scheduler=scheduler, template=template, clock=clock)

    @app.get("/health")
    def health() -> Response:
        if not scheduler.is_alive:
            raise EngineUnavailableError(what="the engine has stopped", why="", fix="see the journal of the unit")
        return jsonify(status="ok")

    @app.get("/v1/models")
    def models() -> Response:
        return jsonify(
            object="list",
            data=[{"id": serving.model_digest, "object": "model", "created": 0, "owned_by": "sealift"}],
        )

    @app.get("/sealift/v1/status")
    def status() -> Response:
        return jsonify(
            model_digest=serving.model_digest,
            weights_digest=serving.weights_digest,
            stage=serving.stage,
            state="ready",
            n_ctx=serving.n_ctx,
            running=scheduler.running,
            waiting=scheduler.waiting,
        )

    @app.post("/v1/chat/completions")
    def chat() -> Response:
        return engine.chat(_body())

    @app.post("/v1/completions")
    def completions() -> Response:
        return engine.complete(_body())

    app.add_url_rule("/v1/embeddings", "embeddings", partial(_embeddings, embedding), methods=["POST"])

    @app.post("/sealift/v1/tokenize")
    def tokenize() -> Response:
        body = _body()
        tokens = (
            engine.chat_tokens(body) if "messages" in body else decoder.tokenize(_text(body, "prompt"), special=False)
        )
        # The numbers themselves are for the gate that looks whether user text became control tokens.
        return jsonify(tokens=tokens if body.get("ids") is True else len(tokens))

    @app.post("/sealift/v1/score")
    def score() -> Response:
        return engine.score(_body())

    @app.errorhandler(_RefusedError)
    def refused(error: _RefusedError) -> tuple[Response, int]:
        return jsonify(
            error={"message": error.message, "type": "invalid_request_error", "code": error.code}
        ), error.status

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> tuple[Response, int]:
        return jsonify(
            error={"message": error.name, "type": "invalid_request_error", "code": "http"}
        ), error.code or 500

    @app.errorhandler(SealiftError)
    def ours(error: SealiftError) -> tuple[Response, int]:
        code = 503 if isinstance(error, EngineUnavailableError) else 500
        return jsonify(
            error={"message": error.what, "type": "server_error", "code": error.code.replace("-", "_")}
        ), code

    return app


def _embeddings(embedding: Embedding | None) -> Response:
    if embedding is None:
        raise _RefusedError("unsupported_model", "this version makes no embeddings", status=404)
    try:
        return jsonify(embedding.answer(_body(), _watch(request.environ)))
    except NotEmbeddedError as error:
        raise _RefusedError(error.code, error.message) from error


class _Engine:
    def __init__(
        self, *, serving: Serving, decoder: Decoder, scheduler: Scheduler, template: ChatTemplate, clock: Clock
    ) -> None:
        self._serving = serving
        self._decoder = decoder
        self._scheduler = scheduler
        self._template = template
        self._clock = clock

    def chat_tokens(self, body: Mapping[str, Any]) -> list[int]:
        messages = _messages(body)
        if self._serving.system_prompt:
            messages = [{"role": "system", "content": self._serving.system_prompt}, *messages]
        return self._template.tokens(messages, lambda text, special: self._decoder.tokenize(text, special=special))

    def chat(self, body: Mapping[str, Any]) -> Response:
        return self._answer(body, self.chat_tokens(body), chat=True)

    def complete(self, body: Mapping[str, Any]) -> Response:
        return self._answer(body, self._decoder.tokenize(_text(body, "prompt"), special=False), chat=False)

    def score(self, body: Mapping[str, Any]) -> Response:
        prompt = self._decoder.tokenize(_text(body, "prompt"), special=False)
        texts = body.get("continuations")
        if not isinstance(texts, list) or not all(isinstance(one, str) and one for one in texts):
            raise _RefusedError("invalid_value", "continuations is a list of texts")
        continuations = [self._decoder.tokenize(one, special=False) for one in texts]
        return jsonify(
            log_likelihoods=self._scheduler.score(prompt, continuations), tokens=[len(one) for one in continuations]
        )

    def _answer(self, body: Mapping[str, Any], tokens: Sequence[int], *, chat: bool) -> Response:
        if not tokens:
            raise _RefusedError("empty_prompt", "the prompt is empty")
        room = self._serving.n_ctx - len(tokens)
        if room < 1:
            raise _RefusedError("context_length_exceeded", f"{len(tokens)} tokens do not fit {self._serving.n_ctx}")
        generation = Generation(
            tokens=tokens,
            max_tokens=min(_integer(body, "max_tokens", 256, low=1), room),
            sampling=Sampling(
                temperature=_number(body, "temperature", self._serving.temperature),
                top_p=_number(body, "top_p", self._serving.top_p),
                top_k=self._serving.top_k,
                repeat_penalty=self._serving.repeat_penalty,
                seed=_integer(body, "seed", secrets.randbits(31), low=-(2**63)),
            ),
            stop=(*_stops(body), *self._serving.stop),
        )
        handle = self._scheduler.submit(generation)
        shape = _Shape(
            chat=chat,
            id=("chatcmpl-" if chat else "cmpl-") + secrets.token_hex(12),
            created=int(self._clock.now().timestamp()),
            model=self._serving.model_digest,
            prompt_tokens=len(tokens),
        )
        has_left = _watch(request.environ)
        if body.get("stream") is True:
            return Response(
                _stream(handle, shape, has_left), mimetype="text/event-stream", headers={"cache-control": "no-cache"}
            )
        return jsonify(_whole(handle, shape, has_left))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    chat: bool
    id: str
    created: int
    model: str
    prompt_tokens: int

    def event(self, choices: list[dict[str, Any]], **extra: Any) -> dict[str, Any]:
        kind = "chat.completion" if self.chat else "text_completion"
        is_chunk = self.chat and "stream" in extra
        extra.pop("stream", None)
        return {
            "id": self.id,
            "object": f"{kind}.chunk" if is_chunk else kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            **extra,
        }

    def usage(self, completion_tokens: int) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
        }


def _watch(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """Return what tells whether the caller of a request has hung up: an answer that is not streamed writes nothing."""
    caller = environ.get("gunicorn.socket")
    if not isinstance(caller, socket.socket) or caller.fileno() < 0:
        return lambda: False
    poll = select.poll()
    poll.register(caller, select.POLLRDHUP)
    return lambda: bool(poll.poll(0))


def _whole(handle: Handle, shape: _Shape, has_left: Callable[[], bool]) -> dict[str, Any]:
    parts: list[str] = []
    last = Piece(text="", completion_tokens=0)
    for last in handle.pieces(has_left):
        parts.append(last.text)
    if last.finish_reason in {"error", "cancelled"}:
        raise EngineProtocolError(
            what="the engine stopped in the middle of an answer", why=str(last.finish_reason), fix="ask again"
        )
    text = "".join(parts)
    content: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if shape.chat else {"text": text}
    choice = {"index": 0, **content, "finish_reason": last.finish_reason, "logprobs": None}
    return shape.event([choice], usage=shape.usage(last.completion_tokens))


def _stream(handle: Handle, shape: _Shape, has_left: Callable[[], bool]) -> Iterator[bytes]:
    def choice(text: str, reason: str | None, *, first: bool = False) -> dict[str, Any]:
        if not shape.chat:
            return {"index": 0, "text": text, "finish_reason": reason, "logprobs": None}
        delta: dict[str, Any] = {"role": "assistant", "content": ""} if first else ({"content": text} if text else {})
        return {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}

    try:
        if shape.chat:
            yield _event(shape.event([choice("", None, first=True)], stream=True, usage=None))
        last = Piece(text="", completion_tokens=0)
        for last in handle.pieces(has_left):
            if last.text:
                yield _event(shape.event([choice(last.text, None)], stream=True, usage=None))
        if last.finish_reason in {"error", "cancelled"}:
            yield _event({"error": {"message": "the engine stopped", "type": "server_error", "code": "engine_stopped"}})
            return
        yield _event(shape.event([choice("", last.finish_reason)], stream=True, usage=None))
        yield _event(shape.event([], stream=True, usage=shape.usage(last.completion_tokens)))
        yield b"data: [DONE]\n\n"
    except EngineProtocolError as error:
        yield _event({"error": {"message": error.what, "type": "server_error", "code": "engine_failed"}})
    finally:
        handle.cancel()


def _event(event: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def _body() -> dict[str, Any]:
    try:
        untrusted = request.get_json(force=True, silent=True)
    except RecursionError:  # nesting without end is no fault of ours
        untrusted = None
    if not isinstance(untrusted, dict):
        raise _RefusedError("invalid_json", "the body is a JSON object")
    return untrusted


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    untrusted = body.get("messages")
    if not isinstance(untrusted, list) or not untrusted:
        raise _RefusedError("invalid_value", "messages is a list that is not empty")
    for message in untrusted:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise _RefusedError("invalid_value", "a message has a known role")
        if not isinstance(message.get("content", ""), str | None):
            raise _RefusedError("invalid_value", "content is text")
    return untrusted


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise _RefusedError("invalid_value", f"{key} is text")
    return value


def _integer(body: Mapping[str, Any], key: str, default: int, *, low: int) -> int:
    value = body.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise _RefusedError("invalid_value", f"{key} is a whole number of at least {low}")
    return value


def _number(body: Mapping[str, Any], key: str, default: float) -> float:
    value = body.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _RefusedError("invalid_value", f"{key} is a number")
    return float(value)


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = body.get("stop")
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise _RefusedError("invalid_value", "stop is a text or a list of texts")
    return tuple(stops)
