"""The lines of a batch's results, as they are kept and read: an answer, a refusal, or that a line was not asked.

A long answer's body stays the bytes that its route made: millions of numbers are not parsed and written once more,
for which every other caller of this process would wait. A short one is written as UTF-8, which takes less.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flask import Response
from werkzeug.datastructures import Headers

from appliance.gateway.batches import lines
from appliance.gateway.identity import new_request_id

Why = tuple[str, str]
"""Why a line was not asked: a code, and a text for people."""
EXPIRED: Final = ("batch_expired", "The batch ended before this line was asked.")
FULL: Final = ("results_too_large", "The batch ended before this line had a result: its key keeps as much as it may.")
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_LONG: Final = 2**20
_TEXTS: Final = {"x-model-version": "model_version", "x-sealift-rule": "rule", "x-sealift-leaves": "leaves"}
_LISTS: Final = {"x-sealift-ignored": "ignored", "x-sealift-flagged": "flagged"}
_PHI: Final = "x-sealift-phi"
_DROPPED: Final = "x-sealift-dropped-tokens"
_CACHE: Final = "x-sealift-cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a route answered: its body's JSON on one line, and what its headers say of it, as `sealift`."""

    body: bytes
    said: Mapping[str, Any]


def answered(response: Response) -> Answered:
    """Return what a route answered."""
    body = response.get_data().strip()
    if len(body) < _LONG or b"\n" in body or b"\r" in body:
        body = _encoded(json.loads(body))
    return Answered(body=body, said=said_in(response.headers))


def said_in(headers: Headers) -> dict[str, Any]:
    """Return what an answer's headers say of it, under the names that a result has for it; only what is there."""
    said: dict[str, Any] = {name: headers[header] for header, name in _TEXTS.items() if headers.get(header)}
    for header, name in _LISTS.items():
        if headers.get(header):
            said[name] = headers[header].split(", ")
    counts = [one.partition("=") for one in headers.get(_PHI, "").split(", ")]
    phi = {kind: int(count) for kind, _, count in counts if count.isdigit()}
    if phi:
        said["phi"] = phi
    if headers.get(_DROPPED, "").isdigit():
        said["dropped_tokens"] = int(headers[_DROPPED])
    if headers.get(_CACHE) not in {None, "miss"}:
        said["cache"] = headers[_CACHE]
    return said


def result(custom_id: str, request_id: str, status: int, body: Answered | Mapping[str, Any]) -> bytes:
    """Return the line of a request that was answered or refused."""
    head: dict[str, Any] = {"status_code": status, "request_id": request_id}
    if isinstance(body, Answered):
        content = body.body
        head |= {"sealift": body.said} if body.said else {}
    else:
        content = _encoded(body)
    start = _encoded({"id": f"batch_{request_id}", "custom_id": custom_id})
    return b"".join(
        (start[:-1], b',"response":', _encoded(head)[:-1], b',"body":', content, b'},"error":null}')  # of both objects
    )


def unasked(raw: bytes, why: Why) -> bytes:
    """Return the line of a request that was not asked, under the name that the line handed in gives it."""
    code, message = why
    error = {"code": code, "message": message}
    told = {"id": f"batch_{new_request_id()}", "custom_id": lines.custom_id_of(raw), "response": None, "error": error}
    return _encoded(told)


def _encoded(value: Any) -> bytes:
    """Return JSON in UTF-8, which no half of a letter is that an engine said: then in ASCII, escaped."""
    try:
        return _ENCODER.encode(value).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()
