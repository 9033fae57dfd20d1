"""The review store's process: three doors, one folder.

Entry point: ``python -I -m appliance.actions.retention.service --config FILE``. It alone holds the key `retention`
while the service runs, so that a gateway that is taken over cannot read what it handed in. Sockets come from the
supervisor by name, else they are made below the run folder.
"""

import argparse
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from appliance import config as configuration
from appliance import unit, wire
from appliance.actions.retention.reviewdesk import ADMIN_DOOR, DOORS, GATEWAY_DOOR, OPERATOR_DOOR, ReviewDesk
from appliance.actions.retention.reviewstore import ReviewStore
from appliance.audit.rights import ACTIONS, require_is_one_of
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import Config
from appliance.keys.opening import open_keys
from appliance.timekeeping.believed import BelievedClock
from appliance.watchdog import loops as loop_watch
from appliance.watchdog.leaving import leave
from appliance.wire import Handler, Peer
from media.errors import SealiftError

_ACCOUNTS: Final = {GATEWAY_DOOR: "sealift-gateway", ADMIN_DOOR: "sealift-admin"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; return the exit code."""
    unit.begin()
    parser = argparse.ArgumentParser(prog="sealift-review")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    options = parser.parse_args(arguments)
    done = unit.Ending()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    try:
        config = configuration.load(options.config)
        # Samples last by the time that is believed: a clock that jumped neither ends them nor makes them ended.
        clock = BelievedClock.of(config)
        store = ReviewStore(config.at.review, keys=open_keys(config), clock=clock)
        store.tidy()
        ledger = SocketLedger(config.at.socket(ACTIONS))
        desk = ReviewDesk(store, ledger, policy=config.review, clock=clock)
        doors = _doors(config)
        loops = loop_watch.Doors(doors)
        wire.serve(doors, guarded(desk), on_turn=loops.turned)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}\n")
        return error.exit_code
    limit = unit.watchdog_seconds()
    patience = limit / loop_watch.TURNS_PER_LIMIT
    probes = {"desk": lambda: desk.turns(patience), "doors": lambda: loops.turn(patience)}
    watchdog = loop_watch.Watchdog(probes, limit_seconds=limit)
    watchdog.start()
    unit.notify("READY=1")
    done.wait()
    watchdog.stop()
    unit.notify("STOPPING=1")
    return 0


def guarded(desk: ReviewDesk) -> Handler:
    """Return the desk behind a check of who stands at which door, as the kernel says, besides the sockets' modes."""

    def answer(peer: Peer, untrusted: Mapping[str, Any]) -> Mapping[str, Any]:
        require_is_one_of(peer, account=_ACCOUNTS.get(peer.door, ""), operators=peer.door == OPERATOR_DOOR)
        return desk(peer, untrusted)

    return answer


def _doors(config: Config) -> dict[str, socket.socket]:
    passed = unit.listening_sockets()
    return {door: passed.get(door) or unit.listening_at(config.at.socket(door)) for door in DOORS}


if __name__ == "__main__":
    leave(main())
