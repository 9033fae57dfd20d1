"""The schemas up and down. The state's revisions are the same on both; the others are one version each so far.

On PostgreSQL the role `sealift_owner` does it, which no service has; each part is one transaction. The ledger's tables
go down only while they are empty: nothing of ours removes a record. What the state's tables held follows from the
ledger again (`sealift state rebuild`); what nodes counted together (limits) begins anew, and nothing is held back then.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy.exc import DBAPIError

from appliance.audit.postgres_schema import LEDGER
from appliance.config import Places
from appliance.errors import DatabaseError, NotInstalledError
from appliance.postgres.connecting import connect, reason
from appliance.postgres.held_schema import HELD
from appliance.postgres.limits_schema import LIMITS
from appliance.postgres.schema import Schema
from appliance.postgres.session import Session
from appliance.state import database, migrating, server
from media.errors import UsageError

Direction = Literal["up", "down"]
Part = Literal["held", "ledger", "limits", "state"]
NOTHING: Final = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One schema that is, or would be, changed; `statements` is the SQL that does it."""

    part: Part
    before: str
    after: str
    statements: str


_SCHEMAS: Final[Mapping[Part, Schema]] = {"ledger": LEDGER, "limits": LIMITS, "held": HELD}


def plan(places: Places, direction: Direction, to: str | None = None) -> tuple[Change, ...]:
    """Return what `migrate` would do now, without doing it.

    Args:
        places: The site's.
        direction: Which way.
        to: A revision of the state; the newest or `base` when absent. Only `base` takes the other tables down.

    Raises:
        DatabaseError: The server is away or refuses.
        NotInstalledError: There is no state file yet.
        UsageError: There is no such revision, or it lies the other way.
    """
    revision = _revision(direction, to)
    state = _state_version(places)
    _require_way(direction, state, revision)
    changes = []
    if places.server is not None:
        for part, schema in _SCHEMAS.items():
            present = _version(places, schema)
            if direction == "up" and present == NOTHING:
                after, text = str(schema.version), schema.up
                changes.append(Change(part=part, before=present, after=after, statements=text))
            if direction == "down" and revision == migrating.BASE and present != NOTHING:
                text = schema.down + ";\n"
                changes.append(Change(part=part, before=present, after=NOTHING, statements=text))
    after = NOTHING if revision == migrating.BASE else revision
    if state != after:
        start = migrating.BASE if state == NOTHING else state
        on_server = places.server is not None
        text = server.statements(start, revision) if on_server else migrating.statements("sqlite", start, revision)
        changes.append(Change(part="state", before=state, after=after, statements=text))
    return tuple(changes)


def migrate(places: Places, direction: Direction, to: str | None = None) -> tuple[Change, ...]:
    """Do it; return what was done. See `plan`.

    Raises:
        DatabaseError: As `plan`; or the ledger has records and may not go down.
    """
    changes = plan(places, direction, to)
    revision = _revision(direction, to)
    # The ledger first: when it may not go down, all else stays too.
    for change in changes:
        if change.part == "state":
            _migrate_state(places, direction, revision)
        else:
            _migrate_schema(places, _SCHEMAS[change.part], direction)
    return changes


def _revision(direction: Direction, to: str | None) -> str:
    known = migrating.revisions()
    revision = to or (migrating.HEAD if direction == "up" else migrating.BASE)
    if revision not in (*known, migrating.BASE):
        raise UsageError(
            what=f"there is no revision {revision[:20]}", why=f"known are {', '.join(known)}", fix="give one of them"
        )
    return revision


def _require_way(direction: Direction, present: str, revision: str) -> None:
    known = (NOTHING, *migrating.revisions())
    if present not in known:
        raise DatabaseError(
            what=f"the state is of revision {present}",
            why=f"this release knows {', '.join(known[1:])}",
            fix="migrate it down with the release that made it",
        )
    aim = 0 if revision == migrating.BASE else known.index(revision)
    if (direction == "up" and aim < known.index(present)) or (direction == "down" and aim > known.index(present)):
        raise UsageError(
            what=f"{revision} is not {direction} from here", why=f"the state is at {present}", fix="go the other way"
        )


def _version(places: Places, schema: Schema) -> str:
    session = Session(connect(places, "owner"))
    try:
        found = schema.present(session)
    finally:
        session.close()
    return NOTHING if found is None else str(found)


def _migrate_schema(places: Places, schema: Schema, direction: Direction) -> None:
    session = Session(connect(places, "owner"))
    try:
        if direction == "up":
            schema.install(session)
        else:
            schema.remove(session)
    finally:
        session.close()


def _state_version(places: Places) -> str:
    if places.server is None and not (places.registry / database.FILE_NAME).exists():
        raise NotInstalledError(what="there is no state yet", why="it is made when it is first used")
    engine = server.engine_of(places, "owner") if places.server is not None else database.engine_of(places)
    try:
        with engine.connect() as connection:
            return migrating.version(connection) or NOTHING
    except DBAPIError as error:
        raise _failed(error) from error
    finally:
        engine.dispose()


def _migrate_state(places: Places, direction: Direction, revision: str) -> None:
    engine = server.engine_of(places, "owner") if places.server is not None else database.engine_of(places)
    try:
        with database.writing(engine) as connection:
            if places.server is not None:
                server.migrate(connection, revision)
            elif direction == "up":
                migrating.upgrade(connection, revision)
            else:
                migrating.downgrade(connection, revision)
    except DBAPIError as error:
        raise _failed(error) from error
    finally:
        engine.dispose()


def _failed(error: DBAPIError) -> DatabaseError:
    why = reason(error.orig) if isinstance(error.orig, Exception) else type(error).__name__
    return DatabaseError(what="the schema was not changed", why=why, fix="`sealift db check`, then try again")
