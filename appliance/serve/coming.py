"""Requests that are being read: where several come together, the first one's step waits for the others.

A step that reads one short prompt takes a third of what one takes that reads sixteen. Callers who come a moment after
the first one would wait for its step to end, and he would be a step ahead of them to the end, whose last step is his
alone. So an engine that is idle lets those who are at its door in first.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MOST_SECONDS: Final = 0.025
_LOOK_SECONDS: Final = 0.0005


class Coming:
    """Counts requests between their arrival and their being queued; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one for as long as the block runs."""
        with self._lock:
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1

    def wait(self, seconds: float) -> None:
        """Return once nobody comes any more, at the latest after so many seconds and `MOST_SECONDS`.

        Args:
            seconds: What the step would take that waits: so long the others would have to.
        """
        until = time.monotonic() + min(seconds, MOST_SECONDS)
        while self._count and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
