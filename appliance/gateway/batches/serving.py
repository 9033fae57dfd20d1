"""How a line of a batch is answered: as the route of its name answers it."""

from collections.abc import Callable
from dataclasses import fields
from typing import Final

from flask import Response

from appliance.gateway.answering import Answering, Arrival
from appliance.gateway.beginning import Come
from appliance.gateway.embedding import Embeddings
from appliance.gateway.events import OpenAi
from appliance.gateway.parameters import Endpoint

_KINDS: Final = {"/v1/chat/completions": Endpoint.CHAT, "/v1/completions": Endpoint.COMPLETIONS}
_DIALECT: Final = OpenAi()


def serving(answering: Answering, embeddings: Embeddings) -> Callable[[str, Come], Response]:
    """Return what answers one request of an endpoint; raises what the routes' own functions raise."""

    def serve(endpoint: str, come: Come) -> Response:
        kind = _KINDS.get(endpoint)
        if kind is None:
            return embeddings.answer(come, "openai")
        named = {one.name: getattr(come, one.name) for one in fields(come)}
        return answering.answer(Arrival(**named, endpoint=kind, dialect=_DIALECT))

    return serve
