"""The origin of an answer from records alone: each proven in the signed tree, approvals verified again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from appliance.actions.proof import ProofReport
from appliance.actions.tracing.origin import origin
from appliance.audit import pin
from appliance.audit.memory import MemoryLedger
from appliance.audit.note import VerifierKey
from tests.support.floor import Floor, open_floor
from tests.support.promotion import PASSWORD
from tests.support.signatories import signatories

pytestmark = pytest.mark.slow  # a site with engines and gates, seconds each


@pytest.fixture(scope="module")
def floor() -> Iterator[Floor]:
    with served() as opened:
        yield opened


@contextmanager
def served() -> Iterator[Floor]:
    """A site with one version in production, brought by a release on a medium."""
    with open_floor() as opened:
        ledger = opened.site.ledger
        opened.site.config.at.etc.mkdir(parents=True, exist_ok=True)
        pin.pin(opened.site.config.at, VerifierKey.from_text(ledger.vkey))
        descriptor = opened.bring()
        ledger.append("release.received", {**RECEIVED, "custody": {"findings": [], "entries": []}})
        opened.serve(descriptor)
        answer(opened, descriptor.model_digest, "req_one")
        yield opened


RECEIVED: dict[str, Any] = {
    "serial": 1,
    "release": "2026.11",
    "code": "c" * 64,
    "site": "demo",
    "files": 1,
    "signers": [{"person": "ada", "name": "<b>Ada</b>", "fingerprint": "F" * 40}],
    "volumes": [{"number": 1, "id": "VOL-1", "tagmanifest_sha256": "d" * 64}],
}


def answer(floor: Floor, digest: str, request_id: str, *, outcome: bool = True) -> None:
    asked = floor.site.ledger.append("request.intent", {"request_id": request_id, "model_digest": digest})
    if outcome:
        body = {"request_id": request_id, "intent_sequence": asked.sequence, "outcome": "ok"}
        floor.site.ledger.append("request.outcome", body)


def of(floor: Floor, request_id: str) -> ProofReport:
    return origin(floor.site.ledger, floor.site.config.at, request_id)


def failed(report: ProofReport) -> set[str]:
    return {step.name for step in report.steps if not step.ok}


def test_the_whole_line_holds_and_each_step_names_its_record(floor: Floor) -> None:
    report = of(floor, "chatcmpl-one")

    assert failed(report) == set()
    assert [step.name for step in report.steps] == [
        *("request", "answer", "version", "release", "signers", "media", "custody"),
        *("promotion", "approvals", "gates", "ledger"),
    ]
    assert all("sequence" in step.data for step in report.steps if step.name not in {"approvals", "ledger"})
    said = {step.name: step.detail for step in report.steps}
    assert "signatures verified again" in said["approvals"]
    assert all(one.name in said["approvals"] for one in signatories()[:2])


def test_an_answer_that_is_not_known_or_has_no_end_does_not_hold(floor: Floor) -> None:
    digest = floor.in_production()
    assert digest is not None
    answer(floor, digest, "req_open", outcome=False)

    assert failed(of(floor, "req_open")) == {"answer"}
    assert {"request", "answer", "version", "release", "promotion"} <= failed(of(floor, "req_none"))


def test_a_version_that_nobody_approved_does_not_hold(floor: Floor) -> None:
    other = floor.bring("other weights", name="other")
    answer(floor, other.model_digest, "req_other")

    assert {"promotion", "approvals", "gates", "release"} <= failed(of(floor, "req_other"))


def test_an_answer_of_the_test_stage_rests_on_who_lent_the_version_and_on_no_promotion(floor: Floor) -> None:
    digest, ledger = str(floor.in_production()), floor.site.ledger
    newest = ledger.find(kind="gate.result", field="model_digest", value=digest, limit=1)[0]
    tested = {"model_digest": digest, "stage": "test", "arm": "test"}
    ledger.append("request.intent", {"request_id": "req_unlent", **tested})
    lent = {"model_digest": digest, "person": "ana", "evidence_digest": newest.body["evidence_digest"]}
    ledger.append("stage.loaded", lent)
    asked = ledger.append("request.intent", {"request_id": "req_tried", **tested})
    ledger.append("request.outcome", {"request_id": "req_tried", "intent_sequence": asked.sequence, "outcome": "ok"})
    ledger.append("stage.loaded", {**lent, "evidence_digest": "e" * 64})
    ledger.append("request.intent", {"request_id": "req_odd", **tested})

    tried = of(floor, "req_tried")
    assert failed(tried) == set()
    assert [step.name for step in tried.steps][-3:] == ["test stage", "gates", "ledger"]
    assert "approved by nobody" in next(step.detail for step in tried.steps if step.name == "test stage")
    assert {"test stage", "gates"} <= failed(of(floor, "req_unlent"))
    assert "gates" in failed(of(floor, "req_odd"))


def test_later_records_of_a_version_hide_nothing_of_an_earlier_answer() -> None:
    with served() as floor:
        digest, ledger = str(floor.in_production()), floor.site.ledger
        newest = ledger.find(kind="gate.result", field="model_digest", value=digest, limit=1)[0]
        ledger.append(
            "stage.loaded", {"model_digest": digest, "person": "ana", "evidence_digest": newest.body["evidence_digest"]}
        )
        asked = ledger.append(
            "request.intent", {"request_id": "req_tried", "model_digest": digest, "stage": "test", "arm": "test"}
        )
        ledger.append(
            "request.outcome", {"request_id": "req_tried", "intent_sequence": asked.sequence, "outcome": "ok"}
        )
        for _ in range(60):  # validated again and again, and lent each morning
            ledger.append("gate.result", {**newest.body, "evidence_digest": "e" * 64, "passed": False})
            ledger.append("stage.unloaded", {"model_digest": digest, "person": "ana"})
            ledger.append("stage.loaded", {"model_digest": digest, "person": "ben", "evidence_digest": "e" * 64})
        registered = ledger.find(kind="model.registered", field="model_digest", value=digest, limit=1)[0]
        ledger.append("model.registered", {**registered.body, "serial": 2})
        ledger.append("release.received", {**RECEIVED, "code": "e" * 64, "custody": {"findings": [], "entries": []}})

        for request_id in ("req_one", "req_tried"):
            assert failed(of(floor, request_id)) == set()
            release = next(step for step in of(floor, request_id).steps if step.name == "release")
            assert "serial 1, code cccc" in release.detail


def test_custody_that_nobody_accepted_and_records_of_older_versions_are_said(floor: Floor) -> None:
    second = floor.bring("more weights", name="second")
    odd = {"findings": ["a tear"], "entries": [], "accepted_by": None}
    bare = {name: value for name, value in RECEIVED.items() if name not in {"signers", "volumes"}}
    floor.site.ledger.append("release.received", {**bare, "serial": floor.serial, "custody": odd})
    answer(floor, second.model_digest, "req_second")

    assert {"signers", "media", "custody"} <= failed(of(floor, "req_second"))


def test_another_ledger_than_the_pinned_ones_holds_in_nothing(floor: Floor) -> None:
    other = MemoryLedger()
    asked = other.append("request.intent", {"request_id": "req_one", "model_digest": "a" * 64})
    ended = {"request_id": "req_one", "intent_sequence": asked.sequence, "outcome": "ok"}
    other.append("request.outcome", ended)

    report = origin(other, floor.site.config.at, "req_one")
    assert failed(report) == {step.name for step in report.steps}


def test_what_is_in_doubt_since_is_said_beside_what_holds() -> None:
    with served() as floor:
        digest, ledger = floor.in_production(), floor.site.ledger
        note = {"note": 4, "since": "2026-11-01T00:00:00Z", "keys": ["f" * 40]}
        ledger.append("trust.note-accepted", note)
        doubted = ledger.append("trust.doubted", {"model_digests": [digest], "notes": 1})

        report = of(floor, "req_one")

    said = {step.name: step.detail for step in report.steps}
    assert failed(report) == set()
    assert said["version"].endswith(f"; in doubt since record {doubted.sequence}, {doubted.time}")
    assert said["signers"].endswith("; keys in doubt: of ada since 2026-11-01T00:00:00Z (note 4)")


def test_a_version_that_was_stopped_before_the_answer_does_not_hold() -> None:
    with served() as floor:
        digest = floor.in_production()
        assert digest is not None
        floor.site.client.stop(person=signatories()[0].id, reason="fire", password=PASSWORD)
        answer(floor, digest, "req_at_once")
        assert failed(of(floor, "req_at_once")) == set()  # begun while production was changing
        floor.site.clock.advance(3600)
        answer(floor, digest, "req_late")
        assert failed(of(floor, "req_late")) == {"promotion", "approvals", "gates"}
