"""The messages of Ollama's chats in OpenAI's words, where calls and what tools gave back are joined by ids.

Ollama's clients name an answer's call by its function (`tool_name`), newer ones by its id (`tool_call_id`), older ones
by nothing: then the order says it. Calls have the ids of ours, whichever they came with.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from appliance.gateway.problems import invalid


class _Waiting(NamedTuple):
    """A call that no tool has answered yet.

    Attributes:
        id: As the engine is told it.
        name: Of its function, untrusted.
        given: The id that it came with, untrusted; None for none.
    """

    id: object
    name: object
    given: object


def in_openais_words(untrusted: object) -> Any:
    """Return messages for the strict reader, which says what is wrong with anything that is no list of objects.

    Raises:
        Problem: One holds an image, or a tool's answer names a call that does not wait for one.
    """
    if not isinstance(untrusted, list) or not all(isinstance(one, dict) for one in untrusted):
        return untrusted
    made = 0
    waiting: list[_Waiting] = []
    messages = []
    for place, one in enumerate(untrusted):
        message = {name: value for name, value in one.items() if value not in (None, [], "") or name == "content"}
        if "images" in message:
            raise invalid(f"messages[{place}]", "Only text is supported.", code="unsupported_parameter")
        if "thinking" in message:  # of an earlier answer, as ours tell it
            message["reasoning"] = message.pop("thinking")
        answered = _answered(message, waiting, f"messages[{place}]") if message.get("role") == "tool" else None
        if answered is not None:
            waiting.remove(answered)
            message["tool_call_id"] = answered.id
        message.pop("tool_name", None)
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            message["tool_calls"] = told = [_call(call, f"call_{made + number}") for number, call in enumerate(calls)]
            waiting = [_waiting(call, given) for call, given in zip(told, calls, strict=True) if isinstance(call, dict)]
            made += len(calls)
        messages.append(message)
    return messages


def _answered(message: Mapping[str, Any], waiting: list[_Waiting], at: str) -> _Waiting | None:
    """Return the call that a tool's message answers: by its id, by its function's name, else the first that waits.

    Raises:
        Problem: It names one that does not wait; it is no other call's answer, so none is guessed.
    """
    if "tool_call_id" in message and any(one.given is not None for one in waiting):
        found = next((one for one in waiting if one.given == message["tool_call_id"]), None)
        if found is None:
            raise invalid(f"{at}.tool_call_id", "No call before it that waits for an answer has this id.")
        return found
    if "tool_name" in message:
        found = next((one for one in waiting if one.name == message["tool_name"]), None)
        if found is None:
            raise invalid(f"{at}.tool_name", "No call before it that waits for an answer is of this function.")
        return found
    return waiting[0] if waiting else None


def _call(untrusted: object, call_id: str) -> Any:
    call: Mapping[str, Any] = untrusted if isinstance(untrusted, dict) else {}
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), dict):
        return untrusted
    # Ollama numbers calls within the function, OpenAI's clients beside it; the strict reader looks at the rest.
    rest = {name: value for name, value in function.items() if name != "index"}
    rest |= {"name": rest.get("name"), "arguments": json.dumps(rest["arguments"], ensure_ascii=False)}
    numbered = {"index": function["index"]} if "index" in function else {}
    return {**call, **numbered, "id": call_id, "type": "function", "function": rest}


def _waiting(call: Mapping[str, Any], given: Mapping[str, Any]) -> _Waiting:
    function = call.get("function")
    return _Waiting(call.get("id"), function.get("name") if isinstance(function, dict) else None, given.get("id"))
