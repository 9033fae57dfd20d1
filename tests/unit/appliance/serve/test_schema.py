"""What of a caller's JSON schema is kept, and what is refused by name."""

import sys
from typing import Any

import pytest

from appliance.serve import schema
from appliance.serve.schema import SchemaRefusedError

NODE = {
    "type": "object",
    "properties": {"value": {"type": "string"}, "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
    "required": ["value", "next"],
    "additionalProperties": False,
}


def test_notes_for_people_are_left_out_and_the_rest_is_kept() -> None:
    read = schema.read(
        {
            "title": "Note",
            "type": "object",
            "properties": {"a": {"type": "integer", "description": "x"}, "b": {"enum": ["x", 1, None]}},
            "required": ["a", "b"],
            "additionalProperties": False,
        }
    )

    assert read["properties"] == {"a": {"type": "integer"}, "b": {"enum": ["x", 1, None]}}
    assert read["required"] == ["a", "b"]


def test_a_recursive_list_is_kept_and_its_definition_is_nobodys_property() -> None:
    read = schema.read({"$ref": "#/$defs/Node", "$defs": {"Node": NODE}})
    clash = schema.read({"type": "object", "properties": {"part-0": {"$ref": "#/$defs/Node"}}, "$defs": {"Node": NODE}})

    assert read["$ref"] == "#/$defs/part-0"
    assert set(clash["$defs"]) == {"part-x-0"}


def test_a_list_of_types_keeps_each_types_own_words() -> None:
    read = schema.read({"type": ["string", "null"], "maxLength": 4})

    assert read == {"anyOf": [{"type": "string", "maxLength": 4}, {"type": "null"}]}


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("string", ["a"]),
        ("number", [1, 2.5, 3.0]),
        ("integer", [1, 3.0]),
        ("boolean", [True]),
        (["string", "null"], ["a", None]),
        (["object", "integer"], [1, 3.0]),
    ],
)
def test_of_listed_values_those_of_the_schemas_type_are_kept(kind: Any, kept: list[Any]) -> None:
    assert schema.read({"type": kind, "enum": ["a", 1, 2.5, True, 3.0, None]}) == {"enum": kept}


@pytest.mark.parametrize(
    ("refused", "at"),
    [
        ([], ""),
        ({"type": "integer", "minimum": 3}, ""),
        ({"type": "string", "pattern": "(a+)+$"}, ""),
        ({"type": "string", "format": "email"}, "/format"),
        ({"type": "string", "format": ["date"]}, "/format"),
        ({"format": {}}, "/format"),
        ({"allOf": [{"type": "string"}]}, ""),
        ({"type": "object", "properties": {"a": {"not": {}}}}, "/properties/*"),
        ({"$ref": "https://elsewhere.example/schema"}, "/$ref"),
        ({"$ref": "#/properties/a"}, "/$ref"),
        ({"$ref": "#"}, "/$ref"),
        ({"type": "object", "required": ["a"]}, "/required"),
        ({"type": "string", "maxLength": 10**9}, "/maxLength"),
        ({"type": "string", "minLength": True}, "/minLength"),
        ({"type": "array", "items": {}, "minItems": 5, "maxItems": 4}, "/maxItems"),
        ({"enum": []}, "/enum"),
        ({"enum": ["a\nb"]}, "/enum"),
        ({"const": {"a": 1}}, "/enum"),
        ({"const": float("inf")}, "/enum"),
        ({"type": "nothing"}, "/type"),
        ({"type": "nothing", "enum": ["a"]}, "/type"),
        ({"type": [], "const": "a"}, "/type"),
        ({"type": "integer", "const": "a"}, "/type"),
        ({"type": "object", "properties": {"$ref": {"type": "string"}}}, "/properties"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "$defs"),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}},
            "$defs",
        ),
    ],
)
def test_what_would_not_be_kept_is_refused_where_it_is(refused: Any, at: str) -> None:
    with pytest.raises(SchemaRefusedError) as caught:
        schema.read(refused)

    assert caught.value.at == at


def nested(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        found = {"type": "array", "items": found}
    return found


@pytest.mark.parametrize(
    "bomb",
    [
        nested(13),
        nested(50_000),
        {"type": "object", "properties": {f"p{at}": {"type": "string"} for at in range(65)}},
        {"type": "object", "properties": {f"p{at}": {"enum": list("ab")} for at in range(2000)}},
        {"anyOf": [{"type": "string", "maxLength": 256}] * 9},
        {"title": "x" * 70_000, "type": "string"},
        {"type": "object", "properties": {"x" * 4097: {"type": "string"}}, "additionalProperties": True},
        # Each level doubles in how many ways a text may be read.
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"anyOf": [{"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}}] * 2}},
        },
        # Few words, but whoever follows each reference comes by the last definition 2 to the power of 200 times.
        {
            "$ref": "#/$defs/0",
            "$defs": {
                **{str(at): {"anyOf": [{"$ref": f"#/$defs/{at + 1}"}] * 2} for at in range(200)},
                "200": {"type": "string"},
            },
        },
        # A long circle that grows by one each time around.
        {
            "$ref": "#/$defs/0",
            "$defs": {
                "0": {
                    "anyOf": [{"type": "object", "properties": {"x": {"$ref": "#/$defs/1"}}}, {"type": "object"}],
                },
                **{str(at): {"type": "array", "items": {"$ref": f"#/$defs/{(at + 1) % 200}"}} for at in range(1, 200)},
            },
        },
    ],
)
def test_a_schema_that_would_cost_without_end_is_refused(bomb: Any) -> None:
    with pytest.raises(SchemaRefusedError):
        schema.read(bomb)


def test_so_many_readings_are_taken_and_one_choice_more_is_not() -> None:
    def alternatives(count: int) -> dict[str, Any]:
        return {"anyOf": [{"enum": [f"{at}-{place}" for place in range(64)]} for at in range(count)]}

    assert len(schema.read(alternatives(8))["anyOf"]) == 8
    with pytest.raises(SchemaRefusedError, match="ways at once"):
        schema.read(alternatives(9))


def test_a_listed_name_is_not_read_as_one_of_the_others_too() -> None:
    half = {"enum": [f"{place}" for place in range(400)]}
    read = schema.read({"type": "object", "properties": {"x": half}, "additionalProperties": half})
    assert read["additionalProperties"] == read["properties"]["x"] == half

    itself = {"$ref": "#/$defs/a"}
    schema.read(
        itself | {"$defs": {"a": {"type": "object", "properties": {"x": itself}, "additionalProperties": itself}}}
    )


def test_a_long_chain_of_definitions_is_read_in_as_many_steps_as_it_has_links() -> None:
    chain = {str(at): {"anyOf": [{"$ref": f"#/$defs/{at + 1}"}]} for at in range(450)}
    bomb = {"$ref": "#/$defs/0", "$defs": {**chain, "450": {"type": "string"}}}
    calls = 0

    def count(_frame: object, event: str, _what: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        schema.read(bomb)
    finally:
        sys.setprofile(None)

    assert calls < 100 * 450
