"""The web service's own description as OpenAPI 3.1, made of its routes and of what each takes.

Which addresses there are is asked of the application, which scope each takes of the promoter's own table, so the
description cannot say otherwise; what an answer holds is written here and held against real answers by a test.
`GET /api/v1/openapi.json`, for keys that may read.
"""

import re
from collections.abc import Mapping
from importlib import metadata
from typing import Any, Final

from flask import Flask

from appliance.promote.automation_key import DEEDS, Scope

_VARIABLE: Final = re.compile(r"<(?:([a-z]+):)?([a-z_]+)>")
_REFUSALS: Final = ("400", "401", "403", "404", "409", "415", "429", "503")
_TEXT: Final[Mapping[str, Any]] = {"type": "string"}
_MAYBE: Final[Mapping[str, Any]] = {"type": ["string", "null"]}
_COUNT: Final[Mapping[str, Any]] = {"type": "integer", "minimum": 0}
_TRUTH: Final[Mapping[str, Any]] = {"type": "boolean"}
_DIGEST: Final[Mapping[str, Any]] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}
_REASON: Final[Mapping[str, Any]] = {"type": "string", "minLength": 1, "maxLength": 500}


def _object(
    *, optional: Mapping[str, Mapping[str, Any]] | None = None, **properties: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "type": "object",
        "required": sorted(properties),
        "properties": properties | dict(optional or {}),
        "additionalProperties": False,
    }


def _list(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


def _or_none(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


ERROR: Final = _object(error=_object(code=_TEXT, what=_TEXT, why=_TEXT, fix=_TEXT))
_VERSION: Final[Mapping[str, Mapping[str, Any]]] = {
    "model_digest": _DIGEST,
    "name": _TEXT,
    "version": _TEXT,
    "serial": _COUNT,
    "alias": {"enum": ["", "production", "previous", "candidate"]},
    "gates_passed": {"type": ["boolean", "null"]},
}
_OUTCOME: Final = _object(what=_TEXT, why=_TEXT, fix=_TEXT)
_ANSWER: Final = _object(request_id=_TEXT, sequence=_COUNT, at=_TEXT, department=_TEXT, model_digest=_DIGEST, arm=_TEXT)
_WAITING: Final = _object(
    statement_sha256=_DIGEST,
    model_digest=_DIGEST,
    meaning=_TEXT,
    requested_by=_TEXT,
    requested_at=_TEXT,
    expires=_TEXT,
    approvals=_list(_TEXT),
    optional={"beside": {"const": True}, "replaces": _DIGEST},
)
_EVENT: Final = _object(
    sequence=_COUNT,
    at=_TEXT,
    what=_TEXT,
    model_digest=_MAYBE,
    people=_list(_TEXT),
    reason=_TEXT,
    optional={"line": _COUNT, "where": _TEXT},
)
ANSWERS: Final[Mapping[str, tuple[str, str, Mapping[str, Any]]]] = {
    "status": (
        "200",
        "How the site stands",
        _object(
            site=_TEXT,
            environment=_TEXT,
            production=_or_none(_object(**_VERSION)),
            promotions=_COUNT,
            is_stopped=_TRUTH,
            requests={"type": "integer", "minimum": -1},
            alerts=_list(_TEXT),
            ledger=_object(size=_COUNT, root=_TEXT),
        ),
    ),
    "versions": ("200", "The registered versions, the newest first", _object(versions=_list(_object(**_VERSION)))),
    "version": (
        "200",
        "A version with its newest gates",
        _object(**_VERSION, quantization=_MAYBE, gates=_list(_object(gate=_TEXT, passed=_TRUTH, figures=_ANY_OBJECT))),
    ),
    "job": (
        "200",
        "How a validation goes",
        _object(
            job=_COUNT,
            kind={"const": "validate"},
            digest=_DIGEST,
            at=_TEXT,
            state=_TEXT,
            step=_TEXT,
            done=_COUNT,
            total=_COUNT,
            person=_TEXT,
            outcome=_or_none(_OUTCOME),
        ),
    ),
    "requests": ("200", "What waits for people's approvals", _object(requests=_list(_WAITING))),
    "rollout": (
        "200",
        "The canary that runs, what is kept beside, and the watch after a cut-over",
        _object(
            canary={"type": ["object", "null"]},
            beside={"type": ["object", "null"]},
            watch={"type": ["object", "null"]},
            model_digest=_or_none(_DIGEST),
            optional={"lines": _list(_ANY_OBJECT)},
        ),
    ),
    "history": ("200", "Who decided what; the newest 500 events", _object(events=_list(_EVENT), total=_COUNT)),
    "affected": (
        "200",
        "Which answers a version gave, the first 1,000 by id",
        _object(answers=_COUNT, first=_MAYBE, last=_MAYBE, departments=_ANY_OBJECT, requests=_list(_ANSWER)),
    ),
    "validate": ("202", "A validation was asked for", _object(job=_COUNT, state=_TEXT)),
    "request": ("201", "People are asked to approve", _object(statement_sha256=_DIGEST, approvals_needed=_COUNT)),
    "hold": ("200", "The canary is on hold", _object(held={"const": True}, sequence=_COUNT, job=_COUNT)),
    "openapi": ("200", "This description", _ANY_OBJECT),
}
"""What each deed answers: its status, a line for people, and the schema."""
BODIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "request": _object(meaning=_REASON, optional={"beside": {"const": True}, "replaces": _REASON}),
    "hold": _object(reason=_REASON),
}
"""What a request must hold where it holds anything."""
_MORE: Final = {"request": f" With `beside` or `replaces`, of which it may hold one, the scope {Scope.LINE} besides."}


def document(app: Flask, deeds: Mapping[str, str]) -> dict[str, Any]:
    """Return the description of the addresses that do something.

    Args:
        app: Whose routes they are.
        deeds: What each endpoint does, in the promoter's words.
    """
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda one: one.rule):
        if rule.endpoint not in deeds:
            continue
        deed = deeds[rule.endpoint]
        for method in sorted((rule.methods or set()) & {"GET", "POST"}):
            operation = _operation(deed, DEEDS[deed], rule.rule)
            paths.setdefault(_VARIABLE.sub(r"{\2}", rule.rule), {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sealift, for automation keys", "version": metadata.version("sealift")},
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}],
    }


def _operation(deed: str, scope: Scope, rule: str) -> dict[str, Any]:
    status, summary, schema = ANSWERS[deed]
    error = {"application/json": {"schema": ERROR}}
    operation: dict[str, Any] = {
        "operationId": deed,
        "summary": summary,
        "description": f"Takes the scope {scope}.{_MORE.get(deed, '')}",
        "x-sealift-scope": str(scope),
        "responses": {
            status: {"description": summary, "content": {"application/json": {"schema": schema}}},
            **{code: {"description": "Refused; see `why`", "content": error} for code in _REFUSALS},
        },
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _COUNT if kind == "int" else _DIGEST}
        for kind, name in _VARIABLE.findall(rule)
    ]
    if deed == "history":
        parameters.append({"name": "of", "in": "query", "required": False, "schema": _DIGEST})
    if parameters:
        operation["parameters"] = parameters
    if deed in BODIES:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": BODIES[deed]}}}
    return operation
