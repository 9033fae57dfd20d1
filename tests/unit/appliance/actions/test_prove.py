"""A line that cannot be checked is a line that does not hold. (The whole line: tests/functional/test_promotion.py.)"""

from collections.abc import Iterator
from typing import Any

import pytest

from appliance.actions import proven_doubt, teststage
from appliance.actions.proof import ProofReport, Step
from appliance.actions.prove import prove
from appliance.actions.proven_doubt import keys_by_person
from appliance.actions.proven_ledger import ProvenLedger
from appliance.actions.rollback import rollback
from appliance.actions.stop import stop
from appliance.audit import pin
from appliance.audit.memory import MemoryLedger
from appliance.audit.note import VerifierKey
from appliance.errors import ProofError
from media.people import Person
from tests.support.floor import Floor, open_floor
from tests.support.promotion import PASSWORD
from tests.support.signatories import signatories

pytestmark = pytest.mark.slow

ANA, BEN, CHI, *_ = signatories()
# What a store made by hand cannot show: it came from no medium.
NO_ORIGIN = {"release", "trust", "metadata", "media", "custody", "rehearsal"}


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        opened.site.config.at.etc.mkdir(parents=True, exist_ok=True)
        pin.pin(opened.site.config.at, VerifierKey.from_text(opened.site.ledger.vkey))
        yield opened


def answer(floor: Floor, digest: str, request_id: str = "req_one", *, outcome: bool = True) -> None:
    intent = floor.site.ledger.append("request.intent", {"request_id": request_id, "model_digest": digest})
    if outcome:
        body: dict[str, Any] = {"request_id": request_id, "intent_sequence": intent.sequence, "outcome": "ok"}
        floor.site.ledger.append("request.outcome", body)


def report(floor: Floor, request_id: str = "req_one") -> ProofReport:
    return prove(floor.site.config, floor.site.ledger, request_id)


def failed(floor: Floor, request_id: str = "req_one") -> set[str]:
    return {step.name for step in report(floor, request_id).steps if not step.ok}


def step_of(floor: Floor, name: str) -> Step:
    (found,) = [step for step in report(floor).steps if step.name == name]
    return found


def test_what_the_ledger_and_the_store_can_show_holds(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    answer(floor, descriptor.model_digest)

    assert failed(floor) == NO_ORIGIN
    text = report(floor).to_text()
    assert "✓ approvals" in text
    assert "✗ release" in text
    with pytest.raises(ProofError, match="release"):
        report(floor).require()


def test_an_answer_in_a_body_is_named_by_its_id(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    answer(floor, descriptor.model_digest)

    for request_id in ("chatcmpl-one", "cmpl-one"):
        assert failed(floor, request_id) == NO_ORIGIN


def test_a_request_nobody_recorded_or_that_was_refused_has_no_proof(floor: Floor) -> None:
    floor.site.ledger.append("request.refused", {"request_id": "req_refused", "status": 401})

    for request_id in ("req_refused", "req_unknown"):
        assert "request" in failed(floor, request_id)
        with pytest.raises(ProofError) as refused:
            report(floor, request_id).require()
        assert refused.value.fix.startswith("compare the id with the x-request-id header")


def test_an_answer_that_was_cut_off_is_not_proven(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    answer(floor, descriptor.model_digest, outcome=False)

    assert "answer" in failed(floor)


def test_a_version_that_was_never_in_production_is_not_proven(floor: Floor) -> None:
    served, other = floor.bring("first"), floor.bring("second")
    floor.serve(served)
    answer(floor, other.model_digest)
    answer(floor, "0" * 64, "req_two")

    assert {"promotion", "approvals", "gates"} <= failed(floor)
    assert {"version", "weights"} <= failed(floor, "req_two")


def test_an_answer_of_the_version_before_counts_only_while_production_changes(floor: Floor) -> None:
    first, second = floor.bring("first"), floor.bring("second")
    floor.serve(first)
    floor.serve(second)
    answer(floor, first.model_digest)
    floor.site.clock.advance(3600)
    answer(floor, first.model_digest, "req_late")

    assert failed(floor) == NO_ORIGIN
    assert "promotion" in failed(floor, "req_late")


def test_an_answer_after_a_stop_is_not_proven(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    stop(floor.here, person=ANA.id, reason="incident")
    floor.site.clock.advance(3600)
    answer(floor, descriptor.model_digest)

    assert "promotion" in failed(floor)


def test_an_answer_after_going_back_is_proven_by_the_first_approvals(floor: Floor) -> None:
    first, second = floor.bring("first"), floor.bring("second")
    floor.serve(first)
    floor.serve(second)
    rollback(floor.here, person=BEN.id, reason="worse answers")
    floor.site.client.revoke(person=BEN.id, by=ANA.id, password=PASSWORD, reason="left")
    answer(floor, first.model_digest)

    assert failed(floor) == NO_ORIGIN


def test_without_a_pinned_key_no_record_is_proven(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    answer(floor, descriptor.model_digest)
    (floor.site.config.at.etc / pin.FILE_NAME).unlink()

    assert {"request", "ledger"} <= failed(floor)


def test_a_ledger_of_another_key_proves_nothing(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    answer(floor, descriptor.model_digest)
    (floor.site.config.at.etc / pin.FILE_NAME).write_text(MemoryLedger(site="demo").vkey + "\n")

    assert {"request", "ledger"} <= failed(floor)


def test_a_record_newer_than_the_last_signed_checkpoint_is_not_proven_yet(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    signed = floor.site.ledger.checkpoint()
    answer(floor, descriptor.model_digest)

    monkeypatch.setattr(floor.site.ledger, "checkpoint", lambda: signed)

    assert "request" in failed(floor)


def test_a_gate_that_the_evidence_says_passed_and_the_ledger_does_not_is_not_proven(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    answer(floor, descriptor.model_digest)
    evidence = floor.site.config.at.registry / "evidence"
    for path in evidence.glob("*.json"):
        path.unlink()

    assert "gates" in failed(floor)


def hide(floor: Floor, kind: str) -> None:
    """Take a kind's records out of what is found, as who writes ledger.db can; bytes and tree stay as they were."""
    rows = floor.site.ledger.log.backend._rows  # type: ignore[attr-defined]
    rows[:] = [row._replace(kind="unit.noted") if row.kind == kind else row for row in rows]


def test_a_stop_that_the_ledger_no_longer_finds_is_missed(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    stop(floor.here, person=ANA.id, reason="incident")
    floor.site.clock.advance(3600)
    answer(floor, descriptor.model_digest)

    hide(floor, "promotion.stopped")

    assert "promotion" in failed(floor)


def test_a_revocation_that_the_ledger_no_longer_finds_is_missed(floor: Floor) -> None:
    first, second = floor.bring("first"), floor.bring("second")
    floor.serve(first)
    code = floor.site.client.invite([(ANA.id, PASSWORD), (BEN.id, PASSWORD)])
    floor.site.client.enrol(code=code, name=CHI.name, certificate=CHI.certificate, password=PASSWORD)
    floor.site.client.revoke(person=CHI.id, by=ANA.id, password=PASSWORD, reason="left")
    floor.serve(second)
    answer(floor, second.model_digest)
    assert failed(floor) == NO_ORIGIN

    hide(floor, "person.revoked")

    assert "approvals" in failed(floor)


def test_a_release_that_brought_the_version_again_after_an_answer_is_not_where_that_came_from(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    answer(floor, descriptor.model_digest)
    ledger, serial = floor.site.ledger, floor.serial
    # It was deleted, and a later release brought the same bytes.
    registered = ledger.find(kind="model.registered", field="model_digest", value=descriptor.model_digest, limit=1)[0]
    ledger.append("model.deleted", {"model_digest": descriptor.model_digest, "person": "ana", "reason": "room"})
    ledger.append("model.registered", {**registered.body, "serial": serial + 7})

    version = next(step for step in report(floor).steps if step.name == "version")

    assert (version.ok, version.data["sequence"]) == (True, registered.sequence)
    assert failed(floor) == NO_ORIGIN


def test_what_fails_in_an_unforeseen_way_does_not_hold(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    floor.site.ledger.append("model.registered", {**registered(floor, descriptor.model_digest), "serial": 10**6})
    answer(floor, descriptor.model_digest)

    assert {"version", "weights"} <= failed(floor)


def registered(floor: Floor, digest: str) -> dict[str, Any]:
    return dict(floor.site.ledger.find(kind="model.registered", field="model_digest", value=digest)[0].body)


def tried_answer(floor: Floor, digest: str, request_id: str) -> None:
    body = {"request_id": request_id, "model_digest": digest, "stage": "test"}
    intent = floor.site.ledger.append("request.intent", body)
    floor.site.ledger.append(
        "request.outcome", {"request_id": request_id, "intent_sequence": intent.sequence, "outcome": "ok"}
    )


def test_an_answer_of_the_test_stage_is_proven_by_who_lent_the_version_and_its_gates(floor: Floor) -> None:
    descriptor = floor.bring()
    tried_answer(floor, descriptor.model_digest, "req_early")
    floor.validate(descriptor).require_passed()
    teststage.load(floor.bench, descriptor.model_digest, person="iris")
    tried_answer(floor, descriptor.model_digest, "req_tried")
    answer(floor, descriptor.model_digest, "req_served")

    assert failed(floor, "req_tried") == NO_ORIGIN
    text = report(floor, "req_tried").to_text()
    assert "loaded by iris" in text
    assert "approved by nobody" in text
    assert "approvals" not in {step.name for step in report(floor, "req_tried").steps}
    assert {"test stage", "gates"} <= failed(floor, "req_early")
    # What production answered is not proven by having been lent to developers.
    assert "promotion" in failed(floor, "req_served")

    teststage.unload(floor.bench, descriptor.model_digest, person="iris")
    tried_answer(floor, descriptor.model_digest, "req_leaving")
    floor.site.clock.advance(16 * 60)
    tried_answer(floor, descriptor.model_digest, "req_late")
    assert failed(floor, "req_leaving") == NO_ORIGIN
    assert {"test stage", "gates"} <= failed(floor, "req_late")


def test_that_only_keys_in_doubt_carry_a_version_is_said_where_its_answer_is_proven(floor: Floor) -> None:
    descriptor, other = floor.bring("first"), floor.bring("second")
    floor.serve(descriptor)
    answer(floor, descriptor.model_digest)
    floor.site.ledger.append("trust.doubted", {"model_digests": [other.model_digest], "notes": 1})
    assert "in_doubt" not in step_of(floor, "version").data

    doubted = floor.site.ledger.append("trust.doubted", {"model_digests": [descriptor.model_digest], "notes": 2})

    found = step_of(floor, "version")
    assert (found.ok, found.data["in_doubt"]) == (True, doubted.sequence), "what was accepted stays accepted (ADR 15)"
    assert f"in doubt since record {doubted.sequence}" in report(floor).to_text()
    floor.site.ledger.append(
        "trust.doubted", {"model_digests": [descriptor.model_digest, other.model_digest], "notes": 3}
    )
    assert step_of(floor, "version").data["in_doubt"] == doubted.sequence, "another came into doubt later"
    floor.site.ledger.append("trust.doubted", {"model_digests": [], "notes": 2})
    assert "in doubt" not in report(floor).to_text(), "a newer release brought it under other keys"


def test_a_signer_whose_key_a_note_names_is_said_with_since_when(floor: Floor) -> None:
    ledger = ProvenLedger(floor.site.ledger, floor.site.config.at)
    alice, bob = (
        Person(
            id=name.lower(),
            name=name,
            roles=(),
            keys={"release": (64 * digit,)},
            fingerprint=40 * digit,
            certificate=b"",
        )
        for name, digit in (("Alice", "A"), ("Bob", "b"))
    )
    assert proven_doubt.of_signers(ledger, keys_by_person([alice, bob])) == ("", {})

    for number, key in ((1, "a" * 40), (2, "c" * 40), (3, "b" * 64)):
        body = {"note": number, "since": f"2026-11-0{number}T00:00:00Z", "keys": [key]}
        floor.site.ledger.append("trust.note-accepted", body)

    said, facts = proven_doubt.of_signers(ledger, keys_by_person([alice, bob, alice]))
    assert said == (
        "; keys in doubt: of alice since 2026-11-01T00:00:00Z (note 1), of bob since 2026-11-03T00:00:00Z (note 3)"
    )
    assert [one["person"] for one in facts["keys_in_doubt"]] == ["alice", "bob"]
