"""When what is due was last destroyed, and how late that may become: a promise to delete needs somebody who looks."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from appliance.actions.findings import Finding
from appliance.actions.retention.deeds import FLOOR_YEARS, unfinished
from appliance.audit.epochs import OPENED
from appliance.audit.facts import Ledger
from appliance.timekeeping.judging import age_of
from media.clock import Clock, from_text

RAN: Final = "retention.ran"
LIMIT_SECONDS: Final = 48 * 3600
"""Its timer runs every day; a box that is off over a night makes up for it."""
_TELLABLE_SECONDS: Final = FLOOR_YEARS * 365 * 24 * 3600
"""How old a cut-off erasure may be to be told: with the key of its year nobody can tell any more whom it was about."""
UNKNOWN_SECONDS: Final = timedelta.max.total_seconds()
"""An age that nobody knows: it counts as overdue."""


def age_seconds(ledger: Ledger, clock: Clock) -> float:
    """Return how long ago the last run ended; before the first one, how old the ledger is. 0 for an empty ledger.

    `UNKNOWN_SECONDS` where every record of that seems still to come.

    Args:
        ledger: Where runs are recorded.
        clock: The time that is believed.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    now = clock.now()
    ages = [age_of(from_text(leaf.time), now) for leaf in [*ledger.find(RAN), *ledger.find(OPENED, limit=1)]]
    # A run that seems still to come would hide for years that none follows.
    passed = [age for age in ages if age is not None]
    if passed:
        return passed[0].total_seconds()
    return UNKNOWN_SECONDS if ages else 0.0


def ago(age: float) -> str:
    """Return how long ago that was, for people."""
    return "at an unknown time" if age >= UNKNOWN_SECONDS else f"{age / 3600:.0f} hours ago"


def findings(ledger: Ledger, clock: Clock, *, node: str = "") -> Iterator[Finding]:
    """Look at when what is due was last destroyed, and whether an erasure that was begun was ended.

    Args:
        ledger: Where both are recorded.
        clock: The time that is believed.
        node: This node's name; empty where a single one answers.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    age = age_seconds(ledger, clock)
    yield Finding(
        name="retention",
        is_good=age <= LIMIT_SECONDS,
        text=f"what is due was last destroyed {ago(age)}" if ledger.find(RAN, limit=1) else "not yet run",
        why="samples and keys stay longer than this site promised",
        fix="systemctl status sealift-retention.timer; sealift retention run",
    )
    for begun in unfinished(ledger, node):
        if (clock.now() - from_text(begun.time)).total_seconds() < _TELLABLE_SECONDS:
            yield Finding(
                name="erasure",
                is_good=False,
                text=f"the erasure that record {begun.sequence} begins was not recorded as done",
                why="it was cut off, so samples of that person may still be here",
                fix="`sealift retention erase` for that person again",
            )
