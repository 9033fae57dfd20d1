"""The job service's process: the only one of root that listens, to typed jobs alone.

Entry point: ``python -I -m appliance.install.jobservice --config FILE``. Sockets come from the supervisor by name. It
opens no file that an asker names and runs no command of theirs: it checks digits against what this machine holds, and
starts or stops the unit that belongs to them. After an install, and idle, it ends, so that its next start is the new
release's, and reads a changed site file. It also starts what systemd gave up (`appliance.install.givenup`).
"""

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from appliance import config as configuration
from appliance import unit, wire
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import Config
from appliance.errors import UnitError
from appliance.install.engines import open_linked
from appliance.install.givenup import GivenUp, Systemctl
from appliance.install.jobaskers import Askers, shown_here
from appliance.install.jobdesk import JobDesk
from appliance.install.jobrights import DOORS
from appliance.install.supervisor import is_booted_box, open_supervisor
from appliance.install.trial import Trials
from appliance.watchdog import loops as loop_watch
from media.errors import SealiftError

_LONGEST_SECONDS: Final = 6 * 3600
_LOOK_SECONDS: Final = 2.0
_IDLE_LOOKS: Final = 8
_CARE_SECONDS: Final = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, or until another release or site file is in use; returns the exit code."""
    unit.begin()
    parser = argparse.ArgumentParser(prog="sealift-jobs")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    options = parser.parse_args(arguments)
    done = unit.Ending()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    try:
        config = configuration.load(options.config)
        ledger = SocketLedger(config.at.socket("ledger-actions"))
        desk = JobDesk(
            config,
            ledger,
            supervisor=open_linked(config),
            runner=open_supervisor(config, start_seconds=_LONGEST_SECONDS),
            # A promotion brings a changed number of engines into force; this service goes on as it was started.
            read=partial(configuration.load, options.config),
            askers=Askers(ledger.introduced, shown=shown_here()),
        )
        doors = unit.listening_sockets()
        if set(doors) != set(DOORS):
            raise UnitError(
                what="the job service lacks a door",
                why=", ".join(sorted(set(DOORS) - set(doors))),
                fix="check its unit",
            )
        loops = loop_watch.Doors(doors)
        wire.serve(doors, desk, on_turn=loops.turned)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    looks = loop_watch.Pulse()
    watchdog = _watchdog(desk, loops, looks)
    watchdog.start()
    unit.notify("READY=1")
    # Closes windows that were cut off, from the start on; bringing production back takes as long as a model loads.
    _keep_looking("windows", desk.look_after_windows, done)
    if is_booted_box(config):
        given_up = GivenUp(Systemctl(), may_start_engines=lambda: not desk.keeps_production_down)
        _keep_looking("units", partial(_start_again, given_up), done)
    began = _in_use(config)
    idle_looks = 0
    while not done.wait(_LOOK_SECONDS):
        looks.beat()
        # A while longer than the last job, so that whoever waits for it sees how it ended.
        idle_looks = idle_looks + 1 if desk.is_idle else 0
        if config.places.root == "/" and _in_use(config) != began and idle_looks >= _IDLE_LOOKS:
            break
    watchdog.stop()
    unit.notify("STOPPING=1")
    return 0


def _watchdog(desk: JobDesk, doors: loop_watch.Doors, looks: loop_watch.Pulse) -> loop_watch.Watchdog:
    """Alive means that a job would be taken at each door, and that the look for a new release turns."""
    limit = unit.watchdog_seconds()
    patience = limit / loop_watch.TURNS_PER_LIMIT
    probes = {
        "desk": lambda: desk.turns(patience),
        "doors": lambda: doors.turn(patience),
        "look": lambda: looks.within(patience),
    }
    return loop_watch.Watchdog(probes, limit_seconds=limit)


def _keep_looking(name: str, look: Callable[[], object], done: threading.Event) -> None:
    """Look again and again, in a thread of its own: a look may take long, and what is asked meanwhile has its turn."""
    threading.Thread(target=_look_until, args=(name, look, done), daemon=True).start()


def _look_until(name: str, look: Callable[[], object], done: threading.Event) -> None:
    while not done.is_set():
        try:
            look()
        except Exception as error:  # noqa: BLE001 - whatever broke one look, the next mends it; no text is told
            sys.stderr.write(f"the look after {name} failed ({type(error).__name__})\n")
        done.wait(_CARE_SECONDS)


def _start_again(given_up: GivenUp) -> None:
    for one in given_up.look():
        sys.stderr.write(f"{one.name} was given up ({one.result.ending}) and is started again\n")


def _in_use(config: Config) -> tuple[str, bytes | None]:
    """Return the release in use, and the site file with which the last install ended well."""
    settings = Trials(config.at).settings()
    try:
        return str(config.at.current.readlink()), settings
    except OSError:
        return "", settings


if __name__ == "__main__":
    raise SystemExit(main())
