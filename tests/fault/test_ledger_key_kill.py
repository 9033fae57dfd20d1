"""The ledger's process is killed while its key is renewed, at one call to its disk after another.

Promise: the old key is in force or the new one, never neither and never both; the tree verifies with the key that is
pinned and with every print of before; the next start ends the renewal, with one record, signed by both keys. Each run
kills at some of the calls, `SEALIFT_DEEP=1` at every one.
"""

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from appliance.audit import note, succession
from appliance.audit.client import OfflineLedger
from appliance.audit.rotating import KEY_NAME
from appliance.audit.sqlite_backend import FILE_NAME
from appliance.audit.verify import verify
from appliance.keys.files import FileKeys
from media.clock import SystemClock
from tests.support.failing_io import CALLS
from tests.support.ledger import LedgerSite, ledger_site
from tests.support.traced_ledger import renewal_asked, traced

POINTS = 12

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1200)]


def _traced(site: LedgerSite, log: Path, *inject: str) -> bool:
    files = [site.places.ledger / f"{FILE_NAME}{ending}" for ending in ("", "-wal", "-shm", "-journal")]
    paths = [word for file in [*files, site.places.ledger] for word in ("-P", str(file))]
    return traced(site, log, ["-e", f"trace={CALLS}", *paths, *inject])


def require_one_key(site: LedgerSite, pinned: note.VerifierKey, printed: str) -> int:
    """Return which version is in force, once the ledger as the kill left it was verified."""
    ledger = OfflineLedger(site.places, clock=SystemClock())
    done = verify(ledger, pinned=pinned, notes=[printed])
    assert done.ok, done.findings
    keys = FileKeys(site.places.key_files)
    in_force = succession.of_ledger(ledger).in_force(ledger.head().origin).public
    (version,) = [one for one in keys.versions(KEY_NAME) if keys.public(KEY_NAME, version=one) == in_force]
    rotations = ledger.find(kind=succession.ROTATED, limit=9)
    assert len(rotations) == version - 1
    return version


def test_wherever_the_ledger_is_killed_one_key_is_in_force_and_the_next_start_ends_it(tmp_path: Path) -> None:
    with ledger_site(tmp_path) as site:
        pinned, printed = renewal_asked(site, records=20)
        shutil.copytree(site.places.ledger, tmp_path / "before")
        log = tmp_path / "strace"
        assert not _traced(site, log)
        calls = sum("(" in line and "+++" not in line for line in log.read_text(errors="replace").splitlines())
        step = 1 if os.environ.get("SEALIFT_DEEP") else max(calls // POINTS, 1)
        left: list[int] = []
        for number in range(1, calls + 1, step):
            shutil.rmtree(site.places.ledger)
            shutil.copytree(tmp_path / "before", site.places.ledger)
            if not _traced(site, log, "-e", f"inject={CALLS}:signal=KILL:when={number}"):
                break
            left.append(require_one_key(site, pinned, printed))

            with site.process(), closing(site.door("ledger-operator")) as door:
                told = verify(door, pinned=pinned, notes=[printed, door.checkpoint()])
                assert told.ok, told.findings
                (leaf,) = door.find(kind=succession.ROTATED, limit=9)
                (handover,) = [text for size, text in door.checkpoints(0, 500) if size == leaf.sequence + 1]
            assert len(note.parts(handover)[1]) == 2
            assert require_one_key(site, pinned, printed) == 2

    assert left == sorted(left)  # once the new key signs, no later kill brings the old one back
    assert set(left) == {1, 2}, (left, calls)
