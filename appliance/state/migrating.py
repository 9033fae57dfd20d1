"""The state's schema, up and down, by alembic: the same revisions for SQLite and PostgreSQL."""

import io
from typing import Any, Final

from sqlalchemy import Connection, inspect, text

HEAD: Final = "0005"
BASE: Final = "base"
_TABLE: Final = "alembic_version"
# Below the first revision alembic leaves its own empty table; the way up begins with making it.
_LAST: Final = f"DROP TABLE {_TABLE}"


def version(connection: Connection) -> str | None:
    """Return the revision of the schema, None where there is no schema."""
    if not inspect(connection).has_table(_TABLE):
        return None
    row: Any = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return str(row[0]) if row else None


def upgrade(connection: Connection, revision: str = HEAD) -> None:
    """Bring the schema up to a revision, within the caller's transaction."""
    from alembic import command

    settings = _settings()
    settings.attributes["connection"] = connection
    command.upgrade(settings, revision)


def downgrade(connection: Connection, revision: str = BASE) -> None:
    """Bring the schema down to a revision, within the caller's transaction. What its tables held follows anew."""
    from alembic import command

    settings = _settings()
    settings.attributes["connection"] = connection
    command.downgrade(settings, revision)
    if revision == BASE:
        connection.execute(text(_LAST))


def statements(dialect: str, start: str, end: str) -> str:
    """Return the SQL that leads from one revision to another, up or down, without running it."""
    from alembic import command

    settings = _settings()
    settings.attributes["dialect"] = dialect
    written = settings.output_buffer = io.StringIO()
    if end == BASE or (start != BASE and end < start):
        command.downgrade(settings, f"{start}:{end}", sql=True)
        if end == BASE:
            written.write(f"{_LAST};\n")
    else:
        command.upgrade(settings, f"{start}:{end}", sql=True)
    return written.getvalue()


def revisions() -> tuple[str, ...]:
    """Return every revision, oldest first."""
    from alembic.script import ScriptDirectory

    walk = ScriptDirectory.from_config(_settings()).walk_revisions()
    return tuple(reversed([one.revision for one in walk]))


def _settings() -> Any:
    from alembic.config import Config

    settings = Config()
    # A name, not an import: the migrations lie in a layer above this one.
    settings.set_main_option("script_location", "appliance:migrations")
    settings.set_main_option("path_separator", "os")
    return settings
