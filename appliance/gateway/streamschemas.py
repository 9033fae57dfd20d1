"""JSON Schema of one server-sent event of OpenAI's routes, for the API's description.

It is described as OpenAPI describes events: an object whose `data` is a text, and what JSON that text holds.
"""

from typing import Final, get_args

from appliance.gateway import schemas, sse
from appliance.gateway.parameters import Endpoint
from appliance.gateway.reading import FinishReason
from appliance.gateway.schemas import COUNT, NULL, TEXT, Schema, as_object, with_others

_NUMBER: Final[Schema] = {"type": "number"}
_INDEX: Final[Schema] = {"index": COUNT}
_BYTES: Final[Schema] = {"type": ["array", "null"], "items": {"type": "integer", "minimum": 0, "maximum": 255}}
_TOKEN: Final[Schema] = {"token": TEXT, "logprob": _NUMBER, "bytes": _BYTES}
_DONE: Final = sse.DONE.decode().strip().removeprefix("data: ")
_ORDER: Final = {
    Endpoint.CHAT: "the role of each answer, then what it says",
    Endpoint.COMPLETIONS: "what each answer says",
}


def event(endpoint: Endpoint) -> Schema:
    """Return what one event of a stream looks like."""
    order = (
        f"In this order: {_ORDER[endpoint]}, why each one ended, usage if it was asked for, {_DONE}. An event with an"
        " error is the last one."
    )
    told = {"anyOf": [_chunk(endpoint), _usage_chunk(endpoint), schemas.ERROR]}
    said: Schema = {**TEXT, "contentMediaType": "application/json", "contentSchema": told}
    return {**as_object({"data": {"anyOf": [{"const": _DONE}, said]}}), "description": order}


def _chunk(endpoint: Endpoint) -> Schema:
    """Return a chunk of one answer; `usage` is there, as null, where the end of the stream is to count tokens."""
    choice = {"anyOf": _chats() if endpoint is Endpoint.CHAT else _texts()}
    chunk = as_object(
        {**_common(endpoint), "choices": {"type": "array", "minItems": 1, "maxItems": 1, "items": choice}}
    )
    return with_others(chunk, {"usage": NULL})


def _usage_chunk(endpoint: Endpoint) -> Schema:
    counts = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), COUNT)
    thought = {"completion_tokens_details": as_object({"reasoning_tokens": COUNT}), "dropped_tokens": COUNT}
    none: Schema = {"type": "array", "maxItems": 0}
    return as_object({**_common(endpoint), "choices": none, "usage": with_others(as_object(counts), thought)})


def _common(endpoint: Endpoint) -> Schema:
    prefix, kind = ("chatcmpl-", "chat.completion.chunk") if endpoint is Endpoint.CHAT else ("cmpl-", "text_completion")
    return {
        "id": {**TEXT, "pattern": f"^{prefix}[a-z2-7]{{26}}$"},
        "object": {"const": kind},
        "created": COUNT,
        "model": TEXT,
    }


def _chats() -> list[Schema]:
    """Return the role, a piece of text, of a thought or of a call of a function, and why an answer ended."""
    begun = as_object({"index": COUNT, "function": as_object({"name": TEXT, "arguments": TEXT}), "id": TEXT})
    begun = with_others(begun, {"type": {"const": "function"}})
    further = as_object({"index": COUNT, "function": as_object({"arguments": TEXT})})
    call: Schema = {"anyOf": [begun, further]}
    likelihoods: Schema = {
        "type": ["object", "null"],
        "required": ["content"],
        "properties": {
            "content": {"type": "array", "items": as_object({**_TOKEN, "top_logprobs": _listed(as_object(_TOKEN))})},
            "refusal": NULL,
        },
    }
    role = as_object({"role": {"const": "assistant"}, "content": {"const": ""}})
    deltas = ({"reasoning_content": TEXT}, {"tool_calls": {**_listed(call), "minItems": 1, "maxItems": 1}})
    return [
        as_object({**_INDEX, "delta": role, "finish_reason": NULL}),
        as_object({**_INDEX, "delta": as_object({"content": TEXT}), "logprobs": likelihoods, "finish_reason": NULL}),
        *(
            as_object({**_INDEX, "delta": as_object(delta), "logprobs": NULL, "finish_reason": NULL})
            for delta in deltas
        ),
        as_object({**_INDEX, "delta": _nothing(), "logprobs": NULL, "finish_reason": _ended()}),
    ]


def _texts() -> list[Schema]:
    """Return a piece of text, and why an answer ended."""
    likelihoods: Schema = {
        "type": ["object", "null"],
        "required": ["tokens", "token_logprobs", "top_logprobs", "text_offset"],
        "properties": {
            "tokens": _listed(TEXT),
            "token_logprobs": _listed(_NUMBER),
            "top_logprobs": _listed({"type": "object", "additionalProperties": _NUMBER}),
            "text_offset": _listed(COUNT),
        },
    }
    return [
        as_object({**_INDEX, "text": TEXT, "logprobs": likelihoods, "finish_reason": NULL}),
        as_object({**_INDEX, "text": {"const": ""}, "logprobs": NULL, "finish_reason": _ended()}),
    ]


def _ended() -> Schema:
    return {"enum": list(get_args(FinishReason))}


def _nothing() -> Schema:
    return {"type": "object", "maxProperties": 0}


def _listed(one: Schema) -> Schema:
    return {"type": "array", "items": one}
