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
from pathlib import Path

import pytest

from tests.support.callers import Caller, require_everything_promised
from tests.support.ledger import LedgerSite, ledger_site

ROUNDS = int(os.environ.get("SEALIFT_KILL_ROUNDS", "10"))
WRITERS = 4

pytestmark = pytest.mark.fault


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
