"""JSON Schema of requests and answers, for the API's description: wide where a reader's code says more than a schema.

Whatever the readers take matches these; what does not match is refused. Numbers are the site's limits.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from appliance.config import LimitsSection
from appliance.gateway import feedback, messages, parameters
from appliance.gateway.embedding_reading import MOST_INPUTS
from appliance.gateway.formats import FORM_NAME, MAX_ANSWERS, MOST_DESCRIPTION
from appliance.gateway.parameters import Endpoint
from appliance.gateway.tools import MOST_TOOLS, TOOL_NAME
from media.embedding import MOST_DIMENSIONS

Schema = dict[str, Any]
TEXT: Final[Schema] = {"type": "string"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
TRUTH: Final[Schema] = {"type": ["boolean", "null"]}
ANY: Final[Schema] = {}
NULL: Final[Schema] = {"type": "null"}
"""What may come under a name that nobody knows where a reader passes over what is null."""
EMPTY: Final[Schema] = {"enum": [None, "", False, 0, {}]}
"""What reads as no list."""
_STREAM_OPTIONS: Final[Schema] = {
    "include_usage": TRUTH,
    **{name: {"enum": [False, None]} for name in sorted(parameters.NOT_OF_STREAMS)},
}
ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": TEXT,
                "type": TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
OLLAMA_ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error", "code", "param"],
    "properties": {"error": TEXT, "code": TEXT, "param": {"type": ["string", "null"]}},
}


def answer(endpoint: Endpoint) -> Schema:
    """Return what an answer that is not streamed looks like."""
    said = (
        {"message": {"type": "object", "required": ["role", "content"]}}
        if endpoint is Endpoint.CHAT
        else {"text": TEXT}
    )
    choice = as_object({"index": COUNT, **said, "finish_reason": TEXT, "logprobs": ANY})
    kind = "chat.completion" if endpoint is Endpoint.CHAT else "text_completion"
    return as_object(
        {
            "id": TEXT,
            "object": {"const": kind},
            "created": COUNT,
            "model": TEXT,
            "choices": {"type": "array", "minItems": 1, "items": choice},
        }
    )


def vectors() -> Schema:
    """Return what an answer with embeddings looks like."""
    vector = {"anyOf": [{"type": "array", "items": {"type": "number"}}, TEXT]}
    row = as_object({"object": {"const": "embedding"}, "index": COUNT, "embedding": vector})
    usage = as_object({"prompt_tokens": COUNT, "total_tokens": COUNT})
    return as_object(
        {"object": {"const": "list"}, "model": TEXT, "data": {"type": "array", "items": row}, "usage": usage}
    )


def models() -> Schema:
    """Return what the list of models looks like."""
    return as_object({"object": {"const": "list"}, "data": {"type": "array", "items": model()}})


def model() -> Schema:
    """Return what one model looks like."""
    return as_object({"id": TEXT, "object": {"const": "model"}, "created": COUNT, "owned_by": TEXT})


def question(endpoint: Endpoint, limits: LimitsSection, names: list[str]) -> Schema:
    """Return what a request for an answer may hold, from the reader's own table.

    Args:
        endpoint: Which of the two.
        limits: The site's.
        names: What callers may call a model by now.
    """
    shapes = _shapes(limits, names)
    properties = {
        name: shapes.get(name, ANY) if values is None else {"enum": [*values, None]}
        for name, values in sorted(parameters.known(endpoint).items())
    }
    needed = ["model", "messages" if endpoint is Endpoint.CHAT else "prompt"]
    return closed(properties, needed, unknown=NULL)


def texts_to_embed(limits: LimitsSection, names: list[str]) -> Schema:
    """Return what a request for embeddings may hold."""
    text: Schema = {**TEXT, "minLength": 1, "maxLength": limits.message_characters}
    tokens: Schema = {"type": "array", "minItems": 1, "maxItems": limits.input_tokens, "items": COUNT}
    several = [{"type": "array", "minItems": 1, "maxItems": MOST_INPUTS, "items": one} for one in (text, tokens)]
    return closed(
        {
            "model": name_of(names),
            "input": {"anyOf": [text, tokens, *several]},
            "encoding_format": {"enum": ["float", "base64", None]},
            "dimensions": {"type": ["integer", "null"], "minimum": 1, "maximum": MOST_DIMENSIONS},
            "user": {"type": ["string", "null"], "maxLength": 512},
        },
        ["model", "input"],
        unknown=NULL,
    )


def rating() -> Schema:
    """Return what feedback may hold."""
    return closed(
        {
            "request_id": {**TEXT, "pattern": "^req_[a-z2-7]{26}$"},
            "rating": {"enum": list(feedback.RATINGS)},
            "reason": {"enum": list(feedback.REASONS)},
        },
        ["request_id", "rating"],
    )


def open_object() -> Schema:
    """Return an object that its own reader describes (docs/api.md)."""
    return {"type": "object"}


def message() -> Schema:
    """Return one turn of a chat, whoever says it; see `turn`."""
    return closed(
        {
            "role": {"enum": list(messages.ROLES)},
            "content": {"anyOf": [TEXT, _parts(), {"type": "null"}]},
            "tool_calls": {"anyOf": [_calls(), EMPTY]},
            "tool_call_id": {"anyOf": [_of_form(messages.ID), {"type": "null"}]},
            **dict.fromkeys(messages.UNREAD, ANY),
            "name": {"anyOf": [_of_form(messages.NAME), {"type": "null"}]},
            **{name: {"enum": [None, [], ""]} for name in sorted(messages.EMPTY_ONLY)},
        },
        ["role"],
    )


def turn() -> Schema:
    """Return one turn of a chat, as it is for who says it."""
    found = message()
    said = {"anyOf": [TEXT, _parts()]}
    no_calls = {"tool_calls": {"enum": [*EMPTY["enum"], []]}}
    no_answer = {"tool_call_id": NULL}
    forms: tuple[tuple[list[str], Schema, list[str]], ...] = (
        (["system", "developer", "user"], {"content": said, **no_calls, **no_answer}, ["content"]),
        (["assistant"], {"content": said, **no_answer}, ["content"]),
        (["assistant"], {"tool_calls": {**_calls(), "minItems": 1}, **no_answer}, ["tool_calls"]),
        (["tool"], {"content": said, **no_calls, "tool_call_id": _of_form(messages.ID)}, ["content", "tool_call_id"]),
    )
    return {
        "anyOf": [
            closed({**found["properties"], "role": {"enum": roles}, **own}, ["role", *needed])
            for roles, own, needed in forms
        ]
    }


def tool() -> Schema:
    """Return one function that may be called."""
    about = {
        "name": _of_form(TOOL_NAME),
        "description": {"type": ["string", "null"]},
        "parameters": {"anyOf": [{"type": ["object", "null"]}, {"type": "array", "maxItems": 0}]},
        "strict": TRUTH,
    }
    return closed({"type": {"const": "function"}, "function": closed(about, ["name"])}, ["type", "function"])


def sampling(limits: LimitsSection) -> dict[str, Schema]:
    """Return the parameters that say how an answer is drawn, and how long it may be."""
    tokens: Schema = {"type": ["integer", "null"], "minimum": 1, "maximum": limits.max_tokens}
    stop: Schema = {**TEXT, "minLength": 1, "maxLength": 256}
    return {
        "max_tokens": tokens,
        "max_completion_tokens": tokens,
        "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
        "top_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "frequency_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
        "presence_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
        "top_k": {"type": ["integer", "null"], "minimum": -1, "maximum": 1000},
        "min_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "repetition_penalty": {"type": ["number", "null"], "minimum": 0.01, "maximum": 2},
        "seed": {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1},
        "stop": {"anyOf": [stop, {"type": "array", "maxItems": 4, "items": stop}, {"type": "null"}]},
    }


def _shapes(limits: LimitsSection, names: list[str]) -> Mapping[str, Schema]:
    prompt: Schema = {**TEXT, "minLength": 1, "maxLength": limits.message_characters}
    bias: Schema = {"type": "number", "minimum": -parameters.MOST_BIAS, "maximum": parameters.MOST_BIAS}
    turns: Schema = {"type": "array", "minItems": 1, "maxItems": messages.MOST_MESSAGES, "items": turn()}
    return {
        "model": name_of(names),
        "messages": turns,
        **sampling(limits),
        "prompt": {"anyOf": [prompt, {"type": "array", "minItems": 1, "maxItems": MAX_ANSWERS, "items": prompt}]},
        "n": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_ANSWERS},
        "logit_bias": {
            "type": ["object", "null"],
            "maxProperties": parameters.MOST_BIASES,
            "propertyNames": {"pattern": f"^({parameters.TOKEN.pattern})$"},
            "additionalProperties": bias,
        },
        "logprobs": {"type": ["boolean", "integer", "null"]},
        "top_logprobs": {"type": ["integer", "null"], "minimum": 0},
        "response_format": _forms(),
        "stream": TRUTH,
        "stream_options": _maybe(closed(_STREAM_OPTIONS, [])),
        "tools": {"type": ["array", "null"], "maxItems": MOST_TOOLS, "items": tool()},
        "tool_choice": {"type": ["string", "object", "null"]},
        "parallel_tool_calls": TRUTH,
        "reasoning_effort": {"enum": ["none", None]},
        "chat_template_kwargs": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": {"enable_thinking": TRUTH},
        },
        "user": {"type": ["string", "null"], "maxLength": 512},
        "safety_identifier": {"type": ["string", "null"], "maxLength": 512},
    }


def _parts() -> Schema:
    return {"type": "array", "items": closed({"type": {"const": "text"}, "text": TEXT}, ["type", "text"])}


def _calls() -> Schema:
    function = {"name": _of_form(messages.NAME), "arguments": TEXT, "parsed_arguments": ANY, "index": ANY}
    call = {
        "id": _of_form(messages.ID),
        "type": {"const": "function"},
        "function": closed(function, ["name", "arguments"], unknown=NULL),
        "index": ANY,
    }
    every = closed(call, ["id", "type", "function"], unknown=NULL)
    return {"type": "array", "maxItems": messages.MOST_CALLS, "items": every}


def _forms() -> Schema:
    held = {
        "name": _of_form(FORM_NAME),
        "description": {"type": ["string", "null"], "maxLength": MOST_DESCRIPTION},
        "schema": {"type": "object"},
        "strict": TRUTH,
    }
    by_schema = {"type": {"const": "json_schema"}, "json_schema": closed(held, ["name", "schema"])}
    plain = closed({"type": {"enum": ["text", "json_object"]}}, ["type"])
    return {"anyOf": [plain, closed(by_schema, ["type", "json_schema"]), NULL]}


def _maybe(found: Schema) -> Schema:
    return {**found, "type": [found["type"], "null"]}


def name_of(names: list[str]) -> Schema:
    """Return what a model may be called: one of these, or anything where nothing is served."""
    return {"enum": names} if names else dict(TEXT)


def as_object(properties: Schema) -> Schema:
    """Return an object that has these members, and maybe others."""
    return {"type": "object", "required": list(properties), "properties": properties}


def with_others(found: Schema, others: Schema) -> Schema:
    """Return an object that may have these members, too."""
    return {**found, "properties": {**found["properties"], **others}}


def closed(properties: Schema, needed: list[str], *, unknown: Schema | bool = False) -> Schema:
    """Return an object of these members; `unknown` says what may come under any other name."""
    return {"type": "object", "additionalProperties": unknown, "required": needed, "properties": properties}


def _of_form(pattern: re.Pattern[str]) -> Schema:
    return {**TEXT, "pattern": f"^{pattern.pattern}$"}
