"""The bodies and chunks that clients of OpenAI's API expect, exactly.

The same id, time and model in every chunk, the role first, one finish reason, usage only where it was asked for.
"""

from dataclasses import dataclass
from typing import Any

from appliance.gateway.assembly import Assembly
from appliance.gateway.parameters import Endpoint
from appliance.gateway.reading import CallPiece, Text
from appliance.gateway.routing import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What all objects of one answer have in common.

    Attributes:
        with_usage: The caller asked for usage at the end of a stream; then every chunk before says null.
    """

    endpoint: Endpoint
    request_id: str
    created: int
    model: str
    with_usage: bool = False

    def whole(self, assembly: Assembly) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        said: dict[str, Any]
        if self.endpoint is Endpoint.CHAT:
            message: dict[str, Any] = {"role": "assistant", "content": assembly.text, "refusal": None}
            if assembly.calls:
                message["content"] = assembly.text or None
                message["tool_calls"] = [
                    {
                        "id": call.id or f"call_{index}",
                        "type": "function",
                        "function": {"name": call.name, "arguments": "".join(call.arguments)},
                    }
                    for index, call in sorted(assembly.calls.items())
                ]
            said = {"message": message}
        else:
            said = {"text": assembly.text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": assembly.finish_reason or "stop"}
        usage = {} if assembly.usage is None else {"usage": assembly.usage.to_json()}
        kind = "chat.completion" if self.endpoint is Endpoint.CHAT else "text_completion"
        return self._object(kind, [choice], usage)

    def opening(self) -> dict[str, Any] | None:
        """Return the first chunk of a stream, which names the role; a completion has none."""
        if self.endpoint is Endpoint.COMPLETIONS:
            return None
        return self._chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])

    def piece(self, piece: Text | CallPiece) -> dict[str, Any]:
        """Return a chunk of the answer."""
        said: dict[str, Any]
        if isinstance(piece, Text):
            said = {"text": piece.text} if self.endpoint is Endpoint.COMPLETIONS else {"delta": {"content": piece.text}}
        else:
            call: dict[str, Any] = {"index": piece.index, "function": {"arguments": piece.arguments}}
            if piece.id or piece.name:
                call |= {"id": piece.id or f"call_{piece.index}", "type": "function"}
                call["function"]["name"] = piece.name
            said = {"delta": {"tool_calls": [call]}}
        return self._chunk([{"index": 0, **said, "logprobs": None, "finish_reason": None}])

    def ending(self, assembly: Assembly) -> dict[str, Any]:
        """Return the chunk that says why the answer ended."""
        said: dict[str, Any] = {"text": ""} if self.endpoint is Endpoint.COMPLETIONS else {"delta": {}}
        return self._chunk([{"index": 0, **said, "logprobs": None, "finish_reason": assembly.finish_reason or "stop"}])

    def usage(self, assembly: Assembly) -> dict[str, Any] | None:
        """Return the chunk that counts tokens; None where nobody asked or nobody counted."""
        if not self.with_usage or assembly.usage is None:
            return None
        return self._chunk([]) | {"usage": assembly.usage.to_json()}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.endpoint is Endpoint.CHAT else "text_completion"
        return self._object(kind, choices, {"usage": None} if self.with_usage else {})

    def _object(self, kind: str, choices: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
        prefix = "chatcmpl-" if self.endpoint is Endpoint.CHAT else "cmpl-"
        return {
            "id": prefix + self.request_id.removeprefix("req_"),
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            **usage,
        }


def model(route: Route, name: str) -> dict[str, Any]:
    """Return one entry of the list of models."""
    return {
        "id": name,
        "object": "model",
        "created": route.created,
        "owned_by": "sealift",
        "sealift": {"model_digest": route.model_digest, "version": route.version, "alias": name != route.name},
    }
