"""OpenAI's routes: parsing and status codes only; each calls one function."""

from flask import Blueprint, Response, g, jsonify, request

from appliance.gateway import problems, shapes
from appliance.gateway.access import keyed
from appliance.gateway.answering import Answering, Arrival
from appliance.gateway.identity import USER_HEADER
from appliance.gateway.parameters import Endpoint
from appliance.gateway.routing import ALIAS, Routes, require_route

CLASSIFICATION_HEADER = "X-Sealift-Classification"


def make_blueprint(answering: Answering, routes: Routes) -> Blueprint:
    """Return the routes."""
    blueprint = Blueprint("openai", __name__)

    @blueprint.post("/v1/chat/completions")
    @keyed
    def chat() -> Response:
        return answering.answer(_arrival(Endpoint.CHAT))

    @blueprint.post("/v1/completions")
    @keyed
    def completions() -> Response:
        return answering.answer(_arrival(Endpoint.COMPLETIONS))

    @blueprint.get("/v1/models")
    @keyed
    def models() -> Response:
        route = routes.production()
        names = [] if route is None else [route.name, ALIAS]
        return jsonify(object="list", data=[shapes.model(route, name) for name in names] if route else [])

    @blueprint.get("/v1/models/<path:name>")
    @keyed
    def model(name: str) -> Response:
        if routes.production() is None:
            raise problems.model_not_found()
        return jsonify(shapes.model(require_route(routes, name), name))

    return blueprint


def _arrival(endpoint: Endpoint) -> Arrival:
    return Arrival(
        request_id=g.request_id,
        began=g.began,
        endpoint=endpoint,
        key=g.key,
        certificate=g.certificate.serial,
        body=request.get_data(cache=False),
        label=request.headers.get(CLASSIFICATION_HEADER, ""),
        user=request.headers.get(USER_HEADER, "")[:512],
        environ=request.environ,
    )
