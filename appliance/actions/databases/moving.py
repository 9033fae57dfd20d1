"""An installed box's records moved to the other kind of database, with everything around it, by one command.

    look -> ledger and jobs stopped -> copied and compared -> site file -> ledger started -> the others started anew

Until the copy is committed, what stopped it is undone: the ledger goes on where it was. A ledger that does not start on
the server goes back to its file. Whatever a power cut leaves, the same command again ends it, and each ledger refuses
to go on in a place that was left: at no moment may two. Engines and gateways run on meanwhile; requests are answered
with 503, because nothing can be recorded.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import sleep
from typing import Any, Final

from appliance.actions.databases import copying
from appliance.actions.databases.checking import FAULT, Finding, look_at_server
from appliance.actions.databases.comparing import Progress
from appliance.actions.databases.copying import Copied, Kind
from appliance.audit import postgres_opening, storage
from appliance.audit.client import SocketLedger
from appliance.audit.rights import ACTIONS
from appliance.config import Config
from appliance.errors import (
    ConfigError,
    ConflictError,
    DatabaseError,
    InstallError,
    PreflightError,
    PrivilegeError,
    StoreWriteError,
    UnitError,
)
from appliance.install import dropins, sitefile
from appliance.install.supervisor import (
    UNIT_FILES,
    Supervisor,
    UnitState,
    engine_of,
    is_booted_box,
    open_supervisor,
)
from appliance.install.trial import Trials
from appliance.install.unit_files import template_of
from media import durable
from media.clock import Clock
from media.errors import SealiftError, UsageError

LEDGER: Final = "sealift-ledger.service"
JOBS: Final = "sealift-jobs.service"
TARGET: Final = "sealift.target"
# They neither read the records where they lie nor may rest: clock, cards, and the lease by which this box serves.
_KEPT: Final = frozenset({"sealift-clock.service", "sealift-gpus.service", "sealift-standby.service"})
_START_SECONDS: Final = 330
_ANSWER_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.5
_PAGE: Final = "docs/operator/postgresql.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What was moved, or would be.

    Args:
        to: Where to.
        size: How many records there are.
        copied: What was copied; None where nothing had to be, or in a preview.
        restarted: Units that were started anew, or would be.
        seconds: How long no ledger answered.
        dry_run: Nothing was changed.
        needed: False where they are there already.
    """

    to: Kind
    size: int
    copied: Copied | None = None
    restarted: tuple[str, ...] = ()
    seconds: float = 0.0
    dry_run: bool = False
    needed: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """What a move works with.

    Args:
        config: The site file's values.
        supervisor: Starts and stops units.
        clock: For durations; nothing is recorded but what the ledger records when it starts.
        tell: Told one line for each step.
        progress: Called with leaves done and leaves in all, twice over.
        units: The folder of our units, with their drop-ins.
    """

    config: Config
    supervisor: Supervisor
    clock: Clock
    tell: Callable[[str], None]
    progress: Progress
    units: Path = UNIT_FILES

    def preview(self, to: Kind) -> Moved:
        """Look at everything that can be looked at while the ledger runs, and change nothing.

        Raises:
            As `move`, for what is found before anything is stopped.
        """
        if self._is_there(to):
            return Moved(to=to, size=self._answering(), dry_run=True, needed=False)
        self._look(to)
        if self.supervisor.state(LEDGER) is UnitState.ACTIVE:
            return Moved(to=to, size=self._answering(), restarted=self._others(), dry_run=True)
        found = copying.copy(self.config, to, clock=self.clock, dry_run=True, progress=self.progress)
        return Moved(to=to, size=found.size, copied=found, restarted=self._others(), dry_run=True)

    def move(self, to: Kind) -> Moved:
        """Move the records, change `database.kind`, and start anew what reads them.

        Raises:
            ConfigError: The site file cannot be changed without touching anything else.
            ConflictError: The target has other records, other nodes run, or a unit is at work.
            DatabaseError: The server is away, or not set up as it has to be.
            InstallError: An install is running, or was cut off.
            LedgerDamagedError, LedgerUnavailableError, NotInstalledError, UsageError: As `copying.copy`.
            PreflightError: The units could not reach the server.
            StoreWriteError: A file could not be written; the same command again goes on.
            UnitError: The ledger did not start on the server, and is back in its file; or another unit did not start.
        """
        trials = Trials(self.config.at)
        with trials.locked():
            if trials.pending() is not None:
                raise InstallError(
                    what="an install was cut off", why="it is taken back first", fix="`sealift install --settle`"
                )
            if self._is_there(to):
                return self._ended(to)
            self._look(to)
            return self._moved(to)

    def _ended(self, to: Kind) -> Moved:
        """Start anew what a move that was cut off left with the records of before; jobs are the last that it starts."""
        size = self._answering()
        if self.supervisor.state(JOBS) is UnitState.ACTIVE:
            return Moved(to=to, size=size, needed=False)
        self._say(to)
        others = self._others()
        self._start_anew(others)
        return Moved(to=to, size=size, restarted=others)

    def _moved(self, to: Kind) -> Moved:
        others, began = self._others(), self.clock.monotonic()
        try:
            self._stop()
            self.tell("copying and comparing the records")
            copied = copying.copy(self.config, to, clock=self.clock, progress=self.progress)
        except BaseException:
            self._resume()
            if self.supervisor.state(LEDGER) is not UnitState.ACTIVE:
                self.tell("the ledger is down; when what stopped this is mended, run this command again: it goes on")
            raise
        # Both ledgers know by now where the records are; a site file that says it too late keeps the ledger down.
        self._say(to)
        # A unit that wants it may have had it started meanwhile, with the kind of before: its end would look like ours.
        self._stop_one(LEDGER)
        self.tell(f'database.kind is "{to}"; starting the ledger')
        try:
            self.supervisor.start(LEDGER)
            size = self._answering()
        except SealiftError as error:
            if to == "postgresql":
                self._back(error)
            raise
        seconds = round(self.clock.monotonic() - began, 1)
        self._start_anew(others)
        return Moved(to=to, size=size, copied=copied, restarted=others, seconds=seconds)

    def _say(self, to: Kind) -> None:
        """Write the kind into the site file as it is now: a person may have edited it since the move began."""
        file = self.config.at.config_file
        try:
            durable.replace(file, sitefile.with_kind(file.read_bytes(), to), mode=0o644)
            # A release that goes back by itself puts the one back that is kept.
            Trials(self.config.at).note_move(file)
        except OSError as error:
            raise StoreWriteError(
                what="the records are moved, and the site file could not be written; the ledger is stopped",
                why=error.strerror or type(error).__name__,
                fix="check the disk of /etc, then the same command again",
            ) from error
        except ConfigError as error:
            raise ConfigError(
                what="the records are moved, and the site file cannot be changed to say so; the ledger is stopped",
                why=f"{error.what}: {error.why}"[:300],
                fix="mend the site file, then the same command again: it goes on",
            ) from error

    def _look(self, to: Kind) -> None:
        """Return when nothing speaks against the move."""
        if self.config.standby.lease:
            raise ConflictError(
                what="this box shares a lease with another one",
                why="while its ledger is stopped, the other would take the service over, with a ledger of its own",
                fix="set standby.lease to false on both, install, move, and set it again",
            )
        sitefile.with_kind(self.config.at.config_file.read_bytes(), to)
        if to == "postgresql":
            self._require_reach()
            _require_good(look_at_server(self.config))
            self._require_alone()
        copying.require_possible(self.config, to)
        for one in self.supervisor.units():
            if one.state is UnitState.STARTING and self._is_work(one.name):
                raise ConflictError(
                    what=f"{one.name} is at work", why="it records what it does", fix="wait until it ended"
                )

    def _require_reach(self) -> None:
        """Pass where the units have what an approved install gives them: credentials, a network, one address."""
        dropins.require_secrets(self.config)
        wanted = dropins.of_database(self.config)
        lacking = [one.unit for one in wanted if _text(self.units / f"{one.unit}.d" / one.name) != one.text]
        if lacking:
            raise PreflightError(
                what="the units cannot reach the server yet",
                why=f"{lacking[0]} and {len(lacking) - 1} more lack {dropins.DATABASE}, which an install writes",
                fix=f"`sealift install --plan --as PERSON`, two approvals, `sealift install`: {_PAGE}",
            )

    def _require_alone(self) -> None:
        """Pass when no session has the ledger on the server open: one of a box that lost its power ends by itself."""
        _, there = copying.both(self.config)
        until = self.clock.monotonic() + copying.LOCK_SECONDS
        if storage.marked(there.ledger) == storage.THERE and self.supervisor.state(LEDGER) is UnitState.ACTIVE:
            return  # it is this box's own ledger
        while postgres_opening.is_open(there):
            if self.clock.monotonic() >= until:
                raise ConflictError(
                    what="another process has the ledger on the server open",
                    why="its session holds the lock, perhaps on another machine",
                    fix="stop the other one first; it is let go when its session ends",
                )
            sleep(_PAUSE_SECONDS)

    def _is_work(self, unit: str) -> bool:
        return "Type=oneshot" in (_text(self.units / template_of(unit)) or "")

    def _is_there(self, to: Kind) -> bool:
        mark = storage.THERE if to == "postgresql" else None
        is_said = self.config.database.kind == to and storage.marked(self.config.at.ledger) == mark
        return is_said and self.supervisor.state(LEDGER) is UnitState.ACTIVE

    def _others(self) -> tuple[str, ...]:
        """Return the services that run and read where the records lie, or ask the ledger."""
        running = [one.name for one in self.supervisor.units() if one.state is UnitState.ACTIVE]
        out = {LEDGER, JOBS, *_KEPT}
        return tuple(
            name for name in running if name not in out and engine_of(name) is None and not self._is_work(name)
        )

    def _doors(self, service: str) -> list[str]:
        return sorted(path.name for path in self.units.glob(f"{service.removesuffix('.service')}-*.socket"))

    def _stop(self) -> None:
        """Stop ledger and jobs with their sockets, by which any caller would start them again."""
        self.tell("stopping jobs and ledger; requests are answered with 503 meanwhile")
        for service in (JOBS, LEDGER):
            self._stop_one(service)

    def _stop_one(self, service: str) -> None:
        for unit in (*self._doors(service), service):
            self.supervisor.stop(unit)

    def _resume(self) -> None:
        """Start what was stopped where the records were; a ledger that has left refuses, and says what to do."""
        for unit in (LEDGER, JOBS):
            with suppress(UnitError):
                self.supervisor.start(unit)

    def _back(self, error: SealiftError) -> None:
        self.tell("the ledger did not start on the server: going back to the file")
        self._stop_one(LEDGER)  # its start opened the sockets, by which any caller would start it again
        try:
            copying.copy(self.config, "sqlite", clock=self.clock, progress=self.progress)
        except SealiftError as second:
            self._resume()
            raise UnitError(
                what="the records are on the server, and the ledger did not start there",
                why=f"{error.what}; going back: {second.what}",
                fix="mend the server, then `sealift db move --to postgresql` goes on, `--to sqlite` goes back",
            ) from error
        self._say("sqlite")
        self._resume()
        raise UnitError(
            what="the ledger did not start on the server, and is back in its file",
            why=f"{error.what}: {error.why}"[:300],
            fix=f"read `journalctl -u {LEDGER}`; the next move needs an empty database, for this one was left: {_PAGE}",
        ) from error

    def _start_anew(self, others: tuple[str, ...]) -> None:
        self.tell("starting anew what reads the records")
        missing = []
        for unit in (*others, JOBS):
            try:
                if unit != JOBS:
                    self.supervisor.rest(unit)
                self.supervisor.start(unit)
            except UnitError:
                missing.append(unit)
        if self.supervisor.state(TARGET) is UnitState.ACTIVE:
            self.supervisor.start(TARGET)
        if missing:
            raise UnitError(
                what=f"the records are moved, and the ledger answers; {missing[0]} did not start",
                why=", ".join(missing),
                fix=f"read `journalctl -u {missing[0]}`",
            )

    def _answering(self) -> int:
        ledger = SocketLedger(self.config.at.socket(ACTIONS), timeout_seconds=_ANSWER_SECONDS)
        try:
            return ledger.head().size
        finally:
            ledger.close()


def open_mover(config: Config, *, clock: Clock, tell: Callable[[str], None], progress: Progress) -> Mover:
    """Return what moves the records of this box.

    Raises:
        PrivilegeError: This is not root.
        UsageError: This is not a box under systemd.
    """
    if not is_booted_box(config):
        raise UsageError(
            what="this is not a box whose services could be stopped and started",
            why="there is no systemd, or the site file names another root",
            fix="stop the units, `sealift db copy`, set database.kind, start them",
        )
    if os.geteuid() != 0:
        raise PrivilegeError(what="moving the records stops services", why="only root may do that", fix="use sudo")
    supervisor = open_supervisor(config, start_seconds=_START_SECONDS)
    return Mover(config=config, supervisor=supervisor, clock=clock, tell=tell, progress=progress)


def _require_good(findings: Iterator[Finding]) -> None:
    for one in findings:
        if one.state == FAULT:
            raise DatabaseError(what=f"the server is not ready: {one.name}", why=one.value, fix=one.fix)


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
