"""Where a bundle ends: with the newest record, or earlier, where all of them would be more than the other box can take.

Promises: a bundle ends where the ledger signed a checkpoint, and with one by the key that signs the bundle, too: after
the record that named that key, so that whoever takes the bundle can follow to it. So a box that lacks much gets it in
several bundles, each proven like any other.
"""

from dataclasses import dataclass
from typing import Final

from appliance.audit import succession
from appliance.audit.facts import EvidenceLedger

_PAGE: Final = 500
_EIGHTHS: Final = (7, 6, 4, 2, 0)
"""Of what fits, where a checkpoint is looked for: late ones first, and few looks, since each reads all there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A checkpoint before the newest record: of how many records, and its text."""

    size: int
    note: str


def earlier(ledger: EvidenceLedger, *, since: int, aim: int) -> Ending | None:
    """Return where a bundle ends that would be too large with all records; None where it ends with the newest.

    Where no checkpoint lies within what fits, it is the next one that does not fit.

    Args:
        ledger: This box's own.
        since: How many records the other box holds.
        aim: How many bytes of records fit.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    reached = _reached(ledger, since, aim)
    if reached is None:
        return None
    # The tree that ends with that record the key before may have signed (SUC-2), which the other box need not know.
    least = max(since, succession.records(ledger)[-1].sequence + 1) + 1
    found: tuple[int, str] | None = None
    for eighths in _EIGHTHS:
        start = least + max(reached - least, 0) * eighths // 8
        found = next(iter(ledger.checkpoints(start, 1)), found)
        if found is not None and found[0] <= reached:
            break
    return None if found is None else Ending(size=found[0], note=found[1])


def _reached(ledger: EvidenceLedger, since: int, aim: int) -> int | None:
    """Return how many records there are up to the last one that fits; None where all do."""
    total, sequence = 0, since
    while page := ledger.leaves(sequence, _PAGE):
        for leaf in page:
            total += len(leaf.raw) + 1
            if total > aim:
                return leaf.sequence
        sequence = page[-1].sequence + 1
    return None
