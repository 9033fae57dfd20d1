"""What all gateways of a box count together, exactly; see `quotas` for what that means.

One SQLite file in the gateways' own folder; each step is one transaction that takes the write lock first, so two
processes never spend the same allowance. Whoever deletes the file begins anew.

What running requests hold is charged like what was spent, and noted beside it under `held` and the hour since when, so
that a refusal can tell one from the other. A process that dies lets nothing go: after two hours what it held is spent.
"""

import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from appliance.config import LimitsSection
from appliance.gateway.limits import Allowance, ceiling
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
from appliance.gateway.shared_file import SharedFile
from media.clock import Clock

FORMAT: Final = 1
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS bucket (name TEXT PRIMARY KEY, level REAL NOT NULL, at REAL NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS spent (key_id TEXT NOT NULL, period TEXT NOT NULL, tokens INTEGER NOT NULL,
    PRIMARY KEY (key_id, period)) WITHOUT ROWID""",
)
# Of a day, its month and what is held in one statement: Python lets another thread go on in each, for which this one
# then waits.
_CHARGE: Final = """INSERT INTO spent VALUES (?, ?, ?), (?, ?, ?), (?, ?, ?)
    ON CONFLICT (key_id, period) DO UPDATE SET tokens = max(tokens + excluded.tokens, 0)"""
# The same where neither period would cost more than it may: no row is written then. The write lock is taken first.
_CHARGE_WITHIN: Final = """INSERT INTO spent
    SELECT column1, column2, column3 FROM (
        VALUES (:key, :day, :tokens), (:key, :month, :tokens), (:key, :since, :tokens))
    WHERE coalesce((SELECT tokens FROM spent WHERE key_id = :key AND period = :day), 0) + :tokens <= :today
    AND coalesce((SELECT tokens FROM spent WHERE key_id = :key AND period = :month), 0) + :tokens <= :this_month
    ON CONFLICT (key_id, period) DO UPDATE SET tokens = max(tokens + excluded.tokens, 0)"""
# A row that was forgotten before its request ended is below zero.
_TOLD_APART: Final = """SELECT
    coalesce(sum(tokens) FILTER (WHERE period = :day), 0)
    - coalesce(sum(max(tokens, 0)) FILTER (WHERE period IN (:before, :since) AND substr(period, 6, 10) = :day), 0),
    coalesce(sum(tokens) FILTER (WHERE period = :month), 0)
    - coalesce(sum(max(tokens, 0)) FILTER (WHERE period IN (:before, :since) AND substr(period, 6, 7) = :month), 0)
    FROM spent WHERE key_id = :key AND period IN (:day, :month, :before, :since)"""
_FORGET_HELD: Final = "DELETE FROM spent WHERE period >= 'held ' AND period < ?"
_UNLIMITED: Final = 2**62
_HOUR: Final = timedelta(hours=1)
_BUSY_SECONDS: Final = 5.0
_KEPT: Final = timedelta(days=62)
# A bucket that nobody took from for so long is full, which it also is without a row: addresses come and go.
_FULL_SECONDS: Final = 60.0


class FileQuotas:
    """The counters of one box; safe for threads, and for processes that share the file. See `Quotas`.

    Args:
        file: Made when first needed.
        limits: Of the site file, for all gateways together; a token limit of 0 is none.
        clock: Its monotonic seconds are those of the kernel, the same in all processes.
    """

    def __init__(self, file: Path, limits: LimitsSection, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._forgot_at = float("-inf")
        self._forgot_held_at = float("-inf")
        self._shared = SharedFile(
            file,
            settings=("synchronous=NORMAL",),
            busy_seconds=_BUSY_SECONDS,
            prepare=self._prepare,
            what="the counters of limits cannot be used",
            fix="check the room in the gateway's folder; deleting limits.db there begins the counting anew",
        )

    def close(self) -> None:
        """Close the file."""
        self._shared.close()

    def require(self) -> None:
        """Return: what a file says is known when it is used."""

    def take(self, caller: str, *, per_minute: int) -> Allowance:
        """Take one request from the caller's bucket; `retry_after_seconds` is set when it was empty.

        Raises:
            StoreDamagedError: The counters cannot be read or written.
        """
        with self._shared.transaction() as connection:
            self._forget(connection)
            level, is_allowed = self._spend(connection, f"requests {caller}", per_minute, 1)
        return allowance(level, per_minute, is_allowed=is_allowed)

    def hold(self, key_id: str, tier: str, *, prompt: int, answer: int) -> Held | None:
        """Charge the most tokens that a request can cost; None where the site limits no tokens.

        Raises:
            Problem: The key has not so many left this minute, today or this month.
            StoreDamagedError: The counters cannot be read or written.
        """
        minute, today, this_month = token_limits(self._limits, tier)
        if not minute and not today and not this_month:
            return None
        tokens, now = prompt + answer, self._clock.now()
        self._forget_held()
        require_possible(tokens, today, this_month)
        day, since = now.date().isoformat(), _since(now)
        month = day[: len("2026-11")]
        charge: dict[str, str | int] = {
            "key": key_id,
            "day": day,
            "month": month,
            "since": since,
            "tokens": tokens,
            "today": today or _UNLIMITED,
            "this_month": this_month or _UNLIMITED,
        }
        if not minute:
            if not self._shared.execute(_CHARGE_WITHIN, charge):
                with self._shared.transaction() as connection:
                    raise without_room(is_held=_is_held(connection, charge, now))
            return Held(
                key_id=key_id, tier=tier, tokens=tokens, prompt=prompt, day=day, month=month, headers={}, since=since
            )
        with self._shared.transaction() as connection:
            if not connection.execute(_CHARGE_WITHIN, charge).rowcount:
                raise without_room(is_held=_is_held(connection, charge, now))
            wanted = min(tokens, minute)  # a request larger than a minute's worth may use a whole one
            level, is_allowed = self._spend(connection, f"tokens {key_id}", minute, wanted)
            if not is_allowed:
                raise too_few(level, minute, wanted)
        left = headers(level, minute)
        return Held(
            key_id=key_id, tier=tier, tokens=tokens, prompt=prompt, day=day, month=month, headers=left, since=since
        )

    def left(self, key_id: str, tier: str) -> dict[str, str]:
        """Return the headers that say what a key has left of a minute's tokens; see `Quotas`.

        Raises:
            StoreDamagedError: The counters cannot be read.
        """
        minute, _, _ = token_limits(self._limits, tier)
        if not minute:
            return {}
        with self._shared.transaction() as connection:
            return headers(self._level(connection, f"tokens {key_id}", minute), minute)

    def settle(self, held: Held, tokens: int | None, *, delivered: str = "") -> None:
        """Set right what was charged for a request, when its outcome is known; see `Quotas`.

        Raises:
            StoreDamagedError: The counters cannot be written; what was held stays charged.
        """
        cost = cost_of(held, tokens, delivered)
        back = _charges(held, cost - held.tokens)
        minute = self._limits.tokens_per_minute
        if not minute:
            self._shared.execute(_CHARGE, back)
            return
        with self._shared.transaction() as connection:
            connection.execute(_CHARGE, back)
            most = ceiling(held.tier, minute)
            # Of a request larger than a minute's worth no more was taken than one, so no more than its rest is due.
            self._spend(connection, f"tokens {held.key_id}", most, -max(min(held.tokens, most) - cost, 0))

    def _spend(self, connection: sqlite3.Connection, name: str, most: int, count: int) -> tuple[float, bool]:
        """Take `count` from a bucket that fills evenly up to `most` in a minute; return its level, and whether."""
        level = self._level(connection, name, most)
        is_allowed = level >= count
        if is_allowed:
            level = float(min(most, level - count))
        connection.execute("INSERT OR REPLACE INTO bucket VALUES (?, ?, ?)", (name, level, self._clock.monotonic()))
        return level, is_allowed

    def _level(self, connection: sqlite3.Connection, name: str, most: int) -> float:
        now = self._clock.monotonic()
        row = connection.execute("SELECT level, at FROM bucket WHERE name = ?", (name,)).fetchone()
        level, at = (most, now) if row is None else row
        # A time to come was written before this machine started anew, where its seconds began at 0: since then at least
        # so many passed. A refusal writes nothing, so it would stay one for as long as the machine ran before.
        waited = now - at if at <= now else now
        return float(min(most, level + waited * most / 60))

    def _prepare(self, connection: sqlite3.Connection) -> None:
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        oldest = (self._clock.now() - _KEPT).strftime("%Y-%m")
        connection.execute("DELETE FROM spent WHERE period < ?", (oldest,))
        connection.execute(_FORGET_HELD, (_since(self._clock.now() - _HOUR),))

    def _forget(self, connection: sqlite3.Connection) -> None:
        """Forget the buckets that are full again, once a minute."""
        now = self._clock.monotonic()
        if now - self._forgot_at >= _FULL_SECONDS:
            self._forgot_at = now
            connection.execute("DELETE FROM bucket WHERE at <= ?", (now - _FULL_SECONDS,))

    def _forget_held(self) -> None:
        """Forget what was held in hours that are over, once an hour."""
        now = self._clock.monotonic()
        if now - self._forgot_held_at >= _HOUR.total_seconds():
            self._forgot_held_at = now
            self._shared.execute(_FORGET_HELD, (_since(self._clock.now() - _HOUR),))


def _charges(held: Held, tokens: int) -> tuple[str | int, ...]:
    """Return the values of `_CHARGE` for a request that ended; negative tokens are given back."""
    return (held.key_id, held.day, tokens, held.key_id, held.month, tokens, held.key_id, held.since, -held.tokens)


def _since(moment: datetime) -> str:
    """Return the name of what is held since a moment's hour; it sorts by time, and behind all days and months."""
    return f"held {moment:%Y-%m-%dT%H}"


def _is_held(connection: sqlite3.Connection, charge: dict[str, str | int], now: datetime) -> bool:
    """Tell whether a charge would fit if what running requests hold came back."""
    asked = {name: charge[name] for name in ("key", "day", "month", "since")}
    today, this_month = connection.execute(_TOLD_APART, {**asked, "before": _since(now - _HOUR)}).fetchone()
    tokens = int(charge["tokens"])
    return bool(today + tokens <= charge["today"] and this_month + tokens <= charge["this_month"])
