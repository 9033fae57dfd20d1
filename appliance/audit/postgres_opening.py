"""Opening the ledger on a server: one writer among all machines, any number of readers.

One session holds an advisory lock as long as it lives. Who gets the lock raises the fencing token, and the server's own
triggers refuse every insert whose transaction carries another token: a writer that was paused, or cut off and taken for
dead, can never append again.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from appliance.audit import postgres_schema as schema
from appliance.audit.postgres_backend import PostgresBackend, unavailable
from appliance.config import Places
from appliance.errors import DatabaseError, LedgerDamagedError, LedgerUnavailableError
from appliance.postgres.connecting import AwayError, Role, connect
from appliance.postgres.session import Session, StatementError

LOCK: Final = 0x5EA11F70_00000001
SESSION_SECONDS: Final = 60
RETRY_SECONDS: Final = 0.5
_HELD: Final = """
SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND (classid::bigint << 32) + objid::bigint = %s)"""


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
    session = prepared(places, server_seconds=server_seconds, session_seconds=session_seconds)
    with closed_on_failure(session):
        _lock(session, wait_seconds)
        with session.transaction():
            ((token, moved),) = session.all(
                "UPDATE sealift_ledger.writer SET token = token + 1 WHERE id = 1 AND moved IS NULL "
                "RETURNING token, moved"
            ) or session.all("SELECT token, moved FROM sealift_ledger.writer")
        require_here(moved)
    return PostgresBackend(session, token=int(token))


@contextmanager
def closed_on_failure(session: Session) -> Iterator[None]:
    """Close a session over which the ledger could not be opened.

    Raises:
        LedgerUnavailableError: In the place of what the server said.
    """
    try:
        yield
    except DatabaseError as error:
        session.close()
        raise unavailable(error) from error
    except (LedgerDamagedError, LedgerUnavailableError):
        session.close()
        raise


def require_here(moved: str | None) -> None:
    """Pass when the records were not moved away.

    Raises:
        LedgerDamagedError: They go on elsewhere.
    """
    if moved is not None:
        raise LedgerDamagedError(
            what="the records in this database were moved away",
            why=f"they went on in {moved}",
            fix="`sealift db move --to sqlite` ends the move on the box that began it",
        )


def prepared(
    places: Places,
    *,
    server_seconds: float,
    session_seconds: int = SESSION_SECONDS,
    open_seconds: int | None = None,
) -> Session:
    """Return a session to append by: of a server that promises what records need, on tables that are guarded.

    Args:
        places: The site's places, with a server.
        server_seconds: How long to wait for a server that is away.
        session_seconds: After so long without a statement the server ends the session; 0 for never.
        open_seconds: The same within a transaction; as long when absent.

    Raises:
        LedgerUnavailableError: The server is away, gives commits away, or its tables are not guarded.
    """
    session = _session(places, "ledger", server_seconds)
    try:
        session.demand_durability()
        schema.LEDGER.require_present(session)
        schema.require_guarded(session)
        session.all(
            "SELECT set_config('idle_session_timeout', %s, false), "
            "set_config('idle_in_transaction_session_timeout', %s, false), "
            # A machine that lost its power says nothing any more: in the server's own time that takes two hours.
            "set_config('tcp_keepalives_idle', '20', false), set_config('tcp_keepalives_interval', '5', false), "
            "set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '30000', false)",
            (f"{session_seconds}s", f"{session_seconds if open_seconds is None else open_seconds}s"),
        )
    except DatabaseError as error:
        session.close()
        raise unavailable(error) from error
    return session


@contextmanager
def reading(places: Places) -> Iterator[Session]:
    """Lend a session of the role that reads.

    Raises:
        LedgerUnavailableError: The server is away.
    """
    session = _session(places, "reader", 0.0)
    try:
        yield session
    except DatabaseError as error:
        raise unavailable(error) from error
    finally:
        session.close()


def is_open(places: Places) -> bool:
    """Tell whether any session holds the ledger's lock, for itself or with other nodes.

    Raises:
        LedgerUnavailableError: The server is away.
    """
    with reading(places) as session:
        return bool(session.all(_HELD, (LOCK,))[0][0])


def open_reader(places: Places) -> PostgresBackend:
    """Open the ledger to read it as it stands now, whoever writes it.

    Raises:
        LedgerUnavailableError: The server is away, or has no ledger.
    """
    session = _session(places, "reader", 0.0)
    try:
        schema.LEDGER.require_present(session)
        session.all("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    except DatabaseError as error:
        session.close()
        raise unavailable(error) from error
    return PostgresBackend(session)


def has_writer(places: Places) -> bool:
    """Tell whether a node has the ledger open to write now; the server knows, whichever node asks.

    Raises:
        LedgerUnavailableError: The server is away.
    """
    with reading(places) as session:
        found = session.all(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND"
            " database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND"
            " (classid::bigint << 32) + objid::bigint = %s",
            (LOCK,),
        )
    return bool(found)


def _session(places: Places, role: Role, wait_seconds: float) -> Session:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return _leading(Session(connect(places, role))) if role == "ledger" else Session(connect(places, role))
        except AwayError as error:
            if time.monotonic() >= deadline:
                raise unavailable(error) from error
            time.sleep(RETRY_SECONDS)
        except DatabaseError as error:
            raise unavailable(error) from error


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
        time.sleep(RETRY_SECONDS)
