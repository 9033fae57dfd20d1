"""Applies a key's PHI policy to everything in a request that an engine would read.

Messages come first and in their order, so that tokens are numbered by first appearance in them; then the ids, names and
arguments of earlier tool calls, tool definitions, the answer's schema with its name, and stop texts. A call's arguments
are JSON text and are read as JSON, so that an escape cannot hide an identifier; the names of their fields say what they
hold.
"""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from appliance.gateway.body import is_too_deep
from appliance.gateway.callids import with_ids
from appliance.gateway.formats import ResponseFormat
from appliance.gateway.functionnames import fitted, with_names
from appliance.gateway.messages import Message, ToolCall
from appliance.gateway.parameters import Asked
from appliance.gateway.stops import for_engine
from appliance.gateway.widening import widened
from appliance.phi.policy import PhiMode
from appliance.phi.tokens import Around, Masked


def protected(asked: Asked, masked: Masked, *, mode: PhiMode) -> Asked:
    """Return the request as the engine may see it: with what was made of its `texts_of`."""
    if mode is PhiMode.PASS:
        return asked
    if masked.tokens.values:
        asked = with_names(widened(_rebuilt(asked, iter(masked.texts)), masked.tokens))
        asked = dataclasses.replace(asked, stop=for_engine(asked.stop, masked.tokens), own_stop=asked.stop)
    return with_ids(asked)


def texts_of(asked: Asked) -> list[str]:
    """Return every text of a request that an engine would read, in the order in which tokens are numbered."""
    return list(_texts(asked))


def _texts(asked: Asked) -> Iterator[str]:
    for message in asked.messages:
        yield message.content or ""
        yield message.tool_call_id
        for call in message.tool_calls:
            yield call.id
            yield call.name
            before = _parsed(call.arguments)
            if not isinstance(before, str):
                yield Around(call.arguments)
            yield from _leaves(before, numbers=True)
    yield from asked.prompts
    yield from _leaves(list(asked.tools))
    yield from _leaves(_chosen(asked))
    yield from _leaves(_described(asked.response_format))
    yield from asked.stop


def _rebuilt(asked: Asked, texts: Iterator[str]) -> Asked:
    """Put texts in the places `texts_of` took them from, in the same order."""
    return dataclasses.replace(
        asked,
        messages=tuple(_message(message, texts) for message in asked.messages),
        prompt=next(texts) if asked.prompt else "",
        more_prompts=tuple(next(texts) for _ in asked.more_prompts),
        tools=tuple(_grown(list(asked.tools), texts)),
        tool_choice=_choice(asked, texts),
        response_format=_formatted(asked.response_format, texts),
        stop=tuple(next(texts) for _ in asked.stop),
    )


def _chosen(asked: Asked) -> dict[str, Any]:
    """Return the function that must be called, as far as callers name it; its type is a word of the API."""
    return {"function": asked.tool_choice["function"]} if isinstance(asked.tool_choice, dict) else {}


def _choice(asked: Asked, texts: Iterator[str]) -> Any:
    chosen = _chosen(asked)
    return {"type": "function", **_grown(chosen, texts)} if chosen else asked.tool_choice


def _described(response_format: ResponseFormat | None) -> list[Any]:
    if response_format is None:
        return []
    return [response_format.name, response_format.description, response_format.schema]


def _formatted(response_format: ResponseFormat | None, texts: Iterator[str]) -> ResponseFormat | None:
    if response_format is None:
        return None
    name, description, schema = _grown(_described(response_format), texts)
    return dataclasses.replace(response_format, name=fitted(name), description=description, schema=schema)


def _message(message: Message, texts: Iterator[str]) -> Message:
    content = next(texts)
    next(texts)  # the id that it answers: whatever was found in one, no engine is told it (`with_ids`)
    return dataclasses.replace(
        message,
        content=None if message.content is None else content,
        tool_calls=tuple(_call(call, texts) for call in message.tool_calls),
    )


def _call(call: ToolCall, texts: Iterator[str]) -> ToolCall:
    next(texts)  # as above
    name, before = next(texts), _parsed(call.arguments)
    if not isinstance(before, str):
        next(texts)  # what its pieces lie in
    after = _grown(before, texts, numbers=True)
    if after == before:
        return dataclasses.replace(call, name=name)
    arguments = after if isinstance(before, str) else json.dumps(after, ensure_ascii=False)
    return dataclasses.replace(call, name=name, arguments=arguments)


def _parsed(arguments: str) -> Any:
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict | list) and not is_too_deep(value) else arguments


def _leaves(value: Any, *, numbers: bool = False) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from _leaves(one, numbers=numbers)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one, numbers=numbers)
    elif numbers and isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


def _grown(value: Any, texts: Iterator[str], *, numbers: bool = False) -> Any:
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, dict):
        return {next(texts): _grown(one, texts, numbers=numbers) for one in value.values()}
    if isinstance(value, list):
        return [_grown(one, texts, numbers=numbers) for one in value]
    if numbers and isinstance(value, int | float) and not isinstance(value, bool):
        text = next(texts)
        return value if text == str(value) else text
    return value
