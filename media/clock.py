"""One clock, passed in. Reference time is read once per operation; tests pass `FixedClock`."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Protocol


class Clock(Protocol):
    """What time it is, as far as this machine knows."""

    def now(self) -> datetime:
        """Return the present UTC time, timezone-aware."""
        ...

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        ...


class SystemClock:
    """The machine's clock. Not trusted offline."""

    def now(self) -> datetime:
        """Return the present UTC time."""
        return datetime.now(tz=UTC)

    def monotonic(self) -> float:
        """Return the kernel's monotonic seconds."""
        return monotonic()


@dataclass(slots=True)
class FixedClock:
    """A clock that stands until a test moves it."""

    at: datetime
    ticks: float = 0.0

    def now(self) -> datetime:
        """Return the set time."""
        return self.at

    def monotonic(self) -> float:
        """Return the set ticks in seconds."""
        return self.ticks

    def advance(self, seconds: float) -> None:
        """Move both readings forward."""
        self.at += timedelta(seconds=seconds)
        self.ticks += seconds


def to_text(moment: datetime) -> str:
    """Render as RFC 3339 in UTC with whole seconds, e.g. ``2026-11-20T08:00:00Z``."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def from_text(text: str) -> datetime:
    """Read what `to_text` wrote.

    Raises:
        ValueError: The text is not in that exact form.
    """
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
