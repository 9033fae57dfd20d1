"""What a box shows for the claims of the map, asked now: green, red, or not here, with the words that say why.

Each question has a name that the map uses. One that cannot be asked (no right, nothing runs, nothing of the kind) is
not here, never green: what nobody could see does not count for a control.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from appliance.actions import alerts, disk_encryption, nettest, scrub, tls_standing
from appliance.actions import clock as clock_action
from appliance.actions.backups import standing as backups
from appliance.actions.controls.sources import keys_in_force, newest, people
from appliance.actions.findings import Finding
from appliance.actions.reports.making import REPORTED
from appliance.actions.tracing.selection import CANARY, MADE
from appliance.audit import pin, succession
from appliance.audit.facts import EVERY, Ledger
from appliance.audit.leaf import Leaf
from appliance.config import Config
from appliance.errors import ProofError
from appliance.phi.policy import PhiMode
from appliance.promote.people import APPROVER
from media.clock import Clock, from_text
from media.errors import SealiftError

FLOOR_YEARS: Final = 6
_QUARTER: Final = timedelta(days=100)
_LONGEST_ANSWER: Final = timedelta(hours=1)
_NEWEST: Final = 50
_TWO: Final = 2


class State(StrEnum):
    """What a box shows."""

    GREEN = "green"
    RED = "red"
    NOT_HERE = "not here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The answer to one question."""

    name: str
    state: State
    text: str

    def to_json(self) -> dict[str, str]:
        """Return the fields."""
        return {"name": self.name, "state": str(self.state), "text": self.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What is asked."""

    config: Config
    ledger: Ledger
    clock: Clock


def seen(here: Here) -> Mapping[str, Seen]:
    """Return the answer to every question; never raises for one that cannot be asked."""
    return {name: _asked(here, name) for name in QUESTIONS}


def _asked(here: Here, name: str) -> Seen:
    try:
        state, text = QUESTIONS[name](here)
    except SealiftError as error:
        state, text = State.NOT_HERE, f"cannot be asked: {error.what}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        state, text = State.NOT_HERE, f"cannot be asked ({type(error).__name__})"
    return Seen(name=name, state=state, text=text)


_Answer = tuple[State, str]


def _judged(is_good: bool | None, text: str) -> _Answer:  # noqa: FBT001 - the first word of every answer
    return (State.NOT_HERE if is_good is None else State.GREEN if is_good else State.RED), text


def _ledger_signed(here: Here) -> _Answer:
    key = pin.read_pin(here.config.at)
    if key is None:
        return State.RED, "no key of the ledger is pinned outside it"
    try:
        signed = succession.verified(here.ledger, here.ledger.checkpoint(), key)
    except ProofError as error:
        return State.RED, error.what
    return State.GREEN, f"{signed.size} records under a checkpoint of the pinned key; all of it: sealift audit verify"


def _completeness(here: Here) -> _Answer:
    """Look whether the newest answers that must have ended did; a crash ends them as unknown at the next start."""
    begun = here.ledger.find("request.intent", limit=_NEWEST)
    over = [leaf for leaf in begun if _age(here, leaf.time) > _LONGEST_ANSWER]
    if not over:
        return State.NOT_HERE, "no answer is old enough to judge"
    lost = [leaf.sequence for leaf in over if not _ended(here, str(leaf.body.get("request_id")))]
    return _judged(not lost, f"{len(over)} of the newest answers, {len(lost)} without a record of their end")


def _ended(here: Here, request_id: str) -> bool:
    return bool(here.ledger.find("request.outcome", field="request_id", value=request_id, limit=1))


def _clock(here: Here) -> _Answer:
    found = clock_action.standing(here.config, clock=here.clock)
    if found.verdict is None:
        return State.NOT_HERE, "nobody watches the clock"
    return _judged(found.verdict.is_certain, f"the clock is {found.verdict}")


def _retention_years(here: Here) -> _Answer:
    years = here.config.policy.audit_retention_years
    return _judged(years >= FLOOR_YEARS, f"audit records for {years} years; the floor is {FLOOR_YEARS}")


def _reported(here: Here) -> _Answer:
    last = newest(here.ledger, REPORTED)
    if last is None:
        return State.RED, "no report was ever made: sealift report --quarter last"
    is_late = _age(here, last.time) > _QUARTER
    return _judged(not is_late, f"the newest report, {last.body.get('name')}, was made {last.time}")


def _collector(here: Here) -> _Answer:
    if not here.config.siem.server:
        return State.NOT_HERE, "this site has no collector"
    return State.GREEN, f"records go to {here.config.siem.server} as {here.config.siem.format}"


def _people(here: Here) -> _Answer:
    found = [one for one in people(here.ledger).people if one.revoked is None]
    return _judged(len(found) >= _TWO, f"{len(found)} people are enrolled, each with keys of their own")


def _two_people(here: Here) -> _Answer:
    able = [one for one in people(here.ledger).people if one.revoked is None and APPROVER in one.roles]
    needed = here.config.policy.approvals
    return _judged(
        len(able) >= needed >= _TWO, f"{needed} different people must sign; {len(able)} may, by {_classes(here)}"
    )


def _classes(here: Here) -> str:
    return ", ".join(here.config.policy.classes)


def _callers(here: Here) -> _Answer:
    keys = keys_in_force(here.ledger, here.clock.now())
    if not keys:
        return State.NOT_HERE, "no application has a key"
    unnamed = [one for one in keys if not one.get("owner") or not one.get("department")]
    return _judged(not unnamed, f"{len(keys)} keys of applications, {len(unnamed)} without owner or department")


def _phi_modes(here: Here) -> _Answer:
    keys = keys_in_force(here.ledger, here.clock.now())
    if not keys:
        return State.NOT_HERE, "no application has a key"
    passing = [one for one in keys if one.get("phi_mode") == PhiMode.PASS]
    return _judged(not passing, f"{len(passing)} of {len(keys)} keys let identifiers pass to the model")


def _last_approved(ledger: Ledger) -> tuple[Leaf, str] | None:
    """Return the newest record by which people let a version answer, at once or as a canary, and that version."""
    made, tried = newest(ledger, MADE), newest(ledger, CANARY)
    if tried is not None and (made is None or _is_before(made, tried)):
        return tried, str(tried.body["terms"]["version"])
    return None if made is None else (made, str(made.body.get("model_digest")))


def _production(here: Here) -> _Answer:
    found = _last_approved(here.ledger)
    if found is None:
        return State.NOT_HERE, "nothing was promoted here"
    made, _ = found
    signed = {str(one.get("person")) for one in made.body.get("approvals", ())}
    return _judged(
        len(signed) >= _TWO, f"the newest promotion, record {made.sequence}, was signed by {len(signed)} people"
    )


def _gates(here: Here) -> _Answer:
    found = _last_approved(here.ledger)
    if found is None:
        return State.NOT_HERE, "nothing was promoted here"
    made, digest = found
    results = here.ledger.find("gate.result", field="model_digest", value=digest, limit=EVERY)
    before = {
        str(leaf.body.get("gate")): leaf.body.get("passed") for leaf in reversed(results) if _is_before(leaf, made)
    }
    if not before:
        return State.RED, "the version in the newest promotion has no gate results before it"
    failed = sorted(gate for gate, passed in before.items() if passed is not True)
    return _judged(not failed, f"{len(before)} gates before the newest promotion, {len(failed)} not passed")


def _is_before(leaf: Any, other: Any) -> bool:
    return bool(leaf.sequence < other.sequence)


def _disk(here: Here) -> _Answer:
    return _worst(disk_encryption.encryption(here.config), unseen="disk encryption")


def _tls(here: Here) -> _Answer:
    if not here.config.service.tls:
        return State.NOT_HERE, "this site serves no TLS (a demo, or loopback alone)"
    return _worst(tls_standing.findings(here.config, clock=here.clock))


def _worst(findings: Iterator[Finding], *, unseen: str = "") -> _Answer:
    """Return red where one finding is bad; not here where what matters most could not be seen."""
    found = list(findings)
    bad = [one for one in found if one.is_good is False]
    if bad:
        return State.RED, "; ".join(f"{one.name}: {one.text}" for one in bad)
    unsure = [one for one in found if one.is_good is None and one.name == unseen]
    if unsure or not found:
        return State.NOT_HERE, "; ".join(f"{one.name}: {one.text}" for one in unsure) or "nothing to look at"
    return State.GREEN, "; ".join(f"{one.name}: {one.text}" for one in found)


def _token(here: Here) -> _Answer:
    if here.config.keys.provider != "token":
        return State.NOT_HERE, "the box's keys lie in files; a token would keep them from being taken out"
    return State.GREEN, "the box's keys are on a token"


def _network(here: Here) -> _Answer:
    last = newest(here.ledger, nettest.TESTED)
    if last is None:
        return State.NOT_HERE, "the network's self-test never ran"
    failed = [str(one) for one in last.body.get("fails", ())]
    is_good = last.body.get("ok") is True and not failed
    return _judged(is_good, f"self-test of {last.time}: {', '.join(failed) or 'all held'}")


def _custody(here: Here) -> _Answer:
    last = newest(here.ledger, "release.received")
    if last is None:
        return State.NOT_HERE, "nothing was received here"
    custody = last.body.get("custody")
    found = custody if isinstance(custody, Mapping) else {}
    open_findings = list(found.get("findings", ())) if not found.get("accepted_by") else []
    return _judged(not open_findings, f"release {last.body.get('release')}: {len(open_findings)} findings left open")


def _store(here: Here) -> _Answer:
    found = scrub.standing(here.config, clock=here.clock)
    return _judged(found.is_good, found.text)


def _backup(here: Here) -> _Answer:
    found = backups.standing(here.config, here.ledger, clock=here.clock)
    said = found.faults or (f"newest {found.made_at}, last drill {found.drilled_at}",)
    return _judged(not found.faults, "; ".join(filter(None, (*said, found.past))))


def _retired(_: Here) -> _Answer:
    return State.NOT_HERE, "this box is in use; the certificate is made when it is retired"


def _alerts(here: Here) -> _Answer:
    if not (here.config.at.alerts / alerts.FILE).exists():
        return State.NOT_HERE, "no monitoring tells its alerts here"
    firing = alerts.firing(here.config.at.alerts, clock=here.clock)
    critical = sorted({one.name for one in firing if one.severity == "critical"})
    return _judged(not critical, f"{len(firing)} alerts, critical: {', '.join(critical) or 'none'}")


def _age(here: Here, time: str) -> timedelta:
    then: datetime = from_text(time)
    return here.clock.now() - then


QUESTIONS: Final[Mapping[str, Callable[[Here], _Answer]]] = {
    "alerts": _alerts,
    "backup": _backup,
    "callers": _callers,
    "clock": _clock,
    "collector": _collector,
    "completeness": _completeness,
    "custody": _custody,
    "disk": _disk,
    "gates": _gates,
    "ledger-signed": _ledger_signed,
    "network": _network,
    "people": _people,
    "phi-modes": _phi_modes,
    "production": _production,
    "reported": _reported,
    "retention-years": _retention_years,
    "retired": _retired,
    "store": _store,
    "tls": _tls,
    "token": _token,
    "two-people": _two_people,
}
