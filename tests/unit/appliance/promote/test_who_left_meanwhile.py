"""Somebody approves, then leaves or approves no more: that yes counts no longer, and stands in nobody else's way."""

from pathlib import Path

import pytest

from appliance.errors import HostChangeError, NotEnoughApprovalsError
from appliance.install import plans
from appliance.promote.hostchange import HostRequest, approved_hosts
from appliance.promote.policybook import in_force
from tests.support.hostplans import make_plan
from tests.support.promotion import PASSWORD, Site, digest, open_site
from tests.support.signatories import Signatory, signatories

ANA, BEN, CAS, DAG, *_ = signatories()
PLAN = make_plan()
STRICT = 'format = 1\nname = "ward"\n[task_evaluation]\nminimum_accuracy_millis = 400\n'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Three people who approve."""
    return open_site(tmp_path, enrolled=3)


def approves_no_more(site: Site, person: Signatory) -> None:
    others = [(one.id, PASSWORD) for one in (ANA, BEN, CAS) if one != person]
    site.client.give_roles(person.id, ["operator"], others)


def host_request(site: Site, *people: Signatory) -> HostRequest:
    plans.keep(site.config.at, PLAN)
    request = site.client.request_host(
        plan_digest=PLAN.digest, serial=PLAN.serial, meaning="open the port", requested_by=ANA.id
    )
    for person in people:
        request = site.client.approve_host(request.statement.sha256, person.sign(request.statement.to_bytes()))
    return request


def test_thresholds_are_adopted_by_the_two_who_are_left(site: Site) -> None:
    request = site.client.request_policy(policy=STRICT, meaning="our wards demand it", requested_by=ANA.id)
    named, raw = request.statement.sha256, request.statement.to_bytes()
    site.client.approve_policy(named, BEN.sign(raw))
    approves_no_more(site, BEN)

    assert site.client.approve_policy(named, ANA.sign(raw))[1] is False
    assert [len(one.approvals) for one in site.client.pending_policies()] == [1]
    assert site.client.approve_policy(named, CAS.sign(raw))[1] is True
    assert in_force(site.ledger).tasks.minimum_accuracy_millis == 400


def test_the_host_is_changed_by_the_two_who_are_left(site: Site) -> None:
    host_request(site, BEN)
    approves_no_more(site, BEN)
    request = host_request(site, ANA)
    with pytest.raises(HostChangeError):
        approved_hosts(site.config, PLAN.serial, now=site.clock.now(), plan_digest=PLAN.digest)

    host_request(site, CAS)

    (found,) = approved_hosts(site.config, PLAN.serial, now=site.clock.now(), plan_digest=PLAN.digest)
    assert found.statement == request.statement


def test_who_reads_what_waits_is_told_of_nobody_whose_yes_counts_no_more(site: Site) -> None:
    host_request(site, ANA, BEN)
    approves_no_more(site, BEN)

    (waiting,) = site.client.pending_hosts()
    assert [one.person for one in waiting.approvals] == [ANA.id]


def test_of_three_who_approved_one_may_leave(site: Site) -> None:
    host_request(site, ANA, BEN, CAS)
    site.client.revoke(person=ANA.id, by=BEN.id, password=PASSWORD, reason="left")

    (found,) = approved_hosts(site.config, PLAN.serial, now=site.clock.now(), plan_digest=PLAN.digest)
    assert [one.person for one in found.approvals] == [BEN.id, CAS.id]
    site.client.revoke(person=BEN.id, by=CAS.id, password=PASSWORD, reason="left")
    with pytest.raises(HostChangeError):
        approved_hosts(site.config, PLAN.serial, now=site.clock.now(), plan_digest=PLAN.digest)


def test_a_version_is_promoted_by_the_two_who_are_left(site: Site) -> None:
    request = site.approve(site.request(digest("v1")), BEN)
    approves_no_more(site, BEN)

    promotion = site.client.promote(site.approve(request, ANA, CAS).statement.sha256)

    assert [one.person for one in promotion.approvals] == [ANA.id, CAS.id]


def test_what_was_approved_before_a_reset_counts_no_more_though_the_key_comes_back(site: Site) -> None:
    request = site.approve(site.request(digest("v1")), ANA, BEN)
    host_request(site, ANA, BEN)
    code = site.client.reset(BEN.id, [(ANA.id, PASSWORD), (CAS.id, PASSWORD)])
    site.client.enrol(code=code, name=BEN.name, certificate=BEN.certificate, password=PASSWORD, person=BEN.id)

    with pytest.raises(NotEnoughApprovalsError):
        site.client.promote(request.statement.sha256)
    with pytest.raises(HostChangeError):
        approved_hosts(site.config, PLAN.serial, now=site.clock.now(), plan_digest=PLAN.digest)
    site.clock.advance(24 * 3600)
    assert [one.person for one in site.client.pending()[0].approvals] == [ANA.id]
    site.approve(request, BEN)
    assert [one.person for one in site.client.promote(request.statement.sha256).approvals] == [ANA.id, BEN.id]


def test_who_is_no_admin_any_more_approves_again_and_keeps_nobody_else_from_it(tmp_path: Path) -> None:
    site = open_site(tmp_path, enrolled=4)
    request = site.approve(site.request(digest("v1")), ANA)
    assert [one.lower for one in request.approvals] == [("is an admin too",)]
    site.client.give_roles(ANA.id, ["approver"], [(one.id, PASSWORD) for one in (CAS, DAG)])
    (waiting,) = site.client.pending()
    assert waiting.approvals == (), "a window stops production for what is approved, not for what was"
    request = site.approve(request, BEN)

    with pytest.raises(NotEnoughApprovalsError):
        site.client.promote(request.statement.sha256)
    promotion = site.client.promote(site.approve(request, ANA).statement.sha256)

    assert [(one.person, one.lower) for one in promotion.approvals] == [(BEN.id, ("is an admin too",)), (ANA.id, ())]
