"""Going forward takes two people; going back and stopping take one with a reason."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.actions.history import history
from appliance.audit.memory import MemoryLedger
from appliance.errors import (
    ApprovalRefusedError,
    ConflictError,
    GateFailedError,
    LedgerDamagedError,
    LedgerUnavailableError,
    NotEnoughApprovalsError,
    NotPromotedError,
    UnknownPersonError,
    UnknownVersionError,
)
from appliance.promote.desk import OPERATOR_DOOR
from appliance.promote.policy import packaged
from appliance.promote.promoter import MOST_PENDING
from appliance.promote.standing import require_promoted
from appliance.promote.validated import Validated, require_validated
from media.errors import MalformedError
from tests.support.promotion import PASSWORD, Site, digest, open_site
from tests.support.signatories import signatories

ANA, BEN, CHI, DAG = signatories()
A, B, C = digest("A"), digest("B"), digest("C")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(tmp_path, enrolled=3)


def test_two_approvals_bring_a_version_into_production(site: Site) -> None:
    request = site.request(A)
    site.approve(request, ANA, BEN)

    promotion = site.client.promote(request.statement.sha256)

    assert (promotion.number, promotion.model_digest, promotion.previous) == (1, A, None)
    assert site.client.current()["model_digest"] == A
    leaf = site.ledger.leaf(promotion.sequence)
    assert (leaf.kind, leaf.hash, leaf.body["statement_sha256"]) == (
        "promotion.made",
        promotion.leaf_hash,
        request.statement.sha256,
    )
    assert site.client.pending() == ()


def test_one_approval_is_not_enough(site: Site) -> None:
    request = site.approve(site.request(A), ANA)

    with pytest.raises(NotEnoughApprovalsError):
        site.client.promote(request.statement.sha256)


def test_a_site_may_demand_three(tmp_path: Path) -> None:
    site = open_site(tmp_path, enrolled=3, approvals=3)
    request = site.approve(site.request(A), ANA, BEN)
    with pytest.raises(NotEnoughApprovalsError):
        site.client.promote(request.statement.sha256)

    site.approve(request, CHI)
    site.client.promote(request.statement.sha256)


def test_the_same_person_approves_once(site: Site) -> None:
    request = site.approve(site.request(A), ANA)

    with pytest.raises(ApprovalRefusedError):
        site.client.approve(request.statement.sha256, ANA.sign(request.statement.to_bytes(), created=1_700_000_000))


def test_somebody_not_enrolled_cannot_approve_or_request(site: Site) -> None:
    request = site.request(A)

    with pytest.raises(ApprovalRefusedError):
        site.approve(request, DAG)
    with pytest.raises(UnknownPersonError):
        site.request(B, by=DAG)


def test_an_approval_of_one_statement_does_not_serve_for_another(site: Site) -> None:
    first, second = site.request(A), site.request(B)

    with pytest.raises(ApprovalRefusedError):
        site.client.approve(second.statement.sha256, ANA.sign(first.statement.to_bytes()))


def test_an_approval_of_a_changed_statement_is_refused(site: Site) -> None:
    request = site.request(A)
    changed = replace(request.statement, meaning="something else")

    with pytest.raises(ApprovalRefusedError):
        site.client.approve(request.statement.sha256, ANA.sign(changed.to_bytes()))
    with pytest.raises(ApprovalRefusedError):
        site.client.approve(changed.sha256, ANA.sign(changed.to_bytes()))


def test_an_expired_statement_is_neither_approved_nor_promoted(site: Site) -> None:
    request = site.approve(site.request(A), ANA, BEN)
    site.clock.advance(72 * 3600 + 1)

    with pytest.raises(ApprovalRefusedError):
        site.approve(request, CHI)
    with pytest.raises(ApprovalRefusedError):
        site.client.promote(request.statement.sha256)
    assert site.client.pending() == ()


def test_a_statement_is_promoted_once(site: Site) -> None:
    request = site.approve(site.request(A), ANA, BEN)
    site.client.promote(request.statement.sha256)
    site.client.stop(person=ANA.id, reason="incident")

    with pytest.raises(ConflictError):
        site.client.promote(request.statement.sha256)


def test_a_statement_of_before_is_not_promoted_by_putting_its_file_back(site: Site) -> None:
    request = site.approve(site.request(A), ANA, BEN)
    site.client.promote(request.statement.sha256)
    site.promote(B)
    put_back = replace(request, basis=2)
    site.folder.save_request(request.statement.sha256, put_back.to_bytes())

    with pytest.raises(NotPromotedError):
        site.client.promote(request.statement.sha256)
    assert site.client.current()["model_digest"] == B


def test_of_two_promotions_at_once_one_wins(site: Site) -> None:
    requests = [site.approve(site.request(one), ANA, BEN) for one in (A, B)]
    outcomes: list[object] = []

    def promote(statement: str) -> None:
        try:
            outcomes.append(site.client.promote(statement).model_digest)
        except ConflictError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=promote, args=(one.statement.sha256,)) for one in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(type(one).__name__ for one in outcomes) == ["ConflictError", "str"]
    assert len(site.folder.production().promotions) == 1


def test_a_promotion_requested_before_production_changed_has_to_be_requested_again(site: Site) -> None:
    outdated = site.approve(site.request(B), ANA, BEN)
    site.promote(A)

    with pytest.raises(ConflictError):
        site.client.promote(outdated.statement.sha256)


def test_the_same_request_again_is_the_same_statement(site: Site) -> None:
    assert site.request(A).statement.sha256 != site.request(A, meaning="again").statement.sha256
    validated = require_validated(site.ledger, A, packaged())
    again = [site.client.request(validated, meaning="again", requested_by=ANA.id) for _ in range(2)]

    assert len({one.statement.sha256 for one in again}) == 1


def test_too_many_requests_are_refused(site: Site) -> None:
    validated = site.validate(A)
    assert validated is not None
    for number in range(MOST_PENDING):
        site.client.request(validated, meaning=f"reason {number}", requested_by=ANA.id)

    with pytest.raises(ConflictError):
        site.client.request(validated, meaning="one more", requested_by=ANA.id)


def test_what_serves_already_is_not_requested(site: Site) -> None:
    site.promote(A)

    with pytest.raises(ConflictError):
        site.request(A)


def test_a_version_nobody_registered_is_not_requested(site: Site) -> None:
    unknown = Validated(model_digest=A, weights_digest=A, evidence_digest=A, policy_digest=packaged().digest)

    with pytest.raises(UnknownVersionError):
        site.client.request(unknown, meaning="x", requested_by=ANA.id)


def test_a_version_whose_gates_failed_or_are_of_another_policy_is_not_requested(site: Site) -> None:
    good = site.validate(A)
    assert good is not None
    for wrong in ({"passed": False}, {"policy": digest("old policy")}):
        site.validate(A, run="2", **wrong)
        with pytest.raises(GateFailedError):
            site.client.request(good, meaning="x", requested_by=ANA.id)


def test_a_report_of_another_version_does_not_serve(site: Site) -> None:
    site.validate(A)
    other = site.validate(B)
    assert other is not None

    with pytest.raises(ApprovalRefusedError):
        site.client.request(replace(other, model_digest=A), meaning="x", requested_by=ANA.id)


def test_an_older_report_does_not_serve(site: Site) -> None:
    old = site.validate(A)
    site.validate(A, run="2")
    assert old is not None

    with pytest.raises(ApprovalRefusedError):
        site.client.request(old, meaning="x", requested_by=ANA.id)


def test_gates_of_different_runs_do_not_add_up(site: Site) -> None:
    good = site.validate(A)
    assert good is not None
    figures = {"policy_digest": packaged().digest}
    site.ledger.append(
        "gate.result",
        {"model_digest": A, "gate": "smoke", "passed": True, "evidence_digest": digest("other"), "figures": figures},
    )

    with pytest.raises(GateFailedError):
        site.client.request(good, meaning="x", requested_by=ANA.id)


def test_a_gate_that_fails_after_the_approvals_stops_the_promotion(site: Site) -> None:
    request = site.approve(site.request(A), ANA, BEN)
    site.validate(A, run="2", passed=False)

    with pytest.raises(GateFailedError):
        site.client.promote(request.statement.sha256)


def test_new_evidence_after_the_approvals_has_to_be_approved(site: Site) -> None:
    request = site.approve(site.request(A), ANA, BEN)
    site.validate(A, run="2")

    with pytest.raises(ApprovalRefusedError):
        site.client.promote(request.statement.sha256)


def test_requests_that_newer_gates_or_another_policy_void_take_no_place(site: Site) -> None:
    validated = site.validate(A)
    assert validated is not None
    for number in range(MOST_PENDING):
        site.client.request(validated, meaning=f"reason {number}", requested_by=ANA.id)
    site.validate(A, run="2", passed=False)
    assert site.client.pending() == ()
    again = site.validate(A, run="3")
    assert again is not None

    assert site.client.request(again, meaning="one more", requested_by=ANA.id) == site.client.pending()[0]


def test_one_person_withdraws_a_request_and_it_is_asked_for_anew(site: Site) -> None:
    request = site.approve(site.request(A), ANA, BEN)
    named, content = request.statement.sha256, site.folder.read_request(request.statement.sha256)
    with pytest.raises(UnknownPersonError):
        site.at_door(OPERATOR_DOOR).withdraw(named, person=CHI.id, reason="the wrong one", password="guessed")
    site.at_door(OPERATOR_DOOR).withdraw(named, person=CHI.id, reason="the wrong one", password=PASSWORD)
    assert content is not None
    site.folder.save_request(named, content)  # a power failure kept the file

    assert site.client.pending() == ()
    for late in (lambda: site.client.promote(named), lambda: site.approve(request, CHI)):
        with pytest.raises(ApprovalRefusedError):
            late()
    with pytest.raises(ApprovalRefusedError):
        site.client.withdraw(named, person=CHI.id, reason="again")
    (told,) = [one for one in history(site.ledger) if one.what == "request withdrawn"]
    assert (told.people, told.reason, told.model_digest) == ((CHI.id,), "the wrong one", A)
    assert site.request(A).statement.sha256 != named


def test_the_approval_of_a_person_revoked_since_does_not_count(site: Site) -> None:
    request = site.approve(site.request(A), ANA, BEN)
    site.client.revoke(person=BEN.id, by=ANA.id, password=PASSWORD, reason="left")

    with pytest.raises(NotEnoughApprovalsError):
        site.client.promote(request.statement.sha256)
    site.approve(request, CHI)
    assert site.client.promote(request.statement.sha256).model_digest == A


def test_what_a_person_approved_before_leaving_keeps_serving(site: Site) -> None:
    site.promote(A)
    site.client.revoke(person=BEN.id, by=ANA.id, password=PASSWORD, reason="left")

    assert require_promoted(site.config.at, A).people == ("Ana Petrova", "Ben Okafor")


def test_one_person_goes_back_with_a_reason(site: Site) -> None:
    site.promote(A)
    site.promote(B)

    promotion = site.client.rollback(person=CHI.id, reason="worse answers")

    assert (promotion.model_digest, promotion.previous, promotion.person_class) == (A, B, "operator")
    body = site.ledger.leaf(promotion.sequence).body
    assert (body["person"], body["reason"], body["previous"]) == (CHI.id, "worse answers", B)


def test_going_back_twice_goes_further_back_and_then_ends(site: Site) -> None:
    for one in (A, B, C):
        site.promote(one)

    assert [site.client.rollback(person=ANA.id, reason="x").model_digest for _ in range(2)] == [B, A]
    with pytest.raises(NotPromotedError):
        site.client.rollback(person=ANA.id, reason="x")


def test_going_back_may_name_the_version(site: Site) -> None:
    for one in (A, B, C):
        site.promote(one)

    assert site.client.rollback(person=ANA.id, reason="x", model_digest=A).model_digest == A
    with pytest.raises(NotPromotedError):
        site.client.rollback(person=ANA.id, reason="x", model_digest=B)


def test_after_a_stop_the_stopped_version_takes_two_people_again(site: Site) -> None:
    site.promote(A)
    site.promote(B)
    site.client.stop(person=ANA.id, reason="incident")
    assert site.client.current()["model_digest"] is None

    with pytest.raises(ConflictError):
        site.client.stop(person=ANA.id, reason="again")
    assert site.client.current()["returnable"] == [A]
    site.promote(B)
    assert site.client.current()["model_digest"] == B


def test_after_a_stop_one_person_may_go_to_the_version_before(site: Site) -> None:
    site.promote(A)
    site.promote(B)
    site.client.stop(person=ANA.id, reason="incident")

    assert site.client.rollback(person=BEN.id, reason="safe version").model_digest == A


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "two\nlines"])
def test_going_back_without_a_reason_is_refused(site: Site, reason: str) -> None:
    site.promote(A)
    site.promote(B)

    with pytest.raises(MalformedError):
        site.client.rollback(person=ANA.id, reason=reason)
    with pytest.raises(MalformedError):
        site.client.stop(person=ANA.id, reason=reason)


def test_without_the_ledger_nothing_changes(site: Site) -> None:
    site.promote(A)
    request = site.approve(site.request(B), ANA, BEN)
    site.ledger.available = False
    acts: list[Any] = [
        lambda: site.approve(request, CHI),
        lambda: site.client.promote(request.statement.sha256),
        lambda: site.client.stop(person=ANA.id, reason="x"),
    ]

    for act in acts:
        with pytest.raises(LedgerUnavailableError):
            act()

    assert site.client.current()["number"] == 1


def test_a_promotion_torn_after_the_ledger_is_finished_at_the_next_start(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = site.approve(site.request(A), ANA, BEN)
    with monkeypatch.context() as torn:
        torn.setattr("appliance.promote.folder.PromoterFolder.save_promotion", _power_cut)
        with pytest.raises(KeyboardInterrupt):
            site.client.promote(request.statement.sha256)
    assert site.folder.production().current is None

    site.restart()
    with pytest.raises(ConflictError):
        site.client.promote(request.statement.sha256)

    assert require_promoted(site.config.at, A).number == 1


def test_an_acknowledgement_that_got_lost_is_found_by_the_next_call(site: Site) -> None:
    request = site.approve(site.request(A), ANA, BEN)

    def lose(_: object) -> None:
        site.ledger.appended = lambda _: None
        raise LedgerUnavailableError(what="lost", why="", fix="")

    site.ledger.appended = lose
    with pytest.raises(LedgerUnavailableError):
        site.client.promote(request.statement.sha256)

    with pytest.raises(ConflictError):
        site.client.promote(request.statement.sha256)
    assert site.client.current()["model_digest"] == A


def test_the_files_made_from_the_ledger_are_the_files_made_at_once(site: Site) -> None:
    site.promote(A)
    site.promote(B)
    site.client.rollback(person=ANA.id, reason="x")
    paths = sorted((site.config.at.promoter / "promotions").glob("*.json"))
    before = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()

    site.restart()
    with pytest.raises(NotPromotedError):
        site.client.rollback(person=ANA.id, reason="x")

    assert [path.read_bytes() for path in paths] == before


def test_files_that_say_what_the_ledger_does_not_stop_the_promoter(site: Site, tmp_path: Path) -> None:
    site.promote(A)
    other = open_site(tmp_path / "other", enrolled=3)
    site.ledger = other.ledger
    site.restart()

    with pytest.raises(LedgerDamagedError):
        site.client.stop(person=ANA.id, reason="x")


def test_an_expired_request_is_forgotten_when_production_moves(site: Site) -> None:
    site.request(B)
    site.clock.advance(72 * 3600 + 1)
    promoted = site.promote(A)

    assert len(site.folder.request_names()) == promoted.number == 1


def test_a_damaged_request_does_not_hinder_the_others(site: Site) -> None:
    request = site.request(A)
    site.folder.save_request(digest("junk"), b"junk")
    site.folder.save_request(digest("moved"), request.to_bytes())

    assert [one.statement.sha256 for one in site.client.pending()] == [request.statement.sha256]


def _power_cut(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("records", [0, 20])
def test_people_of_another_ledger_decide_nothing(site: Site, records: int) -> None:
    """As where a node's folder is of before a restore: somebody whose enrolment was lost would count on."""
    site.ledger = MemoryLedger(site.clock)
    for number in range(records):
        site.ledger.append("model.noted", {"number": number})
    site.restart()

    with pytest.raises(LedgerDamagedError, match="people is not the ledger's") as refused:
        site.client.stop(person=ANA.id, reason="look again")

    assert "a lost server" in refused.value.fix
