"""Whether this machine can do what it is for: disks, memory, processor, GPU, clock, network, names, modes, services.

Each finding says what was found, why it matters and what helps; some can be mended by `appliance.actions.mend`.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from appliance.actions import (
    alerting,
    census,
    censusnodes,
    disk_cipher,
    disk_encryption,
    doctor_engines,
    doctor_machine,
    doctor_services,
    doctor_speeds,
    doctor_updates,
    forwarding,
    ledger_room,
    nodes,
    tls_clients_standing,
    tls_standing,
)
from appliance.actions import clock as clock_action
from appliance.actions.backups import aside, erasures
from appliance.actions.databases import certificates
from appliance.actions.findings import Finding
from appliance.actions.retention import overdue
from appliance.actions.standby import drilling, voting
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.install.releases import InstalledReleases
from appliance.install.supervisor import Supervisor
from appliance.promote.folder import PromoterFolder
from appliance.registry import carriers
from appliance.store.content import ContentStore, StoredRelease
from appliance.store.kept_small import signed_terms
from appliance.timekeeping.believed import BelievedClock
from appliance.verify.fit import Machine, require_fit
from media.clock import Clock
from media.errors import SealiftError

__all__ = ["Finding", "doctor"]


def doctor(
    config: Config, *, clock: Clock, supervisor: Supervisor | None = None, ledger: Ledger | None = None
) -> tuple[list[Finding], Machine]:
    """Look at everything; returns the findings and the machine's facts, which a sender may ask for.

    Args:
        config: The site file.
        clock: What time it is.
        supervisor: Knows the units; found here when absent.
        ledger: What was done when; without it nothing is said of that.
    """
    machine = Machine.probe(config.profile)
    looks: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: doctor_machine.room(config),
        lambda: doctor_machine.disk_speed(config),
        lambda: doctor_speeds.reading(config),
        lambda: doctor_machine.file_systems(config),
        lambda: disk_encryption.encryption(config),
        lambda: disk_cipher.cipher(config),
        lambda: _memory(config),
        lambda: _clock(config, clock),
        lambda: _fit(config, machine),
        lambda: doctor_machine.gpu(config, machine),
        lambda: doctor_engines.packages(config),
        lambda: doctor_engines.processor(config),
        lambda: doctor_engines.units(config),
        lambda: _names(config),
        lambda: _model_names(config),
        lambda: tls_standing.findings(config, clock=clock),
        lambda: tls_clients_standing.findings(config, clock=clock),
        lambda: doctor_machine.addresses(config, clock=clock),
        lambda: doctor_machine.cards(config),
        lambda: doctor_speeds.card_speed(config),
        lambda: doctor_speeds.times(config),
        lambda: doctor_services.folders(config),
        lambda: doctor_services.keys(config),
        lambda: _put_aside(config, ledger, BelievedClock(config.at, clock)),
        lambda: doctor_services.sockets(config),
        lambda: doctor_services.spool(config),
        lambda: ledger_room.findings(config),
        lambda: nodes.findings(config),
        lambda: forwarding.findings(config, clock=clock),
        lambda: certificates.findings(config, clock=clock),
        lambda: _retention(config, ledger, BelievedClock(config.at, clock)),
        lambda: _failover(config, ledger, clock),
        lambda: voting.findings(config),
        lambda: _census(config, ledger, BelievedClock(config.at, clock)),
        lambda: doctor_services.units(config, supervisor, ledger=ledger, clock=clock),
        lambda: doctor_updates.services(config),
        lambda: doctor_updates.boot(config),
        lambda: alerting.findings(config, supervisor),
        _tools,
    )
    return [finding for look in looks for finding in look()], machine


def _retention(config: Config, ledger: Ledger | None, clock: Clock) -> Iterator[Finding]:
    if ledger is not None:
        with suppress(SealiftError):  # that the ledger is away is another finding
            yield from overdue.findings(ledger, clock, node=config.database.node)


def _census(config: Config, ledger: Ledger | None, clock: Clock) -> Iterator[Finding]:
    if ledger is not None:
        with suppress(SealiftError):  # as above
            single = partial(census.finding, config, ledger, clock)
            yield censusnodes.finding(config, ledger, single) if config.database.node else single()


def _failover(config: Config, ledger: Ledger | None, clock: Clock) -> Iterator[Finding]:
    if ledger is not None:
        with suppress(SealiftError):  # as above
            yield from drilling.findings(config, ledger, clock)


def _put_aside(config: Config, ledger: Ledger | None, clock: Clock) -> Iterator[Finding]:
    gone: frozenset[str] = frozenset()
    if ledger is not None:
        with suppress(SealiftError):  # as above
            gone = erasures.recorded(ledger)
    yield from aside.findings(config.at, clock=clock, gone=gone)


def _memory(config: Config) -> Iterator[Finding]:
    weights, named = None, []
    with suppress(SealiftError):
        for line in PromoterFolder(config.at.promoter).production().serving:
            _, descriptor, _ = carriers.carrier(ContentStore(config.at.store), str(line.current))
            weights = (weights or 0) + descriptor.weights_bytes
            named.append(f"{descriptor.name} {descriptor.version}")
    yield from doctor_machine.memory(weights, context=" and ".join(named))


def _clock(config: Config, clock: Clock) -> Iterator[Finding]:
    yield clock_action.finding(config, clock=clock)
    if people := clock_action.correctors(config):
        yield people


def _fit(config: Config, machine: Machine) -> Iterator[Finding]:
    stored = _release_to_judge(config)
    if stored is None:
        return
    try:
        terms, _ = signed_terms(stored)
        target = require_fit(terms, machine)
        yield Finding(name="processor", is_good=True, text=f"fits {stored.release} ({target.profile})")
    except SealiftError as error:
        yield Finding(name="processor", is_good=False, text=error.why or error.what, fix=error.fix)
    except (OSError, KeyError, TypeError):
        yield Finding(
            name="processor", is_good=False, text="the stored release's terms cannot be read", fix="receive it again"
        )


def _release_to_judge(config: Config) -> StoredRelease | None:
    store, current = ContentStore(config.at.store), InstalledReleases(config.at).current()
    try:
        if current is not None:
            return StoredRelease.load(store, current.serial)
        held = store.releases()
        return held[-1] if held else None
    except SealiftError:
        return None


def _names(config: Config) -> Iterator[Finding]:
    is_loopback = config.service.host in {"127.0.0.1", "::1", "localhost"}
    yield Finding(
        name="bind address",
        is_good=is_loopback,
        text=config.service.host,
        why="whoever reaches that address would speak to the gateway without TLS",
        fix="bind to loopback; the web server in front speaks to the network, with TLS",
    )
    if config.environment == "production":
        yield Finding(
            name="tls",
            is_good=config.service.tls,
            text="on" if config.service.tls else "off",
            why="prompts and keys would cross the network readable",
            fix="set service.tls",
        )


def _model_names(config: Config) -> Iterator[Finding]:
    """Say which names of models.aliases a stored model has; nothing without any, or where the store may not be read."""
    store = ContentStore(config.at.store)
    known: set[str] = set()
    if not config.models.aliases or not os.access(config.at.store, os.R_OK | os.X_OK):
        return
    with suppress(SealiftError, OSError):  # that the store does not read is another finding
        for stored in store.releases():
            known |= {one.descriptor.name for one in carriers.described(stored) if isinstance(one, carriers.Brought)}
    found = sorted(filter(None, map(config.models.taken_by, known)))
    yield Finding(
        name="model names",
        is_good=None if found else True,
        text=" ".join(found) or "no model that was received has a name of models.aliases",
        why="a model that serves comes before an alias of its name, so callers of the alias get another model",
        fix="give the alias another name in the site file, or leave it out",
    )


def _tools() -> Iterator[Finding]:
    missing = [name for name in ("gpgv",) if shutil.which(name) is None]
    yield Finding(
        name="tools",
        is_good=not missing,
        text=f"missing: {', '.join(missing)}" if missing else "gpgv is there",
        fix="install Debian's package gpgv",
    )
