"""The status of an appliance on which parts are absent, and of one with a release installed."""

import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance import unit, wire
from appliance.actions import packetfilter, statusledger, statusproduction
from appliance.actions.packetfilter import HOOKS, PacketFilter
from appliance.actions.status import reviews, status
from appliance.actions.statusledger import StatusLedger
from appliance.audit.client import SocketLedger, TreeHead
from appliance.audit.memory import MemoryLedger
from appliance.config import Config, NetworkSection, PlacesSection, ServiceSection
from appliance.install.releases import InstalledRelease, InstalledReleases
from appliance.install.supervisor import CONTROL, UnitState, engine_unit
from appliance.install.unit_result import SYNC, from_systemd
from appliance.promote.doubted import DOUBTED
from appliance.promote.folder import PromoterFolder
from appliance.state import projection
from appliance.state.database import open_state
from media.clock import FixedClock
from tests.support import lines
from tests.support.installable import places_below, small_release, store_release
from tests.support.ledger import DIGEST_A, bodies
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories
from tests.support.supervisor import FakeSupervisor
from tests.support.versions import short_folder

UNITS = Path(__file__).parents[4] / "systemd"
CLOCK = FixedClock(at=datetime(2026, 11, 20, tzinfo=UTC))
ENDED = "ActiveState=failed\nResult=exit-code\nExecMainCode=exited\nExecMainStatus=94\n"
ENGINE = f"sealift-engine-production@{'a' * 12}.service"


def config(root: Path, *, tls: bool = False) -> Config:
    return Config(site="s", places=PlacesSection(root=str(root)), service=ServiceSection(tls=tls))


def test_an_empty_folder_has_a_status_and_no_failure(tmp_path: Path) -> None:
    found = status(config(tmp_path), clock=CLOCK).to_json()

    assert found["release"]["text"] == "none installed, 0 stored"
    assert found["production"]["text"] == "nothing is promoted"
    assert (found["units"]["good"], found["ledger"]["good"]) == (False, False)
    assert "run-units" in found["units"]["fix"]
    assert found["egress"]["enforced"] is False


@pytest.mark.parametrize(
    ("dropping", "let_out", "said"),
    [
        (HOOKS, (), "enforced; 7 packets were refused"),
        (HOOKS[:2], (), "not as the site file says; packet filter: open: output"),
        (HOOKS, ("anything anywhere 0",), "anything anywhere 0"),
    ],
)
def test_that_nothing_leaves_is_said_of_rules_that_are_the_sites(
    monkeypatch: pytest.MonkeyPatch, dropping: tuple[str, ...], let_out: tuple[str, ...], said: str
) -> None:
    here = Config(site="s", network=NetworkSection(clients=[], management=[]))
    found = PacketFilter(
        dropping=frozenset(dropping),
        let_in=frozenset(),
        let_out=frozenset(let_out),
        passed_on=frozenset(),
        counters={"egress_refused": 7},
    )
    monkeypatch.setattr(packetfilter, "loaded", lambda: found)
    monkeypatch.setattr("os.geteuid", lambda: 0)

    part = status(here, clock=CLOCK, supervisor=FakeSupervisor()).part("egress")

    assert said in part.text
    assert part.is_good is part.fields["enforced"] is said.startswith("enforced")


def test_an_installed_release_and_its_units_are_shown(tmp_path: Path) -> None:
    store_release(places_below(tmp_path), small_release())
    releases = InstalledReleases(places_below(tmp_path))
    releases.folder(1).mkdir(parents=True)
    releases.write(InstalledRelease(serial=1, release="r1", environments={}, host_files="0" * 64))
    releases.switch(1)
    supervisor = FakeSupervisor()
    supervisor.start("sealift-ledger.service")
    supervisor.start(ENGINE)
    supervisor.stop(ENGINE)

    found = status(config(tmp_path, tls=True), clock=CLOCK, supervisor=supervisor).to_json()

    assert found["release"]["text"] == "r1, serial 1, 1 stored"
    assert found["units"]["text"] == f"1 of 2 run; not: {ENGINE}"
    assert found["addresses"]["gateway"] == "https://sealift.internal"


def test_a_version_that_developers_have_is_shown_and_one_that_does_not_run_is_told(tmp_path: Path) -> None:
    here, ledger, supervisor = config(tmp_path), MemoryLedger(), FakeSupervisor()
    unit = f"sealift-engine-test@{DIGEST_A[:12]}.service"
    assert status(here, clock=CLOCK, supervisor=supervisor).part("test stage").text == "nothing is loaded"
    state = open_state(here.at)
    for kind in ("model.registered", "stage.loaded"):
        ledger.append(kind, bodies()[kind])
    projection.catch_up(state, ledger)
    supervisor.start(unit)

    runs = status(here, clock=CLOCK, supervisor=supervisor).part("test stage")
    supervisor.stop(unit)
    rests = status(here, clock=CLOCK, supervisor=supervisor).part("test stage")

    assert (runs.is_good, runs.text) == (True, "smol 1")
    assert rests.is_good is False
    assert "smol 1 (not running); load again: sealift stage load aaaaaaaaaaaa" in rests.text
    with state.begin() as connection:
        connection.exec_driver_sql("DROP TABLE stage_load")
    state.dispose()
    assert status(here, clock=CLOCK, supervisor=supervisor).part("test stage").is_good is None


@pytest.mark.parametrize("resting", [f"sealift-{name}.service" for name in ("scrub", "settle", "standby", "gpus")])
def test_a_service_that_a_timer_a_boot_a_pair_or_a_card_starts_may_rest_but_not_fail(
    tmp_path: Path, resting: str
) -> None:
    supervisor = FakeSupervisor()
    supervisor.start("sealift-ledger.service")
    supervisor.start(resting)
    supervisor.stop(resting)

    found = status(config(tmp_path), clock=CLOCK, supervisor=supervisor).to_json()

    assert found["units"]["text"] == "1 of 1 run"
    assert (found["store"]["good"], found["store"]["text"]) == (None, "nothing is stored")


def test_the_lease_may_rest_until_a_box_is_introduced(tmp_path: Path) -> None:
    here = config(tmp_path)
    here = here.model_copy(update={"standby": here.standby.model_copy(update={"listen": "10.9.0.1"})})
    supervisor = FakeSupervisor()
    supervisor.start("sealift-ledger.service")
    supervisor.start("sealift-standby.service")
    supervisor.stop("sealift-standby.service")
    here.at.boxes.mkdir(parents=True)
    (here.at.boxes / "own.json").touch()

    between = status(here, clock=CLOCK, supervisor=supervisor).part("units").text
    (here.at.boxes / "two.json").touch()
    after = status(here, clock=CLOCK, supervisor=supervisor).part("units").text

    assert (between, after) == ("1 of 1 run", "1 of 2 run; not: sealift-standby.service")


def test_a_box_that_is_away_is_named_where_its_sync_ended_so() -> None:
    with short_folder() as root:
        here, supervisor = config(root), FakeSupervisor()
        supervisor.states[SYNC] = UnitState.FAILED
        here.at.run.mkdir(parents=True, exist_ok=True)
        codes = [94, 49]
        door = unit.listening_at(here.at.socket(CONTROL))
        wire.serve({CONTROL: door}, lambda *_: {"state": "failed", "why": f"it ended with {codes.pop(0)}"})

        away, refused = (status(here, clock=CLOCK, supervisor=supervisor).part("units").text for _ in range(2))
        door.close()

    assert away == f"0 of 1 run; not: {SYNC} (the other box does not answer; it is tried again every minute)"
    assert "`sealift standby sync` says why" in refused
    assert "its power and its cable" in from_systemd(SYNC, ENDED).fix


@pytest.mark.parametrize(
    "unit",
    [
        *("sealift-canary.service", "sealift-plan@3.service", "sealift-tls@due.service"),
        *("sealift-try-nginx@aa.service", "sealift-try-nftables@aa.service"),
    ],
)
def test_work_that_is_being_done_is_no_unit_that_is_down(tmp_path: Path, unit: str) -> None:
    supervisor = FakeSupervisor()
    supervisor.start("sealift-ledger.service")
    supervisor.states[unit] = UnitState.STARTING

    working = status(config(tmp_path), clock=CLOCK, supervisor=supervisor).part("units")
    supervisor.states["sealift-ledger.service"] = UnitState.STARTING
    starting = status(config(tmp_path), clock=CLOCK, supervisor=supervisor).part("units")
    supervisor.states[unit] = UnitState.FAILED
    failed = status(config(tmp_path), clock=CLOCK, supervisor=supervisor).part("units")

    assert (working.is_good, working.text) == (True, "2 of 2 run")
    assert starting.text == "1 of 2 run; not: sealift-ledger.service"
    assert unit in failed.text


def test_each_line_of_production_is_shown_and_line_1_where_it_always_was(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    site.promote(digest("A"))
    lines.open_line(site, digest("C"))

    found = status(site.config, clock=site.clock, supervisor=FakeSupervisor()).to_json()["production"]

    assert (found["good"], found["model_digest"], found["number"]) == (True, digest("A"), 1)
    assert [(one["line"], one["model_digest"]) for one in found["lines"]] == [(1, digest("A")), (2, digest("C"))]
    assert found["text"].count("approved by Ana") == 2

    lines.stop_line(site, 1)
    found = status(site.config, clock=site.clock, supervisor=FakeSupervisor()).to_json()["production"]
    assert (found["good"], found["model_digest"]) == (True, None)
    assert found["text"].startswith("line 1 is stopped; line 2 ")


def test_a_ledger_that_takes_callers_in_and_answers_none_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    real = SocketLedger.head

    def counted(self: SocketLedger) -> TreeHead:
        began = time.monotonic()
        try:
            return real(self)
        finally:
            waited.append(time.monotonic() - began)

    monkeypatch.setattr(SocketLedger, "head", counted)
    monkeypatch.setattr(statusledger, "PATIENCE_SECONDS", 0.3)
    with short_folder() as folder, socket.socket(socket.AF_UNIX) as silent:
        here = config(folder)
        door = here.at.socket("ledger-actions")
        door.parent.mkdir(parents=True)
        silent.bind(str(door))
        silent.listen()

        found = status(here, clock=CLOCK, supervisor=FakeSupervisor())

    assert len(waited) == 1
    assert 0.3 <= waited[0] < 9
    assert found.part("ledger").is_good is False
    assert found.part("window").is_good is False


class Asked(StatusLedger):
    """What a status asks, of a ledger in memory."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.config, clock=site.clock)
        self._ledger = site.ledger

    def ask(self) -> Any:
        return self._ledger


def test_who_may_not_read_the_promoters_folder_is_told_what_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site(tmp_path)
    nothing = statusproduction.production(site.config, Asked(site))

    def refused(_: PromoterFolder) -> None:
        raise PermissionError

    assert nothing.text == "nothing is promoted"
    site.promote(digest("A"))
    lines.open_line(site, digest("C"))
    with monkeypatch.context() as as_operator:
        as_operator.setattr(PromoterFolder, "production", refused)
        both = statusproduction.production(site.config, Asked(site))
    lines.stop_line(site, 2)
    monkeypatch.setattr(PromoterFolder, "production", refused)

    found = statusproduction.production(site.config, Asked(site))
    tried = statusproduction.rollout(site.config, Asked(site))

    assert (found.is_good, found.fields["model_digest"]) == (None, digest("A"))
    assert digest("A")[:12] in found.text
    assert "stopped" not in both.text
    assert digest("C")[:12] in both.text
    assert f"{digest('C')[:12]}, tiny, stopped" in found.text
    assert (tried.text, tried.fields) == ("no canary runs", {"canary": None})


def test_what_serves_and_came_with_a_release_in_doubt_is_no_good_state_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site(tmp_path)
    site.promote(digest("A"))
    lines.open_line(site, digest("C"))
    site.ledger.append(DOUBTED, {"model_digests": [digest("B"), digest("C")]})
    found = statusproduction.production(site.config, Asked(site))
    assert (found.is_good, found.fields["in_doubt"]) == (False, [digest("C")])
    assert f"came with a release in doubt: {digest('C')[:12]}" in found.text

    def refused(_: PromoterFolder) -> None:
        raise PermissionError

    with monkeypatch.context() as as_operator:
        as_operator.setattr(PromoterFolder, "production", refused)
        assert statusproduction.production(site.config, Asked(site)).fields["in_doubt"] == [digest("C")]
    lines.stop_line(site, 2)
    found = statusproduction.production(site.config, Asked(site))
    assert (found.is_good, "in_doubt" in found.fields) == (True, False)


def test_what_operators_are_not_told_is_no_fault_of_the_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StatusLedger, "_is_operators", lambda _: True)
    here = Config(site="s", places=PlacesSection(root=str(tmp_path)))

    found = status(here, clock=CLOCK, supervisor=FakeSupervisor()).part("backup")

    assert (found.is_good, found.text) == (None, "this user may not look")


def test_a_version_in_production_without_an_engine_is_silent(tmp_path: Path) -> None:
    site = open_site(tmp_path)
    site.promote(digest("A"))
    supervisor = FakeSupervisor()
    supervisor.start("sealift-ledger.service")

    silent = statusproduction.silent(site.config, supervisor.units(), Asked(site))
    supervisor.start(engine_unit("production", digest("A")))
    serves = statusproduction.silent(site.config, supervisor.units(), Asked(site))

    assert (silent, serves) == ((digest("A"),), ())


def test_emergency_access_is_shown_until_it_ends_also_once_somebody_looked_at_it(tmp_path: Path) -> None:
    site, (ana, ben, *_) = open_site(tmp_path), signatories()
    begun = site.client.begin_emergency(
        department="emergency room", hours=4, person=ana.id, reason="key expired", password=None
    )
    site.client.review(begun["number"], person=ben.id, note="one question", password=None)

    shown = reviews(site.config, site.clock, Asked(site))
    site.client.end_emergency(begun["number"], person=ben.id, reason="new key", password=None)
    after = reviews(site.config, site.clock, Asked(site))

    assert shown.is_good is False
    assert shown.text.startswith(f"emergency access {begun['number']} of emergency room until ")
    assert "emergency access" not in after.text
