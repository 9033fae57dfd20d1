"""JSON Schema of requests and answers, for the API's description: wide where a reader's code says more than a schema.

Whatever the readers take matches these; what does not match is refused. Numbers are the site's limits.
"""

from collections.abc import Mapping
from typing import Any, Final

from appliance.config import LimitsSection
from appliance.gateway import feedback, parameters
from appliance.gateway.embedding_reading import MOST_INPUTS
from appliance.gateway.formats import MAX_ANSWERS
from appliance.gateway.parameters import Endpoint
from media.embedding import MOST_DIMENSIONS

Schema = dict[str, Any]
TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_ANY: Final[Schema] = {}
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
    choice = _object({"index": _COUNT, **said, "finish_reason": TEXT, "logprobs": _ANY})
    kind = "chat.completion" if endpoint is Endpoint.CHAT else "text_completion"
    return _object(
        {
            "id": TEXT,
            "object": {"const": kind},
            "created": _COUNT,
            "model": TEXT,
            "choices": {"type": "array", "minItems": 1, "items": choice},
        }
    )


def vectors() -> Schema:
    """Return what an answer with embeddings looks like."""
    vector = {"anyOf": [{"type": "array", "items": {"type": "number"}}, TEXT]}
    row = _object({"object": {"const": "embedding"}, "index": _COUNT, "embedding": vector})
    usage = _object({"prompt_tokens": _COUNT, "total_tokens": _COUNT})
    return _object(
        {"object": {"const": "list"}, "model": TEXT, "data": {"type": "array", "items": row}, "usage": usage}
    )


def models() -> Schema:
    """Return what the list of models looks like."""
    return _object({"object": {"const": "list"}, "data": {"type": "array", "items": model()}})


def model() -> Schema:
    """Return what one model looks like."""
    return _object({"id": TEXT, "object": {"const": "model"}, "created": _COUNT, "owned_by": TEXT})


def question(endpoint: Endpoint, limits: LimitsSection, names: list[str]) -> Schema:
    """Return what a request for an answer may hold, from the reader's own table.

    Args:
        endpoint: Which of the two.
        limits: The site's.
        names: What callers may call a model by now.
    """
    shapes = _shapes(limits, names)
    properties = {
        name: shapes.get(name, _ANY) if values is None else {"enum": [*values, None]}
        for name, values in sorted(parameters.known(endpoint).items())
    }
    needed = ["model", "messages" if endpoint is Endpoint.CHAT else "prompt"]
    return _closed(properties, needed)


def texts_to_embed(limits: LimitsSection, names: list[str]) -> Schema:
    """Return what a request for embeddings may hold."""
    text: Schema = {**TEXT, "minLength": 1, "maxLength": limits.message_characters}
    tokens: Schema = {"type": "array", "minItems": 1, "maxItems": limits.input_tokens, "items": _COUNT}
    several = [{"type": "array", "minItems": 1, "maxItems": MOST_INPUTS, "items": one} for one in (text, tokens)]
    return _closed(
        {
            "model": _name(names),
            "input": {"anyOf": [text, tokens, *several]},
            "encoding_format": {"enum": ["float", "base64", None]},
            "dimensions": {"type": ["integer", "null"], "minimum": 1, "maximum": MOST_DIMENSIONS},
            "user": {"type": ["string", "null"], "maxLength": 512},
        },
        ["model", "input"],
    )


def rating() -> Schema:
    """Return what feedback may hold."""
    return _closed(
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


def _shapes(limits: LimitsSection, names: list[str]) -> Mapping[str, Schema]:
    content = {"anyOf": [TEXT, {"type": "array", "items": {"type": "object"}}, {"type": "null"}]}
    message = {"type": "object", "required": ["role"], "properties": {"role": TEXT, "content": content}}
    tokens: Schema = {"type": ["integer", "null"], "minimum": 1, "maximum": limits.max_tokens}
    truth: Schema = {"type": ["boolean", "null"]}
    stop: Schema = {**TEXT, "minLength": 1, "maxLength": 256}
    prompt: Schema = {**TEXT, "minLength": 1, "maxLength": limits.message_characters}
    return {
        "model": _name(names),
        "messages": {"type": "array", "minItems": 1, "maxItems": 2048, "items": message},
        "prompt": {"anyOf": [prompt, {"type": "array", "minItems": 1, "maxItems": MAX_ANSWERS, "items": prompt}]},
        "max_tokens": tokens,
        "max_completion_tokens": tokens,
        "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
        "top_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "frequency_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
        "presence_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
        "top_k": {"type": ["integer", "null"], "minimum": -1, "maximum": 1000},
        "min_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "repetition_penalty": {"type": ["number", "null"], "minimum": 0.01, "maximum": 2},
        "n": {"type": ["integer", "null"], "minimum": 1},
        "logit_bias": {"type": ["object", "null"]},
        "logprobs": {"type": ["boolean", "integer", "null"]},
        "top_logprobs": {"type": ["integer", "null"], "minimum": 0},
        "response_format": {"type": ["object", "null"]},
        "seed": {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1},
        "stop": {"anyOf": [stop, {"type": "array", "maxItems": 4, "items": stop}, {"type": "null"}]},
        "stream": truth,
        "stream_options": {"type": ["object", "null"]},
        "tools": {"type": ["array", "null"], "maxItems": 128, "items": {"type": "object"}},
        "tool_choice": {"type": ["string", "object", "null"]},
        "parallel_tool_calls": truth,
        "reasoning_effort": {"enum": ["none", None]},
        "chat_template_kwargs": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": {"enable_thinking": truth},
        },
        "user": {"type": ["string", "null"], "maxLength": 512},
        "safety_identifier": {"type": ["string", "null"], "maxLength": 512},
    }


def _name(names: list[str]) -> Schema:
    return {"enum": names} if names else dict(TEXT)


def _object(properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _closed(properties: Schema, needed: list[str]) -> Schema:
    return {"type": "object", "additionalProperties": False, "required": needed, "properties": properties}
