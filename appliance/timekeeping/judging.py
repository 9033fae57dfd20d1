"""Whether the machine's clock is to be believed: pure rules over the last record and one new reading.

Rules:
 * A clock before the floor is behind: the battery is dead, or somebody turned it back. At a start so is one before
   the last moment that was believed, but for a small step: hardware clocks are seconds slower than the system's.
 * A clock that moved against the monotonic seconds by more than a small bound jumped, forward or back; so did one that
   was off for longer than `MOST_AWAY`. Small steps count together, so that many of them are a jump too.
 * Trouble stays, across restarts, until two people's correction is seen, or the clock is back where it was expected;
   and after a dead battery also when the site's time servers set a time that can be.
 * Only a clock that somebody answered for raises the floor. So a wrong clock cannot burn it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from appliance.timekeeping.record import MOST_UNTOLD, ClockRecord, Verdict
from media.clock import to_text

SMALL_SECONDS: Final = 120
"""What may be put right without two people, all together, until somebody answers for the clock again."""
MOST_AWAY: Final = timedelta(days=90)
"""How long a machine may have been off before its clock has to be looked at."""
MOST_LIFE: Final = timedelta(days=15 * 366)
"""How long after it was made this program may be installed: a clock beyond that never was set."""
_STEP_SECONDS: Final = 3
_DRIFT: Final = 500  # a clock that is slewed gains or loses at most 500 parts in a million (adjtimex(2)); twice that
JUMPED: Final = "clock.jumped"
RETURNED: Final = "clock.returned"
STARTED: Final = "clock.behind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The clock and the monotonic seconds, looked at together.

    Attributes:
        wall: What the clock shows, whole seconds in UTC.
        ticks: Whole monotonic seconds since the machine started.
        is_synchronised: Whether a time server that the site named sets the clock.
    """

    wall: datetime
    ticks: int
    is_synchronised: bool = False


def at_start(last: ClockRecord | None, now: Reading, *, floor: datetime, session: str) -> ClockRecord:
    """Return the first record of this boot.

    Args:
        last: The durable record; None on a machine that never had one.
        now: The present reading.
        floor: What is certain besides: when this program was made, and the trust record's floor.
        session: A random name for this boot.
    """
    low = floor if last is None else max(floor, last.floor)
    # Where the clock was not believed when the machine went down, what was believed then still holds.
    until = low if last is None else max(low, _last_believed(last))
    record = ClockRecord(
        session=session,
        wall=now.wall,
        ticks=now.ticks,
        verdict=Verdict.UNCONFIRMED if last is None else last.verdict,
        before=Verdict.UNCONFIRMED if last is None else last.before,
        floor=low,
        anchor_wall=max(now.wall, until),
        anchor_ticks=now.ticks,
        stepped_seconds=0 if last is None else last.stepped_seconds,
        confirmed_by="" if last is None else last.confirmed_by,
        confirmed_at="" if last is None else last.confirmed_at,
        handled=0 if last is None else last.handled,
        untold=() if last is None else last.untold,
    )
    slow = int((until - now.wall).total_seconds())
    if slow > 0 and now.wall >= floor and record.verdict.is_certain and record.stepped_seconds + slow <= SMALL_SECONDS:
        # What raised the floor was this machine's own clock, which was ahead of the one that went on.
        stepped = replace(record, floor=min(low, now.wall), anchor_wall=now.wall)
        return _telling(replace(stepped, stepped_seconds=record.stepped_seconds + slow), JUMPED, now, -slow)
    if slow > 0:
        verdict, kind = Verdict.BEHIND, STARTED
    elif now.wall - until > (MOST_LIFE if last is None else MOST_AWAY) or not record.verdict.is_certain:
        verdict, kind = Verdict.JUMPED, JUMPED
    else:
        return record
    away = int((now.wall - until).total_seconds())
    # A lower bound: how long the machine was off, nobody knows; how long it runs, it does.
    record = replace(record, verdict=verdict, jump_seconds=away, anchor_wall=until, anchor_ticks=0)
    return _telling(record, kind, now, away)


def after(last: ClockRecord, now: Reading, *, corrections: Collection[int] = ()) -> ClockRecord:
    """Return the next record of the same boot.

    Args:
        last: The record before.
        now: The present reading.
        corrections: Seconds that two people approved since, in the ledger's order.
    """
    step = int((now.wall - last.expected(now.ticks)).total_seconds())
    awaited = [*corrections][-1] if corrections else last.awaited
    seen = step if abs(step) > _bound(now.ticks - last.ticks) else 0
    if awaited is not None and _matches(last, now, seen, awaited):
        return _answered(last, now)
    record = replace(last, wall=now.wall, ticks=now.ticks, awaited=awaited)
    if not last.verdict.is_certain:
        return _still_uncertain(record, now, seen)
    if not seen:
        return _calm(record, now)
    record = _telling(record, JUMPED, now, seen)
    stepped = last.stepped_seconds + (0 if now.is_synchronised else abs(seen))
    if abs(seen) <= SMALL_SECONDS and stepped <= SMALL_SECONDS and now.wall >= last.floor - _slack():
        return _calm(replace(record, stepped_seconds=stepped), now)
    verdict = Verdict.BEHIND if now.wall < last.floor else Verdict.JUMPED
    expected = last.expected(now.ticks)
    return replace(
        record, verdict=verdict, jump_seconds=seen, anchor_wall=max(expected, last.floor), anchor_ticks=now.ticks
    )


def is_plausible(wall: datetime, floor: datetime) -> bool:
    """Tell whether it can be that time at all: after the floor, and within what a machine lives."""
    return floor <= wall <= floor + MOST_LIFE


def confirmed(last: ClockRecord, now: Reading, *, by: str) -> ClockRecord:
    """Return the record after a person answered for the clock that is shown; the caller saw to it that they may."""
    return replace(_answered(last, now), confirmed_by=by)


def _answered(last: ClockRecord, now: Reading) -> ClockRecord:
    return replace(
        last,
        wall=now.wall,
        ticks=now.ticks,
        verdict=Verdict.GOOD,
        before=Verdict.GOOD,
        floor=now.wall,  # people decided what time it is: what the floor was before is void
        anchor_wall=now.wall,
        anchor_ticks=now.ticks,
        jump_seconds=0,
        stepped_seconds=0,
        confirmed_at=to_text(now.wall),
        awaited=None,
    )


def _still_uncertain(record: ClockRecord, now: Reading, seen: int) -> ClockRecord:
    away = int((now.wall - record.believed(now.ticks)).total_seconds())
    is_back = abs(away) <= SMALL_SECONDS and record.verdict is Verdict.JUMPED
    was_set = (
        record.verdict is Verdict.BEHIND
        and now.is_synchronised
        and timedelta() <= now.wall - record.believed(now.ticks) <= MOST_AWAY
    )
    if is_back or was_set:
        calm = replace(record, verdict=record.before, jump_seconds=0, anchor_wall=now.wall, anchor_ticks=now.ticks)
        return _calm(_telling(calm, RETURNED, now, away), now)
    record = replace(record, jump_seconds=away)
    return _telling(record, JUMPED, now, seen) if seen else record


def _calm(record: ClockRecord, now: Reading) -> ClockRecord:
    floor = max(record.floor, now.wall) if record.verdict is Verdict.GOOD else record.floor
    return replace(record, floor=floor, anchor_wall=now.wall, anchor_ticks=now.ticks, jump_seconds=0)


def _matches(last: ClockRecord, now: Reading, seen: int, awaited: int) -> bool:
    """Whether the step that is seen, now or before, is the one that people approved."""
    near = _bound(now.ticks - last.ticks) + _STEP_SECONDS
    is_there = abs(awaited) <= near and not seen  # what is shown is right: nothing has to move
    return is_there or abs(seen - awaited) <= near


def _last_believed(last: ClockRecord) -> datetime:
    return last.wall if last.verdict.is_certain else last.believed(last.ticks)


def _bound(seconds: int) -> int:
    return _STEP_SECONDS + max(seconds, 0) * _DRIFT * 2 // 1_000_000


def age_of(at: datetime, now: datetime) -> timedelta | None:
    """Return how long ago something was recorded; None where nobody knows.

    What seems still to come was recorded while the clock ran ahead, and must not count as fresh until that is past.
    """
    age = now - at
    return None if age < -_slack() else max(age, timedelta())


def _slack() -> timedelta:
    return timedelta(seconds=SMALL_SECONDS)


def _telling(record: ClockRecord, kind: str, now: Reading, seconds: int) -> ClockRecord:
    body: Mapping[str, Any] = {"session": record.session, "shown": to_text(now.wall), "seconds": seconds}
    untold = (*record.untold, {"kind": kind, "body": body})
    # The first of them say how it began; the last ones how it stands.
    return replace(record, untold=untold if len(untold) <= MOST_UNTOLD else (*untold[:1], *untold[2:]))
