"""The promoter's process: two doors, one folder, one lock. No web code, no engine, no private key.

Entry point: ``python -I -m appliance.promote.service --config FILE``. Sockets come from the supervisor by name,
else they are made below the run folder. A second process on the same folder is refused by a lock on it.
"""

import argparse
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from appliance import config as configuration
from appliance import unit, wire
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import Config
from appliance.errors import ConflictError
from appliance.promote.desk import DOORS, Desk, build_desk
from appliance.timekeeping.believed import BelievedClock
from appliance.watchdog import loops as loop_watch
from appliance.watchdog.leaving import leave
from media.clock import SystemClock
from media.errors import SealiftError

_LEDGER_DOOR = "ledger-promoter"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; returns the exit code."""
    unit.begin()
    parser = argparse.ArgumentParser(prog="sealift-promoter")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    options = parser.parse_args(arguments)
    done = unit.Ending()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    try:
        config = configuration.load(options.config)
        lock = _require_alone(config.at.promoter)
        ledger = SocketLedger(config.at.socket(_LEDGER_DOOR))
        desk = build_desk(config, ledger, clock=BelievedClock.of(config), machine=SystemClock())
        doors = _doors(config)
        loops = loop_watch.Doors(doors)
        wire.serve(doors, desk, on_turn=loops.turned)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    watchdog = _watchdog(desk, loops)
    watchdog.start()
    unit.notify("READY=1")
    done.wait()
    watchdog.stop()
    unit.notify("STOPPING=1")
    os.close(lock)
    return 0


def _watchdog(desk: Desk, doors: loop_watch.Doors) -> loop_watch.Watchdog:
    """Alive means that a message would be taken at each door and have its turn at the desk."""
    limit = unit.watchdog_seconds()
    patience = limit / loop_watch.TURNS_PER_LIMIT
    probes = {"desk": lambda: desk.turns(patience), "doors": lambda: doors.turn(patience)}
    return loop_watch.Watchdog(probes, limit_seconds=limit)


def _require_alone(folder: Path) -> int:
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise ConflictError(
            what="another promoter is running", why="it holds the lock of the promoter's folder", fix="stop it first"
        ) from error
    return fd


def _doors(config: Config) -> dict[str, socket.socket]:
    passed = unit.listening_sockets()
    return {door: passed.get(door) or unit.listening_at(config.at.socket(door)) for door in DOORS}


if __name__ == "__main__":
    leave(main())
