"""OpenAI's routes: parsing and status codes only; each calls one function."""

from typing import Final

from flask import Blueprint, Response, jsonify

from appliance.gateway import problems, shapes
from appliance.gateway.access import keyed
from appliance.gateway.answering import Answering
from appliance.gateway.arrival import arrival, come
from appliance.gateway.embedding import Embeddings
from appliance.gateway.events import OpenAi
from appliance.gateway.parameters import Endpoint
from appliance.gateway.routing import Routes, require_route

_DIALECT: Final = OpenAi()


def make_blueprint(answering: Answering, embeddings: Embeddings, routes: Routes) -> Blueprint:
    """Return the routes."""
    blueprint = Blueprint("openai", __name__)

    @blueprint.post("/v1/chat/completions")
    @keyed
    def chat() -> Response:
        return answering.answer(arrival(Endpoint.CHAT, _DIALECT))

    @blueprint.post("/v1/completions")
    @keyed
    def completions() -> Response:
        return answering.answer(arrival(Endpoint.COMPLETIONS, _DIALECT))

    @blueprint.post("/v1/embeddings")
    @keyed
    def vectors() -> Response:
        return embeddings.answer(come(), "openai")

    @blueprint.get("/v1/models")
    @keyed
    def models() -> Response:
        named = routes.lines().names
        return jsonify(object="list", data=[shapes.model(route, name) for name, route in named.items()])

    @blueprint.get("/v1/models/<path:name>")
    @keyed
    def model(name: str) -> Response:
        lines = routes.lines()
        if not lines.serving or lines.meant(name) is None:
            raise problems.model_not_found()
        return jsonify(shapes.model(require_route(routes, name), name))

    return blueprint
