"""Thresholds of two people reach the other box with their approvals, proven there, or the stricter of both holds."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.actions import policy as action
from appliance.actions.standby import status
from appliance.errors import ApprovalRefusedError, ConflictError, GateFailedError, NotEnoughApprovalsError
from appliance.promote.approvals import verify_signature
from appliance.promote.books import Books
from appliance.promote.policy import packaged
from appliance.promote.policybook import ADOPTED, HELD, PolicyBook, in_force
from appliance.promote.policychange import PolicyStatement
from appliance.promote.validated import require_validated
from media import canonical
from media.errors import MalformedError
from tests.support import boxes
from tests.support.boxes import first, second
from tests.support.promotion import Site, digest
from tests.support.signatories import Signatory, signatories

pytestmark = pytest.mark.slow

__all__ = ["first", "second"]  # fixtures

ANA, BEN, *_ = signatories()
VERSION = digest("version")
HEAD = 'format = 1\nname = "{}"\n'
STRICT = HEAD.format("ward") + "[task_evaluation]\nminimum_accuracy_millis = 400\n[injection]\nrise_millis = 50\n"
STRICTER = HEAD.format("ward-2") + "[task_evaluation]\nminimum_accuracy_millis = 500\n"
WORD = '[[override]]\nkey = "injection.followed_millis"\nperson = "{}"\nreason = "letters quote orders"\n'
LOOSE = HEAD.format("letters") + "[injection]\nfollowed_millis = 350\n" + WORD.format(ANA.id)
NOTHING = HEAD.format("back")


def sign(box: Site, text: str, *people: Signatory) -> str:
    """Let people of a box sign a file; return the statement's digest."""
    box.clock.advance(60)
    request = box.client.request_policy(policy=text, meaning="our wards demand it", requested_by=people[0].id)
    for person in people:
        box.client.approve_policy(request.statement.sha256, person.sign(request.statement.to_bytes()))
    return request.statement.sha256


def forge(box: Site, **changed: Any) -> None:
    """Record the newest policy of a box again with fields changed, as a promoter that was taken over does."""
    box.ledger.append(ADOPTED, {**box.ledger.find(kind=ADOPTED, limit=1)[0].body, **changed})


def said(box: Site, text: str, *people: Signatory, **changed: Any) -> None:
    """Record a policy with these signatures, whatever this release's promoter would say to it."""
    box.clock.advance(60)
    now = box.clock.now().replace(microsecond=0)
    fields: dict[str, Any] = {
        "site": box.config.site,
        "policy": text,
        "release_sha256": packaged().digest,
        "replaces": packaged().digest,
        "meaning": "our wards demand it",
        "nonce": digest(f"{text}{now}")[:32],
        "requested_by": ANA.id,
        "requested_at": now,
        "expires": now + timedelta(hours=72),
    }
    statement = PolicyStatement(**{**fields, **changed})
    raw = statement.to_bytes()
    enrolled, _ = Books(box.folder, box.ledger).catch_up()
    approvals = [verify_signature(raw, one.sign(raw), enrolled.active, at=now).to_json() for one in people]
    body = {"policy": text, "release_sha256": statement.release_sha256, "statement": raw.decode()}
    box.ledger.append(ADOPTED, {**body, "statement_sha256": statement.sha256, "approvals": approvals})


def over(first: Site, second: Site) -> Any:
    return boxes.carry(first, second, name="two", peer="one")


def test_both_boxes_ask_for_the_same_and_evidence_from_before_opens_nothing(first: Site, second: Site) -> None:
    sign(first, STRICT, ANA, BEN)
    second.validate(VERSION)

    taken = over(first, second)

    assert (taken.people, taken.policies, taken.waits, taken.held_back) == (2, 1, "", "")
    assert in_force(second.ledger) == in_force(first.ledger)
    assert in_force(second.ledger).tasks.minimum_accuracy_millis == 400
    with pytest.raises(GateFailedError):
        require_validated(second.ledger, VERSION, in_force(second.ledger))
    body = second.ledger.find(kind=ADOPTED)[0].body
    assert body["carried"]["origin"] == first.ledger.head().origin
    assert [one["person"] for one in body["approvals"]] == [ANA.id, BEN.id]


def test_a_looser_one_goes_over_with_its_word_and_so_does_taking_all_back(first: Site, second: Site) -> None:
    sign(first, LOOSE, ANA, BEN)
    over(first, second)
    assert in_force(second.ledger).injection.followed_millis == 350

    sign(first, NOTHING, ANA, BEN)
    assert over(first, second).policies == 1
    assert in_force(second.ledger) == packaged()


def test_what_came_over_is_not_sent_back_and_counts_once(first: Site, second: Site) -> None:
    sign(first, STRICT, ANA, BEN)
    over(first, second)

    back = boxes.carry(second, first, name="one", peer="two")

    assert (back.policies, back.waits) == (0, "")
    assert over(first, second).policies == 0
    assert len(second.ledger.find(kind=ADOPTED)) == 1


def _unsigned(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"approvals": list(body["approvals"])[:1]}


def _twice(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"approvals": [body["approvals"][0]] * 2}


def _other_file(body: Mapping[str, Any]) -> dict[str, Any]:
    del body
    return {"policy": NOTHING}


def _other_statement(body: Mapping[str, Any]) -> dict[str, Any]:
    fields = {**canonical.loads(str(body["statement"]).encode()), "policy": NOTHING}
    return {"statement": canonical.dumps(fields).decode(), "policy": NOTHING}


def _other_release(body: Mapping[str, Any]) -> dict[str, Any]:
    del body
    return {"release_sha256": "ab" * 32}


@pytest.mark.parametrize("damage", [_unsigned, _twice, _other_file, _other_statement, _other_release])
def test_the_first_boxs_word_alone_changes_nothing_and_the_stricter_of_both_holds(
    first: Site, second: Site, damage: Any
) -> None:
    """Scenario: the first box was taken over by its root; it says that thresholds hold which nobody signed so."""
    sign(first, STRICT, ANA, BEN)
    over(first, second)
    sign(first, LOOSE, ANA, BEN)
    body = first.ledger.find(kind=ADOPTED, limit=1)[0].body
    # The honest record is cut off: the forged one comes in its place.
    log = first.ledger
    forge(first, **damage(body))
    honest = boxes.proven(first, log.find(kind=ADOPTED, limit=2)[1].sequence)
    forged = boxes.proven(first, log.find(kind=ADOPTED, limit=1)[0].sequence)
    boxes.grow(second, boxes.bundle(first, "two"), "one")

    with pytest.raises((ApprovalRefusedError, NotEnoughApprovalsError)):
        second.client.carry("one", forged, [])
    assert second.client.hold_back("one", forged)
    assert not second.client.hold_back("one", forged)

    holds = in_force(second.ledger)
    assert (holds.tasks.minimum_accuracy_millis, holds.injection.rise_millis) == (400, 50)
    assert holds.injection.followed_millis == packaged().injection.followed_millis
    assert len(second.ledger.find(kind=ADOPTED)) == 1
    assert second.client.carry("one", honest, [])


def test_thresholds_behind_a_record_that_waits_count_at_once_where_they_are_stricter(first: Site, second: Site) -> None:
    """Scenario: a release is missing on the standby, the first box dies, and the standby has to serve."""
    sign(first, LOOSE, ANA, BEN)
    over(first, second)
    first.validate(VERSION, policy=in_force(first.ledger).digest)
    found = require_validated(first.ledger, VERSION, in_force(first.ledger))
    request = first.approve(first.client.request(found, meaning="serve it", requested_by=ANA.id), ANA, BEN)
    first.client.promote(request.statement.sha256)
    sign(first, STRICT, ANA, BEN)

    taken = over(first, second)

    assert (taken.promotions, taken.policies, taken.held_back) == (0, 0, "ward")
    assert "not registered" in taken.waits
    holds = in_force(second.ledger)
    assert (holds.tasks.minimum_accuracy_millis, holds.injection.rise_millis) == (400, 50)
    assert holds.injection.followed_millis == packaged().injection.followed_millis  # nobody's word counts meanwhile
    assert holds.site is not None
    assert [one.key for one in holds.site.changes if not one.counts] == ["injection.followed_millis"]
    assert action.standing(second.ledger).held_back == ("ward",)
    (told,) = status.read(second.config, ledger=second.ledger, clock=second.clock)
    assert "its thresholds ward wait" in told.line()
    assert boxes.take(second, "one").held_back == "ward"
    assert len(second.ledger.find(kind=HELD)) == 1

    second.validate(VERSION)  # its release is installed
    done = boxes.take(second, "one")
    assert (done.promotions, done.policies, done.held_back) == (1, 1, "")
    assert in_force(second.ledger) == in_force(first.ledger)


def test_a_first_policy_that_is_taken_does_not_end_what_a_later_one_demands(first: Site, second: Site) -> None:
    """Scenario: two wait, the second behind a record that cannot be taken yet."""
    over(first, second)
    said(first, STRICTER, ANA)  # one signature: refused, and all after it waits
    said(first, STRICT, ANA, BEN)
    assert over(first, second).held_back == "ward"
    stricter = boxes.proven(first, first.ledger.find(kind=ADOPTED)[1].sequence)
    assert not second.client.hold_back("one", stricter)  # the newer one says what holds there

    holds = in_force(second.ledger)
    assert (holds.tasks.minimum_accuracy_millis, holds.injection.rise_millis) == (400, 50)
    assert second.client.carry("one", boxes.proven(first, first.ledger.find(kind=ADOPTED)[0].sequence), [])
    assert PolicyBook.of(second.ledger).held == {}


def test_two_people_of_this_box_end_what_is_held_back(first: Site, second: Site) -> None:
    over(first, second)
    said(first, STRICT, ANA)
    sign(first, LOOSE, ANA, BEN)
    assert over(first, second).held_back == "letters"

    sign(second, STRICTER, ANA, BEN)

    after = boxes.take(second, "one")
    assert (after.waits, after.held_back) == ("", "")
    assert in_force(second.ledger).tasks.minimum_accuracy_millis == 500
    assert PolicyBook.of(second.ledger).held == {}
    # And what people ask for at the first box after that goes over again.
    sign(first, STRICT, ANA, BEN)
    assert over(first, second).policies == 1
    assert in_force(second.ledger) == in_force(first.ledger)


def test_an_older_policy_never_comes_after_a_later_one(first: Site, second: Site) -> None:
    over(first, second)
    sign(first, LOOSE, ANA, BEN)
    old = boxes.proven(first, first.ledger.find(kind=ADOPTED)[0].sequence)
    sign(second, STRICT, ANA, BEN)

    with pytest.raises(ConflictError, match="older than what holds here"):
        second.client.carry("one", old, [])
    taken = over(first, second)

    assert taken.held_back == "letters"
    assert in_force(second.ledger).tasks.minimum_accuracy_millis == 400
    assert in_force(second.ledger).injection.followed_millis == packaged().injection.followed_millis


def test_a_statement_that_counted_once_is_replayed_in_vain(first: Site, second: Site) -> None:
    """Scenario: the first box records an old, rightly signed policy again after a newer one."""
    sign(first, LOOSE, ANA, BEN)
    sign(first, STRICT, ANA, BEN)
    first.ledger.append(ADOPTED, first.ledger.find(kind=ADOPTED, newest_first=False)[0].body)

    over(first, second)

    assert in_force(second.ledger).tasks.minimum_accuracy_millis == 400
    assert in_force(second.ledger).injection.followed_millis == packaged().injection.followed_millis


def test_one_that_was_said_to_hold_after_its_time_is_refused(first: Site, second: Site) -> None:
    said(first, LOOSE, ANA, BEN, expires=first.clock.now().replace(microsecond=0) + timedelta(seconds=30))

    taken = over(first, second)

    assert "after the statement had expired" in taken.waits
    assert taken.held_back == "letters"


def test_one_that_was_taken_over_late_reaches_a_box_that_is_set_up_anew(
    first: Site, second: Site, tmp_path: Path
) -> None:
    sign(first, LOOSE, ANA, BEN)
    second.clock.advance(200 * 3600)
    over(first, second)
    new = boxes.set_up_anew(second, tmp_path / "new")

    taken = boxes.carry(second, new, name="new", peer="two")

    assert (taken.people, taken.policies, taken.waits) == (2, 1, "")
    assert in_force(new.ledger) == in_force(second.ledger) != packaged()


def test_one_of_another_site_is_refused(first: Site, second: Site) -> None:
    said(first, LOOSE, ANA, BEN, site="elsewhere")

    assert "it is of elsewhere" in over(first, second).waits


def test_who_signs_has_to_count_on_this_box(first: Site, second: Site) -> None:
    over(first, second)
    sign(first, STRICT, ANA, BEN)
    second.ledger.append("person.revoked", {"person": BEN.id, "by": ANA.id, "reason": "left"})

    taken = over(first, second)

    assert (taken.policies, taken.held_back) == (0, "ward")
    assert "an approval is refused" in taken.waits


def test_a_file_that_this_boxs_release_cannot_read_closes_its_gates(first: Site, second: Site) -> None:
    """Scenario: the first box has a newer release, whose thresholds this one does not know."""
    over(first, second)
    said(first, HEAD.format("newer") + "[injection]\nunheard_of_millis = 3\n", ANA, BEN)
    taken = over(first, second)

    assert (taken.policies, taken.held_back) == (0, "a file that this release cannot read")
    with pytest.raises(MalformedError, match=r"injection\.unheard_of_millis"):
        in_force(second.ledger)
    second.clock.advance(300)
    sign(second, STRICTER, ANA, BEN)
    assert in_force(second.ledger).tasks.minimum_accuracy_millis == 500
    assert boxes.take(second, "one").waits == ""


def test_a_looser_one_that_nobody_gave_a_word_for_is_refused_though_two_signed_it(first: Site, second: Site) -> None:
    said(first, LOOSE.partition("[[override]]")[0], ANA, BEN)

    taken = over(first, second)

    assert "nobody's word" in taken.waits
    assert in_force(second.ledger).injection == packaged().injection


def test_only_a_policy_of_a_paired_standby_is_held_back(first: Site, second: Site) -> None:
    over(first, second)
    person = boxes.proven(first, first.ledger.find(kind="person.enrolled")[0].sequence)

    with pytest.raises(ApprovalRefusedError, match="not"):
        second.client.hold_back("one", person)
