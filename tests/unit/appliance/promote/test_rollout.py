"""A canary from its start to its end: who may do what, what the judge does, and what the chain then allows."""

import itertools
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import (
    ConflictError,
    NotEnoughApprovalsError,
    NotPromotedError,
    UnknownPersonError,
)
from appliance.promote.desk import OPERATOR_DOOR
from appliance.promote.record import BY_JUDGE, Kind, Promotion
from appliance.promote.rollout import JUDGED
from appliance.promote.standing import loadable_digests, require_loadable, require_promoted
from media.errors import MalformedError, UsageError
from tests.support.promotion import PASSWORD, Site, digest, open_site
from tests.support.signatories import signatories

OLD, NEW = digest("old"), digest("new")
ANA, BEN, *_ = signatories()
TERMS: dict[str, int] = {"percent": 20, "hours": 48, "watch_hours": 48}
_NUMBERS = itertools.count()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = open_site(tmp_path)
    site.promote(OLD)
    return site


def start(site: Site, **changes: int) -> Promotion:
    request = site.approve(site.request(NEW), ANA, BEN)
    return site.client.start_canary(request.statement.sha256, **{**TERMS, **changes})


def answer(site: Site, arm: str, **changes: Any) -> None:
    """Record one request as the gateway does."""
    request_id = f"req_{next(_NUMBERS)}"
    intent = {"request_id": request_id, "arm": arm, "assigned": "share", "stream": True, "bucket": 1}
    outcome = {"request_id": request_id, "outcome": "ok", "status": 200, "ttft_ms": 100, "latency_ms": 900}
    site.ledger.append("request.intent", intent | {one: changes[one] for one in changes if one in intent})
    site.ledger.append("request.outcome", outcome | {one: changes[one] for one in changes if one in outcome})


def traffic(site: Site, count: int, **canary: Any) -> None:
    for _ in range(count):
        for _ in range(4):
            answer(site, "production")
        answer(site, "canary", **canary)


FAILED: dict[str, Any] = {"outcome": "error", "status": 502, "ttft_ms": None}


def test_a_canary_starts_beside_production_with_the_approvals_of_two(site: Site) -> None:
    request = site.approve(site.request(NEW), ANA)
    with pytest.raises(NotEnoughApprovalsError):
        site.client.start_canary(request.statement.sha256, **TERMS)
    site.approve(request, BEN)

    promotion = site.client.start_canary(request.statement.sha256, **TERMS)

    assert (promotion.kind, promotion.model_digest) == (Kind.CANARY_STARTED, OLD)
    assert loadable_digests(site.config.at) == (OLD, NEW)
    assert require_loadable(site.config.at, NEW).people == (ANA.name, BEN.name)
    assert require_promoted(site.config.at, OLD).model_digest == OLD
    with pytest.raises(NotPromotedError):
        require_promoted(site.config.at, NEW)
    standing = site.client.canary()["canary"]
    assert (standing["version"], standing["left_seconds"], standing["verdict"]["state"]) == (NEW, 48 * 3600, "going")


@pytest.mark.parametrize("wrong", [{"percent": 0}, {"percent": 51}, {"hours": 0}])
def test_a_canary_on_terms_that_make_no_sense_is_refused(site: Site, wrong: dict[str, int]) -> None:
    with pytest.raises(ConflictError):
        start(site, **wrong)
    assert site.client.canary()["canary"] is None


def test_nothing_else_goes_forward_while_a_canary_runs(site: Site) -> None:
    start(site)
    request = site.approve(site.request(digest("third")), ANA, BEN)

    with pytest.raises(ConflictError):
        site.client.promote(request.statement.sha256)
    with pytest.raises(ConflictError):
        site.client.start_canary(request.statement.sha256, **TERMS)


def test_a_canary_needs_something_that_serves_beside_it(tmp_path: Path) -> None:
    site = open_site(tmp_path)

    with pytest.raises(ConflictError):
        start(site)


def test_one_person_holds_resumes_and_aborts_and_an_operator_proves_it_by_a_password(site: Site) -> None:
    start(site)
    site.clock.advance(3600)
    for step, wrong in (("hold", "hold"), ("resume", "resume"), ("abort", "hold")):
        site.client.step_canary(step, person=BEN.id, reason="to be sure")
        with pytest.raises(NotPromotedError):
            site.client.step_canary(wrong, person=BEN.id, reason="again")
        if step == "hold":
            site.clock.advance(7200)
            assert site.client.canary()["canary"]["left_seconds"] == 47 * 3600
    assert loadable_digests(site.config.at) == (OLD,)
    start_again = site.approve(site.client.pending()[0] if site.client.pending() else site.request(NEW), ANA, BEN)
    site.client.start_canary(start_again.statement.sha256, **TERMS)
    with pytest.raises(UnknownPersonError):
        site.at_door(OPERATOR_DOOR).step_canary("abort", person=ANA.id, reason="x", password="wrong")
    done = site.at_door(OPERATOR_DOOR).step_canary("abort", person=ANA.id, reason="x", password=PASSWORD)
    assert done.person_class == "password"


def test_a_worse_canary_is_ended_by_the_judge_and_the_figures_are_recorded(site: Site) -> None:
    start(site)
    traffic(site, 12, **FAILED)

    found = site.client.judge_canary()

    assert (found["canary"], found["changed"]["kind"], found["changed"]["class"]) == (None, "canary-aborted", BY_JUDGE)
    assert "errors: 12 of 12 in the canary, 0 of 48 in production" in found["changed"]["reason"]
    (judged,) = site.ledger.find(kind=JUDGED)
    assert judged.body["state"] == "worse"
    with pytest.raises(NotPromotedError):
        require_loadable(site.config.at, NEW)
    assert site.client.reviews() == ()
    site.restart()
    assert site.client.judge_canary()["changed"] is None


def test_slow_first_tokens_and_a_failed_gate_end_it_too(site: Site) -> None:
    start(site)
    for _ in range(250):
        answer(site, "production")
    traffic(site, 40, ttft_ms=900)
    assert "speed: " in site.client.judge_canary()["changed"]["reason"]

    request = site.approve(site.request(NEW), ANA, BEN)
    site.client.start_canary(request.statement.sha256, **TERMS)
    site.validate(NEW, run="2", passed=False)
    assert "evaluation: the gate" in site.client.judge_canary()["changed"]["reason"]


def test_another_gate_that_passes_takes_back_nothing_that_was_found(site: Site) -> None:
    start(site)
    figures = {"why": "too slow"}
    for gate, passed in (("performance", False), ("integrity", True)):
        body = {"model_digest": NEW, "gate": gate, "passed": passed, "evidence_digest": digest("2"), "figures": figures}
        site.ledger.append("gate.result", body)

    with pytest.raises(ConflictError):
        site.client.cut_over(person=BEN.id, reason="it looks good", keeps_before=True)
    assert "the gate performance did not pass" in site.client.judge_canary()["changed"]["reason"]


def test_a_gate_that_did_not_pass_is_made_good_by_that_very_gate(site: Site) -> None:
    start(site)
    for passed in (False, True):
        body = {"model_digest": NEW, "gate": "performance", "passed": passed, "evidence_digest": digest("2")}
        site.ledger.append("gate.result", {**body, "figures": {}})

    assert site.client.judge_canary()["changed"] is None


def test_complaints_of_callers_end_it_and_each_answer_counts_once(site: Site) -> None:
    start(site)
    for number in range(60):
        for arm, rating in (("production", "up"), ("canary", "down")):
            answer(site, arm)
            request_id = f"req_{next(_NUMBERS) - 1}"
            for _ in range(1 + number % 2):
                site.ledger.append("request.feedback", {"request_id": request_id, "rating": rating})

    reason = site.client.judge_canary()["changed"]["reason"]
    assert "complaints: 60 of 60 in the canary, 0 of 60" in reason


def test_what_the_share_did_not_decide_is_not_compared(site: Site) -> None:
    start(site)
    traffic(site, 40, **FAILED, assigned="pinned")

    assert site.client.judge_canary()["changed"] is None


def test_a_caller_that_leaves_or_asks_wrongly_is_no_fault_of_the_version(site: Site) -> None:
    start(site)
    traffic(site, 20, outcome="cancelled", status=499)
    traffic(site, 20, outcome="error", status=400)

    verdict = site.client.judge_canary()["canary"]["verdict"]
    assert verdict["streams"][0]["canary"] == {"requests": 40, "faults": 0}


def test_a_request_that_never_ended_counts_as_a_fault_once_it_is_given_up(site: Site) -> None:
    start(site)
    for number in range(10):
        body = {"request_id": f"lost{number}", "arm": "canary", "assigned": "share", "stream": False}
        answer(site, "production")
        site.ledger.append("request.intent", body)
    assert site.client.judge_canary()["canary"]["verdict"]["canary_requests"] == 0
    site.clock.advance(1000)
    answer(site, "production")

    assert site.client.judge_canary()["changed"]["kind"] == "canary-aborted"


def test_one_person_cuts_over_after_the_time_with_enough_requests(site: Site) -> None:
    start(site)
    traffic(site, 610)
    with pytest.raises(NotEnoughApprovalsError, match="one person"):
        site.client.cut_over(person=ANA.id, reason="all is well", keeps_before=True)
    site.clock.advance(48 * 3600)

    done = site.client.cut_over(person=ANA.id, reason="all is well", keeps_before=True)

    assert (done.kind, done.model_digest, done.previous) == (Kind.CUT_OVER, NEW, OLD)
    assert loadable_digests(site.config.at) == (NEW, OLD)
    assert require_promoted(site.config.at, NEW).people == (ANA.name, BEN.name)
    assert site.client.canary()["beside"]["version"] == OLD
    assert site.client.judge_canary()["changed"] is None
    site.clock.advance(48 * 3600)
    assert site.client.judge_canary()["changed"]["kind"] == "retired"
    assert loadable_digests(site.config.at) == (NEW,)
    assert site.client.rollback(person=BEN.id, reason="worse after all").model_digest == OLD


def test_too_few_requests_take_two_people_anew(site: Site) -> None:
    start(site)
    traffic(site, 3)
    site.clock.advance(timedelta(hours=48).total_seconds())
    with pytest.raises(NotEnoughApprovalsError, match="one person"):
        site.client.cut_over(person=ANA.id, reason="quiet week", keeps_before=False)
    request = site.request(NEW, meaning="three requests are enough for us")
    site.approve(request, ANA)
    with pytest.raises(NotEnoughApprovalsError):
        site.client.cut_over(person=ANA.id, reason="quiet week", keeps_before=False)
    site.approve(request, BEN)

    done = site.client.cut_over(person=ANA.id, reason="quiet week", keeps_before=False)

    assert len(done.approvals) == 2
    assert loadable_digests(site.config.at) == (NEW,)


def test_a_canary_on_hold_is_not_cut_over(site: Site) -> None:
    start(site)
    site.client.step_canary("hold", person=ANA.id, reason="x")
    site.clock.advance(100 * 3600)

    with pytest.raises(ConflictError, match="cut over"):
        site.client.cut_over(person=ANA.id, reason="x", keeps_before=True)


@pytest.mark.parametrize("deed", ["rollback", "stop"])
def test_going_back_and_stopping_end_a_canary(site: Site, deed: str) -> None:
    third = digest("third")
    site.promote(third)
    start(site)

    getattr(site.client, deed)(person=ANA.id, reason="night")

    assert site.client.canary()["canary"] is None
    assert NEW not in loadable_digests(site.config.at)


def test_files_of_the_chain_read_back_and_the_old_format_is_still_written(site: Site) -> None:
    start(site)
    site.client.step_canary("abort", person=ANA.id, reason="x")

    made, started, aborted = site.folder.production().promotions
    assert b'"format":1' in made.to_bytes()
    assert b'"terms"' not in made.to_bytes()
    assert b'"format":2' in started.to_bytes()
    for promotion in (made, started, aborted):
        assert Promotion.from_bytes(promotion.to_bytes()) == promotion
    with pytest.raises(MalformedError):
        Promotion.from_bytes(started.to_bytes().replace(b'"format":2', b'"format":1'))


def test_what_one_person_did_waits_for_another_to_look_at_it(site: Site) -> None:
    client = site.client
    client.stop(person=ANA.id, reason="smoke")
    client.stop_caller(what="department", name="radiology", person=BEN.id, reason="prompts leak")
    first, second = client.reviews()
    assert [(one["what"], one["person"]) for one in (first, second)] == [
        ("stopped production", ANA.id),
        ("stopped a caller", BEN.id),
    ]

    for sequence, person, error in (
        (first["sequence"], ANA.id, UnknownPersonError),
        (first["sequence"], "mallory", UnknownPersonError),
        (0, BEN.id, UsageError),
    ):
        with pytest.raises(error):
            client.review(sequence, person=person, note="fine")
    client.review(first["sequence"], person=BEN.id, note="it was right")
    with pytest.raises(UsageError):
        client.review(first["sequence"], person=BEN.id, note="twice")

    assert [one["sequence"] for one in client.reviews()] == [second["sequence"]]


def test_a_stopped_caller_is_freed_by_another_person(site: Site) -> None:
    caller = {"what": "key", "name": "abcdefghij"}
    with pytest.raises(ConflictError):
        site.client.free_caller(**caller, person=BEN.id, reason="x")
    site.client.stop_caller(**caller, person=ANA.id, reason="leak")
    with pytest.raises(ConflictError):
        site.client.stop_caller(**caller, person=BEN.id, reason="leak")
    with pytest.raises(UnknownPersonError):
        site.client.free_caller(**caller, person=ANA.id, reason="was wrong")
    with pytest.raises(MalformedError):
        site.client.stop_caller(what="planet", name="mars", person=ANA.id, reason="x")

    site.client.free_caller(**caller, person=BEN.id, reason="was wrong")
    site.client.stop_caller(**caller, person=BEN.id, reason="leaks again")
