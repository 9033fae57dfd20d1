"""The queue of several gateways of one box, in one SQLite file: each step is one transaction over the pure `Queue`.

Each gateway holds a lock on a file of its own for as long as it lives; the kernel lets go of it when the process ends,
however it ends, and the others drop what it held within half a second of asking. The file is no evidence: whoever
deletes it while no gateway runs loses nothing but the measured pace.
"""

import fcntl
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from appliance.errors import StoreDamagedError
from appliance.gateway.pace import Pace
from appliance.gateway.queueing import Bounds, FullError, Priority, Queue, Ticket
from appliance.gateway.shared_file import begun, connected
from media.clock import Clock

FORMAT: Final = 6
_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS ticket (id TEXT PRIMARY KEY, gateway TEXT NOT NULL, priority TEXT NOT NULL,
    arrived REAL NOT NULL, until REAL NOT NULL, number INTEGER NOT NULL, began REAL, caller TEXT NOT NULL,
    line TEXT NOT NULL, most INTEGER NOT NULL, kind TEXT NOT NULL, patience REAL NOT NULL)
    WITHOUT ROWID""",
    # In the order in which they were measured last, which the row ids keep.
    "CREATE TABLE IF NOT EXISTS held (kind TEXT PRIMARY KEY, mean_seconds REAL NOT NULL)",
)
_BUSY_SECONDS: Final = 5.0
_SWEEP_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.05


class SharedDesk:
    """One gateway's way to the shared queue; safe for threads, made after any fork.

    Args:
        file: Made when first needed; the gateways' lock files lie beside it.
        bounds: Of all gateways together.
        clock: Its monotonic seconds are those of the kernel, the same in all processes.
    """

    def __init__(self, file: Path, bounds: Bounds, clock: Clock) -> None:
        self._file = file
        self._bounds = bounds
        self._clock = clock
        self._name = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._descriptor = -1
        self._swept_at = float("-inf")
        self._looked_at = float("-inf")
        self._begun: frozenset[str] = frozenset()

    @contextmanager
    def open(self) -> Iterator[Queue]:
        """Lend the queue; see `appliance.gateway.admission.Desk`."""
        refused: FullError | None = None
        with self._lock, self._transaction() as connection:
            before, owners = self._read(connection)
            known = dict(connection.execute("SELECT kind, mean_seconds FROM held ORDER BY rowid"))
            pace = Pace(mean_seconds=dict(known))
            queue = Queue(self._bounds, pace, [replace(one) for one in before.values()])
            now = self._clock.monotonic()
            if now - self._swept_at > _SWEEP_SECONDS:
                self._swept_at = now
                dead = self._dead(set(owners.values()))
                queue.forget([each for each, owner in owners.items() if owner in dead], now)
            try:
                yield queue
            except FullError as full:  # which changed nothing; what was swept is kept
                refused = full
            self._write(connection, before, {one.id: one for one in (*queue.running, *queue.waiting)})
            self._remember(connection, known, pace.mean_seconds)
        if refused is not None:
            raise refused

    def await_change(self, ticket_id: str, woken: threading.Event, seconds: float) -> None:
        """Wait until any gateway gave the ticket its place; see `appliance.gateway.admission.Desk`."""
        ends = self._clock.monotonic() + seconds
        while not woken.wait(_LOOK_SECONDS) and self._clock.monotonic() < ends:
            if ticket_id in self._granted():
                return

    def close(self) -> None:
        """Drop this gateway's tickets and its lock."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            with suppress(sqlite3.Error):
                connection.execute("DELETE FROM ticket WHERE gateway = ?", (self._name,))
            connection.close()
            self._lock_file(self._name).unlink(missing_ok=True)
            os.close(self._descriptor)

    def _granted(self) -> frozenset[str]:
        """Return this gateway's tickets that run, as they were at most a moment ago: one look serves all who wait."""
        with self._lock:
            now = self._clock.monotonic()
            if self._connection is not None and now - self._looked_at >= _LOOK_SECONDS:
                self._looked_at = now
                query = "SELECT id FROM ticket WHERE gateway = ? AND began IS NOT NULL"
                with _ours():
                    self._begun = frozenset(row[0] for row in self._connection.execute(query, (self._name,)))
            return self._begun

    def _read(self, connection: sqlite3.Connection) -> tuple[dict[str, Ticket], dict[str, str]]:
        tickets, owners = {}, {}
        for row in connection.execute(
            "SELECT id, gateway, priority, arrived, until, number, began, caller, line, most, kind, "
            "patience FROM ticket"
        ):
            tickets[row[0]] = Ticket(
                id=row[0],
                priority=Priority(row[2]),
                arrived=row[3],
                until=row[4],
                number=row[5],
                began=row[6],
                caller=row[7],
                line=row[8],
                most=row[9],
                kind=row[10],
                patience=row[11],
            )
            owners[row[0]] = row[1]
        return tickets, owners

    def _write(self, connection: sqlite3.Connection, before: dict[str, Ticket], after: dict[str, Ticket]) -> None:
        gone = [(each,) for each in before if each not in after]
        if gone:
            connection.executemany("DELETE FROM ticket WHERE id = ?", gone)
        for each, ticket in after.items():
            if each not in before:
                row = (
                    each,
                    self._name,
                    ticket.priority.value,
                    ticket.arrived,
                    ticket.until,
                    ticket.number,
                    ticket.began,
                    ticket.caller,
                    ticket.line,
                    ticket.most,
                    ticket.kind,
                    ticket.patience,
                )
                connection.execute("INSERT INTO ticket VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            elif ticket.began != before[each].began:
                connection.execute("UPDATE ticket SET began = ? WHERE id = ?", (ticket.began, each))

    def _remember(self, connection: sqlite3.Connection, before: dict[str, float], after: dict[str, float]) -> None:
        gone = [(kind,) for kind in before if kind not in after]
        if gone:
            connection.executemany("DELETE FROM held WHERE kind = ?", gone)
        for kind, seconds in after.items():
            if before.get(kind) != seconds:
                connection.execute("INSERT OR REPLACE INTO held VALUES (?, ?)", (kind, seconds))

    def _dead(self, gateways: Iterable[str]) -> set[str]:
        return {one for one in gateways if one != self._name and self._is_dead(one)}

    def _is_dead(self, gateway: str) -> bool:
        path = self._lock_file(gateway)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            path.unlink(missing_ok=True)
            return True
        finally:
            os.close(descriptor)

    def _lock_file(self, gateway: str) -> Path:
        return self._file.with_name(f"queue-{gateway}.lock")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _ours():
            if self._connection is None:
                self._connection = self._opened()
            with begun(self._connection):
                yield self._connection

    def _opened(self) -> sqlite3.Connection:
        lock = self._lock_file(self._name)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                connection = connected(
                    self._file, settings=("synchronous=OFF",), busy_seconds=_BUSY_SECONDS, prepare=_prepare
                )
            except BaseException:
                # Kept open it would hold the lock against the next try, which would wait for this very process.
                os.close(descriptor)
                lock.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise sqlite3.OperationalError(type(error).__name__) from error
        self._descriptor = descriptor
        return connection


def _prepare(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
        for table in ("ticket", "pace", "held"):  # another release's; its gateways are gone with it
            connection.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {FORMAT}")


@contextmanager
def _ours() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreDamagedError(
            what="the gateways' queue cannot be used",
            why=type(error).__name__,
            fix="check the room in the gateway's folder; stop the gateways and delete queue.db there",
        ) from error
