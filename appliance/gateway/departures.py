"""Calls that wait for an instance's first words: where it is found to be gone, each asks another one at once."""

import threading
import time

from appliance.gateway.upstream import Call


class Departures:
    """Which calls wait for whom, and who was found to be gone; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, dict[Call, float]] = {}
        self._count = 0
        self._departed: dict[str, int] = {}

    @property
    def count(self) -> int:
        """How often an instance was found to be gone."""
        with self._lock:
            return self._count

    def waiting(self, name: str) -> int:
        """Return how many calls wait for an instance."""
        with self._lock:
            return len(self._waiting.get(name, ()))

    def waited(self, seconds: float) -> list[str]:
        """Return for whose first words some call has waited for so long."""
        before = time.monotonic() - seconds
        with self._lock:
            return [name for name, calls in self._waiting.items() if any(since <= before for since in calls.values())]

    def waits(self, name: str, call: Call, *, since: int) -> None:
        """Note that a call waits for an instance's first words.

        Args:
            name: Of the instance.
            call: Broken off at once where the instance was found to be gone after it was picked: nobody else would.
            since: The `count` before it was picked.
        """
        with self._lock:
            self._waiting.setdefault(name, {})[call] = time.monotonic()
            is_gone = self._departed.get(name, 0) > since
        if is_gone:
            call.break_off()

    def heard(self, name: str, call: Call) -> None:
        """Note that it waits no more."""
        with self._lock:
            self._waiting.get(name, {}).pop(call, None)

    def gone(self, name: str) -> None:
        """Break off all that waits for an instance, in the moment when it is put out."""
        with self._lock:
            self._count += 1
            self._departed[name] = self._count
            waiting = list(self._waiting.pop(name, ()))
        for call in waiting:
            call.break_off()
