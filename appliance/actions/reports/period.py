"""The time that a report is about: a quarter, or from one moment to another; its end is not in it."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from appliance.actions.auditing.span import moment
from media.clock import from_text, to_text
from media.errors import UsageError

_QUARTER: Final = re.compile(r"(20[0-9]{2})Q([1-4])", re.ASCII)
_MONTHS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """`since` is the first moment, `until` the first after it, as the ledger writes times; `name` names files."""

    name: str
    since: str
    until: str

    def holds(self, time: str) -> bool:
        """Tell whether a record of this time is in it."""
        return self.since <= time < self.until


def is_quarter(untrusted: str) -> bool:
    """Tell whether a text names a quarter, such as 2026Q4."""
    return bool(_QUARTER.fullmatch(untrusted))


def require_quarter(untrusted: str) -> str:
    """Return the name of a quarter.

    Raises:
        UsageError: It is none.
    """
    if not is_quarter(untrusted):
        raise UsageError(what="that is no quarter", why="", fix="write 2026Q4")
    return untrusted


def quarter(name: str) -> Period:
    """Return a quarter of a year, in UTC.

    Raises:
        UsageError: It is none.
    """
    year, number = int(require_quarter(name)[:4]), int(name[5])
    begin = datetime(year, _MONTHS * (number - 1) + 1, 1, tzinfo=UTC)
    return Period(name=name, since=to_text(begin), until=to_text(_next(begin)))


def last_quarter(now: datetime) -> Period:
    """Return the newest quarter that is over."""
    first = datetime(now.year, now.month - (now.month - 1) % _MONTHS, 1, tzinfo=UTC)
    before = first - timedelta(days=1)
    return quarter(f"{before.year}Q{(before.month - 1) // _MONTHS + 1}")


def this_quarter(now: datetime) -> Period:
    """Return the quarter that is not over."""
    return quarter(f"{now.year}Q{(now.month - 1) // _MONTHS + 1}")


def between(since: str, until: str) -> Period:
    """Return the time from one day or moment to another.

    Raises:
        UsageError: One of them is none, or the end is not after the beginning.
    """
    begin, end = moment(since), moment(until)
    if from_text(begin) >= from_text(end):
        raise UsageError(what="the report would be about no time", why=f"{begin} to {end}", fix="swap the two times")
    return Period(name=f"{begin[:10]}-{end[:10]}", since=begin, until=end)


def _next(begin: datetime) -> datetime:
    month = begin.month + _MONTHS
    return begin.replace(year=begin.year + month // 13, month=month % 12)


def named(untrusted_quarter: str, since: str, until: str, *, now: datetime) -> Period:
    """Return the time that a person named: a quarter, `last` for the newest that is over, or two moments.

    Raises:
        UsageError: None is named, both are, or one is no time.
    """
    if bool(untrusted_quarter) == bool(since or until) or bool(since) != bool(until):
        raise UsageError(what="name one time", why="", fix="give --quarter 2026Q4, or a beginning and an end")
    if not untrusted_quarter:
        return between(since, until)
    return last_quarter(now) if untrusted_quarter == "last" else quarter(untrusted_quarter)
