"""The ledger is killed in the middle of its work, again and again, while writers keep writing.

Scenario: four writers, eight records in flight each; SIGKILL after a random moment; start again; the writers send
what was not acknowledged once more, under the same keys. Promise: whatever was acknowledged is there, at its place
and with its hash; nothing is there twice; the whole tree verifies. `SEALIFT_KILL_ROUNDS` sets the number of rounds.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from appliance.audit import pin
from appliance.audit.client import Appended, SocketLedger
from appliance.audit.verify import verify
from appliance.errors import LedgerUnavailableError
from tests.support.ledger import LedgerSite, intent, ledger_site

ROUNDS = int(os.environ.get("SEALIFT_KILL_ROUNDS", "10"))
WRITERS = 4
IN_FLIGHT = 8

pytestmark = pytest.mark.fault


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


def kill_while_writing(site: LedgerSite, callers: list[Caller], after_seconds: float) -> None:
    with site.process() as running:
        ledgers = [site.door("ledger-gateway") for _ in callers]
        threads = [
            threading.Thread(target=caller.write, args=(ledger,))
            for caller, ledger in zip(callers, ledgers, strict=True)
        ]
        for thread in threads:
            thread.start()
        time.sleep(after_seconds)
        running.send_signal(signal.SIGKILL)
        running.wait()
        for thread in threads:
            thread.join()
        for ledger in ledgers:
            ledger.close()


def require_everything_promised(site: LedgerSite, callers: list[Caller]) -> None:
    with site.process():
        ledger = site.door("ledger-gateway")
        leaves = ledger.leaves(0, 10**9, kinds=["request.intent"])
        places = {leaf.sequence: leaf for leaf in leaves}
        for caller in callers:
            for name, promise in caller.promised.items():
                leaf = places[promise.sequence]
                assert (leaf.body["request_id"], leaf.hash) == (name, promise.leaf_hash)
        assert max(Counter(leaf.body["request_id"] for leaf in leaves).values(), default=1) == 1
        done = verify(ledger, pinned=pin.read_pin(site.places))
        assert done.ok, done.findings
        ledger.close()


def test_nothing_acknowledged_is_lost_or_doubled_when_the_ledger_is_killed(tmp_path: Path) -> None:
    callers = [Caller(number) for number in range(WRITERS)]
    with ledger_site(tmp_path) as site:
        for _ in range(ROUNDS):
            kill_while_writing(site, callers, random.uniform(0.02, 0.3))
        require_everything_promised(site, callers)

    assert sum(len(caller.promised) for caller in callers) > ROUNDS


def test_a_ledger_killed_while_it_starts_starts_again(tmp_path: Path) -> None:
    caller = Caller(0)
    with ledger_site(tmp_path) as site:
        kill_while_writing(site, [caller], 0.2)
        for _ in range(ROUNDS):
            started = site.start()
            time.sleep(random.uniform(0.1, 0.6))
            started.kill()
            started.wait()
        require_everything_promised(site, [caller])
