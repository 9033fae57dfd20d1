"""How long the newest quarter that is over has waited for its report: a timer that does not run says nothing itself."""

from typing import Final

from appliance.actions.reports.making import REPORTED
from appliance.actions.reports.period import last_quarter
from appliance.audit.facts import Ledger
from media.clock import Clock, from_text

LIMIT_SECONDS: Final = 7 * 86400
"""Its timer runs on the second day after a quarter; a box that was off then makes up for it."""


def waiting_seconds(ledger: Ledger, clock: Clock) -> float:
    """Return how long ago that quarter ended; 0 where its report is on record, or no record is as old as it.

    Args:
        ledger: Where reports are recorded.
        clock: The time that is believed.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    now = clock.now()
    period = last_quarter(now)
    newest = ledger.find(REPORTED, field="name", value=period.name, limit=1)
    if any(leaf.time >= period.until for leaf in newest):  # one of before its end lacks what came after
        return 0.0
    if not ledger.head().size or ledger.leaf(0).time >= period.until:
        return 0.0
    return (now - from_text(period.until)).total_seconds()
