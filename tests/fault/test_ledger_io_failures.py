"""Every call of the ledger to its disk fails once, one after another, at opening, at appending and at folding.

Promise: whatever was acknowledged is there, at its place and with its hash, nothing is there twice, and the whole tree
verifies, whichever call failed and however. Each run takes the first calls
and some of the next sixty, `SEALIFT_DEEP=1` the first hundred.
"""

import os
from collections import Counter
from pathlib import Path

import pytest

from appliance.audit import pin
from appliance.audit.reserve import FILE_NAME as RESERVE
from appliance.audit.room import FULL, ROOM, asked
from appliance.audit.sqlite_backend import FILE_NAME
from appliance.audit.verify import verify
from appliance.errors import LedgerFullError, LedgerUnavailableError
from tests.support.failing_io import run_with_failure
from tests.support.ledger import LedgerSite, ledger_site

EACH = bool(os.environ.get("SEALIFT_DEEP"))
FIRST, LAST = 6, 60
GROUPS = 4
ENDINGS = {0, LedgerUnavailableError.exit_code, LedgerFullError.exit_code}

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]


def files_of(site: LedgerSite) -> list[Path]:
    place = site.places.ledger
    return [place / f"{FILE_NAME}{ending}" for ending in ("", "-wal", "-shm", "-journal")] + [place, place / RESERVE]


def numbers(step: int) -> list[int]:
    return [*range(1, 101)] if EACH else [*range(1, FIRST + 1), *range(FIRST + step, LAST, step)]


@pytest.mark.parametrize(("error", "step"), [("EIO", 4), ("ENOSPC", 7)])
def test_nothing_acknowledged_is_lost_whichever_call_fails(tmp_path: Path, error: str, step: int) -> None:
    promised: dict[str, tuple[int, str]] = {}
    met: Counter[str] = Counter()
    with ledger_site(tmp_path) as site:
        if error == "ENOSPC":
            with site.running():
                pass  # the other one begins with no ledger, so that making it fails as well
        for number in numbers(step):
            done = run_with_failure(
                "tests.support.appending",
                [str(site.config_file), f"{error}{number}", str(GROUPS)],
                files=files_of(site),
                number=number,
                error=error,
                log=tmp_path / "strace",
            )
            assert done.code in ENDINGS, (number, done)
            met.update(done.calls)
            for said in done.lines:
                request, sequence, leaf_hash = said.split()
                promised[request.rpartition("/")[2]] = (int(sequence), leaf_hash)
            if not done.calls:
                break
        with site.process():
            ledger = site.door("ledger-gateway")
            leaves = {leaf.sequence: leaf for leaf in ledger.leaves(0, 10**9, kinds=["request.intent"])}
            told = verify(ledger, pinned=pin.read_pin(site.places))
            full, room = ledger.find(kind=FULL, limit=500), ledger.find(kind=ROOM, limit=500)
            ledger.close()
            standing = asked(site.places.socket("ledger-gateway"))

    assert told.ok, told.findings
    for request, (place, promise) in promised.items():
        assert (leaves[place].body["request_id"], leaves[place].hash) == (request, promise)
    assert max(Counter(leaf.body["request_id"] for leaf in leaves.values()).values()) == 1
    assert met["pwrite64"] >= 5  # so calls did fail
    assert error == "ENOSPC" or met["fdatasync"] + met["fsync"] >= 1
    assert bool(full) is bool(room) is (error == "ENOSPC")  # the turns are recorded, there and back
    assert standing is not None
    assert (standing.closing, standing.held) == (False, standing.wanted)
    assert len(promised) > GROUPS
