"""The API's own description as OpenAPI 3.1, made of the application's routes and the readers' tables.

What may be called, by whom, and which parameters are known is asked of the code that answers, so the description cannot
say otherwise. It names the models that are served now and the site's limits. `GET /v1/openapi.json`, for keys.
"""

import re
from collections.abc import Mapping
from importlib import metadata
from typing import Any, Final

from flask import Blueprint, Flask, Response, current_app, jsonify

from appliance.config import LimitsSection
from appliance.gateway import schemas
from appliance.gateway.access import Access, access_of, keyed
from appliance.gateway.ollama_writing import PREFIX
from appliance.gateway.parameters import Endpoint
from appliance.gateway.routing import Routes
from appliance.gateway.schemas import Schema

PATH: Final = "/v1/openapi.json"
_REFUSALS: Final = ("400", "401", "403", "404", "405", "408", "409", "410", "413", "415", "429", "500", "502", "503")
_VARIABLE: Final = re.compile(r"<(?:[a-z]+:)?([a-z_]+)>")
_METHODS: Final = ("GET", "POST", "DELETE", "PUT", "PATCH")
_SUMMARIES: Final[Mapping[str, str]] = {
    "/v1/chat/completions": "A chat, whole or streamed",
    "/v1/completions": "A text continued, whole or streamed",
    "/v1/embeddings": "Vectors of texts",
    "/v1/models": "What is served",
    "/v1/models/{name}": "One model",
    "/v1/feedback": "What people thought of an answer",
    PATH: "This description",
    "/livez": "Whether the process lives",
    "/health": "Whether questions are answered",
    "/readyz": "Whether questions are answered",
}


def make_blueprint(limits: LimitsSection, routes: Routes) -> Blueprint:
    """Return the route."""
    blueprint = Blueprint("openapi", __name__)

    @blueprint.get(PATH)
    @keyed
    def describe() -> Response:
        return jsonify(document(current_app, limits, routes))

    return blueprint


def document(app: Flask, limits: LimitsSection, routes: Routes) -> dict[str, Any]:
    """Return the description of an application's routes.

    Raises:
        StoreDamagedError: It cannot be told what is served.
    """
    names = list(routes.lines().names)
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda one: one.rule):
        access = access_of(app.view_functions[rule.endpoint])
        if access not in {Access.PUBLIC, Access.KEYED}:
            continue
        path = _VARIABLE.sub(r"{\1}", rule.rule)
        for method in _METHODS:
            if method in (rule.methods or ()):
                known = _known(path, limits, names)
                paths.setdefault(path, {})[method.lower()] = _operation(path, method, access, known)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sealift", "version": metadata.version("sealift")},
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            }
        },
    }


def _known(path: str, limits: LimitsSection, names: list[str]) -> tuple[Schema, Schema]:
    """Return what a request of a path may hold, and what the answer does."""
    anything = schemas.open_object()
    chat, completions = Endpoint.CHAT, Endpoint.COMPLETIONS
    return {
        "/v1/chat/completions": (schemas.question(chat, limits.widest(), names), schemas.answer(chat)),
        "/v1/completions": (schemas.question(completions, limits.widest(), names), schemas.answer(completions)),
        "/v1/embeddings": (schemas.texts_to_embed(limits, names), schemas.vectors()),
        "/v1/feedback": (schemas.rating(), anything),
        "/v1/models": (anything, schemas.models()),
        "/v1/models/{name}": (anything, schemas.model()),
    }.get(path, (anything, anything))


def _operation(path: str, method: str, access: Access, known: tuple[Schema, Schema]) -> dict[str, Any]:
    request, answer = known
    is_ollamas = path.startswith(PREFIX)
    content: dict[str, Any] = {"application/json": {"schema": answer}}
    if method == "POST" and path.endswith("completions"):
        content["text/event-stream"] = {"schema": {}}  # each event is one of many forms
    if is_ollamas:
        content["application/x-ndjson"] = {"schema": {}}
    error = {"application/json": {"schema": schemas.OLLAMA_ERROR if is_ollamas else schemas.ERROR}}
    operation: dict[str, Any] = {
        "summary": _SUMMARIES.get(path, "As Ollama has it" if is_ollamas else path),
        "operationId": f"{method.lower()}{re.sub('[^a-z]+', '_', path)}",
        "responses": {
            "200": {"description": "The answer", "content": content},
            **{status: {"description": "Refused; see docs/api.md", "content": error} for status in _REFUSALS},
        },
        "security": [] if access is Access.PUBLIC else [{"bearer": []}, {"key": []}],
    }
    variables = re.findall(r"{([a-z_]+)}", path)
    if variables:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {**schemas.TEXT, "minLength": 1}}
            for name in variables
        ]
    if method == "POST":
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": request}}}
    return operation
