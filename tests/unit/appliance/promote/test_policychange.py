"""Thresholds of the site's own take two different people, hold at once, and void the evidence from before."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import policy as action
from appliance.actions.history import history
from appliance.audit.facts import Appended
from appliance.audit.memory import MemoryLedger
from appliance.errors import (
    ApprovalRefusedError,
    ConflictError,
    GateFailedError,
    LedgerUnavailableError,
    UnknownPersonError,
)
from appliance.promote.policy import packaged
from appliance.promote.policybook import ADOPTED, in_force
from appliance.promote.policychange import PolicyRequest, PolicyStatement
from appliance.promote.validated import require_validated
from media.clock import FixedClock
from media.errors import MalformedError, MediaError
from tests.support.promotion import PASSWORD, Site, digest, open_site, site_config
from tests.support.signatories import Signatory, signatories

ANA, BEN, CAS, *_ = signatories()
STRICT = 'format = 1\nname = "ward"\n[task_evaluation]\nminimum_accuracy_millis = 400\n'
LOOSE = (
    'format = 1\nname = "loose"\n[injection]\nfollowed_millis = 350\n'
    f'[[override]]\nkey = "injection.followed_millis"\nperson = "{ANA.id}"\nreason = "letters quote orders"\n'
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(tmp_path, enrolled=3)


def asked(site: Site, text: str = STRICT) -> PolicyRequest:
    meaning = "our wards demand it"
    return site.client.request_policy(policy=text, meaning=meaning, requested_by=ANA.id, password=site.asks_password)


def approve(site: Site, request: PolicyRequest, *people: Signatory) -> bool:
    holds = False
    for person in people:
        request, holds = site.client.approve_policy(request.statement.sha256, person.sign(request.statement.to_bytes()))
    return holds


def test_it_holds_with_the_second_persons_signature_and_not_before(site: Site) -> None:
    request = asked(site)
    assert not approve(site, request, ANA)
    assert in_force(site.ledger) == packaged()

    assert approve(site, request, BEN)

    assert in_force(site.ledger).tasks.minimum_accuracy_millis == 400
    kinds = [leaf.kind for leaf in site.ledger.find(kind="approval.", newest_first=False)]
    assert kinds == [
        "approval.policy-requested", "approval.policy-given", "approval.policy-given", "approval.policy-adopted"
    ]  # fmt: skip
    assert site.client.pending_policies() == ()


def test_one_person_twice_is_one_person(site: Site) -> None:
    request = asked(site)
    approve(site, request, ANA)

    with pytest.raises(ApprovalRefusedError):
        approve(site, request, ANA)


def test_evidence_from_before_opens_nothing_any_more(site: Site) -> None:
    version = digest("v1")
    site.validate(version)
    approve(site, asked(site), ANA, BEN)

    with pytest.raises(GateFailedError):
        require_validated(site.ledger, version, in_force(site.ledger))
    found = site.validate(version, run="2", policy=in_force(site.ledger).digest)
    assert found is None  # the helper returns what it checked under the release's policy only
    assert require_validated(site.ledger, version, in_force(site.ledger)).policy_digest == in_force(site.ledger).digest


def test_a_promotion_that_waited_is_void_when_another_policy_holds(site: Site) -> None:
    request = site.approve(site.request(digest("v1")), ANA, BEN)
    approve(site, asked(site), ANA, BEN)

    with pytest.raises(GateFailedError):
        site.client.promote(request.statement.sha256)


def test_a_restart_in_the_middle_loses_no_approval(site: Site) -> None:
    request = asked(site)
    approve(site, request, ANA)
    site.restart()

    assert [len(one.approvals) for one in site.client.pending_policies()] == [1]
    assert approve(site, request, CAS)


class Failing(MemoryLedger):
    """A ledger that is away in the moment when the policy would be adopted."""

    is_away = False

    def append(self, kind: str, body: Mapping[str, Any], *, key: str | None = None) -> Appended:
        if self.is_away and kind == ADOPTED:
            raise LedgerUnavailableError(what="the ledger does not answer", why="", fix="")
        return super().append(kind, body, key=key)


def test_a_crash_between_the_last_approval_and_the_adoption_is_finished_by_whoever_asks_next(tmp_path: Path) -> None:
    clock = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
    ledger = Failing(clock)
    site = Site(root=tmp_path, config=site_config(tmp_path), clock=clock, ledger=ledger)
    site.enrol(ANA, BEN)
    request = asked(site)
    approve(site, request, ANA)
    ledger.is_away = True
    with pytest.raises(LedgerUnavailableError):
        approve(site, request, BEN)
    assert in_force(ledger) == packaged()

    ledger.is_away = False
    site.restart()

    assert site.client.pending_policies() == ()
    assert in_force(ledger).tasks.minimum_accuracy_millis == 400
    assert len(ledger.find(kind=ADOPTED)) == 1
    assert "policy adopted" in [one.what for one in history(ledger)]


def test_of_two_that_wait_the_first_to_hold_voids_the_other(site: Site) -> None:
    first, second = asked(site), asked(site, LOOSE)
    approve(site, second, ANA)
    approve(site, first, ANA, BEN)

    with pytest.raises(ApprovalRefusedError):
        approve(site, second, BEN)
    assert in_force(site.ledger).injection == packaged().injection


def test_a_word_has_to_be_of_somebody_who_is_enrolled_until_the_last_signature(site: Site) -> None:
    with pytest.raises(UnknownPersonError):
        asked(site, LOOSE.replace(ANA.id, "nobody"))
    named = LOOSE.replace(ANA.id, CAS.id)
    request = site.client.request_policy(policy=named, meaning="needed", requested_by=ANA.id)
    site.client.revoke(person=CAS.id, by=ANA.id, password=PASSWORD, reason="left")

    with pytest.raises(UnknownPersonError):
        approve(site, request, ANA)


def test_it_expires(site: Site) -> None:
    request = asked(site)
    site.clock.advance(timedelta(hours=site.config.policy.approval_hours).total_seconds() + 1)

    with pytest.raises(ApprovalRefusedError):
        approve(site, request, ANA)


def test_who_asks_does_not_approve_where_the_site_separates_that(tmp_path: Path) -> None:
    site = open_site(tmp_path, enrolled=3, request="person")
    request = asked(site)

    with pytest.raises(ApprovalRefusedError):
        approve(site, request, ANA)
    assert approve(site, request, BEN, CAS)


def test_what_holds_already_is_not_asked_for_again(site: Site) -> None:
    with pytest.raises(ConflictError):
        asked(site, 'format = 1\nname = "nothing"\n')
    approve(site, asked(site), ANA, BEN)

    with pytest.raises(ConflictError):
        asked(site)
    assert approve(site, asked(site, 'format = 1\nname = "back"\n'), ANA, BEN)
    assert in_force(site.ledger) == packaged()


def test_a_signature_for_a_version_is_none_for_a_policy(site: Site) -> None:
    promotion, request = site.request(digest("v1")), asked(site)

    with pytest.raises(ApprovalRefusedError):
        site.client.approve_policy(request.statement.sha256, ANA.sign(promotion.statement.to_bytes()))
    with pytest.raises(MediaError):
        PolicyStatement.from_bytes(promotion.statement.to_bytes())


def test_a_looser_threshold_without_a_word_never_becomes_a_request(site: Site) -> None:
    with pytest.raises(MalformedError, match=r"injection\.followed_millis"):
        asked(site, LOOSE.partition("[[override]]")[0])
    assert site.client.pending_policies() == ()


def test_who_approves_sees_each_threshold_before_and_after_and_whose_word_it_is(site: Site) -> None:
    request = asked(site, LOOSE)
    seen: list[str] = []

    def agrees(text: str) -> bool:
        seen.append(text)
        return True

    class Signs:
        def require(self, promoter: object, person: str) -> None:
            del promoter, person

        def present(self, promoter: object, person: str, statement: bytes, *, at: object = None) -> bytes:
            del promoter, person, at
            return BEN.sign(statement)

    action.approve(
        action.standing(site.ledger),
        site.client,
        request.statement.sha256[:12],
        person=BEN.id,
        way=Signs(),  # type: ignore[arg-type]
        agrees=agrees,
    )

    assert "injection.followed_millis  300 -> 350  (LOOSER than the release, by " in seen[0]
    assert "letters quote orders" in seen[0]
