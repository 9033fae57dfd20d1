"""The record of a backup that was lost after its file was put in place, and what names a backup besides it."""

from collections.abc import Mapping
from typing import Any

import pytest

from appliance.actions.backups import drill, making, shelf, standing
from appliance.audit.client import OfflineLedger
from appliance.audit.facts import Appended
from appliance.audit.leaf import Leaf
from appliance.audit.memory import MemoryLedger
from appliance.audit.socket_ledger import SocketLedger
from appliance.errors import BackupDamagedError, LedgerUnavailableError
from media.clock import SystemClock
from tests.unit.appliance.actions.backups.conftest import BackedUp

CLOCK = SystemClock()


def made_without(kind: str, site: BackedUp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a backup with the ledger away when a record of this kind comes."""
    real = SocketLedger.append

    def append(self: SocketLedger, what: str, body: Mapping[str, Any], *, key: str | None = None) -> Appended:
        if what == kind:
            raise LedgerUnavailableError(what="the ledger does not answer", why="the power went", fix="")
        return real(self, what, body, key=key)

    with monkeypatch.context() as away, site.box.running():
        away.setattr(SocketLedger, "append", append)
        with pytest.raises(LedgerUnavailableError):
            making.make(site.config, clock=CLOCK)


def records(site: BackedUp, kind: str) -> list[Leaf]:
    return OfflineLedger(site.config.at, clock=CLOCK).find(kind=kind, limit=100)


def test_a_backup_whose_record_was_lost_is_recorded_by_the_next_drill_which_holds(
    site: BackedUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_without(making.MADE, site, monkeypatch)
    (kept,) = shelf.kept(site.disk, "demo")
    assert records(site, making.MADE) == []

    with site.box.running():
        done = drill.drill(site.config, clock=CLOCK)
        again = drill.drill(site.config, clock=CLOCK)

    (made,) = records(site, making.MADE)
    assert made.body["sha256"] == kept.sha256 == done.facts["backup"]["sha256"] == again.facts["backup"]["sha256"]
    assert records(site, drill.FAILED) == []
    assert standing.standing(site.config, OfflineLedger(site.config.at, clock=CLOCK), clock=CLOCK).faults == ()


def test_the_next_backup_records_it_first_and_each_is_recorded_once(
    site: BackedUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_without(making.MADE, site, monkeypatch)
    site.make()

    names = [each.name for each in shelf.kept(site.disk, "demo")]
    assert [leaf.body["name"] for leaf in reversed(records(site, making.MADE))] == names
    assert len(names) == 2


def test_no_file_is_put_in_place_whose_bytes_no_record_names(site: BackedUp, monkeypatch: pytest.MonkeyPatch) -> None:
    made_without(making.WRITTEN, site, monkeypatch)

    assert list(site.disk.glob("*sealift-*")) == []


def test_a_file_that_somebody_put_there_is_recorded_by_nobody(site: BackedUp, monkeypatch: pytest.MonkeyPatch) -> None:
    made_without(making.MADE, site, monkeypatch)
    (kept,) = shelf.kept(site.disk, "demo")
    file = site.disk / kept.name
    file.write_bytes(file.read_bytes()[:-1] + b"x")

    with site.box.running(), pytest.raises(BackupDamagedError, match="does not hold") as told:
        drill.drill(site.config, clock=CLOCK)

    assert "not the one that was recorded" in told.value.why
    assert records(site, making.MADE) == []
    assert len(records(site, drill.FAILED)) == 1


def test_what_was_restored_here_is_a_backup_that_a_record_names() -> None:
    ledger = MemoryLedger()
    ledger.append("ledger.restored", {"backup": {"sha256": "a" * 64}})

    assert making.recorded(ledger, "a" * 64) is not None
    assert making.recorded(ledger, "b" * 64) is None


def test_the_certificate_of_a_retirement_lists_also_a_backup_whose_last_record_was_lost() -> None:
    ledger = MemoryLedger()
    for kind, digest in ((making.WRITTEN, "a"), (making.MADE, "a"), (making.WRITTEN, "b"), (making.MADE, "c")):
        ledger.append(kind, {"sha256": digest})

    assert [leaf.body["sha256"] for leaf in making.all_made(ledger)] == ["a", "b", "c"]
