"""Opening the state: `state.db`, or the tables on the site's PostgreSQL server (`appliance.state.server`).

Several processes write the file, so it uses a rollback journal with synchronous=EXTRA.

(SQLite 3.40, Debian 12's, can damage a WAL that two connections reset at once; FULL loses the last commit of a rollback
journal in a power cut, EXTRA does not.) Opening for writing brings the schema up to date, one process at a time.
"""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from appliance import errors
from appliance.config import Places
from appliance.errors import ApplianceError, NotInstalledError, StoreDamagedError, StoreWriteError
from appliance.postgres.connecting import reason
from appliance.state import held, migrating, server

FILE_NAME: Final = "state.db"
_BUSY_SECONDS: Final = 10
_PRAGMAS: Final = ("foreign_keys=ON", "trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0")


def open_state(places: Places, *, read_only: bool = False) -> Engine:
    """Return an engine on the state with the present schema.

    A block ``with writing(engine) as connection`` takes the write lock first; other transactions only read.

    Raises:
        NotInstalledError: It is to be read and does not exist.
        StoreWriteError: It cannot be created or migrated.
        StoreDamagedError: It is not a database, or a newer release's: rebuild it.
        DatabaseError: It is on a server, which is away, or whose schema is another release's.
    """
    if places.server is not None:
        return server.open_state(places, read_only=read_only)
    path = places.registry / FILE_NAME
    if read_only:
        if not path.exists():
            raise NotInstalledError(
                what="there is no state yet", why=f"{FILE_NAME} is absent", fix="receive and install a release first"
            )
        return _engine(path, mode="ro")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path.with_name("state.lock")):
            engine = _engine(path, mode="rwc")
            _migrate(engine)
    except (OSError, OperationalError) as error:
        why = (error.strerror or "") if isinstance(error, OSError) else str(error.orig)
        raise StoreWriteError(
            what=f"{FILE_NAME} cannot be opened", why=why, fix="check the disk and its owner"
        ) from error
    except DatabaseError as error:
        raise _damaged(str(error.orig)) from error
    return engine


def engine_of(places: Places) -> Engine:
    """Return an engine on the file `state.db` as it is, whatever its schema, to migrate it."""
    return _engine(places.registry / FILE_NAME, mode="rw")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Run a block as one transaction that holds the write lock from its beginning."""
    with engine.connect().execution_options(sealift_write=True) as connection, connection.begin():
        yield connection


def require_whole(engine: Engine) -> None:
    """Return where the file holds together in all its pages; what a server's disk did is the server's to find.

    Raises:
        StoreDamagedError: It does not: rebuild it.
    """
    if engine.dialect.name != "sqlite":
        return
    with engine.connect() as connection:
        found = str(connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one())
    if found != "ok":
        raise _damaged(found.partition("\n")[0])


def told(error: DBAPIError) -> ApplianceError:
    """Return what people are told where the state was open and could not be read or written."""
    if isinstance(error.orig, sqlite3.OperationalError):
        fix = "check the disk and its owner; where another command writes it, wait for that one"
        return StoreWriteError(what=f"{FILE_NAME} cannot be read or written", why=str(error.orig), fix=fix)
    if isinstance(error.orig, sqlite3.Error):
        return _damaged(str(error.orig))
    why = reason(error.orig) if isinstance(error.orig, Exception) else type(error).__name__
    return errors.DatabaseError(
        what="the state's tables cannot be read or written", why=why, fix="`sealift db check`, then the same again"
    )


def _engine(path: Path, *, mode: str) -> Engine:
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        for pragma in _PRAGMAS if mode == "ro" else (*_PRAGMAS, "journal_mode=DELETE", "synchronous=EXTRA"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    options = {held.OPTION: path.parent}
    engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=NullPool, execution_options=options)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    # A lock taken at the first write could fail half-way through a transaction that began by reading.
    write = connection.get_execution_options().get("sealift_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        present = migrating.version(connection)
    if present == migrating.HEAD:
        return
    if present is not None and present > migrating.HEAD:
        raise _damaged(f"its schema is {present}, this release knows {migrating.HEAD}")
    with writing(engine) as connection:
        migrating.upgrade(connection)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _damaged(why: str) -> ApplianceError:
    return StoreDamagedError(
        what=f"{FILE_NAME} cannot be used", why=why, fix="move the file away and run `sealift state rebuild`"
    )
