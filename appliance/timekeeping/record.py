"""What this box knows of its own clock, as one small file in two places (format 1).

    /var/lib/sealift/clock/clock.json    durable: floor and verdict outlive a dead battery
    /run/sealift/clock/clock.json        published: of this boot, since the folder is empty after each start

Both hold nothing secret and anybody may read them; the watch (`appliance.actions.clockwatch`) alone writes them.

Promises: a file has one byte form (RFC 8785), and whatever else lies there is refused, never guessed at. Times are
whole seconds in UTC; ticks are whole seconds of the kernel's monotonic clock, which nobody can set.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from appliance.config import Places
from appliance.errors import ClockUncertainError
from media import canonical, clock, durable, limits
from media.errors import MediaError

FORMAT: Final = 1
FILE: Final = "clock.json"
MOST_UNTOLD: Final = 32
_MAX_BYTES: Final = 64 * 1024
_SESSION: Final = re.compile(r"[0-9a-f]{32}")
_WHAT: Final = "The record of the clock"
_LARGEST: Final = limits.INTEGER_MAX
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Verdict(StrEnum):
    """What is to be thought of the machine's clock."""

    GOOD = "good"
    UNCONFIRMED = "unconfirmed"
    BEHIND = "behind"
    JUMPED = "jumped"

    @property
    def is_certain(self) -> bool:
        """Whether decisions may rest on the clock itself; an unconfirmed one is after the floor and did not jump."""
        return self in {Verdict.GOOD, Verdict.UNCONFIRMED}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockRecord:
    """How the clock stood when it was last looked at.

    Attributes:
        session: This boot, by a random name.
        wall: What the clock showed.
        ticks: The monotonic seconds then.
        verdict: What was thought of it.
        before: The verdict before the present trouble; equal to `verdict` where there is none.
        floor: The latest time that is certain to have been.
        anchor_wall: A time that was believed.
        anchor_ticks: The monotonic seconds then.
        jump_seconds: How far the clock is from what was believed; 0 where it is believed.
        stepped_seconds: Sum of the small steps since somebody last answered for the clock.
        confirmed_by: Who answered for it last: names, or nobody.
        confirmed_at: When, by the clock that was answered for; empty for never.
        handled: How many records of the ledger were looked through for what people decided.
        awaited: A correction in seconds that people approved and that has not been seen yet; None for none.
        untold: Facts that the ledger has not taken yet, the oldest first.
    """

    session: str
    wall: datetime
    ticks: int
    verdict: Verdict
    before: Verdict
    floor: datetime
    anchor_wall: datetime
    anchor_ticks: int
    jump_seconds: int = 0
    stepped_seconds: int = 0
    confirmed_by: str = ""
    confirmed_at: str = ""
    handled: int = 0
    awaited: int | None = None
    untold: tuple[Mapping[str, Any], ...] = ()

    def believed(self, ticks: int) -> datetime:
        """Return the time that follows from what was last believed: never later than the truth by a jump."""
        return self.anchor_wall + timedelta(seconds=max(ticks - self.anchor_ticks, 0))

    def expected(self, ticks: int) -> datetime:
        """Return what an undisturbed clock would show now."""
        return self.wall + timedelta(seconds=max(ticks - self.ticks, 0))

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        value = asdict(self)
        for name in ("wall", "floor", "anchor_wall"):
            value[name] = clock.to_text(value[name])
        untold = [dict(one) for one in self.untold]
        return canonical.dumps(
            {**value, "format": FORMAT, "verdict": str(self.verdict), "before": str(self.before), "untold": untold}
        )

    @classmethod
    def from_bytes(cls, untrusted: bytes) -> Self:
        """Parse a file.

        Raises:
            MediaError: It is not in its one form.
        """
        names = [field.name for field in fields(cls)]
        value = canonical.exact_keys(
            canonical.loads_canonical(untrusted, max_bytes=_MAX_BYTES), ("format", *names), what=_WHAT
        )
        canonical.integer(value["format"], _WHAT, minimum=FORMAT, maximum=FORMAT)
        session = canonical.text(value["session"], _WHAT)
        if not _SESSION.fullmatch(session):
            session = "0" * 32  # belongs to no boot
        awaited = value["awaited"]
        untold = canonical.array(value["untold"], _WHAT, most=MOST_UNTOLD)
        return cls(
            session=session,
            wall=canonical.moment(value["wall"], _WHAT),
            ticks=canonical.integer(value["ticks"], _WHAT),
            verdict=canonical.one_of(value["verdict"], Verdict, _WHAT),
            before=canonical.one_of(value["before"], Verdict, _WHAT),
            floor=canonical.moment(value["floor"], _WHAT),
            anchor_wall=canonical.moment(value["anchor_wall"], _WHAT),
            anchor_ticks=canonical.integer(value["anchor_ticks"], _WHAT),
            jump_seconds=canonical.integer(value["jump_seconds"], _WHAT, minimum=-_LARGEST),
            stepped_seconds=canonical.integer(value["stepped_seconds"], _WHAT),
            confirmed_by=canonical.text(value["confirmed_by"], _WHAT, may_be_empty=True),
            confirmed_at=canonical.text(value["confirmed_at"], _WHAT, may_be_empty=True),
            handled=canonical.integer(value["handled"], _WHAT),
            awaited=None if awaited is None else canonical.integer(awaited, _WHAT, minimum=-_LARGEST),
            untold=tuple(canonical.mapping(one, _WHAT) for one in untold),
        )


def published(places: Places) -> ClockRecord | None:
    """Return how the watch saw the clock in this boot; None where no watch runs (demo, rehearsal, before install)."""
    return _read(places.clock_now / FILE)


def kept(places: Places) -> ClockRecord | None:
    """Return the durable record; None before the first, and where it does not read."""
    return _read(places.clock / FILE)


def latest(places: Places) -> ClockRecord | None:
    """Return the published record, else the durable one, else None."""
    return published(places) or kept(places)


def publish(places: Places, record: ClockRecord) -> None:
    """Show the record to everybody on this machine.

    Raises:
        OSError: It cannot be written.
    """
    durable.replace(places.clock_now / FILE, record.to_bytes(), mode=0o644)


def keep(places: Places, record: ClockRecord) -> None:
    """Write the record so that it outlives a power cut.

    Raises:
        OSError: It cannot be written.
    """
    durable.replace(places.clock / FILE, record.to_bytes(), mode=0o644)


def require_watched(places: Places) -> ClockRecord:
    """Return the published record.

    Raises:
        ClockUncertainError: Nobody watches the clock here.
    """
    found = published(places)
    if found is None:
        raise ClockUncertainError(
            what="nobody watches this machine's clock",
            why="sealift-clock has not told anything since the machine started",
            fix="see `systemctl status sealift-clock`",
        )
    return found


class Remembered:
    """One of the record's files for who asks often: read anew only where it was replaced since, as each write does."""

    def __init__(self, path: Path) -> None:
        self._path, self._name = path, str(path)
        self._last: tuple[tuple[int, ...], ClockRecord] | None = None

    def read(self) -> ClockRecord | None:
        """Return the record; None where there is none, or it does not read."""
        try:
            at = os.stat(self._name)  # noqa: PTH116 - asked at each request, and a path's own takes twice as long
        except OSError:
            return None
        which = (at.st_dev, at.st_ino, at.st_mtime_ns, at.st_ctime_ns, at.st_size)
        last = self._last  # once: other threads ask, too
        if last is not None and last[0] == which:
            return last[1]
        found = _read(self._path)
        self._last = None if found is None else (which, found)
        return found


def published_of(places: Places) -> Remembered:
    """Return what `published` reads, for who asks often."""
    return Remembered(places.clock_now / FILE)


def kept_of(places: Places) -> Remembered:
    """Return what `kept` reads, for who asks often."""
    return Remembered(places.clock / FILE)


def _read(path: Path) -> ClockRecord | None:
    try:
        with path.open("rb") as file:
            return ClockRecord.from_bytes(file.read(_MAX_BYTES + 1))
    except (OSError, MediaError):
        return None
