"""The launcher's own check. Scenario of every attack here: someone can write into the promoter's folder."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import NotPromotedError
from appliance.promote.folder import PromoterFolder
from appliance.promote.people import SitePeople
from appliance.promote.record import Kind, Promotion
from appliance.promote.standing import current_digest, require_promoted
from media import canonical
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories
from tests.unit.appliance.promote.test_people import person_of

A, B, EVIL = digest("A"), digest("B"), digest("evil")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = open_site(tmp_path)
    made.promote(A)
    return made


def forge(site: Site, promotion: Promotion) -> None:
    """Write a promotion as the next file, well-formed and chained, as an intruder would."""
    production = site.folder.production()
    last = production.last
    assert last is not None
    chained = replace(
        promotion,
        number=production.number + 1,
        before=production.before,
        sequence=last.sequence + 1,
        previous=production.current,
    )
    site.folder.save_promotion(chained)


def only(site: Site) -> Promotion:
    last = site.folder.production().last
    assert last is not None
    return last


def test_the_promoted_version_stands_with_the_people_who_approved_it(site: Site) -> None:
    standing = require_promoted(site.config.at, A)

    assert standing.people == ("Ana Petrova", "Ben Okafor")
    assert (standing.number, standing.kind, standing.weights_digest) == (1, "made", digest("weights" + A))
    assert standing.to_json()["at"] == "2026-11-20T08:00:00Z"
    assert current_digest(site.config.at) == A


def test_nothing_stands_where_nothing_was_promoted(tmp_path: Path) -> None:
    site = open_site(tmp_path)

    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, A)
    assert current_digest(site.config.at) is None


def test_the_version_before_does_not_stand_any_more(site: Site) -> None:
    site.promote(B)

    require_promoted(site.config.at, B)
    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, A)


def test_after_going_back_the_version_before_stands_by_its_own_approvals(site: Site) -> None:
    site.promote(B)
    site.client.rollback(person="ben-okafor", reason="worse answers")

    standing = require_promoted(site.config.at, A)

    assert (standing.kind, standing.number, standing.people) == ("rolled-back", 3, ("Ana Petrova", "Ben Okafor"))


def test_after_a_stop_nothing_stands(site: Site) -> None:
    site.client.stop(person="ana-petrova", reason="incident")

    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, A)


def test_a_promotion_without_signatures_is_refused(site: Site) -> None:
    statement = json.loads(only(site).statement)
    forged = canonical.dumps({**statement, "model_digest": EVIL, "nonce": "f" * 32}).decode()
    forge(site, replace(only(site), model_digest=EVIL, statement=forged))

    with pytest.raises(NotPromotedError, match="may not serve"):
        require_promoted(site.config.at, EVIL)


def test_approvals_of_one_version_do_not_carry_another(site: Site) -> None:
    forge(site, replace(only(site), model_digest=EVIL))

    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, EVIL)


def test_a_replayed_statement_is_refused(site: Site) -> None:
    site.promote(B)
    first = site.folder.production().promotions[0]
    forge(site, first)

    with pytest.raises(NotPromotedError, match="does not follow"):
        require_promoted(site.config.at, A)


def test_one_persons_approval_twice_is_refused(site: Site) -> None:
    ana, *_ = signatories()
    statement = canonical.dumps({**json.loads(only(site).statement), "model_digest": EVIL, "nonce": "e" * 32})
    own = replace(only(site).approvals[0], signature=ana.sign(statement))
    again = replace(own, signature=ana.sign(statement, created=1_700_000_000))
    forge(site, replace(only(site), model_digest=EVIL, statement=statement.decode(), approvals=(own, again)))

    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, EVIL)


def test_an_approval_by_somebody_not_enrolled_is_refused(site: Site) -> None:
    ana, _, chi, _ = signatories()
    statement = canonical.dumps({**json.loads(only(site).statement), "model_digest": EVIL, "nonce": "d" * 32})
    first, second = only(site).approvals
    approvals = (
        replace(first, signature=ana.sign(statement)),
        replace(second, person=chi.id, name=chi.name, fingerprint=chi.fingerprint, signature=chi.sign(statement)),
    )
    forge(site, replace(only(site), model_digest=EVIL, statement=statement.decode(), approvals=approvals))

    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, EVIL)


def test_going_back_to_what_was_never_in_production_is_refused(site: Site) -> None:
    back = replace(
        only(site),
        kind=Kind.ROLLED_BACK,
        model_digest=EVIL,
        statement="",
        approvals=(),
        requested_by="",
        person="ana-petrova",
        person_class="operator",
        reason="forged",
    )
    forge(site, back)

    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, EVIL)


def test_a_file_out_of_the_chain_is_refused(site: Site) -> None:
    site.promote(B)
    path = site.config.at.promoter / "promotions/000002.json"
    changed = replace(Promotion.from_bytes(path.read_bytes()), before=digest("elsewhere"))
    path.write_bytes(changed.to_bytes())

    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, B)


def test_a_missing_file_is_refused(site: Site) -> None:
    site.promote(B)
    (site.config.at.promoter / "promotions/000001.json").unlink()

    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, B)


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"[1]"])
def test_a_malformed_file_is_refused(site: Site, content: bytes) -> None:
    (site.config.at.promoter / "promotions/000002.json").write_bytes(content)

    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, A)


def test_a_link_in_place_of_a_file_is_refused(site: Site, tmp_path: Path) -> None:
    path = site.config.at.promoter / "people.json"
    elsewhere = tmp_path / "elsewhere.json"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)

    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, A)


def test_without_its_people_no_promotion_stands(site: Site) -> None:
    _, _, chi, dag = signatories()
    strangers = SitePeople().with_person(person_of(chi, enrolled=1)).with_person(person_of(dag, enrolled=2))
    PromoterFolder(site.config.at.promoter).save_people(strangers)

    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, A)


def test_a_site_that_now_demands_three_people_is_told(site: Site) -> None:
    with pytest.raises(NotPromotedError, match="may not serve"):
        require_promoted(site.config.at, A, approvals=3)
