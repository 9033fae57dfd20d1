"""A clock that is wrong ends nothing early and brings nothing back: codes, approvals, keys, samples, sessions."""

import base64
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from appliance.actions import hostplan
from appliance.actions.retention.deeds import Retention
from appliance.actions.retention.reviewstore import ReviewStore
from appliance.actions.status import status
from appliance.admin.sessions import Sessions
from appliance.audit.memory import MemoryLedger
from appliance.errors import ClockUncertainError, HostChangeError, UnknownPersonError
from appliance.gateway.batches.store import BatchStore
from appliance.install import plans
from appliance.keys.files import FileKeys, create_missing
from appliance.promote.classes import PASSWORD_TOTP
from appliance.promote.desk import build_desk
from appliance.promote.presented import Presented
from appliance.timekeeping.believed import BelievedClock
from appliance.timekeeping.onetime import code_at, step_of
from tests.support.clocks import EPOCH, Machine, machine
from tests.support.hostplans import make_plan
from tests.support.promotion import FAST_HASHER, PASSWORD, digest, open_site
from tests.support.signatories import signatories

FIFTY_YEARS = timedelta(days=50 * 365)


@pytest.fixture
def box(tmp_path: Path) -> Machine:
    found = machine(tmp_path, enrolled=2)
    found.run(60)
    return found


def test_a_one_time_code_is_refused_while_the_clock_is_wrong_and_no_guess_is_counted(tmp_path: Path) -> None:
    site = open_site(tmp_path, enrolled=0, classes=["openpgp", "password-totp"])
    codes = site.client.codes(2)
    ana = signatories()[0]
    site.client.enrol(code=codes[0], name=ana.name, password=PASSWORD, certificate=ana.certificate)
    gus = site.client.enrol(code=codes[1], name="Gus Haas", password=PASSWORD, totp=True)
    box = Machine(site)
    believed = BelievedClock(site.config.at, site.clock)
    site.desk = build_desk(site.config, site.ledger, clock=believed, machine=site.clock, hasher=FAST_HASHER)
    box.run(5)
    request = site.request(digest("A"), by=ana)
    secret = base64.b32decode(parse_qs(urlsplit(gus["totp_address"]).query)["secret"][0])

    def approve(password: str = PASSWORD) -> Any:
        code = code_at(secret, step_of(site.clock.now()))
        presented = Presented(approves_by=PASSWORD_TOTP, person=gus["person"], password=password, totp=code)
        return site.client.approve(request.statement.sha256, presented)

    site.clock.at += FIFTY_YEARS
    for _ in range(6):  # more than guesses are allowed
        with pytest.raises(ClockUncertainError, match="one-time code"):
            approve()
    box.watch.look()
    with pytest.raises(ClockUncertainError):
        approve()
    site.clock.at -= FIFTY_YEARS
    box.watch.look()
    with pytest.raises(UnknownPersonError):
        approve("another password")

    assert [one.person for one in approve().approvals] == [gus["person"]]


def test_an_expired_approval_of_a_host_change_does_not_come_back_to_life(
    box: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, plan = box.site, make_plan()
    plans.keep(site.config.at, plan)
    ana, ben = signatories()[:2]
    request = site.client.request_host(
        plan_digest=plan.digest, serial=plan.serial, meaning="open the port", requested_by=ana.id
    )
    for person in (ana, ben):
        site.client.approve_host(request.statement.sha256, person.sign(request.statement.to_bytes()))
    monkeypatch.setattr(hostplan, "open_ledger", lambda *_, **__: _Kept(MemoryLedger(site.clock)))
    site.clock.at += FIFTY_YEARS
    hostplan.require_approved(site.config, plan, clock=site.clock)
    site.clock.at -= FIFTY_YEARS
    box.run(timedelta(hours=site.config.policy.approval_hours).total_seconds() + 1)

    site.clock.at = EPOCH
    with pytest.raises(HostChangeError) as caught:
        hostplan.require_approved(site.config, plan, clock=site.clock)
    assert "expired" in caught.value.why


@pytest.mark.parametrize("wrong", [FIFTY_YEARS, -timedelta(days=300)])
def test_no_hours_of_a_canary_are_counted_from_a_wrong_clock(tmp_path: Path, wrong: timedelta) -> None:
    site = open_site(tmp_path)
    box = Machine(site)
    box.run(60)
    site.desk = build_desk(
        site.config,
        site.ledger,
        clock=BelievedClock(site.config.at, site.clock),
        machine=site.clock,
        hasher=FAST_HASHER,
    )
    site.promote(digest("A"))
    ana, ben = signatories()[:2]
    request = site.approve(site.request(digest("B")), ana, ben)
    terms = {"percent": 20, "hours": 48, "watch_hours": 48}

    box.jump(wrong)
    with pytest.raises(ClockUncertainError, match="starting a canary"):
        site.client.start_canary(request.statement.sha256, **terms)
    box.jump(-wrong)
    site.client.start_canary(request.statement.sha256, **terms)
    box.jump(wrong)
    site.client.step_canary("hold", person=ben.id, reason="to be sure")
    with pytest.raises(ClockUncertainError, match="resuming a canary"):
        site.client.step_canary("resume", person=ben.id, reason="again")
    with pytest.raises(ClockUncertainError, match="cutting a canary over"):
        site.client.cut_over(person=ben.id, reason="enough", keeps_before=True)
    site.client.step_canary("abort", person=ben.id, reason="the clock is wrong")

    assert site.client.canary()["canary"] is None


def test_nothing_that_is_kept_for_a_time_is_destroyed_by_a_jump(box: Machine, tmp_path: Path) -> None:
    create_missing(tmp_path / "keys")
    keys, clock = FileKeys(tmp_path / "keys"), BelievedClock(box.config.at, box.clock)
    store = ReviewStore(tmp_path / "review", keys=keys, clock=clock)
    retention = Retention(store, box.site.ledger, clock=clock)
    batches = BatchStore(tmp_path / "batches.db", keys=keys, clock=clock)
    kept = batches.add_file("key", purpose="batch", name="x", parts=[b"{}"], days=30)
    store.add("before", subject="pat", content=b"x", days=30)

    box.clock.at += FIFTY_YEARS
    store.add("meanwhile", subject="pat", content=b"x", days=30)
    assert retention.expire() == 0
    assert batches.files("key") == [kept]
    box.boot(at=EPOCH)
    store.add("with a dead battery", subject="pat", content=b"x", days=30)
    assert retention.expire() == 0

    box.run(29 * 86400)
    assert retention.expire() == 0
    box.run(2 * 86400)
    assert retention.expire() == 3


def test_a_session_of_the_page_outlives_no_clock_that_is_set_back(box: Machine) -> None:
    sessions = Sessions(box.clock)
    mine = sessions.login(sessions.open(""), person="iris", display_name="Iris Mora", roles=())

    box.clock.at += FIFTY_YEARS
    assert sessions.open(mine.name).person == "iris"
    box.clock.at = EPOCH
    box.clock.advance(16 * 60)
    assert sessions.open(mine.name).person == ""


def test_the_status_says_what_is_thought_of_the_clock(box: Machine) -> None:
    assert status(box.config, clock=box.clock).part("clock").is_good is True

    box.jump(FIFTY_YEARS)

    found = status(box.config, clock=box.clock).part("clock")
    assert (found.is_good, found.fields["verdict"]) == (False, "jumped")
    assert "sealift clock show" in found.text


class _Kept:
    """A ledger that several callers close."""

    def __init__(self, inner: MemoryLedger) -> None:
        self.find = inner.find

    def close(self) -> None:
        pass
