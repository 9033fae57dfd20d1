"""JSON Schema as far as a task needs it (2020-12: a subset of its validation vocabulary), and answers judged by it.

A schema with any other keyword is refused when a set is read, so that none is silently not looked at.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from appliance.promote.patterns import safe_pattern
from media import canonical
from media.errors import MalformedError

_MAX_DEPTH: Final = 12
_NUMBERS: Final = ("minimum", "maximum")
_SIZES: Final = ("minLength", "maxLength", "minItems", "maxItems")
_KEYWORDS: Final = (
    "type", "enum", "const", "properties", "required", "additionalProperties", "items", "pattern", *_NUMBERS, *_SIZES,
)  # fmt: skip
_FENCE: Final = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """A schema that was read."""

    fields: Mapping[str, Any]

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Read a schema.

        Raises:
            MalformedError: A keyword is unknown or of another shape, or it is nested too deep.
        """
        return cls(fields=_read(untrusted, 0))

    def accepts(self, untrusted_answer: str) -> bool:
        """Tell whether an answer is one JSON document, perhaps in a fence of Markdown, that fits."""
        fenced = _FENCE.match(untrusted_answer)
        try:
            value = json.loads(fenced[1] if fenced else untrusted_answer, parse_constant=_no_number)
        except (ValueError, RecursionError):
            return False
        return _fits(value, self.fields)


def _no_number(name: str) -> Any:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's


def _read(untrusted: Any, depth: int) -> Mapping[str, Any]:
    if depth > _MAX_DEPTH:
        raise _refused(f"it is nested deeper than {_MAX_DEPTH}")
    fields = dict(canonical.exact_keys(untrusted, (), _KEYWORDS, "schema"))
    types = fields.get("type", [])
    named = [types] if isinstance(types, str) else canonical.array(types, "schema.type", most=len(_TYPES))
    fields["type"] = tuple(canonical.one_of(one, tuple(_TYPES), "schema.type") for one in named)
    for size in _SIZES:
        if size in fields:
            canonical.integer(fields[size], f"schema.{size}", minimum=0)
    for number in _NUMBERS:
        if number in fields:
            canonical.integer(fields[number], f"schema.{number}", minimum=-(2**53))
    _read_inner(fields, depth)
    if not isinstance(fields.get("additionalProperties", True), bool):
        raise _refused("additionalProperties is true or false")
    if "enum" in fields:
        canonical.array(fields["enum"], "schema.enum", most=100)
    if "enum" in fields and "const" in fields:
        raise _refused("it has enum and const")
    return fields


def _read_inner(fields: dict[str, Any], depth: int) -> None:
    if "pattern" in fields:
        fields["pattern"] = safe_pattern(canonical.text(fields["pattern"], "schema.pattern"))
    if "required" in fields:
        names = canonical.array(fields["required"], "schema.required", most=100)
        fields["required"] = tuple(canonical.text(one, "schema.required") for one in names)
    if "properties" in fields:
        inner = canonical.mapping(fields["properties"], "schema.properties")
        fields["properties"] = {name: _read(one, depth + 1) for name, one in inner.items()}
    if "items" in fields:
        fields["items"] = _read(fields["items"], depth + 1)


def _fits(value: Any, fields: Mapping[str, Any]) -> bool:
    allowed = fields.get("enum", [fields["const"]] if "const" in fields else [value])
    is_of_type = not fields["type"] or any(_is_of(value, one) for one in fields["type"])
    if not is_of_type or not any(_same(value, one) for one in allowed):
        return False
    if isinstance(value, str):
        pattern = fields.get("pattern")
        return _sized(value, "Length", fields) and (pattern is None or pattern.search(value) is not None)
    if isinstance(value, list):
        inner = fields.get("items")
        return _sized(value, "Items", fields) and (inner is None or all(_fits(one, inner) for one in value))
    if isinstance(value, dict):
        return _fits_object(value, fields)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bool(fields.get("minimum", value) <= value <= fields.get("maximum", value))
    return True


def _fits_object(value: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    known = fields.get("properties", {})
    if any(name not in value for name in fields.get("required", ())):
        return False
    if fields.get("additionalProperties") is False and value.keys() - known.keys():
        return False
    return all(_fits(value[name], inner) for name, inner in known.items() if name in value)


def _sized(value: Sequence[Any], what: str, fields: Mapping[str, Any]) -> bool:
    return bool(fields.get(f"min{what}", 0) <= len(value) <= fields.get(f"max{what}", len(value)))


def _is_of(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _same(one: Any, other: Any) -> bool:
    # In JSON Schema true is not 1.
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _refused(why: str) -> MalformedError:
    return MalformedError(what="a task's schema is refused", why=why, fix="write it simpler")
