import signal
import sqlite3
import stat
from pathlib import Path

import pytest

from appliance.audit import exclusive
from appliance.audit.client import OfflineLedger, SocketLedger, open_ledger
from appliance.audit.offline import SPOOLED
from appliance.audit.spool import Spool
from appliance.audit.sqlite_backend import FILE_NAME
from appliance.errors import LedgerRefusedError, LedgerUnavailableError
from media.clock import SystemClock
from media.errors import UsageError
from tests.support.ledger import LedgerSite, bodies, intent


def reader(site: LedgerSite, *, spool: bool = False) -> OfflineLedger:
    return OfflineLedger(site.places, clock=SystemClock(), spool=spool)


def files(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_the_door_is_used_when_it_answers_and_the_file_when_not(site: LedgerSite) -> None:
    with site.running():
        through = open_ledger(site.config, "ledger-actions")
        assert isinstance(through, SocketLedger)
        size = through.head().size
        through.close()

    assert isinstance(ledger := open_ledger(site.config, "ledger-actions"), OfflineLedger)
    assert ledger.head().size == size


def test_reading_leaves_no_trace(site: LedgerSite) -> None:
    with site.running():
        pass
    before = files(site.places.ledger)

    ledger = reader(site)
    ledger.leaves(0, 10)
    ledger.checkpoint()
    ledger.inclusion(0)

    assert files(site.places.ledger) == before


def test_what_a_killed_service_left_in_its_log_is_read(site: LedgerSite) -> None:
    with site.process() as running:
        gateway = site.door("ledger-gateway")
        acknowledged = gateway.append_many([("request.intent", intent(f"req_{n}")) for n in range(20)])
        gateway.close()
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert (site.places.ledger / f"{FILE_NAME}-wal").stat().st_size > 0

    ledger = reader(site)

    assert ledger.head().size == acknowledged[-1].sequence + 1
    assert ledger.leaf(acknowledged[-1].sequence).hash == acknowledged[-1].leaf_hash


def test_a_log_whose_index_cannot_be_made_is_read_from_a_private_copy(site: LedgerSite) -> None:
    with site.process() as running:
        gateway = site.door("ledger-gateway")
        acknowledged = gateway.append("request.intent", intent("req_1"))
        gateway.close()
        running.send_signal(signal.SIGKILL)
        running.wait()
    shared_memory = site.places.ledger / f"{FILE_NAME}-shm"
    shared_memory.unlink(missing_ok=True)
    # A link where the index belongs: SQLite follows none, so it can be neither opened nor made, whoever reads.
    shared_memory.symlink_to(site.places.ledger / "nowhere")

    ledger = reader(site)

    assert ledger.leaf(acknowledged.sequence).body["request_id"] == "req_1"
    assert ledger.vkey().name == ledger.head().origin
    ledger.close()


def test_while_a_writer_holds_the_file_it_is_not_read_behind_its_back(site: LedgerSite) -> None:
    with site.running():
        pass

    with exclusive.take(site.places.ledger), pytest.raises(LedgerUnavailableError):
        reader(site).head()


def test_a_ledger_that_was_never_opened_says_so(site: LedgerSite) -> None:
    with pytest.raises(LedgerUnavailableError, match="no ledger yet"):
        reader(site).head()


def test_nothing_is_appended_to_the_file_itself(site: LedgerSite) -> None:
    with site.running():
        pass

    for spool in (False, True):
        with pytest.raises(LedgerUnavailableError):
            reader(site, spool=spool).append("request.intent", intent("a"))
    with pytest.raises(LedgerUnavailableError):
        reader(site).append("release.received", bodies()["release.received"])


def test_facts_of_receiving_wait_in_the_spool_for_the_ledger(site: LedgerSite) -> None:
    ledger = open_ledger(site.config, "ledger-actions", spool=True)

    spooled = ledger.append("release.received", bodies()["release.received"])

    assert (spooled.sequence, spooled.leaf_hash) == (SPOOLED, "")
    assert len(Spool(site.places.spool).pending()) == 1
    with pytest.raises(LedgerRefusedError):
        ledger.append("release.received", {"serial": 7})
    with site.running() as log:
        assert log.find(kind="release.received")[0].body["serial"] == 7


def test_spooled_files_are_open_to_the_ledgers_group_and_to_nobody_else(site: LedgerSite) -> None:
    open_ledger(site.config, "ledger-actions", spool=True).append("trust.rotated", {"version": 2})

    (path,) = Spool(site.places.spool).pending()

    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_the_file_is_plain_sqlite_that_any_tool_reads(site: LedgerSite) -> None:
    with site.running():
        pass

    connection = sqlite3.connect(f"file:{site.places.ledger / FILE_NAME}?mode=ro", uri=True)
    rows = connection.execute("SELECT sequence, kind FROM leaf ORDER BY sequence").fetchall()
    connection.close()

    assert rows == [(0, "ledger.opened"), (1, "ledger.started"), (2, "ledger.key")]


def test_a_number_that_no_record_has_is_a_usage_error(site: LedgerSite) -> None:
    with site.running():
        pass
    for sequence in (2**53, 2**63, 10**20):
        with pytest.raises(UsageError):
            reader(site).leaf(sequence)
    assert reader(site).find("request.intent", field="request_id", value="\udcff") == []
