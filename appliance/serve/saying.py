"""What the engine says over HTTP: OpenAI's objects, whole or streamed; the gateway writes its own from them."""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from appliance.errors import EngineProtocolError
from appliance.serve.asking import Asked
from appliance.serve.engine import Likelihood, Piece
from appliance.serve.handles import Handle
from appliance.serve.thoughts import Thought, ThoughtReader
from appliance.serve.tool_calls import CallReader, CallText


@dataclass(slots=True, kw_only=True)
class _Choice:
    """One answer as it grows."""

    calls: CallReader | None
    thoughts: ThoughtReader | None
    text: str = ""
    thought: str = ""
    called: dict[int, CallText] = field(default_factory=dict)
    likelihoods: list[Likelihood] = field(default_factory=list)
    tokens: int = 0
    reason: str | None = None


class Saying:
    """Tells one generation's answers.

    Args:
        asked: What was asked.
        handle: Where the answers come from.
        model: Its digest.
        created: Seconds since 1970.
        count: Tells how many tokens a text has, or None; how many were thought is counted so, as pieces are of several.
    """

    def __init__(
        self, asked: Asked, handle: Handle, *, model: str, created: int, count: Callable[[str], int | None]
    ) -> None:
        self._asked = asked
        self._count = count
        self._handle = handle
        self._about = {
            "id": ("chatcmpl-" if asked.is_chat else "cmpl-") + secrets.token_hex(12),
            "created": created,
            "model": model,
        }
        self._choices = [
            _Choice(
                calls=CallReader(must=asked.tools.must) if asked.tools is not None else None,
                thoughts=ThoughtReader(is_open=asked.is_thinking) if asked.has_thoughts else None,
            )
            for _ in range(asked.generation.answers)
        ]
        self._cached = 0

    def whole(self, has_left: Callable[[], bool]) -> dict[str, Any]:
        """Return the object of an answer that is not streamed.

        Raises:
            EngineProtocolError: The engine stopped in the middle.
        """
        for piece in self._handle.pieces(has_left):
            for _ in self._take(piece):
                pass
        kind = "chat.completion" if self._asked.is_chat else "text_completion"
        choices = [self._whole(index, choice) for index, choice in enumerate(self._choices)]
        return {**self._about, "object": kind, "choices": choices, "usage": self._usage()}

    def stream(self, has_left: Callable[[], bool]) -> Iterator[bytes]:
        """Yield the events of a streamed answer."""
        try:
            if self._asked.is_chat:
                for index in range(len(self._choices)):
                    yield self._chunk(index, {"role": "assistant", "content": ""})
            for piece in self._handle.pieces(has_left):
                for said, likelihoods in self._take(piece):
                    yield self._chunk(piece.index, self._delta(said), likelihoods=likelihoods)
                reason = self._choices[piece.index].reason
                if piece.finish_reason is not None:
                    yield self._chunk(piece.index, self._delta(""), reason=reason)
            yield _event({**self._object(), "choices": [], "usage": self._usage()})
            yield b"data: [DONE]\n\n"
        except EngineProtocolError as error:
            yield _event({"error": {"message": error.what, "type": "server_error", "code": "engine_failed"}})
        finally:
            self._handle.cancel()

    def _take(self, piece: Piece) -> Iterator[tuple[str | CallText, Sequence[Likelihood]]]:
        """Take a piece in; yield what it says, with how likely that was."""
        choice = self._choices[piece.index]
        if piece.finish_reason in {"error", "cancelled"}:
            raise EngineProtocolError(
                what="the engine stopped in the middle of an answer", why=str(piece.finish_reason), fix="ask again"
            )
        choice.tokens = piece.completion_tokens
        choice.likelihoods += piece.likelihoods
        self._cached = max(self._cached, piece.cached_tokens if piece.index == 0 else 0)
        said = list(self._parts(choice, piece))
        likelihoods: Sequence[Likelihood] = piece.likelihoods
        if likelihoods and not said:
            said = [""]
        for one in said:
            if isinstance(one, Thought):
                choice.thought += one
            elif isinstance(one, str):
                choice.text += one
            else:
                before = choice.called.get(one.index, one)
                arguments = one.arguments if before is one else before.arguments + one.arguments
                choice.called[one.index] = CallText(
                    index=one.index, id=before.id, name=before.name, arguments=arguments
                )
            yield one, likelihoods
            likelihoods = ()
        if piece.finish_reason is not None:
            choice.reason = self._reason(choice, piece.finish_reason)

    def _parts(self, choice: _Choice, piece: Piece) -> Iterator[str | CallText]:
        """Yield what a piece's text is made of: thoughts, text, calls."""
        parts: list[str] = [piece.text] if piece.text else []
        is_last = piece.finish_reason is not None
        if choice.thoughts is not None:
            parts = list(choice.thoughts.add(piece.text))
            parts += choice.thoughts.end() if is_last else ()
        for part in parts:
            if choice.calls is None or isinstance(part, Thought):
                yield part
            else:
                yield from choice.calls.add(part)
        if is_last and choice.calls is not None and (rest := choice.calls.end()):
            yield rest

    def _reason(self, choice: _Choice, reason: str) -> str:
        tools = self._asked.tools
        return "tool_calls" if choice.called and reason == "stop" and tools and not tools.is_named else reason

    def _whole(self, index: int, choice: _Choice) -> dict[str, Any]:
        made: dict[str, Any] = {"index": index, "finish_reason": choice.reason, "logprobs": None}
        if self._asked.generation.top_logprobs is not None:
            made["logprobs"] = self._likelihoods(choice.likelihoods)
        if not self._asked.is_chat:
            return {**made, "text": choice.text}
        message: dict[str, Any] = {"role": "assistant", "content": choice.text}
        if choice.thought:
            message["reasoning_content"] = choice.thought
        if choice.called:
            message["content"] = choice.text or None
            message["tool_calls"] = [_call(one) for _, one in sorted(choice.called.items())]
        return {**made, "message": message}

    def _delta(self, said: str | CallText) -> dict[str, Any]:
        if isinstance(said, CallText):
            call: dict[str, Any] = {"index": said.index, "function": {"arguments": said.arguments}}
            if said.id:
                call = {**_call(said), "index": said.index}
            return {"tool_calls": [call]}
        if isinstance(said, Thought):
            return {"reasoning_content": said}
        return {"content": said} if said else {}

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        reason: str | None = None,
        likelihoods: Sequence[Likelihood] = (),
    ) -> bytes:
        made: dict[str, Any] = {"index": index, "finish_reason": reason, "logprobs": None}
        if likelihoods:
            made["logprobs"] = self._likelihoods(likelihoods)
        made |= {"delta": delta} if self._asked.is_chat else {"text": delta.get("content", "")}
        return _event({**self._object(), "choices": [made], "usage": None})

    def _object(self) -> dict[str, Any]:
        return {**self._about, "object": "chat.completion.chunk" if self._asked.is_chat else "text_completion"}

    def _usage(self) -> dict[str, Any]:
        prompt = len(self._asked.generation.tokens)
        completion = sum(choice.tokens for choice in self._choices)
        told: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": self._cached},
        }
        thought = [self._count(choice.thought) for choice in self._choices if choice.thought]
        if thought and None not in thought:
            told["completion_tokens_details"] = {"reasoning_tokens": min(completion, sum(filter(None, thought)))}
        # Whoever reads on has to know that the model did not see the whole conversation.
        return {**told, "dropped_tokens": self._asked.dropped_tokens} if self._asked.dropped_tokens else told

    def _likelihoods(self, likelihoods: Sequence[Likelihood]) -> dict[str, Any]:
        if self._asked.is_chat:
            return {
                "content": [
                    {**_token(one.token, one.logprob), "top_logprobs": [_token(*other) for other in one.top]}
                    for one in likelihoods
                ]
            }
        return {
            "tokens": [_text(one.token) for one in likelihoods],
            "token_logprobs": [one.logprob for one in likelihoods],
            "top_logprobs": [{_text(token): logprob for token, logprob in one.top} for one in likelihoods],
            "text_offset": [],
            "bytes": [list(one.token) for one in likelihoods],  # ours: where a token begins is known by its bytes alone
        }


def _token(token: bytes, logprob: float) -> dict[str, Any]:
    return {"token": _text(token), "logprob": logprob, "bytes": list(token)}


def _text(token: bytes) -> str:
    return token.decode(errors="replace")


def _call(one: CallText) -> dict[str, Any]:
    return {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}


def _event(event: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
