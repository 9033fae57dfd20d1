"""Gates look at the version itself, and a version can fail but not slip through."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from appliance.actions.gates import Verdict
from appliance.actions.validate import validate
from appliance.errors import GateFailedError, LedgerUnavailableError, UnitError, UnknownVersionError
from appliance.promote.policy import GATES, packaged
from appliance.promote.validated import require_validated
from appliance.registry import evidence
from media.errors import UsageError
from tests.support.floor import Floor, open_floor
from tests.support.scripted_http import Answer, Reply
from tests.support.versions import task_file

pytestmark = pytest.mark.slow

STATUS = "/sealift/v1/status"
CHAT = "/v1/chat/completions"


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


def test_a_good_version_passes_every_gate_with_one_evidence(floor: Floor) -> None:
    descriptor = floor.bring()

    report = floor.validate(descriptor)

    report.require_passed()
    assert [verdict.gate for verdict in report.verdicts] == list(GATES)
    validated = require_validated(floor.site.ledger, descriptor.model_digest, packaged())
    assert validated.evidence_digest == report.evidence_digest
    document = evidence.read(floor.site.config.at, report.evidence_digest)
    assert document["policy"] == {"name": packaged().name, "digest": packaged().digest, "format": 2}
    assert [gate["gate"] for gate in document["gates"]] == list(GATES)
    assert report.to_json()["passed"] is True


@pytest.mark.parametrize(("gate", "is_said"), [("performance", True), ("smoke", False)])
def test_where_speed_missed_it_is_said_that_a_busy_machine_is_slow(floor: Floor, gate: str, is_said: bool) -> None:  # noqa: FBT001 - a parameter of the table
    report = floor.validate(floor.bring())
    bad = Verdict(gate=gate, passed=False, figures={}, why="it took too long")

    with pytest.raises(GateFailedError) as told:
        replace(report, verdicts=(bad,)).require_passed()

    assert ("validate again where this machine was busy with something else" in told.value.fix) is is_said
    assert report.evidence_digest[:12] in told.value.fix


def test_the_test_engine_is_started_and_stopped(floor: Floor) -> None:
    descriptor = floor.bring()

    floor.validate(descriptor)

    unit = f"sealift-engine-test@{descriptor.model_digest[:12]}.service"
    assert floor.supervisor.asked == [("start", unit), ("kill", unit), ("stop", unit)]


def test_neither_evidence_nor_ledger_holds_a_prompt_or_an_answer(floor: Floor) -> None:
    report = floor.validate(floor.bring())

    kept = json.dumps(evidence.read(floor.site.config.at, report.evidence_digest))
    kept += str([leaf.raw for leaf in floor.site.ledger.leaves(0, 100)])
    for word in ("Question", "Paris", "Blue", packaged().smoke.prompt):
        assert word not in kept


def test_progress_is_told_for_each_gate(floor: Floor) -> None:
    told: list[str] = []

    floor.validate(floor.bring(), progress=lambda gate, *_: told.append(gate))

    assert set(told) == set(GATES)


def test_a_damaged_file_fails_integrity_and_no_engine_is_started(floor: Floor) -> None:
    descriptor = floor.bring()
    path = floor.site.config.at.store / "objects/sha256" / descriptor.weights_digest[:2] / descriptor.weights_digest
    path.chmod(0o644)
    path.write_bytes(b"GGUF weightz")

    report = floor.validate(descriptor)

    assert [(verdict.gate, verdict.passed) for verdict in report.verdicts] == [("integrity", False)]
    assert ("start", report.verdicts[0].gate) not in floor.supervisor.asked
    assert not report.passed
    with pytest.raises(GateFailedError):
        report.require_passed()


@pytest.mark.parametrize(
    ("route", "answer", "gate"),
    [
        (STATUS, Reply(body={"model_digest": "0" * 64}), "load"),
        (CHAT, Reply(body={"choices": []}), "smoke"),
        (CHAT, Reply(body={"choices": [{"message": {"content": "  "}}]}), "smoke"),
        (CHAT, Reply(status=500, body={}), "smoke"),
        (CHAT, Reply(body={"choices": [{"message": {"content": "Blue"}}]}), "smoke"),
        ("/sealift/v1/score", Reply(body={"log_likelihoods": [], "tokens": []}), "task-evaluation"),
    ],
)
def test_an_engine_that_misbehaves_fails_its_gate(floor: Floor, route: str, answer: Answer, gate: str) -> None:
    descriptor = floor.bring()
    floor.supervisor.know(descriptor, replies={route: answer})

    report = floor.validate(descriptor)

    assert (report.verdicts[-1].gate, report.verdicts[-1].passed) == (gate, False)
    assert report.verdicts[-1].why
    assert floor.supervisor.asked[-1][0] == "stop"


@pytest.mark.parametrize("field", ["weights_digest", "model_digest", "stage"])
def test_an_engine_that_loaded_something_else_fails_load(floor: Floor, field: str) -> None:
    descriptor = floor.bring()
    unit = f"sealift-engine-test@{descriptor.model_digest[:12]}.service"
    answer = floor.supervisor.versions[unit][STATUS]
    assert isinstance(answer, Reply)
    answer.body[field] = "f" * 64

    assert floor.validate(descriptor).verdicts[-1].gate == "load"


def test_an_engine_that_is_never_healthy_fails_load_in_the_time_the_site_gives(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.supervisor.know(descriptor, replies={"/health": Reply(status=503, body={})})
    before = floor.site.clock.monotonic()

    report = floor.validate(descriptor)

    assert (report.verdicts[-1].gate, report.verdicts[-1].passed) == ("load", False)
    assert 300 <= floor.site.clock.monotonic() - before < 302


def test_a_version_that_answers_wrongly_fails_its_tasks(floor: Floor) -> None:
    report = floor.validate(floor.bring(wrong=True))

    assert (report.verdicts[-1].gate, report.verdicts[-1].passed) == ("task-evaluation", False)
    assert "are demanded" in report.verdicts[-1].why


def test_a_version_without_tasks_does_not_pass(floor: Floor) -> None:
    descriptor = floor.bring(tasks=task_file(1, floor="1.1"))

    report = floor.validate(descriptor)

    assert report.verdicts[-1].figures["error"] == "malformed"
    assert not report.passed


def test_a_version_is_compared_with_the_one_in_production(floor: Floor) -> None:
    floor.serve(floor.bring("first"))

    report = floor.validate(floor.bring("second"))

    (tasks,) = report.figures_of("task-evaluation")["sets"]
    assert (tasks["difference_millis"], tasks["difference_low_millis"]) == (0, 0)


def test_one_gate_alone_does_not_validate_a_version(floor: Floor) -> None:
    descriptor = floor.bring()

    report = floor.validate(descriptor, only="smoke")

    assert [verdict.gate for verdict in report.verdicts] == ["smoke"]
    assert report.passed
    with pytest.raises(GateFailedError):
        require_validated(floor.site.ledger, descriptor.model_digest, packaged())


def test_one_gate_that_cannot_load_the_engine_fails(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.supervisor.versions.clear()

    report = floor.validate(descriptor, only="smoke")

    assert [(verdict.gate, verdict.passed) for verdict in report.verdicts] == [("smoke", False)]


def test_a_supervisor_that_does_not_answer_is_no_verdict(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = floor.bring()

    def silent(*_: Any) -> Any:
        raise UnitError(what="no supervisor answers", why="", fix="")

    monkeypatch.setattr(floor.supervisor, "state", silent)
    with pytest.raises(UnitError):
        floor.validate(descriptor)

    assert floor.site.ledger.find(kind="gate.result") == []


def test_without_the_ledger_there_is_no_verdict(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.site.ledger.available = False

    with pytest.raises(LedgerUnavailableError):
        floor.validate(descriptor)
    assert floor.supervisor.asked[-1][0] == "stop"


def test_an_unknown_version_or_gate_is_refused(floor: Floor) -> None:
    descriptor = floor.bring()

    with pytest.raises(UsageError):
        floor.validate(descriptor, only="beauty")
    with pytest.raises(UnknownVersionError):
        validate(floor.bench, "unknown")
