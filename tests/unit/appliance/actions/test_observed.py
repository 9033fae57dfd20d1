"""What monitoring is told: numbers of a closed list, and which parts could not be read."""

from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.actions import census, censusnodes
from appliance.actions.censusnodes import Word
from appliance.actions.observed import FACTS, observed
from appliance.actions.reports import overdue as reports
from appliance.audit.facts import TreeHead
from appliance.audit.leaf import Leaf
from appliance.audit.memory import MemoryLedger
from appliance.config import BackupSection, Config, PlacesSection, ServiceSection
from appliance.errors import LedgerUnavailableError
from appliance.install.supervisor import UnitFacts, UnitState
from appliance.observe.completeness import LOGINS, OPEN, RECORDS
from appliance.observe.metrics import create_metrics_app
from appliance.sections import TimeSection
from appliance.timekeeping.record import ClockRecord, Verdict, publish
from appliance.verify import trust
from media.clock import FixedClock, to_text
from tests.support.ledger import bodies

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
CLOCK = FixedClock(at=NOW)


class Units:
    """A supervisor with units in every state."""

    def __init__(self, **states: UnitState) -> None:
        self._states = states

    def units(self) -> tuple[UnitFacts, ...]:
        return tuple(UnitFacts(name=name.replace("_", "-"), state=state) for name, state in self._states.items())

    def start(self, unit: str) -> None:
        raise AssertionError(unit)

    def stop(self, unit: str) -> None:
        raise AssertionError(unit)

    def rest(self, unit: str) -> None:
        raise AssertionError(unit)

    def kill(self, unit: str) -> None:
        raise AssertionError(unit)

    def state(self, unit: str) -> UnitState:
        raise AssertionError(unit)


class NoLedger(MemoryLedger):
    """One that does not answer."""

    def head(self) -> TreeHead:
        raise LedgerUnavailableError(what="no ledger", why="", fix="")

    def find(self, *_: Any, **__: Any) -> list[Leaf]:
        raise LedgerUnavailableError(what="no ledger", why="", fix="")


def site(root: Path, *, tls: bool = False, backup: str = "") -> Config:
    for name in ("store", "spool", "trust"):
        (root / "var/lib/sealift" / name).mkdir(parents=True, exist_ok=True)
    return Config(
        site="s",
        environment="demo",
        places=PlacesSection(root=str(root), run="/run/s"),
        service=ServiceSection(tls=tls),
        backup=BackupSection(folder=backup),
    )


def numbers(config: Config, ledger: MemoryLedger, supervisor: Units | None = None) -> dict[tuple[str, ...], float]:
    found = observed(config, ledger=ledger, supervisor=supervisor, clock=CLOCK)
    return {(one.name.removeprefix("sealift_"), *one.labels.values()): one.value for one in found}


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger(FixedClock(at=NOW - timedelta(hours=5)))


def certificate(path: Path, *, days: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    path.parent.mkdir(parents=True)
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def test_a_box_without_anything_says_so_and_names_the_parts_that_cannot_be_read(
    tmp_path: Path, ledger: MemoryLedger
) -> None:
    found = numbers(site(tmp_path), ledger)

    assert found["backup_present",] == 0
    assert found["receipt_waiting_seconds",] == 0
    assert found["release_serial",] == 0
    assert {key[1] for key, value in found.items() if key[0] == "part_unreadable" and value} == {"clock", "production"}
    assert ("backup_age_seconds",) not in found


def test_every_number_bears_a_name_and_labels_of_the_list(tmp_path: Path, ledger: MemoryLedger) -> None:
    given = observed(site(tmp_path), ledger=ledger, supervisor=Units(), clock=CLOCK)

    assert all(tuple(one.labels) == FACTS[one.name][1] for one in given)


def test_the_last_record_and_a_receipt_that_never_left_are_seen(tmp_path: Path, ledger: MemoryLedger) -> None:
    site_config = site(tmp_path)
    received = bodies()["release.received"]
    ledger.append("release.received", received)

    waiting = numbers(site_config, ledger)["receipt_waiting_seconds",]
    ledger.append("export.written", {"type": "receipt", "serial": received["serial"]})

    assert waiting == pytest.approx(5 * 3600, abs=5)
    found = numbers(site_config, ledger)
    assert found["receipt_waiting_seconds",] == 0
    assert found["ledger_last_append_timestamp_seconds",] == pytest.approx(NOW.timestamp() - 5 * 3600, abs=5)
    assert found["ledger_records",] >= 2


def test_a_receipt_for_what_came_while_the_clock_ran_ahead_counts_as_overdue(tmp_path: Path) -> None:
    ahead = MemoryLedger(FixedClock(at=NOW + timedelta(days=50 * 365)))
    received = bodies()["release.received"]
    ahead.append("release.received", received)

    assert numbers(site(tmp_path), ahead)["receipt_waiting_seconds",] == inf
    ahead.append("export.written", {"type": "receipt", "serial": received["serial"]})
    assert numbers(site(tmp_path), ahead)["receipt_waiting_seconds",] == 0


def test_a_node_of_several_says_whether_it_has_the_list_of_names_on_record(
    tmp_path: Path, ledger: MemoryLedger
) -> None:
    config = site(tmp_path)
    assert ("census_other",) not in numbers(config, ledger)
    node = config.model_copy(update={"database": config.database.model_copy(update={"node": "b"})})
    assert numbers(node, ledger)["census_other",] == 0

    record = ledger.append(census.IMPORTED, {"names": 1, "digest": "v1:00", "person": "ada"})
    for word, value in ((None, 1), (Word.OTHER, 1), (Word.SAME, 0)):
        if word is not None:
            censusnodes.say(ledger, "b", word, record.sequence)
        assert numbers(node, ledger)["census_other",] == value


def test_waiting_and_rejected_facts_are_counted(tmp_path: Path, ledger: MemoryLedger) -> None:
    config = site(tmp_path)
    (config.at.spool / "000001-00000000.json").write_text("{}")
    (config.at.spool / "rejected").mkdir()
    (config.at.spool / "rejected/000000-00000000.json").write_text("x")

    found = numbers(config, ledger)

    assert (found["spool_files",], found["spool_rejected_files",]) == (1, 1)


def test_the_certificates_end_is_told_where_there_is_one(tmp_path: Path, ledger: MemoryLedger) -> None:
    certificate(tmp_path / "etc/sealift/tls/kept/one/server.crt", days=9)
    (tmp_path / "etc/sealift/tls/ca.crt").write_bytes((tmp_path / "etc/sealift/tls/kept/one/server.crt").read_bytes())
    (tmp_path / "etc/sealift/tls/current").symlink_to("kept/one")

    assert numbers(site(tmp_path, tls=True), ledger)["certificate_left_seconds",] == 9 * 86400
    assert ("certificate_left_seconds",) not in numbers(site(tmp_path), ledger)


def test_a_quarter_without_a_report_is_seen_from_its_end_on() -> None:
    """Scenario: the box began in summer; somebody made a report of the quarter before its end."""
    began = MemoryLedger(clock := FixedClock(at=datetime(2026, 8, 1, tzinfo=UTC)))
    began.append("release.received", bodies()["release.received"])
    clock.at = datetime(2026, 9, 20, tzinfo=UTC)
    began.append("evidence.reported", {"name": "2026Q3"})
    ended = datetime(2026, 10, 1, tzinfo=UTC)

    waits = reports.waiting_seconds(began, CLOCK)
    clock.at = NOW
    began.append("evidence.reported", {"name": "2026Q2"})
    still = reports.waiting_seconds(began, CLOCK)
    began.append("evidence.reported", {"name": "2026Q3"})

    assert (waits, still) == ((NOW - ended).total_seconds(),) * 2
    assert waits > reports.LIMIT_SECONDS
    assert reports.waiting_seconds(began, CLOCK) == 0


def test_a_box_that_began_after_the_quarter_s_end_owes_no_report(tmp_path: Path, ledger: MemoryLedger) -> None:
    ledger.append("release.received", bodies()["release.received"])

    found = numbers(site(tmp_path), ledger)

    assert (found["report_waiting_seconds",], found["report_limit_seconds",]) == (0, 7 * 86400)


def test_where_nobody_ever_drilled_the_age_is_that_of_the_first_backup(tmp_path: Path) -> None:
    clock = FixedClock(at=NOW - timedelta(days=80))
    ledger = MemoryLedger(clock)
    for _ in range(2):
        ledger.append("backup.made", {"made_at": to_text(clock.now())})
        clock.advance(40 * 86400)

    assert numbers(site(tmp_path), ledger)["drill_age_seconds",] == 80 * 86400


def test_a_drill_that_failed_is_told_until_one_of_its_kind_holds(tmp_path: Path, ledger: MemoryLedger) -> None:
    told = []
    for kind in ("backup.made", "backup.drill-failed", "backup.drilled"):
        ledger.append(kind, {"level": "stream", "made_at": to_text(NOW)})
        told.append(numbers(site(tmp_path), ledger)["drill_failing",])

    assert told == [0, 1, 0]


def test_a_backup_disk_in_its_safe_is_no_fault(tmp_path: Path, ledger: MemoryLedger) -> None:
    absent = numbers(site(tmp_path, backup=str(tmp_path / "away")), ledger)
    there = numbers(site(tmp_path, backup=str(tmp_path)), ledger)

    assert ("disk_size_bytes", "backup") not in absent
    assert there["disk_size_bytes", "backup"] >= there["disk_available_bytes", "backup"] > 0


def test_a_ledger_that_does_not_answer_makes_its_parts_unreadable(tmp_path: Path) -> None:
    found = numbers(site(tmp_path), NoLedger(CLOCK))

    assert {key[1] for key, value in found.items() if key[0] == "part_unreadable" and value} >= {"ledger", "backup"}
    assert found["spool_files",] == 0


def test_units_are_told_by_names_of_ours_engines_by_their_stage(tmp_path: Path, ledger: MemoryLedger) -> None:
    units = Units(
        **{
            "sealift_gateway.service": UnitState.ACTIVE,
            "sealift_engine_production@0123456789ab.service": UnitState.FAILED,
            "sealift_engine_production@ba9876543210.service": UnitState.ACTIVE,
            "sealift_scrub.service": UnitState.INACTIVE,
        }
    )

    found = {key[1]: value for key, value in numbers(site(tmp_path), ledger, units).items() if key[0] == "unit_up"}

    assert found == {"gateway": 1, "engine-production": 0}


def test_a_scrape_offers_exactly_the_names_that_have_a_number(tmp_path: Path, ledger: MemoryLedger) -> None:
    app = create_metrics_app(site(tmp_path), ledger=ledger, supervisor=None, clock=CLOCK)

    text = app.test_client().get("/metrics").get_data(as_text=True)

    names = {line.split()[0].split("{")[0] for line in text.splitlines() if not line.startswith("#")}
    assert names <= {*FACTS, f"{RECORDS}_total", f"{LOGINS}_total", OPEN}
    assert {"sealift_disk_size_bytes", "sealift_part_unreadable"} <= names
    assert app.test_client().post("/metrics").status_code == 405


@pytest.mark.parametrize(
    ("confirmed_at", "age"), [("2026-11-10T12:00:00Z", 10 * 86400), ("2026-11-21T12:00:00Z", inf), ("", inf)]
)
def test_how_long_ago_somebody_answered_for_the_clock_is_told_beside_how_many_time_servers_are_named(
    tmp_path: Path, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch, confirmed_at: str, age: float
) -> None:
    monkeypatch.setattr(trust, "load", lambda *_, **__: SimpleNamespace(floor=NOW - timedelta(days=99)))
    config = site(tmp_path)
    config = config.model_copy(update={"places": PlacesSection(root=str(tmp_path), run=str(tmp_path / "run"))})
    config.at.clock_now.mkdir(parents=True)
    seen = ClockRecord(
        session="0" * 32,
        wall=NOW,
        ticks=0,
        verdict=Verdict.GOOD,
        before=Verdict.GOOD,
        floor=NOW,
        anchor_wall=NOW,
        anchor_ticks=0,
        confirmed_at=confirmed_at,
    )
    publish(config.at, seen)

    alone = numbers(config, ledger)
    served = numbers(config.model_copy(update={"time": TimeSection(servers=["10.0.0.1", "10.0.0.2"])}), ledger)

    assert alone["clock_confirmed_age_seconds",] == age
    assert alone["clock_confirmed_age_limit_seconds",] == 35 * 86400
    assert (alone["time_servers",], served["time_servers",]) == (0, 2)
