"""Rows in PostgreSQL: one writer among all machines, and a commit is on the server's disk before it is answered.

One session holds an advisory lock as long as it lives. Who gets the lock raises the fencing token, and the server's own
triggers refuse every insert whose transaction carries another token: a writer that was paused, or cut off and taken for
dead, can never append again. Once the answer to a commit is lost, only opening anew shows the truth.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from heapq import merge
from typing import Any, Final

from appliance.audit import postgres_schema as schema
from appliance.audit.backend import Row
from appliance.audit.tree import Node
from appliance.config import Places
from appliance.errors import DatabaseError, LedgerDamagedError, LedgerUnavailableError
from appliance.postgres.connecting import AwayError, Role, connect
from appliance.postgres.session import Session, StatementError

LOCK: Final = 0x5EA11F70_00000001
SESSION_SECONDS: Final = 60
_RETRY_SECONDS: Final = 0.5
_LEAF: Final = ("int8", "text", "bytea", "bytea", "bytea", "bytea", "bytea")
_NODE: Final = ("int4", "int8", "bytea")
_COLUMNS: Final = "SELECT sequence, kind, raw, hash, chain, term, retry FROM sealift_ledger.leaf"
_UP: Final = _COLUMNS + " WHERE sequence >= %s ORDER BY sequence LIMIT %s"
_DOWN: Final = _COLUMNS + " WHERE sequence <= %s ORDER BY sequence DESC LIMIT %s"
_UP_KIND: Final = _COLUMNS + " WHERE kind = %s AND sequence >= %s ORDER BY sequence LIMIT %s"
_DOWN_KIND: Final = _COLUMNS + " WHERE kind = %s AND sequence <= %s ORDER BY sequence DESC LIMIT %s"


class PostgresBackend:
    """A `Backend` over one session. Use `open_writer` or `open_reader`."""

    def __init__(self, session: Session, *, token: int | None = None) -> None:
        self._session = session
        self._token = token
        self._failed = False

    @property
    def failed(self) -> bool:
        """Whether the session is lost, fenced off, or a commit was not answered; see `Backend.failed`."""
        return self._failed

    @property
    def token(self) -> int | None:
        """The fencing token of this writer; None for a reader."""
        return self._token

    @property
    def server_version(self) -> str:
        """The server's release, e.g. 15.18."""
        return self._session.server_version

    def size(self) -> int:
        """Return the number of leaves."""
        return int(self._all("SELECT coalesce(max(sequence) + 1, 0) FROM sealift_ledger.leaf")[0][0])

    def append(self, rows: Sequence[Row], nodes: Sequence[Node]) -> None:
        """Add rows and nodes in one transaction; see `Backend.append`."""
        with self._writing():
            self._session.copy("sealift_ledger.leaf", _LEAF, map(_stored, rows))
            if nodes:
                self._session.copy("sealift_ledger.node", _NODE, nodes)

    def rows(
        self, start: int, limit: int, *, kinds: Collection[str] | None = None, newest_first: bool = False
    ) -> list[Row]:
        """Return rows from `start` on; see `Backend.rows`."""
        if kinds is None:
            return self._rows(_DOWN if newest_first else _UP, (start, limit))
        statement = _DOWN_KIND if newest_first else _UP_KIND
        found = [self._rows(statement, (kind, start, limit)) for kind in kinds]
        return list(merge(*found, key=lambda row: row.sequence, reverse=newest_first))[:limit]

    def kinds(self) -> set[str]:
        """Return every kind, hopping from one to the next through the index."""
        statement = """
            WITH RECURSIVE hop(kind) AS (
              SELECT min(kind) FROM sealift_ledger.leaf
              UNION ALL SELECT (SELECT min(kind) FROM sealift_ledger.leaf WHERE kind > hop.kind)
              FROM hop WHERE kind IS NOT NULL
            ) SELECT kind FROM hop WHERE kind IS NOT NULL"""
        return {str(row[0]) for row in self._all(statement)}

    def with_term(self, term: str) -> list[Row]:
        """Return the rows with this term."""
        return self._rows(_COLUMNS + " WHERE term = %s AND term <> '' ORDER BY sequence", (term.encode(),))

    def retries(self, limit: int) -> list[tuple[str, int]]:
        """Return recent idempotency keys."""
        statement = "SELECT retry, sequence FROM sealift_ledger.leaf WHERE sequence >= %s AND retry <> '' ORDER BY 2"
        return [(bytes(retry).decode(), int(place)) for retry, place in self._all(statement, (self.size() - limit,))]

    def open_terms(self, since: int, begins: str, ends: str) -> list[tuple[str, int]]:
        """Return what began and did not end."""
        statement = """
            SELECT b.term, b.sequence FROM sealift_ledger.leaf b
            WHERE b.kind = %s AND b.sequence >= %s AND b.term <> '' AND NOT EXISTS (
              SELECT 1 FROM sealift_ledger.leaf e WHERE e.term = b.term AND e.term <> '' AND e.kind = %s
            ) ORDER BY b.sequence"""
        return [(bytes(term).decode(), int(place)) for term, place in self._all(statement, (begins, since, ends))]

    def node(self, level: int, position: int) -> bytes:
        """Return one hash; see `Backend.node`."""
        if level == 0:
            found = self._all("SELECT hash FROM sealift_ledger.leaf WHERE sequence = %s", (position,))
        else:
            found = self._all(
                "SELECT hash FROM sealift_ledger.node WHERE level = %s AND position = %s", (level, position)
            )
        if not found:
            raise LedgerDamagedError(
                what=f"the tree lacks node {level}/{position}", fix="see docs/operator/ledger.md: recovery"
            )
        return bytes(found[0][0])

    def save_checkpoint(self, size: int, note: str) -> None:
        """Keep a checkpoint, durably."""
        with self._writing():
            self._session.all(
                "INSERT INTO sealift_ledger.checkpoint VALUES(%s, %s) ON CONFLICT DO NOTHING", (size, note)
            )

    def checkpoint(self, *, at_least: int = 0) -> tuple[int, str] | None:
        """Return the newest checkpoint."""
        found = self._all(
            "SELECT size, note FROM sealift_ledger.checkpoint WHERE size >= %s ORDER BY size DESC LIMIT 1", (at_least,)
        )
        return (int(found[0][0]), str(found[0][1])) if found else None

    def checkpoint_of(self, size: int) -> str | None:
        """Return the checkpoint of one size."""
        found = self._all("SELECT note FROM sealift_ledger.checkpoint WHERE size = %s", (size,))
        return str(found[0][0]) if found else None

    def checkpoints(self) -> list[tuple[int, str]]:
        """Return every checkpoint by size."""
        return [
            (int(size), str(note)) for size, note in self._all("SELECT * FROM sealift_ledger.checkpoint ORDER BY 1")
        ]

    def fill(
        self, pages: Iterable[tuple[Sequence[Row], Sequence[Node]]], checkpoints: Iterable[tuple[int, str]]
    ) -> None:
        """Add everything in one transaction: all of it is there afterwards, or nothing.

        Raises:
            LedgerUnavailableError: As `append`.
        """
        with self._writing():
            for rows, nodes in pages:
                self._session.copy("sealift_ledger.leaf", _LEAF, map(_stored, rows))
                self._session.copy("sealift_ledger.node", _NODE, nodes)
            self._session.copy("sealift_ledger.checkpoint", ("int8", "text"), checkpoints)

    def moved(self) -> str | None:
        """Return where the records went for good, None when they are here."""
        found = self._all("SELECT moved FROM sealift_ledger.writer WHERE id = 1")[0][0]
        return None if found is None else str(found)

    def leave(self, to: str) -> None:
        """Note for good that the records were moved; nothing is appended here any more."""
        with self._writing():
            self._session.all("UPDATE sealift_ledger.writer SET moved = %s WHERE id = 1", (to,))

    def tidy(self) -> None:
        """Do nothing: the server folds its own log."""

    def close(self) -> None:
        """Let go of the lock and end the session."""
        # Asked for, because the server lets go of a session's locks some time after it was closed.
        with suppress(StatementError):
            self._session.all("SELECT pg_advisory_unlock_all()")
        self._session.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._failed:
            raise _unavailable(StatementError(why="an earlier write failed", passing=False))
        try:
            with self._session.transaction():
                # Where commits go can be changed on a running server; each one looks.
                ((_, fsync, pages),) = self._session.all(
                    "SELECT set_config('sealift.token', %s, true), current_setting('fsync'), "
                    "current_setting('full_page_writes')",
                    (str(self._token),),
                )
                if (fsync, pages) != ("on", "on"):
                    raise StatementError(why="fsync or full_page_writes was switched off", passing=True)
                yield
        except StatementError as error:
            if not error.passing:
                self._failed = True
            raise _unavailable(error) from error

    def _rows(self, statement: str, values: tuple[Any, ...]) -> list[Row]:
        return [_loaded(row) for row in self._all(statement, values)]

    def _all(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._session.all(statement, values)
        except StatementError as error:
            if self._session.is_lost:
                self._failed = True
            raise _unavailable(error) from error


def open_writer(
    places: Places,
    *,
    wait_seconds: float = 0.0,
    server_seconds: float = 0.0,
    session_seconds: int = SESSION_SECONDS,
) -> PostgresBackend:
    """Open the ledger as its only writer among all machines.

    Args:
        places: The site's places, with a server.
        wait_seconds: How long to wait for another writer to let go.
        server_seconds: How long to wait for a server that is away.
        session_seconds: After so long without a statement the server ends this session, so that a paused writer does
            not keep the lock; 0 for never.

    Raises:
        LedgerUnavailableError: The server is away, gives commits away, or another writer has the ledger.
        LedgerDamagedError: Its tables are of a newer release, or its records were moved elsewhere.
    """
    session = _session(places, "ledger", server_seconds)
    try:
        session.demand_durability()
        schema.require_present(session)
        schema.require_guarded(session)
        session.all(
            "SELECT set_config('idle_session_timeout', %s, false), "
            "set_config('idle_in_transaction_session_timeout', %s, false)",
            (f"{session_seconds}s", f"{session_seconds}s"),
        )
        _lock(session, wait_seconds)
        with session.transaction():
            ((token, moved),) = session.all(
                "UPDATE sealift_ledger.writer SET token = token + 1 WHERE id = 1 AND moved IS NULL "
                "RETURNING token, moved"
            ) or session.all("SELECT token, moved FROM sealift_ledger.writer")
        if moved is not None:
            raise LedgerDamagedError(
                what="the records in this database were moved away",
                why=f"they went on in {moved}",
                fix="set database.kind in the site file to where they are",
            )
    except DatabaseError as error:
        session.close()
        raise _unavailable(error) from error
    except (LedgerDamagedError, LedgerUnavailableError):
        session.close()
        raise
    return PostgresBackend(session, token=int(token))


def open_reader(places: Places) -> PostgresBackend:
    """Open the ledger to read it as it stands now, whoever writes it.

    Raises:
        LedgerUnavailableError: The server is away, or has no ledger.
    """
    session = _session(places, "reader", 0.0)
    try:
        schema.require_present(session)
        session.all("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    except DatabaseError as error:
        session.close()
        raise _unavailable(error) from error
    return PostgresBackend(session)


def _session(places: Places, role: Role, wait_seconds: float) -> Session:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return _leading(Session(connect(places, role))) if role == "ledger" else Session(connect(places, role))
        except AwayError as error:
            if time.monotonic() >= deadline:
                raise _unavailable(error) from error
            time.sleep(_RETRY_SECONDS)
        except DatabaseError as error:
            raise _unavailable(error) from error


def _leading(session: Session) -> Session:
    try:
        ((standby,),) = session.all("SELECT pg_is_in_recovery()")
    except StatementError as error:
        raise AwayError(what=error.what, why=error.why, fix=error.fix) from error
    if standby:
        session.close()
        raise AwayError(
            what="the PostgreSQL server is a standby",
            why="it only repeats another server",
            fix="promote it, or name the one that leads",
        )
    return session


def _lock(session: Session, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while not session.all("SELECT pg_try_advisory_lock(%s)", (LOCK,))[0][0]:
        if time.monotonic() >= deadline:
            raise LedgerUnavailableError(
                what="another process has the ledger open",
                why="its session holds the lock, perhaps on another machine",
                fix="stop the other one first; it is let go when its session ends",
            )
        time.sleep(_RETRY_SECONDS)


def _stored(row: Row) -> tuple[Any, ...]:
    return (*row[:5], row.term.encode(), row.retry.encode())


def _loaded(row: tuple[Any, ...]) -> Row:
    sequence, kind, raw, hashed, chain, term, retry = row
    return Row(
        int(sequence), str(kind), bytes(raw), bytes(hashed), bytes(chain), bytes(term).decode(), bytes(retry).decode()
    )


def _unavailable(error: DatabaseError) -> LedgerUnavailableError:
    return LedgerUnavailableError(what=error.what, why=error.why, fix=error.fix)
