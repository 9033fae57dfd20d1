"""Where who requests does not approve, a name alone requests nothing: it is the person's, by their password."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import ApprovalRefusedError, UnknownPersonError
from appliance.promote.desk import ACTIONS_DOOR, ADMIN_DOOR, OPERATOR_DOOR
from appliance.promote.policychange import PolicyRequest
from appliance.promote.promoter import Request
from media import canonical
from tests.support.promotion import PASSWORD, Site, digest, open_site
from tests.support.signatories import signatories

ANA, BEN, CAS, *_ = signatories()
A = digest("A")
STRICT = 'format = 1\nname = "ward"\n[task_evaluation]\nminimum_accuracy_millis = 400\n'
MEANING = "our wards demand it"
DOORS = pytest.mark.parametrize("door", [ACTIONS_DOOR, OPERATOR_DOOR, ADMIN_DOOR])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(tmp_path, enrolled=3, request="person")


def classes(site: Site, kind: str) -> list[Any]:
    return [leaf.body.get("class") for leaf in site.ledger.find(kind=kind)]


@DOORS
@pytest.mark.parametrize("password", [None, "", "guessed"])
def test_nobody_requests_a_version_under_anothers_name(site: Site, door: str, password: str | None) -> None:
    validated = site.validate(A)
    assert validated is not None

    # Ana names Ben, who knows nothing of it, and would then approve with Cas what she asked for herself.
    with pytest.raises(UnknownPersonError):
        site.at_door(door).request(validated, meaning="serve it", requested_by=BEN.id, password=password)

    assert site.client.pending() == ()
    assert classes(site, "promotion.requested") == []


@DOORS
@pytest.mark.parametrize("password", [None, "", "guessed"])
def test_nobody_asks_for_thresholds_under_anothers_name(site: Site, door: str, password: str | None) -> None:
    with pytest.raises(UnknownPersonError):
        site.at_door(door).request_policy(policy=STRICT, meaning=MEANING, requested_by=BEN.id, password=password)

    assert site.client.pending_policies() == ()
    assert classes(site, "approval.policy-requested") == []


@DOORS
def test_who_requests_by_password_is_kept_from_approving_and_two_others_approve(site: Site, door: str) -> None:
    validated = site.validate(A)
    assert validated is not None

    request = site.at_door(door).request(validated, meaning="serve it", requested_by=ANA.id, password=PASSWORD)

    assert classes(site, "promotion.requested") == ["password"]
    site.restart()
    with pytest.raises(ApprovalRefusedError):
        site.approve(request, ANA)
    site.approve(request, BEN, CAS)
    assert site.client.promote(request.statement.sha256).requested_by == ANA.id


def test_who_asks_for_thresholds_by_password_is_recorded_as_known_and_a_restart_keeps_that(site: Site) -> None:
    request = site.client.request_policy(policy=STRICT, meaning=MEANING, requested_by=ANA.id, password=PASSWORD)

    assert classes(site, "approval.policy-requested") == ["password"]
    site.restart()
    waiting = site.client.pending_policies()
    assert [one.statement.sha256 for one in waiting] == [request.statement.sha256]
    assert waiting[0].asker_known


def test_a_request_of_before_in_a_name_that_was_typed_is_asked_for_again(site: Site) -> None:
    known = site.request(A)
    typed = replace(known, asker_known=False)
    site.folder.save_request(typed.statement.sha256, typed.to_bytes())
    assert canonical.loads(typed.to_bytes())["format"] == 1

    assert site.client.pending() == ()
    with pytest.raises(ApprovalRefusedError):
        site.approve(typed, BEN)
    with pytest.raises(ApprovalRefusedError):
        site.client.promote(typed.statement.sha256)
    again = site.request(A)
    assert again.statement.sha256 != typed.statement.sha256
    site.clock.advance(timedelta(hours=site.config.policy.approval_hours).total_seconds() + 1)
    later = site.request(A)
    site.approve(later, BEN, CAS)
    assert site.client.promote(later.statement.sha256).number == 1
    assert site.folder.request_names() == [later.statement.sha256]  # what has expired is forgotten, it, too


def test_thresholds_that_were_asked_for_in_a_typed_name_are_asked_for_again(tmp_path: Path) -> None:
    before = open_site(tmp_path, enrolled=3, request="release")
    typed = before.client.request_policy(policy=STRICT, meaning=MEANING, requested_by=BEN.id)
    site = Site(
        root=tmp_path,
        config=before.config.model_copy(
            update={"policy": before.config.policy.model_copy(update={"request": "person"})}
        ),
        clock=before.clock,
        ledger=before.ledger,
    )

    assert site.client.pending_policies() == ()
    with pytest.raises(ApprovalRefusedError):
        site.client.approve_policy(typed.statement.sha256, ANA.sign(typed.statement.to_bytes()))
    asked = site.client.request_policy(policy=STRICT, meaning=MEANING, requested_by=CAS.id, password=PASSWORD)
    assert asked.statement.sha256 != typed.statement.sha256


def test_where_the_release_is_the_request_a_name_is_enough_and_files_stay_as_they_were(tmp_path: Path) -> None:
    site = open_site(tmp_path, request="release")
    request = site.request(A, by=BEN)
    policy = site.client.request_policy(policy=STRICT, meaning=MEANING, requested_by=BEN.id)

    assert classes(site, "promotion.requested") == classes(site, "approval.policy-requested") == [None]
    assert "asker_known" not in canonical.loads(request.to_bytes())
    file = site.config.at.promoter / "policy-changes" / f"{policy.statement.sha256}.json"
    assert set(canonical.loads(file.read_bytes())) == {"format", "statement", "statement_sha256", "approvals"}
    site.approve(request, ANA, BEN)
    assert site.client.promote(request.statement.sha256).requested_by == BEN.id


def test_a_password_that_is_given_is_judged_also_where_a_name_is_enough(tmp_path: Path) -> None:
    site = open_site(tmp_path, request="release")
    validated = site.validate(A)
    assert validated is not None

    with pytest.raises(UnknownPersonError):
        site.client.request(validated, meaning="serve it", requested_by=BEN.id, password="guessed")
    site.client.request(validated, meaning="serve it", requested_by=BEN.id, password=PASSWORD)
    assert classes(site, "promotion.requested") == ["password"]


def test_both_formats_of_a_request_are_read(site: Site) -> None:
    request = site.request(A)
    policy = site.client.request_policy(policy=STRICT, meaning=MEANING, requested_by=ANA.id, password=PASSWORD)
    file = site.config.at.promoter / "policy-changes" / f"{policy.statement.sha256}.json"

    for one in (request, replace(request, asker_known=False)):
        assert Request.from_json(canonical.loads(one.to_bytes())) == one
    assert canonical.loads(request.to_bytes())["format"] == 2
    assert canonical.loads(file.read_bytes())["format"] == 2
    assert PolicyRequest.from_json(canonical.loads(file.read_bytes())) == policy
