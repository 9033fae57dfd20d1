"""Callers of a ledger that is killed: what they were promised, and what they send again."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing

from appliance.audit import pin
from appliance.audit.client import Appended, SocketLedger
from appliance.audit.verify import verify
from appliance.errors import LedgerUnavailableError
from tests.support.ledger import LedgerSite, intent

IN_FLIGHT = 8


class Caller:
    """Writes groups of records until the ledger is gone; remembers what it was promised and what it still waits for."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.count = 0
        self.promised: dict[str, Appended] = {}
        self.waiting: list[str] = []

    def write(self, ledger: SocketLedger) -> None:
        while True:
            if not self.waiting:
                self.waiting = [f"w{self.number}_{self.count + offset}" for offset in range(IN_FLIGHT)]
                self.count += IN_FLIGHT
            records = [("request.intent", intent(name, text=name * 100)) for name in self.waiting]
            try:
                found = ledger.append_many(records, keys=self.waiting)
            except LedgerUnavailableError:
                return
            self.promised.update(zip(self.waiting, found, strict=True))
            self.waiting = []


def require_everything_promised(site: LedgerSite, callers: Sequence[Caller]) -> None:
    with site.process(), closing(site.door("ledger-gateway")) as ledger:
        require_once(ledger, site, callers)


def require_once(ledger: SocketLedger, site: LedgerSite, callers: Sequence[Caller]) -> None:
    """Hold a ledger that runs to what it promised: all of it is there once, at its place, and the tree verifies."""
    leaves = ledger.leaves(0, 10**9, kinds=["request.intent"])
    places = {leaf.sequence: leaf for leaf in leaves}
    for caller in callers:
        for name, promise in caller.promised.items():
            leaf = places[promise.sequence]
            assert (leaf.body["request_id"], leaf.hash) == (name, promise.leaf_hash)
    assert max(Counter(leaf.body["request_id"] for leaf in leaves).values(), default=1) == 1
    done = verify(ledger, pinned=pin.read_pin(site.places))
    assert done.ok, done.findings
