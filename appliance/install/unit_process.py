"""One unit's life without systemd: start, wait until ready, start again when it fails, stop without leftovers.

Promises: a thread of the unit's own starts the process and stays until it is gone, because the kernel ties a child's
death signal to the thread that made it; after `stop` no process of the unit's group is left; listening sockets live as
long as the unit is wanted, so callers queue while it starts again; what gives no sign of life for its WatchdogSec is
killed and starts again.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic
from typing import Any, Final

from appliance.errors import UnitError
from appliance.install import activate
from appliance.install.supervisor import UnitState
from appliance.install.unit_files import ServiceUnit
from appliance.install.unit_surroundings import PATH, Prepared, Surroundings, log_name

_BACKOFF_LIMIT_SECONDS: Final = 30.0
_STOP_LIMIT_SECONDS: Final = 30.0


class UnitProcess:
    """Runs one service; every method may be called from any thread."""

    def __init__(self, service: ServiceUnit, surroundings: Surroundings) -> None:
        self.service = service
        self._surroundings = surroundings
        self._changed = threading.Condition()
        self._state = UnitState.INACTIVE
        self._why = ""
        self._starts = 0
        self._pid: int | None = None
        self._stopping = threading.Event()
        self._given_up = ""
        self._wake: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> UnitState:
        """The state as systemd would call it."""
        with self._changed:
            return self._state

    def facts(self) -> dict[str, object]:
        """Return what `list` shows: unit, state, pid, restarts, why."""
        with self._changed:
            return {
                "unit": self.service.name,
                "state": str(self._state),
                "pid": self._pid,
                "restarts": max(0, self._starts - 1),
                "why": self._why,
            }

    def begin(self) -> None:
        """Start without waiting; no-op when it runs or starts.

        Raises:
            UnitError: A credential or a socket cannot be had.
        """
        with self._changed:
            if self._thread is not None and self._thread.is_alive():
                return
            prepared = Prepared(self.service, self._surroundings)
            self._stopping.clear()
            self._starts, self._why, self._state = 0, "", UnitState.STARTING
            self._wake = os.pipe2(os.O_CLOEXEC)
            self._thread = threading.Thread(
                target=self._live, args=(prepared, self._wake), name=self.service.name, daemon=True
            )
            self._thread.start()

    def wait_ready(self) -> None:
        """Return when the unit is active, or has done its work when it is a oneshot.

        Raises:
            UnitError: It failed, ended, or took longer than its TimeoutStartSec.
        """
        good = {UnitState.ACTIVE} | ({UnitState.INACTIVE} if self.service.kind == "oneshot" else set())
        with self._changed:
            settled = self._changed.wait_for(
                lambda: self._state is not UnitState.STARTING, self.service.start_timeout_seconds + 5
            )
            if settled and self._state in good:
                return
            raise UnitError(
                what=f"{self.service.name} did not start",
                why=self._why or "it was not ready in time",
                fix=f"read {log_name(self.service.name)} in the state folder's logs",
            )

    def stop(self) -> None:
        """End the process and its group, and take its sockets away; returns when they are gone."""
        with self._changed:
            thread = self._thread
            if thread is None or not thread.is_alive():
                self._state = UnitState.INACTIVE
                return
            self._stopping.set()
            if self._wake is not None:
                os.write(self._wake[1], b"x")
        thread.join(_STOP_LIMIT_SECONDS * 2)
        self._become(UnitState.INACTIVE)

    def kill(self) -> None:
        """End the process and its group without warning; they are started again as after any fault.

        Raises:
            UnitError: Nothing of it runs.
        """
        with self._changed:
            pid = self._pid
        try:
            if pid is None:
                raise ProcessLookupError
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            raise UnitError(
                what=f"{self.service.name} cannot be killed", why="it does not run", fix="start it"
            ) from None

    def _live(self, prepared: Prepared, wake: tuple[int, int]) -> None:
        try:
            self._live_while_wanted(prepared, wake[0])
        finally:
            with self._changed:
                self._wake = None
            for fd in wake:
                os.close(fd)
            prepared.close()

    def _live_while_wanted(self, prepared: Prepared, wake: int) -> None:
        delay = self.service.restart_seconds
        recent: list[float] = []
        while True:
            recent = [at for at in recent if monotonic() - at < self.service.burst_seconds]
            if len(recent) >= self.service.burst:
                self._become(UnitState.FAILED, why="it failed too often in a short time")
                return
            recent.append(monotonic())
            self._become(UnitState.STARTING)
            self._given_up = ""
            code = self._live_once(prepared, wake)
            if self._stopping.is_set() or code == 0:
                self._become(UnitState.INACTIVE, why="" if self._stopping.is_set() else "it ended by itself")
                return
            how = self._given_up or f"it ended with {code}"
            if not self.service.restarts or code in self.service.prevented_exits:
                self._become(UnitState.FAILED, why=how)
                return
            self._become(UnitState.FAILED, why=f"{how} and starts again")
            select.select([wake], [], [], delay)
            if self._stopping.is_set():
                return
            delay = min(delay * 2, _BACKOFF_LIMIT_SECONDS)

    def _live_once(self, prepared: Prepared, wake: int) -> int:
        address = self._surroundings.run / f"notify-{threading.get_native_id()}"
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notices:
            notices.bind(str(address))
            try:
                process = self._spawn(prepared, address)
                self._watch(process, notices, wake)
                return self._end(process)
            finally:
                address.unlink(missing_ok=True)

    def _watch(self, process: "subprocess.Popen[bytes]", notices: socket.socket, wake: int) -> None:
        """Return when the process ended, or is to be ended."""
        deadline: float | None = monotonic() + self.service.start_timeout_seconds
        limit = self.service.watchdog_seconds
        is_ready = self.service.kind not in {"notify", "oneshot"}
        if is_ready:
            self._become(UnitState.ACTIVE)
        exited = os.pidfd_open(process.pid)
        watched: list[Any] = [exited, notices, wake]
        try:
            if is_ready:
                deadline = None
            while not self._stopping.is_set():
                left = None if deadline is None else max(0.0, deadline - monotonic())
                readable, _, _ = select.select(watched, [], [], left)
                told = notices.recv(4096).splitlines() if notices in readable else []
                if b"READY=1" in told:
                    is_ready = True
                    self._become(UnitState.ACTIVE)
                if is_ready and (b"READY=1" in told or b"WATCHDOG=1" in told):
                    deadline = monotonic() + limit if limit else None
                if exited in readable:
                    return
                if deadline is not None and monotonic() >= deadline:
                    self._give_up(process, is_ready=is_ready)
                    return
        finally:
            os.close(exited)

    def _give_up(self, process: "subprocess.Popen[bytes]", *, is_ready: bool) -> None:
        if not is_ready:
            self._given_up = "it was not ready in time"
            self._become(UnitState.FAILED, why=self._given_up)
            return
        # As WatchdogSignal=SIGKILL of the units: what hangs hears no other, and leaves no picture of its memory.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        self._given_up = "it gave no sign of life in time"

    def _end(self, process: "subprocess.Popen[bytes]") -> int:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(min(self.service.stop_timeout_seconds, _STOP_LIMIT_SECONDS))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        with self._changed:
            self._pid = None
        return code

    def _spawn(self, prepared: Prepared, notify: Path) -> "subprocess.Popen[bytes]":
        named = prepared.sockets()
        fds = [listener.fileno() for _, listener in named]
        job = {
            "supervisor": os.getpid(),
            "umask": self.service.umask,
            "fds": fds,
            "names": [door for door, _ in named],
            "environment": prepared.environment(notify),
            "command": list(self.service.command),
        }
        with prepared.open_log() as log:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", activate.__file__, json.dumps(job)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=fds,
                start_new_session=True,
                env={"PATH": PATH},
            )
        with self._changed:
            self._starts += 1
            self._pid = process.pid
        return process

    def _become(self, state: UnitState, *, why: str = "") -> None:
        with self._changed:
            self._state = state
            self._why = why or self._why
            self._changed.notify_all()
