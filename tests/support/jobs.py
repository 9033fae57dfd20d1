"""A job service over a running site: the real desk on real sockets; what systemd would start, it runs as processes."""

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from appliance import wire
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import Config
from appliance.errors import UnitError
from appliance.install.jobdesk import JobDesk
from appliance.install.jobrights import DOORS
from appliance.install.supervisor import Supervisor, UnitFacts, UnitState

_WORK = re.compile(r"sealift-(validate|switch|evidence|prove)@([a-z0-9-]+)\.service")


class UnitRunner:
    """Runs the unit of a long job as systemd would: its own process, ended before `start` returns."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.asked: list[str] = []
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopped: set[str] = set()
        self.may_begin = threading.Event()  # cleared by a test whose gates are to take as long as it needs
        self.may_begin.set()

    def start(self, unit: str) -> None:
        self.asked.append(unit)
        found = _WORK.fullmatch(unit)
        if found is None:
            raise UnitError(what=f"{unit} did not start", why="the test runs no such unit", fix="")
        command = [sys.executable, "-I", "-m", "appliance.actions.worker", "--config", str(self._config.at.config_file)]
        while found[1] == "validate" and not self.may_begin.wait(0.05):
            if unit in self._stopped:
                raise UnitError(what=f"{unit} did not start", why="it was stopped", fix="")
        process = subprocess.Popen([*command, found[1], found[2]], stderr=subprocess.DEVNULL)
        self._running[unit] = process
        try:
            code = process.wait(timeout=60)
        finally:
            self._running.pop(unit, None)
        if code != 0:
            raise UnitError(what=f"{unit} did not start", why=f"it ended with {code}", fix="")

    def stop(self, unit: str) -> None:
        self._stopped.add(unit)
        process = self._running.get(unit)
        if process is not None:
            process.terminate()

    def rest(self, unit: str) -> None:
        raise UnitError(what=f"{unit} cannot rest", why="the test lets no unit rest", fix="")

    def kill(self, unit: str) -> None:
        raise UnitError(what=f"{unit} cannot be killed", why="the test kills no unit", fix="")

    def state(self, unit: str) -> UnitState:
        del unit
        return UnitState.INACTIVE

    def units(self) -> tuple[UnitFacts, ...]:
        return ()


@contextmanager
def job_service(config: Config, supervisor: Supervisor) -> Iterator[UnitRunner]:
    """Serve the four doors of jobs over a site whose ledger and promoter run."""
    ledger, runner = SocketLedger(config.at.socket("ledger-actions")), UnitRunner(config)
    desk = JobDesk(config, ledger, supervisor=supervisor, runner=runner)
    desk.look_after_windows()  # as the service does when it begins
    listeners: dict[str, socket.socket] = {}
    for door in DOORS:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(config.at.socket(door)))
        listener.listen(16)
        listeners[door] = listener
    threads = wire.serve(listeners, desk)
    try:
        yield runner
    finally:
        for door, listener in listeners.items():
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            config.at.socket(door).unlink()
        for thread in threads:
            thread.join(5)
        ledger.close()
