"""Two people's approval of a host change, verified again by whoever carries it out."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import hostplan
from appliance.audit.memory import MemoryLedger
from appliance.errors import ApprovalRefusedError, HostChangeError, LedgerUnavailableError, UnknownPersonError
from appliance.install import plans
from appliance.promote.hostchange import HostRequest, HostStatement, approved_hosts
from appliance.promote.people import SitePeople
from media import canonical
from media.errors import MediaError, SealiftError
from tests.support.hostplans import make_plan
from tests.support.promotion import PASSWORD, Site, open_site
from tests.support.signatories import Signatory, signatories


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(tmp_path, enrolled=3)


def requested(site: Site, **changes: Any) -> HostRequest:
    plan = make_plan(**changes)
    plans.keep(site.config.at, plan)
    ana = signatories()[0]
    return site.client.request_host(
        plan_digest=plan.digest, serial=plan.serial, meaning="open the port", requested_by=ana.id
    )


def approve(site: Site, request: HostRequest, *people: Signatory) -> HostRequest:
    for person in people:
        request = site.client.approve_host(request.statement.sha256, person.sign(request.statement.to_bytes()))
    return request


def require(site: Site, plan_digest: str, serial: int = 1) -> HostRequest:
    return approved_hosts(site.config, serial, now=site.clock.now(), plan_digest=plan_digest)[0]


def test_two_people_approve_and_the_installer_verifies_it_from_the_files(site: Site) -> None:
    ana, ben, *_ = signatories()
    request = approve(site, requested(site), ana, ben)

    assert require(site, make_plan().digest).statement == request.statement
    kinds = [leaf.kind for leaf in site.ledger.find(kind="approval.", newest_first=False)]
    assert kinds == ["approval.host-requested", "approval.host-given", "approval.host-given"]


def test_who_asks_for_a_host_change_may_approve_it_at_every_site(tmp_path: Path) -> None:
    site = open_site(tmp_path, enrolled=3, request="person")  # says it of promotions and thresholds (approving.md)
    ana, ben, *_ = signatories()

    request = approve(site, requested(site), ana, ben)

    assert request.statement.requested_by == ana.id
    assert require(site, make_plan().digest).statement == request.statement
    file = site.config.at.promoter / "host-changes" / f"{request.statement.sha256}.json"
    assert set(canonical.loads(file.read_bytes())) == {"format", "statement", "statement_sha256", "approvals"}


def test_nobody_and_one_person_are_not_enough(site: Site) -> None:
    with pytest.raises(HostChangeError, match="two people"):
        require(site, make_plan().digest)
    request = approve(site, requested(site), signatories()[0])
    with pytest.raises(HostChangeError, match="two people"):
        require(site, make_plan().digest)

    with pytest.raises(ApprovalRefusedError, match="refused"):
        approve(site, request, signatories()[0])


def test_a_plan_that_came_out_differently_voids_the_approvals(site: Site) -> None:
    approve(site, requested(site), *signatories()[:2])

    for changes in ({"difference": "+tcp dport 22 accept"}, {"settings": "c" * 64}, {"packages": ()}):
        with pytest.raises(HostChangeError):
            require(site, make_plan(**changes).digest)
    with pytest.raises(HostChangeError):
        require(site, make_plan().digest, serial=2)


def test_who_installs_is_told_what_came_out_differently_since(site: Site) -> None:
    account = (
        "TASK [units : Copy the units] ****\nchanged: [localhost]\n\nTASK [nginx : Start it] ****\n{}: [localhost]\n"
    )
    approve(site, requested(site, difference=account.format("changed")), *signatories()[:2])
    package = replace(make_plan().packages[0], name="chrony")

    for changes, told in (
        ({"difference": account.format("ok")}, "another outcome now of: nginx : Start it"),
        ({"difference": account.format("ok"), "packages": (package,)}, "nginx : Start it, nftables, chrony"),
        ({"difference": account.format("changed"), "changed": 3}, "no task by name"),
    ):
        with pytest.raises(HostChangeError, match="the host is not as it was") as caught:
            hostplan.require_approved(site.config, make_plan(**changes), clock=site.clock)
        assert caught.value.why.endswith(told)
    with pytest.raises(HostChangeError, match="two people have not approved"):
        hostplan.require_approved(site.config, make_plan(settings="c" * 64), clock=site.clock)


def test_an_approval_expires(site: Site) -> None:
    request = approve(site, requested(site), *signatories()[:2])
    site.clock.advance(timedelta(hours=site.config.policy.approval_hours).total_seconds() + 1)

    with pytest.raises(HostChangeError, match=r"two people") as caught:
        require(site, make_plan().digest)
    assert "expired" in caught.value.why
    with pytest.raises(ApprovalRefusedError):
        approve(site, request, signatories()[2])


def test_an_approval_counts_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    approve(site, requested(site), *signatories()[:2])
    ledger = MemoryLedger(site.clock)
    monkeypatch.setattr(hostplan, "open_ledger", lambda *_, **__: _Kept(ledger))
    plan = make_plan()

    statement = hostplan.require_approved(site.config, plan, clock=site.clock)
    ledger.append("install.done", {"serial": 1, "release": "small-1", "host_approval": statement})

    with pytest.raises(HostChangeError, match="used"):
        hostplan.require_approved(site.config, plan, clock=site.clock)


@pytest.mark.parametrize("meaning", ["open the port", *(f"again, for the {number}th time" for number in range(6))])
def test_after_an_install_two_people_approve_the_same_plan_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch, meaning: str
) -> None:
    # A box goes back from a release and installs it again within the hours for which an approval is good.
    approve(site, first := requested(site), *signatories()[:2])
    monkeypatch.setattr(hostplan, "open_ledger", lambda *_, **__: _Kept(site.ledger))
    plan = make_plan()
    used = hostplan.require_approved(site.config, plan, clock=site.clock)
    site.ledger.append("install.done", {"serial": 1, "release": "small-1", "host_approval": used})
    assert site.client.pending_hosts() == ()
    with pytest.raises(ApprovalRefusedError):
        approve(site, first, signatories()[2])

    anew = site.client.request_host(
        plan_digest=plan.digest, serial=plan.serial, meaning=meaning, requested_by=signatories()[0].id
    )
    approve(site, anew, *signatories()[:2])

    assert hostplan.require_approved(site.config, plan, clock=site.clock) == anew.statement.sha256 != used


def test_who_was_revoked_since_does_not_count(site: Site) -> None:
    ana, ben, cas, *_ = signatories()
    approve(site, requested(site), ana, ben)
    site.client.revoke(person=ben.id, by=cas.id, password=PASSWORD, reason="left")

    with pytest.raises(HostChangeError):
        require(site, make_plan().digest)


def test_a_signature_for_a_model_is_none_for_the_host_and_the_reverse(site: Site) -> None:
    host = requested(site)
    model = site.request("ab" * 32)
    ana = signatories()[0]

    with pytest.raises(ApprovalRefusedError):
        site.client.approve_host(host.statement.sha256, ana.sign(model.statement.to_bytes()))
    with pytest.raises(ApprovalRefusedError):
        site.client.approve(model.statement.sha256, ana.sign(host.statement.to_bytes()))
    with pytest.raises(ApprovalRefusedError):
        site.client.approve(host.statement.sha256, ana.sign(host.statement.to_bytes()))
    with pytest.raises(ApprovalRefusedError):
        HostStatement.from_bytes(
            canonical.dumps({**canonical.loads(host.statement.to_bytes()), "type": "sealift/promotion"})
        )


def test_only_a_plan_that_lies_here_can_be_requested_by_one_who_is_enrolled(site: Site) -> None:
    plan = make_plan()
    with pytest.raises(HostChangeError, match="no plan"):
        site.client.request_host(plan_digest=plan.digest, serial=1, meaning="m", requested_by=signatories()[0].id)
    plans.keep(site.config.at, plan)
    with pytest.raises(HostChangeError, match="no plan"):
        site.client.request_host(plan_digest=plan.digest, serial=2, meaning="m", requested_by=signatories()[0].id)
    with pytest.raises(UnknownPersonError):
        site.client.request_host(plan_digest=plan.digest, serial=1, meaning="m", requested_by="nobody")


def test_a_forged_file_approves_nothing(site: Site) -> None:
    ana, ben, *_ = signatories()
    request = approve(site, requested(site), ana)
    place = site.config.at.promoter / f"host-changes/{request.statement.sha256}.json"
    fields = canonical.loads(place.read_bytes())
    twice = {**fields, "approvals": [*fields["approvals"], {**fields["approvals"][0], "person": ben.id}]}
    for forged in (canonical.dumps(twice), canonical.dumps({**fields, "approvals": fields["approvals"] * 2}), b"{}"):
        place.write_bytes(forged)
        with pytest.raises(HostChangeError):
            require(site, make_plan().digest)


def test_the_same_plan_asked_for_again_is_the_same_statement(site: Site) -> None:
    assert requested(site).statement == requested(site).statement
    assert len(site.client.pending_hosts()) == 1


@pytest.mark.parametrize("change", [{"serial": 0}, {"nonce": "x"}, {"plan_digest": "x"}, {"more": 1}, {"format": 2}])
def test_a_statement_has_one_form(site: Site, change: dict[str, Any]) -> None:
    fields = canonical.loads(requested(site).statement.to_bytes())

    with pytest.raises((MediaError, SealiftError)):
        HostStatement.from_bytes(canonical.dumps({**fields, **change}))


def test_before_anybody_is_enrolled_the_typed_code_is_the_approval(tmp_path: Path) -> None:
    empty = open_site(tmp_path / "a", enrolled=0)
    full = open_site(tmp_path / "b")

    assert not hostplan.has_people(empty.config.at, empty.ledger)
    assert hostplan.has_people(full.config.at, full.ledger)


@pytest.mark.parametrize("left", [None, SitePeople().to_bytes()], ids=["no list", "an empty list"])
def test_a_list_of_people_that_was_taken_away_makes_no_first_install(
    site: Site, left: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostplan, "open_ledger", lambda *_, **__: _Kept(site.ledger))
    place = site.config.at.promoter / "people.json"
    place.unlink()
    if left is not None:
        place.write_bytes(left)

    assert hostplan.is_anybody_here(site.config, clock=site.clock)


def test_without_a_list_a_ledger_that_does_not_answer_is_no_word_that_nobody_is_here(
    site: Site, tmp_path: Path
) -> None:
    nobody = open_site(tmp_path / "new", enrolled=0)
    assert not hostplan.is_anybody_here(nobody.config, clock=nobody.clock), "no ledger was ever here"
    (site.config.at.promoter / "people.json").unlink()
    site.config.at.ledger.mkdir(parents=True)
    (site.config.at.ledger / "ledger.db").write_bytes(b"damaged")

    with pytest.raises(LedgerUnavailableError):
        hostplan.is_anybody_here(site.config, clock=site.clock)


class _Kept:
    """A ledger that several callers close."""

    def __init__(self, inner: MemoryLedger) -> None:
        self.find = inner.find

    def close(self) -> None:
        pass
