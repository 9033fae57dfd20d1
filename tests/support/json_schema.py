"""Whether a value is as a schema of the gateway's description says; it knows the words that are used there."""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

_KINDS: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}
_KNOWN = {"type", "const", "enum", "anyOf", "pattern", "format", "minLength", "maxLength", "minimum", "maximum"} | {
    *("required", "properties", "additionalProperties", "propertyNames", "maxProperties"),
    *("items", "minItems", "maxItems", "description", "contentMediaType", "contentSchema"),
}


def fits(value: Any, schema: Mapping[str, Any] | Literal[False]) -> bool:
    """Tell whether a value is as a schema says."""
    if schema is False:
        return False
    assert set(schema) <= _KNOWN, set(schema) - _KNOWN
    kinds = schema.get("type", list(_KINDS))
    of_kind = any(_is(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))
    among = "const" not in schema or _same(value, schema["const"])
    among = among and ("enum" not in schema or any(_same(value, one) for one in schema["enum"]))
    some = "anyOf" not in schema or any(fits(value, one) for one in schema["anyOf"])
    return of_kind and among and some and _inside(value, schema)


def _inside(value: Any, schema: Mapping[str, Any]) -> bool:
    if isinstance(value, str):
        least, most = schema.get("minLength", 0), schema.get("maxLength", len(value))
        of_form = least <= len(value) <= most and bool(re.search(schema.get("pattern", ""), value))
        return of_form and ("contentSchema" not in schema or _holds(value, schema["contentSchema"]))
    if isinstance(value, list):
        items = all(fits(one, schema.get("items", {})) for one in value)
        return items and schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        return (
            set(schema.get("required", ())) <= set(value)
            and len(value) <= schema.get("maxProperties", len(value))
            and all(fits(name, schema.get("propertyNames", {})) for name in value)
            and all(fits(one, properties.get(name, others)) for name, one in value.items())
        )
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return True


def _holds(text: str, schema: Mapping[str, Any]) -> bool:
    try:
        return fits(json.loads(text), schema)
    except ValueError:
        return False


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _same(value: Any, other: Any) -> bool:
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)
