"""The key of a ledger on a PostgreSQL server is renewed, also when it is killed while it talks to the server."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from appliance.actions.auditing.making import Wanted, make
from appliance.audit import note, succession
from appliance.audit.client import OfflineLedger
from appliance.audit.verify import verify
from appliance.config import DatabaseSection
from media.clock import SystemClock
from tests.support import checker
from tests.support.ledger import LedgerSite, ledger_site
from tests.support.traced_ledger import renewal_asked, traced

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

CALLS = "sendto,sendmsg"
STEP, LEAST = 6, 3


@pytest.fixture
def site(new_database: Callable[[], DatabaseSection], tmp_path: Path) -> Iterator[LedgerSite]:
    with ledger_site(tmp_path, database=new_database()) as made:
        yield made


def killed(site: LedgerSite, log: Path, number: int) -> bool:
    """Start the ledger and kill it at a message to the server; return whether it came to that."""
    return traced(site, log, ["-e", f"trace={CALLS}", "-e", f"inject={CALLS}:signal=KILL:when={number}"])


def require_sound(site: LedgerSite, pinned: note.VerifierKey, printed: str) -> int:
    """Return how often the key was renewed, once what the server holds was verified."""
    ledger = OfflineLedger(site.places, clock=SystemClock())
    done = verify(ledger, pinned=pinned, notes=[printed])
    assert done.ok, done.findings
    return len(ledger.find(kind=succession.ROTATED, limit=9))


def test_the_key_is_renewed_once_wherever_the_ledger_was_killed(site: LedgerSite, tmp_path: Path) -> None:
    pinned, printed = renewal_asked(site, records=5)
    were: list[int] = []
    for number in range(STEP, 1000, STEP):
        if not killed(site, tmp_path / "strace", number):
            break
        were.append(require_sound(site, pinned, printed))

    with site.process(), closing(site.door("ledger-operator")) as door:
        text = door.checkpoint()
        assert succession.verified(door, text, pinned).size == door.head().size
        assert verify(door, pinned=pinned, notes=[printed, text]).findings == ()
    assert require_sound(site, pinned, printed) == 1
    assert were == sorted(were)
    assert len(were) > LEAST


def test_an_export_from_the_server_is_taken_by_the_checker_with_either_key(site: LedgerSite, tmp_path: Path) -> None:
    pinned, printed = renewal_asked(site, records=5)
    (tmp_path / "print.txt").write_text(printed)
    with site.process(), closing(site.door("ledger-operator")) as door:
        make(door, tmp_path / "out", Wanted(site="demo", key=pinned, printed=[printed]), clock=SystemClock())
        (leaf,) = door.find(kind=succession.ROTATED)
    for key in (pinned.to_text(), str(leaf.body["vkey"])):
        told = checker.check("ledger", "--key", key, "--printed", tmp_path / "print.txt", tmp_path / "out")
        assert told.returncode == 0, told.stdout + told.stderr
