"""The ledger's tables in PostgreSQL, and the rights that keep them append-only.

The tables belong to the role `sealift_owner`, which no service has. `sealift_ledger` may read and insert, nothing else;
triggers of the owner refuse changes to whoever has the rights, gaps, and inserts whose transaction does not carry the
present fencing token. That is what SQLite's triggers do and one thing more, because here two machines can try to write.
"""

from importlib.resources import files
from typing import Final

from appliance.errors import DatabaseError
from appliance.postgres.session import Session

SCHEMA: Final = "sealift_ledger"
VERSION: Final = 1
TABLES: Final = ("leaf", "node", "checkpoint")
DOWN: Final = "DROP SCHEMA sealift_ledger CASCADE"
_TRIGGERS: Final = 3 * len(TABLES) + 3


def up() -> str:
    """Return the statements that make the schema."""
    return files("appliance.audit").joinpath("postgres_schema.sql").read_text("utf-8")


def version(session: Session) -> int | None:
    """Return the schema's version, None where there is no schema.

    Raises:
        DatabaseError: It cannot be read.
    """
    if session.all("SELECT to_regclass('sealift_ledger.format')")[0][0] is None:
        return None
    return int(session.all("SELECT version FROM sealift_ledger.format")[0][0])


def require_present(session: Session) -> None:
    """Return when the schema is there and of this release.

    Raises:
        DatabaseError: It is absent, or another release's.
    """
    found = version(session)
    if found != VERSION:
        raise DatabaseError(
            what="the database has no ledger that this release reads",
            why="its tables are absent" if found is None else f"they are of version {found}, this release's {VERSION}",
            fix="`sealift db migrate up`" if found is None else "use the release that made them",
        )


def require_guarded(session: Session) -> None:
    """Return when this session's role can only add, and nobody switched the guards off.

    Raises:
        DatabaseError: The role may change or remove records, or a trigger is absent or disabled.
    """
    ((may, owns, guards),) = session.all(
        "SELECT bool_or(has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE, TRIGGER')), "
        "bool_or(pg_has_role(c.relowner, 'MEMBER')), "
        "(SELECT count(*) FROM pg_trigger t JOIN pg_class k ON k.oid = t.tgrelid JOIN pg_namespace m "
        "ON m.oid = k.relnamespace WHERE m.nspname = %s AND NOT t.tgisinternal AND t.tgenabled = 'O' "
        "AND current_setting('session_replication_role') = 'origin') "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = ANY(%s)",
        (SCHEMA, SCHEMA, list(TABLES)),
    )
    if may or owns or guards != _TRIGGERS:
        why = "a guard is absent or switched off" if not (may or owns) else "our role may change or remove them"
        raise DatabaseError(
            what="the ledger's tables are not append-only", why=why, fix="see docs/operator/postgresql.md: rights"
        )


def install(session: Session) -> None:
    """Make the schema, as the owner.

    Raises:
        DatabaseError: It is there already, or a role it names is absent.
    """
    with session.transaction():
        session.all(up())


def remove(session: Session) -> None:
    """Drop the schema, as the owner, while it has no record.

    Raises:
        DatabaseError: It has records, which nothing of ours removes.
    """
    with session.transaction():
        ((records,),) = session.all("SELECT count(*) FROM sealift_ledger.leaf")
        if records:
            raise DatabaseError(
                what="the ledger in the database has records",
                why=f"there are {records}, and nothing of ours removes one",
                fix="`sealift db move --to sqlite`, then the server's people drop the database",
            )
        session.all(DOWN)
