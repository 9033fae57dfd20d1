"""What all nodes of a site count together, on its PostgreSQL server, exactly; see `quotas` for what that means.

Each step is one call of a function there, which is one transaction: a node that stops in the middle of one holds nobody
up. Minutes are filled by the server's clock, since those of nodes differ. Days and months are those of the node that
takes the request: where two nodes' clocks differ about midnight, each charges the day that it has, and none begins
above a day's limit. A commit is not waited for on the server's disk, as with the file.
"""

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from appliance.config import LimitsSection, Places
from appliance.gateway import problems
from appliance.gateway.limits import Allowance
from appliance.gateway.quotas import Held, allowance, cost_of, headers, require_possible, token_limits, too_few
from appliance.postgres.connecting import connect
from appliance.postgres.lending import Connections
from appliance.postgres.limits_schema import LIMITS
from appliance.postgres.session import Session
from media.clock import Clock

_SPEND: Final = "SELECT level, is_allowed FROM sealift_limits.spend(%s, %s, %s, %s)"
_HOLD: Final = "SELECT answer, level FROM sealift_limits.hold(%s, %s, %s, %s, %s, %s, %s, %s)"
_SETTLE: Final = "SELECT sealift_limits.settle(%s, %s, %s, %s, %s, %s)"
_PRUNE: Final = "SELECT sealift_limits.prune(%s)"
_SESSION: Final = (
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE",
    "SET synchronous_commit = off",
    "SET statement_timeout = '5s'",  # also for a row that another node's gateway has
)
_MOST_CONNECTIONS: Final = 4
_WAIT_SECONDS: Final = 5.0
_PRUNE_SECONDS: Final = 3600.0
_KEPT: Final = timedelta(days=62)


class ServerQuotas:
    """The site's counters of one stage; safe for threads, processes and nodes. See `Quotas`.

    What was sent is never sent again: an answer that was lost leaves too much charged, never too little.

    Args:
        places: Name the server, and the stage that is served.
        limits: Of the site file, for all nodes together; the same on each.
        clock: Names the day.
    """

    def __init__(self, places: Places, limits: LimitsSection, clock: Clock) -> None:
        self._places = places
        self._limits = limits
        self._clock = clock
        self._stage = str(places.stage)
        self._connections = Connections(self._open, most=_MOST_CONNECTIONS, wait_seconds=_WAIT_SECONDS, clock=clock)
        self._lock = threading.Lock()
        self._prune_at = clock.monotonic()

    def close(self) -> None:
        """Let go of the connections."""
        self._connections.close()

    def require(self) -> None:
        """Return when the server lets us in and has the counters.

        Raises:
            DatabaseError: It does not.
        """
        with self._connections.lent():
            pass

    def take(self, caller: str, *, per_minute: int) -> Allowance:
        """Take one request from the caller's bucket; `retry_after_seconds` is set when it was empty.

        Raises:
            DatabaseError: The server is away, or has no counters.
        """
        level, is_allowed = self._called(_SPEND, (self._stage, f"requests {caller}", per_minute, 1))
        return allowance(level, per_minute, is_allowed=is_allowed)

    def hold(self, key_id: str, tier: str, *, prompt: int, answer: int) -> Held | None:
        """Charge the most tokens that a request can cost; None where the site limits no tokens.

        Raises:
            Problem: The key has not so many left this minute, today or this month.
            DatabaseError: The server is away, or has no counters.
        """
        minute, today, this_month = token_limits(self._limits, tier)
        if not minute and not today and not this_month:
            return None
        tokens, day = prompt + answer, self._clock.now().date().isoformat()
        require_possible(tokens, today, this_month)
        wanted = min(tokens, minute)  # a request larger than a minute's worth may use a whole one
        values = (self._stage, key_id, day, tokens, today, this_month, minute, wanted)
        found, level = self._called(_HOLD, values)
        if found == "minute":
            raise too_few(level, minute, wanted)
        if found != "held":  # the server does not tell what running requests hold from what was spent
            raise problems.quota_spent()
        return Held(
            key_id=key_id,
            tier=tier,
            tokens=tokens,
            prompt=prompt,
            day=day,
            month=day[: len("2026-11")],
            headers=headers(level, minute) if minute else {},
        )

    def left(self, key_id: str, tier: str) -> dict[str, str]:
        """Return the headers that say what a key has left of a minute's tokens; see `Quotas`.

        Raises:
            DatabaseError: The server is away, or has no counters.
        """
        minute, _, _ = token_limits(self._limits, tier)
        if not minute:
            return {}
        level, _ = self._called(_SPEND, (self._stage, f"tokens {key_id}", minute, 0))
        return headers(level, minute)

    def settle(self, held: Held, tokens: int | None, *, delivered: str = "") -> None:
        """Give back what a request did not cost, or charge what it cost beyond; see `Quotas`.

        Raises:
            DatabaseError: The server is away, or has no counters; what was held stays charged.
        """
        cost = cost_of(held, tokens, delivered)
        minute, _, _ = token_limits(self._limits, held.tier)
        back, back_of_minute = held.tokens - cost, max(min(held.tokens, minute) - cost, 0)
        if back:  # else nothing of the minute is due either
            self._called(_SETTLE, (self._stage, held.key_id, held.day, back, minute, back_of_minute))

    def _called(self, statement: str, values: Sequence[Any]) -> tuple[Any, ...]:
        with self._connections.lent() as session:
            if self._is_time():
                session.all(_PRUNE, ((self._clock.now() - _KEPT).strftime("%Y-%m"),))
            return session.all(statement, values)[0]

    def _is_time(self) -> bool:
        """Tell whether old rows are to be forgotten now: once an hour, and when a process begins."""
        now = self._clock.monotonic()
        with self._lock:
            if now < self._prune_at:
                return False
            self._prune_at = now + _PRUNE_SECONDS
        return True

    def _open(self) -> Session:
        session = Session(connect(self._places, "reader"))
        try:
            for statement in _SESSION:
                session.all(statement)
            LIMITS.require_present(session)
        except BaseException:
            session.close()
            raise
        return session
