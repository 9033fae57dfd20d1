"""Sessions of the page, held by the server: a cookie is a random name and nothing else.

They end after a quiet time (requirement E28) and at the latest after a working day, both by the monotonic seconds: a
clock that is set back keeps none alive. A login gets a new name, so a name that somebody planted before is worth
nothing after.
"""

import hmac
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from media.clock import Clock

QUIET: Final = timedelta(minutes=15)
LONGEST: Final = timedelta(hours=10)
MOST: Final = 2000


@dataclass(slots=True)
class Session:
    """One browser. `person` is empty before the login; `since` is the sequence of the last record before it.

    `began` and `seen` are monotonic seconds.
    """

    name: str
    began: float
    seen: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    person: str = ""
    display_name: str = ""
    roles: tuple[str, ...] = ()
    since: int = -1


class Sessions:
    """All sessions of this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._by_name: OrderedDict[str, Session] = OrderedDict()

    def open(self, untrusted_name: str, *, is_step: bool = True) -> Session:
        """Return the living session of that name, else a new one without a person.

        What is no step of a person's, as a page that shows itself again, keeps no session alive.
        """
        now = self._clock.monotonic()
        with self._lock:
            found = self._by_name.get(untrusted_name)
            if found is not None and _is_alive(found, now):
                found.seen = now if is_step else found.seen
                self._by_name.move_to_end(found.name)
                return found
            self._by_name.pop(untrusted_name, None)
            return self._new(now)

    def login(
        self, before: Session, *, person: str, display_name: str, roles: tuple[str, ...], since: int = -1
    ) -> Session:
        """Replace a session by a new one that belongs to a person."""
        now = self._clock.monotonic()
        with self._lock:
            self._by_name.pop(before.name, None)
            session = self._new(now)
            session.person, session.display_name, session.roles = person, display_name, roles
            session.since = since
            return session

    def close(self, session: Session) -> None:
        """End a session."""
        with self._lock:
            self._by_name.pop(session.name, None)

    def _new(self, now: float) -> Session:
        session = Session(name=secrets.token_urlsafe(32), began=now, seen=now)
        self._by_name[session.name] = session
        while len(self._by_name) > MOST:
            # Whoever calls without a cookie makes one: such a flood may end nobody's login.
            oldest = next((name for name, one in self._by_name.items() if not one.person), "")
            self._by_name.pop(oldest or next(iter(self._by_name)))
        return session


def _is_alive(found: Session, now: float) -> bool:
    return now - found.seen <= QUIET.total_seconds() and now - found.began <= LONGEST.total_seconds()


def is_same(expected: str, untrusted: str) -> bool:
    """Compare two texts in constant time."""
    return hmac.compare_digest(expected.encode(), untrusted.encode())


class Attempts:
    """A small limit on guesses: so many within a minute, for each address and for each name."""

    def __init__(self, clock: Clock, *, per_minute: int = 10) -> None:
        self._clock = clock
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def is_spent(self, key: str) -> bool:
        """Return whether one more attempt under this key would be above the limit; counts none."""
        now = self._clock.monotonic()
        with self._lock:
            return len([one for one in self._times.get(key, []) if now - one < 60]) >= self._per_minute

    def allow(self, *keys: str) -> bool:
        """Count one attempt under every key; False when any is above the limit."""
        now = self._clock.monotonic()
        allowed = True
        with self._lock:
            for key in keys:
                recent = [one for one in self._times.get(key, []) if now - one < 60]
                recent.append(now)
                self._times[key] = recent[-self._per_minute - 1 :]
                self._times.move_to_end(key)
                allowed = allowed and len(recent) <= self._per_minute
            while len(self._times) > 10 * MOST:
                self._times.popitem(last=False)
        return allowed
