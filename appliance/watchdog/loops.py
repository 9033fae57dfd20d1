"""Liveness of a service of ours that runs loops in threads: told only after each of them has really turned.

Rules:
    ALIVE-1 A sign of life is a turn of what the service is for: a round trip through its queue, its lock or its loop.
            A timer that only shows that the process has threads is none.
    ALIVE-2 Where one part is silent, or a probe never returns, nothing is told, and the supervisor ends the service.
    ALIVE-3 A service that waits for another is alive: a watchdog mends what starting again mends.

Source: sd_notify(3), WatchdogSec= in systemd.service(5).
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Final

from appliance import unit

Probe = Callable[[], bool]

TURNS_PER_LIMIT: Final = 4
"""A sign of life is given this often within the time after which a silence counts."""


class Pulse:
    """The last turn of a loop; beaten by the loop, read by anyone."""

    def __init__(self, *, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._at = now()

    def beat(self) -> None:
        """Note a turn."""
        self._at = self._now()

    def within(self, seconds: float) -> bool:
        """Whether the last turn is at most so long ago."""
        return self._now() - self._at <= seconds


def is_free(lock: threading.Lock, seconds: float) -> bool:
    """Whether a lock that is only ever held for one step can be had within `seconds`."""
    if not lock.acquire(timeout=seconds):
        return False
    lock.release()
    return True


class Doors:
    """The loops that accept at a service's doors, by name; `turned` is for `appliance.wire.serve`."""

    def __init__(self, names: Iterable[str]) -> None:
        self._pulses = {name: Pulse() for name in names}

    def turned(self, name: str) -> None:
        """Note a turn of one door's loop."""
        self._pulses[name].beat()

    def turn(self, seconds: float) -> bool:
        """Whether every door's loop turned within the last `seconds`."""
        return all(pulse.within(seconds) for pulse in self._pulses.values())


class Watchdog:
    """Asks every probe again and again, and tells the supervisor while all of them hold.

    Args:
        probes: Each part of the service, by the name that the unit's status shows when it is silent.
        limit_seconds: The supervisor's limit; 0 where it has none, and then nothing is asked.
        tell: Where messages go.
    """

    def __init__(
        self, probes: Mapping[str, Probe], *, limit_seconds: float, tell: Callable[[str], None] = unit.notify
    ) -> None:
        self._probes = probes
        self._limit_seconds = limit_seconds
        self._tell = tell
        self._ending = threading.Event()

    def start(self) -> None:
        """Begin to look, in a thread of its own."""
        if self._limit_seconds > 0:
            threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Look no more: the service is ending."""
        self._ending.set()

    def look(self) -> bool:
        """Ask every probe once and tell what was found; return whether all hold."""
        silent = [name for name, holds in self._probes.items() if not holds()]
        with suppress(OSError):  # whoever listens may be starting again itself
            self._tell(f"STATUS=no sign of life from: {', '.join(silent)}" if silent else "WATCHDOG=1")
        return not silent

    def _run(self) -> None:
        while not self._ending.wait(self._limit_seconds / TURNS_PER_LIMIT):
            self.look()
