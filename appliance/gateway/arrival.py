"""A request that the door let in, as answering takes it."""

from flask import g, request

from appliance.gateway.answering import Arrival
from appliance.gateway.dialect import Dialect
from appliance.gateway.identity import USER_HEADER
from appliance.gateway.parameters import Endpoint

CLASSIFICATION_HEADER = "X-Sealift-Classification"


def arrival(endpoint: Endpoint, dialect: Dialect) -> Arrival:
    """Return the request that is being served."""
    return Arrival(
        request_id=g.request_id,
        began=g.began,
        endpoint=endpoint,
        dialect=dialect,
        key=g.key,
        certificate=g.certificate.serial,
        body=request.get_data(cache=False),
        label=request.headers.get(CLASSIFICATION_HEADER, ""),
        user=request.headers.get(USER_HEADER, "")[:512],
        environ=request.environ,
    )
