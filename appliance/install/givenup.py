"""Starts again what systemd gave up, once there is room for it: nobody may be there who could.

systemd tries a service some times in a few minutes and then leaves it down. Promises:

1. What refused (`RestartPreventExitStatus=`) is left to people: its file, its key or its records are wrong.
2. An engine that ran and ended stays down, for those who promote to see. It is started again only where systemd could
   not even make its sandbox, and a boot would start it; while a window keeps production down, none is.
3. Without room nothing is tried. What had no sandbox is tried as soon as there is room, all else after a pause; and
   again after a pause, in which it is down for everybody to see: longer than the alert `UnitFailed` waits.
4. Where people stopped the target, nothing is started; of others' services, which the install configures, only those
   that a boot would start.
"""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final, Protocol

from appliance.install.supervisor import ask_systemd, engine_of, is_unit_name, require_unit_name
from appliance.install.unit_result import Ending, UnitResult, from_systemd

PAUSE_SECONDS: Final = 180.0
OTHERS: Final = ("nginx.service", *(f"prometheus{more}.service" for more in ("", "-alertmanager", "-node-exporter")))
"""Services of Debian's that the install gives a sandbox: without the first nobody is answered."""
_TARGET: Final = "sealift.target"
_PROPERTIES: Final = (
    "Id,ActiveState,Result,ExecMainCode,ExecMainStatus,ExecStartPre,NRestarts,Restart,RestartPreventExitStatus,"
    "UnitFileState"
)
_EXITED: Final = "1"
"""`CLD_EXITED`: it ended by itself, so that its status is a number of its own."""
_SANDBOXES: Final = "/tmp"  # noqa: S108 - a file without a name, and without content
_ROOM_BYTES: Final = 2**20
_ASK_SECONDS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service that starts again by itself, as systemd sees it now."""

    result: UnitResult
    state: str
    is_refused: bool
    is_enabled: bool

    @property
    def name(self) -> str:
        """Its unit."""
        return self.result.unit

    def may_start(self, *, engines: bool) -> bool:
        """Whether it is down, and starting it is nobody's decision."""
        if self.state != "failed" or self.is_refused:
            return False
        if self.name in OTHERS:
            return self.is_enabled
        if engine_of(self.name) is None:
            return True
        return engines and self.is_enabled and self.result.ending is Ending.NO_SANDBOX


class Systemd(Protocol):
    """What is asked of systemd."""

    def services(self) -> tuple[Service, ...]:
        """Return ours and the others' that start again by themselves; none where the target is stopped.

        Raises:
            UnitError: systemd does not answer.
        """
        ...

    def begin(self, unit: str) -> None:
        """Let a unit's count of starts begin anew, and start it without waiting for it.

        Raises:
            UnitError: systemd does not answer.
        """
        ...


class GivenUp:
    """Looks at what is down again and again; it remembers what it tried, and when."""

    def __init__(
        self,
        systemd: Systemd,
        *,
        may_start_engines: Callable[[], bool],
        has_room: Callable[[], bool] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._systemd = systemd
        self._may_start_engines = may_start_engines
        self._has_room = has_room or is_room_for_sandboxes
        self._clock = clock
        self._waits_since: dict[str, float] = {}

    def look(self) -> tuple[Service, ...]:
        """Start what is due; return it.

        Raises:
            UnitError: systemd does not answer.
        """
        found, now = self._systemd.services(), self._clock()
        # One that is being started has not come back yet: it may be down again before the next look.
        left = {one.name for one in found if one.state != "active"}
        self._waits_since = {name: since for name, since in self._waits_since.items() if name in left}
        may_start_engines = self._may_start_engines()
        due = [one for one in found if one.may_start(engines=may_start_engines) and self._is_due(one, now)]
        if not due or not self._has_room():
            return ()
        for one in due:
            self._waits_since[one.name] = now
            self._systemd.begin(one.name)
        return tuple(due)

    def _is_due(self, service: Service, now: float) -> bool:
        never_ran = service.result.ending is Ending.NO_SANDBOX
        since = self._waits_since.setdefault(service.name, now - PAUSE_SECONDS if never_ran else now)
        return now - since >= PAUSE_SECONDS


class Systemctl:
    """`systemctl`, on a box."""

    def __init__(self, *, systemctl: str = "systemctl") -> None:
        self._systemctl = systemctl

    def services(self) -> tuple[Service, ...]:
        """Ask for all of them at once; see `Systemd.services`."""
        return read(self._tell("show", f"--property={_PROPERTIES}", _TARGET, *OTHERS, "sealift-*.service"))

    def begin(self, unit: str) -> None:
        """Start it; see `Systemd.begin`."""
        name = unit if unit in OTHERS else require_unit_name(unit)
        self._tell("reset-failed", name)
        self._tell("--no-block", "start", name)

    def _tell(self, *words: str) -> str:
        return ask_systemd(self._systemctl, "--no-ask-password", *words, seconds=_ASK_SECONDS, check=False)


def read(untrusted: str) -> tuple[Service, ...]:
    """Read what ``systemctl show`` printed of the target and our services: lines of each, and an empty one between."""
    units = {said.get("Id", ""): (said, text) for said, text in _blocks(untrusted)}
    target, _ = units.pop(_TARGET, ({}, ""))
    if target.get("ActiveState") != "active":
        return ()
    ours = (_service(name, *unit) for name, unit in units.items() if name in OTHERS or is_unit_name(name))
    return tuple(one for one in ours if one is not None)


def is_room_for_sandboxes() -> bool:
    """Tell whether systemd has room for the folders that it makes in /tmp, where a unit starts.

    The job service's own /tmp is a folder on the same file system, and both are root, for whom blocks are kept there.
    It is tried: of the blocks that ext4 counts as free, it keeps some megabytes from everybody.
    """
    try:
        with tempfile.TemporaryFile(dir=_SANDBOXES, buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, _ROOM_BYTES)
    except OSError as error:
        return error.errno not in {errno.ENOSPC, errno.EDQUOT}  # what fails otherwise says nothing of room
    return True


def _blocks(untrusted: str) -> Iterator[tuple[Mapping[str, str], str]]:
    for text in untrusted.split("\n\n"):
        yield dict(line.split("=", 1) for line in text.splitlines() if "=" in line), text


def _service(name: str, said: Mapping[str, str], text: str) -> Service | None:
    if said.get("Restart", "no") == "no":
        return None
    refusals = said.get("RestartPreventExitStatus", "").split()
    return Service(
        result=from_systemd(name, text),
        state=said.get("ActiveState", ""),
        is_refused=said.get("ExecMainCode") == _EXITED and said.get("ExecMainStatus") in refusals,
        is_enabled=said.get("UnitFileState") == "enabled",
    )
