"""What monitoring and the page see of rollouts: a canary and its arms, the watch after a cut-over, windows, reviews.

Read from the ledger alone, so that whoever watches needs no word with the promoter: figures are those that the judge
recorded last, ten minutes old at most while its timer runs; their age is a number of its own.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from appliance.audit.facts import EVERY, Ledger
from appliance.audit.leaf import Leaf
from appliance.promote.afterwards import KEPT, WATCHED
from appliance.promote.record import BY_JUDGE, Kind
from appliance.promote.reviews import open_reviews, stopped_callers
from appliance.promote.rollout import JUDGED
from appliance.promote.terms import WATCH_HOURS
from appliance.promote.watching import WORSE
from appliance.registry import windows
from appliance.stages import line_of
from media.clock import Clock, from_text

FACTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "sealift_canary_running": ("1 while a canary runs or is on hold", ()),
    "sealift_canary_held": ("1 while it is on hold; only while there is one", ()),
    "sealift_canary_left_seconds": ("Until its time is over, what it was on hold not counted; 0 when it is", ()),
    "sealift_canary_figures_age_seconds": ("Since the judge last recorded how it does, or since its start", ()),
    "sealift_canary_requests": ("What was compared of each arm, by stream", ("stream", "arm")),
    "sealift_canary_faults": ("Faults among them", ("stream", "arm")),
    "sealift_canary_evidence_ratio": ("Evidence against the canary; at 1 it is ended", ("stream",)),
    "sealift_canary_ended_age_seconds": ("Since the judge last ended a canary; only where it ever did", ()),
    "sealift_watch_running": ("1 while a version is held against the one before it, after a cut-over", ()),
    "sealift_watch_left_seconds": ("Until the watch is over", ()),
    "sealift_watch_worse": ("1 when it found the version worse and nobody has decided", ()),
    "sealift_watch_figures_age_seconds": ("Since the judge last recorded how it does, or since the cut-over", ()),
    "sealift_watch_evidence_ratio": ("Evidence against the version; at 1 people are asked", ("stream",)),
    "sealift_window_open": ("1 while production rests in a maintenance window", ()),
    "sealift_window_overdue_seconds": ("For how long an open window is past its end; 0 before, or without one", ()),
    "sealift_reviews_open": ("Deeds of one person that nobody else has looked at", ()),
    "sealift_review_age_seconds": ("Of the oldest of them; 0 for none", ()),
    "sealift_callers_stopped": ("Keys and departments that somebody stopped", ()),
}
"""Every name with its meaning and labels."""
Number = tuple[str, float, Mapping[str, str]]
_CHANGES: Final = tuple(one for one in Kind if one is not Kind.RETIRED)
_NEWEST: Final = 200
"""Records of each kind that are looked at: a canary or a watch lasts days, and lines are few."""
_ARMS: Final = ("canary", "production")
_NONE: Final[Mapping[str, str]] = {}


def observed(ledger: Ledger, clock: Clock) -> Iterator[Number]:
    """Yield the numbers.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    lines = _steps(ledger)
    yield from _canary(ledger, clock, lines)
    yield from _watch(ledger, clock, lines)
    window = windows.opened(ledger)
    yield "sealift_window_open", window is not None, _NONE
    yield "sealift_window_overdue_seconds", 0 if window is None else _age(window.until, clock), _NONE
    reviews = open_reviews(ledger)
    yield "sealift_reviews_open", len(reviews), _NONE
    yield "sealift_review_age_seconds", _age(reviews[0].at, clock) if reviews else 0, _NONE
    yield "sealift_callers_stopped", len(stopped_callers(ledger)), _NONE


def asks(ledger: Ledger, clock: Clock) -> str:
    """Return what the watch found while people are asked about it, else nothing.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    for began, told in _watches(ledger, clock, _steps(ledger)):
        if told is not None and _is_worse(ledger, began, told):
            return str(told.body.get("why"))
    return ""


def _steps(ledger: Ledger) -> list[list[Leaf]]:
    """Return of each line of production the newest record of each kind of step, the newest first."""
    found = [leaf for kind in _CHANGES for leaf in ledger.find(kind=kind.event, limit=_NEWEST)]
    lines: dict[int, dict[str, Leaf]] = {line_of(leaf.body): {} for leaf in found}
    for leaf in found:
        # To stop every line names none.
        is_of_all = leaf.kind == Kind.STOPPED.event and "line" not in leaf.body
        for line in lines if is_of_all else (line_of(leaf.body),):
            lines[line].setdefault(leaf.kind, leaf)
    return [sorted(lines[line].values(), key=lambda leaf: leaf.sequence, reverse=True) for line in sorted(lines)]


def _started(steps: list[Leaf]) -> Leaf | None:
    """Return the record that began the canary that runs in a line."""
    started = next((one for one in steps if one.kind == Kind.CANARY_STARTED.event), None)
    runs = started is not None and all(one.kind in _DURING for one in steps if one.sequence > started.sequence)
    return started if runs else None


def _canary(ledger: Ledger, clock: Clock, lines: list[list[Leaf]]) -> Iterator[Number]:
    running = [started for steps in lines if (started := _started(steps)) is not None]
    yield "sealift_canary_running", bool(running), _NONE
    for leaf in ledger.find(kind=Kind.CANARY_ABORTED.event, field="class", value=BY_JUDGE, limit=1):
        yield "sealift_canary_ended_age_seconds", _age(leaf.time, clock), _NONE
    if not running:
        return
    # Of several that of whose judge nothing was heard for longest: the alerts ask for people, or for the judge.
    judged = [(one, _told(ledger, JUDGED, "canary", one)) for one in running]
    started, told = max(judged, key=lambda pair: _age((pair[1] or pair[0]).time, clock))
    is_held, ran = _ran(ledger, clock, started)
    hours = int(started.body["terms"]["hours"])
    yield "sealift_canary_held", is_held, _NONE
    yield "sealift_canary_left_seconds", max(hours * 3600 - ran, 0), _NONE
    yield "sealift_canary_figures_age_seconds", _age((told or started).time, clock), _NONE
    for stream in _streams(told):
        named = {"stream": str(stream["stream"])}
        yield "sealift_canary_evidence_ratio", stream["evidence_millis"] / stream["limit_millis"], named
        for arm in _ARMS:
            yield "sealift_canary_requests", stream[arm]["requests"], {**named, "arm": arm}
            yield "sealift_canary_faults", stream[arm]["faults"], {**named, "arm": arm}


_DURING: Final = frozenset({Kind.CANARY_STARTED.event, Kind.CANARY_HELD.event, Kind.CANARY_RESUMED.event})


def _ran(ledger: Ledger, clock: Clock, started: Leaf) -> tuple[bool, float]:
    """Return whether the canary is on hold, and for how many seconds it ran, the time on hold not counted."""
    pauses = [
        leaf
        for kind in (Kind.CANARY_HELD, Kind.CANARY_RESUMED)
        for leaf in ledger.find(kind=kind.event, limit=EVERY)
        if leaf.sequence > started.sequence and line_of(leaf.body) == line_of(started.body)
    ]
    began, ran = from_text(started.time), timedelta()
    is_held = False
    for leaf in sorted(pauses, key=lambda leaf: leaf.sequence):
        is_held = leaf.kind == Kind.CANARY_HELD.event
        if is_held:
            ran += max(from_text(leaf.time) - began, timedelta())
        began = from_text(leaf.time)
    if not is_held:
        ran += max(clock.now() - began, timedelta())
    return is_held, ran.total_seconds()


def _watch(ledger: Ledger, clock: Clock, lines: list[list[Leaf]]) -> Iterator[Number]:
    seen = _watches(ledger, clock, lines)
    yield "sealift_watch_running", bool(seen), _NONE
    if not seen:
        return
    # Of several one that people are asked about, else the first line's.
    is_worse, began, told = max(((_is_worse(ledger, one, of), one, of) for one, of in seen), key=lambda found: found[0])
    yield "sealift_watch_left_seconds", _hours(began) * 3600 - _age(began.time, clock), _NONE
    yield "sealift_watch_worse", is_worse, _NONE
    yield "sealift_watch_figures_age_seconds", _age((told or began).time, clock), _NONE
    for stream in _streams(told):
        if stream["compared"]:
            ratio = stream["evidence_millis"] / stream["limit_millis"]
            yield "sealift_watch_evidence_ratio", ratio, {"stream": str(stream["stream"])}


def _watched(steps: list[Leaf], clock: Clock) -> Leaf | None:
    """Return the record that began the watch that goes on; the rules are those of `appliance.promote.canary.Watch`."""
    newest = next((one for one in steps if one.kind not in _WHILE_WATCHED), None)
    if newest is None or newest.kind not in {Kind.MADE.event, Kind.CUT_OVER.event}:
        return None
    before, version = newest.body.get("previous"), newest.body.get("model_digest")
    goes_on = before and before != version and _age(newest.time, clock) < _hours(newest) * 3600
    return newest if goes_on else None


def _watches(ledger: Ledger, clock: Clock, lines: list[list[Leaf]]) -> list[tuple[Leaf, Leaf | None]]:
    """Return what began each watch that goes on, a line's after another's, and what the judge last recorded of it."""
    going = [began for steps in lines if (began := _watched(steps, clock)) is not None]
    return [(began, _told(ledger, WATCHED, "watch", began)) for began in going]


def _is_worse(ledger: Ledger, began: Leaf, told: Leaf | None) -> bool:
    return told is not None and told.body.get("state") == WORSE and not _is_kept(ledger, began)


_WHILE_WATCHED: Final = frozenset({Kind.CANARY_HELD.event, Kind.CANARY_RESUMED.event, Kind.CANARY_ABORTED.event})


def _hours(began: Leaf) -> int:
    terms = began.body.get("terms")
    return int(terms["watch_hours"]) if isinstance(terms, Mapping) else WATCH_HOURS


def _told(ledger: Ledger, kind: str, field: str, began: Leaf) -> Leaf | None:
    return next(iter(ledger.find(kind=kind, field=field, value=began.sequence, limit=1)), None)


def _is_kept(ledger: Ledger, began: Leaf) -> bool:
    return bool(ledger.find(kind=KEPT, field="watch", value=began.sequence, limit=1))


def _streams(told: Leaf | None) -> list[Mapping[str, Any]]:
    return [] if told is None else list(told.body["streams"])


def _age(text: str, clock: Clock) -> float:
    return max((clock.now() - from_text(text)).total_seconds(), 0)
