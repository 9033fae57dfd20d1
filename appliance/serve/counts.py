"""What an engine's scheduler counts."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Counts:
    """What happened since the start; read by other threads, exact enough for metrics.

    Attributes:
        prompt_tokens: Tokens of prompts of answers that were begun.
        cached_tokens: How many of these had been read before.
        answer_tokens: Tokens that were made.
        guessed: Tokens that a draft model guessed.
        kept: How many of them were drawn.
    """

    steps: int = 0
    rows: int = 0
    padded: int = 0
    preempted: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    guessed: int = 0
    kept: int = 0


class Counted(Protocol):
    """What takes generations, and counts them."""

    counts: Counts

    @property
    def running(self) -> int:
        """How many answers are being made."""
        ...

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        ...
