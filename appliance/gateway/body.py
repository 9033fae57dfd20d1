"""The bytes of a request's body, and the one JSON object that they become, or a refusal that repeats none of them."""

import json
import math
from collections.abc import Iterable
from typing import Any, Final

from flask import Request
from gunicorn.http.errors import ParseException

from appliance.gateway.problems import Problem

MAX_DEPTH: Final = 64


def body_of(request: Request) -> bytes:
    """Return the bytes of a request's body.

    Raises:
        RequestEntityTooLarge: There are more of them than the application takes.
        Problem: They are compressed, or come in chunks that are none.
    """
    coding = str(request.environ.get("HTTP_CONTENT_ENCODING") or "identity").strip().lower()
    if coding != "identity":
        raise Problem(415, "unsupported_encoding", "Send the body as it is, without Content-Encoding.")
    try:
        content = request.get_data(cache=False)
        if "HTTP_TRANSFER_ENCODING" in request.environ:
            # A body in chunks tells no length before: what lies behind the limit would be left out without a word.
            request.stream.read(1)
    except ParseException:  # of gunicorn, which reads them as they are asked for; its text may quote them
        raise Problem(400, "invalid_chunks", "The body's chunks, or what follows them, are no HTTP.") from None
    return content


def read_object(untrusted: bytes) -> dict[str, Any]:
    """Return the body's JSON object.

    Raises:
        Problem: It is not UTF-8, not JSON, names a member twice, holds a number beyond all doubles, or is no object.
    """
    try:
        value = _DECODER.decode(untrusted.decode("utf-8"))
    except UnicodeDecodeError:
        raise Problem(400, "invalid_encoding", "The body is not UTF-8.") from None
    except (ValueError, RecursionError):
        raise Problem(400, "invalid_json", "The body is not a JSON object.") from None
    if not isinstance(value, dict) or is_too_deep(value):
        raise Problem(400, "invalid_json", "The body is not a JSON object of ordinary depth.")
    return value


def value_of(text: str) -> Any:
    """Return the value of JSON text; all its numbers can be written as JSON again.

    Raises:
        ValueError: It is none, or holds a number beyond all doubles.
        RecursionError: It is nested too deeply.
    """
    return json.loads(text, parse_constant=_no_constant, parse_float=_finite)


def is_too_deep(value: Any) -> bool:
    """Tell whether a JSON value is nested deeper than any honest request."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for one in level for child in _children(one)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _members_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        message = "a member is named twice"
        raise ValueError(message)
    return members


def _no_constant(name: str) -> Any:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):  # it would go on as `Infinity`, which is no JSON either
        message = "no number is so large here"
        raise ValueError(message)
    return number


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_members_once, parse_constant=_no_constant, parse_float=_finite)
