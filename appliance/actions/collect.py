"""Garbage collection of the store: bytes that only deleted versions needed, removed and recorded.

    lock -> what is deleted, by the ledger -> what nothing needs -> record -> unlink

Promises: nothing is removed that a stored release names for a version that is not deleted, or that is being received;
what is removed is recorded first; cut off at any point, it is finished by running it again.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.registry.deletion import deleted
from appliance.store.content import ContentStore
from appliance.store.garbage import Garbage, garbage, remove
from media import canonical

COLLECTED: Final = "store.collected"
_MOST_LISTED: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectFacts:
    """What was removed, or would be."""

    found: tuple[Garbage, ...]
    removed: bool
    sequence: int | None

    @property
    def bytes(self) -> int:
        """All bytes of it."""
        return sum(one.bytes for one in self.found)

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        return {
            "objects": [one.to_json() for one in self.found],
            "bytes": self.bytes,
            "removed": self.removed,
            "sequence": self.sequence,
        }


def collect(config: Config, ledger: Ledger, *, dry_run: bool = False) -> CollectFacts:
    """Remove what nothing needs, or say what that is.

    Raises:
        StoreBusyError: A receive runs.
        StoreDamagedError: A release's record does not read, so it cannot be told what is needed.
        StoreWriteError: The store cannot be written.
        LedgerUnavailableError: It could not be recorded; nothing was removed.
    """
    store = ContentStore(config.at.store)
    if dry_run:
        return CollectFacts(found=garbage(store, deleted(ledger)), removed=False, sequence=None)
    with store.locked():
        found = garbage(store, deleted(ledger))
        if not found:
            return CollectFacts(found=(), removed=False, sequence=None)
        names = canonical.dumps([one.sha256 for one in found])
        body = {
            "site": config.site,
            "count": len(found),
            "bytes": sum(one.bytes for one in found),
            "objects": [one.to_json() for one in found[:_MOST_LISTED]],
            "objects_sha256": sha256(names).hexdigest(),
        }
        done = ledger.append(COLLECTED, body)
        remove(store, found)
    return CollectFacts(found=found, removed=True, sequence=done.sequence)
