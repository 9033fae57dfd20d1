"""When a refused caller had better ask again, where more is known of that than that it is soon.

Rules:
    WAIT-1  Of an engine that does not answer: when it will have loaded, counted from the first caller who found it
            away since it answered last, by how long its version took to load when it was validated here.
    WAIT-2  Of one that is busy: when the first of those who hold a place is expected to end, as measured of late.
    WAIT-3  Of tokens that running requests of the same key hold: when the first of these is expected to end, likewise.
    WAIT-4  Where nothing is known, or what was known is over, two seconds; never less, and never more than ten minutes.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from appliance.audit.facts import Ledger
from appliance.gateway.admission import Admission
from appliance.gateway.problems import Awaited, Problem
from appliance.registry.loading import loading_seconds
from media.clock import Clock
from media.errors import SealiftError

LEAST_SECONDS: Final = 2.0
MOST_SECONDS: Final = 600.0
_KEPT_SECONDS: Final = 60.0
_MOST_VERSIONS: Final = 64

_T = TypeVar("_T")


@dataclass(slots=True)
class _Away:
    """An engine that was found away: since when, and when last."""

    since: float
    last: float


@dataclass(frozen=True, slots=True)
class _Loading:
    """How long a version loads, as looked up at `looked`; 0 where that is not known, or not yet."""

    seconds: float
    looked: float


class Patience:
    """Says when to ask again; safe for threads.

    Args:
        ledger: Where validations are recorded.
        admission: Where those run and wait who hold what others lack.
        clock: Its monotonic seconds are used.
    """

    def __init__(self, ledger: Ledger, admission: Admission, clock: Clock) -> None:
        self._ledger = ledger
        self._admission = admission
        self._clock = clock
        self._lock = threading.Lock()
        self._away: dict[str, _Away] = {}
        self._loading: dict[str, _Loading] = {}

    def told(self, problem: Problem, *, key_id: str = "") -> Problem:
        """Return the same problem, which says when to ask again as far as that is known.

        Args:
            problem: What its caller is to be told.
            key_id: Whose request it was.
        """
        match problem.awaits:
            case Awaited.ENGINE if problem.asked_version:
                seconds = self._until_loaded(problem.asked_version)
            case Awaited.PLACE:
                seconds = _known(self._admission.first_end)
            case Awaited.TOKENS if key_id:
                seconds = _known(lambda: self._admission.first_end(key_id))
            case _:
                return problem
        problem.retry_after_seconds = min(max(seconds, LEAST_SECONDS), MOST_SECONDS)
        return problem

    def answered(self, version: str) -> None:
        """Note that an engine of a version answers: found away again, it has all of its loading before it."""
        if self._away:
            with self._lock:
                self._away.pop(version, None)

    def _until_loaded(self, version: str) -> float:
        now = self._clock.monotonic()
        loads = self._loads(version, now)
        with self._lock:
            one = self._away.get(version)
            # Nobody found it away for longer than it takes to load and to come back: it is away once more.
            if one is None or now - one.last > loads + _KEPT_SECONDS:
                _put(self._away, version, one := _Away(now, now))
            one.last = max(one.last, now)
            return loads - (now - one.since)

    def _loads(self, version: str, now: float) -> float:
        """Return how long a version loads; one caller looks that up, others go by what was known before meanwhile."""
        with self._lock:
            known = self._loading.get(version)
            if known is not None and now - known.looked <= _KEPT_SECONDS:
                return known.seconds
            _put(self._loading, version, _Loading(known.seconds if known else 0.0, now))
        # The ledger may take its time to answer.
        seconds = _known(lambda: loading_seconds(self._ledger, version) or 0.0)
        with self._lock:
            _put(self._loading, version, _Loading(seconds, now))
        return seconds


def _put(noted: dict[str, _T], version: str, one: _T) -> None:
    noted[version] = one
    while len(noted) > _MOST_VERSIONS:
        del noted[next(iter(noted))]


def _known(ask: Callable[[], float]) -> float:
    try:
        return ask()
    except SealiftError:
        return 0.0
