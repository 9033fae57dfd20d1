"""The drill of a fail-over: whether the standby could take over now, without moving anything, recorded with each check.

What is looked at is what a take-over would rest on: how new the mirror is, that nothing waits in it, that this box has
the version that each line would serve and an engine of it that answers, the secret of callers' keys, and the lease. The
real move is made by people (`sealift standby hand-over --drill`) and recorded as a drill of its own.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from appliance.actions.findings import Finding
from appliance.actions.gating.bench import content_of
from appliance.actions.keys import CREATED, PRODUCTION, in_force
from appliance.actions.standby import status
from appliance.actions.standby.status import Box
from appliance.audit.facts import EVERY, Ledger
from appliance.config import Config
from appliance.errors import EngineProtocolError, PairingRefusedError
from appliance.keys.provider import KeyProvider
from appliance.keys.stages import PEPPER
from appliance.registry.carriers import carrier
from appliance.registry.damaged import damaged
from appliance.serve.client import EngineClient
from appliance.stages import FIRST_LINE, Stage
from appliance.standby import carried
from appliance.standby.pairing import Relation, paired
from appliance.state import lines
from appliance.store.content import ContentStore
from appliance.timekeeping.believed import BelievedClock
from appliance.timekeeping.judging import age_of
from media.clock import Clock, from_text
from media.errors import SealiftError

DRILLED: Final = "standby.drilled"
CHECKED: Final = "checked"
MOVED: Final = "moved"
DAYS: Final = 28
"""How long after a drill that held the next is due; after one that did not, a day."""
_QUESTION: Final = "Answer with one word: ready."
_MOST_TOKENS: Final = 8
_ANSWER_SECONDS: Final = 60.0

Ask = Callable[[Config, str], None]
Lease = Callable[[], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing a take-over rests on; `holds` is None where there is nothing to look at."""

    check: str
    holds: bool | None
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields, as they are recorded."""
        return {"check": self.check, "holds": self.holds, "text": self.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """What a drill found, and its record."""

    peer: str
    checks: tuple[Check, ...]
    milliseconds: int
    sequence: int = -1

    @property
    def is_ready(self) -> bool:
        """Whether this box could take over."""
        return all(one.holds is not False for one in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return the fields, as they are recorded and answered."""
        return {
            "level": CHECKED,
            "peer": self.peer,
            "ready": self.is_ready,
            "checks": [one.to_json() for one in self.checks],
            "milliseconds": self.milliseconds,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a drill looks at.

    Args:
        config: The site file.
        ledger: This box's own; records what was found.
        state: Brought up to the ledger.
        keys: Hold the secret of callers' keys.
        clock: For ages.
        lease: Asks who serves; None where no lease runs.
        ask: Has the engine of a version answer a question of ours, or raises.
    """

    config: Config
    ledger: Ledger
    state: Engine
    keys: KeyProvider
    clock: Clock
    lease: Lease
    ask: Ask


def answered(config: Config, model_digest: str) -> None:
    """Have production's engine of a version answer a question of ours; nothing of the answer is kept.

    Raises:
        EngineUnavailableError: It does not answer.
        EngineProtocolError: What it said is no answer, or an empty one.
    """
    socket = config.at.engine_socket(Stage.PRODUCTION, model_digest)
    with EngineClient(socket, read_seconds=_ANSWER_SECONDS) as engine:
        body = {"messages": [{"role": "user", "content": _QUESTION}], "max_tokens": _MOST_TOKENS, "temperature": 0}
        if not content_of(engine.chat(body)).strip():
            raise EngineProtocolError(
                what="the engine's answer is empty", why="to a question of the drill", fix="see `sealift doctor`"
            )


def is_standby(config: Config) -> bool:
    """Tell whether this box is the standby of another, by its pairings alone.

    Raises:
        PairingRefusedError: A pairing does not hold.
    """
    return any(one.relation is Relation.STANDBY and not one.is_first for one in paired(config.at))


def standing_by(config: Config, *, ledger: Ledger, clock: Clock) -> Box | None:
    """Return the box that this one is the standby of; None for any other box.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
        PairingRefusedError: A pairing does not hold.
    """
    found = status.read(config, ledger=ledger, clock=clock)
    return next((one for one in found if one.pair.relation is Relation.STANDBY and not one.pair.is_first), None)


def last(ledger: Ledger) -> Mapping[str, Any] | None:
    """Return the newest drill that looked at this box, as recorded, with its time under ``at``; None for none."""
    found = ledger.find(kind=DRILLED, field="level", value=CHECKED, limit=1)
    return {**found[0].body, "at": found[0].time} if found else None


def is_due(ledger: Ledger, now: datetime) -> bool:
    """Tell whether a drill is due: a month after one that held, a day after one that did not."""
    newest = last(ledger)
    if newest is None:
        return True
    age = _age(newest, now)
    return age is None or age >= timedelta(days=DAYS if newest.get("ready") is True else 1)


def findings(config: Config, ledger: Ledger, clock: Clock) -> Iterator[Finding]:
    """What the doctor says of a standby: whether the newest drill held and is not too old; nothing on other boxes."""
    if not is_standby(config):
        return
    newest = last(ledger)
    age = None if newest is None else _age(newest, BelievedClock(config.at, clock).now())
    never = "there was none" if newest is None else "it was recorded while the clock ran ahead"
    failed = [] if newest is None else [str(one["check"]) for one in newest["checks"] if one["holds"] is False]
    is_old = age is None or age > timedelta(days=config.backup.drill_days)
    yield Finding(
        name="fail-over drill",
        is_good=not failed and not is_old,
        text=never
        if age is None
        else f"{age.days} days ago" + (f"; did not hold: {', '.join(failed)}" if failed else ", all held"),
        why="whether this box can take over is to be known before it has to",
        fix="`sealift standby drill` says of each part what is missing",
    )


def _age(drilled: Mapping[str, Any], now: datetime) -> timedelta | None:
    return age_of(from_text(str(drilled["at"])), now)


def drill(here: Surroundings) -> Drill:
    """Look at everything that a take-over would rest on, and record it; nothing is moved.

    Raises:
        LedgerUnavailableError: The ledger does not answer; nothing could be recorded.
        PairingRefusedError: This box is nobody's standby, or a pairing does not hold.
    """
    box = standing_by(here.config, ledger=here.ledger, clock=here.clock)
    if box is None:
        raise PairingRefusedError(
            what="there is no fail-over to drill here",
            why="this box is the standby of none",
            fix="run it on the standby: `sealift standby status` says which box that is",
        )
    began = here.clock.monotonic()
    with Session(here.state) as session:
        served = lines.served(session)
    checks = (
        _mirror(here, box),
        _decisions(box),
        *_versions(here, served),
        _keys(here, box),
        _lease(here),
    )
    found = Drill(peer=box.pair.peer.name, checks=checks, milliseconds=int(1000 * (here.clock.monotonic() - began)))
    done = here.ledger.append(DRILLED, found.to_json())
    return Drill(peer=found.peer, checks=checks, milliseconds=found.milliseconds, sequence=done.sequence)


def moved(ledger: Ledger, *, peer: str, by: str, term: int) -> int:
    """Record that people moved the service as a drill; return the record's sequence.

    Raises:
        LedgerUnavailableError: It is not recorded.
    """
    return ledger.append(DRILLED, {"level": MOVED, "peer": peer, "by": [by], "term": term}).sequence


def _mirror(here: Surroundings, box: Box) -> Check:
    if box.fault:
        return Check(check="mirror", holds=False, text=box.fault)
    if not box.brought:
        return Check(check="mirror", holds=False, text="nothing was ever brought from the other box")
    now, most = BelievedClock(here.config.at, here.clock).now(), timedelta(hours=here.config.backup.age_hours)
    age = now - from_text(box.brought)
    text = (
        f"{box.mirrored} records, the newest came {int(age.total_seconds())} s ago; at most {most.total_seconds():.0f}"
    )
    # Who lacks much gets it in several bundles, and each ends with a record that they made in its own.
    is_behind = bool(box.newest) and now - from_text(box.newest) > most
    text += f"; it is of {box.newest}, and later ones are still to come" if is_behind else ""
    return Check(check="mirror", holds=timedelta(seconds=-60) <= age <= most and not is_behind, text=text)


def _decisions(box: Box) -> Check:
    lacks = f"; lacks serial {', '.join(map(str, box.missing))}" if box.missing else ""
    held = "; thresholds are held back" if box.held_back else ""
    is_good = not (box.waiting or box.missing or box.held_back or box.fault)
    waiting = "what waits is not known" if box.fault else f"{box.waiting} wait"
    return Check(check="decisions", holds=is_good, text=f"{waiting}{lacks}{held}")


def _versions(here: Surroundings, served: Mapping[int, str]) -> tuple[Check, ...]:
    """Look at what each line serves; the checks of a further line bear its number."""
    if not served:
        return (Check(check="version", holds=False, text="nothing is in production here"),)
    found = []
    for number, digest in served.items():
        line = "" if number == FIRST_LINE else f", line {number}"
        found += [replace(one, check=f"{one.check}{line}") for one in _version(here, digest)]
    return tuple(found)


def _version(here: Surroundings, digest: str) -> tuple[Check, ...]:
    try:
        store = ContentStore(here.config.at.store)
        _, descriptor, _ = carrier(store, digest)
        absent = sum(not store.holds(file.sha256, file.length) for file in descriptor.files)
        is_marked = digest in damaged(here.config.at.scrub)
        found = Check(
            check="version",
            holds=not absent and not is_marked,
            text=f"{descriptor.name} {descriptor.version}, {digest[:12]}"
            + (f"; {absent} of its files are not here" if absent else "")
            + ("; the scrub found it damaged" if is_marked else ""),
        )
    except SealiftError as error:
        return (Check(check="version", holds=False, text=f"{digest[:12]}: {error.what}"),)
    began = here.clock.monotonic()
    try:
        here.ask(here.config, digest)
    except SealiftError as error:
        return (found, Check(check="answer", holds=False, text=error.what))
    millis = int(1000 * (here.clock.monotonic() - began))
    return (found, Check(check="answer", holds=True, text=f"its engine answered in {millis} ms"))


def _keys(here: Surroundings, box: Box) -> Check:
    """Whether the secret is here under which the other box's keys are hashed: those that callers can still use.

    Keys of the test stage have a secret of their own, which stays on its box.
    """
    made = here.ledger.find(kind=CREATED, limit=EVERY)
    listed = in_force(here.state, BelievedClock(here.config.at, here.clock))
    usable = {one.key_id for one in listed if one.stage == PRODUCTION}
    of_peer = [leaf.body for leaf in made if carried.origin_of(leaf.body) == box.pair.peer.origin]
    brought = [body for body in of_peer if body.get("key_id") in usable]
    try:
        known = set(here.keys.versions(PEPPER))
    except SealiftError as error:
        return Check(check="keys", holds=False, text=error.what)
    unknown = sum(body.get("key_version") not in known for body in brought)
    text = f"{len(brought)} keys of callers came from the other box"
    return Check(check="keys", holds=not unknown, text=text + (f"; {unknown} cannot be checked" if unknown else ""))


def _lease(here: Surroundings) -> Check:
    try:
        told = here.lease()
    except (SealiftError, OSError):
        return Check(check="lease", holds=False, text="what keeps the lease does not answer")
    if told is None:
        return Check(check="lease", holds=None, text="none: people move the service")
    if told["serving"]:
        return Check(check="lease", holds=True, text="this box serves")
    if told["would_follow"]:
        return Check(check="lease", holds=True, text="by itself")
    if why := str(told.get("hindered", "")):
        return Check(check="lease", holds=False, text=f"only by people: {why}")
    return Check(check="lease", holds=None, text="only by people")
