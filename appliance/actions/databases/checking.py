"""Where ledger and state lie, and whether the place promises what the records need. Changes nothing."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from appliance.actions.databases.copying import on_server
from appliance.audit import lives, postgres_schema, storage
from appliance.audit.client import Ledger, OfflineLedger, open_ledger
from appliance.audit.postgres_opening import open_reader
from appliance.audit.rights import ACTIONS
from appliance.config import Config, Places
from appliance.errors import (
    ApplianceError,
    DatabaseError,
    LedgerDamagedError,
    LedgerUnavailableError,
    PreflightError,
)
from appliance.postgres.connecting import ROLES, Role, connect, role_name
from appliance.postgres.held_schema import HELD
from appliance.postgres.limits_schema import LIMITS
from appliance.postgres.session import Session
from appliance.state import migrating, projection
from appliance.state.database import open_state
from media.clock import Clock

OK: Final = "ok"
REMARK: Final = "remark"
FAULT: Final = "fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at. `fix` says what a person does when it is no good."""

    name: str
    state: str
    value: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        """Return it for a machine."""
        return {"name": self.name, "state": self.state, "value": self.value, "fix": self.fix}


def check(config: Config, *, clock: Clock) -> tuple[Finding, ...]:
    """Look at everything that can be looked at; what cannot be reached is a finding, not an error."""
    places = config.at
    found = [Finding(name="kind", state=OK, value=config.database.kind)]
    if places.server is not None:
        for role in ROLES:
            found += _tried(f"role {role_name(role)}", partial(_as_role, places, role))
    found += _tried("ledger", lambda: _ledger(config, clock))
    found += _tried("state", lambda: _state(config, clock))
    if places.server is not None:
        found += _held_back(places)
    if places.server is not None and config.database.node:
        found += _tried("limits", lambda: _limits(config))
    return tuple(found)


def require_place(config: Config, ledger: Ledger) -> None:
    """Return when the ledger that answers records where the site file says; also when none does or it never said where.

    Raises:
        PreflightError: `database.kind` was changed, and nothing was moved.
    """
    if isinstance(ledger, OfflineLedger):
        return
    started = ledger.find(lives.STARTED, limit=1)
    here = next((kind for kind in ("sqlite", "postgresql") if started and kind in started[0].body), "")
    if here and here != config.database.kind:
        raise PreflightError(
            what="the site file names another place than the ledger records in",
            why=f'database.kind is "{config.database.kind}", and the records are in "{here}"; an install moves none',
            fix=f'set database.kind = "{here}"; `sealift db move --to {config.database.kind}` changes it',
        )


def look_at_server(config: Config) -> Iterator[Finding]:
    """Look at the server that the site file names, before records move there: services' roles, promises, tables."""
    places = on_server(config)

    def tables() -> Iterator[Finding]:
        open_state(places, read_only=True).dispose()
        yield Finding(name="state", state=OK, value=f"revision {migrating.HEAD}")

    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        f"role {role_name(role)}": partial(_as_role, places, role) for role in ROLES if role != "owner"
    }
    for name, look in (looks | {"state": tables}).items():
        for one in _tried(name, look):
            yield replace(one, fix=_on_server(one.fix))


def _on_server(fix: str) -> str:
    return fix.replace("`sealift db migrate up`", "`sealift db migrate up --on postgresql`")


def _tried(name: str, look: Callable[[], Iterator[Finding]]) -> Sequence[Finding]:
    found: list[Finding] = []
    try:
        found.extend(look())
    except ApplianceError as error:
        value = f"{error.what}: {error.why}" if error.why else error.what
        found.append(Finding(name=name, state=FAULT, value=value, fix=error.fix))
    except SQLAlchemyError as error:
        found.append(Finding(name=name, state=FAULT, value=type(error).__name__, fix="see docs/operator/ledger.md"))
    return found


def _as_role(places: Places, role: Role) -> Iterator[Finding]:
    name = f"role {role_name(role)}"
    try:
        connection = connect(places, role)
    except DatabaseError as error:
        if role != "owner":
            raise
        # Its password is with the server's people, who migrate; the box does not need it to run.
        yield Finding(
            name=name, state=REMARK, value=f"not from here: {error.why}", fix="needed for `sealift db migrate`"
        )
        return
    with closing(Session(connection)) as session:
        yield Finding(name=name, state=OK, value=f"server {session.server_version}")
        if role == "ledger":
            session.demand_durability()
            yield Finding(name="durability", state=OK, value="a commit is on disk before it is answered")
            postgres_schema.LEDGER.require_present(session)
            postgres_schema.require_guarded(session)
            yield Finding(name="append-only", state=OK, value="our role can add, and nothing else")
            ((sums,),) = session.all("SELECT current_setting('data_checksums')")
            yield Finding(
                name="page checksums",
                state=OK if sums == "on" else REMARK,
                value=sums,
                fix="" if sums == "on" else "pg_checksums --enable, while the server is stopped",
            )


def _ledger(config: Config, clock: Clock) -> Iterator[Finding]:
    places = config.at
    if places.server is not None:
        with closing(open_reader(places)) as reader:
            moved, size = reader.moved(), reader.size()
        if moved is not None:
            yield Finding(
                name="ledger", state=FAULT, value=f"its records went on in {moved}", fix="`sealift db move --to sqlite`"
            )
            return
        if not size:
            yield Finding(name="ledger", state=REMARK, value="no records yet", fix="start sealift-ledger")
            return
    elif (places.ledger / storage.ELSEWHERE).exists():
        yield Finding(
            name="ledger",
            state=FAULT,
            value="its records are on a server, or were being moved there",
            fix="`sealift db move --to postgresql`",
        )
        return
    ledger = open_ledger(config, ACTIONS, clock=clock)
    try:
        head = ledger.head()
        running = "its service is down" if isinstance(ledger, OfflineLedger) else "its service answers"
    finally:
        ledger.close()
    yield Finding(name="ledger", state=OK, value=f"{head.size} records, root {head.root[:16]}; {running}")


def require_counters(config: Config) -> None:
    """Return when this site's nodes can count limits together; also where a single node answers, which counts alone.

    Raises:
        DatabaseError: The server is away, or has no counters.
    """
    if config.at.server is not None and config.database.node:
        with closing(Session(connect(config.at, "reader"))) as session:
            LIMITS.require_present(session)


def _limits(config: Config) -> Iterator[Finding]:
    require_counters(config)
    yield Finding(name="limits", state=OK, value=f"version {LIMITS.version}, for all nodes together")


def require_held_back(places: Places) -> None:
    """Return when what was decided can be held back from the callers of a site whose state is on a server.

    Raises:
        DatabaseError: The server is away, or has no table for that.
    """
    with closing(Session(connect(places, "reader"))) as session:
        HELD.require_present(session)


def _held_back(places: Places) -> Sequence[Finding]:
    try:
        require_held_back(places)
    except DatabaseError as error:  # nodes of a release of before go on without it, so this one does
        return [Finding(name="held back", state=REMARK, value=f"{error.what}: {error.why}", fix=error.fix)]
    return [Finding(name="held back", state=OK, value="what was decided waits for its engines, on all nodes")]


def _state(config: Config, clock: Clock) -> Iterator[Finding]:
    engine = open_state(config.at, read_only=True)
    try:
        with engine.connect() as connection:
            revision = migrating.version(connection)
            applied = projection.applied_sequence(connection)
    finally:
        engine.dispose()
    ledger = open_ledger(config, ACTIONS, clock=clock)
    try:
        behind = ledger.head().size - 1 - applied
    except (LedgerUnavailableError, LedgerDamagedError):  # the ledger's own finding says so
        behind = 0
    finally:
        ledger.close()
    yield Finding(name="state", state=OK, value=f"revision {revision}, up to record {applied}")
    if behind < 0:
        fix = "see docs/operator/ledger.md: recovery"
        yield Finding(name="state", state=FAULT, value="it reflects records that the ledger has not", fix=fix)
