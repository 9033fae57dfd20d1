"""The seam between what schedules and what decodes, and the types that cross it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is drawn. Temperature 0 is greedy and deterministic; top_k 0 leaves all tokens in."""

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 0
    repeat_penalty: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One prompt to continue.

    Attributes:
        tokens: The prompt, at least one token.
        max_tokens: How many tokens to produce at most.
        stop: Texts that end the answer and are not part of it.
    """

    tokens: Sequence[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What a step added to one answer: text that is final, and at the end why it ended."""

    text: str
    completion_tokens: int
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One token to decode: its sequence, its place in it, and whether its logits are wanted."""

    token: int
    position: int
    sequence: int
    wants_logits: bool


class Decoder(Protocol):
    """A loaded model. Called by one thread only."""

    @property
    def context_tokens(self) -> int:
        """How many tokens all sequences together may hold."""
        ...

    @property
    def batch_tokens(self) -> int:
        """How many rows one `decode` takes."""
        ...

    @property
    def sequences(self) -> int:
        """How many sequences may be alive at once."""
        ...

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of `text`; control tokens are recognised only when `special`."""
        ...

    def begin(self, sequence: int, sampling: Sampling) -> None:
        """Prepare a free sequence and its sampler."""
        ...

    def decode(self, rows: Sequence[Row]) -> None:
        """Run one step over `rows`.

        Raises:
            EngineProtocolError: The library reported a failure.
        """
        ...

    def sample(self, sequence: int, row: int) -> int:
        """Draw the next token of `sequence` from the logits of batch row `row`."""
        ...

    def bytes_of(self, token: int) -> bytes:
        """Return the token's bytes; nothing for control tokens."""
        ...

    def is_end(self, token: int) -> bool:
        """Tell whether the token ends a turn."""
        ...

    def release(self, sequence: int) -> None:
        """Forget a sequence and its sampler."""
        ...

    def score(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        """Return the log-likelihood (nats) of `continuation` after `prompt`."""
        ...
