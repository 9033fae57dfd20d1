"""Whether the installed services answer: asked right after an install, which goes back by itself when they do not."""

import http.client
import socket
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Final

from appliance.config import Places
from appliance.errors import InstallError, UnitError, WireError
from appliance.install.supervisor import Supervisor, UnitState
from appliance.wire import Line, RemoteError
from media.clock import Clock

SERVICES: Final = (
    "sealift-ledger.service",
    "sealift-promoter.service",
    "sealift-jobs.service",
    "sealift-gateway.service",
    "sealift-admin.service",
)
WEB: Final = ("gateway", "admin")
_ASK_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What was asked and what is wrong; nothing wrong means healthy."""

    wrong: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether everything answered."""
        return not self.wrong


def check(places: Places, supervisor: Supervisor) -> Health:
    """Ask every service once."""
    wrong = []
    for name in SERVICES:
        try:
            if (state := supervisor.state(name)) is not UnitState.ACTIVE:
                wrong.append(f"{name} is {state}")
        except UnitError as error:
            return Health(wrong=(error.what,))
    if not wrong:
        wrong += [f"{name} does not answer" for name in WEB if not _answers(places.socket(name))]
        if not _ledger_answers(places.socket("ledger-actions")):
            wrong.append("the ledger does not answer")
    return Health(wrong=tuple(wrong))


def require(places: Places, supervisor: Supervisor, *, clock: Clock, seconds: float) -> None:
    """Return as soon as everything answers.

    Raises:
        InstallError: Something still does not when the time is over.
    """
    until = clock.monotonic() + seconds
    while not (health := check(places, supervisor)).is_good:
        if clock.monotonic() >= until:
            raise InstallError(
                what="the services do not answer after the install",
                why="; ".join(health.wrong)[:300],
                fix="read `journalctl -u 'sealift-*'`",
            )
        sleep(_PAUSE_SECONDS)


def require_active(supervisor: Supervisor, units: tuple[str, ...], *, clock: Clock, seconds: float) -> None:
    """Return as soon as these units are active: the engines that served before an install.

    Raises:
        InstallError: One still is not when the time is over, or systemd gave it up.
    """
    until = clock.monotonic() + seconds
    for unit in units:
        while (state := supervisor.state(unit)) is not UnitState.ACTIVE:
            if clock.monotonic() >= until or state is UnitState.FAILED:
                raise InstallError(
                    what="what served before the install does not serve after it",
                    why=f"{unit} is {state}",
                    fix=f"read `journalctl -u {unit}`",
                )
            sleep(_PAUSE_SECONDS)


def _answers(path: Path) -> bool:
    connection = _UnixConnection(path)
    try:
        connection.request("GET", "/health")
        # Any answer of the application counts; a gateway without a promoted version says so with 503.
        return connection.getresponse().status in {200, 503}
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _ledger_answers(path: Path) -> bool:
    line = Line(path, timeout_seconds=_ASK_SECONDS)
    try:
        line.call("head")
    except (WireError, RemoteError):
        return False
    finally:
        line.close()
    return True


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ASK_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_ASK_SECONDS)
        self.sock.connect(str(self._path))
