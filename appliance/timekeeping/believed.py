"""A clock for decisions: what the machine's clock shows while it can be believed, else a time that is surely not late.

Approvals expire by this clock, and what is kept for a time ends by it. While the machine's own is behind or jumped it
goes on from what was last believed, at the speed of the monotonic clock. So a dead battery makes no expired approval
valid again, and a jump forward ends nothing early.
"""

from datetime import datetime, timedelta

from appliance.config import Config, Places
from appliance.errors import ClockUncertainError
from appliance.timekeeping import record
from appliance.timekeeping.judging import SMALL_SECONDS
from appliance.timekeeping.record import ClockRecord, Verdict
from appliance.verify.freshness import BUILT
from media.clock import Clock, SystemClock, to_text


class BelievedClock:
    """`Clock` over the machine's clock and the watch's record; where no watch runs, only the floor is kept."""

    def __init__(self, places: Places, clock: Clock | None = None) -> None:
        self._published, self._kept = record.published_of(places), record.kept_of(places)
        self._clock = clock or SystemClock()

    @classmethod
    def of(cls, config: Config) -> "BelievedClock":
        """Return the clock of this site's decisions."""
        return cls(config.at)

    def now(self) -> datetime:
        """Return the time that decisions rest on."""
        shown = self._clock.now()
        found, ticks = self._published.read(), int(self._clock.monotonic())
        if found is None or found.ticks > ticks:  # nothing of this boot
            last = self._kept.read()
            return max(shown, BUILT if last is None else max(last.floor, BUILT))
        return shown if _is_believed(found, shown, ticks) else found.believed(ticks)

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        return self._clock.monotonic()


def require_certain(places: Places, clock: Clock, *, what: str) -> datetime:
    """Return the clock's time where it must be right and not only not late: one-time codes.

    A time that lags would let an old code count again, so there is no guess.

    Args:
        places: The site's.
        clock: The machine's.
        what: Names to a person what cannot be decided.

    Raises:
        ClockUncertainError: The clock is behind, jumped, or nobody watches it.
    """
    found = record.require_watched(places)
    shown, ticks = clock.now(), int(clock.monotonic())
    if not _is_believed(found, shown, ticks):
        verdict = found.verdict if not found.verdict.is_certain else Verdict.JUMPED
        raise ClockUncertainError(
            what=f"{what} cannot be judged while the clock is {verdict}",
            why=f"it shows {to_text(shown)}; {to_text(found.believed(ticks))} or later is certain",
            fix="two people put it right with their signatures, which need no clock: `sealift clock set`",
        )
    return shown


def require_shown(clock: Clock, machine: Clock, *, what: str) -> None:
    """Return where the machine's clock shows the time that decisions rest on, give or take small steps.

    For what is counted from the time of a record: that is the machine's, and a decision's may be another.

    Args:
        clock: Of decisions.
        machine: The machine's, by which the ledger records.
        what: Names to a person what cannot be done meanwhile.

    Raises:
        ClockUncertainError: They are apart.
    """
    shown, believed = machine.now(), clock.now()
    if abs(shown - believed) > timedelta(seconds=SMALL_SECONDS):
        raise ClockUncertainError(
            what=f"{what} is refused while the clock is in doubt",
            why=f"it shows {to_text(shown)}, decisions rest on {to_text(believed)}; hours would count from both",
            fix="two people put it right with their signatures: `sealift clock set`; then ask again",
        )


def _is_believed(found: ClockRecord, shown: datetime, ticks: int) -> bool:
    # The watch looks every few seconds; who asks in between looks for a step too.
    step = shown - found.expected(ticks)
    return found.verdict.is_certain and abs(step) <= timedelta(seconds=SMALL_SECONDS)
