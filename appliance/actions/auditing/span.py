"""Which records an export holds: all, or those between two times by the ledger's own clock."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from appliance.audit.facts import Ledger
from media.clock import from_text, to_text
from media.errors import UsageError

PAGE: Final = 500
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Records `start` to `end` - 1 of a tree of `size`."""

    start: int
    end: int
    size: int


def moment(untrusted: str) -> str:
    """Return a time as the ledger writes it; a day alone is its first moment in UTC.

    Raises:
        UsageError: It is neither a day nor a time.
    """
    try:
        if _DAY.fullmatch(untrusted):
            return to_text(datetime.fromisoformat(untrusted).replace(tzinfo=UTC))
        return to_text(from_text(untrusted))
    except (ValueError, TypeError) as error:
        raise UsageError(
            what=f"{untrusted[:40]!r} is no time", why="", fix="write 2026-11-30 or 2026-11-30T12:00:00Z"
        ) from error


def between(ledger: Ledger, size: int, *, since: str = "", until: str = "") -> Span:
    """Return the records whose time is at least `since` and below `until`; texts as `moment` returns them.

    Where the clock went back, the range is the smallest without a gap that holds all of them.

    Raises:
        UsageError: There is none.
    """
    if not since and not until:
        return Span(start=0, end=size, size=size)
    first, last, place = -1, -1, 0
    while place < size and (page := ledger.leaves(place, min(PAGE, size - place))):
        for leaf in page:
            if since <= leaf.time and (not until or leaf.time < until):
                first, last = (leaf.sequence if first < 0 else first), leaf.sequence
        place = page[-1].sequence + 1
    if first < 0:
        raise UsageError(what="no record is of that time", why=f"{since or 'any'} to {until or 'now'}", fix="widen it")
    return Span(start=first, end=last + 1, size=size)
