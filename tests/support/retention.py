"""A site's retention in a folder: keys in files, a clock that moves, a ledger in memory."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from appliance.actions.retention.deeds import Retention
from appliance.actions.retention.reviewstore import ReviewStore
from appliance.audit.memory import MemoryLedger
from appliance.keys.files import FileKeys, create_missing
from media.clock import FixedClock

BEGIN = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
DAY = 86400.0
WHO = {"person": "ada", "reason": "asked by the person"}


@dataclass(frozen=True, kw_only=True)
class Kept:
    folder: Path
    clock: FixedClock
    ledger: MemoryLedger
    keys: FileKeys
    store: ReviewStore
    retention: Retention

    def kinds(self) -> list[str]:
        return [leaf.kind for leaf in self.ledger.leaves(1, 1000)]


def kept(folder: Path) -> Kept:
    create_missing(folder / "keys")
    clock, keys = FixedClock(BEGIN), FileKeys(folder / "keys")
    ledger = MemoryLedger(clock)
    store = ReviewStore(folder / "review", keys=keys, clock=clock)
    retention = Retention(store, ledger, clock=clock)
    return Kept(folder=folder, clock=clock, ledger=ledger, keys=keys, store=store, retention=retention)
