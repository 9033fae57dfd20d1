"""A request that the door let in, as answering takes it; its body is parsed once, here."""

from dataclasses import fields

from flask import g, request

from appliance.gateway.answering import Arrival
from appliance.gateway.beginning import Come
from appliance.gateway.body import read_object
from appliance.gateway.dialect import Dialect
from appliance.gateway.identity import USER_HEADER
from appliance.gateway.parameters import Endpoint

CLASSIFICATION_HEADER = "X-Sealift-Classification"
TASK_HEADER = "X-Sealift-Task"


def come() -> Come:
    """Return the request that is being served.

    Raises:
        Problem: Its body is no JSON object.
    """
    body = request.get_data(cache=False)
    return Come(
        request_id=g.request_id,
        began=g.began,
        key=g.key,
        certificate=g.certificate.serial,
        body=body,
        untrusted=read_object(body),
        label=request.headers.get(CLASSIFICATION_HEADER, ""),
        user=request.headers.get(USER_HEADER, "")[:512],
        environ=request.environ,
        task=request.headers.get(TASK_HEADER, "")[:32].strip().lower(),
    )


def arrival(endpoint: Endpoint, dialect: Dialect) -> Arrival:
    """Return the request that is being served, for an answer.

    Raises:
        Problem: As `come`.
    """
    common = come()
    return Arrival(
        **{one.name: getattr(common, one.name) for one in fields(common)}, endpoint=endpoint, dialect=dialect
    )
