"""Connections of one process to the site's server, kept open and lent to one thread at a time.

SQLAlchemy's `QueuePool` is not used for it, since it keeps less than what callers are promised here. It bounds how many
there are and how long one waits, but whoever gives one back and asks again has it before those who wait (in 50 of 50
tries with one connection, SQLAlchemy 2.1.9), so that some are refused by the time limit while others go on. While the
server is away each of its callers would wait up to 10 seconds to be let in. It tries a connection before every use,
which is one more way to the server and back in an answer; to try only one that was idle, and to drop the idle ones with
a lost one, takes handlers of ours. What would be left to it is the list of those that are idle.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from appliance.errors import DatabaseError
from appliance.postgres.connecting import AwayError
from appliance.postgres.session import Session, StatementError
from media.clock import Clock

# After that long unused, one is tried before it is lent: what it is lent for may not be sent twice.
_FRESH_SECONDS: Final = 5.0
# Who comes while nobody lets us in is told so at once, and does not wait for one more try.
_AWAY_SECONDS: Final = 1.0


class _Turns:
    """So many at a time, in the order in which they came: a semaphore lets who gives one back have it again at once."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    def take(self, seconds: float) -> bool:
        """Tell whether there was one in time."""
        with self._lock:
            if self._free:  # then nobody waits
                self._free -= 1
                return True
            mine = threading.Event()
            self._waiting.append(mine)
        if mine.wait(seconds):
            return True
        with self._lock:
            if mine.is_set():  # given between the two
                return True
            self._waiting.remove(mine)
        return False

    def give_back(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1


class Connections:
    """Opened when first needed, and so after a process was forked; a server that was away is found again.

    Args:
        make: Opens one.
        most: How many there are at a time.
        wait_seconds: How long a thread waits for one of them.
        clock: Only its monotonic seconds are used.
    """

    def __init__(self, make: Callable[[], Session], *, most: int, wait_seconds: float, clock: Clock) -> None:
        self._make = make
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._turns = _Turns(most)
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Session]] = []
        self._away_until = clock.monotonic()
        self._away = ("", "", "")

    @contextmanager
    def lent(self) -> Iterator[Session]:
        """Lend a connection; one that a block ends with an error is not lent again.

        Raises:
            DatabaseError: All are in use for too long, the server is away, or `make` refused.
        """
        if not self._turns.take(self._wait_seconds):
            raise DatabaseError(
                what="the PostgreSQL server does not answer in time",
                why="every connection of this process waits for it",
                fix="check the server: `sealift db check`",
            )
        try:
            session = self._fresh() or self._opened()
            try:
                yield session
            except BaseException:
                if session.is_lost:  # and the others with it, in all likelihood
                    self.close()
                session.close()
                raise
            with self._lock:
                self._idle.append((self._clock.monotonic(), session))
        finally:
            self._turns.give_back()

    def close(self) -> None:
        """Close those that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, session in idle:
            session.close()

    def _fresh(self) -> Session | None:
        """Return one that is open; the one that was used last, so that what is seldom needed grows old."""
        with self._lock:
            if not self._idle:
                return None
            used_at, session = self._idle.pop()
        if self._clock.monotonic() - used_at <= _FRESH_SECONDS:
            return session
        try:
            session.all("SELECT 1")
        except StatementError:
            session.close()
            self.close()
            return None
        return session

    def _opened(self) -> Session:
        with self._lock:
            until, (what, why, fix) = self._away_until, self._away
        if self._clock.monotonic() < until:
            raise AwayError(what=what, why=why, fix=fix)
        try:
            return self._make()
        except DatabaseError as error:
            with self._lock:
                self._away_until = self._clock.monotonic() + _AWAY_SECONDS
                self._away = (error.what, error.why, error.fix)
            raise
