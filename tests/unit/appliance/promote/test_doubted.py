"""A version that only keys in doubt brought: it comes forward in no way, and going back to it has to be said."""

from pathlib import Path

import pytest

from appliance.errors import ApprovalRefusedError, NotPromotedError
from appliance.promote.doubted import DOUBTED, in_doubt
from media.errors import MalformedError
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories

ANA, BEN, CHI, _ = signatories()
A, B, C = digest("A"), digest("B"), digest("C")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(tmp_path, enrolled=3)


def doubt(site: Site, *digests: str) -> None:
    site.ledger.append(DOUBTED, {"site": site.config.site, "model_digests": sorted(digests), "notes": 1})


def test_nobody_is_asked_for_it(site: Site) -> None:
    doubt(site, A)

    with pytest.raises(ApprovalRefusedError, match="came with a release in doubt"):
        site.request(A)
    site.request(B)


def test_what_waits_is_approved_no_further_and_what_was_approved_is_not_carried_out(site: Site) -> None:
    request = site.approve(site.request(A), ANA)
    doubt(site, A)
    with pytest.raises(ApprovalRefusedError, match="in doubt"):
        site.approve(request, BEN)

    doubt(site)
    site.approve(request, BEN)
    doubt(site, A)
    with pytest.raises(ApprovalRefusedError, match="in doubt"):
        site.client.promote(request.statement.sha256)
    assert site.client.current()["model_digest"] is None

    doubt(site)  # a newer release brought it under other keys
    assert site.client.promote(request.statement.sha256).model_digest == A


def test_a_canary_of_it_is_neither_begun_nor_cut_over(site: Site) -> None:
    site.promote(A)
    request = site.approve(site.request(B), ANA, BEN)
    doubt(site, B)
    with pytest.raises(ApprovalRefusedError, match="in doubt"):
        site.client.start_canary(request.statement.sha256, percent=20, hours=1, watch_hours=48)

    doubt(site)
    site.client.start_canary(request.statement.sha256, percent=20, hours=1, watch_hours=48)
    site.approve(site.request(B), ANA, BEN)
    doubt(site, B)
    with pytest.raises(ApprovalRefusedError, match="in doubt"):
        site.client.cut_over(person=ANA.id, reason="sure", keeps_before=True)
    assert site.client.step_canary("abort", person=ANA.id, reason="in doubt").model_digest == A


def test_going_back_leads_to_it_only_by_its_name(site: Site) -> None:
    for version in (A, B, C):
        site.promote(version)
    doubt(site, B)

    with pytest.raises(NotPromotedError, match="came with a release in doubt") as refused:
        site.client.rollback(person=ANA.id, reason="worse")
    assert f"--to {A[:12]}" in refused.value.fix
    assert site.client.current()["model_digest"] == C

    assert site.client.rollback(person=ANA.id, reason="nothing else will do", model_digest=B).model_digest == B


def test_where_all_are_in_doubt_it_says_so(site: Site) -> None:
    site.promote(A)
    site.promote(B)
    doubt(site, A, B)

    with pytest.raises(NotPromotedError) as refused:
        site.client.rollback(person=ANA.id, reason="worse")

    assert refused.value.fix.startswith("none that can be gone back to is good, or stop")


def test_a_record_of_another_shape_is_not_taken_for_none(site: Site) -> None:
    site.ledger.append(DOUBTED, {"model_digests": ["A"]})

    with pytest.raises(MalformedError):
        in_doubt(site.ledger)
