"""What an engine is asked."""

from typing import Any

from appliance.gateway.parameters import Asked, Endpoint
from appliance.gateway.routing import Route


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
    else:
        body["prompt"] = asked.prompt
    if asked.stream:
        body["stream_options"] = {"include_usage": True}
    optional = {
        "seed": asked.seed,
        "stop": list(asked.stop) or None,
        "tools": list(asked.tools) or None,
        "tool_choice": asked.tool_choice,
        "parallel_tool_calls": asked.parallel_tool_calls,
    }
    return body | {name: value for name, value in optional.items() if value is not None}
