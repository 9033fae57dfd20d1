"""Reads a caller's JSON schema to the part of it that an engine's grammar keeps exactly, and refuses the rest by name.

A keyword that would be ignored in silence is refused: an answer that only looks checked is worse than an error. Sizes,
depth and repetitions are bounded, references stay inside the schema, and nothing is fetched.

Read: `type`, `properties`, `required`, `additionalProperties`, `items`, `prefixItems`, `minItems`, `maxItems`, `enum`,
`const`, `anyOf`, `oneOf` (as `anyOf`), `$ref` to `$defs` or `definitions`, `minLength`, `maxLength`, `format` (date,
time, date-time, uuid), and notes for people, which have no effect. Source: JSON Schema 2020-12; llama-cpp-python's
converter, whose gaps these rules close.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

MAX_CHARACTERS: Final = 64 * 1024
MAX_DEPTH: Final = 12
MAX_NODES: Final = 1024
MAX_OPTIONAL: Final = 64
MAX_CHOICES: Final = 512
MAX_REPEATED: Final = 256
MAX_REPEATED_IN_ALL: Final = 2048
MAX_READINGS: Final = 512
MAX_BESIDE: Final = 4096
"""Characters of names beside which an object takes others: of these a grammar has a rule for each letter of those."""
_MOST_ROUNDS: Final = 64
_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")
_ANYTHING: Final = ["object", "array", "string", "number", "boolean", "null"]
_NOTES: Final = frozenset(
    {"$comment", "$id", "$schema", "default", "deprecated", "description", "examples", "readOnly", "title", "writeOnly"}
)
_DEFS: Final = ("$defs", "definitions")
_REF: Final = re.compile(r"#/(\$defs|definitions)/([^/]{1,128})")
_FORMATS: Final = frozenset({"date", "time", "date-time", "uuid"})
_OF_TYPE: Final[Mapping[str, frozenset[str]]] = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "format"}),
}


class SchemaRefusedError(Exception):
    """A schema that cannot be kept: where in it, and why. The text holds no content but names of keywords."""

    def __init__(self, at: str, why: str) -> None:
        super().__init__(why)
        self.at = at
        self.why = why


def read(untrusted: object) -> dict[str, Any]:
    """Return the schema in the form that engines keep.

    Raises:
        SchemaRefusedError: It holds what would not be kept, or too much.
    """
    if not isinstance(untrusted, dict):
        raise SchemaRefusedError("", "a schema is an object")
    try:
        length = len(json.dumps(untrusted, ensure_ascii=False))
    except RecursionError:
        length = MAX_CHARACTERS + 1
    if length > MAX_CHARACTERS:
        raise SchemaRefusedError("", f"a schema has at most {MAX_CHARACTERS} characters")
    return _Reader(untrusted).read()


class _Reader:
    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._nodes = 0
        self._repeated = 0
        self._beside = 0
        self._defs: dict[str, str] = {}
        self._read: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        # The converter names rules by properties and by definitions alike; these names are nobody's property.
        written, prefix = json.dumps(self._schema), "part"
        while prefix in written:
            prefix += "-x"
        for place in _DEFS:
            held = self._schema.get(place, {})
            if not isinstance(held, dict):
                raise SchemaRefusedError(place, "an object of schemas")
            for name in held:
                self._defs[f"#/{place}/{name}"] = f"{prefix}-{len(self._defs)}"
        top = {name: value for name, value in self._schema.items() if name not in _DEFS}
        found = self._node(top, "", depth=0)
        for place in _DEFS:
            for name, one in self._schema.get(place, {}).items():
                self._read[self._defs[f"#/{place}/{name}"]] = self._node(one, f"{place}", depth=1)
        self._require_progress()
        require_few_readings(found, self._read)
        return {**found, "$defs": self._read} if self._read else found

    def _node(self, untrusted: object, at: str, *, depth: int) -> dict[str, Any]:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise SchemaRefusedError(at, f"at most {MAX_DEPTH} levels and {MAX_NODES} schemas")
        if untrusted is True:
            untrusted = {}
        if not isinstance(untrusted, dict):
            raise SchemaRefusedError(at, "a schema is an object")
        node = {name: value for name, value in untrusted.items() if name not in _NOTES}
        if "$ref" in node:
            return self._reference(node, at)
        for name in ("anyOf", "oneOf"):
            if name in node:
                return self._union(node, name, at, depth=depth)
        if "const" in node or "enum" in node:
            return _choices(node, at)
        return self._typed(node, at, depth=depth)

    def _reference(self, node: Mapping[str, Any], at: str) -> dict[str, Any]:
        _require_only(node, {"$ref"}, at)
        ref = node["$ref"]
        if not isinstance(ref, str) or not _REF.fullmatch(ref) or ref not in self._defs:
            raise SchemaRefusedError(f"{at}/$ref", "a reference to $defs or definitions of the same schema")
        return {"$ref": f"#/$defs/{self._defs[ref]}"}

    def _union(self, node: Mapping[str, Any], name: str, at: str, *, depth: int) -> dict[str, Any]:
        # A discriminator says which of the schemas it is, by a constant that is in each of them anyway.
        _require_only(node, {name, "discriminator"}, at)
        schemas = node[name]
        if not isinstance(schemas, list) or not 1 <= len(schemas) <= MAX_OPTIONAL:
            raise SchemaRefusedError(f"{at}/{name}", f"1 to {MAX_OPTIONAL} schemas")
        return {"anyOf": [self._node(one, f"{at}/{name}", depth=depth + 1) for one in schemas]}

    def _typed(self, node: Mapping[str, Any], at: str, *, depth: int) -> dict[str, Any]:
        kind = node.get("type")
        if kind is None:
            kind = next((one for one, names in _OF_TYPE.items() if names & set(node)), None)
        if kind is None:
            _require_only(node, set(), at)
            return {"type": list(_ANYTHING)}
        if isinstance(kind, list):
            if not kind or len(kind) > len(_TYPES) or any(one not in _TYPES for one in kind):
                raise SchemaRefusedError(f"{at}/type", f"of {', '.join(_TYPES)}")
            rest = {name: value for name, value in node.items() if name != "type"}
            held = [{name: rest[name] for name in rest if name in _OF_TYPE.get(one, ())} for one in kind]
            _require_only(rest, {name for names in held for name in names}, at)
            return {
                "anyOf": [
                    self._typed({"type": one, **its}, at, depth=depth + 1) for one, its in zip(kind, held, strict=True)
                ]
            }
        if not isinstance(kind, str) or kind not in _TYPES:
            raise SchemaRefusedError(f"{at}/type", f"of {', '.join(_TYPES)}")
        _require_only(node, {"type", *_OF_TYPE.get(kind, ())}, at)
        if kind == "object":
            return self._object(node, at, depth=depth)
        if kind == "array":
            return self._array(node, at, depth=depth)
        return self._string(node, at) if kind == "string" else {"type": kind}

    def _object(self, node: Mapping[str, Any], at: str, *, depth: int) -> dict[str, Any]:
        properties, required = node.get("properties", {}), node.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise SchemaRefusedError(at, "properties is an object, required a list")
        if any(not isinstance(name, str) or name not in properties for name in required):
            raise SchemaRefusedError(f"{at}/required", "names of properties")
        if "$ref" in properties:
            raise SchemaRefusedError(f"{at}/properties", "no property may be named $ref")
        if len(set(properties) - set(required)) > MAX_OPTIONAL:
            raise SchemaRefusedError(f"{at}/properties", f"at most {MAX_OPTIONAL} that are not required")
        more = node.get("additionalProperties", not properties)
        read = {name: self._node(one, f"{at}/properties/*", depth=depth + 1) for name, one in properties.items()}
        if more is not False:
            more = self._node(more, f"{at}/additionalProperties", depth=depth + 1)
            self._beside += sum(map(len, properties))
            if self._beside > MAX_BESIDE:
                raise SchemaRefusedError(f"{at}/properties", f"at most {MAX_BESIDE} characters of names beside others")
        if not read and more is not False and more == {"type": _ANYTHING}:
            return {"type": "object"}
        return {"type": "object", "properties": read, "required": list(required), "additionalProperties": more}

    def _array(self, node: Mapping[str, Any], at: str, *, depth: int) -> dict[str, Any]:
        least, most = self._bounds(node, "minItems", "maxItems", at)
        if "prefixItems" in node:
            schemas, more = node["prefixItems"], node.get("items", False)
            if not isinstance(schemas, list) or not 1 <= len(schemas) <= MAX_OPTIONAL or more is not False:
                raise SchemaRefusedError(f"{at}/prefixItems", f"1 to {MAX_OPTIONAL} schemas, and no other items")
            if (least or 0) > len(schemas) or (most is not None and most < len(schemas)):
                raise SchemaRefusedError(f"{at}/prefixItems", "as many items as minItems and maxItems allow")
            return {
                "type": "array",
                "prefixItems": [self._node(one, f"{at}/prefixItems", depth=depth + 1) for one in schemas],
            }
        if "items" not in node and least is None and most is None:
            return {"type": "array"}
        made = {"type": "array", "items": self._node(node.get("items", {}), f"{at}/items", depth=depth + 1)}
        return made | _given(minItems=least, maxItems=most)

    def _string(self, node: Mapping[str, Any], at: str) -> dict[str, Any]:
        least, most = self._bounds(node, "minLength", "maxLength", at)
        if "format" not in node:
            return {"type": "string"} | _given(minLength=least, maxLength=most)
        if not isinstance(node["format"], str) or node["format"] not in _FORMATS:
            raise SchemaRefusedError(f"{at}/format", f"of {', '.join(sorted(_FORMATS))}")
        if least is not None or most is not None:
            raise SchemaRefusedError(f"{at}/format", "not together with a length")
        return {"type": "string", "format": node["format"]}

    def _bounds(self, node: Mapping[str, Any], low: str, high: str, at: str) -> tuple[int | None, int | None]:
        least, most = node.get(low), node.get(high)
        for name, value in ((low, least), (high, most)):
            if value is not None and (type(value) is not int or not 0 <= value <= MAX_REPEATED):
                raise SchemaRefusedError(f"{at}/{name}", f"a whole number from 0 to {MAX_REPEATED}")
        if least is not None and most is not None and most < least:
            raise SchemaRefusedError(f"{at}/{high}", f"at least {low}")
        self._repeated += most if most is not None else least or 0
        if self._repeated > MAX_REPEATED_IN_ALL:
            raise SchemaRefusedError(f"{at}/{high}", f"all lengths together are at most {MAX_REPEATED_IN_ALL}")
        return least, most

    def _require_progress(self) -> None:
        """Refuse definitions that lead only to each other: no text would ever come of them."""
        try:
            TopologicalSorter({name: list(_heads(node)) for name, node in self._read.items()}).prepare()
        except CycleError:
            raise SchemaRefusedError("$defs", "a definition must not be itself") from None


def require_few_readings(schema: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a schema by which one text may be read in very many ways at once: a grammar follows every one of them.

    Raises:
        SchemaRefusedError: There would be more than `MAX_READINGS`, perhaps without end by a recursive definition.
    """
    order = _deepest_first(definitions)
    kinds = _kinds_of(order)
    known = dict.fromkeys(order, 1)
    # Only along circles of definitions it still grows after two rounds, and where it does after so many, without end.
    for _ in range(min(len(order) + 2, _MOST_ROUNDS)):
        before = dict(known)
        for name, node in order.items():
            known[name] = _readings(node, kinds, known)
        if max([_readings(schema, kinds, known), *known.values()]) > MAX_READINGS:
            break
        if known == before:
            return
    raise SchemaRefusedError("", f"a text could be read in more than {MAX_READINGS} ways at once")


def _readings(node: Mapping[str, Any], kinds: Mapping[str, frozenset[str]], known: Mapping[str, int]) -> int:
    """Return in how many ways the beginning of a text may be read at most."""
    if "$ref" in node:
        return known[_named(node)]
    if "anyOf" in node:
        # The first letter tells kinds apart; schemas of one kind are followed side by side.
        counts: Counter[str] = Counter()
        for one in node["anyOf"]:
            ways = _readings(one, kinds, known)
            counts.update(dict.fromkeys(_kinds(one, kinds), ways))
        return max(counts.values())
    if "enum" in node:
        return len(node["enum"])
    properties, more = node.get("properties", {}), node.get("additionalProperties", False)
    # A name says which value comes: one that is listed is none of the others, however it is spelled.
    values = [*properties.values(), *([] if more is False else [more])]
    names = len(set(properties) - set(node.get("required", ()))) + 1 + (more is not False)
    items = [*node.get("prefixItems", ()), *([node["items"]] if "items" in node else [])]
    return max([names, *(_readings(one, kinds, known) for one in [*values, *items])])


def _kinds_of(definitions: Mapping[str, Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """Return the kinds of values of each definition, each found once: following references would be without end."""
    kinds: dict[str, frozenset[str]] = dict.fromkeys(definitions, frozenset())
    before: dict[str, frozenset[str]] = {}
    while kinds != before:
        before = dict(kinds)
        for name, node in definitions.items():
            kinds[name] = _kinds(node, kinds)
    return kinds


def _deepest_first(definitions: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return definitions behind those that they name, so that two rounds suffice where none is recursive."""
    order: dict[str, Mapping[str, Any]] = {}
    seen: set[str] = set()
    path = list(definitions)
    while path:
        name = path[-1]
        if name in seen:
            order.setdefault(path.pop(), definitions[name])
        else:
            seen.add(name)
            path += [one for one in _references(definitions[name]) if one not in seen]
    return order


def _references(node: object) -> Iterator[str]:
    if isinstance(node, list):
        for one in node:
            yield from _references(one)
    elif isinstance(node, dict):
        if "$ref" in node:
            yield _named(node)
        else:
            yield from _references(list(node.values()))


def _kinds(node: Mapping[str, Any], known: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return the kinds of values that a schema takes; numbers are one kind."""
    if "$ref" in node:
        return known[_named(node)]
    if "anyOf" in node:
        return frozenset().union(*(_kinds(one, known) for one in node["anyOf"]))
    if "enum" in node:
        return frozenset("string" if isinstance(value, str) else "other" for value in node["enum"])
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    return frozenset("other" if kind in {"integer", "number", "boolean", "null"} else kind for kind in kinds)


def _named(node: Mapping[str, Any]) -> str:
    return str(node["$ref"]).rpartition("/")[2]


def _heads(node: Mapping[str, Any]) -> Iterable[str]:
    if "$ref" in node:
        yield _named(node)
    for one in node.get("anyOf", ()):
        yield from _heads(one)


def _choices(node: Mapping[str, Any], at: str) -> dict[str, Any]:
    _require_only(node, {"const", "enum", "type"}, at)
    values = [node["const"]] if "const" in node else node["enum"]
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_CHOICES or ("const" in node and "enum" in node):
        raise SchemaRefusedError(f"{at}/enum", f"1 to {MAX_CHOICES} values")
    for value in values:
        if isinstance(value, dict | list) or (isinstance(value, float) and not math.isfinite(value)):
            raise SchemaRefusedError(f"{at}/enum", "texts, numbers, truth values and null")
        if isinstance(value, str) and any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in value):
            raise SchemaRefusedError(f"{at}/enum", "texts without control characters")
    # Both words count: a value of another type than the schema's is none that an answer may have.
    values = values if "type" not in node else [one for one in values if _is_of_type(one, node["type"], at)]
    if not values:
        raise SchemaRefusedError(f"{at}/type", "no value is of it")
    return {"enum": values}


def _is_of_type(value: object, kind: object, at: str) -> bool:
    kinds = kind if isinstance(kind, list) else [kind]
    if not kinds or any(not isinstance(one, str) or one not in _TYPES for one in kinds):
        raise SchemaRefusedError(f"{at}/type", f"of {', '.join(_TYPES)}")
    if value is None or isinstance(value, bool | str):
        return ("null" if value is None else "string" if isinstance(value, str) else "boolean") in kinds
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return "number" in kinds or (is_whole and "integer" in kinds)


def _require_only(node: Mapping[str, Any], known: Iterable[str], at: str) -> None:
    for name in sorted(set(node) - set(known)):
        shown = name if re.fullmatch(r"[$A-Za-z]{1,40}", name) else "a member"
        raise SchemaRefusedError(at, f"{shown} is not supported here")


def _given(**bounds: int | None) -> dict[str, int]:
    return {name: value for name, value in bounds.items() if value is not None}
