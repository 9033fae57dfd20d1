"""Rows in PostgreSQL: a commit is on the server's disk before it is answered.

Every transaction carries the writer's fencing token, and the server's own triggers refuse an insert with another one.
Once the answer to a commit is lost, only opening anew shows the truth.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from heapq import merge
from typing import Any, Final

from appliance.audit.backend import Row, stored_nodes
from appliance.audit.facts import EVERY
from appliance.audit.tree import Node
from appliance.errors import DatabaseError, LedgerDamagedError, LedgerUnavailableError
from appliance.postgres.session import Session, StatementError

_LEAF: Final = ("int8", "text", "bytea", "bytea", "bytea", "bytea", "bytea")
_NODE: Final = ("int4", "int8", "bytea")
_COLUMNS: Final = "SELECT sequence, kind, raw, hash, chain, term, retry FROM sealift_ledger.leaf"
_UP: Final = _COLUMNS + " WHERE sequence >= %s ORDER BY sequence LIMIT %s"
_DOWN: Final = _COLUMNS + " WHERE sequence <= %s ORDER BY sequence DESC LIMIT %s"
_HASHES: Final = "SELECT sequence, hash FROM sealift_ledger.leaf WHERE sequence >= %s AND sequence < %s ORDER BY 1"
_NODES: Final = """
SELECT position, hash FROM sealift_ledger.node WHERE level = %s AND position >= %s AND position < %s ORDER BY 1"""
_UP_KIND: Final = _COLUMNS + " WHERE kind = %s AND sequence >= %s ORDER BY sequence LIMIT %s"
_DOWN_KIND: Final = _COLUMNS + " WHERE kind = %s AND sequence <= %s ORDER BY sequence DESC LIMIT %s"


class PostgresBackend:
    """A `Backend` over one session. Use `open_writer` or `open_reader` of `appliance.audit.postgres_opening`."""

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

    def nodes(self, start: int, end: int) -> list[Node]:
        """Return the nodes that these leaves completed; see `Backend.nodes`."""
        return stored_nodes(self._all, start, end, hashes=_HASHES, nodes=_NODES)

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

    def checkpoints(self, start: int = 0, limit: int = EVERY) -> list[tuple[int, str]]:
        """Return checkpoints by size; see `Backend.checkpoints`."""
        statement = "SELECT size, note FROM sealift_ledger.checkpoint WHERE size >= %s ORDER BY 1 LIMIT %s"
        return [(int(size), str(note)) for size, note in self._all(statement, (start, limit))]

    def fill(
        self,
        pages: Iterable[tuple[Sequence[Row], Sequence[Node]]],
        checkpoints: Iterable[tuple[int, str]],
        *,
        settled: Callable[[], None],
    ) -> None:
        """Add everything in one transaction: all of it is there afterwards, or nothing.

        Args:
            pages: Rows with the nodes that follow from them.
            checkpoints: Signed sizes.
            settled: Called last within the transaction, where the new rows can be read; what it raises undoes all.

        Raises:
            LedgerUnavailableError: As `append`.
        """
        with self._writing():
            for rows, nodes in pages:
                self._session.copy("sealift_ledger.leaf", _LEAF, map(_stored, rows))
                self._session.copy("sealift_ledger.node", _NODE, nodes)
            self._session.copy("sealift_ledger.checkpoint", ("int8", "text"), checkpoints)
            settled()

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
            raise unavailable(StatementError(why="an earlier write failed", passing=False))
        try:
            with self._session.transaction():
                # Where commits go can be changed on a running server; each one looks.
                if self._begin() != ("on", "on"):
                    raise StatementError(why="fsync or full_page_writes was switched off", passing=True)
                yield
        except StatementError as error:
            if not error.passing:
                self._failed = True
            raise unavailable(error) from error

    def _begin(self) -> tuple[str, str]:
        """Show the transaction's token to the server; return the settings of fsync and full_page_writes."""
        ((_, fsync, pages),) = self._session.all(
            "SELECT set_config('sealift.token', %s, true), current_setting('fsync'), "
            "current_setting('full_page_writes')",
            (str(self._token),),
        )
        return str(fsync), str(pages)

    def _rows(self, statement: str, values: tuple[Any, ...]) -> list[Row]:
        return [_loaded(row) for row in self._all(statement, values)]

    def _all(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._session.all(statement, values)
        except StatementError as error:
            if self._session.is_lost:
                self._failed = True
            raise unavailable(error) from error


def _stored(row: Row) -> tuple[Any, ...]:
    return (*row[:5], row.term.encode(), row.retry.encode())


def _loaded(row: tuple[Any, ...]) -> Row:
    sequence, kind, raw, hashed, chain, term, retry = row
    return Row(
        int(sequence), str(kind), bytes(raw), bytes(hashed), bytes(chain), bytes(term).decode(), bytes(retry).decode()
    )


def unavailable(error: DatabaseError) -> LedgerUnavailableError:
    """Return an error of the server as the ledger's."""
    return LedgerUnavailableError(what=error.what, why=error.why, fix=error.fix)
