"""Maintenance windows as the ledger has them: production rests while one version is tested, or takes its place.

Where production has several lines, one of them rests; the record says which, where it is not the first.

A window is a pair of records. `window.opened` says for whom, why and until when before anything stops; `window.closed`
follows when production answers again, or nothing is meant to. What lies between is an open window, whoever opened it
and whatever became of them: it is found again after a kill, a restart or a boot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Self

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.errors import ConflictError
from appliance.stages import FIRST_LINE
from media.clock import Clock, from_text, to_text

OPENED: Final = "window.opened"
CLOSED: Final = "window.closed"
LEAST_MINUTES: Final = 1
MOST_MINUTES: Final = 12 * 60
MINUTES: Final = 120
"""How long a window may last where nobody says otherwise."""


class Purpose(StrEnum):
    """What production rests for."""

    VALIDATE = "validate"
    CUT_OVER = "cut-over"


class Closing(StrEnum):
    """Why a window was closed."""

    DONE = "done"
    FAILED = "failed"
    ENDED = "ended"  # by a person, or by the command that opened it
    DEADLINE = "deadline"
    CUT_OFF = "cut-off"  # whoever carried it out is gone: a kill, a restart, a power failure
    GONE = "gone"  # by a person on another node, since its own is gone for good


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody asks a window for: which version, in whose name, why, and for how long at most."""

    purpose: Purpose
    model_digest: str
    person: str
    reason: str
    minutes: int = MINUTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Who closed a window on behalf of a node that is gone, and why."""

    person: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One open window.

    Attributes:
        number: The ledger's sequence of `window.opened`.
        at: When it was opened.
        until: When production is brought back at the latest.
        purpose: What for.
        model_digest: The version that is tested.
        previous: What was in production, in the line that rests; None where nothing was.
        person: Who opened it.
        reason: Why.
        beside: The first twelve digits of versions that ran in the test stage before, and stay.
        line: Which line of production rests.
        node: The node of several on which it rests; empty where a single one answers.
    """

    number: int
    at: str
    until: str
    purpose: Purpose
    model_digest: str
    previous: str | None
    person: str
    reason: str
    beside: tuple[str, ...] = ()
    line: int = FIRST_LINE
    node: str = ""

    @classmethod
    def of(cls, leaf: Leaf) -> Self:
        """Return the window that a record opened."""
        body = leaf.body
        return cls(
            number=leaf.sequence,
            at=leaf.time,
            until=str(body["until"]),
            purpose=Purpose(str(body["purpose"])),
            model_digest=str(body["model_digest"]),
            previous=None if body["previous"] is None else str(body["previous"]),
            person=str(body["person"]),
            reason=str(body["reason"]),
            beside=tuple(str(one) for one in body["beside"]),
            line=int(body.get("line", FIRST_LINE)),
            node=leaf.via.node,
        )

    @property
    def where(self) -> str:
        """`` on node NAME``; nothing where a single node answers."""
        return f" on node {self.node}" if self.node else ""

    def seconds_left(self, now: datetime) -> float:
        """Return for how long it may stay open; 0 when that is over."""
        return max((from_text(self.until) - now).total_seconds(), 0.0)

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "window": self.number,
            "at": self.at,
            "until": self.until,
            "purpose": str(self.purpose),
            "model_digest": self.model_digest,
            "previous": self.previous,
            "person": self.person,
            "reason": self.reason,
            **_named(self.line),
            **({"node": self.node} if self.node else {}),
        }


def opened(ledger: Ledger, *, node: str = "") -> Window | None:
    """Return the window that is open; one at most is.

    Args:
        ledger: Where windows are recorded.
        node: One node of several: a window of another one rests nothing on it, and is none.
    """
    newest = ledger.find(kind=OPENED, limit=1)
    if not newest or (node and newest[0].via.node not in {"", node}):
        return None
    # Of exactly this one: a node that was taken for gone may close a window of before once more when it is back.
    closed = ledger.find(kind=CLOSED, field="window", value=newest[0].sequence, limit=1)
    return None if closed else Window.of(newest[0])


def open_now(
    ledger: Ledger,
    clock: Clock,
    asked: Asked,
    *,
    previous: str | None,
    beside: Sequence[str] = (),
    line: int = FIRST_LINE,
) -> Window:
    """Record that a window is open, before anything stops; see `Window` for the arguments.

    Raises:
        ConflictError: Another one is open.
        LedgerUnavailableError: It could not be recorded, so nothing may stop.
    """
    other = opened(ledger)
    if other is not None:
        raise ConflictError(
            what="another maintenance window is open",
            why=f"{other.person} opened it at {other.at}, until {other.until}: {other.reason[:80]}",
            fix=f"wait for it, or end it{other.where}: `sealift window end --as PERSON`",
        )
    until = to_text(clock.now() + timedelta(minutes=asked.minutes))
    done = ledger.append(
        OPENED,
        {
            "purpose": str(asked.purpose),
            "model_digest": asked.model_digest,
            "previous": previous,
            "person": asked.person,
            "reason": asked.reason,
            "until": until,
            "beside": list(beside),
            "stage": "production",
            **_named(line),
        },
    )
    return Window.of(ledger.leaf(done.sequence))


def close(
    ledger: Ledger,
    window: Window,
    *,
    why: Closing,
    cut_over: bool = False,
    tested_seconds: float = 0.0,
    silent_seconds: float | None = None,
    back_seconds: float | None = None,
    ended: Ended | None = None,
) -> None:
    """Record that a window is closed, once production answers again or is meant to be down.

    Args:
        ledger: Where.
        window: Which.
        why: How it ended.
        cut_over: The version that was tested serves now.
        tested_seconds: How long the test stage had memory.
        silent_seconds: For how long callers had no answers; None where nobody saw it begin.
        back_seconds: How long production took to come back.
        ended: Who closed it for a node that is gone; None where its own node did.
    """
    ledger.append(
        CLOSED,
        {
            "window": window.number,
            "purpose": str(window.purpose),
            "model_digest": window.model_digest,
            "previous": window.previous,
            "person": window.person,
            "reason": window.reason,
            "why": str(why),
            "cut_over": cut_over,
            "tested_millis": _millis(tested_seconds),
            "silent_millis": _millis(silent_seconds),
            "back_millis": _millis(back_seconds),
            "stage": "production",
            **_named(window.line),
            **({} if ended is None else {"node": window.node, "by": ended.person, "because": ended.reason}),
        },
    )


def _named(line: int) -> dict[str, int]:
    """Return what a record says of a line: nothing of the first, so that a site with one keeps its records."""
    return {} if line == FIRST_LINE else {"line": line}


def _millis(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
