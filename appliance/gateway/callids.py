"""Ids of earlier tool calls: callers choose them freely, and an engine needs no more of one than which call it means.

So an engine is told an id of ours by order, the same for a call and for what answers it, and as the conversation goes
on. It never comes back: an answer's own calls have new ids.
"""

from dataclasses import replace
from typing import Final

from appliance.gateway.messages import Message
from appliance.gateway.parameters import Asked

_OURS: Final = "call{:05d}"  # nine letters and digits: Mistral's templates take no other form


def with_ids(asked: Asked) -> Asked:
    """Return a request whose tool calls have ids of ours."""
    if not any(message.tool_calls or message.tool_call_id for message in asked.messages):
        return asked
    known: dict[str, str] = {}
    return replace(asked, messages=tuple(_message(message, known) for message in asked.messages))


def _message(message: Message, known: dict[str, str]) -> Message:
    calls = tuple(replace(call, id=_ours(call.id, known)) for call in message.tool_calls)
    answers = _ours(message.tool_call_id, known) if message.tool_call_id else ""
    return replace(message, tool_calls=calls, tool_call_id=answers)


def _ours(given: str, known: dict[str, str]) -> str:
    return known.setdefault(given, _OURS.format(len(known) + 1))
