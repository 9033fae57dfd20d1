"""A version is deleted by one person with a reason, and never while anything may need it."""

from pathlib import Path

import pytest

from appliance.errors import ConflictError, NotPromotedError, UnknownPersonError, UnknownVersionError
from appliance.promote.policy import packaged
from appliance.promote.validated import require_validated
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories

OLD, NOW, NEXT = digest("old"), digest("now"), digest("next")
ANA, BEN, *_ = (person.id for person in signatories())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(tmp_path)


def delete(site: Site, version: str, *, person: str = ANA) -> int:
    return site.client.decide_model("delete", version, person=person, reason="superseded")


def test_production_previous_and_a_version_that_waits_for_approvals_are_not_deleted(site: Site) -> None:
    site.promote(OLD)
    site.promote(NOW)
    site.request(NEXT)

    for version, why in ((NOW, "in production"), (OLD, "to go back to"), (NEXT, "waits for approvals")):
        with pytest.raises(ConflictError, match="is not deleted") as refused:
            delete(site, version)
        assert why in refused.value.why
        assert any(why in need for need in site.client.needs_of(version))


def test_what_nothing_needs_is_deleted_once_and_then_unknown(site: Site) -> None:
    site.promote(OLD)
    site.promote(NOW)
    site.validate(NEXT)

    sequence = delete(site, NEXT)

    leaf = site.ledger.leaf(sequence)
    assert (leaf.kind, leaf.body["person"], leaf.body["reason"]) == ("model.deleted", ANA, "superseded")
    assert leaf.body["class"] == "operator"
    with pytest.raises(UnknownVersionError, match="was deleted"):
        delete(site, NEXT)
    with pytest.raises(UnknownVersionError, match="was deleted"):
        require_validated(site.ledger, NEXT, packaged())


def test_a_deleted_version_is_skipped_on_the_way_back(site: Site) -> None:
    for version in (OLD, NOW, NEXT):
        site.promote(version)
    delete(site, OLD)
    assert site.client.rollback(person=ANA, reason="x").model_digest == NOW

    with pytest.raises(NotPromotedError):
        site.client.rollback(person=ANA, reason="x")
    with pytest.raises(NotPromotedError):
        site.client.rollback(person=ANA, reason="x", model_digest=OLD)


def test_what_was_approved_before_its_deletion_is_not_promoted_after_it(site: Site) -> None:
    request = site.approve(site.request(NEXT), *signatories()[:2])
    site.clock.advance(73 * 3600)
    delete(site, NEXT)
    site.clock.advance(-73 * 3600)

    with pytest.raises(UnknownVersionError):
        site.client.promote(request.statement.sha256)


def test_gates_passed_before_a_deletion_do_not_count_after_the_version_came_back(site: Site) -> None:
    site.validate(NEXT)
    delete(site, NEXT)
    passed = site.ledger.find(kind="model.registered", field="model_digest", value=NEXT, limit=1)[0]
    site.ledger.append("model.registered", passed.body)

    with pytest.raises(Exception, match="may not be requested") as refused:
        require_validated(site.ledger, NEXT, packaged())
    assert "has not run" in getattr(refused.value, "why", "")


def test_a_hold_keeps_a_version_until_another_person_lifts_it(site: Site) -> None:
    site.validate(NEXT)
    site.client.decide_model("hold", NEXT, person=ANA, reason="case 12")

    with pytest.raises(ConflictError) as refused:
        delete(site, NEXT, person=BEN)
    assert "legal hold: case 12" in refused.value.why
    with pytest.raises(ConflictError, match="not lifted") as own:
        site.client.decide_model("lift", NEXT, person=ANA, reason="closed")
    assert "placed it" in own.value.why
    with pytest.raises(ConflictError, match="on hold already"):
        site.client.decide_model("hold", NEXT, person=BEN, reason="case 13")

    site.client.decide_model("lift", NEXT, person=BEN, reason="closed")
    assert delete(site, NEXT) > 0


def test_a_stranger_and_an_operator_without_the_password_delete_nothing(site: Site) -> None:
    site.validate(NEXT)

    with pytest.raises(UnknownPersonError):
        delete(site, NEXT, person="nobody")
    with pytest.raises(UnknownPersonError):
        site.at_door("promoter-operator").decide_model("delete", NEXT, person=ANA, reason="x", password="wrong")
    assert site.ledger.find(kind="model.deleted") == []
