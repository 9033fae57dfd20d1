"""The process between boxes: keeps the lease, and takes in bundles that the other box sends.

Entry point: ``python -I -m appliance.standby.service --config FILE``. It holds the key of the channel and no other: it
signs nothing for the ledger, and what it takes in lies untouched until root's timer proves it.
"""

import argparse
import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from appliance import config as configuration
from appliance import unit, wire
from appliance.audit.rights import ACTIONS
from appliance.audit.socket_ledger import SocketLedger
from appliance.config import Config
from appliance.errors import ConfigError
from appliance.standby import announcing, channel, kept, permit, voters
from appliance.standby.address import InterfaceAddress, NoAddress, ServiceAddress
from appliance.standby.inbox import Inbox
from appliance.standby.keeper import Keeper, Voters
from appliance.standby.lease import ITSELF, Kept, Lease, Rules
from appliance.standby.pairing import Paired, paired, require_paired
from appliance.standby.peers import Listener, PeerLine
from appliance.standby.whole import Whole
from appliance.watchdog.loops import Watchdog
from media.errors import SealiftError

DOOR: Final = "lease"
_OWN_DOOR_MODE: Final = 0o600
_IP_FREEBIND: Final = 15  # ip(7), of both families; Python has no name for it


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; returns the exit code."""
    unit.begin()
    parser = argparse.ArgumentParser(prog="sealift-standby")
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT_PATH)
    parser.add_argument("--give-up", action="store_true", help="take permit and service address away, and end")
    options = parser.parse_args(arguments)
    done = unit.Ending()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    try:
        config = configuration.load(options.config)
        if options.give_up:
            permit.take_away(permit.folder_of(config.at))
            voters.take_away(permit.folder_of(config.at))
            _address(config).take_away()
            return 0
        at_work, listener = _start(config)
    except SealiftError as error:
        sys.stderr.write(f"{error.what}: {error.why}; {error.fix}\n")
        return error.exit_code
    limit = unit.watchdog_seconds()
    watchdog = Watchdog({"lease": lambda: at_work.pulse.within(limit / 2)}, limit_seconds=limit)
    watchdog.start()
    unit.notify("READY=1")
    done.wait()
    watchdog.stop()
    unit.notify("STOPPING=1")
    at_work.stop()
    listener.close()
    return 0


def rules_of(config: Config) -> Rules:
    """Return what the site file says of the lease. A witness names no witness: it only grants, two of three with it."""
    section = config.standby
    return Rules(
        seconds=float(section.lease_seconds),
        witness=section.witness if section.peer else ITSELF,
        automatic=section.automatic,
    )


def _start(config: Config) -> tuple[Keeper, Listener]:
    section, places = config.standby, config.at
    known = paired(places)
    if not section.listen or not known:
        raise ConfigError(
            what="standby.listen: nothing to listen on, or no box is paired",
            why="the boxes find each other by the site file and the pairing",
            fix="see docs/operator/standby.md",
        )
    state, run = unit.directory("STATE"), permit.folder_of(places)
    own = _own_key(config)
    others = _others(config, own)
    ledger = SocketLedger(places.socket(ACTIONS), timeout_seconds=5.0)
    whole = Whole(state, section.peer, ledger) if section.lease and section.peer in others else None
    at_work = Keeper(
        _lease(config, known[0].own.name, state, run, whole),
        state=state,
        run=run,
        known=Voters(
            others=others,
            candidates=frozenset([section.peer] if section.lease else [one.peer.name for one in known]),
            serves=section.lease,
            whole=whole,
        ),
        address=_address(config),
        record=ledger.append,
    )
    inbox = Inbox(state / "inbox")

    def handle(peer: str, untrusted: Mapping[str, Any]) -> Mapping[str, Any]:
        return inbox.handle(peer, untrusted) if inbox.knows(untrusted) else at_work.handle(peer, untrusted)

    listener = Listener(
        listening(section.listen, section.port),
        own=own,
        known={one.peer.name: one.peer.channel for one in known},
        handler=handle,
    )
    wire.serve({DOOR: _door(config)}, lambda _, untrusted: at_work.command(untrusted))
    at_work.start()
    return at_work, listener


def _lease(config: Config, me: str, state: Path, run: Path, whole: Whole | None) -> Lease:
    now, rules = permit.boottime(), rules_of(config)
    known = kept.load(state)
    until, term = permit.read(run)
    # The permit lies in memory that a reboot empties: what it says is of this boot and this clock.
    lasts = until if term == known.term and known.holder == me and not known.alone else 0.0
    if not config.standby.lease and known.holder == me:
        known = Kept(term=known.term)  # it was taken out of service by the site file
    # Before the other box is heard nobody knows whether this disk is the one of before, and after a stop of any length
    # not whether people let that one serve meanwhile.
    is_known = whole is None or (term == known.term and now < until)
    return Lease(
        me=me,
        rules=rules,
        kept=known,
        started=now,
        until=lasts,
        run=secrets.token_hex(16),
        lost=whole is not None and bool(whole.why),
        unheard_until=0.0 if is_known else now + rules.surely_out,
    )


def _others(config: Config, own: Path) -> dict[str, PeerLine]:
    section = config.standby
    named = {section.peer: section.peer_address, section.witness: section.witness_address}
    return {
        name: _line(config, require_paired(config.at, name), address, own)
        for name, address in named.items()
        if name and address and section.lease
    }


def _line(config: Config, pair: Paired, address: str, own: Path) -> PeerLine:
    # A call that takes longer than a lease is worth nothing.
    return PeerLine(
        address,
        config.standby.port,
        own=own,
        name=pair.peer.name,
        certificate=pair.peer.channel,
        timeout_seconds=config.standby.lease_seconds / 2,
    )


def _address(config: Config) -> ServiceAddress:
    section = config.standby
    if section.service_address and section.interface:
        return InterfaceAddress(section.service_address, section.interface, announce=lambda: announcing.ask(config.at))
    return NoAddress()


def _own_key(config: Config) -> Path:
    passed = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return (Path(passed) if passed else config.at.key_files) / channel.KEY_FILE


def listening(address: str, port: int) -> socket.socket:
    """Return a socket that listens at an address, also before this machine has it: at a boot, the network may be late.

    Raises:
        ConfigError: The port is taken, or there is no such family of addresses here.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise _no_listener(error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listener.bind((address, port))
        listener.listen(16)
    except OSError as error:
        listener.close()
        raise _no_listener(error) from error
    return listener


def _no_listener(error: OSError) -> ConfigError:
    return ConfigError(
        what="standby.listen: it cannot be listened there, e.g. because the port is taken",
        why=error.strerror or "",
        fix="see docs/operator/standby.md",
    )


def _door(config: Config) -> socket.socket:
    passed = unit.listening_sockets().get(DOOR)
    return passed or unit.listening_at(config.at.socket(DOOR), mode=_OWN_DOOR_MODE, backlog=16)


if __name__ == "__main__":
    raise SystemExit(main())
