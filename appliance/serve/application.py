"""The engine's own HTTP: OpenAI's chat and completion routes and `/sealift/v1/*`, on a Unix socket, for the gateway.

It trusts nobody's parameters all the same: sizes are checked, unknown fields are ignored (the gateway's list is the
public contract), and no text of a prompt or an answer enters a log or an error.
"""

import select
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from appliance.errors import EngineUnavailableError
from appliance.serve import figures
from appliance.serve.anatomy import UNTOLD, Anatomy
from appliance.serve.asking import Asked, Reader, RefusedError, Serving
from appliance.serve.chat_template import ChatTemplate
from appliance.serve.coming import Coming
from appliance.serve.embedding import Embedding, NotEmbeddedError
from appliance.serve.engine import THOUGHTS, Decoder
from appliance.serve.saying import Saying
from appliance.serve.scheduler import Scheduler
from media.clock import Clock
from media.errors import SealiftError

__all__ = ["MAX_BODY_BYTES", "Serving", "create_engine_app"]

MAX_BODY_BYTES: Final = 32 * 1024 * 1024


def create_engine_app(
    serving: Serving,
    *,
    decoder: Decoder,
    scheduler: Scheduler,
    template: ChatTemplate,
    clock: Clock,
    embedding: Embedding | None = None,
    anatomy: Anatomy = UNTOLD,
    coming: Coming | None = None,
) -> Flask:
    """Return the WSGI application of one loaded version; without `embedding` it makes no embeddings.

    `anatomy` is what the version's files say of the model; `coming` is who waits for those that are being read.
    """
    app = Flask("sealift-engine")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    engine = _Engine(
        serving=serving,
        decoder=decoder,
        scheduler=scheduler,
        template=template,
        clock=clock,
        coming=coming or Coming(),
    )

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
            takes=[*serving.takes, *([THOUGHTS] if engine.thinks() else [])],
            model=anatomy.to_json(),
            running=scheduler.running,
            waiting=scheduler.waiting,
            counts=asdict(scheduler.counts),
            step_curve=scheduler.curve.to_json() if scheduler.curve else None,
        )

    @app.post("/v1/chat/completions")
    def chat() -> Response:
        return engine.chat(_body())

    @app.post("/v1/completions")
    def completions() -> Response:
        return engine.complete(_body())

    app.add_url_rule("/metrics", "metrics", partial(_metrics, scheduler))
    app.add_url_rule("/v1/embeddings", "embeddings", partial(_embeddings, embedding), methods=["POST"])

    @app.post("/sealift/v1/tokenize")
    def tokenize() -> Response:
        body = _body()
        tokens = engine.tokens(body)
        # The numbers themselves are for the gate that looks whether user text became control tokens.
        return jsonify(tokens=tokens if body.get("ids") is True else len(tokens))

    @app.post("/sealift/v1/score")
    def score() -> Response:
        return engine.score(_body())

    @app.errorhandler(RefusedError)
    def refused(error: RefusedError) -> tuple[Response, int]:
        return jsonify(
            error={"message": error.message, "type": "invalid_request_error", "code": error.code, "param": error.param}
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


def _metrics(scheduler: figures.Filled) -> Response:
    return Response(figures.exposition(scheduler), content_type=figures.CONTENT_TYPE)


def _embeddings(embedding: Embedding | None) -> Response:
    if embedding is None:
        raise RefusedError("unsupported_model", "this version makes no embeddings", status=404)
    try:
        return jsonify(embedding.answer(_body(), _watch(request.environ)))
    except NotEmbeddedError as error:
        raise RefusedError(error.code, error.message) from error


class _Engine:
    def __init__(
        self,
        *,
        serving: Serving,
        decoder: Decoder,
        scheduler: Scheduler,
        template: ChatTemplate,
        clock: Clock,
        coming: Coming,
    ) -> None:
        self._serving = serving
        self._scheduler = scheduler
        self._clock = clock
        self._coming = coming
        self._reader = Reader(serving, decoder=decoder, template=template)

    def thinks(self) -> bool:
        return self._reader.thinks()

    def tokens(self, body: Mapping[str, Any]) -> list[int]:
        if "messages" not in body:
            return self._reader.prompt_tokens(body)
        return self._reader.chat_tokens(body, self._reader.tools(body))

    def chat(self, body: Mapping[str, Any]) -> Response:
        return self._answer(body, self._reader.chat)

    def complete(self, body: Mapping[str, Any]) -> Response:
        return self._answer(body, self._reader.completion)

    def score(self, body: Mapping[str, Any]) -> Response:
        prompt = self._reader.prompt_tokens(body)
        texts = body.get("continuations")
        if not isinstance(texts, list) or not all(isinstance(one, str) and one for one in texts):
            raise RefusedError("invalid_value", "continuations is a list of texts")
        continuations = [self._reader.text_tokens(one) for one in texts]
        return jsonify(
            log_likelihoods=self._scheduler.score(prompt, continuations), tokens=[len(one) for one in continuations]
        )

    def _answer(self, body: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Asked]) -> Response:
        with self._coming.one():
            asked = read(body)
            handle = self._scheduler.submit(asked.generation)
        created = int(self._clock.now().timestamp())
        saying = Saying(
            asked,
            handle,
            model=self._serving.model_digest,
            created=created,
            count=self._reader.count,
        )
        has_left = _watch(request.environ)
        if body.get("stream") is True:
            return Response(
                saying.stream(has_left), mimetype="text/event-stream", headers={"cache-control": "no-cache"}
            )
        return jsonify(saying.whole(has_left))


def _watch(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """Return what tells whether the caller of a request has hung up: an answer that is not streamed writes nothing."""
    caller = environ.get("gunicorn.socket")
    if not isinstance(caller, socket.socket) or caller.fileno() < 0:
        return lambda: False
    poll = select.poll()
    poll.register(caller, select.POLLRDHUP)
    return lambda: bool(poll.poll(0))


def _body() -> dict[str, Any]:
    try:
        untrusted = request.get_json(force=True, silent=True)
    except RecursionError:  # nesting without end is no fault of ours
        untrusted = None
    if not isinstance(untrusted, dict):
        raise RefusedError("invalid_json", "the body is a JSON object")
    return untrusted
