"""How long places of the queue are held of late, by kind of request."""

from dataclasses import dataclass, field
from typing import Final

_WEIGHT: Final = 1 / 16
MOST_KINDS: Final = 64
"""Of which kinds a pace is remembered: of those that were measured last."""


@dataclass(slots=True, kw_only=True)
class Pace:
    """How long places were held of late, in seconds, by kind of request; the kind that was measured last is the last.

    A mean over all kinds would tell whoever waits for long answers what short ones took.
    """

    mean_seconds: dict[str, float] = field(default_factory=dict)

    def of(self, kind: str) -> float:
        """Return how long requests of a kind held a place; 0 before one was measured."""
        return self.mean_seconds.get(kind, 0.0)

    def note(self, kind: str, seconds: float) -> None:
        """Take one more into the mean of its kind, newer ones counting more."""
        held, mean = max(seconds, 0.0), self.mean_seconds.pop(kind, 0.0)
        self.mean_seconds[kind] = held if not mean else mean + _WEIGHT * (held - mean)
        while len(self.mean_seconds) > MOST_KINDS:
            del self.mean_seconds[next(iter(self.mean_seconds))]
