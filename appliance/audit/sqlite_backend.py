"""Rows in `ledger.db`: one process, one connection, WAL with synchronous=FULL.

One connection, because SQLite before 3.51.3 (Debian 12 has 3.40) can damage a WAL that two connections reset at once.
The log is folded in by us, not by SQLite's automatic checkpoint, because that one hides a failed sync; after a failed
sync the kernel may call lost pages clean, so the process has to end and open the file anew. Triggers refuse UPDATE
and DELETE: they catch faults of ours, not an attacker with the file.
"""

import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from heapq import merge
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from appliance.audit.backend import Row, stored_nodes
from appliance.audit.facts import EVERY
from appliance.audit.tree import Node
from appliance.errors import LedgerDamagedError, LedgerFullError, LedgerUnavailableError

FILE_NAME: Final = "ledger.db"
APPLICATION_ID: Final = 0x5EA11F70
USER_VERSION: Final = 1
_FOLD_BYTES: Final = 16 * 1024 * 1024
# Where a write failed for want of room or of a lock, nothing was written and the next may succeed.
_PASSING: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM})
_PRAGMAS: Final = ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "recursive_triggers=ON")
# What SQLite keeps to take a statement back stays in memory: in a file it would be copies of records elsewhere.
_WRITER_PRAGMAS: Final = (
    *("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=0", "secure_delete=ON", "temp_store=MEMORY"),
)
_SCHEMA: Final = """
BEGIN IMMEDIATE;
PRAGMA application_id = 1587617648;
PRAGMA user_version = 1;
CREATE TABLE leaf(
  sequence INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  raw BLOB NOT NULL,
  hash BLOB NOT NULL CHECK(length(hash) = 32),
  chain BLOB NOT NULL CHECK(length(chain) = 32),
  term TEXT NOT NULL,
  retry TEXT NOT NULL
) STRICT;
CREATE INDEX leaf_kind ON leaf(kind);
CREATE INDEX leaf_term ON leaf(term) WHERE term <> '';
CREATE TABLE node(
  level INTEGER NOT NULL CHECK(level > 0),
  position INTEGER NOT NULL,
  hash BLOB NOT NULL CHECK(length(hash) = 32),
  PRIMARY KEY(level, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoint(size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;
CREATE TRIGGER leaf_gap BEFORE INSERT ON leaf
WHEN NEW.sequence <> (SELECT coalesce(max(sequence) + 1, 0) FROM leaf)
BEGIN SELECT RAISE(ABORT, 'leaves have no gaps'); END;
CREATE TRIGGER leaf_update BEFORE UPDATE ON leaf BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER leaf_delete BEFORE DELETE ON leaf BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER node_update BEFORE UPDATE ON node BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER node_delete BEFORE DELETE ON node BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER checkpoint_update BEFORE UPDATE ON checkpoint BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER checkpoint_delete BEFORE DELETE ON checkpoint BEGIN SELECT RAISE(ABORT, 'append only'); END;
COMMIT;
"""
# Rows in one statement, the most first; an SQLite that knows STRICT tables takes 32,766 values in one.
_TOGETHER: Final = tuple(1 << power for power in range(7, -1, -1))
_PLACES: Final = {"leaf": "(?, ?, ?, ?, ?, ?, ?)", "node": "(?, ?, ?)"}
_INSERT: Final = {
    table: {count: f"INSERT INTO {table} VALUES{', '.join([places] * count)}" for count in _TOGETHER}
    for table, places in _PLACES.items()
}
_UP: Final = "SELECT * FROM leaf WHERE sequence >= ? ORDER BY sequence LIMIT ?"
_DOWN: Final = "SELECT * FROM leaf WHERE sequence <= ? ORDER BY sequence DESC LIMIT ?"
_HASHES: Final = "SELECT sequence, hash FROM leaf WHERE sequence >= ? AND sequence < ? ORDER BY 1"
_NODES: Final = "SELECT position, hash FROM node WHERE level = ? AND position >= ? AND position < ? ORDER BY 1"
_CHECKPOINTS: Final = "SELECT size, CAST(note AS BLOB) FROM checkpoint WHERE size >= ? ORDER BY 1 LIMIT ?"
_UP_KIND: Final = """
SELECT * FROM leaf INDEXED BY leaf_kind WHERE kind = ? AND sequence >= ? ORDER BY sequence LIMIT ?"""
_DOWN_KIND: Final = """
SELECT * FROM leaf INDEXED BY leaf_kind WHERE kind = ? AND sequence <= ? ORDER BY sequence DESC LIMIT ?"""


class SqliteBackend:
    """A `Backend` over one SQLite file. Use `open_writer` or `open_reader`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, *, fold_bytes: int = _FOLD_BYTES) -> None:
        self._connection = connection
        self._wal = path.with_name(path.name + "-wal")
        self._fold_bytes = fold_bytes
        self._lock = threading.Lock()
        self._failed = False

    @property
    def failed(self) -> bool:
        """Whether a write or a sync failed; see `Backend.failed`."""
        return self._failed

    def size(self) -> int:
        """Return the number of leaves."""
        return int(self._one("SELECT coalesce(max(sequence) + 1, 0) FROM leaf")[0])

    def append(self, rows: Sequence[Row], nodes: Sequence[Node]) -> None:
        """Add rows and nodes in one transaction; see `Backend.append`."""
        with self._writing():
            self._connection.execute("BEGIN IMMEDIATE")
            self._insert("leaf", rows)
            self._insert("node", nodes)
            self._connection.execute("COMMIT")

    def rows(
        self, start: int, limit: int, *, kinds: Collection[str] | None = None, newest_first: bool = False
    ) -> list[Row]:
        """Return rows from `start` on; see `Backend.rows`."""
        if kinds is None:
            return self._rows(_DOWN if newest_first else _UP, (start, limit))
        # Kind by kind through the index: one query over several kinds would sort all of their rows.
        statement = _DOWN_KIND if newest_first else _UP_KIND
        found = [self._rows(statement, (kind, start, limit)) for kind in kinds]
        return list(merge(*found, key=lambda row: row.sequence, reverse=newest_first))[:limit]

    def kinds(self) -> set[str]:
        """Return every kind, hopping from one to the next through the index."""
        statement = """
            WITH RECURSIVE hop(kind) AS (
              SELECT min(kind) FROM leaf
              UNION ALL SELECT (SELECT min(kind) FROM leaf WHERE kind > hop.kind) FROM hop WHERE kind IS NOT NULL
            ) SELECT kind FROM hop WHERE kind IS NOT NULL"""
        return {row[0] for row in self._all(statement, ())}

    def with_term(self, term: str) -> list[Row]:
        """Return the rows with this term."""
        return self._rows("SELECT * FROM leaf WHERE term = ? AND term <> '' ORDER BY sequence", (term,))

    def retries(self, limit: int) -> list[tuple[str, int]]:
        """Return recent idempotency keys."""
        statement = "SELECT retry, sequence FROM leaf WHERE sequence >= ? AND retry <> '' ORDER BY sequence"
        return [(str(retry), int(sequence)) for retry, sequence in self._all(statement, (self.size() - limit,))]

    def open_terms(self, since: int, begins: str, ends: str) -> list[tuple[str, int]]:
        """Return what began and did not end."""
        statement = """
            SELECT b.term, b.sequence FROM leaf b INDEXED BY leaf_kind
            WHERE b.kind = ? AND b.sequence >= ? AND b.term <> '' AND NOT EXISTS (
              SELECT 1 FROM leaf e WHERE e.term = b.term AND e.term <> '' AND e.kind = ?
            ) ORDER BY b.sequence"""
        return [(str(term), int(sequence)) for term, sequence in self._all(statement, (begins, since, ends))]

    def node(self, level: int, position: int) -> bytes:
        """Return one hash; see `Backend.node`."""
        if level == 0:
            found = self._all("SELECT hash FROM leaf WHERE sequence = ?", (position,))
        else:
            found = self._all("SELECT hash FROM node WHERE level = ? AND position = ?", (level, position))
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
            self._connection.execute("INSERT OR IGNORE INTO checkpoint VALUES(?, ?)", (size, note))

    def checkpoint(self, *, at_least: int = 0) -> tuple[int, str] | None:
        """Return the newest checkpoint."""
        found = self._all("SELECT size, note FROM checkpoint WHERE size >= ? ORDER BY size DESC LIMIT 1", (at_least,))
        return (int(found[0][0]), str(found[0][1])) if found else None

    def checkpoint_of(self, size: int) -> str | None:
        """Return the checkpoint of one size."""
        found = self._all("SELECT note FROM checkpoint WHERE size = ?", (size,))
        return str(found[0][0]) if found else None

    def checkpoints(self, start: int = 0, limit: int = EVERY) -> list[tuple[int, str]]:
        """Return checkpoints by size; see `Backend.checkpoints`."""
        found = self._all(_CHECKPOINTS, (start, limit))
        try:
            return [(int(size), bytes(note).decode()) for size, note in found]
        except UnicodeDecodeError as error:
            raise LedgerDamagedError(
                what=f"{FILE_NAME} is damaged",
                why="a checkpoint that it keeps is no text",
                fix="see docs/operator/ledger.md: recovery",
            ) from error

    def tidy(self) -> None:
        """Fold the write-ahead log in when it has grown; see `Backend.tidy`."""
        try:
            grown = self._wal.stat().st_size > self._fold_bytes
        except OSError:
            return
        if grown:
            with self._writing():
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Fold the write-ahead log in and close. A reader only closes; after a failure the file is left as it is."""
        with self._lock:
            if not self._failed:
                self._connection.close()

    def _insert(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        # Few statements: for each of them SQLite keeps a way back, because triggers may abort it, and Python lets
        # another thread go on, for which the writer then waits.
        start = 0
        for count in _TOGETHER:
            while len(rows) - start >= count:
                self._connection.execute(_INSERT[table][count], [*chain.from_iterable(rows[start : start + count])])
                start += count

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            if self._failed:
                raise _unavailable("an earlier write failed")
            try:
                yield
            except sqlite3.Error as error:
                self._failed = _code(error) not in _PASSING
                self._undo()
                if _code(error) == sqlite3.SQLITE_FULL and not self._failed:
                    raise _full(_reason(error)) from error
                raise _unavailable(_reason(error)) from error

    def _undo(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._failed = True

    def _rows(self, statement: str, values: tuple[Any, ...]) -> list[Row]:
        return [Row._make(row) for row in self._all(statement, values)]

    def _one(self, statement: str) -> tuple[Any, ...]:
        return self._all(statement, ())[0]

    def _all(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.DatabaseError as error:
                raise _read_error(error) from error


def open_writer(path: Path, *, fold_bytes: int = _FOLD_BYTES) -> SqliteBackend:
    """Open or create the file for the one process that writes it. That it is the only one is the caller's to ensure.

    Args:
        path: The file.
        fold_bytes: How long the write-ahead log may grow before `tidy` folds it in.

    Raises:
        LedgerUnavailableError: It cannot be opened or created.
        LedgerDamagedError: It is something else, or of a newer release.
    """
    connection = _connect(path, "rwc")
    try:
        _require_ours(connection, may_be_new=True)
        for pragma in _WRITER_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchall()
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            connection.executescript(_SCHEMA)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _read_error(error) from error
    except LedgerDamagedError:
        connection.close()
        raise
    return SqliteBackend(connection, path, fold_bytes=fold_bytes)


def open_reader(path: Path, *, immutable: bool) -> SqliteBackend:
    """Open the file to read it while no process writes it.

    Args:
        path: The file.
        immutable: There is no write-ahead log, so nothing needs to be created beside the file.

    Raises:
        LedgerUnavailableError: It cannot be opened.
        LedgerDamagedError: It is something else, or of a newer release.
    """
    connection = _connect(path, "ro&immutable=1" if immutable else "ro")
    try:
        _require_ours(connection, may_be_new=False)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _read_error(error) from error
    except LedgerDamagedError:
        connection.close()
        raise
    return SqliteBackend(connection, path)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    try:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5)
    except sqlite3.Error as error:
        raise _unavailable(_reason(error)) from error
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def _require_ours(connection: sqlite3.Connection, *, may_be_new: bool) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if empty and may_be_new and version == 0:
        return
    if application != APPLICATION_ID or version != USER_VERSION:
        raise LedgerDamagedError(
            what=f"{FILE_NAME} is not a ledger that this release reads",
            why=f"application {application:#x}, version {version}",
            fix="use the release that wrote it, or restore it from the backup",
        )


def _code(error: sqlite3.Error) -> int:
    # The low byte is the primary code; errors that Python raises itself have none.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _reason(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", type(error).__name__))


def _read_error(error: sqlite3.DatabaseError) -> LedgerUnavailableError | LedgerDamagedError:
    if _code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return LedgerDamagedError(
            what=f"{FILE_NAME} is damaged",
            why=_reason(error),
            fix="restore it from the backup; see docs/operator/ledger.md",
        )
    return _unavailable(_reason(error))


def _full(why: str) -> LedgerFullError:
    return LedgerFullError(what="the ledger's disk is full", why=why, fix="make room on the disk of the state")


def _unavailable(why: str) -> LedgerUnavailableError:
    return LedgerUnavailableError(
        what="the ledger cannot be written or read", why=why, fix="check the disk's space and health, then the unit"
    )
