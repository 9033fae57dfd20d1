"""What monitoring is told of rollouts, against what the promoter itself says of them."""

from pathlib import Path
from typing import Any

import pytest

from appliance.actions.rollout_observed import FACTS, asks, observed
from appliance.promote.record import Kind
from appliance.registry import windows
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories
from tests.unit.appliance.promote.test_watch import FAILED, answers, cut_over

OLD, NEW = digest("old"), digest("new")
ANA, BEN, *_ = signatories()
Key = tuple[str, ...]


def numbers(site: Site) -> dict[Key, float]:
    found = {(name, *labels.values()): float(value) for name, value, labels in observed(site.ledger, site.clock)}
    assert {key[0] for key in found} <= set(FACTS)
    return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = open_site(tmp_path)
    site.promote(OLD)
    return site


def start(site: Site) -> None:
    request = site.approve(site.request(NEW), ANA, BEN)
    site.client.start_canary(request.statement.sha256, percent=20, hours=2, watch_hours=48)


def test_where_nothing_goes_on_that_is_said(site: Site) -> None:
    found = numbers(site)

    assert (found["sealift_canary_running",], found["sealift_watch_running",]) == (0, 0)
    assert (
        found["sealift_reviews_open",] == found["sealift_review_age_seconds",] == found["sealift_callers_stopped",] == 0
    )
    assert asks(site.ledger, site.clock) == ""


def test_an_open_window_is_seen_and_told_once_it_is_past_its_end(site: Site) -> None:
    found = numbers(site)
    assert (found["sealift_window_open",], found["sealift_window_overdue_seconds",]) == (0, 0)
    asked = windows.Asked(
        purpose=windows.Purpose.VALIDATE, model_digest=NEW, person=ANA.id, reason="change 4711", minutes=30
    )
    window = windows.open_now(site.ledger, site.clock, asked, previous=OLD)

    site.clock.advance(30 * 60)
    found = numbers(site)
    assert (found["sealift_window_open",], found["sealift_window_overdue_seconds",]) == (1, 0)
    site.clock.advance(601)
    assert numbers(site)["sealift_window_overdue_seconds",] == 601
    windows.close(site.ledger, window, why=windows.Closing.DEADLINE)
    found = numbers(site)
    assert (found["sealift_window_open",], found["sealift_window_overdue_seconds",]) == (0, 0)


def test_a_canary_is_seen_with_its_arms_and_its_time_stands_still_on_hold(site: Site) -> None:
    start(site)
    answers(site, 4, assigned="share")
    answers(site, 1, arm="canary", assigned="share", every=1, **FAILED)
    answers(site, 4, assigned="share")
    answers(site, 1, arm="canary", assigned="share")
    site.clock.advance(1200)
    site.client.judge_canary()
    site.clock.advance(60)
    found = numbers(site)
    assert (found["sealift_canary_running",], found["sealift_canary_held",]) == (1, 0)
    assert found["sealift_canary_left_seconds",] == site.client.canary()["canary"]["left_seconds"] == 7200 - 1260
    assert found["sealift_canary_figures_age_seconds",] == 60
    assert found["sealift_canary_requests", "errors", "canary"] == 2
    assert found["sealift_canary_faults", "errors", "canary"] == 1
    assert 0 <= found["sealift_canary_evidence_ratio", "errors"] < 1

    site.client.step_canary("hold", person=ANA.id, reason="lunch")
    site.clock.advance(3600)
    found = numbers(site)
    assert (found["sealift_canary_held",], found["sealift_canary_left_seconds",]) == (1, 7200 - 1260)
    site.client.step_canary("resume", person=ANA.id, reason="go on")
    site.clock.advance(100)
    assert numbers(site)["sealift_canary_left_seconds",] == site.client.canary()["canary"]["left_seconds"]

    site.client.step_canary("abort", person=ANA.id, reason="enough")
    site.clock.advance(100)
    found = numbers(site)
    assert (found["sealift_canary_running",], found["sealift_reviews_open",]) == (0, 1)
    assert found["sealift_review_age_seconds",] == 100
    assert ("sealift_canary_ended_age_seconds",) not in found


def test_that_the_judge_ended_one_is_seen_for_as_long_as_it_matters(site: Site) -> None:
    start(site)
    for _ in range(12):
        answers(site, 4, assigned="share")
        answers(site, 1, arm="canary", assigned="share", every=1, **FAILED)
    assert site.client.judge_canary()["changed"]["kind"] == "canary-aborted"
    site.clock.advance(30)

    found = numbers(site)

    assert (found["sealift_canary_ended_age_seconds",], found["sealift_canary_running",]) == (30, 0)


def test_the_watch_is_seen_until_people_decide(site: Site) -> None:
    answers(site, 200, every=100, **FAILED)
    cut_over(site)
    site.clock.advance(10)
    found = numbers(site)
    assert (found["sealift_watch_running",], found["sealift_watch_worse",]) == (1, 0)
    assert found["sealift_watch_left_seconds",] == site.client.canary()["watch"]["left_seconds"]
    answers(site, 60, every=2, **FAILED)
    site.client.judge_canary()

    found = numbers(site)
    assert found["sealift_watch_worse",] == 1
    assert found["sealift_watch_evidence_ratio", "errors"] >= 1
    assert ("sealift_watch_evidence_ratio", "complaints") not in found
    assert asks(site.ledger, site.clock).startswith("errors: ")

    site.client.keep_watched(person=ANA.id, reason="the network")
    assert (numbers(site)["sealift_watch_worse",], asks(site.ledger, site.clock)) == (0, "")
    site.clock.advance(48 * 3600)
    assert numbers(site)["sealift_watch_running",] == 0


def of_line(site: Site, kind: Kind, line: int) -> None:
    """Record a step of another line, as one of this line was recorded."""
    site.ledger.append(kind.event, {**whole(site), "line": line})


def whole(site: Site) -> dict[str, Any]:
    """Return a promotion's body with what every other kind of step has besides."""
    made = dict(site.ledger.find(kind=Kind.MADE.event, limit=1)[0].body)
    terms = {"version": "1", "percent": 20, "hours": 2, "watch_hours": 48}
    return {**made, "person": ANA.id, "reason": "x", "previous": OLD, "terms": terms}


@pytest.mark.parametrize("kind", [Kind.MADE, Kind.ROLLED_BACK, Kind.STOPPED, Kind.CANARY_STARTED])
def test_what_happens_in_another_line_hides_no_watch_and_no_canary(site: Site, kind: Kind) -> None:
    answers(site, 200, every=100, **FAILED)
    cut_over(site)
    answers(site, 60, every=2, **FAILED)
    site.client.judge_canary()
    of_line(site, kind, 5)

    assert numbers(site)["sealift_watch_worse",] == 1
    assert asks(site.ledger, site.clock).startswith("errors: ")


def test_a_canary_is_seen_while_another_line_goes_on(site: Site) -> None:
    start(site)
    of_line(site, Kind.MADE, 5)
    of_line(site, Kind.CANARY_HELD, 5)

    found = numbers(site)
    assert (found["sealift_canary_running",], found["sealift_canary_held",]) == (1, 0)


def test_to_stop_every_line_ends_the_watch_of_each(site: Site) -> None:
    site.promote(NEW)
    assert numbers(site)["sealift_watch_running",] == 1
    site.ledger.append(Kind.STOPPED.event, whole(site))

    assert numbers(site)["sealift_watch_running",] == 0


def test_a_cut_over_in_a_maintenance_window_is_watched_and_going_back_ends_that(site: Site) -> None:
    site.promote(NEW)
    assert numbers(site)["sealift_watch_running",] == 1
    site.client.rollback(person=ANA.id, reason="x")
    assert numbers(site)["sealift_watch_running",] == 0
