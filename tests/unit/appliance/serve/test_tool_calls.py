"""Calls told from text, however an answer is cut; conversations with calls as templates without functions know them."""

import json
from typing import Any

import pytest

from appliance.serve.schema import SchemaRefusedError
from appliance.serve.tool_calls import CallReader, CallText, read_tools, told

CALL = '<tool_call>\n{"name": "look_up", "arguments": {"q": "a \\"}\\" {", "n": [1, {"x": 2}]}}\n</tool_call>'
ARGUMENTS = {"q": 'a "}" {', "n": [1, {"x": 2}]}


def read(text: str, size: int) -> tuple[str, list[tuple[str, Any]], CallReader]:
    reader, said = CallReader(), ""
    calls: dict[int, tuple[str, str]] = {}
    for at in range(0, len(text), size):
        for one in reader.add(text[at : at + size]):
            if isinstance(one, CallText):
                name, arguments = calls.get(one.index, ("", ""))
                calls[one.index] = (name + one.name, arguments + one.arguments)
            else:
                said += one
    said += reader.end()
    return said, [(name, json.loads(arguments)) for name, arguments in calls.values()], reader


@pytest.mark.parametrize("size", range(1, len(CALL) + 1))
def test_a_call_is_read_however_it_is_cut(size: int) -> None:
    said, calls, _ = read(CALL + "\n" + CALL, size)

    assert (said, calls) == ("", [("look_up", ARGUMENTS)] * 2)


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("text", ["plain", "", "  <b>bold</b>", "<tool_cal", "a <tool_call> later", "<tool_call", "\n"])
def test_text_stays_text(size: int, text: str) -> None:
    said, calls, _ = read(text, size)

    assert (said, calls) == (text, [])


def test_a_call_that_was_cut_off_is_told_as_far_as_it_came() -> None:
    reader = CallReader()

    pieces = [one for one in reader.add(CALL[:60]) if isinstance(one, CallText)]

    assert pieces[0].name == "look_up"
    assert "".join(one.arguments for one in pieces).startswith('{"q": "a ')
    assert reader.end() == ""


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("cut", range(1, 30))
def test_what_begins_a_call_that_had_to_come_is_no_text(size: int, cut: int) -> None:
    reader = CallReader(must=True)

    said = [one for at in range(0, cut, size) for one in reader.add(CALL[at : min(cut, at + size)])]

    assert (said, reader.end()) == ([], "")


def test_calls_and_their_results_are_told_as_turns() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"q": "x"}'}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": None, "tool_calls": [call, call]},
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c1", "content": "two"},
    ]
    tools = read_tools({"tools": [{"type": "function", "function": {"name": "look_up", "description": "finds {}"}}]})

    found = told(messages, tools)

    assert [message["role"] for message in found] == ["system", "user", "assistant", "user"]
    assert found[0]["content"].startswith("Be brief.")
    assert '"description": "finds {}"' in found[0]["content"]
    assert '<tool_call>\n{"name": "NAME", "arguments": {}}\n</tool_call>' in found[0]["content"]
    assert found[2]["content"].count("<tool_call>") == 2
    assert found[3]["content"].count("<tool_response>") == 2


def test_definitions_of_several_functions_do_not_meet() -> None:
    def tool(name: str, kind: str) -> dict[str, Any]:
        schema = {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/A"}},
            "required": ["a"],
            "$defs": {"A": {"type": kind}},
        }
        return {"type": "function", "function": {"name": name, "parameters": schema}}

    tools = read_tools({"tools": [tool("one", "string"), tool("two", "integer")]})

    assert tools is not None
    schema = tools.constraint().schema
    kinds = [
        schema["$defs"][one["properties"]["arguments"]["properties"]["a"]["$ref"].rpartition("/")[2]]["type"]
        for one in schema["anyOf"]
    ]
    assert kinds == ["string", "integer"]


def test_a_function_that_is_not_strict_may_have_words_that_are_not_kept() -> None:
    parameters = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}}
    tools = read_tools({"tools": [{"type": "function", "function": {"name": "a", "parameters": parameters}}]})

    assert tools is not None
    assert tools.tools[0].arguments == {"type": "object"}


def choosing(name: str, count: int, *, strict: bool) -> dict[str, Any]:
    parameters: dict[str, Any] = {"type": "object", "required": ["code"], "additionalProperties": False}
    parameters["properties"] = {"code": {"enum": [f"{name}{at}" for at in range(count)]}}
    return {"type": "function", "function": {"name": name, "parameters": parameters, "strict": strict}}


def test_each_function_keeps_its_schema_however_many_choices_all_have_together() -> None:
    tools = read_tools({"tools": [choosing(name, 200, strict=True) for name in ("one", "two", "three")]})

    assert tools is not None
    kept = [one["properties"]["arguments"]["properties"]["code"] for one in tools.constraint().schema["anyOf"]]
    assert [len(one["enum"]) for one in kept] == [200, 200, 200]


def test_strict_functions_of_one_name_with_too_many_choices_together_are_refused() -> None:
    same = [choosing("one", 200, strict=False), choosing("one", 200, strict=False), choosing("one", 200, strict=True)]
    with pytest.raises(SchemaRefusedError, match="beside the other functions of its name") as caught:
        read_tools({"tools": same})
    assert caught.value.at == "tools[2].function.parameters"

    tools = read_tools({"tools": [same[0]] * 3 + [choosing("two", 200, strict=True)]})
    assert tools is not None
    assert [tool.arguments == {"type": "object"} for tool in tools.tools] == [True, True, True, False]
