"""What all nodes of a site count together, on its PostgreSQL server, exactly; see `quotas` for what that means.

Each step is one call of a function there, which is one transaction: a node that stops in the middle of one holds nobody
up. Minutes are filled by the server's clock, since those of nodes differ. Days and months are those of the node that
takes the request: where two nodes' clocks differ about midnight, each charges the day that it has, and none begins
above a day's limit. A commit is not waited for on the server's disk, as with the file.

What running requests hold is noted there by the same functions in the same transaction, as an hour of a key of its own
(`held KEY`), so that a refusal can tell it from what was spent, as with the file. Releases before count the same and
note nothing: what their requests hold is spent.
"""

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from appliance.config import LimitsSection, Places
from appliance.gateway.limits import Allowance
from appliance.gateway.quotas import (
    Held,
    allowance,
    cost_of,
    headers,
    require_possible,
    token_limits,
    too_few,
    without_room,
)
from appliance.postgres.connecting import connect
from appliance.postgres.lending import Connections
from appliance.postgres.limits_schema import LIMITS
from appliance.postgres.session import Session
from media.clock import Clock

_SPEND: Final = "SELECT level, is_allowed FROM sealift_limits.spend(%s, %s, %s, %s)"
_HOLD: Final = "SELECT answer, level FROM sealift_limits.hold(%s, %s, %s, %s, %s, %s, %s, %s)"
_HOLD_NOTED: Final = """SELECT h.answer, h.level,
    CASE WHEN h.answer = 'held' THEN (sealift_limits.hold(%s, %s, %s, %s, 0, 0, 0, 0)).answer END
    FROM sealift_limits.hold(%s, %s, %s, %s, %s, %s, %s, %s) h"""
_SETTLE: Final = "SELECT sealift_limits.settle(%s, %s, %s, %s, %s, %s)"
_SETTLE_NOTED: Final = f"{_SETTLE}, sealift_limits.settle(%s, %s, %s, %s, 0, 0)"
# Of a key whose requests are noted by the hour, the functions keep the month, too: that is no hour. What is of an hour
# to come, another node noted, whose clock is ahead.
_TOLD_APART: Final = """SELECT
    coalesce(sum(tokens) FILTER (WHERE key_id = %(key)s AND period = %(day)s), 0)
    - coalesce(sum(tokens) FILTER (WHERE key_id = %(noted)s AND left(period, 10) = %(day)s), 0),
    coalesce(sum(tokens) FILTER (WHERE key_id = %(key)s AND period = %(month)s), 0)
    - coalesce(sum(tokens) FILTER (WHERE key_id = %(noted)s AND left(period, 7) = %(month)s), 0)
    FROM sealift_limits.spent WHERE stage = %(stage)s AND (key_id = %(key)s AND period IN (%(day)s, %(month)s)
    OR key_id = %(noted)s AND period >= %(before)s AND length(period) = 13)"""
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
_HOUR: Final = timedelta(hours=1)


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
        tokens, now = prompt + answer, self._clock.now()
        day = now.date().isoformat()
        since = _hour(now) if today or this_month else ""
        require_possible(tokens, today, this_month)
        wanted = min(tokens, minute)  # a request larger than a minute's worth may use a whole one
        values = (self._stage, key_id, day, tokens, today, this_month, minute, wanted)
        if since:
            found, level, _ = self._called(_HOLD_NOTED, (self._stage, _noted(key_id), since, tokens, *values))
        else:
            found, level = self._called(_HOLD, values)
        if found == "minute":
            raise too_few(level, minute, wanted)
        if found != "held":
            spent_today, spent_this_month = self._told_apart(key_id, now)
            would_fit = (not today or spent_today + tokens <= today) and (
                not this_month or spent_this_month + tokens <= this_month
            )
            raise without_room(is_held=would_fit)
        return Held(
            key_id=key_id,
            tier=tier,
            tokens=tokens,
            prompt=prompt,
            day=day,
            month=day[: len("2026-11")],
            headers=headers(level, minute) if minute else {},
            since=since,
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
        values = (self._stage, held.key_id, held.day, back, minute, back_of_minute)
        if held.since:
            noted = (self._stage, _noted(held.key_id), held.since, held.tokens)
            self._called(_SETTLE_NOTED, (*values, *noted))
        elif back:  # else nothing of the minute is due either
            self._called(_SETTLE, values)

    def _told_apart(self, key_id: str, now: datetime) -> tuple[int, int]:
        """Return what a key spent of a day and a month, without what running requests hold."""
        day = now.date().isoformat()
        names = {"stage": self._stage, "key": key_id, "noted": _noted(key_id), "before": _hour(now - _HOUR)}
        today, this_month = self._called(_TOLD_APART, names | {"day": day, "month": day[: len("2026-11")]})
        return int(today), int(this_month)

    def _called(self, statement: str, values: Sequence[Any] | Mapping[str, Any]) -> tuple[Any, ...]:
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


def _noted(key_id: str) -> str:
    """Return under which key what running requests of one hold is noted; no key of an application has a space."""
    return f"held {key_id}"


def _hour(moment: datetime) -> str:
    """Return the name of a moment's hour; it begins with its day and its month."""
    return f"{moment:%Y-%m-%dT%H}"
