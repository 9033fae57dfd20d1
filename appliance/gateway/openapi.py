"""The API's own description as OpenAPI 3.1, made of the application's routes and the readers' tables.

What may be called, by whom, and which parameters are known is asked of the code that answers, so the description cannot
say otherwise. It names the models that are served now and the site's limits. `GET /v1/openapi.json`, for keys.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Final

from flask import Blueprint, Flask, Response, current_app, jsonify

from appliance.config import LimitsSection
from appliance.gateway import ollama_schemas, schemas, sse, streamschemas
from appliance.gateway.access import Access, access_of, keyed
from appliance.gateway.batches import schemas as batches
from appliance.gateway.ollama_writing import MIMETYPE, PREFIX
from appliance.gateway.parameters import Endpoint
from appliance.gateway.routing import Routes
from appliance.gateway.schemas import Schema

PATH: Final = "/v1/openapi.json"
_JSON: Final = "application/json"
_IDS: Final[Mapping[str, Schema]] = {"file_id": batches.FILE_ID, "batch_id": batches.BATCH_ID}
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
    "/v1/files": "Files of batches",
    "/v1/files/{file_id}": "One file",
    "/v1/files/{file_id}/content": "A file's content",
    "/v1/batches": "Many requests behind all others",
    "/v1/batches/{batch_id}": "One batch",
    "/v1/batches/{batch_id}/cancel": "No more of a batch",
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
    told, anything = _told(limits, list(routes.lines().names)), _Told(answer=schemas.open_object())
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda one: one.rule):
        access = access_of(app.view_functions[rule.endpoint])
        if access not in {Access.PUBLIC, Access.KEYED}:
            continue
        path = _VARIABLE.sub(r"{\1}", rule.rule)
        for method in _METHODS:
            if method in (rule.methods or ()):
                of_it = told.get(f"{method} {path}", anything)
                paths.setdefault(path, {})[method.lower()] = _operation(path, method, access, of_it)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What is known of one operation.

    Attributes:
        answer: What an answer in JSON looks like; None where it is none.
        body: What its body may hold; None where it has no body.
        media: What the body is.
        streamed: What else an answer may be.
        each: What one event or one line of that looks like; nothing is said of a file's content.
        query: The parameters of its query.
        leads: Which operations take the id of what it answers, by method and path, and as what.
    """

    answer: Schema | None
    body: Schema | None = None
    media: str = _JSON
    streamed: str = ""
    each: Schema = field(default_factory=dict)
    query: Mapping[str, Schema] = field(default_factory=dict)
    leads: Mapping[str, str] = field(default_factory=dict)


def _told(limits: LimitsSection, names: list[str]) -> dict[str, _Told]:
    """Return what is known of the operations that have more to them than an object, by method and path."""
    known = {
        "GET /v1/models": _Told(answer=schemas.models()),
        "GET /v1/models/{name}": _Told(answer=schemas.model()),
        "POST /v1/embeddings": _Told(answer=schemas.vectors(), body=schemas.texts_to_embed(limits, names)),
        "POST /v1/feedback": _Told(answer=schemas.open_object(), body=schemas.rating()),
    }
    for path, endpoint in (("/v1/chat/completions", Endpoint.CHAT), ("/v1/completions", Endpoint.COMPLETIONS)):
        asked = schemas.question(endpoint, limits.widest(), names)
        known[f"POST {path}"] = _Told(
            answer=schemas.answer(endpoint), body=asked, streamed=sse.MIMETYPE, each=streamschemas.event(endpoint)
        )
    return known | _told_of_batches() | _told_of_ollamas(limits, names)


def _told_of_batches() -> dict[str, _Told]:
    file, batch = batches.file(), batches.batch()
    of_file = dict.fromkeys(("GET /v1/files/{file_id}", "GET /v1/files/{file_id}/content"), "file_id")
    of_file |= {"DELETE /v1/files/{file_id}": "file_id", "POST /v1/batches": "input_file_id"}
    of_batch = dict.fromkeys(("GET /v1/batches/{batch_id}", "POST /v1/batches/{batch_id}/cancel"), "batch_id")
    return {
        "POST /v1/files": _Told(answer=file, body=batches.upload(), media="multipart/form-data", leads=of_file),
        "GET /v1/files": _Told(answer=batches.listed(file), query=batches.query_of_files()),
        "GET /v1/files/{file_id}": _Told(answer=file),
        "GET /v1/files/{file_id}/content": _Told(answer=None, streamed="application/jsonl"),
        "DELETE /v1/files/{file_id}": _Told(answer=batches.deleted()),
        "POST /v1/batches": _Told(answer=batch, body=batches.work(), leads=of_batch),
        "GET /v1/batches": _Told(answer=batches.listed(batch), query=batches.query_of_batches()),
        "GET /v1/batches/{batch_id}": _Told(answer=batch),
        "POST /v1/batches/{batch_id}/cancel": _Told(answer=batch),
    }


def _told_of_ollamas(limits: LimitsSection, names: list[str]) -> dict[str, _Told]:
    known = {
        "POST /api/show": _Told(answer=ollama_schemas.shown(), body=ollama_schemas.model_to_show(names)),
        "GET /api/tags": _Told(answer=ollama_schemas.models()),
        "GET /api/ps": _Told(answer=ollama_schemas.models()),
        "GET /api/version": _Told(answer=ollama_schemas.version()),
    }
    for path, is_chat in (("/api/chat", True), ("/api/generate", False)):
        asked = ollama_schemas.question(limits.widest(), names, is_chat=is_chat)
        whole, each = ollama_schemas.answer(is_chat=is_chat), ollama_schemas.line(is_chat=is_chat)
        known[f"POST {path}"] = _Told(answer=whole, body=asked, streamed=MIMETYPE, each=each)
    for path, one in (("/api/embed", False), ("/api/embeddings", True)):
        asked = ollama_schemas.texts_to_embed(limits, names, one=one)
        known[f"POST {path}"] = _Told(answer=ollama_schemas.vectors(one=one), body=asked)
    return known


def _operation(path: str, method: str, access: Access, told: _Told) -> dict[str, Any]:
    is_ollamas = path.startswith(PREFIX)
    content: dict[str, Any] = {} if told.answer is None else {_JSON: {"schema": told.answer}}
    if told.streamed:
        # Before 3.2, which has `itemSchema`, this is how OpenAPI's tools are told of one event or line.
        content[told.streamed] = {"schema": told.each}
    error = {_JSON: {"schema": schemas.OLLAMA_ERROR if is_ollamas else schemas.ERROR}}
    operation: dict[str, Any] = {
        "summary": _SUMMARIES.get(path, "As Ollama has it" if is_ollamas else path),
        "operationId": _identity(method, path),
        "responses": {
            "200": {"description": "The answer", "content": content},
            **{status: {"description": "Refused; see docs/api.md", "content": error} for status in _REFUSALS},
        },
        "security": [] if access is Access.PUBLIC else [{"bearer": []}, {"key": []}],
    }
    if told.leads:
        operation["responses"]["200"]["links"] = dict(_link(one, name) for one, name in told.leads.items())
    within = [
        {"name": name, "in": "path", "required": True, "schema": _IDS.get(name, {**schemas.TEXT, "minLength": 1})}
        for name in re.findall(r"{([a-z_]+)}", path)
    ]
    asked = [{"name": name, "in": "query", "schema": schema} for name, schema in told.query.items()]
    if within or asked:
        operation["parameters"] = within + asked
    if told.body is not None:
        operation["requestBody"] = {"required": True, "content": {told.media: {"schema": told.body}}}
    return operation


def _identity(method: str, path: str) -> str:
    return f"{method.lower()}{re.sub('[^a-z]+', '_', path)}"


def _link(operation: str, name: str) -> tuple[str, Schema]:
    """Return what another operation takes of the id of an answer, by that operation's own id."""
    method, path = operation.split()
    found = {name: "$response.body#/id"}
    taken = {"parameters": found} if f"{{{name}}}" in path else {"requestBody": found}
    return _identity(method, path), {"operationId": _identity(method, path), **taken}
