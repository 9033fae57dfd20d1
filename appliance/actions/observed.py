"""What an operator's monitoring sees of this box besides requests: numbers only, each under a name of a closed list.

Every part is asked on its own; one that cannot be asked is missing and is counted under `sealift_part_unreadable`, so
that silence is never taken for health. No content, nobody's name, and labels only from lists of ours.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from math import inf
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from appliance.actions import (
    censusnodes,
    filesystems,
    forwarding,
    ledger_room,
    nettest,
    rollout_observed,
    scrub,
    tls_clients_standing,
    tls_standing,
)
from appliance.actions.backups import making
from appliance.actions.backups.standing import standing as backups
from appliance.actions.recorded import RECEIVED
from appliance.actions.reports import overdue as reports
from appliance.actions.retention import overdue
from appliance.audit.facts import EVERY, Ledger
from appliance.audit.spool import REJECTED, Spool
from appliance.config import Config
from appliance.install.releases import InstalledReleases
from appliance.install.supervisor import Supervisor, UnitFacts, UnitState, engine_of, is_booted_box, which_of
from appliance.promote import breakglass
from appliance.promote.reviews import open_reviews
from appliance.registry.damaged import damaged
from appliance.standby import permit, voters
from appliance.state import lines
from appliance.state.database import open_state
from appliance.store.content import ContentStore
from appliance.store.scrubbed import ScrubState, reference
from appliance.timekeeping.believed import BelievedClock
from appliance.timekeeping.judging import age_of
from appliance.timekeeping.record import Verdict, published
from appliance.verify import trust
from appliance.verify.freshness import BUILT
from media.clock import Clock
from media.errors import SealiftError

_DAY: Final = 86400
_NOTHING: Final[Mapping[str, str]] = {}
FACTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "sealift_part_unreadable": ("1 when a part of these facts could not be read", ("part",)),
    "sealift_certificate_left_seconds": ("Until the web server's certificate ends", ()),
    "sealift_authority_left_seconds": ("Until the box's own certificate authority ends", ()),
    "sealift_revocation_list_left_seconds": (
        "Until the revocation list ends; only where callers show certificates",
        (),
    ),
    "sealift_client_certificate_left_seconds": (
        "Until the first application is refused whose certificate no later one follows; only where callers show them",
        (),
    ),
    "sealift_backup_present": ("1 when a backup was ever made", ()),
    "sealift_backup_age_seconds": ("Of the newest backup", ()),
    "sealift_backup_age_limit_seconds": ("backup.age_hours of the site file", ()),
    "sealift_drill_age_seconds": ("Since the last drill; where there was none, since the first backup", ()),
    "sealift_drill_age_limit_seconds": ("backup.drill_days of the site file", ()),
    "sealift_drill_failing": ("1 when no drill held since one that failed, in which its key was or was not used", ()),
    "sealift_scrub_age_seconds": ("Since the store was last proven, or since the last release came", ()),
    "sealift_scrub_age_limit_seconds": ("How old it may become", ()),
    "sealift_scrub_bad_objects": ("Found by the last scrub, or by the one that goes on", ()),
    "sealift_damaged_versions": ("Versions that the scrub marked as damaged; no caller is routed to them", ()),
    "sealift_ledger_records": ("Records in the ledger", ()),
    "sealift_ledger_last_append_timestamp_seconds": ("When the ledger last took a record", ()),
    "sealift_ledger_closing": ("1 when the ledger's disk is full, so that nothing new begins", ()),
    "sealift_ledger_reserve_bytes": ("Of the ledger's disk that is kept for closing things on a full one", ()),
    "sealift_ledger_reserve_wanted_bytes": ("How much should be kept", ()),
    "sealift_retention_age_seconds": ("Since what is due was last destroyed, or since the ledger began", ()),
    "sealift_retention_limit_seconds": ("How long ago that may be", ()),
    "sealift_report_waiting_seconds": ("Since the newest quarter ended that has no report; 0 where it has one", ()),
    "sealift_report_limit_seconds": ("How long a quarter may have none", ()),
    "sealift_emergency_access": ("Emergency access that runs now", ()),
    "sealift_review_waiting_seconds": (
        "Since the oldest deed of one person that nobody else looked at; 0 for none",
        (),
    ),
    "sealift_review_limit_seconds": ("How long such a deed may wait", ()),
    "sealift_siem_waiting_records": ("Records that wait for the site's collector; only where one is named", ()),
    "sealift_siem_behind_seconds": ("How long the oldest of them has waited", ()),
    "sealift_siem_silent_seconds": ("Since the forwarder last said how it stands", ()),
    "sealift_lease_voter_answers": (
        "1 when another voter of the lease answers this box: witness or other-box; only on a box of two",
        ("voter",),
    ),
    "sealift_census_other": ("1 when this node has not the list of names on record; only of several nodes", ()),
    "sealift_spool_files": ("Facts that wait for the ledger", ()),
    "sealift_spool_rejected_files": ("Facts that the ledger could not read", ()),
    "sealift_disk_size_bytes": ("Of the file system that a place of ours lies on", ("place",)),
    "sealift_disk_available_bytes": ("Free for our users there", ("place",)),
    "sealift_clock_ahead_of_floor_seconds": ("The machine's clock less the earliest time that can be true", ()),
    "sealift_network_test_failed": ("Checks of the network's self-test that do not hold", ()),
    "sealift_network_test_age_seconds": ("Since the network was last tested", ()),
    "sealift_network_packets_total": ("Packets that a rule of the packet filter counted", ("counter",)),
    "sealift_clock_believed": ("1 when decisions rest on the machine's clock, 0 when it is behind or jumped", ()),
    "sealift_clock_confirmed": ("1 when somebody answered for the clock since it was last in doubt", ()),
    "sealift_clock_confirmed_age_seconds": ("Since somebody last answered for the clock; endless where nobody did", ()),
    "sealift_clock_confirmed_age_limit_seconds": ("How long ago that may be where no time server sets the clock", ()),
    "sealift_time_servers": ("How many time servers the site file names", ()),
    "sealift_receipt_waiting_seconds": ("Since the oldest receive whose receipt was not exported; 0 for none", ()),
    "sealift_receipt_limit_seconds": ("How long a receipt may wait", ()),
    "sealift_release_serial": ("Of the installed release; 0 for none", ()),
    "sealift_production_info": ("What is promoted, by its digest; one for each line", ("digest",)),
    "sealift_production_count": ("How many versions are promoted: one for each line that serves", ()),
    "sealift_production_served": ("1 when an engine of a promoted version runs, by its digest", ("digest",)),
    "sealift_unit_up": ("1 when a unit of ours runs; engines by their stage", ("unit",)),
    **rollout_observed.FACTS,
    "sealift_concurrent_requests_limit": ("limits.concurrent_requests of the site file", ()),
}
"""Every name with its meaning and labels; nothing else is offered."""
RECEIPT_DAYS: Final = 14
CLOCK_DAYS: Final = 35
"""A month and some days: a usual clock drifts by a second or two a day, and one-time codes bear half a minute."""
REVIEW_DAYS: Final = 1
"""What one person did alone in the night, another looks at in the morning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One number. Its name is in `FACTS`, and so are the names of its labels."""

    name: str
    value: float
    labels: Mapping[str, str]


def observed(config: Config, *, ledger: Ledger, supervisor: Supervisor | None, clock: Clock) -> Iterator[Sample]:
    """Yield every number that can be had now; never raises for a part that cannot be asked."""
    # Two parts each look at these; where the state lies on a server, each look is a connection.
    promoted = cache(partial(_promoted, config))
    units = cache(partial(_listed, supervisor))
    parts: dict[str, Callable[[], Iterator[Sample]]] = {
        "settings": lambda: _settings(config),
        "certificate": lambda: _certificate(config, clock),
        "clients": lambda: _clients(config, clock),
        "backup": lambda: _backup(config, ledger, clock),
        "scrub": lambda: _scrub(config, clock),
        "ledger": lambda: _ledger(ledger),
        "reserve": lambda: _reserve(config),
        "retention": lambda: _retention(config, ledger, clock),
        "report": lambda: _report(ledger, BelievedClock(config.at, clock)),
        "reviews": lambda: _reviews(config, ledger, clock),
        "collector": lambda: _collector(config, clock),
        "census": lambda: _census(config, ledger),
        "lease": lambda: _lease(config),
        "spool": lambda: _spool(config),
        "disk": lambda: _disks(config),
        "clock": lambda: _clock(config, clock),
        "network": lambda: _network(config, clock),
        "receipt": lambda: _receipts(ledger, BelievedClock(config.at, clock)),
        "release": lambda: _release(config),
        "production": lambda: _production(promoted()),
        "rollout": lambda: _rollout(ledger, clock),
        "engines": lambda: _engines(promoted, units()),
        "units": lambda: _units(units()),
    }
    for name, ask in parts.items():
        try:
            found = list(ask())
            unreadable = 0
        except (SealiftError, SQLAlchemyError, OSError, ValueError, KeyError):
            found, unreadable = [], 1
        yield from found
        yield _sample("sealift_part_unreadable", unreadable, part=name)


def _sample(name: str, value: float, **labels: str) -> Sample:
    return Sample(name=name, value=float(value), labels=labels or _NOTHING)


def _settings(config: Config) -> Iterator[Sample]:
    yield _sample("sealift_concurrent_requests_limit", config.limits.concurrent_requests)
    yield _sample("sealift_backup_age_limit_seconds", config.backup.age_hours * 3600)
    yield _sample("sealift_drill_age_limit_seconds", config.backup.drill_days * _DAY)
    yield _sample("sealift_scrub_age_limit_seconds", scrub.OLDEST_DAYS * _DAY)
    yield _sample("sealift_receipt_limit_seconds", RECEIPT_DAYS * _DAY)
    yield _sample("sealift_time_servers", len(config.time.servers))
    yield _sample("sealift_clock_confirmed_age_limit_seconds", CLOCK_DAYS * _DAY)


def _certificate(config: Config, clock: Clock) -> Iterator[Sample]:
    if config.service.tls:
        left = tls_standing.left(config, clock=clock)
        yield _sample("sealift_certificate_left_seconds", left["server"].total_seconds())
        yield _sample("sealift_authority_left_seconds", left["authority"].total_seconds())
        if config.tls.are_certificates_asked_for:
            yield _sample("sealift_revocation_list_left_seconds", left["crl"].total_seconds())


def _clients(config: Config, clock: Clock) -> Iterator[Sample]:
    if (left := tls_clients_standing.left(config, clock=clock)) is not None:
        yield _sample("sealift_client_certificate_left_seconds", left.total_seconds())


def _backup(config: Config, ledger: Ledger, clock: Clock) -> Iterator[Sample]:
    found = backups(config, ledger, clock=clock)
    yield _sample("sealift_backup_present", found.age_seconds is not None)
    yield _sample("sealift_drill_failing", found.is_failing)
    if found.age_seconds is not None:
        yield _sample("sealift_backup_age_seconds", found.age_seconds)
    if found.drilled_seconds is not None:
        yield _sample("sealift_drill_age_seconds", found.drilled_seconds)
        return
    for first in ledger.find(kind=making.MADE, limit=1, newest_first=False):
        yield _sample("sealift_drill_age_seconds", _age(first.time, clock))


def _scrub(config: Config, clock: Clock) -> Iterator[Sample]:
    state = ScrubState.load(config.at.scrub)
    releases = ContentStore(config.at.store).releases()
    since = reference(state, [str(each.facts.get("received_at", "")) for each in releases])
    if since is not None:
        yield _sample(
            "sealift_scrub_age_seconds", max((BelievedClock(config.at, clock).now() - since).total_seconds(), 0)
        )
    bad = sum(each.bad for each in (state.last, state.running) if each is not None)
    yield _sample("sealift_scrub_bad_objects", bad)
    yield _sample("sealift_damaged_versions", len(damaged(config.at.scrub)))


def _ledger(ledger: Ledger) -> Iterator[Sample]:
    size = ledger.head().size
    yield _sample("sealift_ledger_records", size)
    if size:
        yield _sample("sealift_ledger_last_append_timestamp_seconds", _moment(ledger.leaf(size - 1).time).timestamp())


def _reserve(config: Config) -> Iterator[Sample]:
    for name, value, labels in ledger_room.numbers(config):
        yield _sample(name, value, **labels)


def _retention(config: Config, ledger: Ledger, clock: Clock) -> Iterator[Sample]:
    yield _sample("sealift_retention_age_seconds", overdue.age_seconds(ledger, BelievedClock(config.at, clock)))
    yield _sample("sealift_retention_limit_seconds", overdue.LIMIT_SECONDS)


def _report(ledger: Ledger, clock: Clock) -> Iterator[Sample]:
    yield _sample("sealift_report_waiting_seconds", reports.waiting_seconds(ledger, clock))
    yield _sample("sealift_report_limit_seconds", reports.LIMIT_SECONDS)


def _reviews(config: Config, ledger: Ledger, clock: Clock) -> Iterator[Sample]:
    believed = BelievedClock(config.at, clock)
    yield _sample("sealift_emergency_access", len(breakglass.running(ledger, believed.now())))
    waiting = [_age(one.at, believed) for one in open_reviews(ledger)]
    yield _sample("sealift_review_waiting_seconds", max(waiting, default=0))
    yield _sample("sealift_review_limit_seconds", REVIEW_DAYS * _DAY)


def _collector(config: Config, clock: Clock) -> Iterator[Sample]:
    if not config.siem.address:
        return
    found = forwarding.Standing.read(config.at.siem_now)
    if found is None:
        raise KeyError(forwarding.FILE)  # it never ran in this boot: the part is unreadable, and that is an alert
    yield _sample("sealift_siem_waiting_records", found.waiting)
    yield _sample("sealift_siem_behind_seconds", found.behind_seconds(clock))
    yield _sample("sealift_siem_silent_seconds", found.age_seconds(clock))


def _census(config: Config, ledger: Ledger) -> Iterator[Sample]:
    if config.database.node:
        yield _sample("sealift_census_other", bool(censusnodes.fault(config, ledger)))


def _lease(config: Config) -> Iterator[Sample]:
    if config.standby.lease:  # where no keeper runs there are none, and its unit tells
        for one in voters.read(permit.folder_of(config.at)):
            kind = "witness" if one.is_witness else "other-box"
            yield _sample("sealift_lease_voter_answers", one.answers, voter=kind)


def _spool(config: Config) -> Iterator[Sample]:
    rejected = config.at.spool / REJECTED
    yield _sample("sealift_spool_files", len(Spool(config.at.spool).pending()))
    yield _sample("sealift_spool_rejected_files", len(list(rejected.iterdir())) if rejected.is_dir() else 0)


def _disks(config: Config) -> Iterator[Sample]:
    for place, path in filesystems.places(config).items():
        usage = shutil.disk_usage(path)
        yield _sample("sealift_disk_size_bytes", usage.used + usage.free, place=place)
        yield _sample("sealift_disk_available_bytes", usage.free, place=place)


def _clock(config: Config, clock: Clock) -> Iterator[Sample]:
    found = published(config.at)
    floor = max(BUILT, trust.load(config.at.trust, config.at.pinned_trust, may_begin=True).floor)
    if found is not None:
        floor = max(floor, found.floor)
        yield _sample("sealift_clock_believed", found.verdict.is_certain)
        yield _sample("sealift_clock_confirmed", found.verdict is Verdict.GOOD)
        answered = _age(found.confirmed_at, BelievedClock(config.at, clock)) if found.confirmed_at else inf
        yield _sample("sealift_clock_confirmed_age_seconds", answered)
    yield _sample("sealift_clock_ahead_of_floor_seconds", (clock.now() - floor).total_seconds())


def _network(config: Config, clock: Clock) -> Iterator[Sample]:
    found = nettest.published(config.at)
    if found is None:
        if is_booted_box(config):  # not yet in this boot, whose first minutes have none
            yield _sample("sealift_network_test_age_seconds", max(clock.monotonic(), 0))
        return
    yield _sample("sealift_network_test_failed", len(found.failed))
    yield _sample("sealift_network_test_age_seconds", max(clock.monotonic() - found.ticks, 0))
    for counter, packets in found.counters.items():
        yield _sample("sealift_network_packets_total", packets, counter=counter)


def _receipts(ledger: Ledger, clock: Clock) -> Iterator[Sample]:
    receipts = ledger.find(kind="export.written", field="type", value="receipt", limit=EVERY)
    exported = {leaf.body.get("serial") for leaf in receipts}
    waiting = [
        _age(leaf.time, clock)
        for leaf in ledger.find(kind=RECEIVED, limit=EVERY)
        if leaf.body.get("serial") not in exported
    ]
    yield _sample("sealift_receipt_waiting_seconds", max(waiting, default=0))


def _release(config: Config) -> Iterator[Sample]:
    current = InstalledReleases(config.at).current()
    yield _sample("sealift_release_serial", 0 if current is None else current.serial)


def _production(promoted: tuple[str, ...]) -> Iterator[Sample]:
    yield _sample("sealift_production_count", len(promoted))
    for digest in promoted:
        yield _sample("sealift_production_info", 1, digest=digest[:12])


def _engines(promoted: Callable[[], tuple[str, ...]], units: Sequence[UnitFacts] | None) -> Iterator[Sample]:
    """Yield of each line whether its version is served: an engine of another line answers nobody who asks for it."""
    if units is None:
        return
    down = {UnitState.INACTIVE, UnitState.FAILED}
    running = {engine_of(unit.name) for unit in units if unit.state not in down}
    for digest in promoted():
        yield _sample("sealift_production_served", ("production", digest[:12]) in running, digest=digest[:12])


def _promoted(config: Config) -> tuple[str, ...]:
    state = open_state(config.at, read_only=True)
    try:
        with Session(state) as session:
            return tuple(lines.served(session).values())
    finally:
        state.dispose()


def _rollout(ledger: Ledger, clock: Clock) -> Iterator[Sample]:
    for name, value, labels in rollout_observed.observed(ledger, clock):
        yield _sample(name, value, **labels)


def _listed(supervisor: Supervisor | None) -> Sequence[UnitFacts] | None:
    return None if supervisor is None else supervisor.units()


def _units(units: Sequence[UnitFacts] | None) -> Iterator[Sample]:
    states: dict[str, bool] = {}
    for unit in units or ():
        if unit.state is UnitState.INACTIVE:
            continue  # waits for its timer, or was stopped on purpose
        engine = engine_of(unit.name)
        further = "-further" if which_of(unit.name) else ""  # production answers without these
        name = (
            f"engine-{engine[0]}{further}" if engine else unit.name.split("@")[0].removeprefix("sealift-").split(".")[0]
        )
        states[name] = states.get(name, True) and unit.state is not UnitState.FAILED
    for name, is_up in sorted(states.items()):
        yield _sample("sealift_unit_up", is_up, unit=name)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _age(text: str, clock: Clock) -> float:
    age = age_of(_moment(text), clock.now())
    return inf if age is None else age.total_seconds()  # how long it waits, nobody knows, so it counts
