"""The plan on a bare machine: check mode looks for accounts that only the playbook makes, and that is no obstacle."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.actions import doctor_machine
from appliance.actions.backups.seconddisk import DiskFacts, SecondDisk, State
from appliance.actions.installfacts import InstallFacts
from appliance.actions.setup import Setup, SetupFacts
from appliance.audit.memory import MemoryLedger
from appliance.cli import setup as setup_command
from appliance.errors import ConflictError, InstallError, LedgerUnavailableError, PreflightError
from appliance.install import answers, sitefile
from appliance.install.releases import InstalledRelease, InstalledReleases
from appliance.install.trial import NONE, Trial, Trials
from appliance.install.watching import Watching
from appliance.store.content import ContentStore
from appliance.verify.fit import Machine
from media import canonical
from media.clock import FixedClock, SystemClock
from media.errors import TargetMismatchError
from tests.property.appliance.test_answers import GOOD
from tests.support import clocks
from tests.support.installable import places_below, small_release, store_release
from tests.support.promotion import open_site
from tests.support.terms import small_target, targets_signed

LATER = DiskFacts(state=State.LATER, why="nobody chose one", fix="`sealift backup disk DEVICE`")


class BareHost:
    """An installer whose check mode finds no accounts yet."""

    def install(self, serial: int | None = None) -> InstallFacts:
        raise AssertionError

    def settle(self) -> None:
        raise AssertionError

    def preview(self, serial: int | None = None) -> InstallFacts:
        raise InstallError(what="the task 'accounts : folders' failed on this host", why="no user sealift-ledger")


def setup_of(root: Path) -> Setup:
    store_release(places_below(root), small_release())
    given = answers.from_values(GOOD)
    config = given.config(None)
    config = config.model_copy(update={"places": config.places.model_copy(update={"root": str(root)})})
    return Setup(
        answers=given,
        is_asked=True,
        config=config,
        watching=Watching(is_on=False, why="the release does not carry prometheus", fix="build another"),
        disk=SecondDisk(config=config, clock=SystemClock(), devices=None),
        clock=SystemClock(),
        installer=BareHost(),
        measure=lambda *_: pytest.fail("a plan measures nothing"),
    )


def facts_of(setup: Setup, disk: DiskFacts = LATER) -> SetupFacts:
    return SetupFacts(
        site="s",
        urls={},
        ca_fingerprint="",
        release="r1",
        serial=1,
        capacity=None,
        enrolled=0,
        changed=True,
        watching=setup.watching,
        disk=disk,
        codes={},
    )


def test_on_a_bare_machine_the_plan_says_that_all_is_new(tmp_path: Path) -> None:
    plan = setup_of(tmp_path).plan()

    assert (plan.install.serial, plan.install.changed) == (1, True)
    assert "from nothing" in plan.install.host
    assert "no user sealift-ledger" in plan.install.difference


def test_the_plan_says_before_anybody_agrees_that_nobody_will_be_told(tmp_path: Path) -> None:
    plan = setup_of(tmp_path).plan()

    assert plan.to_json()["alerts"]["is_on"] is False
    assert "  NO ALERTS: no rule runs" in setup_command._plan_text(plan)
    assert "  what helps: build another" in setup_command._plan_text(plan)


@pytest.mark.parametrize(("folder", "is_told"), [("/media/sealift-backup", True), ("", False)])
def test_the_summary_says_what_alerts_and_backups_still_need(tmp_path: Path, folder: str, *, is_told: bool) -> None:
    setup = setup_of(tmp_path)
    given = answers.from_values(GOOD | {"backup": {"folder": folder}})
    facts = facts_of(setup)

    text = setup_command._summary(facts, given, is_chosen=False)

    assert "NO ALERTS: no rule runs" in text
    assert facts.kept()["alerts"]["why"] == "the release does not carry prometheus"
    assert ("sealift backup disk" in text, "sealift backup recipient" in text) == (is_told, is_told)
    assert ("Backups have no place yet" in text) is not is_told


def recorded_in(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> MemoryLedger:
    ledger = MemoryLedger(clock=SystemClock())
    monkeypatch.setattr(ledger, "close", lambda: None, raising=False)
    monkeypatch.setattr("appliance.actions.setup.open_ledger", lambda *_, **__: ledger)
    sitefile.write(setup.config, setup.config.at.config_file)
    return ledger


def test_who_compared_the_clock_is_in_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = setup_of(tmp_path)
    ledger = recorded_in(setup, monkeypatch)
    monkeypatch.setattr("appliance.actions.clock.has_people", lambda *_: False)

    assert setup._record(facts_of(setup)) == ""

    (confirmed,) = ledger.find(kind="clock.confirmed")
    assert confirmed.body["by"] == "Gina Goods"
    (done,) = ledger.find(kind="install.setup")
    assert done.body["clock"]["confirmed_by"] == "Gina Goods"


def test_nobody_answers_for_the_clock_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario: the file was written elsewhere, a year before; the machine's clock is ten years off."""
    setup = replace(setup_of(tmp_path), is_asked=False, clock=FixedClock(datetime(2036, 1, 1, tzinfo=UTC)))
    ledger = recorded_in(setup, monkeypatch)
    monkeypatch.setattr("appliance.actions.clock.has_people", lambda *_: False)
    command = "`sealift clock confirm --by 'Gina Goods'`, before the first person enrols"

    plan = setup.plan()
    facts = replace(facts_of(setup), clock_missing=setup._record(facts_of(setup)))

    assert not ledger.find(kind="clock.confirmed")
    (done,) = ledger.find(kind="install.setup")
    assert done.body["clock"] == {"shown": "2036-01-01T00:00:00Z", "confirmed_by": ""}
    assert command in plan.to_json()["clock"]["missing"]
    for text in (setup_command._plan_text(plan), setup_command._summary(facts, setup.answers, is_chosen=False)):
        assert "it shows 2036-01-01T00:00:00Z (UTC)" in text
        assert command in text


def test_a_clock_that_was_confirmed_before_is_not_asked_for_by_a_file(tmp_path: Path) -> None:
    box = clocks.machine(tmp_path, confirmed=True)
    setup = replace(setup_of(tmp_path), is_asked=False, clock=box.clock)

    assert setup._unconfirmed() == ""
    assert setup.plan().clock_missing == ""

    box.jump(timedelta(days=4000))
    assert "nobody compared it" in setup._unconfirmed()


@pytest.mark.parametrize(
    ("is_set_up", "year", "told"),
    [(False, 2019, "it cannot be 2019-01-01T00:00:00Z"), (True, 2026, "a name alone no longer answers for the clock")],
)
def test_a_clock_that_was_not_confirmed_is_recorded_and_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_set_up: bool, year: int, told: str
) -> None:
    setup = replace(setup_of(tmp_path), clock=FixedClock(datetime(year, 1, 1, tzinfo=UTC)))
    ledger = recorded_in(setup, monkeypatch)
    monkeypatch.setattr("appliance.actions.clock.has_people", lambda *_: is_set_up)

    facts = replace(facts_of(setup), clock_missing=setup._record(facts_of(setup)))

    (done,) = ledger.find(kind="install.setup")
    assert done.body["clock"]["confirmed_by"] == ""
    assert not ledger.find(kind="clock.confirmed")
    text = setup_command._summary(facts, setup.answers, is_chosen=False)
    assert f"  The clock is not confirmed: {told}: " in text
    assert ("clock set" in text, "timedatectl" in text) == (is_set_up, not is_set_up)
    assert facts.kept()["clock_missing"].startswith(told)


def switched_to_release_1(root: Path) -> None:
    releases = InstalledReleases(places_below(root))
    releases.folder(1).mkdir(parents=True)
    releases.write(InstalledRelease(serial=1, release="r1", environments={}, host_files="ab" * 32))
    releases.switch(1)


def test_on_a_machine_that_has_a_release_a_failing_check_stops_the_plan(tmp_path: Path) -> None:
    setup = setup_of(tmp_path)
    switched_to_release_1(tmp_path)

    with pytest.raises(InstallError):
        setup.plan()


@pytest.mark.parametrize(("previous", "is_bare"), [(NONE, True), (1, False)])
def test_a_machine_whose_first_install_was_cut_off_is_as_bare_as_before(
    tmp_path: Path, previous: int, *, is_bare: bool
) -> None:
    setup = setup_of(tmp_path)
    switched_to_release_1(tmp_path)
    Trials(places_below(tmp_path)).begin(Trial(serial=1, release="r1", previous=previous, at="2026-11-20T08:00:00Z"))

    if is_bare:
        assert "from nothing" in setup.plan().install.host
    else:
        with pytest.raises(InstallError):
            setup.plan()


def test_while_the_promoter_is_down_an_enrolled_boxs_site_file_stays_as_it_is(tmp_path: Path) -> None:
    """Scenario: an install refuses for want of approvals, and setup had written the site file by then."""
    setup = setup_of(tmp_path)
    switched_to_release_1(tmp_path)
    place = setup.config.at.config_file
    sitefile.write(setup.config.model_copy(update={"profile": "other"}), place)
    open_site(tmp_path)  # two people, and no process that knows them
    before = place.read_bytes()

    for step in (setup.plan, lambda: setup.run(LATER)):
        with pytest.raises(ConflictError, match="is set up already"):
            step()

    assert place.read_bytes() == before
    assert not place.with_name(sitefile.BEFORE).exists()


def test_where_nobody_can_say_whether_people_are_enrolled_nothing_is_written(tmp_path: Path) -> None:
    setup = setup_of(tmp_path)
    switched_to_release_1(tmp_path)
    setup.config.at.ledger.mkdir(parents=True)
    (setup.config.at.ledger / "ledger.db").write_bytes(b"damaged")

    with pytest.raises(LedgerUnavailableError):
        setup.run(LATER)

    assert not setup.config.at.config_file.exists()


def test_addresses_that_this_machine_has_not_are_told_before_anybody_agrees(tmp_path: Path) -> None:
    """One typed wrong shut the box to its whole network, ssh included, behind a setup that ended well."""
    setup = setup_of(tmp_path)
    network = setup.config.network.model_copy(update={"addresses": ["127.0.0.1", "203.0.113.9"]})

    plan = replace(setup, config=setup.config.model_copy(update={"network": network})).plan()

    assert plan.to_json()["absent"] == ["203.0.113.9"]
    assert "NOT ON THIS MACHINE: 203.0.113.9. The packet filter drops" in setup_command._plan_text(plan)


def test_a_profile_that_no_medium_is_for_is_refused_before_the_site_file_is_written(tmp_path: Path) -> None:
    """A mistyped one held, and weeks later every medium was refused."""
    setup = setup_of(tmp_path)
    here = Machine.probe(setup.config.profile)
    target = {
        "profile": here.profile,
        "platform": here.platform,
        "python": here.python,
        "glibc": "2.0",
        "cpu_flags": [],
    }
    terms = targets_signed([small_target("data/x", b"x")], targets=[target])
    stored = ContentStore(setup.config.at.store).release(None)
    (stored.folder / "metadata").mkdir(exist_ok=True)
    (stored.folder / f"metadata/{stored.serial}.targets.json").write_bytes(canonical.dumps({"signed": terms}))
    assert setup.plan().install.serial == 1
    mistyped = replace(setup, config=setup.config.model_copy(update={"profile": "singel-cpu"}))

    for step in (mistyped.plan, lambda: mistyped.run(LATER)):
        with pytest.raises(TargetMismatchError, match="does not fit this machine") as refused:
            step()
        assert "singel-cpu" in refused.value.why

    assert not setup.config.at.config_file.exists()


def test_a_file_system_in_the_network_is_refused_before_the_site_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = setup_of(tmp_path)
    monkeypatch.setattr(doctor_machine, "_mounts", lambda _: [(str(tmp_path.resolve()), "nfs4")])

    for step in (setup.plan, lambda: setup.run(LATER)):
        with pytest.raises(PreflightError, match="nfs4"):
            step()

    assert not setup.config.at.config_file.exists()


def test_what_an_uninstall_left_can_be_set_up_with_other_answers(tmp_path: Path) -> None:
    """Scenario: people and site file stayed, there is no release, and no approval is asked for the first."""
    setup = setup_of(tmp_path)
    sitefile.write(setup.config.model_copy(update={"profile": "other"}), setup.config.at.config_file)
    open_site(tmp_path)

    assert '-profile = "other"' in setup.plan().site_file
