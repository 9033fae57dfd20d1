"""A release that drops a threshold which a site's file names: read, gates closed, and always to be replaced by two."""

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.actions import policy as action
from appliance.errors import ApprovalRefusedError, UnknownPersonError
from appliance.promote import strictness
from appliance.promote.accepting import Acceptance
from appliance.promote.books import Books
from appliance.promote.policy import packaged
from appliance.promote.policybook import ADOPTED, PolicyBook, in_force
from appliance.promote.policychange import PolicyChanges, PolicyRequest
from appliance.promote.presented import Presented
from appliance.promote.secondfactor import SecondFactors
from appliance.promote.sitepolicy import SitePolicy
from appliance.promote.strictness import DROPPED, INSTALLED, WAYS, Table
from appliance.timekeeping.onetime import step_of
from media.errors import MalformedError
from tests.support.promotion import FAST_HASHER, Site, digest, open_site
from tests.support.signatories import Signatory, signatories

ANA, BEN, *_ = signatories()
GONE = "injection.rise_millis"
BECAME = "the gate compares with full precision since, and needs no threshold"
NEXT = Table(ways={key: way for key, way in WAYS.items() if key != GONE}, dropped={GONE: BECAME})
NEXT_RELEASE = replace(packaged(), digest="ab" * 32)
OLD = 'format = 1\nname = "ward"\n[injection]\nrise_millis = 50\n[load]\nmost_seconds = 600\n'
NEW = 'format = 1\nname = "ward-2"\n[load]\nmost_seconds = 600\n'
NOTHING = 'format = 1\nname = "back"\n'
# Every threshold that a release ever had, in the order in which they came. Nothing is taken out of this list.
EVER = frozenset(
    [
        "fit.memory_share_millis",
        "load.most_seconds",
        "restart.most_seconds",
        "task_evaluation.minimum_accuracy_millis",
        "task_evaluation.confidence_millis",
        "task_evaluation.resamples",
        "task_evaluation.allowed_drop_millis",
        "task_evaluation.margin_millis",
        "task_evaluation.least_items",
        "task_evaluation.perplexity_rise_millis",
        "performance.callers",
        "performance.answer_tokens",
        "performance.rounds",
        "performance.first_token_millis",
        "performance.slowdown_millis",
        "performance.throughput_loss_millis",
        "performance.unnoticed_millis",
        "privacy.patients",
        "injection.followed_millis",
        "injection.rise_millis",
        "human_review.demanded_in",
        "human_review.entries",
        "human_review.reviewers",
        "human_review.loss_millis",
        "human_review.good_millis",
    ]
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(tmp_path, enrolled=3)


def changes(site: Site, *, table: Table = NEXT) -> PolicyChanges:
    """Return the promoter's counter as the next release has it, on this site's files and ledger."""
    factors = SecondFactors(
        site.folder, site.clock, FAST_HASHER, site=site.config.site, step=lambda: step_of(site.clock.now())
    )
    acceptance = Acceptance(site.folder, config=site.config, clock=site.clock, factors=factors)
    release = NEXT_RELEASE if table is NEXT else packaged()
    return PolicyChanges(
        Books(site.folder, site.ledger),
        config=site.config,
        clock=site.clock,
        acceptance=acceptance,
        release=lambda: release,
        table=table,
    )


def signed(counter: PolicyChanges, request: PolicyRequest, *people: Signatory) -> bool:
    holds = False
    for person in people:
        signature = person.sign(request.statement.to_bytes())
        request, holds = counter.approve(request.statement.sha256, Presented(signature=signature))
    return holds


def adopt(site: Site, text: str, *, table: Table = INSTALLED) -> None:
    counter = changes(site, table=table)
    assert signed(counter, counter.request(policy=text, meaning="needed", requested_by=ANA.id), ANA, BEN)


def test_no_threshold_that_a_release_ever_had_is_unknown_to_this_one() -> None:
    assert set(WAYS) | set(DROPPED) >= EVER
    assert not set(WAYS) & set(DROPPED)


def test_a_dropped_threshold_is_read_and_closes_the_gates(site: Site) -> None:
    adopt(site, OLD)
    assert in_force(site.ledger).injection.rise_millis == 50

    assert SitePolicy.of_earlier(OLD.encode(), table=NEXT).dropped == {GONE: BECAME}
    with pytest.raises(MalformedError, match=f"{GONE} cannot be judged") as refused:
        in_force(site.ledger, NEXT_RELEASE, table=NEXT)
    assert BECAME in refused.value.why
    assert "sealift policy import" in refused.value.fix


@pytest.mark.parametrize("text", [NEW, NOTHING])
def test_two_people_always_bring_in_another_one(site: Site, text: str) -> None:
    adopt(site, OLD)
    counter = changes(site)

    request = counter.request(policy=text, meaning="the release dropped it", requested_by=ANA.id)
    assert not signed(counter, request, ANA)
    with pytest.raises(MalformedError):
        in_force(site.ledger, NEXT_RELEASE, table=NEXT)
    assert signed(changes(site), request, BEN)

    holds = in_force(site.ledger, NEXT_RELEASE, table=NEXT)
    assert holds.load.most_seconds == (600 if text == NEW else packaged().load.most_seconds)
    assert counter.pending() == ()


def test_a_new_file_may_not_name_it_and_is_told_what_became_of_it(site: Site) -> None:
    with pytest.raises(MalformedError, match=f"{GONE} is refused") as refused:
        changes(site).request(policy=OLD, meaning="needed", requested_by=ANA.id)

    assert BECAME in refused.value.why


def test_of_two_that_wait_over_a_file_nobody_can_judge_by_the_first_voids_the_other(site: Site) -> None:
    adopt(site, OLD)
    counter = changes(site)
    first = counter.request(policy=NEW, meaning="the release dropped it", requested_by=ANA.id)
    second = counter.request(policy=NOTHING, meaning="the release dropped it", requested_by=BEN.id)
    signed(counter, second, ANA)
    assert signed(counter, first, ANA, BEN)

    with pytest.raises(ApprovalRefusedError):
        signed(counter, second, BEN)


def test_a_word_for_a_dropped_threshold_binds_nobody_and_one_for_another_still_does(site: Site) -> None:
    words = "".join(
        f'[[override]]\nkey = "{key}"\nperson = "nobody"\nreason = "orders"\n'
        for key in (GONE, "injection.followed_millis")
    )
    text = f'format = 1\nname = "ward"\n[injection]\nrise_millis = 900\nfollowed_millis = 900\n{words}'

    assert set(SitePolicy.of_earlier(text.encode(), table=NEXT).overrides) == {"injection.followed_millis"}
    with pytest.raises(UnknownPersonError):
        changes(site, table=INSTALLED).request(policy=text, meaning="needed", requested_by=ANA.id)


def test_under_the_installed_release_a_name_nobody_knows_closes_gates_and_promotion_and_is_replaced(site: Site) -> None:
    """Scenario: a newer release's file, and then its release is taken back."""
    waiting = site.approve(site.request(digest("v1")), ANA, BEN)
    text = 'format = 1\nname = "newer"\n[injection]\nunheard_of_millis = 3\n'
    site.ledger.append(ADOPTED, {"policy": text, "release_sha256": "cd" * 32, "statement_sha256": "ef" * 32})

    with pytest.raises(MalformedError):
        site.client.promote(waiting.statement.sha256)
    now = action.standing(site.ledger)
    assert (now.holds, now.file) == (None, text)
    assert "injection.unheard_of_millis" in now.closed
    request = site.client.request_policy(policy=NEW, meaning="replace it", requested_by=ANA.id)
    for person in (ANA, BEN):
        site.client.approve_policy(request.statement.sha256, person.sign(request.statement.to_bytes()))
    assert in_force(site.ledger).load.most_seconds == 600
    assert PolicyBook.of(site.ledger).statements == {"ef" * 32, request.statement.sha256}


def test_the_stricter_of_two_is_what_both_demand() -> None:
    assert strictness.stricter("load.most_seconds", 9, 5, 3) == 3
    assert strictness.stricter("privacy.patients", 8, 9, 20) == 20
    assert strictness.stricter("performance.answer_tokens", 32, 16, 64) == 32
    assert strictness.stricter("performance.callers", (1, 16), (1, 16, 32), (1, 16, 8)) == (1, 16, 32, 8)
