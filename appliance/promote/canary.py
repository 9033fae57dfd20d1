"""Where a rollout stands, derived from promotions and never stored: the canary that runs, the version kept beside.

Rules (docs/format.md, "Promotions"):
  PROM-6  A canary starts beside a version that serves, with the signed statement of two people for its version; one at
          a time. Holding, resuming, aborting and cutting over name its version.
  PROM-7  Its time is what passed since its start, less the time on hold, by the records' times; so none is started,
          resumed or cut over while the machine's clock is not what decisions rest on.
  PROM-8  Cutting over makes its version the one in production; a fresh statement may come with it. The version before
          stays beside for the watch, until it is retired, or production changes again.
  PROM-9  Bringing another version forward, going back and stopping end a canary.
  PROM-10 A cut-over begins a watch of as many hours as its terms say, and so does bringing a version forward in the
          place of another, for 48 hours. It ends with its time, or when production changes or another canary starts.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Self

from appliance.promote.record import Kind, Promotion
from appliance.promote.terms import WATCH_HOURS, Terms

BUCKETS: Final = 10_000
"""Callers fall into so many equal parts, by a keyed hash."""
_STRIDE: Final = 6_700_417  # prime, so that neighbouring sequences begin far apart


def offset_of(sequence: int) -> int:
    """Return where the share of the canary that started at this record begins: not the same callers each time."""
    return sequence * _STRIDE % BUCKETS


def is_in_share(bucket: int, *, percent: int, offset: int) -> bool:
    """Tell whether callers of this bucket are a canary's share."""
    return (bucket - offset) % BUCKETS < percent * BUCKETS // 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A canary that runs or is on hold.

    Attributes:
        number: Of the promotion that started it.
        sequence: Of that promotion's record; requests after it count.
        control: The version in production beside it.
        held_since: Since when it is on hold; None while it runs.
        held_before: How long it was on hold before that.
        offset: Which callers are its share: changes from one canary to the next.
    """

    terms: Terms
    number: int
    sequence: int
    control: str
    started: datetime
    offset: int
    held_since: datetime | None = None
    held_before: timedelta = timedelta()

    @classmethod
    def of(cls, promotion: Promotion) -> Self:
        """Return the canary that a promotion starts."""
        assert promotion.terms is not None  # noqa: S101 - `Promotion.require_whole`
        return cls(
            terms=promotion.terms,
            number=promotion.number,
            sequence=promotion.sequence,
            control=promotion.model_digest or "",
            started=promotion.at,
            offset=offset_of(promotion.sequence),
        )

    @property
    def version(self) -> str:
        """The candidate's digest."""
        return self.terms.version

    @property
    def is_held(self) -> bool:
        """Whether no caller is added for now."""
        return self.held_since is not None

    def ran(self, now: datetime) -> timedelta:
        """Return how long it ran until now, the time on hold not counted."""
        until = self.held_since or now
        return max(until - self.started - self.held_before, timedelta())

    def left(self, now: datetime) -> timedelta:
        """Return how long it still has to run."""
        return max(timedelta(hours=self.terms.hours) - self.ran(now), timedelta())

    def after(self, promotion: Promotion) -> Self:
        """Return it after it was held or resumed."""
        if promotion.kind is Kind.CANARY_HELD:
            return replace(self, held_since=promotion.at)
        waited = promotion.at - (self.held_since or promotion.at)
        return replace(self, held_since=None, held_before=self.held_before + max(waited, timedelta()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """The version before, which stays loaded after a cut-over, for going back in seconds and for what began on it.

    Attributes:
        since: Of the canary's start: conversations that began earlier began on it.
        cut_over: When production changed.
        until: When it may be retired.
    """

    version: str
    since: int
    cut_over: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """The time after another version came into production, in which it is held against the one before.

    Attributes:
        version: What serves now.
        before: What served until then.
        sequence: Of the record by which production changed; requests after it count.
        before_since: Of the record from which on the version before was production.
        began: When production changed.
        until: When the watch ends.
    """

    version: str
    before: str
    sequence: int
    before_since: int
    began: datetime
    until: datetime

    @classmethod
    def of(cls, promotion: Promotion, *, before_since: int) -> "Watch | None":
        """Return the watch that a promotion begins, if it begins one."""
        hours = WATCH_HOURS if promotion.terms is None else promotion.terms.watch_hours
        version, before = promotion.model_digest, promotion.previous
        if not version or not before or version == before or not hours:
            return None
        return cls(
            version=version,
            before=before,
            sequence=promotion.sequence,
            before_since=before_since,
            began=promotion.at,
            until=promotion.at + timedelta(hours=hours),
        )
