"""Runs the units without root (`sealift run-units`), in the foreground or in the background, and stops them."""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance import wire
from appliance.config import Config
from appliance.errors import UnitError, WireError
from appliance.install import hostfiles
from appliance.install.run_units import (
    PORTS_FILE,
    RunningUnits,
    hold_run_folder,
    listen_for_control,
    listen_on_loopback,
    unit_files,
)
from appliance.install.supervisor import CONTROL
from appliance.keys.opening import open_keys
from appliance.wire import Line
from media.errors import SealiftError

_START_SECONDS = 600.0
_STOP_SECONDS = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitsRun:
    """What was started: loopback addresses by door, units ready, engines that did not come back."""

    addresses: dict[str, str]
    units: tuple[str, ...]
    failed_engines: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        return {
            "addresses": self.addresses,
            "units": list(self.units),
            "failed_engines": list(self.failed_engines),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where units come from and whose configuration they get."""

    config: Config
    config_file: Path
    folder: Path | None = None


def run(source: Source, names: Sequence[str], *, ready: Callable[[UnitsRun], None]) -> None:
    """Run the units until a signal or `stop` ends them; nothing of theirs is left afterwards.

    Args:
        source: Configuration and unit folder.
        names: Services to start; none means what sealift.target wants.
        ready: Called once when every unit is ready.

    Raises:
        UnitError: The units run already, or one did not become ready.
    """
    config = source.config
    lock = hold_run_folder(config.at.run)
    listeners = listen_on_loopback(config)
    files = unit_files(config, source.config_file, source.folder or hostfiles.folder("systemd"))
    config.at.state.mkdir(parents=True, exist_ok=True)
    open_keys(config, environ={}).create_missing()
    units = RunningUnits(config, files, listeners)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: units.ended.set())
    control = listen_for_control(config.at.run)
    wire.serve({CONTROL: control}, units.control)
    try:
        started = tuple(names) or files.wanted_by_target()
        units.start_all(started)
        failed = units.start_wanted_engines() if not names else []
        ready(UnitsRun(addresses=addresses(config), units=started, failed_engines=tuple(failed)))
        units.ended.wait()
    finally:
        units.stop_all()
        for name in (f"{CONTROL}.sock", PORTS_FILE):
            (config.at.run / name).unlink(missing_ok=True)
        for listener in [control, *listeners.values()]:
            listener.close()
        os.close(lock)


def run_in_background(source: Source, names: Sequence[str]) -> UnitsRun:
    """Start the units in a process of its own and return when all are ready.

    Raises:
        UnitError: As `run`; then nothing is left running.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        os.close(reader)
        _become_daemon(source.config)
        _report(source, names, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        report = json.loads(stream.read() or b"{}")
    if "ok" not in report:
        error = report.get("error", {})
        raise UnitError(
            what=error.get("what", "the supervisor ended before the units were ready"),
            why=error.get("why", ""),
            fix=error.get("fix", "read run-units.log in the state folder's logs"),
        )
    found = report["ok"]
    return UnitsRun(
        addresses=found["addresses"], units=tuple(found["units"]), failed_engines=tuple(found["failed_engines"])
    )


def stop(config: Config) -> bool:
    """Stop the units of this configuration; False when none run.

    Raises:
        UnitError: They did not end in time.
    """
    line = Line(config.at.socket(CONTROL))
    try:
        pid = int(line.call("shutdown")["pid"])
    except WireError:
        return False
    finally:
        line.close()
    _wait_gone(pid)
    return True


def addresses(config: Config) -> dict[str, str]:
    """Return the loopback addresses of gateway and admin page, as written by the units that run now.

    Raises:
        UnitError: None run.
    """
    try:
        ports = json.loads((config.at.run / PORTS_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise UnitError(
            what="no units run here", why="there is no ports file", fix="run `sealift run-units`"
        ) from error
    return {door: f"http://{ports['host']}:{port}" for door, port in ports.items() if door != "host"}


def _become_daemon(config: Config) -> None:
    os.setsid()
    logs = config.at.state / "logs"
    logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(logs / "run-units.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)


def _report(source: Source, names: Sequence[str], writer: int) -> None:
    """Run in the background process: tell the waiting parent once how it went, and never return."""
    code = 0
    try:
        run(source, names, ready=lambda facts: _tell(writer, {"ok": facts.to_json()}))
    except SealiftError as error:
        _tell(writer, {"error": error.to_json()})
        code = error.exit_code
    except BaseException as error:  # noqa: BLE001 - nothing above this frame belongs to this process
        sys.stderr.write(f"run-units: {type(error).__name__}\n")
        code = 1
    finally:
        os._exit(code)


def _tell(writer: int, report: dict[str, Any]) -> None:
    os.write(writer, json.dumps(report).encode())
    os.close(writer)


def _wait_gone(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    import select

    try:
        gone, _, _ = select.select([handle], [], [], _STOP_SECONDS)
    finally:
        os.close(handle)
    if not gone:
        raise UnitError(what="the units did not end in time", why="", fix="look at run-units.log")
