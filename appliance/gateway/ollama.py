"""Ollama's native routes behind the same keys, limits and records as OpenAI's (X36): parsing and status codes only.

What is loaded is what was promoted: models are neither pulled, made nor deleted here, so those routes do not exist.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request

from appliance.gateway import problems
from appliance.gateway.access import keyed
from appliance.gateway.answering import Answering
from appliance.gateway.arrival import arrival, come
from appliance.gateway.body import body_of, read_object
from appliance.gateway.embedding import Embeddings
from appliance.gateway.embedding_reading import Wording, asks_nothing, read_nothing
from appliance.gateway.ollama_reading import Ollama, model_of, only_loads, read_load, read_show
from appliance.gateway.ollama_writing import in_own_words
from appliance.gateway.parameters import Endpoint
from appliance.gateway.problems import Problem
from appliance.gateway.routing import Lines, Route, Routes, require_route
from appliance.serve.anatomy import UNTOLD, Anatomy
from appliance.serve.client import EngineClient
from appliance.serve.engine import THOUGHTS
from media.clock import Clock, to_text
from media.errors import SealiftError

SPOKEN: Final = "0.10.0"
"""The release of Ollama whose routes these are, which its clients ask for before they use one (0.6.4 and later).

The first with `context_length` in `/api/ps`; behind those with `capabilities` (0.6.4), calls in streams (0.8.0) and
`think` (0.9.0). With 0.11 came how hard a model thinks, which is refused here.
"""
_CHAT: Final = Ollama(is_chat=True)
_GENERATE: Final = Ollama(is_chat=False)


def make_blueprint(answering: Answering, embeddings: Embeddings, routes: Routes, clock: Clock) -> Blueprint:
    """Return the routes."""
    blueprint = Blueprint("ollama", __name__)

    @blueprint.post("/api/chat")
    @keyed
    def chat() -> Response:
        return _answer(answering, routes, clock, is_chat=True)

    @blueprint.post("/api/generate")
    @keyed
    def generate() -> Response:
        return _answer(answering, routes, clock, is_chat=False)

    @blueprint.post("/api/embed")
    @keyed
    def embed() -> Response:
        return _vectors(embeddings, routes, "ollama")

    @blueprint.post("/api/embeddings")
    @keyed
    def embed_one() -> Response:
        return _vectors(embeddings, routes, "ollama-one")

    @blueprint.get("/api/tags")
    @keyed
    def tags() -> Response:
        lines = routes.lines()
        return jsonify(models=[_listed(route) for route in _loaded(lines)] + _aliases(lines))

    @blueprint.get("/api/ps")
    @keyed
    def running() -> Response:
        # Until something else is promoted; clients read a time, so it is the end of all times.
        until = {"expires_at": "9999-12-31T23:59:59Z", "size_vram": 0}
        return jsonify(models=[_listed(route) | _context(route) | until for route in _loaded(routes.lines())])

    @blueprint.post("/api/show")
    @keyed
    def show() -> Response:
        untrusted = read_object(body_of(request))
        ignored = read_show(untrusted)
        route = _named(routes, untrusted)
        abilities = ["completion", *(["tools"] if route.has_tools else []), *(["embedding"] if route.embedding else [])]
        takes, anatomy = _told(answering, route)
        abilities += ["thinking"] if THOUGHTS in takes else []
        listed = _listed(route)
        shown = jsonify(
            modified_at=listed["modified_at"],
            details=listed["details"] | _details(anatomy),
            model_info=_facts(route, anatomy),
            parameters=f"temperature {route.temperature:g}\ntop_p {route.top_p:g}",
            capabilities=abilities,
        )
        return _naming(ignored, shown)

    @blueprint.get("/api/version")
    @keyed
    def version() -> Response:
        return jsonify(version=SPOKEN, sealift=metadata.version("sealift"))

    return blueprint


def _answer(answering: Answering, routes: Routes, clock: Clock, *, is_chat: bool) -> Response:
    asked = arrival(Endpoint.CHAT, _CHAT if is_chat else _GENERATE)
    if not only_loads(asked.untrusted, is_chat=is_chat):
        try:
            return answering.answer(asked)
        except Problem as problem:
            in_own_words(problem, is_chat=is_chat, has_system=bool(asked.untrusted.get("system")))
            raise
    # Checked as where something is asked: whoever sends a picture alone must not believe that it was looked at.
    ignored = read_load(asked.untrusted, is_chat=is_chat)
    route = _named(routes, asked.untrusted)
    said: dict[str, Any] = {"message": {"role": "assistant", "content": ""}} if is_chat else {"response": ""}
    # Also where it is to be unloaded (`keep_alive` 0): it stays loaded, and whoever reads the header knows.
    loaded = jsonify(model=route.name, created_at=to_text(clock.now()), **said, done=True, done_reason="load")
    return _naming(ignored, loaded)


def _vectors(embeddings: Embeddings, routes: Routes, wording: Wording) -> Response:
    asked = come()
    if not asks_nothing(asked.untrusted, wording):
        try:
            return embeddings.answer(asked, wording)
        except Problem as problem:
            if wording == "ollama-one" and problem.param == "input" and problem.code != "unknown_parameter":
                problem.param = "prompt"  # what this route calls it
            raise
    ignored = read_nothing(asked.untrusted, wording)
    route = _named(routes, asked.untrusted)
    loaded = jsonify(embedding=[]) if wording == "ollama-one" else jsonify(model=route.name, embeddings=[])
    return _naming(ignored, loaded)


def _naming(ignored: Sequence[str], response: Response) -> Response:
    if ignored:
        response.headers["x-sealift-ignored"] = ", ".join(ignored)
    return response


def _named(routes: Routes, untrusted: Mapping[str, Any]) -> Route:
    name = model_of(untrusted)
    if not isinstance(name, str) or not name:
        raise problems.invalid("model", "Name a model; see /api/tags.", code="missing_required_parameter")
    return require_route(routes, name)


def _told(answering: Answering, route: Route) -> tuple[frozenset[str], Anatomy]:
    """Return what an engine of a version takes, and what its files say of the model; nothing where none answers."""
    try:
        status = answering.upstreams.to(route.socket, places=route.places).ask(EngineClient.status)
    except SealiftError:
        return frozenset(), UNTOLD
    return status.takes, status.anatomy


def _details(anatomy: Anatomy) -> dict[str, Any]:
    family = {"family": anatomy.architecture, "families": [anatomy.architecture]} if anatomy.architecture else {}
    return family | {"parameter_size": anatomy.size}


def _facts(route: Route, anatomy: Anatomy) -> dict[str, Any]:
    """Return what is known of a model, by GGUF's names: clients look below the architecture for the context.

    That is what a question and its answer may have here, not what the model was made for: clients cut by it.
    """
    facts: dict[str, Any] = {"general.version": route.version, "sealift.model_digest": route.model_digest}
    if anatomy.parameters:
        facts["general.parameter_count"] = anatomy.parameters
    if anatomy.architecture:
        lengths = {"context_length": route.context, "embedding_length": anatomy.embedding_length}
        facts["general.architecture"] = anatomy.architecture
        facts |= {f"{anatomy.architecture}.{name}": length for name, length in lengths.items() if length}
    return facts


def _context(route: Route) -> dict[str, int]:
    return {"context_length": route.context} if route.context else {}


def _loaded(lines: Lines) -> list[Route]:
    return list({route.name: route for route in reversed(lines.routes)}.values())


def _aliases(lines: Lines) -> list[dict[str, Any]]:
    """The site's own names, each with the version that it means: clients look for the name that they will ask by."""
    own = {name: route for name, route in lines.names.items() if name != route.name and name not in route.also}
    return [_listed(route) | {"name": name, "model": name} for name, route in own.items()]


def _listed(route: Route) -> dict[str, Any]:
    size = {"size": route.weights.bytes} if route.weights.bytes else {}
    kind = {"format": route.weights.format, "quantization_level": route.weights.quantization}
    return size | {
        "name": route.name,
        "model": route.name,
        "modified_at": to_text(datetime.fromtimestamp(route.created, UTC)),
        "digest": route.model_digest.removeprefix("sha256:"),
        "details": {"family": "", "families": [], "parameter_size": "", **kind},
    }
