"""What runs here, in one look: release, production, units, ledger, clock, egress. Every part is asked on its own.

A part that cannot be asked says why in its place; the others are still shown.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from appliance.actions import (
    censusnodes,
    filesystems,
    nettest,
    nodes,
    packetfilter,
    scrub,
    statusproduction,
    statusretired,
    teststage,
    units,
)
from appliance.actions import clock as clock_action
from appliance.actions.backups import standing
from appliance.actions.statusledger import StatusLedger
from appliance.actions.statuspart import Part
from appliance.audit.client import SocketLedger
from appliance.audit.postgres_opening import has_writer
from appliance.config import Config
from appliance.errors import LedgerUnavailableError, UnitError
from appliance.install import oneshots
from appliance.install.releases import InstalledReleases
from appliance.install.supervisor import Supervisor, UnitState, engine_of, open_supervisor
from appliance.install.trial import Trials
from appliance.install.unit_result import SYNC, result_of
from appliance.promote import breakglass
from appliance.promote.folder import PromoterFolder
from appliance.promote.reviews import open_reviews, stopped_callers
from appliance.registry import windows
from appliance.standby import pairing
from appliance.state.database import FILE_NAME, open_state
from appliance.store.content import ContentStore
from appliance.timekeeping.believed import BelievedClock
from media.clock import Clock, to_text
from media.errors import SealiftError

_LEASE: Final = "sealift-standby.service"
# Wanted with the metrics, and kept by its own condition where the machine has no card.
_CARDS: Final = "sealift-gpus.service"
_AT_WORK: Final = frozenset({UnitState.ACTIVE, UnitState.STARTING, UnitState.STOPPING})
_AT_REST: Final = frozenset({UnitState.INACTIVE, UnitState.STOPPING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """All parts."""

    parts: tuple[Part, ...]

    def part(self, name: str) -> Part:
        """Return one part by its name; it is always there."""
        return next(part for part in self.parts if part.name == name)

    def to_json(self) -> dict[str, Any]:
        """Return the parts by name."""
        return {part.name: {"good": part.is_good, "text": part.text, **part.fields} for part in self.parts}


def status(config: Config, *, clock: Clock, supervisor: Supervisor | None = None) -> Status:
    """Ask every part; never raises for one that is down."""
    ledger = StatusLedger(config, clock=clock)
    asked: dict[str, Callable[[], Part]] = {
        "release": lambda: _release(config),
        "production": lambda: statusproduction.production(config, ledger),
        "rollout": lambda: statusproduction.rollout(config, ledger),
        "window": lambda: _window(clock, ledger),
        **({"census": lambda: _census(config, ledger)} if config.database.node else {}),
        "test stage": lambda: _test_stage(config, supervisor or open_supervisor(config)),
        "reviews": lambda: reviews(config, clock, ledger),
        "units": lambda: _units(config, supervisor or open_supervisor(config), ledger),
        "addresses": lambda: _addresses(config),
        "store": lambda: _store(config, clock),
        "disks": lambda: _disks(config),
        "ledger": lambda: _ledger(config, ledger),
        "backup": lambda: _backup(config, clock, ledger),
        "clock": lambda: _clock(config, clock),
        "egress": lambda: _egress(config),
    }
    try:
        retired = statusretired.standing(config, ledger)
        parts = tuple(_part(name, ask) for name, ask in asked.items())
        return Status(parts=parts if retired is None else (retired, *parts))
    finally:
        ledger.close()


def _part(name: str, ask: Callable[[], Part]) -> Part:
    try:
        return ask()
    except SealiftError as error:
        return Part(name=name, is_good=False, text=error.what, fields={"why": error.why, "fix": error.fix})
    except PermissionError:
        # An operator sees what an operator may; that says nothing of the part.
        return Part(name=name, is_good=None, text="this user may not look", fields={})


def _release(config: Config) -> Part:
    current = InstalledReleases(config.at).current()
    stored = [{"serial": one.serial, "release": one.release} for one in ContentStore(config.at.store).releases()]
    fields: dict[str, Any] = {"stored": stored}
    if current is None:
        return Part(name="release", is_good=False, text=f"none installed, {len(stored)} stored", fields=fields)
    fields |= {"serial": current.serial, "release": current.release}
    if (returned := Trials(config.at).last_return()) is not None:
        left = "a changed site file" if returned.is_of_site_file else returned.release
        text = f"{current.release}, serial {current.serial}; went back from {left}: {returned.why}"
        return Part(name="release", is_good=False, text=text, fields=fields | {"returned": returned.to_json()})
    return Part(
        name="release",
        is_good=True,
        text=f"{current.release}, serial {current.serial}, {len(stored)} stored",
        fields=fields,
    )


def _store(config: Config, clock: Clock) -> Part:
    found = scrub.standing(config, clock=clock)
    return Part(name="store", is_good=found.is_good, text=found.text, fields=found.fields)


def _disks(config: Config) -> Part:
    found = filesystems.file_systems(config)
    full = [one.place for one in found if one.is_full]
    text = ", ".join(f"{one.place} {one.free / 2**30:.1f} GiB" for one in found) + " free"
    return Part(
        name="disks",
        is_good=not full,
        text=f"full: {', '.join(full)}; {text}" if full else text,
        fields={"free": {one.place: one.free for one in found}, "full": full},
    )


def _window(clock: Clock, asked: StatusLedger) -> Part:
    found = windows.opened(asked.ask())
    if found is None:
        return Part(name="window", is_good=None, text="no maintenance window is open", fields={"open": None})
    is_over = found.seconds_left(clock.now()) == 0
    text = (
        f"production rests{found.where} until {found.until}{', which is over' if is_over else ''}: {found.purpose} of"
        f" {found.model_digest[:12]}, by {found.person}: {found.reason}"
    )
    return Part(name="window", is_good=not is_over, text=text, fields={"open": found.to_json()})


def _census(config: Config, asked: StatusLedger) -> Part:
    is_good, text = censusnodes.standing(asked.ask(), config.database.node)
    return Part(name="census", is_good=is_good, text=text, fields={})


def _test_stage(config: Config, supervisor: Supervisor) -> Part:
    name, places = "test stage", config.at
    file = places.registry / FILE_NAME
    if places.server is None and not file.exists():
        return Part(name=name, is_good=None, text="nothing is loaded", fields={"loaded": []})
    if places.server is None and not os.access(file, os.R_OK):
        raise PermissionError
    state = open_state(places, read_only=True)
    try:
        found = teststage.loaded(state, supervisor)
    except SQLAlchemyError as error:  # after an upgrade, before anybody brought its schema up
        return Part(name=name, is_good=None, text="the state cannot be read", fields={"why": type(error).__name__})
    finally:
        state.dispose()
    down = [one for one in found if not one.runs]
    words = [f"{one.version.name} {one.version.version}{'' if one.runs else ' (not running)'}" for one in found]
    text = ", ".join(words) or "nothing is loaded"
    if down:
        text += f"; load again: sealift stage load {down[0].version.model_digest[:12]} --as PERSON"
    fields = {"loaded": [one.to_json() for one in found]}
    return Part(name=name, is_good=not down if found else None, text=text, fields=fields)


def reviews(config: Config, clock: Clock, asked: StatusLedger) -> Part:
    """Say what one person did alone and nobody looked at yet, and which emergency access runs."""
    ledger = asked.ask()
    given = breakglass.running(ledger, BelievedClock(config.at, clock).now())
    found = open_reviews(ledger)
    stopped = sorted(" ".join(caller) for caller in stopped_callers(ledger))
    words = [f"{one.person} {one.what} at {one.sequence}" for one in found]
    text = f"to be looked at by a second person: {'; '.join(words)}" if words else "nothing waits for a second person"
    text += f"; stopped: {', '.join(stopped)}" if stopped else ""
    # Whether or not somebody has looked at it: a key is out while it runs (BRK-3).
    text = "; ".join([*(f"emergency access {one.number} of {one.department} until {one.ends}" for one in given), text])
    fields = {
        "open": [one.to_json() for one in found],
        "stopped": stopped,
        "emergencies": [one.to_json() for one in given],
    }
    return Part(name="reviews", is_good=False if found or given else None, text=text, fields=fields)


def _units(config: Config, supervisor: Supervisor, asked: StatusLedger) -> Part:
    is_paired = bool(config.standby.listen) and pairing.is_any(config.at)
    # Work that is done rests, and while it is done systemd calls it "activating"; where no other box is named, or none
    # introduced, the lease has no work.
    found = tuple(
        one
        for one in supervisor.units()
        if one.state is not UnitState.INACTIVE
        or not (oneshots.is_one(one.name) or one.name == _CARDS or (one.name == _LEASE and not is_paired))
    )
    lines = _stopped_lines(config)
    idle = ((one.name, engine_of(one.name)) for one in found if one.state in _AT_REST)
    stopped = {name: lines[of[1]] for name, of in idle if of and of[0] == "production" and of[1] in lines}
    every, found = found, tuple(one for one in found if one.name not in stopped)
    down = [
        one.name for one in found if one.state not in (_AT_WORK if oneshots.is_one(one.name) else {UnitState.ACTIVE})
    ]
    said = [f"{name} ({why})" if (why := _why(config, name)) else name for name in down]
    text = f"{len(found) - len(down)} of {len(found)} run" + (f"; not: {', '.join(said)}" if down else "")
    text += "".join(f"; {name} rests: people stopped line {line}" for name, line in stopped.items())
    silent = statusproduction.silent(config, found, asked) if found else ()
    text += "".join(
        f"; the engine of {one[:12]} does not run: sealift promote {one[:12]} --as PERSON" for one in silent
    )
    return Part(
        name="units",
        is_good=bool(found) and not down and not silent,
        text=text if found else "none are loaded",
        fields={"units": {one.name: str(one.state) for one in every}},
    )


def _stopped_lines(config: Config) -> dict[str, int]:
    """Return by its first twelve digits what each stopped line of several served: people stopped it, so it rests.

    Where one line alone was ever opened its engine is told as it always was.
    """
    try:
        production = PromoterFolder(config.at.promoter).production()
    except (SealiftError, OSError):  # the part of production says so
        return {}
    stopped = [line for line in production.lines.values() if line.current is None and line.newest is not None]
    return {(line.newest or "")[:12]: line.number for line in stopped if production.has_further}


def _why(config: Config, unit: str) -> str:
    """Return what a unit that did not do its work has to say of another box; nothing of any other."""
    return result_of(config, unit).why if unit == SYNC else ""


def _addresses(config: Config) -> Part:
    if config.service.tls:
        name = config.service.hostname
        found = {"gateway": f"https://{name}", "test": f"https://{name}/test", "admin": f"https://{name}:8443"}
    else:
        try:
            found = units.addresses(config)
        except UnitError:
            found = {}
    text = ", ".join(f"{door} {address}" for door, address in found.items()) or "none"
    return Part(name="addresses", is_good=None, text=text, fields=found)


def _ledger(config: Config, asked: StatusLedger) -> Part:
    ledger = asked.ask()
    head = ledger.head()
    is_live = isinstance(ledger, SocketLedger)
    compared = nodes.keys(config, ledger)
    # A node that waits is as it should be: it goes on when the one that records ends.
    try:
        among, found = nodes.said(config)
    except LedgerUnavailableError:
        if not is_live:
            raise
        among, found = f"node {config.database.node}; who asks may not ask the database server for the others", []
    waits = not is_live and not found and config.at.server is not None and has_writer(config.at)
    text = f"{head.size} records, root {head.root[:12]}" + (f"; {among}" if among else "")
    other_keys = "" if compared is None else compared.text
    text += f"; keys: {other_keys}" if other_keys else ""
    if waits:
        text += "; another node records, this one waits to take over"
    elif not is_live:
        text += f"; read from its {'file' if config.at.server is None else 'server'}, nothing is recorded"
    return Part(
        name="ledger",
        is_good=None if waits else is_live and not other_keys,
        text=text,
        fields={
            "origin": head.origin,
            "size": head.size,
            "root": head.root,
            "live": is_live,
            "waits": waits,
            "nodes": {one.name: one.leads for one in found},
            **({"other_keys": other_keys} if other_keys else {}),
        },
    )


def _backup(config: Config, clock: Clock, asked: StatusLedger) -> Part:
    found = standing.standing(config, asked.ask_as_actions(), clock=clock)
    drilled = f"drilled {found.drilled_at}" if found.drilled_at else "never drilled"
    text = "; ".join(filter(None, (*(found.faults or (f"newest of {found.made_at}, {drilled}",)), found.past)))
    # A demo has nothing to lose.
    is_good = None if found.faults and config.environment != "production" else not found.faults
    return Part(name="backup", is_good=is_good, text=text, fields=found.to_json())


def _clock(config: Config, clock: Clock) -> Part:
    found = clock_action.standing(config, clock=clock)
    text = f"{to_text(found.shown)}, {found.verdict or 'watched by nobody'}"
    if found.is_good is False:
        text += f"; decisions rest on {to_text(found.believed)}: see `sealift clock show`"
    return Part(name="clock", is_good=found.is_good, text=text, fields=found.to_json())


def _egress(config: Config) -> Part:
    if config.places.root != "/":
        return Part(name="egress", is_good=None, text="not enforced below a folder", fields={"enforced": False})
    if os.geteuid() != 0:
        raise PermissionError  # the kernel shows its rules to root alone
    try:
        found = packetfilter.loaded()
    except UnitError as error:
        return Part(name="egress", is_good=False, text=error.what, fields={"enforced": False, "why": error.why})
    if wrong := [f"{one.name}: {one.text}" for one in nettest.rules(config, found) if not one.holds]:
        fields = {"enforced": False, "why": "; ".join(wrong)}
        return Part(name="egress", is_good=False, text=f"not as the site file says; {fields['why']}", fields=fields)
    packets = found.counters.get("egress_refused", 0)
    text = "enforced" + (f"; {packets} packets were refused" if packets else "; nothing tried to leave")
    return Part(name="egress", is_good=True, text=text, fields={"enforced": True, "refused_packets": packets})
