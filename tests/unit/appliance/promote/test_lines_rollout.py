"""A canary and a watch where production has several lines: each is judged by the answers of its own line alone."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Config
from appliance.errors import ConflictError, NotEnoughApprovalsError, NotPromotedError
from appliance.promote.afterwards import KEPT, WATCHED
from appliance.promote.record import BY_JUDGE, Promotion
from tests.support import lines
from tests.support.promotion import Site, digest, open_site
from tests.support.signatories import signatories

A, B, C, D = (digest(name) for name in ("A", "B", "C", "D"))
ANA, BEN, *_ = signatories()
FAILED: dict[str, Any] = {"outcome": "error", "status": 502, "ttft_ms": None}
_NUMBERS = itertools.count()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return a site whose judge goes back by itself; it serves A in line 1."""
    site = open_site(tmp_path)
    values = site.config.model_dump()
    site.config = Config.model_validate({**values, "policy": {**values["policy"], "watch": "go-back"}})
    site.restart()
    site.promote(A)
    return site


def answers(site: Site, version: str, count: int, *, arm: str = "production", **changes: Any) -> None:
    """Record requests of a version as the gateway does."""
    for _ in range(count):
        request_id = f"req_{next(_NUMBERS)}"
        intent = {"request_id": request_id, "model_digest": version, "arm": arm, "assigned": "share", "bucket": 1}
        site.ledger.append("request.intent", {**intent, "stream": True})
        fine = {"request_id": request_id, "outcome": "ok", "status": 200, "ttft_ms": 100, "latency_ms": 900}
        site.ledger.append("request.outcome", fine | changes)


def both(site: Site, count: int, **canary: Any) -> None:
    """Record requests of C and of its canary D as they come."""
    for _ in range(count):
        answers(site, C, 4)
        answers(site, D, 1, arm="canary", **canary)


def streams(shown: dict[str, Any]) -> dict[str, Any]:
    return {one["stream"]: one for one in shown["verdict"]["streams"]}


def of_line(found: dict[str, Any], number: int) -> dict[str, Any]:
    return next(one for one in found["lines"] if one["line"] == number)


def test_a_canary_of_a_further_line_is_held_ended_and_recorded_in_its_line(site: Site) -> None:
    number = lines.open_line(site, C)
    lines.start_canary(site, D, number)
    shown = site.client.canary()["canary"]
    assert (shown["line"], shown["version"], shown["production"]) == (number, D, C)

    held = site.client.step_canary("hold", person=BEN.id, reason="to be sure")
    site.client.step_canary("resume", person=BEN.id, reason="all is well")
    ended = site.client.step_canary("abort", person=BEN.id, reason="enough seen")

    assert [(one.line, one.previous, one.model_digest) for one in (held, ended)] == [(number, C, C)] * 2
    found = site.client.judge_canary()
    assert (found["canary"], found["model_digest"], of_line(found, number)["model_digest"]) == (None, A, C)


def test_one_canary_runs_at_a_time_whichever_line_it_is_of(site: Site) -> None:
    number = lines.open_line(site, C)
    lines.start_canary(site, D, number)
    request = site.approve(site.request(B), ANA, BEN)

    with pytest.raises(ConflictError, match="a canary runs already"):
        site.client.start_canary(request.statement.sha256, percent=20, hours=48, watch_hours=48)


def test_the_judge_of_a_canary_counts_answers_of_its_own_line_only(site: Site) -> None:
    number = lines.open_line(site, C)
    lines.start_canary(site, D, number)
    both(site, 12)
    for arm in ("production", "canary"):  # a fault in line 1, and a refusal that names no version
        answers(site, A, 20, arm=arm, **FAILED)
        refused = {"request_id": f"no-{arm}", "arm": arm, "assigned": "share", "status": 503, "repeated": 20}
        site.ledger.append("request.refused", refused)

    errors = streams(site.client.judge_canary()["canary"])["errors"]

    assert errors["canary"] == {"requests": 12, "faults": 0}
    assert errors["production"] == {"requests": 48, "faults": 0}


def test_a_worse_canary_of_a_further_line_ends_and_the_first_line_is_left_alone(site: Site) -> None:
    number = lines.open_line(site, C)
    lines.start_canary(site, D, number)
    both(site, 12, **FAILED)

    changed = site.client.judge_canary()["changed"]

    assert (changed["kind"], changed["line"], changed["previous"]) == ("canary-aborted", number, C)
    assert site.folder.production().loadable == (A, C)


def test_a_cut_over_of_a_further_line_keeps_the_version_before_until_its_watch_is_over(site: Site) -> None:
    number = lines.open_line(site, C)
    lines.start_canary(site, D, number)
    site.clock.advance(48 * 3600)
    both(site, 601)
    done = site.client.cut_over(person=ANA.id, reason="all is well", keeps_before=True)

    assert (done.line, done.previous, done.model_digest) == (number, C, D)
    shown = of_line(site.client.canary(), number)
    assert (shown["beside"]["version"], shown["watch"]["version"], shown["model_digest"]) == (C, D, D)
    assert site.client.canary()["watch"] is None
    site.clock.advance(48 * 3600)
    changed = site.client.judge_canary()["changed"]
    assert (changed["kind"], changed["line"]) == ("retired", number)
    assert site.folder.production().loadable == (A, D)


def watched(site: Site) -> int:
    """Begin a watch in each of two lines, after what was usual in both; return the further one's number."""
    number = lines.open_line(site, C)
    answers(site, A, 200)
    answers(site, C, 200)
    site.promote(B)
    lines.start_canary(site, D, number)
    lines.cut_over(site, number)
    return number


def test_a_watch_counts_answers_of_its_own_line_and_goes_back_in_it_alone(site: Site) -> None:
    number = watched(site)
    answers(site, B, 60)
    answers(site, D, 60, **FAILED)

    found = site.client.judge_canary()

    first = streams(found["watch"])["errors"]
    assert (first["before"], first["now"]) == ({"requests": 200, "faults": 0}, {"requests": 60, "faults": 0})
    made = Promotion.from_json(found["changed"])
    assert (made.line, made.previous, made.model_digest, made.person_class) == (number, D, C, BY_JUDGE)
    assert "errors: 60 of 60 now, 0 of 200 of the version before" in made.reason
    assert (found["model_digest"], of_line(found, number)["model_digest"]) == (B, C)
    assert site.client.judge_canary()["changed"] is None


def test_a_canary_in_one_line_hides_no_watch_of_another(site: Site) -> None:
    number = lines.open_line(site, C)
    answers(site, A, 200)
    site.promote(B)
    lines.start_canary(site, D, number)
    answers(site, B, 60, **FAILED)

    found = site.client.judge_canary()

    assert (found["canary"]["version"], found["watch"]["asks"]) == (D, True)
    assert [one.body["model_digest"] for one in site.ledger.find(kind=WATCHED)] == [B]


def test_what_is_told_of_two_watches_is_told_once_of_each_and_one_is_kept_by_name(site: Site) -> None:
    number = watched(site)
    values = site.config.model_dump()
    site.config = Config.model_validate({**values, "policy": {**values["policy"], "watch": "ask"}})
    site.restart()
    answers(site, B, 60, **FAILED)
    answers(site, D, 60, **FAILED)
    site.validate(D, name="classes")
    for _ in range(2):
        site.client.judge_canary()
        site.restart()
    assert sorted(one.body["model_digest"] for one in site.ledger.find(kind=WATCHED)) == sorted((B, D))
    with pytest.raises(ConflictError, match="not said which"):
        site.client.keep_watched(person=BEN.id, reason="the network failed")

    site.client.keep_watched(person=BEN.id, reason="the network failed", line="classes")

    found = site.client.judge_canary()
    assert (found["watch"]["asks"], of_line(found, number)["watch"]["kept_by"]) == (True, BEN.id)
    assert [one.body["model_digest"] for one in site.ledger.find(kind=KEPT)] == [D]
    with pytest.raises(NotPromotedError):
        site.client.keep_watched(person=BEN.id, reason="again", line="classes")
    site.client.keep_watched(person=BEN.id, reason="here too")
    assert site.client.judge_canary()["watch"]["kept_by"] == BEN.id


def test_a_version_that_comes_back_in_another_line_counts_there_and_not_where_it_was(site: Site) -> None:
    """Scenario: A was replaced in line 1, which is still watched, and comes beside its successor."""
    answers(site, A, 200)
    site.promote(B)
    answers(site, A, 5)  # by a gateway that had not heard of it yet
    site.client.judge_canary()
    number = lines.open_line(site, A)
    answers(site, A, 60, **FAILED)
    answers(site, B, 10)

    for _ in range(2):  # once by the judge that saw it come, and once by one that is made anew
        errors = streams(site.client.judge_canary()["watch"])["errors"]
        assert (errors["before"]["requests"], errors["now"]) == (200, {"requests": 15, "faults": 0})
        site.restart()
    assert of_line(site.client.canary(), number)["watch"] is None


def test_an_early_cut_over_goes_by_what_was_asked_for_its_own_line(site: Site) -> None:
    beside = site.approve(site.request(D, name="other", beside=True), ANA, BEN)
    request = site.approve(site.request(D, name="other", replaces="tiny"), ANA, BEN)
    site.client.start_canary(request.statement.sha256, percent=20, hours=48, watch_hours=48)
    assert [one.statement.sha256 for one in site.client.pending()] == [beside.statement.sha256]

    with pytest.raises(NotEnoughApprovalsError):
        site.client.cut_over(person=BEN.id, reason="it looks good", keeps_before=True)
