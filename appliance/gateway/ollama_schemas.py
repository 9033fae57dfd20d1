"""JSON Schema of Ollama's requests and answers, for the API's description, from the tables of their own readers.

A request without messages, prompt or input only asks that its model is loaded; then little else is looked at.
"""

from typing import Any, Final

from appliance.config import LimitsSection
from appliance.gateway import ollama_reading as reading
from appliance.gateway.embedding_reading import MOST_INPUTS, OLLAMA, OLLAMA_ONE
from appliance.gateway.messages import MOST_MESSAGES
from appliance.gateway.ollama_words import OPTIONS
from appliance.gateway.schemas import (
    ANY,
    COUNT,
    EMPTY,
    NULL,
    OLLAMA_ERROR,
    TEXT,
    TRUTH,
    Schema,
    as_object,
    closed,
    message,
    name_of,
    sampling,
    tool,
    with_others,
)
from appliance.gateway.tools import MOST_TOOLS
from media.embedding import MOST_DIMENSIONS

_VECTOR: Final[Schema] = {"type": "array", "items": {"type": "number"}}
_LISTED: Final = as_object({"name": TEXT, "model": TEXT, "modified_at": TEXT, "digest": TEXT, "details": ANY})
_REASONS: Final = ("stop", "length")
_DURATIONS: Final[Schema] = dict.fromkeys(
    ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"), COUNT
)
_COUNTS: Final[Schema] = dict.fromkeys(("prompt_eval_count", "eval_count", "dropped_tokens"), COUNT)
_ORDER: Final = (
    "What is said comes first, calls of tools whole, then one line that is done. A line with an error is the last one."
)
# Of a message that is no tool's or assistant's member for the reader: `tool_name`, an image, whatever is empty.
_LEFT_OUT: Final[Schema] = {"enum": [None, [], ""]}


def question(limits: LimitsSection, names: list[str], *, is_chat: bool) -> Schema:
    """Return what a request of `/api/chat`, else of `/api/generate`, may hold."""
    known = reading.CHAT if is_chat else reading.GENERATE
    neutral = {name: {"enum": [*values, None]} for name, values in reading.NEUTRAL.items()}
    anything = {**dict.fromkeys(sorted(known), ANY), **neutral, "model": _named(names)}
    what = "messages" if is_chat else "prompt"
    nothing: Schema = {"enum": [*EMPTY["enum"], []]} if is_chat else {"enum": ["", None]}
    load = closed({**anything, what: nothing, "options": _options_unread()}, ["model"], unknown=NULL)
    text: Schema = {**TEXT, "maxLength": limits.message_characters}
    said: Schema = {
        "stream": TRUTH,
        "think": TRUTH,
        "format": {"anyOf": [{"enum": ["", "json", None]}, {"type": "object"}]},
        "options": _options(limits),
    }
    if is_chat:
        said |= {
            "messages": {"type": "array", "minItems": 1, "maxItems": MOST_MESSAGES, "items": _message()},
            "tools": _tools(),
        }
    else:
        said |= {"prompt": {**text, "minLength": 1}, "system": {**text, "type": ["string", "null"]}, "raw": TRUTH}
    return {"anyOf": [closed({**anything, **said}, ["model", what], unknown=NULL), load]}


def answer(*, is_chat: bool) -> Schema:
    """Return what an answer that is not streamed looks like; durations are in nanoseconds."""
    ended = {"done": {"const": True}, "done_reason": {"enum": [*_REASONS, "load"]}}
    return _object(ended, {**_DURATIONS, **_COUNTS}, is_chat=is_chat)


def line(*, is_chat: bool) -> Schema:
    """Return what one line of a stream looks like: a piece, the end with what it took, or an error."""
    ended = {"done": {"const": True}, "done_reason": {"enum": list(_REASONS)}, **_DURATIONS}
    forms = [_object({"done": {"const": False}}, {}, is_chat=is_chat), _object(ended, _COUNTS, is_chat=is_chat)]
    return {"description": _ORDER, "anyOf": [*forms, OLLAMA_ERROR]}


def texts_to_embed(limits: LimitsSection, names: list[str], *, one: bool) -> Schema:
    """Return what a request of `/api/embeddings`, of `one` text, or of `/api/embed` may hold."""
    text: Schema = {**TEXT, "maxLength": limits.message_characters}
    several: Schema = {"type": "array", "maxItems": MOST_INPUTS, "items": {**text, "minLength": 1}}
    none: Schema = {"type": "array", "maxItems": 0}
    shapes: Schema = {
        "model": _named(names),
        "prompt": {"anyOf": [text, none, {"type": "null"}]},
        "input": {"anyOf": [text, several, {"type": "null"}]},
        "options": _options_unread(),
        "truncate": TRUTH,
        "dimensions": {"type": ["integer", "null"], "minimum": 1, "maximum": MOST_DIMENSIONS},
    }
    known = sorted(OLLAMA_ONE if one else OLLAMA)
    return closed({name: shapes.get(name, ANY) for name in known}, ["model"], unknown=NULL)


def vectors(*, one: bool) -> Schema:
    """Return what an answer with vectors looks like."""
    return as_object(
        {"embedding": _VECTOR} if one else {"model": TEXT, "embeddings": {"type": "array", "items": _VECTOR}}
    )


def model_to_show(names: list[str]) -> Schema:
    """Return what a request of `/api/show` may hold: a model, by either word."""
    neutral = {name: {"enum": [*values, None]} for name, values in reading.NEUTRAL_SHOWN.items()}
    others = dict.fromkeys(sorted(reading.SHOW), ANY) | neutral
    by_name = {name: shape for name, shape in others.items() if name != "model"}
    return {
        "anyOf": [
            closed({**others, "model": _named(names)}, ["model"], unknown=NULL),
            closed({**by_name, "name": _named(names)}, ["name"], unknown=NULL),
        ]
    }


def shown() -> Schema:
    """Return what is told of one model."""
    told = {"modified_at": TEXT, "details": ANY, "model_info": {"type": "object"}, "parameters": TEXT}
    return as_object({**told, "capabilities": {"type": "array", "items": TEXT}})


def models() -> Schema:
    """Return what the list of models looks like, those that run too."""
    return as_object({"models": {"type": "array", "items": _LISTED}})


def version() -> Schema:
    """Return what the version looks like."""
    return as_object({"version": TEXT, "sealift": TEXT})


def _object(needed: Schema, others: Schema, *, is_chat: bool) -> Schema:
    """Return an object with what is said, a thought and calls of tools where there are any."""
    thought, about = {"thinking": TEXT}, {"model": TEXT, "created_at": TEXT}
    if not is_chat:
        return with_others(as_object({**about, "response": TEXT, **needed}), {**thought, **others})
    function = as_object({"name": TEXT, "arguments": {"type": "object"}})
    called: Schema = {"tool_calls": {"type": "array", "minItems": 1, "items": as_object({"function": function})}}
    message = with_others(as_object({"role": {"const": "assistant"}, "content": TEXT}), {**thought, **called})
    return with_others(as_object({**about, "message": message, **needed}), others)


def _named(names: list[str]) -> Schema:
    found = name_of(names)
    return {"enum": [*names, *(f"{name}{reading.LATEST}" for name in names)]} if names else found


def _message() -> Schema:
    found = message()
    own: dict[str, Any] = {
        "thinking": ANY,
        "tool_name": ANY,
        "tool_call_id": ANY,
        "tool_calls": {"anyOf": [{"type": "array", "items": {"type": "object", "required": ["function"]}}, EMPTY]},
    }
    return {**found, "properties": {**found["properties"], **own}, "additionalProperties": _LEFT_OUT}


def _tools() -> Schema:
    return {"type": ["array", "null"], "maxItems": MOST_TOOLS, "items": tool()}


def _options(limits: LimitsSection) -> Schema:
    words = sampling(limits)
    honoured = {name: words[word] for name, word in OPTIONS.items()}
    honoured |= {
        "num_predict": {"anyOf": [honoured["num_predict"], {"enum": sorted(reading.NO_LIMIT)}]},
        # With `repeat_last_n` 0 nothing counts as repeated, whatever the penalty is.
        "repeat_penalty": {"type": ["number", "null"]},
    }
    neutral = {name: {"enum": [*values, None]} for name, values in reading.NEUTRAL_OPTIONS.items()}
    neutral["repeat_last_n"] = {"enum": [*reading.NEUTRAL_OPTIONS["repeat_last_n"], 0, None]}
    known = {**dict.fromkeys(sorted(reading.LOADING), ANY), **neutral, **honoured}
    return {**closed(known, [], unknown=NULL), "type": ["object", "null"]}


def _options_unread() -> Schema:
    known = sorted({*reading.LOADING, *OPTIONS, *reading.NEUTRAL_OPTIONS})
    return {**closed(dict.fromkeys(known, ANY), []), "type": ["object", "null"]}
