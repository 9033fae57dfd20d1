"""The go-live report: what must hold before patients' notes pass through, each item looked at now or left to a person.

Two lists of the source documents: the eight MUSTs of a conclusion (M22) and a checklist for production of five (M23).
Their wording here is ours. What a program can see is looked at, never asked; what it cannot is named for a person to
sign. The report holds names of the site's people and of models, counts and figures, and nothing of any request.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from appliance.actions import alerting, capacity, disk_encryption, keys
from appliance.actions import clock as clock_action
from appliance.actions.backups import standing
from appliance.actions.doctor import doctor
from appliance.actions.findings import Finding
from appliance.actions.status import Status, status
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import StoreWriteError
from appliance.install import watching
from appliance.install.supervisor import Supervisor
from appliance.paper.drawn import drawn, is_drawable
from appliance.paper.form import Form, Section, Table
from appliance.phi.policy import PhiMode
from appliance.promote.folder import PromoterFolder
from appliance.promote.policy import GATES
from appliance.promote.standing import current_digest
from appliance.registry import catalog
from appliance.serve.client import EngineClient
from appliance.state import lines
from appliance.timekeeping.believed import BelievedClock
from media.clock import Clock, to_text
from media.errors import SealiftError, UsageError

FORMAT: Final = 1


class Verdict(StrEnum):
    """What came of an item."""

    HELD = "held"
    NOT_HELD = "does not hold"
    TO_SIGN = "for a person to sign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item: its number in its list, what must hold, what came of it and what was found."""

    id: str
    title: str
    verdict: Verdict
    found: str

    def to_json(self) -> dict[str, str]:
        """Return the fields for answers."""
        return {"id": self.id, "title": self.title, "verdict": str(self.verdict), "found": self.found}


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """All items, and when they were looked at."""

    site: str
    environment: str
    at: str
    items: tuple[Item, ...]

    @property
    def is_ready(self) -> bool:
        """Whether everything that a program can see holds; people's signatures come on top."""
        return all(item.verdict is not Verdict.NOT_HELD for item in self.items)

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "format": FORMAT,
            "site": self.site,
            "environment": self.environment,
            "at": self.at,
            "ready": self.is_ready,
            "items": [item.to_json() for item in self.items],
        }

    def form(self) -> Form:
        """Return the report as a sheet."""
        failed = [item.id for item in self.items if item.verdict is Verdict.NOT_HELD]
        signed = [item for item in self.items if item.verdict is Verdict.TO_SIGN]
        sections = [
            Section(title=title, table=_table([item for item in self.items if item.id.startswith(list_id)]))
            for list_id, title in _LISTS.items()
        ]
        sections.append(
            Section(
                title="Confirmed by people",
                notes=tuple(f"{item.id}: {item.title}" for item in signed),
                lines=tuple(("item", "name", "date", "signature") for _ in signed),
            )
        )
        result = (
            f"NOT READY: {', '.join(failed)} do not hold."
            if failed
            else f"All that a program can see holds; {len(signed)} items wait for a signature."
        )
        return Form(
            title=f"Go-live report of {self.site} ({self.environment})",
            result=result,
            at=self.at,
            sections=tuple(sections),
        )


_LISTS: Final[Mapping[str, str]] = {
    "M22": "Before going live (M22)",
    "M23": "Production checklist (M23)",
}
_SIGNED: Final = (
    ("M22.S1", "The machine stands where only named people can touch it; ports that are not used are closed"),
    ("M22.S2", "People know the way back and the way to stop, and what to do while the service is away"),
    ("M22.S3", "Responsibilities under the site's law (for example HIPAA agreements) are settled in writing"),
    ("M23.S1", "A clinician has read answers of this version and finds it fit for this use"),
    ("M23.S2", "The way of the next release is agreed: who asks for it, who carries it, who approves it"),
)


_DISKS: Final = (
    "M22.S4",
    "The disks encrypt themselves; or it is accepted that whoever takes one out reads ledger, keys and weights",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the report is made from."""

    config: Config
    ledger: Ledger
    state: Engine
    clock: Clock
    supervisor: Supervisor | None = None


def readiness(here: Surroundings) -> Readiness:
    """Look at every item; one that cannot be looked at does not hold, and says why."""
    told = status(here.config, clock=here.clock, supervisor=here.supervisor)
    disks = next(disk_encryption.encryption(here.config))  # below state, keys and backups (H2)
    looks: tuple[tuple[str, str, Callable[[], tuple[bool, str]]], ...] = (
        ("M22.1", "The hardware fits, and its capacity was measured", lambda: _hardware(here, disks)),
        ("M22.2", "A model version that two people approved is in production", lambda: _production(told)),
        (
            "M22.3",
            "The network is closed: TLS in front, nothing leaves but what is named",
            lambda: _network(here, told),
        ),
        ("M22.4", "Access is by name: people are enrolled, callers have keys of their own", lambda: _access(here)),
        ("M22.5", "Patient identifiers are replaced or refused at the door", lambda: _identifiers(here)),
        ("M22.6", "Everything is recorded, and kept as long as it must be", lambda: _record(here, told)),
        ("M22.7", "Somebody hears of trouble", lambda: _alerts(here)),
        ("M22.8", "A lost machine comes back: backups are made and were brought back", lambda: _backups(here)),
        (
            "M23.1",
            "Model selection: the version in production is named, with licence and purpose",
            lambda: _selection(here),
        ),
        ("M23.2", "Quantization validated on the site's task sets", lambda: _validated(here)),
        ("M23.3", "Batching configured: answers at once, batch and context", lambda: _batching(here)),
        ("M23.4", "Health: the services answer, and the model is served", lambda: _health(here, told)),
        ("M23.5", "Update: an installed release, a stored one, and a way back", lambda: _update(here, told)),
    )
    items = []
    for number, title, look in looks:
        try:
            held, found = look()
        except SealiftError as error:
            held, found = False, f"{error.what}: {error.why}" if error.why else error.what
        items.append(Item(id=number, title=title, verdict=Verdict.HELD if held else Verdict.NOT_HELD, found=found))
    items += [Item(id=number, title=title, verdict=Verdict.TO_SIGN, found="") for number, title in _SIGNED]
    if disks.is_good is not True:  # one that encrypts itself is not seen, so this is no fault; somebody answers for it
        items.append(Item(id=_DISKS[0], title=_DISKS[1], verdict=Verdict.TO_SIGN, found=disks.text))
    return Readiness(
        site=here.config.site,
        environment=here.config.environment,
        at=to_text(here.clock.now()),
        items=tuple(sorted(items, key=lambda item: item.id)),
    )


def write(report: Readiness, file: Path) -> None:
    """Write the report as .html or .pdf; an older file of that name is replaced.

    Raises:
        UsageError: The name ends in neither.
        StoreWriteError: It could not be written.
    """
    if not is_drawable(file):
        raise UsageError(
            what=f"the report cannot be written to {file.name}",
            why="its name ends in .html or .pdf",
            fix="choose another name",
        )
    try:
        file.write_bytes(drawn(report.form(), file))
    except OSError as error:
        raise StoreWriteError(
            what=f"the report {file.name} could not be written", why=error.strerror or "", fix="choose another folder"
        ) from error


def _hardware(here: Surroundings, disks: Finding) -> tuple[bool, str]:
    findings, _ = doctor(here.config, clock=here.clock, supervisor=here.supervisor, ledger=here.ledger)
    bad = sorted({one.name for one in findings if one.is_good is False})
    measured = capacity.of_this_machine(here.ledger, current_digest(here.config.at) or "")
    figure = (
        _unmeasured(here.ledger)
        if measured is None
        else f"about {measured.notes_per_hour} notes per hour with {measured.model}, measured {measured.at}"
    )
    looked = f"doctor finds: {', '.join(bad)}" if bad else f"doctor finds nothing wrong in {len(findings)} looks"
    return not bad and measured is not None, f"{looked}; disk encryption: {disks.text}; {figure}"


def _unmeasured(ledger: Ledger) -> str:
    if before := capacity.of_this_machine(ledger):
        return (
            "not measured with the model in production: this machine's newest figure is of"
            f" {before.model}, measured {before.at}: `sealift capacity`"
        )
    other = capacity.latest(ledger)
    if other is None:
        return "not measured: `sealift capacity`"
    return (
        f"not measured on this machine: the newest figure is of one with {other.cores} cores and"
        f" {other.memory_mib / 1024:.0f} GiB, measured {other.at}: `sealift capacity`"
    )


def _production(told: Status) -> tuple[bool, str]:
    part = told.part("production")
    return part.is_good is True, part.text


def _network(here: Surroundings, told: Status) -> tuple[bool, str]:
    egress, config = told.part("egress"), here.config
    named = len(config.destinations)
    text = f"TLS {'on' if config.service.tls else 'OFF'}; egress {egress.text}; {named} destinations named"
    return config.service.tls and egress.fields.get("enforced") is True, text


def _access(here: Surroundings) -> tuple[bool, str]:
    people = PromoterFolder(here.config.at.promoter).people().active
    found = keys.in_force(here.state, BelievedClock(here.config.at, here.clock))
    made = [one for one in found if one.stage == keys.PRODUCTION]  # the test stage's are nobody's who is answered
    names = ", ".join(person.name for person in people) or "nobody"
    text = f"{names}; {len(made)} keys in force"
    clock = clock_action.correctors(here.config)
    if clock and clock.is_good is not True:  # no item of either list, and too late to be read when the battery is dead
        text += f"; the clock: {clock.text}; {clock.fix}"
    return len(people) >= here.config.policy.approvals and bool(made), text


def _identifiers(here: Surroundings) -> tuple[bool, str]:
    made = keys.in_force(here.state, BelievedClock(here.config.at, here.clock))
    passing = sum(1 for one in made if one.phi_mode == PhiMode.PASS)
    counted = ", ".join(f"{sum(1 for one in made if one.phi_mode == mode)} {mode}" for mode in PhiMode)
    return bool(made) and not passing, f"keys by mode: {counted}"


def _record(here: Surroundings, told: Status) -> tuple[bool, str]:
    part = told.part("ledger")
    years = here.config.policy.audit_retention_years
    return part.is_good is True and years >= 6, f"{part.text}; kept {years} years"


def _alerts(here: Surroundings) -> tuple[bool, str]:
    named = watching.ways(here.config)
    if faults := alerting.faults(here.config, here.supervisor):
        told = alerting.untold(here.config, faults) if named else "nobody is named"
        words = (*(fault.text for fault in faults), told, alerting.fix(here.config, faults))
        return False, "; ".join(filter(None, words))
    return bool(named), "; ".join(named) or "only the banner of the page and the console, where nobody may be looking"


def _backups(here: Surroundings) -> tuple[bool, str]:
    config = here.config
    found = standing.standing(config, here.ledger, clock=here.clock)
    text = f"folder {'named' if config.backup.folder else 'not named'}"
    text += f"; last backup {found.made_at}" if found.made_at else "; none was made"
    text += f"; last brought back {found.drilled_at}" if found.drilled_at else "; none was brought back"
    text += f"; last opened with its key {found.opened_at}" if found.opened_at else "; none was opened with its key"
    faults = [*found.faults]
    if not found.is_opened:
        faults.append(
            f"no backup of this ledger's epoch was opened with its key in the last {config.backup.drill_days} days:"
            " `sealift drill --by NAME --by NAME --home FOLDER`"
        )
    return not faults, "; ".join(filter(None, (text, *faults, found.past)))


def _selection(here: Surroundings) -> tuple[bool, str]:
    versions = _served(here)
    facts = [version.to_json() for version in versions]
    named = (
        f"{version.name} {version.version}, {one['quantization']}, {one['license']}"
        for version, one in zip(versions, facts, strict=True)
    )
    return all(one["license"] for one in facts), "; ".join(named)


def _validated(here: Surroundings) -> tuple[bool, str]:
    found = [(version, *_gates_of(here, version)) for version in _served(here)]
    texts = (f"{f'{version.name}: ' if len(found) > 1 else ''}{text}" for version, _, text in found)
    return all(held for _, held, _ in found), "; ".join(texts)


def _gates_of(here: Surroundings, version: catalog.Version) -> tuple[bool, str]:
    with here.state.connect() as session:
        found = {one.gate: one for one in catalog.judgements(session, version.model_digest)}
    failed = [gate for gate in GATES if gate not in found or not found[gate].passed]
    evidence = {one.evidence_digest[:12] for one in found.values()}
    text = f"{len(GATES) - len(failed)} of {len(GATES)} gates passed; evidence {', '.join(sorted(evidence)) or 'none'}"
    return not failed, text


def _batching(here: Surroundings) -> tuple[bool, str]:
    runtimes = [version.descriptor.get("runtime", {}) for version in _served(here)]
    names = ("n_seq_max", "n_batch", "n_ctx")
    shown = (", ".join(f"{name} {runtime.get(name)}" for name in names) for runtime in runtimes)
    return all(type(runtime.get(name)) is int for runtime in runtimes for name in names), "; ".join(shown)


def _health(here: Surroundings, told: Status) -> tuple[bool, str]:
    part = told.part("units")
    with EngineClient(here.config.at.socket("gateway"), connect_seconds=5.0, read_seconds=10.0) as gateway:
        serves = gateway.health()
    text = f"{part.text}; the gateway's /health says {'ready' if serves else 'not ready'}"
    return part.is_good is True and serves, text


def _update(here: Surroundings, told: Status) -> tuple[bool, str]:
    part = told.part("release")
    production = PromoterFolder(here.config.at.promoter).production()
    ways = []
    for line in production.serving or (production.first,):
        back = ", ".join(digest[:12] for digest in production.returnable_in(line))
        ways.append(back or "only to stop: this is the first version")
    return part.is_good is True, f"{part.text}; the way back: {'; '.join(ways)}"


def _served(here: Surroundings) -> list[catalog.Version]:
    """Return what is in production, one version for each line that serves."""
    with here.state.connect() as session:
        digests = lines.served(session).values()
        if not digests:
            raise UsageError(what="nothing is in production", why="", fix="`sealift promote`")
        return [catalog.version(session, digest) for digest in digests]


def _table(items: list[Item]) -> Table:
    rows = tuple((item.id, item.title, str(item.verdict), item.found) for item in items)
    return Table(heads=("", "what must hold", "verdict", "found"), rows=rows, widths=(8, 34, 16, 42))
