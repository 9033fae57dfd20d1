"""The functions a caller offers to a model, read strictly and passed on as they are."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from appliance.gateway.messages import clean
from appliance.gateway.problems import invalid

MOST_TOOLS: Final = 128
TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TYPES: Final = (
    ("description", str, "A text."),
    ("parameters", dict, "A JSON schema."),
    ("strict", bool, "true or false."),
)
"""What else is told of a function, and of which type it is."""


def read_tools(given: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the functions a model may call.

    Raises:
        Problem: One is malformed.
    """
    value = given.get("tools", [])
    if not isinstance(value, list) or len(value) > MOST_TOOLS:
        raise invalid("tools", f"A list of up to {MOST_TOOLS} tools.")
    found: list[Mapping[str, Any]] = []
    for place, tool in enumerate(value):
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or set(tool) != {"type", "function"}:
            raise invalid(f"tools[{place}]", "A tool is a function.")
        name = function.get("name")
        if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
            raise invalid(f"tools[{place}].function.name", "1 to 64 letters, digits, _ and -.")
        if not set(function) <= {"name", "description", "parameters", "strict"}:
            raise invalid(f"tools[{place}].function", "It holds an unknown member.", code="unknown_parameter")
        if function.get("parameters") == []:  # how some libraries write an object without members
            function = {member: one for member, one in function.items() if member != "parameters"}
        for member, kind, told in _TYPES:
            if not isinstance(function.get(member), kind | None):
                raise invalid(f"tools[{place}].function.{member}", told)
        found.append(clean({**tool, "function": function}, param="tools"))
    return tuple(found)


def read_tool_choice(given: Mapping[str, Any], *, tools: Sequence[Mapping[str, Any]]) -> Any:
    """Return which function, if any, the model must call; None where that is for the model to decide.

    Raises:
        Problem: It is malformed, there are no tools, or none of that name.
    """
    value = given.get("tool_choice")
    if value is None or (value in {"none", "auto"} if isinstance(value, str) else False):
        return value if tools else None
    if not tools:
        raise invalid("tool_choice", "Only with tools.")
    if isinstance(value, dict):
        function = value.get("function")
        named = function.get("name") if isinstance(function, dict) and set(function) == {"name"} else None
        members = {name for name, told in value.items() if told is not None}
        is_function = value.get("type") == "function" and members == {"type", "function"}
        if is_function and isinstance(named, str) and TOOL_NAME.fullmatch(named):
            if not any(tool["function"]["name"] == named for tool in tools):
                raise invalid("tool_choice", "The name of one of the tools.")
            return {"type": "function", "function": {"name": named}}
    elif value == "required":
        return value
    raise invalid("tool_choice", "none, auto, required, or one function.")
