"""The ledger's tables in PostgreSQL, and the rights that keep them append-only.

The tables belong to the role `sealift_owner`, which no service has. `sealift_ledger` may read and insert, nothing else;
triggers of the owner refuse changes to whoever has the rights, gaps, and inserts whose transaction does not carry the
present fencing token. That is what SQLite's triggers do and one thing more, because here two machines can try to write.
"""

from typing import Final

from appliance.errors import DatabaseError
from appliance.postgres.schema import Schema
from appliance.postgres.session import Session

TABLES: Final = ("leaf", "node", "checkpoint")
_TRIGGERS: Final = 3 * len(TABLES) + 3


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
        (LEDGER.name, LEDGER.name, list(TABLES)),
    )
    if may or owns or guards != _TRIGGERS:
        why = "a guard is absent or switched off" if not (may or owns) else "our role may change or remove them"
        raise DatabaseError(
            what="the ledger's tables are not append-only", why=why, fix="see docs/operator/postgresql.md: rights"
        )


def _require_empty(session: Session) -> None:
    ((records,),) = session.all("SELECT count(*) FROM sealift_ledger.leaf")
    if records:
        raise DatabaseError(
            what="the ledger in the database has records",
            why=f"there are {records}, and nothing of ours removes one",
            fix="`sealift db move --to sqlite`, then the server's people drop the database",
        )


LEDGER: Final = Schema(
    name="sealift_ledger",
    version=1,
    package="appliance.audit",
    file="postgres_schema.sql",
    lacks="ledger that this release reads",
    absent="its tables are absent",
    require_removable=_require_empty,
)
