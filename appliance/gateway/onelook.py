"""One look at what many callers want to know: whoever waits for another's is told what that finds, or that it failed.

A look may take long: a state that somebody writes or a server that is away is waited for, and an engine that stands
still has seconds for a short question. Where each caller looked anew, one after another, the last of a hundred would
wait a hundred times as long, with a thread for each, and nothing else would be answered.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

from appliance.errors import DatabaseError, LedgerUnavailableError, StoreDamagedError
from media.clock import Clock
from media.errors import SealiftError

FRESH_SECONDS: Final = 1.0
_TOLD: Final = (StoreDamagedError, DatabaseError, LedgerUnavailableError)
_T = TypeVar("_T")


class LastFailure:
    """How the last look failed that did. Not safe for threads: whoever looks holds a lock."""

    def __init__(self) -> None:
        self._at = float("-inf")
        # Not the error itself, which would hold on to the request that it was raised in.
        self._error: Callable[[], SealiftError] = lambda: StoreDamagedError(what="")

    def note(self, error: SealiftError, *, at: float) -> None:
        """Note that a look failed just now."""
        kind = next((one for one in _TOLD if isinstance(error, one)), None)
        if kind is not None:
            what, why, fix = error.what, error.why, error.fix
            self._at, self._error = at, lambda: kind(what=what, why=why, fix=fix)

    @contextmanager
    def noting(self, now: Callable[[], float]) -> Iterator[None]:
        """Note by this clock that the look within the block failed, where it did."""
        try:
            yield
        except SealiftError as error:
            self.note(error, at=now())
            raise

    def require_none_since(self, came: float) -> None:
        """Return where no look failed since somebody came.

        Raises:
            StoreDamagedError, DatabaseError, LedgerUnavailableError: One did.
        """
        if came < self._at:
            raise self._error()


class OneLook(Generic[_T]):
    """Safe for threads.

    Args:
        look: Finds it; one at a time.
        clock: Its monotonic seconds are used.
        seconds: How long what was found may be told to others, from when the look began.
    """

    def __init__(self, look: Callable[[], _T], clock: Clock, *, seconds: float = FRESH_SECONDS) -> None:
        self._look = look
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._known: tuple[float, _T] | None = None
        self._failure = LastFailure()

    def found(self) -> _T:
        """Return what a look found that began at most so many seconds before this was asked, or later.

        Raises:
            SealiftError: This look failed, or another caller's while this one waited for it.
        """
        came = self._clock.monotonic()
        with self._lock:
            if self._known is not None and came - self._known[0] <= self._seconds:
                return self._known[1]
            self._failure.require_none_since(came)
            began = self._clock.monotonic()
            with self._failure.noting(self._clock.monotonic):
                found = self._look()
            self._known = began, found
            return found
