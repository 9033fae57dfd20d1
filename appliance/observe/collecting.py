"""Alerts on their way to the site's syslog collector: each is sent until it was taken.

Promises: one attempt at a time, and the first that fails ends a pass, so a collector that is away costs one wait
however many alerts there are; what waits keeps its order, and of more than `MOST` the oldest go, whose lines the
journal has.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from appliance.actions.alerts import MOST, Alert

Say = Callable[[Alert], bool]
"""Tells an alert; whether it was taken, as far as one can know."""


@dataclass(slots=True, kw_only=True)
class Waiting:
    """An alert that was not taken yet, and how many passes ended without that."""

    alert: Alert
    tries: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the fields for whoever asks whether everybody is told."""
        return {"name": self.alert.name, "tries": self.tries}


class Collector:
    """What waits for the collector, and the one thread that sends it."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._lock: Final = threading.Lock()
        self._waiting: list[Waiting] = []
        self._is_sending = False

    def add(self, alerts: Iterable[Alert]) -> None:
        """Let alerts wait for the next pass."""
        with self._lock:
            self._waiting += [Waiting(alert=one) for one in alerts]
            del self._waiting[:-MOST]

    def send(self) -> None:
        """Send what waits, in order, until one is not taken; where another thread does, it takes ours along."""
        with self._lock:
            if self._is_sending:
                return
            self._is_sending = True
        is_taken = True
        while (one := self._next(is_good=is_taken)) is not None:
            try:
                is_taken = self._say(one.alert)
            except BaseException:
                self._next(is_good=False)
                raise
            if is_taken:
                self._taken(one)

    def untold(self) -> tuple[Waiting, ...]:
        """Return what was not taken yet."""
        with self._lock:
            return tuple(Waiting(alert=one.alert, tries=one.tries) for one in self._waiting)

    def _next(self, *, is_good: bool) -> Waiting | None:
        """Return what is sent next; nothing at the end of a pass, decided in one step with what others add."""
        with self._lock:
            if is_good and self._waiting:
                return self._waiting[0]
            self._is_sending = False
            for one in self._waiting:
                one.tries += 1  # whoever is away takes none of them
            return None

    def _taken(self, one: Waiting) -> None:
        with self._lock:
            self._waiting = [other for other in self._waiting if other is not one]
