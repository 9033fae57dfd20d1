"""Monitoring figures as an EXPORT: what was counted in a time and how the box stands, without a name or a content.

For whoever looks after a box from outside its network (A10). Counts are those of a report, less departments, people
and models, which are this site's words; numbers are those that monitoring sees. What has another form is left out.
"""

from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, Final

from appliance.actions import exporting
from appliance.actions.export_types import ExportType
from appliance.actions.exporting import Export, Written
from appliance.actions.observed import FACTS, Sample, observed
from appliance.actions.reports.making import records
from appliance.actions.reports.period import Period
from appliance.actions.reports.tally import Tally
from appliance.audit.client import open_ledger
from appliance.audit.facts import EvidenceLedger
from appliance.config import Config
from appliance.install.supervisor import Supervisor
from appliance.keys.opening import open_keys
from media.clock import Clock, to_text
from media.sitefigures import LABEL, MOST, NAME, SiteFigures

DOOR: Final = "ledger-actions"
_DIGEST: Final = "digest"


def export(
    config: Config,
    folder: Path,
    *,
    period: Period,
    supervisor: Supervisor | None,
    clock: Clock,
    agrees: Callable[[str], bool],
) -> Written | None:
    """Show the figures of a time in full, record them and write them; None when the person did not agree.

    Args:
        config: The site's.
        folder: Where to write the file.
        period: What the counts are of; numbers are those of now.
        supervisor: Knows the units; without it nothing is said of them.
        clock: What time it is.
        agrees: Shows the whole text and returns the answer.

    Raises:
        ExportRefusedError: They hold what may not leave.
        LedgerUnavailableError: They could not be counted or recorded; nothing was written.
        StoreWriteError: They could not be written.
    """
    ledger = open_ledger(config, DOOR, clock=clock)
    try:
        made = taken(config, ledger, period=period, supervisor=supervisor, clock=clock)
        out = Export(kind=ExportType.FIGURES, site=config.site, name=f"figures-{config.site}", draft=made)
        return exporting.write(out, folder, ledger=ledger, keys=open_keys(config), agrees=agrees)
    finally:
        ledger.close()


def taken(
    config: Config, ledger: EvidenceLedger, *, period: Period, supervisor: Supervisor | None, clock: Clock
) -> SiteFigures:
    """Return the figures of a time; see `export`."""
    tally = Tally()
    for leaf in records(ledger, ledger.head().size):
        if period.holds(leaf.time):
            tally.take(leaf)
    samples = observed(config, ledger=ledger, supervisor=supervisor, clock=clock)
    return SiteFigures.of(
        {
            "site": config.site,
            "at": to_text(clock.now()),
            "since": period.since,
            "until": period.until,
            "counts": {
                "answers": {"begun": tally.answers.total(), "ended": tally.ended, "open": tally.open},
                "tokens": {"asked": tally.tokens_in.total(), "answered": tally.tokens_out.total()},
                "arms": _named(tally.arms),
                "classes": _named(tally.classes),
                "days": _named(tally.days),
                "outcomes": _named(tally.outcomes),
                "phi": _named(tally.phi),
                "refusals": _named(tally.refusals),
            },
            "numbers": list(_numbers(samples)),
        }
    )


def _named(counts: Mapping[str, int]) -> dict[str, int]:
    plain = ((name.replace(" ", "-"), count) for name, count in sorted(counts.items()))
    return {name: count for name, count in plain if NAME.fullmatch(name)}


def _numbers(samples: Iterator[Sample]) -> Iterator[dict[str, Any]]:
    for one in samples:
        whole = round(one.value * 1000) if isfinite(one.value) else MOST + 1
        is_plain = _DIGEST not in one.labels and all(LABEL.fullmatch(value) for value in one.labels.values())
        if one.name in FACTS and is_plain and abs(whole) <= MOST:
            yield {"name": one.name, "labels": dict(one.labels), "thousandths": whole}
