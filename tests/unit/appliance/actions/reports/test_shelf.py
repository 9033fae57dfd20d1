"""The box's own reports: one set for each quarter, on record before it lies there, and handed out only as recorded."""

import fcntl
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.actions.reports import making, shelf
from appliance.actions.reports.period import Period
from appliance.audit.memory import MemoryLedger
from appliance.audit.note import VerifierKey
from appliance.errors import LedgerUnavailableError, StoreBusyError, StoreWriteError
from media.clock import FixedClock
from media.errors import UsageError

pytestmark = pytest.mark.slow  # each draws a whole report
NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def ledger(clock: FixedClock) -> MemoryLedger:
    return MemoryLedger(clock)


@pytest.fixture
def count(ledger: MemoryLedger, clock: FixedClock) -> Callable[[Period], dict[str, Any]]:
    key = VerifierKey.from_text(ledger.vkey)
    return lambda period: making.counted(ledger, period, site="demo", key=key, clock=clock)


Count = Callable[[Period], dict[str, Any]]


def test_a_report_is_kept_recorded_and_read_back(
    tmp_path: Path, ledger: MemoryLedger, count: Count, clock: FixedClock
) -> None:
    kept = shelf.keep(tmp_path / "reports", ledger, "2026Q4", count, clock=clock)

    assert kept is not None
    assert shelf.all_kept(tmp_path / "reports", ledger) == (kept,)
    page = shelf.read(tmp_path / "reports", ledger, "2026Q4", ".html")
    assert page is not None
    assert b"NOT OVER YET" in page
    assert shelf.read(tmp_path / "reports", ledger, "2026Q3", ".html") is None
    assert shelf.read(tmp_path / "reports", ledger, "2026Q4", ".txt") is None


def test_a_file_that_was_changed_or_is_gone_is_not_handed_out(
    tmp_path: Path, ledger: MemoryLedger, count: Count, clock: FixedClock
) -> None:
    shelf.keep(tmp_path, ledger, "2026Q4", count, clock=clock)
    (tmp_path / "2026Q4.html").write_bytes(b"<p>all is well</p>")
    (tmp_path / "2026Q4.pdf").unlink()

    assert shelf.read(tmp_path, ledger, "2026Q4", ".html") is None
    assert shelf.read(tmp_path, ledger, "2026Q4", ".pdf") is None
    assert [one.files for one in shelf.all_kept(tmp_path, ledger)] == [(".json",)]


def test_what_is_due_is_made_once_and_again_when_a_file_is_missing(
    tmp_path: Path, ledger: MemoryLedger, count: Count, clock: FixedClock
) -> None:
    first = shelf.keep(tmp_path, ledger, shelf.DUE, count, clock=clock)
    again = shelf.keep(tmp_path, ledger, shelf.DUE, count, clock=clock)
    (tmp_path / "2026Q3.pdf").unlink()
    mended = shelf.keep(tmp_path, ledger, shelf.DUE, count, clock=clock)

    assert first is not None
    assert first.name == "2026Q3"
    assert again is None
    assert mended is not None
    assert len(ledger.find(making.REPORTED)) == 2


def test_a_report_from_before_the_quarter_s_end_is_not_the_one_that_is_due(
    tmp_path: Path, ledger: MemoryLedger, count: Count, clock: FixedClock
) -> None:
    shelf.keep(tmp_path, ledger, "2026Q4", count, clock=clock)
    clock.at = datetime(2027, 1, 2, 4, 0, tzinfo=UTC)

    made = shelf.keep(tmp_path, ledger, shelf.DUE, count, clock=clock)

    assert made is not None
    assert (made.name, shelf.keep(tmp_path, ledger, shelf.DUE, count, clock=clock)) == ("2026Q4", None)
    page = shelf.read(tmp_path, ledger, "2026Q4", ".html")
    assert page is not None
    assert b"NOT OVER YET" not in page


def test_the_newest_record_of_a_quarter_decides(
    tmp_path: Path, ledger: MemoryLedger, count: Count, clock: FixedClock
) -> None:
    shelf.keep(tmp_path, ledger, "2026Q4", count, clock=clock)
    old = (tmp_path / "2026Q4.json").read_bytes()
    ledger.append("request.refused", {"code": "rate-limited"})
    shelf.keep(tmp_path, ledger, "2026Q4", count, clock=clock)
    assert shelf.read(tmp_path, ledger, "2026Q4", ".json") != old
    (tmp_path / "2026Q4.json").write_bytes(old)

    assert shelf.read(tmp_path, ledger, "2026Q4", ".json") is None


def test_nothing_is_kept_that_could_not_be_recorded(
    tmp_path: Path, ledger: MemoryLedger, count: Count, clock: FixedClock
) -> None:
    ledger.available = False

    with pytest.raises(LedgerUnavailableError):
        shelf.keep(tmp_path, ledger, "2026Q4", count, clock=clock)
    assert [path.name for path in tmp_path.iterdir() if path.suffix] == []


def test_two_are_not_made_at_once(tmp_path: Path, ledger: MemoryLedger, count: Count, clock: FixedClock) -> None:
    held = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        with pytest.raises(StoreBusyError):
            shelf.keep(tmp_path, ledger, "2026Q4", count, clock=clock)
    finally:
        os.close(held)
    assert shelf.keep(tmp_path, ledger, "2026Q4", count, clock=clock) is not None


def test_a_folder_that_cannot_be_used_is_said(
    tmp_path: Path, ledger: MemoryLedger, count: Count, clock: FixedClock
) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreWriteError):
        shelf.keep(tmp_path / "file" / "reports", ledger, "2026Q4", count, clock=clock)


@pytest.mark.parametrize("name", ["../../etc/passwd", "2026Q4/..", "", "2026Q9", ".lock"])
def test_a_name_that_is_no_quarter_reaches_no_file(
    tmp_path: Path, ledger: MemoryLedger, count: Count, clock: FixedClock, name: str
) -> None:
    with pytest.raises(UsageError):
        shelf.read(tmp_path, ledger, name, ".html")
    with pytest.raises(UsageError):
        shelf.keep(tmp_path, ledger, name, count, clock=clock)
