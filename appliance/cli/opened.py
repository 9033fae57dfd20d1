"""What commands open for the actions they call, and close again: ledger, state, promoter, supervisor, jobs.

Where the job service runs, engines are started and stopped by typed jobs, for root as for anybody; where it does not
(rehearsal, recovery), by this process itself. Who may not read the box's folders (an operator) gets a state of their
own, made in memory from the ledger, and reads evidence through the job service by digest.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool

from appliance.actions import production, validate
from appliance.actions.following import switch_for
from appliance.actions.production import Served
from appliance.audit.client import OfflineLedger, SocketLedger, open_ledger
from appliance.audit.facts import Ledger
from appliance.audit.rights import ACTIONS
from appliance.audit.rights import OPERATOR as LEDGER_OPERATOR
from appliance.cli.context import Context
from appliance.cli.windowed import ByJob
from appliance.config import Config
from appliance.errors import UnknownPersonError
from appliance.install import jobrights
from appliance.install.engines import open_linked
from appliance.install.jobclient import JobsClient
from appliance.promote.client import PromoterClient
from appliance.promote.desk import ACTIONS_DOOR, OPERATOR_DOOR
from appliance.state import projection
from appliance.state.database import open_state
from appliance.state.tables import Base
from media.errors import UsageError


def may_use(config: Config, door: str) -> bool:
    """Tell whether this user may connect to one of our sockets, and it is there."""
    return os.access(config.at.socket(door), os.W_OK)


def is_operator(config: Config) -> bool:
    """Tell whether this user works through the doors of operators: it may use these and not root's."""
    return may_use(config, LEDGER_OPERATOR) and not may_use(config, ACTIONS)


@contextmanager
def jobs_of(own: Context) -> Iterator[JobsClient | None]:
    """Yield the job service, or nothing where it does not run or this user may not ask."""
    if not may_use(own.config, jobrights.OPERATOR):
        yield None
        return
    jobs = JobsClient.open(own.config, jobrights.OPERATOR)
    try:
        yield jobs
    finally:
        jobs.close()


@contextmanager
def ledger_of(own: Context) -> Iterator[SocketLedger | OfflineLedger]:
    """Yield the ledger through this user's door, or read-only from its file when nothing runs."""
    door = LEDGER_OPERATOR if is_operator(own.config) else ACTIONS
    ledger = open_ledger(own.config, door, clock=own.clock)
    try:
        yield ledger
    finally:
        ledger.close()


def read_note(path: Path) -> str:
    """Return the text of a checkpoint from outside, without what a copy adds: a mark before it, blank lines after it.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig").rstrip() + "\n"
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            what=f"the checkpoint {path.name} cannot be read", why="", fix="name the file that holds it"
        ) from error


@contextmanager
def records_of(own: Context) -> Iterator[tuple[Ledger, Engine]]:
    """Yield ledger and state, the state brought up to the ledger."""
    with ledger_of(own) as ledger:
        state = _open_state(own, ledger)
        try:
            projection.catch_up(state, ledger)
            yield ledger, state
        finally:
            state.dispose()


@contextmanager
def promoter_of(own: Context) -> Iterator[PromoterClient]:
    """Yield the promoter through this user's door."""
    promoter = PromoterClient.open(own.config, OPERATOR_DOOR if is_operator(own.config) else ACTIONS_DOOR)
    try:
        yield promoter
    finally:
        promoter.close()


def require_enrolled(own: Context, person: str) -> None:
    """Refuse a name that is nobody's: what is recorded under it would be laid at no one's door.

    Raises:
        UnknownPersonError: Nobody enrolled has this id, or the person was revoked.
    """
    with promoter_of(own) as promoter:
        found = [one for one in promoter.people() if one["person"] == person]
    if not found or found[0]["revoked"]:
        raise UnknownPersonError(
            what=f"{person[:64]!r} is not enrolled here",
            why="what is done is recorded under a person's name" if not found else "the person was revoked",
            fix="name an enrolled person: `sealift people list`",
        )


@contextmanager
def production_of(own: Context) -> Iterator[production.Surroundings]:
    """Yield what actions on production work with."""
    with ledger_of(own) as ledger, promoter_of(own) as promoter, jobs_of(own) as jobs:
        # Not caught up: the route changes when the new engine is up, and that is the action's to say.
        state = _open_state(own, ledger)
        try:
            yield production.Surroundings(
                config=own.config,
                ledger=ledger,
                state=state,
                promoter=promoter,
                supervisor=open_linked(own.config),
                clock=own.clock,
                tell=own.say,
                follow=None if jobs is None else _Follower(own, promoter, jobs),
                in_window=None if jobs is None else ByJob(own, ledger),
                proofs=jobs if is_operator(own.config) else None,
            )
        finally:
            state.dispose()


@contextmanager
def bench_of(own: Context) -> Iterator[validate.Surroundings]:
    """Yield what validation by this process itself works with."""
    with records_of(own) as (ledger, state):
        yield validate.Surroundings(
            config=own.config, ledger=ledger, state=state, supervisor=open_linked(own.config), clock=own.clock
        )


class _Follower:
    """Switches production by a typed job: to what the promoter says of the line that was decided about last."""

    def __init__(self, own: Context, promoter: PromoterClient, jobs: JobsClient) -> None:
        self._own = own
        self._promoter = promoter
        self._jobs = jobs

    def __call__(self, keep: tuple[str, ...]) -> Served:
        began = time.monotonic()
        kind, digest = switch_for(self._promoter.current(), warm=bool(keep))
        number = self._jobs.ask(kind, digest=digest)
        self._own.say(f"job {number} switches production")
        outcome = self._jobs.wait(number).require_ok()
        return Served(
            standing=None,
            started=outcome.started,
            stopped=outcome.stopped,
            seconds=time.monotonic() - began,
        )


def _open_state(own: Context, ledger: Ledger) -> Engine:
    if not is_operator(own.config):
        return open_state(own.config.at)
    engine = create_engine("sqlite+pysqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    projection.rebuild(engine, ledger)
    return engine
