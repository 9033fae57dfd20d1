"""A request that the door let in, as answering takes it; its body is parsed once, here."""

from typing import Any

from appliance.gateway.answering import Arrival
from appliance.gateway.beginning import Come
from appliance.gateway.body import body_of, read_object
from appliance.gateway.dialect import Dialect
from appliance.gateway.identity import USER_HEADER
from appliance.gateway.parameters import Endpoint
from appliance.gateway.shortway import served

CLASSIFICATION_HEADER = "X-Sealift-Classification"
TASK_HEADER = "X-Sealift-Task"
_LABEL, _USER, _TASK = (
    f"HTTP_{name.upper().replace('-', '_')}" for name in (CLASSIFICATION_HEADER, USER_HEADER, TASK_HEADER)
)


def come() -> Come:
    """Return the request that is being served.

    Raises:
        Problem: Its body is no JSON object.
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
        "label": environ.get(_LABEL, ""),
        "user": environ.get(_USER, "")[:512],
        "environ": environ,
        "task": environ.get(_TASK, "")[:32].strip().lower(),
    }
