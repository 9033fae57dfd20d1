"""What an engine is asked."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from appliance.gateway.formats import require_told
from appliance.gateway.parameters import Asked, Endpoint
from appliance.gateway.queueing import Priority
from appliance.gateway.routing import Route
from appliance.keys.provider import KeyProvider
from appliance.sections import LimitsSection

_OURS: Final = frozenset({"llama.cpp", "vllm", "attached"})
"""Engines behind a launcher of ours; for one that is attached it reads these fields itself."""
_THOUGHTS: Final[Mapping[bool | None, str]] = {None: "apart", True: "wanted", False: "none"}
_SALT_KEY: Final = "identity-hmac"
_PRIORITIES: Final[Mapping[Priority, int]] = {Priority.URGENT: 0, Priority.INTERACTIVE: 1, Priority.BATCH: 2}


def with_length(asked: Asked, route: Route, limits: LimitsSection) -> Asked:
    """Return the request with a length: the caller's, else the version's own, never above the site's highest.

    Raises:
        Problem: Of that length the likelihoods that are asked for may be more than an engine's answer has room for.
    """
    if not asked.names_length and route.max_tokens:
        asked = replace(asked, max_tokens=min(route.max_tokens, limits.max_tokens))
    require_told(answers=asked.answers, max_tokens=asked.max_tokens, logprobs=asked.logprobs, stream=asked.stream)
    return asked


def engine_body(asked: Asked, route: Route) -> dict[str, Any]:
    """Return what the engine is asked: explicit values only, so that no engine's own default decides."""
    body: dict[str, Any] = {
        "model": route.model_digest,
        "stream": asked.stream,
        "max_tokens": asked.max_tokens,
        "temperature": route.temperature if asked.temperature is None else asked.temperature,
        "top_p": route.top_p if asked.top_p is None else asked.top_p,
    }
    if asked.endpoint is Endpoint.CHAT:
        body["messages"] = [message.to_engine() for message in asked.messages]
        if route.engine in _OURS:
            body["thoughts"] = _THOUGHTS[asked.thinks]
    else:
        body["prompt"] = asked.prompt
    if asked.logprobs is not None:
        is_chat = asked.endpoint is Endpoint.CHAT
        body |= {"logprobs": True, "top_logprobs": asked.logprobs} if is_chat else {"logprobs": asked.logprobs}
    if asked.stream:
        body["stream_options"] = {"include_usage": True}
    optional = {
        "seed": asked.seed,
        "frequency_penalty": asked.frequency_penalty or None,
        "presence_penalty": asked.presence_penalty or None,
        "logit_bias": dict(asked.logit_bias) or None,
        "n": asked.answers if asked.answers > 1 else None,
        "response_format": None if asked.response_format is None else asked.response_format.to_engine(),
        "stop": list(asked.stop) or None,
        "tools": list(asked.tools) or None,
        "tool_choice": asked.tool_choice,
        "parallel_tool_calls": asked.parallel_tool_calls,
    }
    body |= asked.beyond_openai
    return body | {name: value for name, value in optional.items() if value is not None}


def caller_fields(route: Route, *, key_id: str, keys: KeyProvider, priority: Priority) -> dict[str, Any]:
    """Return what an engine of ours is told of the caller: whose prompts may be used again, and how urgent it is.

    An engine uses what it read before only for the same salt, so that how soon an answer begins tells nobody what
    another key asked. An engine of a kind that this release does not know is told nothing: it might refuse the words.

    Raises:
        KeyMissingError: There is no key to make the salt with.
    """
    if route.engine not in _OURS:
        return {}
    salt = keys.hmac(_SALT_KEY, f"prefix\0{key_id}".encode()).hex()[:32]
    return {"cache_salt": salt, "priority": _PRIORITIES[priority]}
