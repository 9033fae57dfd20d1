"""The state on a PostgreSQL server: the same tables in a schema of their own, written by the role `sealift_state`.

A connection is made for each use and let go after it, so a server that was away is found again without anybody's help.
Writers wait for each other at the beginning of a transaction, as on SQLite; readers see one moment.
"""

from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from appliance.config import Places
from appliance.errors import DatabaseError
from appliance.postgres.connecting import Role, connect, reason
from appliance.state import held, migrating

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

SCHEMA: Final = "sealift_state"
_LOCK: Final = 0x5EA11F70_00000002
_BUSY_SECONDS: Final = 10
_MAKE: Final = f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"
_GRANTS: Final = """
REVOKE ALL ON SCHEMA sealift_state FROM PUBLIC;
GRANT USAGE ON SCHEMA sealift_state TO sealift_state, sealift_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sealift_state TO sealift_state;
GRANT SELECT ON ALL TABLES IN SCHEMA sealift_state TO sealift_reader;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA sealift_state TO sealift_state;
REVOKE INSERT, UPDATE, DELETE ON sealift_state.alembic_version FROM sealift_state;
"""


def open_state(places: Places, *, read_only: bool) -> Engine:
    """Return an engine on the state's tables.

    Raises:
        DatabaseError: The server is away, or the schema is not this release's.
    """
    engine = engine_of(places, "reader" if read_only else "state")
    try:
        with engine.connect() as connection:
            found = migrating.version(connection)
    except DBAPIError as error:
        raise DatabaseError(
            what="the state's tables cannot be read",
            why=reason(cast("Exception", error.orig)),
            fix="`sealift db check`",
        ) from error
    if found != migrating.HEAD:
        why = (
            "they are absent" if found is None else f"they are of revision {found}, this release's is {migrating.HEAD}"
        )
        fix = "use the release that made them" if found and found > migrating.HEAD else "`sealift db migrate up`"
        raise DatabaseError(what="the state's tables are not this release's", why=why, fix=fix)
    return engine


def engine_of(places: Places, role: Role) -> Engine:
    """Return an engine that connects as a role; nothing is connected yet."""

    def creator() -> "DBAPIConnection":
        connection = connect(places, role)
        connection.execute(f"SET search_path = {SCHEMA}, pg_catalog".encode())
        connection.execute(f"SET lock_timeout = '{_BUSY_SECONDS}s'".encode())
        connection.autocommit = False
        return cast("DBAPIConnection", connection)

    options = {held.OPTION: held.ON_SERVER}
    engine = create_engine("postgresql+psycopg://", creator=creator, poolclass=NullPool, execution_options=options)
    event.listen(engine, "begin", _begin if role != "reader" else _begin_reading)
    return engine


def migrate(connection: Connection, revision: str) -> None:
    """Make or change the schema as the owner, within the caller's transaction, and give each role its rights."""
    connection.exec_driver_sql(_MAKE)
    present = migrating.version(connection)
    if revision == migrating.BASE or (present is not None and revision < present):
        if present is not None:
            migrating.downgrade(connection, revision)
    else:
        migrating.upgrade(connection, revision)
    if revision != migrating.BASE:
        connection.exec_driver_sql(_GRANTS)


def statements(start: str, end: str) -> str:
    """Return the SQL that `migrate` would run between two revisions, to be read, or run by the owner in one go."""
    between = migrating.statements("postgresql", start, end)
    rights = "" if end == migrating.BASE else _GRANTS
    return f"{_MAKE};\nSET search_path = {SCHEMA}, pg_catalog;\n{between}{rights}"


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get("sealift_write", False):
        # Before anything is read, so that nobody writes between a reading and what was concluded from it.
        _run(connection, f"SELECT pg_advisory_xact_lock({_LOCK})")
    else:
        _run(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def _begin_reading(connection: Connection) -> None:
    _run(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _run(connection: Connection, statement: str) -> Any:
    return connection.exec_driver_sql(statement)
