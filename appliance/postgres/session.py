"""A connection as the records use it: statements under one lock, faults sorted by what may be believed afterwards."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import DatabaseError
from appliance.postgres.connecting import reason

if TYPE_CHECKING:
    from appliance.postgres.connecting import Connection

# The server said no before anything was kept, and may say yes later: no room, no memory, a lock, a cancelled wait.
_PASSING: Final = ("53", "55P03", "57014", "40001", "40P01")
_DURABLE: Final = frozenset({"on", "remote_apply"})


class StatementError(DatabaseError):
    """A statement failed. `passing`: nothing of it was kept, the connection is whole, and another try may succeed."""

    def __init__(self, *, why: str, passing: bool, sqlstate: str = "") -> None:
        super().__init__(
            what="the PostgreSQL server cannot be written or read", why=why, fix="check the server: `sealift db check`"
        )
        self.passing = passing
        self.sqlstate = sqlstate


class Session:
    """One connection, used by one thread at a time. After a fault that does not pass it is of no more use."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._lock = threading.RLock()
        self._warnings: list[str] = []
        connection.add_notice_handler(self._noticed)

    @property
    def is_lost(self) -> bool:
        """Whether the connection is closed or broken."""
        return bool(self._connection.closed or self._connection.broken)

    @property
    def pid(self) -> int:
        """The server's process of this connection."""
        return self._connection.info.backend_pid

    @property
    def server_version(self) -> str:
        """The server's release, e.g. 15.18."""
        return "{}.{}".format(*divmod(self._connection.info.server_version, 10000))

    def all(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows.

        Raises:
            StatementError: It failed.
        """
        with self._lock, self._sorted():
            cursor = self._connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description is not None else []

    def copy(self, table: str, types: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Add whole rows, of columns of these types, to a table of ours by COPY within the caller's transaction.

        Raises:
            StatementError: It failed; the transaction keeps nothing.
        """
        statement = f"COPY {table} FROM STDIN (FORMAT BINARY)"
        with self._lock, self._sorted():
            cursor = self._connection.cursor()
            with cursor.copy(statement.encode()) as stream:
                stream.set_types(types)
                for row in rows:
                    stream.write_row(row)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the connection and run a block as one transaction, durable when this returns without an error.

        Raises:
            StatementError: It failed. Unless `passing`, the server may or may not have kept it: an answer to COMMIT
                was lost, or a standby that was to have it did not confirm.
        """
        with self._lock:
            self._warnings.clear()
            try:
                with self._sorted(), self._connection.transaction():
                    yield
            except StatementError as error:
                if self._warnings:
                    error.passing = False
                raise
            if self._warnings:
                # "The transaction has already committed locally, but might not have been replicated to the standby."
                raise StatementError(why=f"the commit was answered with a warning ({self._warnings[0]})", passing=False)

    def demand_durability(self) -> None:
        """Return when a commit is on the server's disk before it is answered, and keep this session to it.

        Raises:
            DatabaseError: A setting of the server gives commits away.
        """
        ((wanted, fsync, pages),) = self.all(
            "SELECT current_setting('synchronous_commit'), current_setting('fsync'), "
            "current_setting('full_page_writes')"
        )
        found = {"fsync": fsync, "full_page_writes": pages}
        weak = [f"{name} = {value}" for name, value in found.items() if value != "on"]
        if wanted not in _DURABLE:
            weak.insert(0, f"synchronous_commit = {wanted}")
        if weak:
            raise DatabaseError(
                what="the PostgreSQL server would acknowledge what a power cut can take back",
                why=", ".join(weak),
                fix="ALTER SYSTEM SET each of them to on, then SELECT pg_reload_conf()",
            )
        # A reload of the server's settings reaches open sessions; what a session set itself stays.
        self.all("SELECT set_config('synchronous_commit', %s, false)", (wanted,))

    def close(self) -> None:
        """Let go of the connection, and with it of every lock."""
        import psycopg

        with self._lock, suppress(psycopg.Error):
            self._connection.close()

    @contextmanager
    def _sorted(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            code = error.sqlstate or ""
            passing = not self.is_lost and code.startswith(_PASSING)
            raise StatementError(why=reason(error), passing=passing, sqlstate=code) from error

    def _noticed(self, diagnostic: Any) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            self._warnings.append(str(diagnostic.sqlstate))
