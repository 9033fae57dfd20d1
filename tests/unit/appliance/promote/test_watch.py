"""The watch after a cut-over: what it is held against, what it says, who decides then, and what it never does."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config
from appliance.errors import NotPromotedError, UnknownPersonError
from appliance.promote.afterwards import KEPT, WATCHED
from appliance.promote.desk import OPERATOR_DOOR
from appliance.promote.doubted import DOUBTED
from appliance.promote.history import replay
from appliance.promote.onearm import OneArm, highest_rate
from appliance.promote.record import BY_JUDGE
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories

OLD, NEW = digest("old"), digest("new")
ANA, BEN, *_ = signatories()
_NUMBERS = itertools.count()


def answers(
    site: Site, count: int, *, every: int = 0, arm: str = "production", assigned: str = "only", **changes: Any
) -> None:
    """Record requests as the gateway does; each `every`-th one is changed."""
    for number in range(count):
        request_id = f"req_{next(_NUMBERS)}"
        changed = changes if every and number % every == 0 else {}
        site.ledger.append(
            "request.intent", {"request_id": request_id, "arm": arm, "assigned": assigned, "stream": True, "bucket": 1}
        )
        fine = {"request_id": request_id, "outcome": "ok", "status": 200, "ttft_ms": 100, "latency_ms": 900}
        site.ledger.append("request.outcome", fine | changed)


FAILED: dict[str, Any] = {"outcome": "error", "status": 502, "ttft_ms": None}


def cut_over(site: Site, *, watch_hours: int = 48) -> None:
    """Take the new version through a canary of an hour to production; the old one stays loaded."""
    request = site.approve(site.request(NEW), ANA, BEN)
    site.client.start_canary(request.statement.sha256, percent=20, hours=1, watch_hours=watch_hours)
    site.approve(site.request(NEW), ANA, BEN)
    site.client.cut_over(person=ANA.id, reason="sure", keeps_before=True)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = open_site(tmp_path)
    site.promote(OLD)
    answers(site, 200, every=100, **FAILED)
    return site


def test_a_version_that_is_as_good_as_the_one_before_is_left_alone(site: Site) -> None:
    cut_over(site)
    answers(site, 200, every=100, **FAILED)

    found = site.client.judge_canary()

    watch = found["watch"]
    assert found["changed"] is None
    assert (watch["version"], watch["before"], watch["asks"], watch["left_seconds"]) == (NEW, OLD, False, 48 * 3600)
    assert watch["verdict"]["state"] == "going"
    assert "too few of the version before are known to compare complaints" in watch["verdict"]["why"]
    errors = watch["verdict"]["streams"][0]
    assert (errors["before"], errors["now"]) == ({"requests": 200, "faults": 2}, {"requests": 200, "faults": 2})


@pytest.mark.parametrize(("changes", "stream"), [(FAILED, "errors"), ({"ttft_ms": 400}, "speed")])
def test_what_got_worse_is_recorded_once_and_people_are_asked(site: Site, changes: dict[str, Any], stream: str) -> None:
    cut_over(site)
    answers(site, 60, every=2, **changes)

    found = site.client.judge_canary()
    site.client.judge_canary()
    site.restart()
    found = site.client.judge_canary()

    assert (found["changed"], found["watch"]["asks"], found["model_digest"]) == (None, True, NEW)
    assert found["watch"]["verdict"]["why"].startswith(f"{stream}: 30 of ")
    (told,) = site.ledger.find(kind=WATCHED)
    assert (told.body["state"], told.body["before"]) == ("worse", OLD)


def test_what_it_was_before_the_cut_over_is_what_counts_and_not_other_arms(site: Site) -> None:
    cut_over(site)
    answers(site, 60, every=1, arm="before", **FAILED)

    assert site.client.judge_canary()["watch"]["verdict"]["requests"] == 0


def test_what_served_before_the_version_before_does_not_count(site: Site) -> None:
    answers(site, 300, every=1, **FAILED)  # the old version's last hours, and then a third one's quiet ones
    site.promote(digest("third"))
    answers(site, 150)
    cut_over(site)

    errors = site.client.judge_canary()["watch"]["verdict"]["streams"][0]

    assert errors["before"] == {"requests": 150, "faults": 0}


def test_one_person_keeps_it_with_a_reason_and_another_one_reviews_that(site: Site) -> None:
    cut_over(site)
    with pytest.raises(NotPromotedError):
        site.client.keep_watched(person=BEN.id, reason="nothing was found")
    answers(site, 60, every=2, **FAILED)
    with pytest.raises(UnknownPersonError):
        site.at_door(OPERATOR_DOOR).keep_watched(person=BEN.id, reason="x", password="wrong")

    sequence = site.client.keep_watched(person=BEN.id, reason="the network failed, not the model")

    watch = site.client.judge_canary()["watch"]
    assert (watch["kept_by"], watch["asks"], watch["verdict"]["state"]) == (BEN.id, False, "worse")
    assert [one.body["person"] for one in site.ledger.find(kind=KEPT)] == [BEN.id]
    assert [one["what"] for one in site.client.reviews()] == ["kept a version that the watch found worse"]
    with pytest.raises(NotPromotedError):
        site.client.keep_watched(person=ANA.id, reason="again")
    with pytest.raises(UnknownPersonError):
        site.client.review(sequence=sequence, person=BEN.id, note="I was right")


def going_back(site: Site) -> None:
    """Let the site's policy go back by itself."""
    values = site.config.model_dump()
    site.config = Config.model_validate({**values, "policy": {**values["policy"], "watch": "go-back"}})
    site.restart()


def test_where_the_site_says_so_the_judge_goes_back_while_the_version_before_is_loaded(site: Site) -> None:
    going_back(site)
    cut_over(site)
    answers(site, 60, every=2, **FAILED)

    found = site.client.judge_canary()

    assert (found["model_digest"], found["watch"]) == (OLD, None)
    assert (found["changed"]["kind"], found["changed"]["class"]) == ("rolled-back", BY_JUDGE)
    assert "errors: 30 of 60 now, 2 of 200 of the version before" in found["changed"]["reason"]
    site.restart()
    assert site.client.judge_canary()["changed"] is None


def test_a_version_before_that_is_in_doubt_is_not_gone_back_to_without_people(site: Site) -> None:
    going_back(site)
    cut_over(site)
    site.ledger.append(DOUBTED, {"model_digests": [OLD]})
    answers(site, 60, every=2, **FAILED)

    found = site.client.judge_canary()

    assert (found["model_digest"], found["changed"]) == (NEW, None)
    assert (found["watch"]["goes_back"], found["watch"]["asks"]) == (False, True)


def test_where_it_is_not_loaded_people_are_asked_all_the_same(site: Site) -> None:
    going_back(site)
    site.promote(NEW)
    answers(site, 60, every=2, **FAILED)

    watch = site.client.judge_canary()["watch"]

    assert (watch["loaded"], watch["goes_back"], watch["asks"]) == (False, False, True)


def test_a_gate_that_is_run_again_and_fails_is_told(site: Site) -> None:
    cut_over(site)
    site.ledger.append(
        "gate.result",
        {"model_digest": NEW, "gate": "task-evaluation", "passed": False, "evidence_digest": "e" * 64, "figures": {}},
    )

    verdict = site.client.judge_canary()["watch"]["verdict"]

    assert (verdict["state"], verdict["why"].split(":")[0]) == ("worse", "evaluation")


def test_it_ends_with_its_time_and_with_the_next_change(site: Site) -> None:
    site.promote(NEW)
    watch = site.client.canary()["watch"]
    assert (watch["before"], watch["left_seconds"]) == (OLD, 48 * 3600)
    site.clock.advance(48 * 3600)
    assert site.client.canary()["watch"] is None
    assert site.client.judge_canary()["changed"] is None

    site.promote(OLD)
    assert site.client.canary()["watch"]["before"] == NEW
    site.client.rollback(person=ANA.id, reason="x")
    assert site.client.canary()["watch"] is None


def test_while_it_goes_on_the_ledger_has_figures_of_the_last_ten_minutes(site: Site) -> None:
    cut_over(site)
    site.client.judge_canary()
    assert site.ledger.find(kind=WATCHED) == []
    site.clock.advance(601)
    site.client.judge_canary()

    assert [one.body["state"] for one in site.ledger.find(kind=WATCHED)] == ["going"]


def test_the_chain_alone_says_what_is_watched(site: Site) -> None:
    cut_over(site)
    promotions = site.desk._folder.production().promotions

    watch = replay(promotions).first.watch
    assert watch is not None
    assert (watch.version, watch.before, watch.before_since) == (NEW, OLD, promotions[0].sequence)
    assert replay([*promotions[:-1]]).first.watch is None
    unwatched = replace(promotions[-1], terms=replace(promotions[-1].terms, watch_hours=0))  # type: ignore[type-var]
    assert replay([*promotions[:-1], unwatched]).first.watch is None


def test_what_is_known_of_few_requests_is_little() -> None:
    assert highest_rate(0, 0, delta=0.01) == 1.0
    assert highest_rate(0, 50, delta=0.01) > highest_rate(0, 500, delta=0.01) > 0.008
    assert highest_rate(500, 500, delta=0.01) == 1.0
    assert 0.1 < highest_rate(100, 1000, delta=0.01) < 0.14


def test_a_rate_at_its_limit_raises_no_alarm_and_one_far_above_does() -> None:
    quiet, loud = OneArm(rate=0.1, alpha=0.01), OneArm(rate=0.1, alpha=0.01)
    for number in range(1000):
        quiet.take(is_fault=number % 10 == 0)
        loud.take(is_fault=number % 3 == 0)

    assert (quiet.is_worse, loud.is_worse) == (False, True)
