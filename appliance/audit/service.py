"""`python -I -m appliance.audit.service --config F`: the only process that opens the audit store.

Sockets come from the supervisor by name, or are made at their places when it passes none. SIGTERM ends it cleanly:
what was read is appended and answered, the tree is signed, the file folded. A failed write or sync ends it at once
with exit code 90, and the supervisor starts it anew; so does a connection to a database server that was lost.
"""

import argparse
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final

from appliance import config as configuration
from appliance import cycles, unit
from appliance.audit import cosigning
from appliance.audit.doors import Doors
from appliance.audit.log import Log
from appliance.audit.opening import open_log
from appliance.audit.rights import DOORS
from appliance.audit.room import Room
from appliance.audit.writer import Writer
from appliance.config import Config, Places
from appliance.errors import LedgerDamagedError, LedgerUnavailableError
from appliance.keys.opening import memory_of, open_keys
from appliance.watchdog.loops import TURNS_PER_LIMIT, Watchdog
from media.clock import SystemClock
from media.errors import SealiftError

CHECKPOINT_SECONDS: Final = 3600.0
# How soon a lost connection is noticed when nobody writes; a server ends sessions that are silent for a minute.
PULSE_SECONDS: Final = 5.0
ROOM_SECONDS: Final = 40.0
_BACKLOG: Final = 1024
_log = logging.getLogger("sealift.ledger")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM; return the exit code."""
    unit.begin()
    parser = argparse.ArgumentParser(prog="sealift-ledger", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stderr)
    ending = unit.Ending()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _set(ending))
    try:
        return _serve(configuration.load(options.config), ending)
    except SealiftError as error:
        _log.error("%s (%s) %s", error.what, error.why, error.fix)
        unit.notify(f"STATUS={error.code}")
        return error.exit_code


def _set(ending: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handle(_number: int, _frame: FrameType | None) -> None:
        ending.set()

    return handle


def _serve(config: Config, ending: threading.Event) -> int:
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        ending.set()

    keys, room = open_keys(config), Room.of(config)
    if room is not None:
        _await_room(room, ending)
    with open_log(config, keys=keys, clock=SystemClock(), memory=memory_of(keys)) as log:
        if room is not None:
            log.standing = lambda: room.standing().to_json()
        writer = Writer(log, on_failure=fail, room=room)
        doors = Doors(unit.listening_sockets() or _listen(config.at), log=log, writer=writer)
        writer.start()
        _cosign(log, writer)
        doors.start()
        cycles.search_seldom()
        watchdog = _watchdog(writer, doors)
        watchdog.start()
        unit.notify("READY=1")
        _log.info("ready: %s, %d leaves", log.origin, log.head().size)
        signed = time.monotonic()
        while not ending.wait(PULSE_SECONDS):
            _feel(log, fail)
            writer.submit((), lambda _: None)  # it looks at the disk when nobody writes, too
            if time.monotonic() - signed >= CHECKPOINT_SECONDS:
                _sign(log)
                _cosign(log, writer)
                signed = time.monotonic()
        unit.notify("STOPPING=1")
        watchdog.stop()
        doors.stop()
        writer.stop()
        if failed.is_set():
            _log.error("a write or sync failed, or the database went away: ending, so that the ledger is opened anew")
            # Not even SQLite's own closing may touch the file: it would trust pages that a failed sync lost.
            os._exit(LedgerUnavailableError.exit_code)
        _sign(log)
    return 0


def _await_room(room: Room, ending: threading.Event) -> None:
    """Wait on a disk without any room, longer than the unit's burst of restarts, so that hours do not end them."""
    patience = time.monotonic() + ROOM_SECONDS
    while not room.prepare() and time.monotonic() < patience:
        unit.notify("STATUS=the disk is full")
        if ending.wait(1.0):
            return


def _watchdog(writer: Writer, doors: Doors) -> Watchdog:
    """Alive means that records come through the writer and the doors' loop turns; see `appliance.watchdog.loops`."""
    limit = unit.watchdog_seconds()
    patience = limit / TURNS_PER_LIMIT
    probes = {"writer": lambda: writer.turns(patience), "doors": lambda: doors.pulse.within(patience)}
    return Watchdog(probes, limit_seconds=limit)


def _feel(log: Log, fail: Callable[[], None]) -> None:
    with suppress(LedgerUnavailableError, LedgerDamagedError):
        if log.pulse():
            _log.info("%s leads from now on", log.node)
    if log.backend.failed:
        fail()


def _sign(log: Log) -> None:
    try:
        log.checkpoint()
    except LedgerUnavailableError as error:
        _log.warning("no checkpoint: %s", error.why)


def _cosign(log: Log, writer: Writer) -> None:
    """Record a checkpoint with the second signature when a day has passed."""
    try:
        entry = cosigning.due(log, SystemClock())
    except LedgerUnavailableError as error:
        _log.warning("no second signature: %s", error.why)
        return
    if entry is not None:
        writer.append([entry])


def _listen(places: Places) -> Mapping[str, socket.socket]:
    places.run.mkdir(parents=True, exist_ok=True)
    return {door: unit.listening_at(places.socket(door), backlog=_BACKLOG) for door in DOORS}


if __name__ == "__main__":
    sys.exit(main())
