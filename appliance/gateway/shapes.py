"""The bodies and chunks that clients of OpenAI's API expect, exactly.

The same id, time and model in every chunk, the role first, one finish reason, usage only where it was asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from appliance.gateway.assembly import Answer, Assembly
from appliance.gateway.likelihoods import Likelihood, chat_logprobs, completion_logprobs
from appliance.gateway.parameters import Endpoint
from appliance.gateway.reading import Said, Text, Thought
from appliance.gateway.routing import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What all objects of one answer have in common.

    Attributes:
        with_usage: The caller asked for usage at the end of a stream; then every chunk before says null.
        answers: How many answers the caller asked for.
    """

    endpoint: Endpoint
    request_id: str
    created: int
    model: str
    with_usage: bool = False
    answers: int = 1

    def whole(self, assembly: Assembly) -> dict[str, Any]:
        """Return the body of an answer that is not streamed."""
        choices = [self._choice(index, answer) for index, answer in enumerate(assembly.answers)]
        usage = {} if assembly.usage is None else {"usage": assembly.usage.to_json()}
        kind = "chat.completion" if self.endpoint is Endpoint.CHAT else "text_completion"
        return self._object(kind, choices, usage)

    def opening(self) -> list[dict[str, Any]]:
        """Return the first chunk of each answer of a stream, which names the role; a completion has none."""
        if self.endpoint is Endpoint.COMPLETIONS:
            return []
        delta = {"role": "assistant", "content": ""}
        return [self._chunk([{"index": index, "delta": delta, "finish_reason": None}]) for index in range(self.answers)]

    def piece(self, piece: Said) -> dict[str, Any]:
        """Return a chunk of the answer."""
        said: dict[str, Any]
        if isinstance(piece, Text):
            said = {"text": piece.text} if self.endpoint is Endpoint.COMPLETIONS else {"delta": {"content": piece.text}}
        elif isinstance(piece, Thought):
            said = {"delta": {"reasoning_content": piece.text}}
        else:
            call: dict[str, Any] = {"index": piece.index, "function": {"arguments": piece.arguments}}
            if piece.id or piece.name:
                call |= {"id": piece.id or f"call_{piece.index}", "type": "function"}
                call["function"]["name"] = piece.name
            said = {"delta": {"tool_calls": [call]}}
        told = None
        if isinstance(piece, Text) and piece.likelihoods:
            told = self._logprobs(piece.likelihoods, piece.places)
        return self._chunk([{"index": piece.choice, **said, "logprobs": told, "finish_reason": None}])

    def ending(self, assembly: Assembly) -> list[dict[str, Any]]:
        """Return the chunks that say why each answer ended."""
        said: dict[str, Any] = {"text": ""} if self.endpoint is Endpoint.COMPLETIONS else {"delta": {}}
        return [
            self._chunk([{"index": index, **said, "logprobs": None, "finish_reason": answer.finish_reason}])
            for index, answer in enumerate(assembly.answers)
        ]

    def usage(self, assembly: Assembly) -> dict[str, Any] | None:
        """Return the chunk that counts tokens; None where nobody asked or nobody counted."""
        if not self.with_usage or assembly.usage is None:
            return None
        return self._chunk([]) | {"usage": assembly.usage.to_json()}

    def _choice(self, index: int, answer: Answer) -> dict[str, Any]:
        said: dict[str, Any] = {"text": answer.text}
        if self.endpoint is Endpoint.CHAT:
            message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
            if answer.thoughts:
                message["reasoning_content"] = answer.thoughts
            if answer.calls:
                message["content"] = answer.text or None
                message["tool_calls"] = [
                    {
                        "id": call.id or f"call_{place}",
                        "type": "function",
                        "function": {"name": call.name, "arguments": "".join(call.arguments)},
                    }
                    for place, call in sorted(answer.calls.items())
                ]
            said = {"message": message}
        told = self._logprobs(answer.likelihoods, answer.places) if answer.likelihoods else None
        return {"index": index, **said, "logprobs": told, "finish_reason": answer.finish_reason}

    def _logprobs(self, likelihoods: Sequence[Likelihood], places: Sequence[int]) -> dict[str, Any]:
        if self.endpoint is Endpoint.CHAT:
            return chat_logprobs(likelihoods)
        return completion_logprobs(likelihoods, places)

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
