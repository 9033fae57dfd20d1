"""Typed jobs as others see them: ask, wait, read; and a supervisor for units that may not start engines themselves.

The job service may not see who speaks; whoever is asked by it to be introduced is, by the ledger (`JobsLine`).
"""

import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from appliance.audit import rights
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import Config
from appliance.errors import JobRefusedError, UnitError, WireError
from appliance.install import jobrights
from appliance.install.jobaskers import INTRODUCTION, NotIntroducedError
from appliance.install.joboutcome import Outcome
from appliance.install.jobs import Kind, engine_kind
from appliance.install.supervisor import UnitFacts, UnitState, require_unit_name
from appliance.wire import Line, RemoteError
from media import canonical

_PAUSE_SECONDS: Final = 0.2
_GONE_SECONDS: Final = 90.0
# Where each asker stands at the ledger.
_LEDGER_DOORS: Final = {
    jobrights.ADMIN: rights.ADMIN,
    jobrights.OPERATOR: rights.OPERATOR,
    jobrights.BENCH: rights.BENCH,
    jobrights.SWITCH: rights.SWITCH,
    jobrights.RECEIVE: rights.ACTIONS,
}

Seen = Callable[[str, int, int], None]
"""Told of a job's step, how much of it is done and how much there is."""


class JobsLine:
    """A line to the job service that is introduced by the ledger as soon as that service asks for it.

    A service that sees who speaks, as one of a release from before it did, never asks.

    Args:
        path: The door's socket.
        timeout_seconds: How long one answer may take.
        ledger: This asker's door of the ledger; without one it is not introduced.
    """

    def __init__(self, path: Path, *, timeout_seconds: float = 30.0, ledger: Path | None = None) -> None:
        self._line = Line(path, timeout_seconds=timeout_seconds)
        self._ledger = ledger
        self._own: dict[str, str] = {}

    @classmethod
    def open(cls, config: Config, door: str, *, timeout_seconds: float = 30.0) -> "JobsLine":
        """Return a line through one door of this site's job service."""
        at = config.at
        return cls(at.socket(door), timeout_seconds=timeout_seconds, ledger=at.socket(_LEDGER_DOORS[door]))

    def call(self, do: str, **fields: Any) -> dict[str, Any]:
        """Ask and return the answer; see `Line.call`.

        Raises:
            WireError: Nobody listens, or the answer breaks the protocol.
            RemoteError: The service refused.
            LedgerUnavailableError: It is to be introduced, and the ledger does not answer.
        """
        try:
            return self._line.call(do, **fields, **self._own)
        except RemoteError as error:
            if self._ledger is None or error.remote_code != NotIntroducedError.code:
                raise
        ledger = SocketLedger(self._ledger)
        try:
            self._own = {INTRODUCTION: ledger.introduce()}
        finally:
            ledger.close()
        return self._line.call(do, **fields, **self._own)

    def close(self) -> None:
        """End the connection."""
        self._line.close()


class JobsClient:
    """Asks the job service through one door.

    Every method may raise `RemoteError` with the service's own error, and `WireError` when it does not answer.

    Args:
        line: To that service; an engine is started within the time that one answer may take.
    """

    def __init__(self, line: JobsLine) -> None:
        self._line = line

    @classmethod
    def open(cls, config: Config, door: str) -> "JobsClient":
        """Return a client of this site's job service."""
        return cls(JobsLine.open(config, door, timeout_seconds=config.engine.start_seconds + 30.0))

    def close(self) -> None:
        """End the connection."""
        self._line.close()

    def ask(self, kind: Kind, *, person: str = "", **named: str | int) -> int:
        """Ask for a job and return its number."""
        return int(self._line.call("ask", kind=str(kind), person=person, **named)["job"])

    def show(self, number: int) -> dict[str, Any]:
        """Return how one job stands."""
        return self._line.call("show", job=number)

    def jobs(self) -> list[dict[str, Any]]:
        """Return the newest jobs."""
        return [canonical.mapping(one, "job") for one in self._line.call("jobs")["jobs"]]

    def wait(
        self, number: int, *, seen: Seen = lambda *_: None, sleep: Callable[[float], None] = time.sleep
    ) -> Outcome:
        """Return how a job ended, once it has; `Outcome.require_ok` raises what it ended with.

        Raises:
            WireError: The service went away and did not come back.
        """
        gone = 0.0
        while True:
            try:
                found = self.show(number)
            except WireError:
                # An install restarts services; the job itself runs in a unit of its own.
                gone += _PAUSE_SECONDS
                if gone > _GONE_SECONDS:
                    raise
                sleep(_PAUSE_SECONDS)
                continue
            if found["step"]:
                seen(str(found["step"]), int(found["done"]), int(found["total"]))
            if found["state"] != "running":
                return Outcome.from_json(canonical.mapping(found["outcome"], "outcome"))
            sleep(_PAUSE_SECONDS)

    def evidence(self, digest: str) -> dict[str, Any]:
        """Return the evidence of that digest; the caller hashes it again."""
        return self._document("evidence", digest)

    def text(self, what: str, digest: str) -> bytes:
        """Return the bytes of a descriptor, evidence or plan of that digest, hashed again here.

        Raises:
            JobRefusedError: What came back has another digest.
        """
        raw = str(self._line.call(what, digest=digest)["text"]).encode()
        if sha256(raw).hexdigest() != digest:
            raise JobRefusedError(
                what=f"the {what} {digest[:12]} is not what its name says", why="other bytes came back", fix="report it"
            )
        return raw

    def units(self) -> tuple[UnitFacts, ...]:
        """Return our loaded units."""
        rows = self._line.call("units")["units"]
        return tuple(UnitFacts(name=str(row["unit"]), state=UnitState(str(row["state"]))) for row in rows)

    def tell_progress(self, step: str, done: int, total: int) -> None:
        """Tell how the running job of this door's lane goes."""
        self._line.call("progress", step=step, done=done, total=total)

    def tell_outcome(self, outcome: Outcome) -> None:
        """Tell how it ended."""
        self._line.call("outcome", **outcome.to_json())

    def _document(self, what: str, digest: str) -> dict[str, Any]:
        return canonical.mapping(canonical.loads_canonical(self.text(what, digest)), what)


class JobsSupervisor:
    """A supervisor by typed jobs: engines of one stage can be started, stopped and, in test, killed; nothing else."""

    def __init__(self, jobs: JobsClient) -> None:
        self._jobs = jobs

    def start(self, unit: str) -> None:
        """Ask for an engine's start; see `Supervisor.start`."""
        self._ask("start", unit)

    def stop(self, unit: str) -> None:
        """Ask for an engine's stop; see `Supervisor.stop`."""
        self._ask("stop", unit)

    def rest(self, unit: str) -> None:
        """Refuse: only the job service lets production rest, within a maintenance window.

        Raises:
            UnitError: Always.
        """
        raise UnitError(what=f"{unit} cannot be asked to rest", why="a window does", fix="open a maintenance window")

    def kill(self, unit: str) -> None:
        """Ask for the end of a test engine's processes; see `Supervisor.kill`."""
        self._ask("kill", unit)

    def state(self, unit: str) -> UnitState:
        """Look among the loaded units; see `Supervisor.state`."""
        name = require_unit_name(unit)
        return next((one.state for one in self.units() if one.name == name), UnitState.INACTIVE)

    def units(self) -> tuple[UnitFacts, ...]:
        """Ask for all units; see `Supervisor.units`."""
        try:
            return self._jobs.units()
        except WireError as error:
            raise UnitError(
                what="the job service does not answer", why=error.why, fix="see `systemctl status sealift-jobs`"
            ) from error

    def _ask(self, verb: str, unit: str) -> None:
        found = engine_kind(verb, require_unit_name(unit))
        if found is None:
            raise UnitError(what=f"{unit} cannot be asked for", why="only engines can", fix="use systemctl as root")
        try:
            self._jobs.ask(found[0], **found[1])
        except WireError as error:
            raise UnitError(
                what="the job service does not answer", why=error.why, fix="see `systemctl status sealift-jobs`"
            ) from error
