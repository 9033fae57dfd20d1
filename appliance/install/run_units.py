"""`sealift run-units`: the units of `systemd/` without root, for demo and rehearsal.

The same files, the same contract (`appliance.unit`), one user. What systemd adds and this cannot: other users, name
spaces, memory limits. So it serves demos, rehearsals and tests; a box runs systemd.
"""

import fcntl
import json
import os
import socket
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from appliance import wire
from appliance.config import Config
from appliance.errors import UnitError
from appliance.install.supervisor import CONTROL, UnitState, engine_of
from appliance.install.unit_files import BoxPaths, UnitFiles
from appliance.install.unit_process import UnitProcess
from appliance.install.unit_surroundings import Surroundings
from appliance.unit import Ending
from media.errors import UsageError

PORTS_FILE: Final = "ports.json"
_WANTED: Final = "wanted-engines.json"
_PRODUCTION: Final = "sealift-engine-production@"
_WEB: Final = {
    "gateway": "sealift-gateway.service",
    "test": "sealift-gateway-test.service",
    "admin": "sealift-admin.service",
}


class RunningUnits:
    """All units of one configuration; made once, then `start`, `control`, `stop_all`."""

    def __init__(self, config: Config, files: UnitFiles, loopback: Mapping[str, socket.socket]) -> None:
        self._places = config.at
        self._files = files
        self._surroundings = Surroundings(
            run=self._places.run,
            logs=self._places.state / "logs",
            loopback={_WEB[door]: ((f"{door}-tcp", listener),) for door, listener in loopback.items()},
        )
        self._lock = threading.Lock()
        self._units: dict[str, UnitProcess] = {}
        self.ended = Ending()

    def start_all(self, names: Iterable[str]) -> None:
        """Start services in the order of their After=, each group at once, then the engines production had.

        Raises:
            UnitError: One did not become ready.
        """
        wanted = {name: self._unit(name) for name in names}
        while wanted:
            wave = [unit for unit in wanted.values() if not set(unit.service.after) & set(wanted)]
            if not wave:
                raise UnitError(what="the units wait for each other", why="After= has a cycle", fix="correct the units")
            for unit in wave:
                unit.begin()
            for unit in wave:
                unit.wait_ready()
                del wanted[unit.service.name]

    def start_wanted_engines(self) -> list[str]:
        """Start the production engines that ran before, and return those that did not start."""
        failed = []
        for name in self._wanted():
            try:
                self.start(name)
            except UnitError:
                failed.append(name)
        return failed

    def start(self, name: str) -> None:
        """Start one unit and wait until it is ready.

        Raises:
            UnitError: It is not ours, or did not become ready.
        """
        unit = self._unit(name)
        unit.begin()
        unit.wait_ready()
        if name.startswith(_PRODUCTION):
            self._remember({*self._wanted(), name})

    def stop(self, name: str) -> None:
        """Stop one unit.

        Raises:
            UnitError: It is not ours.
        """
        unit = self._unit(name)
        if name.startswith(_PRODUCTION):
            self._remember(set(self._wanted()) - {name})
        unit.stop()

    def rest(self, name: str) -> None:
        """Stop one unit for a while: the next run of the units starts it again if it was wanted.

        Raises:
            UnitError: It is not ours.
        """
        self._unit(name).stop()

    def stop_all(self) -> None:
        """Stop every unit, callers before what they call."""
        with self._lock:
            left = dict(self._units)
        while left:
            called = {name for unit in left.values() for name in unit.service.after}
            wave = [unit for name, unit in left.items() if name not in called] or list(left.values())
            threads = [threading.Thread(target=unit.stop) for unit in wave]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for unit in wave:
                del left[unit.service.name]

    def control(self, _peer: wire.Peer, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one request on the control socket: start, stop, rest, kill, status, list, shutdown.

        Raises:
            UsageError: The request is none of these.
            UnitError: As the methods above.
        """
        name = str(request.get("unit", ""))
        match request.get("do"):
            case "start" | "stop" | "rest" | "kill" as verb:
                {"start": self.start, "stop": self.stop, "rest": self.rest, "kill": self._kill}[verb](name)
                return {"state": str(self._unit(name).state)}
            case "status":
                return self._unit(name).facts()
            case "list":
                with self._lock:
                    units = sorted(self._units.items())
                wanted = self._wanted()
                told = [unit.facts() for name, unit in units if name in wanted or not _is_forgotten(name, unit)]
                return {"units": told, "pid": os.getpid()}
            case "shutdown":
                self.ended.set()
                return {"pid": os.getpid()}
            case _:
                raise UsageError(
                    what="the supervisor does not know that request", why="", fix="use `sealift run-units`"
                )

    def _kill(self, name: str) -> None:
        self._unit(name).kill()

    def _unit(self, name: str) -> UnitProcess:
        with self._lock:
            if name not in self._units:
                self._units[name] = UnitProcess(self._files.service(name), self._surroundings)
            return self._units[name]

    def _wanted(self) -> list[str]:
        try:
            found = json.loads((self._places.state / _WANTED).read_bytes())
        except (OSError, ValueError):
            return []
        return sorted(str(name) for name in found)

    def _remember(self, names: set[str]) -> None:
        partial = self._places.state / f".{_WANTED}"
        partial.write_text(json.dumps(sorted(names)))
        partial.replace(self._places.state / _WANTED)


def _is_forgotten(name: str, unit: UnitProcess) -> bool:
    """Whether a unit is an engine that was stopped and ended well: systemd unloads what nothing wants."""
    return engine_of(name) is not None and unit.state is UnitState.INACTIVE


def hold_run_folder(run: Path) -> int:
    """Make the run folder and lock it for this process; the lock ends with the returned descriptor.

    Raises:
        UnitError: Another `sealift run-units` holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    run.chmod(0o700)
    lock = os.open(run / "units.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise UnitError(
            what="the units run already",
            why="another supervisor holds them",
            fix="run `sealift run-units --stop` first",
        ) from error
    return lock


def listen_on_loopback(config: Config) -> dict[str, socket.socket]:
    """Open the loopback ports of both gateways and admin; port 0 takes a free one. All are written to the ports file.

    Raises:
        UnitError: A port is taken.
    """
    asked = {
        "gateway": config.service.gateway_port,
        "test": config.service.test_port,
        "admin": config.service.admin_port,
    }
    opened: dict[str, socket.socket] = {}
    for door, port in asked.items():
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        opened[door] = listener
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.service.host, port))
        except OSError as error:
            for one in opened.values():
                one.close()
            raise UnitError(
                what=f"port {port} of the {door} cannot be opened",
                why=error.strerror or "",
                fix=f"set service.{door}_port in the site file",
            ) from error
        listener.listen(1024)
    ports = {door: listener.getsockname()[1] for door, listener in opened.items()}
    (config.at.run / PORTS_FILE).write_text(json.dumps({"host": config.service.host, **ports}))
    return opened


def listen_for_control(run: Path) -> socket.socket:
    """Open the control socket, for this user alone."""
    path = run / f"{CONTROL}.sock"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(64)
    return listener


def unit_files(config: Config, config_file: Path, folder: Path) -> UnitFiles:
    """Return the units of `folder` with a box's paths mapped to this configuration."""
    return UnitFiles(folder, BoxPaths.of(config, config_file), config.keys)
