"""Lets an answer's dates be the tokens that stand for them: a schema's `format` alone would have the engine invent one.

Where a request's dates were replaced, the engine has never seen them. A text that must look like a date could then only
be made up, and nobody who reads the answer could tell. So beside its format such a text may be one of those tokens,
which becomes the date as the request wrote it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from appliance.gateway.parameters import Asked
from appliance.phi.patterns import PhiClass
from appliance.phi.tokens import TokenMap
from appliance.serve import schema
from appliance.serve.schema import SchemaRefusedError

_OF_DATES: Final = frozenset({"date", "date-time", "time"})


def widened(asked: Asked, tokens: TokenMap) -> Asked:
    """Return a masked request whose schemas take the tokens of its dates wherever they ask for a date or a time."""
    dates = [f"[{word}_{ordinal}]" for word, ordinal in tokens.values if word == PhiClass.DATE.name]
    if not dates:
        return asked
    held = asked.response_format
    if held is not None and held.schema is not None:
        held = replace(held, schema=_kept(held.schema, dates))
    return replace(asked, response_format=held, tools=tuple(_tool(tool, dates) for tool in asked.tools))


def _tool(tool: Mapping[str, Any], dates: Sequence[str]) -> Mapping[str, Any]:
    function = tool["function"]
    if not isinstance(function.get("parameters"), dict):
        return tool
    return {**tool, "function": {**function, "parameters": _kept(function["parameters"], dates)}}


def _kept(asked: Mapping[str, Any], dates: Sequence[str]) -> Mapping[str, Any]:
    """Return the wider schema, where an engine keeps it; else one whose dates are any text, as large as before."""
    wider: Mapping[str, Any] = _with(asked, dates)
    return wider if wider == asked or _is_kept(wider) or not _is_kept(asked) else _with(asked, ())


def _with(node: Any, dates: Sequence[str]) -> Any:
    if isinstance(node, list):
        return [_with(one, dates) for one in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("format"), str) and node["format"] in _OF_DATES and "string" in _types(node):
        if not dates:
            return {name: value for name, value in node.items() if name != "format"}
        return {"anyOf": [node, {"enum": list(dates)}]}
    return {name: _with(one, dates) for name, one in node.items()}


def _types(node: Mapping[str, Any]) -> Iterator[object]:
    kind = node.get("type", "string")
    yield from kind if isinstance(kind, list) else [kind]


def _is_kept(asked: Mapping[str, Any]) -> bool:
    try:
        schema.read(asked)
    except SchemaRefusedError:
        return False
    return True
