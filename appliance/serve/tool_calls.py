"""Functions that a model may call: how it is told of them, what its call must look like, and how a call is read.

The form is the one that open models were trained on: a JSON object with `name` and `arguments` between two tags. The
functions are described in the system message as plain text, like everything callers write, so no name or description
can become a control token. A grammar keeps the form; so what begins with the tag is a call, and nothing else is.

Source: OpenAI's documentation of function calling (which finish reason, what a stream has); the tags are those of the
Hermes and Qwen models.
"""

import json
import re
import secrets
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from appliance.serve import schema
from appliance.serve.engine import Constraint
from appliance.serve.schema import SchemaRefusedError
from appliance.serve.stopping import begins

OPENING: Final = "<tool_call>"
CLOSING: Final = "</tool_call>"
SPACE: Final = " \n"
"""What may come before a call, as the grammar has it (`appliance.serve.grammar`); behind other white space is text."""
MOST_CALLS: Final = 8
_ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}
_HEAD: Final = re.compile(r'\s*\{\s*"name"\s*:\s*"([A-Za-z0-9_-]{1,64})"\s*,\s*"arguments"\s*:\s*(?=\{)')
_TOLD: Final = (
    "You can call these functions. Each line between the tags describes one as JSON.\n<tools>\n{tools}\n</tools>\n"
    "To call a function, answer with its name and its arguments as one JSON object between tags, and nothing else:\n"
    f'{OPENING}\n{{{{"name": "NAME", "arguments": {{{{}}}}}}}}\n{CLOSING}'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One function; `arguments` is the schema of its arguments in the form that grammars keep.

    `is_strict` tells whether the caller was promised that they follow the schema.
    """

    name: str
    told: Mapping[str, Any]
    arguments: Mapping[str, Any]
    is_strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What may be called in an answer.

    Attributes:
        must: Whether an answer without a call is none.
        is_named: Whether the caller chose the function.
        most: How many calls one answer may have.
    """

    tools: tuple[Tool, ...]
    must: bool
    is_named: bool
    most: int

    def constraint(self) -> Constraint:
        """Return what keeps an answer in form."""
        return Constraint(
            schema=_schema_of(self.tools), opening=OPENING, closing=CLOSING, most=self.most, is_optional=not self.must
        )


def read_tools(body: Mapping[str, Any]) -> Tools | None:
    """Return what may be called; None where nothing may.

    Raises:
        SchemaRefusedError: A tool is malformed, or a strict one's schema cannot be kept, by itself or beside others of
            its name.
    """
    untrusted, choice = body.get("tools") or [], body.get("tool_choice")
    if not untrusted or choice == "none":
        return None
    if not isinstance(untrusted, list):
        raise SchemaRefusedError("tools", "a list of functions")
    tools = _with_few_readings([_tool(one, f"tools[{place}]") for place, one in enumerate(untrusted)])
    named = choice.get("function", {}).get("name") if isinstance(choice, dict) else None
    if named is not None:
        tools = tuple(tool for tool in tools if tool.name == named)
        if not tools:
            raise SchemaRefusedError("tool_choice", "the name of one of the tools")
    elif choice not in (None, "auto", "required"):
        raise SchemaRefusedError("tool_choice", "none, auto, required, or one function")
    return Tools(
        tools=tools,
        must=choice == "required" or named is not None,
        is_named=named is not None,
        most=MOST_CALLS if body.get("parallel_tool_calls") is True and named is None else 1,
    )


def told(messages: Sequence[Mapping[str, Any]], tools: Tools | None) -> list[dict[str, str]]:
    """Return a conversation as templates without functions know it: roles and texts.

    Calls that were made become the text they were; what functions answered becomes a user's turn, joined where several
    follow each other.
    """
    found: list[dict[str, str]] = []
    for message in messages:
        role, content = str(message["role"]), str(message.get("content") or "")
        for call in message.get("tool_calls") or ():
            content += f"{OPENING}\n{_called(call)}\n{CLOSING}"
        if role == "tool":
            content = f"<tool_response>\n{content}\n</tool_response>"
            if found and found[-1]["role"] == "tool":
                found[-1]["content"] += f"\n{content}"
                continue
        found.append({"role": role, "content": content})
    for message in found:
        message["role"] = "user" if message["role"] == "tool" else message["role"]
    if tools is not None:
        listed = "\n".join(json.dumps(tool.told, ensure_ascii=False) for tool in tools.tools)
        text = _TOLD.format(tools="{tools}").replace("{tools}", listed)
        if found and found[0]["role"] == "system":
            found[0]["content"] += f"\n\n{text}"
        else:
            found.insert(0, {"role": "system", "content": text})
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CallText:
    """A piece of a call; `id` and `name` come with its first."""

    index: int
    arguments: str
    id: str = ""
    name: str = ""


class CallReader:
    """Tells calls from text in one answer as it grows.

    Args:
        must: Whether an answer without a call is none, so that what may have begun one is no text.
    """

    def __init__(self, *, must: bool = False) -> None:
        self._must = must
        self._held = ""
        self._state: Literal["open", "text", "head", "arguments"] = "open"
        self.calls = 0
        self._depth = 0
        self._in_text = self._is_escaped = False

    def add(self, text: str) -> Iterator[str | CallText]:
        """Take more of the answer; yield text, or pieces of calls."""
        self._held += text
        while self._held:
            if self._state == "text":
                held, self._held = self._held, ""
                yield held
            elif self._state == "open" and self.calls:
                # Between calls are only the brackets and tags of the one before.
                if OPENING not in self._held:
                    return
                self._held, self._state = self._held.partition(OPENING)[2], "head"
            elif self._state == "open":
                opened = begins(self._held, OPENING, space=SPACE)
                if opened is None:
                    return
                if opened:
                    self._held, self._state = self._held.lstrip(SPACE).removeprefix(OPENING), "head"
                else:
                    self._state = "text"
            elif self._state == "head":
                head = _HEAD.match(self._held)
                if head is None:
                    return
                self._held, self._state = self._held[head.end() :], "arguments"
                self.calls += 1
                call_id = f"call_{secrets.token_hex(12)}"
                yield CallText(index=self.calls - 1, id=call_id, name=head[1], arguments="")
            else:
                end = self._end_of_arguments()
                arguments, self._held = self._held[:end], self._held[end:]
                yield CallText(index=self.calls - 1, arguments=arguments)
                if not self._depth:
                    self._state = "open"

    def end(self) -> str:
        """Return what was held and is text after all."""
        held, self._held = self._held, ""
        return held if self._state == "open" and not self.calls and not self._must else ""

    def _end_of_arguments(self) -> int:
        for place, letter in enumerate(self._held):
            if self._in_text:
                if self._is_escaped:
                    self._is_escaped = False
                elif letter == "\\":
                    self._is_escaped = True
                elif letter == '"':
                    self._in_text = False
            elif letter == '"':
                self._in_text = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if not self._depth:
                    return place + 1
        return len(self._held)


def _tool(untrusted: object, at: str) -> Tool:
    function = untrusted.get("function") if isinstance(untrusted, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise SchemaRefusedError(at, "a function with a name")
    is_strict = function.get("strict") is True
    arguments = _ANY_OBJECT
    if function.get("parameters") is not None:
        try:
            arguments = schema.read(function["parameters"])
            if arguments.get("type") != "object":
                raise SchemaRefusedError("", "arguments are an object")
        except SchemaRefusedError as error:
            if is_strict:
                raise SchemaRefusedError(f"{at}.function.parameters{error.at}", error.why) from error
            arguments = _ANY_OBJECT  # OpenAI promises a schema for strict functions only
    described = {key: function[key] for key in ("name", "description", "parameters") if function.get(key)}
    return Tool(name=name, told=described, arguments=arguments, is_strict=is_strict)


def _with_few_readings(tools: Sequence[Tool]) -> tuple[Tool, ...]:
    """Return the functions with schemas that a grammar can follow at once: those of one name are read side by side."""
    found, places_of = list(tools), defaultdict(list)
    for place, tool in enumerate(tools):
        places_of[tool.name].append(place)
    for places in places_of.values():
        if len(places) == 1:
            continue  # it was read by itself
        same = _schema_of([tools[place] for place in places])
        try:
            schema.require_few_readings(same, same.get("$defs", {}))
        except SchemaRefusedError as error:
            strict = next((place for place in places if tools[place].is_strict), None)
            if strict is not None:
                why = f"beside the other functions of its name {error.why}"
                raise SchemaRefusedError(f"tools[{strict}].function.parameters", why) from error
            for place in places:
                found[place] = replace(tools[place], arguments=_ANY_OBJECT)
    return tuple(found)


def _schema_of(tools: Sequence[Tool]) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    calls = []
    for place, tool in enumerate(tools):
        arguments = _renamed(tool.arguments, f"tool-{place}-")
        definitions |= {f"tool-{place}-{name}": one for name, one in arguments.pop("$defs", {}).items()}
        calls.append(_call_of(tool.name, arguments))
    made: dict[str, Any] = {"anyOf": calls}
    return {**made, "$defs": definitions} if definitions else made


def _call_of(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"enum": [name]}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _renamed(node: Any, prefix: str) -> Any:
    if isinstance(node, list):
        return [_renamed(one, prefix) for one in node]
    if not isinstance(node, dict):
        return node
    if set(node) == {"$ref"} and isinstance(node["$ref"], str):
        return {"$ref": f"#/$defs/{prefix}{node['$ref'].rpartition('/')[2]}"}
    return {name: _renamed(one, prefix) for name, one in node.items()}


def _called(call: Mapping[str, Any]) -> str:
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        arguments = function["arguments"]
    return json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)
