"""One SQLite file that the gateways of a box share: opened when first needed, and each step is one transaction.

A transaction takes the write lock first, so what was read in it still holds when it is written.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.errors import StoreDamagedError


class SharedFile:
    """Safe for threads, and for processes that share the file.

    Args:
        file: Made when first needed, with its folder.
        settings: PRAGMAs of the connection.
        busy_seconds: How long another's transaction is waited for.
        prepare: Brings the file into its form, in one transaction.
        what: What is said where it cannot be used.
        fix: What is to be done then.
    """

    def __init__(
        self,
        file: Path,
        *,
        settings: Sequence[str],
        busy_seconds: float,
        prepare: Callable[[sqlite3.Connection], None],
        what: str,
        fix: str,
    ) -> None:
        self._file = file
        self._settings = settings
        self._busy_seconds = busy_seconds
        self._prepare = prepare
        self._what, self._fix = what, fix
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def execute(self, statement: str, values: Sequence[Any] | Mapping[str, Any]) -> int:
        """Run one statement, which is a transaction of its own; return how many rows it wrote.

        Raises:
            StoreDamagedError: The file cannot be read or written.
        """
        with self._lock:
            try:
                return self._opened().execute(statement, values).rowcount
            except (sqlite3.Error, OSError) as error:
                raise self._damaged(error) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection for one transaction, which an exception undoes.

        Raises:
            StoreDamagedError: The file cannot be read or written.
        """
        with self._usable() as connection, begun(connection):
            yield connection

    @contextmanager
    def _usable(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection to one thread at a time."""
        with self._lock:
            try:
                yield self._opened()
            except (sqlite3.Error, OSError) as error:
                raise self._damaged(error) from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connected(
                self._file, settings=self._settings, busy_seconds=self._busy_seconds, prepare=self._prepare
            )
        return self._connection

    def _damaged(self, error: Exception) -> StoreDamagedError:
        return StoreDamagedError(what=self._what, why=type(error).__name__, fix=self._fix)


def connected(
    file: Path, *, settings: Sequence[str], busy_seconds: float, prepare: Callable[[sqlite3.Connection], None]
) -> sqlite3.Connection:
    """Open a file as `SharedFile` does; of several gateways one after the other, as long as it takes.

    Raises:
        sqlite3.Error, OSError: It cannot be opened or prepared.
    """
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(file.parent):
        connection = sqlite3.connect(file, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
        try:
            for pragma in ("journal_mode=WAL", *settings):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            with begun(connection):
                prepare(connection)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder: SQLite does not wait for another who turns to the write-ahead log, it says that it is locked."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def begun(connection: sqlite3.Connection) -> Iterator[None]:
    """Hold the write lock; what was written is kept, or undone where an exception ends it."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
