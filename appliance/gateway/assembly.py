"""Puts an answer together from an engine's parts and restores identifiers in it, whole or streamed, to the same text.

This is the last step before the response writer: what comes out here is what the caller reads and what is hashed for
the ledger. Text and each tool call's arguments are separate streams, each with its own hold-back.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from appliance.gateway.reading import CallPiece, Finish, FinishReason, Part, Text, Usage
from appliance.phi.restore import Restorer, inside_json
from appliance.phi.tokens import TokenMap


@dataclass(slots=True)
class AssembledCall:
    """One tool call so far."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class Assembly:
    """One answer as it grows.

    Args:
        tokens: The tokens of the request that is answered; no other's.

    Attributes:
        finish_reason: Why it ended; None before.
        usage: Token counts, where the engine gave them.
        calls: Tool calls by their index.
    """

    def __init__(self, tokens: TokenMap) -> None:
        self._tokens = tokens
        self._content = Restorer(tokens)
        self._arguments: dict[int, Restorer] = {}
        self._text: list[str] = []
        self.finish_reason: FinishReason | None = None
        self.usage: Usage | None = None
        self.calls: dict[int, AssembledCall] = {}

    @property
    def text(self) -> str:
        """The text delivered so far."""
        return "".join(self._text)

    @property
    def unknown_tokens(self) -> int:
        """How many tokens were left as they were, because the request had none like them."""
        return self._content.unknown + sum(one.unknown for one in self._arguments.values())

    def delivered(self) -> str:
        """Return what `response_hmac` is made over."""
        calls = (f"\n{call.name}{''.join(call.arguments)}" for _, call in sorted(self.calls.items()))
        return self.text + "".join(calls)

    def take(self, part: Part) -> Iterator[Text | CallPiece]:
        """Take one part; yield what may be delivered now."""
        if isinstance(part, Text):
            yield from self._said(self._content.feed(part.text))
        elif isinstance(part, CallPiece):
            restorer = self._arguments.get(part.index)
            if restorer is None:
                restorer = self._arguments[part.index] = Restorer(self._tokens, put=inside_json)
            yield from self._called(replace(part, arguments=restorer.feed(part.arguments)))
        elif isinstance(part, Finish):
            self.finish_reason = part.reason
        else:
            self.usage = part

    def close(self) -> Iterator[Text | CallPiece]:
        """Yield what was held back; nothing comes after this."""
        yield from self._said(self._content.finish())
        for index, restorer in self._arguments.items():
            yield from self._called(CallPiece(index=index, id="", name="", arguments=restorer.finish()))

    def _said(self, text: str) -> Iterator[Text]:
        if text:
            self._text.append(text)
            yield Text(text=text)

    def _called(self, piece: CallPiece) -> Iterator[CallPiece]:
        if piece.id or piece.name or piece.arguments:
            call = self.calls.setdefault(piece.index, AssembledCall())
            call.id = call.id or piece.id
            call.name = call.name or piece.name
            call.arguments.append(piece.arguments)
            yield piece
