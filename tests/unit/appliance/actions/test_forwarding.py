"""How the forwarder to the collector stands, as it says itself and as commands and monitoring tell it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.actions.databases import certificates
from appliance.actions.forwarding import CLIENT, SILENT_SECONDS, Standing, client_file, findings
from appliance.actions.observed import observed
from appliance.audit.memory import MemoryLedger
from appliance.config import Config, DatabaseSection, PlacesSection, SiemSection
from appliance.errors import CollectorError
from appliance.observe.siem import SAY_SECONDS, Forwarder, Publisher
from appliance.observe.siemformats import FORMATS
from media.clock import FixedClock

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


class Line:
    """A collector that can be away."""

    def __init__(self) -> None:
        self.away = False

    def __call__(self, _batch: bytes) -> None:
        if self.away:
            raise CollectorError(what="away", why="refused", fix="")


class Site:
    def __init__(self, root: Path, *, client: bool = False) -> None:
        self.clock, self.line = FixedClock(NOW), Line()
        self.ledger = MemoryLedger(self.clock)
        siem = SiemSection(server="siem.example", address="10.0.0.9", client=client)
        self.config = Config(site="s", places=PlacesSection(root=str(root)), siem=siem)
        (root / "state").mkdir()
        encode = FORMATS["json"]
        self.forwarder = Forwarder(self.ledger, root / "state", encode=encode, host="h", send=self.line)
        self.publisher = Publisher(self.forwarder, self.config.at.siem_now, self.clock)

    def turn(self) -> None:
        try:
            self.publisher.tell(self.forwarder.turn(), "")
        except CollectorError as error:
            self.publisher.tell(0, error.what)

    def numbers(self) -> dict[str, float]:
        found = observed(self.config, ledger=self.ledger, supervisor=None, clock=self.clock)
        return {one.name: one.value for one in found if one.name.startswith("sealift_siem")}

    def finding(self) -> tuple[bool | None, str]:
        (found,) = [one for one in findings(self.config, clock=self.clock) if one.name == "collector"]
        return found.is_good, found.text

    def standing(self) -> Standing:
        found = Standing.read(self.config.at.siem_now)
        assert found is not None
        return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_what_waits_and_since_when_is_told_and_nothing_when_it_was_taken(site: Site) -> None:
    site.turn()
    assert (site.standing().waiting, site.finding()) == (0, (True, "up to date"))

    site.line.away = True
    site.ledger.append("request.outcome", {"request_id": "req_1"})
    site.clock.advance(1200)
    site.turn()
    assert site.numbers()["sealift_siem_waiting_records"] == 1
    assert site.numbers()["sealift_siem_behind_seconds"] == 1200
    assert site.finding() == (False, "1 records wait, the oldest for 20 minutes; away")

    site.line.away = False
    site.turn()
    assert site.numbers()["sealift_siem_behind_seconds"] == 0
    assert site.finding() == (True, "up to date")


def test_a_forwarder_that_says_nothing_more_is_seen(site: Site) -> None:
    assert site.finding() == (False, "the forwarder does not run")
    site.turn()

    site.clock.advance(SILENT_SECONDS + 1)

    assert site.numbers()["sealift_siem_silent_seconds"] == SILENT_SECONDS + 1
    assert site.finding() == (False, "the forwarder does not run")


def test_one_that_has_nothing_to_do_says_so_every_so_often_and_not_each_second(site: Site) -> None:
    site.turn()
    first = site.standing().at
    site.clock.advance(1)
    site.turn()
    assert site.standing().at == first

    site.clock.advance(SAY_SECONDS)
    site.turn()
    assert site.standing().at != first


@pytest.mark.parametrize(
    "changed",
    [{"format": 2}, {"waiting": -1}, {"waiting": "1"}, {"at": "yesterday"}, {"oldest": "x"}, {"more": 1}],
)
def test_a_file_that_does_not_read_is_no_standing(site: Site, changed: dict[str, Any]) -> None:
    site.turn()
    path = site.config.at.siem_now / "standing.json"
    value = {**json.loads(path.read_text()), **changed}
    path.write_text(json.dumps(value, sort_keys=True, separators=(",", ":")))

    assert Standing.read(site.config.at.siem_now) is None
    assert site.numbers() == {}


def test_a_certificate_that_is_asked_for_and_missing_is_a_finding(tmp_path: Path) -> None:
    site = Site(tmp_path, client=True)

    found = {one.name: one for one in findings(site.config, clock=site.clock)}

    assert found["collector client certificate"].is_good is False
    assert found["collector authority"].is_good is False
    assert client_file(site.config, "") == site.config.at.etc / CLIENT
    assert client_file(site.config, "/run/credentials/x") == Path("/run/credentials/x") / CLIENT


def test_a_database_servers_certificates_are_looked_at_like_the_collectors(tmp_path: Path) -> None:
    def found(section: DatabaseSection) -> dict[str, bool | None]:
        config = Config(site="s", places=PlacesSection(root=str(tmp_path)), database=section)
        return {one.name: one.is_good for one in certificates.findings(config, clock=FixedClock(NOW))}

    server = DatabaseSection(server="db.h", address="10.0.0.8")
    assert found(DatabaseSection()) == {}
    assert found(server) == {"database authority": False}
    assert found(server.model_copy(update={"client": True})) == {
        "database authority": False,
        "database certificate of ledger": False,
        "database certificate of reader": False,
        "database certificate of state": False,
    }
