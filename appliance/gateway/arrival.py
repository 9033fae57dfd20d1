"""A request that the door let in, as answering takes it; its body is parsed once, here."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from appliance.gateway.answering import Arrival
from appliance.gateway.beginning import Come
from appliance.gateway.body import body_of, read_object
from appliance.gateway.dialect import Dialect
from appliance.gateway.identity import MOST_PERSON, USER_HEADER
from appliance.gateway.parameters import Endpoint
from appliance.gateway.problems import invalid
from appliance.gateway.shortway import served

CLASSIFICATION_HEADER = "X-Sealift-Classification"
TASK_HEADER = "X-Sealift-Task"
_LABEL, _USER, _TASK = (
    f"HTTP_{name.upper().replace('-', '_')}" for name in (CLASSIFICATION_HEADER, USER_HEADER, TASK_HEADER)
)


def come() -> Come:
    """Return the request that is being served.

    Raises:
        Problem: Its body is no JSON object, or a header names a person by too long a text.
    """
    return Come(**_come())


def arrival(endpoint: Endpoint, dialect: Dialect) -> Arrival:
    """Return the request that is being served, for an answer.

    Raises:
        Problem: As `come`.
    """
    return Arrival(**_come(), endpoint=endpoint, dialect=dialect)


def _come() -> dict[str, Any]:
    request, noted = served()
    body, environ = body_of(request), request.environ
    return {
        "request_id": noted.request_id,
        "began": noted.began,
        "key": noted.key,
        "certificate": noted.certificate.serial,
        "body": body,
        "untrusted": read_object(body),
        "environ": environ,
        **said_of(environ),
    }


def said_of(environ: Mapping[str, Any]) -> dict[str, str]:
    """Return what the headers of a request say of it: its label, the person that it is for, and its task.

    Raises:
        Problem: The person is named by a text longer than one that a body may have.
    """
    return {
        "label": environ.get(_LABEL, ""),
        "user": _person(environ.get(_USER, "")),
        "task": environ.get(_TASK, "")[:32].strip().lower(),
    }


def _person(header: str) -> str:
    """Return the person that a header names, as a body would: by one name people are erased, whichever way it came.

    Web servers read headers as Latin-1. Most clients write UTF-8; what is none was written so.
    """
    named = header
    if not header.isascii():
        with suppress(UnicodeError):
            named = header.encode("latin-1").decode()
    if len(named) > MOST_PERSON:  # cut, two people would be one
        raise invalid("user", f"The header {USER_HEADER} names a person by up to {MOST_PERSON} characters.")
    return named
