"""What systemd gives a service before it starts it: sockets, credentials, state folders, environment and a log.

Promises: sockets and credentials are for this user alone; a credential is a copy that goes away with the unit; the
environment holds nothing of the caller's.
"""

import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from appliance.errors import UnitError
from appliance.install.unit_files import ServiceUnit
from appliance.unit import CORE

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOG_LIMIT_BYTES: Final = 16 * 1024 * 1024
_BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where units log and talk, and the loopback sockets that some of them get besides their own."""

    run: Path
    logs: Path
    loopback: Mapping[str, tuple[tuple[str, socket.socket], ...]] = field(default_factory=dict)

    @property
    def credentials(self) -> Path:
        """The folder of all units' credentials; 0700."""
        return self.run / "credentials"


class Prepared:
    """One unit's surroundings, held open from its start until it is no longer wanted."""

    def __init__(self, service: ServiceUnit, surroundings: Surroundings) -> None:
        self._service = service
        self._surroundings = surroundings
        self._listeners: list[tuple[str, socket.socket]] = []
        for path in service.state_directories:
            path.mkdir(parents=True, exist_ok=True, mode=service.state_mode)
        self._copy_credentials()
        self._listen()

    def sockets(self) -> list[tuple[str, socket.socket]]:
        """Return every listening socket with the name it is passed under."""
        return [*self._listeners, *self._surroundings.loopback.get(self._service.name, ())]

    def environment(self, notify: Path) -> dict[str, str]:
        """Return the whole environment of the process."""
        found = {"PATH": PATH, "LANG": "C.UTF-8", **self._service.environment}
        found.pop(CORE, None)  # engines are kept off none here, and other demos may run beside this one
        if self._service.kind == "notify":
            found["NOTIFY_SOCKET"] = str(notify)
            if self._service.watchdog_seconds:
                found["WATCHDOG_USEC"] = str(int(self._service.watchdog_seconds * 1_000_000))
        if self._service.state_directories:
            found["STATE_DIRECTORY"] = ":".join(str(path) for path in self._service.state_directories)
        if self._service.credentials:
            found["CREDENTIALS_DIRECTORY"] = str(self._surroundings.credentials / self._service.name)
        return found

    def open_log(self) -> BinaryIO:
        """Open the unit's log for appending; one older log is kept."""
        self._surroundings.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._surroundings.logs / log_name(self._service.name)
        if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "wb")

    def close(self) -> None:
        """Take sockets and credentials away."""
        for unit in self._service.sockets:
            unit.path.unlink(missing_ok=True)
        for _, listener in self._listeners:
            listener.close()
        self._listeners = []
        shutil.rmtree(self._surroundings.credentials / self._service.name, ignore_errors=True)

    def _listen(self) -> None:
        for unit in self._service.sockets:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            self._listeners.append((unit.door, listener))
            unit.path.unlink(missing_ok=True)
            try:
                listener.bind(str(unit.path))
            except OSError as error:
                self.close()
                raise UnitError(
                    what=f"the socket {unit.path.name} cannot be made",
                    why=error.strerror or str(error),
                    fix="give places.run a shorter path; a socket's path holds at most 107 bytes",
                ) from error
            unit.path.chmod(0o600)
            listener.listen(_BACKLOG)

    def _copy_credentials(self) -> None:
        if not self._service.credentials:
            return
        folder = self._surroundings.credentials / self._service.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        for name, source in self._service.credentials.items():
            try:
                content = source.read_bytes()
            except OSError as error:
                raise UnitError(
                    what=f"{self._service.name} lacks its credential {name}",
                    why=error.strerror or "",
                    fix="run `sealift install`, which makes missing keys",
                ) from error
            with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as target:
                target.write(content)


def log_name(unit: str) -> str:
    """Return the name of a unit's log file."""
    return f"{unit.removesuffix('.service')}.log"
