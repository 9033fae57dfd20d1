"""Names of functions that held an identifier: engines take letters, digits, `_` and `-` alone, so no token fits there.

Such a function is known to the engine by its token without brackets, everywhere in a request alike. What is remembered
of the name holds no identifier: the brackets are put back, and then the identifier as in any text of the answer.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from appliance.gateway.messages import Message
from appliance.gateway.parameters import Asked

_MOST_CHARACTERS: Final = 64
_FITS: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ELSE: Final = re.compile(r"[^A-Za-z0-9_-]")


def with_names(asked: Asked) -> Asked:
    """Return a masked request whose functions have names that engines take; see `Asked.function_names`."""
    names = dict.fromkeys(_names(asked))
    odd = [name for name in names if not _FITS.fullmatch(name)]
    if not odd:
        return asked
    taken = set(names)
    known: dict[str, str] = {}
    for name in odd:
        plain = made = fitted(name)[: _MOST_CHARACTERS - len("-999")]
        number = 1
        while made in taken:
            number += 1
            made = f"{plain}-{number}"
        taken.add(made)
        known[name] = made
    return replace(
        asked,
        messages=tuple(_message(message, known) for message in asked.messages),
        tools=tuple(_function(tool, known) for tool in asked.tools),
        tool_choice=_function(asked.tool_choice, known) if isinstance(asked.tool_choice, dict) else asked.tool_choice,
        function_names={made: name for name, made in known.items()},
    )


def fitted(name: str) -> str:
    """Return a name that held an identifier as engines take it: its token without brackets; another one as it is."""
    return _ELSE.sub("", name)[:_MOST_CHARACTERS]


def _names(asked: Asked) -> Iterator[str]:
    for message in asked.messages:
        yield from (call.name for call in message.tool_calls)
    yield from (tool["function"]["name"] for tool in asked.tools)
    if isinstance(asked.tool_choice, dict):
        yield asked.tool_choice["function"]["name"]


def _message(message: Message, known: Mapping[str, str]) -> Message:
    calls = tuple(replace(call, name=known.get(call.name, call.name)) for call in message.tool_calls)
    return replace(message, tool_calls=calls)


def _function(held: Mapping[str, Any], known: Mapping[str, str]) -> Mapping[str, Any]:
    function = held["function"]
    return {**held, "function": {**function, "name": known.get(function["name"], function["name"])}}
