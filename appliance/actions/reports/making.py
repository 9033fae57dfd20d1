"""Making a report: every record is read once, the tree is recomputed on the way, and that it was made is recorded.

    report.json   all figures, RFC 8785; the same as in the sheets
    report.html   to read: one file, nothing in it runs or is loaded
    report.pdf    to print and sign

The record ``evidence.reported`` names the SHA-256 of each, so that a sheet in a drawer can be held against the ledger.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.actions.auditing.records import Observed
from appliance.actions.reports.access import Access
from appliance.actions.reports.machines import Machines
from appliance.actions.reports.period import Period
from appliance.actions.reports.purposes import Purposes
from appliance.actions.reports.sheet import sheet
from appliance.actions.reports.tally import Tally
from appliance.actions.reports.usage import Usage
from appliance.audit import note, succession, tree
from appliance.audit.facts import EvidenceLedger
from appliance.audit.leaf import Leaf
from appliance.audit.verify import verify
from appliance.costs import CostSection
from appliance.paper.drawn import drawn
from media import canonical
from media.clock import Clock, to_text
from media.digest import sha256_hex
from media.errors import UsageError

FORMAT: Final = 1
TYPE: Final = "sealift/report"
REPORTED: Final = "evidence.reported"
SUFFIXES: Final = (".json", ".html", ".pdf")
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report: its figures, and the files by their endings."""

    facts: dict[str, Any]
    files: dict[str, bytes]


def counted(
    ledger: EvidenceLedger,
    period: Period,
    *,
    site: str,
    key: note.VerifierKey,
    clock: Clock,
    prices: CostSection | None = None,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> dict[str, Any]:
    """Return all figures of a time; reads every record, and twice, since the ledger is verified as a whole first.

    Args:
        ledger: Any way in.
        period: What it is about.
        site: Named in it.
        key: The verifier key that must have signed the ledger's checkpoint.
        clock: For its date.
        prices: The site's, for what answers cost; without any no cost is told.
        progress: Called with records read and records to read.

    Raises:
        UsageError: The time has not begun.
        LedgerUnavailableError: The ledger neither answers nor reads.
        ProofError: The checkpoint is not signed by this key.
    """
    now = to_text(clock.now())
    if now < period.since:
        raise UsageError(what=f"{period.name} has not begun", why=f"it is {now}", fix="name a time that has")
    signed = succession.verified(ledger, ledger.checkpoint(), key)
    verified = verify(ledger, pinned=key, progress=lambda done, of: progress(done, 2 * of))
    tally, access, machines, observed = Tally(), Access(), Machines(since=period.since), Observed()
    usage, purposes = Usage(prices=prices or CostSection()), Purposes(keys=access.keys)
    frontier: list[bytes] = []
    for leaf in records(ledger, signed.size):
        tree.push(frontier, leaf.sequence, tree.leaf_hash(leaf.raw))
        if leaf.time < period.until:
            access.take(leaf)
            machines.take(leaf)
        if period.holds(leaf.time):
            tally.take(leaf)
            observed.take(leaf)
            usage.take(leaf)
            purposes.take(leaf)
        if leaf.sequence % _PAGE == 0:
            progress(signed.size + leaf.sequence, 2 * signed.size)
    is_the_signed_tree = tree.root_of(frontier) == signed.root
    return {
        "format": FORMAT,
        "type": TYPE,
        "site": site,
        "period": {"name": period.name, "since": period.since, "until": period.until, "is_over": now >= period.until},
        "at": now,
        "ledger": {
            "origin": signed.origin,
            "size": signed.size,
            "root": signed.root.hex(),
            "holds": verified.ok and is_the_signed_tree,
            "findings": list(verified.findings) + ([] if is_the_signed_tree else ["the records are not those signed"]),
            "remarks": list(verified.remarks),
            "checkpoints": verified.kept,
            "beyond": max(0, verified.size - signed.size),
        },
        **tally.to_json(),
        **usage.to_json(),
        "purposes": purposes.to_json(),
        "times": observed.times(),
        "erased": len(observed.erased),
        "people": access.people_rows(since=period.since),
        "people_unread": access.unread,
        "keys": access.key_rows(until=min(period.until, now)),
        "automation": machines.rows(until=min(period.until, now)),
        "automation_strangers": machines.strangers,
    }


def made(facts: dict[str, Any]) -> Report:
    """Return the report with its files; equal figures give equal bytes."""
    form = sheet(facts)
    files = {suffix: drawn(form, Path(f"report{suffix}")) for suffix in (".html", ".pdf")}
    return Report(facts=facts, files={".json": canonical.dumps(facts) + b"\n", **files})


def record(ledger: EvidenceLedger, report: Report) -> int:
    """Record that a report was made, with the digest of each of its files; return the sequence.

    Raises:
        LedgerUnavailableError: It is not recorded; do not hand it out.
    """
    period, figures = report.facts["period"], report.facts["ledger"]
    body = {
        **{name: period[name] for name in ("name", "since", "until")},
        "size": figures["size"],
        "root": figures["root"],
        "files": {suffix.removeprefix("."): sha256_hex(content) for suffix, content in report.files.items()},
    }
    return ledger.append(REPORTED, body).sequence


def records(ledger: EvidenceLedger, size: int) -> Iterator[Leaf]:
    """Yield so many records, from the first on."""
    place = 0
    while place < size and (page := ledger.leaves(place, min(_PAGE, size - place))):
        yield from page
        place = page[-1].sequence + 1
