"""Typed jobs: the closed list of what an unprivileged process may ask root for.

A job names a kind and one thing that this machine holds already: a version's digest, the first twelve digits of one,
a release's serial, a medium by the kernel's name, a quarter, or a record of the ledger. Nothing else is taken: no
path, no unit, no option, no text that would reach a command. A maintenance window takes a reason besides, which reaches
its record and nothing else, and its minutes.

Promises: parsing refuses any further field; the unit that carries a job out is made from the kind and from digits that
were checked, never from the message.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from appliance.errors import AutomationRefusedError
from appliance.install import arrivals
from appliance.install.supervisor import engine_of, which_of
from appliance.promote import actors
from appliance.promote.enrolment import require_reason
from appliance.promote.people import require_id
from appliance.registry.windows import LEAST_MINUTES, MOST_MINUTES, Purpose
from media import canonical
from media.errors import MalformedError

DIGEST12: Final = "digest12"
DIGEST: Final = "digest"
SERIAL: Final = "serial"
MEDIUM: Final = "medium"
RECORD: Final = "record"
QUARTER: Final = "quarter"
_DIGITS = re.compile(r"[0-9a-f]{12}")
_QUARTER: Final = re.compile(r"20[0-9]{2}Q[1-4]", re.ASCII)
_LARGEST_SERIAL: Final = 2**31 - 1
_WHICH: Final = re.compile(r"[2-9]|cpu|standby")


class Kind(StrEnum):
    """Everything that can be asked."""

    START_TEST = "start-test-engine"
    STOP_TEST = "stop-test-engine"
    KILL_TEST = "kill-test-engine"
    START_PRODUCTION = "start-production-engine"
    STOP_PRODUCTION = "stop-production-engine"
    VALIDATE = "validate"
    VALIDATE_IN_WINDOW = "validate-in-window"
    CUT_OVER_IN_WINDOW = "cut-over-in-window"
    END_WINDOW = "end-window"
    SWITCH = "switch-production"
    SWITCH_WARM = "switch-production-warm"
    HALT = "halt-production"
    PLAN = "plan"
    INSTALL = "install"
    RECEIVE = "receive"
    EJECT = "eject"
    MAKE_EVIDENCE = "make-evidence"
    CARRY_EXPORT = "carry-export"
    SET_CLOCK = "set-clock"
    ROTATE = "rotate-certificate"
    REPORT = "make-report"
    PROVE = "prove-answer"


class Lane(StrEnum):
    """What runs one at a time."""

    BENCH = "bench"
    PRODUCTION = "production"
    BESIDE = "beside-window"  # what follows a decision about another line than the one that rests
    HOST = "host"
    MEDIA = "media"


ENGINE_KINDS: Final = {
    Kind.START_TEST: ("start", "test"),
    Kind.STOP_TEST: ("stop", "test"),
    Kind.KILL_TEST: ("kill", "test"),
    Kind.START_PRODUCTION: ("start", "production"),
    Kind.STOP_PRODUCTION: ("stop", "production"),
}
"""Engines, started, stopped and killed at once, in the asker's own time, as media are ejected; all others run in a unit
of their own."""

_OF_PRODUCTION: Final = frozenset({Kind.START_PRODUCTION, Kind.STOP_PRODUCTION})

WINDOWS: Final = {
    Kind.VALIDATE_IN_WINDOW: Purpose.VALIDATE,
    Kind.CUT_OVER_IN_WINDOW: Purpose.CUT_OVER,
}
"""Maintenance windows; they take the lane of the bench besides their own."""

FOLLOWS: Final = frozenset({Kind.SWITCH, Kind.SWITCH_WARM, Kind.HALT})
"""What brings engines to what people decided; it may be decided while another of these runs, which began before."""

LANES: Final = {
    Kind.VALIDATE: Lane.BENCH,
    Kind.VALIDATE_IN_WINDOW: Lane.PRODUCTION,
    Kind.CUT_OVER_IN_WINDOW: Lane.PRODUCTION,
    Kind.SWITCH: Lane.PRODUCTION,
    Kind.SWITCH_WARM: Lane.PRODUCTION,
    Kind.HALT: Lane.PRODUCTION,
    Kind.PLAN: Lane.HOST,
    Kind.INSTALL: Lane.HOST,
    Kind.RECEIVE: Lane.MEDIA,
    Kind.MAKE_EVIDENCE: Lane.MEDIA,
    Kind.CARRY_EXPORT: Lane.MEDIA,
    Kind.REPORT: Lane.MEDIA,
    Kind.PROVE: Lane.MEDIA,
    Kind.SET_CLOCK: Lane.HOST,
    Kind.ROTATE: Lane.HOST,
}
_UNITS: Final = {
    Kind.VALIDATE: "sealift-validate@{digest}.service",
    Kind.VALIDATE_IN_WINDOW: "sealift-validate@{digest}.service",
    Kind.CUT_OVER_IN_WINDOW: "sealift-validate@{digest}-try.service",
    Kind.END_WINDOW: "sealift-validate@{digest}.service",
    Kind.SWITCH: "sealift-switch@follow.service",
    Kind.SWITCH_WARM: "sealift-switch@warm.service",
    Kind.HALT: "sealift-switch@follow.service",
    Kind.PLAN: "sealift-plan@{serial}.service",
    Kind.INSTALL: "sealift-install@{serial}.service",
    Kind.RECEIVE: "sealift-receive@{medium}.service",
    Kind.EJECT: "sealift-media@{medium}.service",
    Kind.MAKE_EVIDENCE: "sealift-evidence@{record}-{digest32}.service",
    Kind.CARRY_EXPORT: "sealift-export@{medium}.service",
    Kind.SET_CLOCK: "sealift-clock-set@{digest}.service",
    Kind.ROTATE: "sealift-tls@{digest}.service",
    Kind.REPORT: "sealift-report@{quarter}.service",
    Kind.PROVE: "sealift-prove@{record}.service",
}
BY_MACHINES: Final = frozenset({Kind.VALIDATE, Kind.SWITCH})
"""What automation keys ask for: a validation, and that the engines follow what the promoter has recorded."""
_NAMES: Final = {
    **dict.fromkeys(ENGINE_KINDS, DIGEST12),
    **dict.fromkeys((Kind.VALIDATE, Kind.SWITCH, Kind.SWITCH_WARM, Kind.HALT, Kind.SET_CLOCK, Kind.ROTATE), DIGEST),
    **dict.fromkeys((*WINDOWS, Kind.END_WINDOW), DIGEST),
    **dict.fromkeys((Kind.PLAN, Kind.INSTALL), SERIAL),
    **dict.fromkeys((Kind.RECEIVE, Kind.EJECT), MEDIUM),
    Kind.REPORT: QUARTER,
    Kind.PROVE: RECORD,
}


_TWO: Final = {Kind.CARRY_EXPORT: (MEDIUM, DIGEST), Kind.MAKE_EVIDENCE: (RECORD, DIGEST)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One thing that was asked; one of `digest`, `digest12`, `serial` and `medium` is set, by its kind.

    Exports are named by two: the medium that is to carry one and the digest that its record has; the record that
    evidence is about and the digest of what was shown to a person.

    `which` is a further engine of the version in production; empty for its first one.

    `person` is who asked as the page or the command says it: for people to read, it gives no right. `reason` and
    `minutes` are a window's.
    """

    kind: Kind
    digest: str = ""
    digest12: str = ""
    serial: int = 0
    medium: str = ""
    record: int = 0
    quarter: str = ""
    person: str = ""
    which: str = ""
    reason: str = ""
    minutes: int = 0

    @classmethod
    def from_message(cls, untrusted: Mapping[str, Any]) -> Self:
        """Parse what was asked.

        Raises:
            MalformedError: The kind is unknown, or a field is missing, of another shape, or one too many.
        """
        if "kind" not in untrusted:
            raise MalformedError(what="a job has no kind", why="kind is absent", fix="ask for one of the kinds")
        kind = canonical.one_of(untrusted["kind"], Kind, "job.kind")
        optional = ("person", "which") if kind in _OF_PRODUCTION else ("person",)
        asked = ("reason", "minutes") if kind in WINDOWS else ()
        fields = canonical.exact_keys(dict(untrusted), ("do", "kind", *_named(kind), *asked), optional, what="job")
        person = canonical.text(fields.get("person", ""), "job.person", may_be_empty=True)
        named: dict[str, Any] = {name: _CHECKS[name](fields[name]) for name in _named(kind)}
        which = _which(fields["which"]) if "which" in fields else ""
        if kind in WINDOWS:
            named["reason"] = require_reason(canonical.text(fields["reason"], "job.reason"))
            named["minutes"] = canonical.integer(
                fields["minutes"], "job.minutes", minimum=LEAST_MINUTES, maximum=MOST_MINUTES
            )
        return cls(kind=kind, person=_asker(kind, person), which=which, **named)

    @property
    def named(self) -> dict[str, str | int]:
        """What the job is about."""
        found: dict[str, str | int] = {name: getattr(self, name) for name in _named(self.kind)}
        return found | ({"which": self.which} if self.which else {})

    @property
    def lane(self) -> Lane | None:
        """What it must not run beside; nothing for engines, which are started and stopped at once."""
        return LANES.get(self.kind)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Every lane it takes: a window lets production rest, and runs gates."""
        own = () if self.lane is None else (self.lane,)
        return (*own, Lane.BENCH) if self.kind in WINDOWS else own

    @property
    def unit(self) -> str:
        """The unit that carries it out."""
        if self.kind in ENGINE_KINDS:
            further = self.which and f"-{self.which}"
            return f"sealift-engine-{ENGINE_KINDS[self.kind][1]}@{self.digest12}{further}.service"
        return _UNITS[self.kind].format(
            digest=self.digest,
            serial=self.serial,
            medium=self.medium,
            record=self.record,
            digest32=self.digest[:32],
            quarter=self.quarter.lower(),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields, for the ledger and for answers."""
        return {"kind": str(self.kind), **self.named, "person": self.person}


def engine_kind(verb: str, unit: str) -> tuple[Kind, dict[str, str]] | None:
    """Return the kind of starting or stopping (`verb`) an engine's unit, and what is named; nothing for other units."""
    engine, which = engine_of(unit), which_of(unit)
    if engine is None:
        return None
    for kind, asked in ENGINE_KINDS.items():
        if asked == (verb, engine[0]):
            return kind, {DIGEST12: engine[1], **({"which": which} if which else {})}
    return None


def _named(kind: Kind) -> tuple[str, ...]:
    """Return the fields that say what a job of this kind is about."""
    return _TWO.get(kind) or (_NAMES[kind],)


def _asker(kind: Kind, untrusted: str) -> str:
    """Return who asked, a person or an automation key; a key only where nothing is decided by it (AUTO-3)."""
    if not actors.is_automation(untrusted):
        return require_id(untrusted) if untrusted else ""
    if kind not in BY_MACHINES:
        raise AutomationRefusedError(
            what=f"a job of kind {kind} is refused",
            why="AUTO-3: an automation key asks for it",
            fix="let an enrolled person ask",
        )
    return actors.require_actor(untrusted)


def _record(untrusted: Any) -> int:
    return canonical.integer(untrusted, "job.record")


def _quarter(untrusted: Any) -> str:
    text = canonical.text(untrusted, "job.quarter")
    if not _QUARTER.fullmatch(text):
        raise MalformedError(what="job.quarter is refused", why="expected 2026Q4", fix="name a quarter")
    return text


def _serial(untrusted: Any) -> int:
    return canonical.integer(untrusted, "job.serial", minimum=1, maximum=_LARGEST_SERIAL)


def _digest(untrusted: Any) -> str:
    return canonical.sha256_hex(untrusted, "job.digest")


def _which(untrusted: Any) -> str:
    text = canonical.text(untrusted, "job.which")
    if not _WHICH.fullmatch(text):
        raise MalformedError(what="job.which is refused", why="expected 2 to 9, cpu or standby", fix="name an engine")
    return text


def _digest12(untrusted: Any) -> str:
    text = canonical.text(untrusted, "job.digest12")
    if not _DIGITS.fullmatch(text):
        raise MalformedError(what="job.digest12 is refused", why="expected 12 hex digits", fix="name a known version")
    return text


_CHECKS: Final[Mapping[str, Callable[[Any], str | int]]] = {
    SERIAL: _serial,
    RECORD: _record,
    QUARTER: _quarter,
    MEDIUM: arrivals.require_name,
    DIGEST: _digest,
    DIGEST12: _digest12,
}
