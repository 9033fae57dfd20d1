"""The rules of a schema in llama.cpp's notation: llama-cpp-python's converter, without what it lets in too much."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from llama_cpp.llama_grammar import PRIMITIVE_RULES, SchemaConverter

from appliance.serve.grammar import exact, object_rule, other_name
from appliance.serve.schema import SchemaRefusedError

_WHOLE: Final = "whole"
"""How the converter calls the rule of a whole schema; else it would take a property without a name for that."""


def rules_of(schema: Mapping[str, Any]) -> dict[str, str]:
    """Return the rules of a schema as `appliance.serve.schema.read` returned it; the rule ``root`` is all of it.

    Raises:
        SchemaRefusedError: It cannot be made into rules.
    """
    converter = _Converter(prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False)
    try:
        # Its own search for references overlooks those behind another, and would fetch.
        definitions = schema.get("$defs", {})
        converter._refs.update({f"#/$defs/{name}": one for name, one in definitions.items()})  # noqa: SLF001
        top = {name: one for name, one in schema.items() if name != "$defs"}
        root = converter.visit(top, _WHOLE)
    except (AssertionError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise SchemaRefusedError("", "the schema cannot be made into a grammar") from error
    return exact({**converter._rules, "root": root})  # noqa: SLF001 - it has no other door to its rules


class _Converter(SchemaConverter):  # type: ignore[misc] # llama_cpp carries no types
    def _format_literal(self, literal: str) -> str:
        # Its own escapes leave a backslash alone, and write letters beyond ASCII as they look in JSON's escapes.
        text = json.dumps(json.loads(literal), ensure_ascii=False)
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def _build_object_rule(
        self, properties: Sequence[tuple[str, Any]], required: Collection[str], name: str, others: Any
    ) -> str:
        # By its own rule no comma comes before the first property that is not listed, and one that is may come there
        # once more, with any value of theirs.
        at = f"{name}-" if name else ""
        pairs = {
            one: self._add_rule(
                f"{at}{one}-kv",
                f'{self._format_literal(json.dumps(one))} space ":" space {self.visit(schema, f"{at}{one}")}',
            )
            for one, schema in properties
        }
        other = ""
        if others is True or isinstance(others, dict):
            value = self.visit({} if others is True else others, f"{at}additional-value")
            key = other_name(pairs, self._add_rule, f"{at}additional") if pairs else self._any_name()
            other = self._add_rule(f"{at}additional-kv", f'{key} ":" space {value}')
        return object_rule(pairs, required, other, self._add_rule, f"{at}rest")

    def _any_name(self) -> Any:
        return self._add_primitive("string", PRIMITIVE_RULES["string"])
