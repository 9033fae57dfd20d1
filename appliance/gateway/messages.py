"""The messages of a chat, read strictly: known roles, text only, bounded length, no reference to anything outside.

Content may come as one text or as text parts, which are joined; a part of another kind (an image, a file, a URL) is
refused, so nothing in a request can make this box fetch anything.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.gateway.problems import invalid
from appliance.serve.thoughts import FIELDS

_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
ID: Final = re.compile(r"[A-Za-z0-9_:.-]{1,128}")
# As callers name them, and as engines know them: OpenAI's newer name for who gives a model its orders is `developer`.
ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
MOST_MESSAGES: Final = 2048
MOST_CALLS: Final = 128
# What SDKs give back of an answer when they resend it, always empty here.
EMPTY_ONLY: Final = frozenset({"annotations", "audio", "function_call", "refusal"})
# Not read: templates know no names, leave earlier thoughts out (`FIELDS`), and `parsed` is what SDKs read of the text.
UNREAD: Final = ("name", "parsed", *FIELDS)
_MEMBERS: Final = frozenset({"role", "content", "tool_calls", "tool_call_id", *UNREAD}) | EMPTY_ONLY
# What SDKs keep in a call when they put a stream together or read its arguments; both come back with it.
_UNREAD_OF_CALL: Final = "index"
_UNREAD_OF_FUNCTION: Final = ("parsed_arguments", "index")
_OF_CALL: Final = frozenset({"id", "type", "function", _UNREAD_OF_CALL})
_OF_FUNCTION: Final = frozenset({"name", "arguments", *_UNREAD_OF_FUNCTION})


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the assistant made earlier; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn. `content` is None only where an assistant called tools and said nothing."""

    role: str
    content: str | None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""

    def to_engine(self) -> dict[str, Any]:
        """Return it as OpenAI's JSON."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.tool_calls
            ]
        if self.tool_call_id:
            message["tool_call_id"] = self.tool_call_id
        return message


def read_messages(untrusted: object, *, max_characters: int) -> tuple[tuple[Message, ...], list[str]]:
    """Return the messages, and which members of them have no effect.

    Raises:
        Problem: One is malformed; `param` says which.
    """
    if not isinstance(untrusted, list) or not untrusted:
        raise invalid("messages", "A list with at least one message.", code="missing_required_parameter")
    if len(untrusted) > MOST_MESSAGES:
        raise invalid("messages", f"At most {MOST_MESSAGES} messages.")
    messages = tuple(
        _message(one, f"messages[{place}]", max_characters=max_characters) for place, one in enumerate(untrusted)
    )
    return messages, _unread(untrusted)


def _unread(messages: list[dict[str, Any]]) -> list[str]:
    """Return which members of well-formed messages came and have no effect."""
    calls = [call for one in messages for call in one.get("tool_calls") or ()]
    places: dict[str, tuple[str, list[dict[str, Any]]]] = {
        **{name: (name, messages) for name in UNREAD},
        f"tool_calls.{_UNREAD_OF_CALL}": (_UNREAD_OF_CALL, calls),
        **{f"tool_calls.function.{name}": (name, [call["function"] for call in calls]) for name in _UNREAD_OF_FUNCTION},
    }
    return [shown for shown, (name, found) in places.items() if any(one.get(name) is not None for one in found)]


def require_short(value: str, *, param: str, max_characters: int) -> None:
    """Pass a text that is no longer than it may be.

    Raises:
        Problem: It is.
    """
    if len(value) > max_characters:
        raise invalid(param, f"At most {max_characters} characters.", code="string_above_max_length")


def read_text(value: str, *, param: str, max_characters: int) -> str:
    """Return a text without control characters.

    Raises:
        Problem: It is too long, or holds half a surrogate pair.
    """
    require_short(value, param=param, max_characters=max_characters)
    if _SURROGATE.search(value):
        raise invalid(param, "The text is not valid Unicode.", code="invalid_encoding")
    return _CONTROL.sub("", value)


def clean(value: Any, *, param: str) -> Any:
    """Return a JSON value with all its texts read by `read_text`.

    Raises:
        Problem: As `read_text`.
    """
    if isinstance(value, str):
        return read_text(value, param=param, max_characters=len(value))
    if isinstance(value, dict):
        return {clean(name, param=param): clean(one, param=param) for name, one in value.items()}
    return [clean(one, param=param) for one in value] if isinstance(value, list) else value


def _message(untrusted: object, at: str, *, max_characters: int) -> Message:
    if not isinstance(untrusted, dict):
        raise invalid(at, "A message is an object.")
    said = untrusted.get("role")
    if not isinstance(said, str) or said not in ROLES:
        raise invalid(f"{at}.role", f"One of {', '.join(ROLES)}.")
    role = ROLES[said]
    for name, value in untrusted.items():
        if name not in _MEMBERS:
            raise invalid(at, "It holds an unknown member.", code="unknown_parameter")
        if name in EMPTY_ONLY and value not in (None, [], ""):
            raise invalid(f"{at}.{name}", "Not supported.", code="unsupported_parameter")
    name = untrusted.get("name")
    if name is not None and (not isinstance(name, str) or not NAME.fullmatch(name)):
        raise invalid(f"{at}.name", "1 to 64 letters, digits, _ and -.")
    calls = _tool_calls(untrusted.get("tool_calls"), at, role=role)
    content = _content(untrusted.get("content"), f"{at}.content")
    if content is None and not calls:
        raise invalid(f"{at}.content", "A message has content.")
    return Message(
        role=role,
        content=None if content is None else read_text(content, param=f"{at}.content", max_characters=max_characters),
        tool_calls=tuple(
            ToolCall(
                id=call.id,
                name=call.name,
                arguments=read_text(call.arguments, param=f"{at}.tool_calls", max_characters=max_characters),
            )
            for call in calls
        ),
        tool_call_id=_call_id(untrusted.get("tool_call_id"), at, role=role),
    )


def _content(untrusted: object, at: str) -> str | None:
    if untrusted is None or isinstance(untrusted, str):
        return untrusted
    if not isinstance(untrusted, list):
        raise invalid(at, "A text, or a list of text parts.")
    parts: list[str] = []
    for place, part in enumerate(untrusted):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise invalid(f"{at}[{place}]", "Only parts of type text are supported.", code="unsupported_parameter")
        if set(part) != {"type", "text"}:
            raise invalid(f"{at}[{place}]", "It holds an unknown member.", code="unknown_parameter")
        parts.append(part["text"])
    return "".join(parts)


def _tool_calls(untrusted: object, at: str, *, role: str) -> tuple[ToolCall, ...]:
    if not untrusted:
        return ()
    if role != "assistant" or not isinstance(untrusted, list) or len(untrusted) > MOST_CALLS:
        raise invalid(f"{at}.tool_calls", f"A list of up to {MOST_CALLS} calls, and only an assistant's.")
    return tuple(_tool_call(one, f"{at}.tool_calls[{place}]") for place, one in enumerate(untrusted))


def _tool_call(untrusted: object, at: str) -> ToolCall:
    call: Mapping[str, Any] = untrusted if isinstance(untrusted, dict) else {}
    function = call.get("function")
    if call.get("type") != "function" or not isinstance(function, dict):
        raise invalid(at, "A call of a function.")
    for where, members, known in ((at, call, _OF_CALL), (f"{at}.function", function, _OF_FUNCTION)):
        if not {name for name, value in members.items() if value is not None} <= known:
            raise invalid(where, "It holds an unknown member.", code="unknown_parameter")
    call_id, name, arguments = call.get("id"), function.get("name"), function.get("arguments")
    if not isinstance(call_id, str) or not ID.fullmatch(call_id):
        raise invalid(f"{at}.id", "1 to 128 letters, digits and _ : . -")
    if not isinstance(name, str) or not NAME.fullmatch(name) or not isinstance(arguments, str):
        raise invalid(f"{at}.function", "It has a name, and arguments as JSON text.")
    return ToolCall(id=call_id, name=name, arguments=_once(arguments, f"{at}.function.arguments"))


def _once(arguments: str, param: str) -> str:
    """Return JSON text as a reader of it would take it.

    It is without members that a later one of the same name hides, and without the control characters that it spells,
    which would part what is looked for.

    Raises:
        Problem: It spells half a surrogate pair, which no engine can read once its escapes are letters.
    """
    twice: list[bool] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        twice.append(len(found) != len(pairs))
        return found

    try:
        value = json.loads(arguments, object_pairs_hook=members)
        plain = clean(value, param=param) if "\\" in arguments else value
    except (ValueError, RecursionError):
        return arguments
    return json.dumps(plain, ensure_ascii=False) if any(twice) or plain != value else arguments


def _call_id(untrusted: object, at: str, *, role: str) -> str:
    if role != "tool":
        if untrusted is not None:
            raise invalid(f"{at}.tool_call_id", "Only a tool's message answers a call.")
        return ""
    if not isinstance(untrusted, str) or not ID.fullmatch(untrusted):
        raise invalid(f"{at}.tool_call_id", "The id of the call that this message answers.")
    return untrusted
