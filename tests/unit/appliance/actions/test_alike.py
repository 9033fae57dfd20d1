"""Similarity is judged by another model where a release brings one, and else, as approvers see, by words."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from appliance.actions import validate
from appliance.actions.gating import shown
from appliance.errors import GateFailedError
from appliance.install.supervisor import UnitState
from appliance.promote import sitesets
from appliance.promote.similarity import cosine_millis
from appliance.promote.taskset import TaskSet
from appliance.registry import carriers
from appliance.registry.descriptor import ModelDescriptor
from appliance.state import projection
from appliance.store.content import ContentStore
from media.errors import MalformedError
from tests.support.floor import Floor, open_floor
from tests.support.scripted_http import Reply
from tests.support.signatories import signatories

EMBEDDING = {"pooling": "mean", "n_ctx": 64, "dimensions": 2, "matryoshka": False}
CLOSE, FAR = [1.0, 0.0], [0.0, 1.0]
TASKS = "task-evaluation"


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


def letters(floor: Floor, **least: str) -> None:
    lines = [
        {"format": 2, "name": "letters", "floor": "0"},
        {"id": "a", "kind": "similarity", "prompt": "Q 1?", "answer": "Quite another wording", **least},
    ]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    sitesets.add(floor.site.config.at, floor.site.ledger, content, person=signatories()[0].id)


def judge(floor: Floor, *, reads: int = 1000, vector: list[float] = CLOSE) -> tuple[ModelDescriptor, list[str]]:
    """Bring a release whose model declares that it judges; its engine says how long texts may be."""
    asked: list[str] = []

    def embeddings(body: Mapping[str, Any]) -> Reply:
        [text] = body["input"]
        asked.append(text)
        if len(text) > reads:
            return Reply(status=400, body={"error": {"code": "context_length_exceeded"}})
        made = CLOSE if text.startswith("Quite") else vector
        return Reply(body={"data": [{"index": 0, "embedding": made}]})

    brought = floor.bring("judge", name="judge", embedding=EMBEDDING, judges=("similarity",))
    floor.supervisor.know(brought, replies={"/v1/embeddings": embeddings})
    return brought, asked


def letter_set(report: validate.ValidationReport) -> Mapping[str, Any]:
    return next(one for one in report.figures_of(TASKS)["sets"] if one["name"] == "letters")


def test_without_a_judge_words_count_and_approvers_see_that(floor: Floor) -> None:
    letters(floor, least="0.9", least_embedding="0.9")
    report = floor.validate(floor.bring(), only=TASKS)

    assert letter_set(report)["similarity"] == {"by": "words"}
    assert letter_set(report)["right"] == "0"
    assert report.figures_of(TASKS)["similarity"] == "words and their parts, by no model"
    assert any("by no model" in line for line in shown.lines_of(TASKS, report.figures_of(TASKS)))


@pytest.mark.parametrize(("vector", "right"), [(CLOSE, "1"), (FAR, "0")])
def test_the_declared_model_judges_in_an_engine_of_its_own_that_is_stopped_again(
    floor: Floor, vector: list[float], right: str
) -> None:
    letters(floor, least="0.9", least_embedding="0.9")
    brought, _ = judge(floor, vector=vector)
    version = floor.bring()

    planned = validate.plan(floor.bench, version.model_digest).to_json()
    report = floor.validate(version, only=TASKS)

    assert planned["similarity_judge"] == "judge 1"
    found = letter_set(report)
    assert found["right"] == right
    assert found["similarity"] == {"by": "model", "model_digest": brought.model_digest, "name": "judge 1"}
    assert report.figures_of(TASKS)["similarity"] == f"embeddings of judge 1 {brought.model_digest[:12]}"
    unit = f"sealift-engine-test@{brought.model_digest[:12]}.service"
    assert [step for step, name in floor.supervisor.asked if name == unit] == ["start", "stop"]


def test_a_judge_that_developers_have_loaded_goes_on_afterwards(floor: Floor) -> None:
    letters(floor, least="0.9", least_embedding="0.9")
    brought, asked = judge(floor)
    unit = f"sealift-engine-test@{brought.model_digest[:12]}.service"
    floor.supervisor.start(unit)
    lent = {"model_digest": brought.model_digest, "person": signatories()[0].id, "evidence_digest": "e" * 64}
    floor.site.ledger.append("stage.loaded", lent)
    projection.catch_up(floor.state, floor.site.ledger)

    floor.validate(floor.bring(), only=TASKS)

    assert asked
    assert floor.supervisor.state(unit) is UnitState.ACTIVE


def test_an_item_without_a_threshold_for_vectors_is_judged_by_words(floor: Floor) -> None:
    letters(floor, least="0.1")
    brought, asked = judge(floor)

    report = floor.validate(floor.bring(), only=TASKS)

    assert letter_set(report)["similarity"] == {"by": "words"}
    assert asked == []
    assert brought.model_digest[:12] not in str(floor.supervisor.asked)


def test_what_is_longer_than_the_judge_reads_is_judged_by_its_beginning(floor: Floor) -> None:
    lines = [
        {"format": 2, "name": "letters", "floor": "0"},
        {
            "id": "a",
            "kind": "similarity",
            "prompt": "Q 1?",
            "answer": "Quite " + "long " * 100,
            "least": "0.1",
            "least_embedding": "0.9",
        },
    ]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    sitesets.add(floor.site.config.at, floor.site.ledger, content, person=signatories()[0].id)
    _, asked = judge(floor, reads=300)

    report = floor.validate(floor.bring(), only=TASKS)

    assert letter_set(report)["right"] == "1"
    assert [len(one) for one in asked if one.startswith("Quite")] == [506, 253]


def test_a_judge_that_does_not_work_fails_the_gate_and_words_do_not_stand_in(floor: Floor) -> None:
    letters(floor, least="0", least_embedding="0.9")
    brought, _ = judge(floor)
    floor.supervisor.know(brought, replies={"/v1/embeddings": Reply(body={"data": [{"index": 0, "embedding": []}]})})

    report = floor.validate(floor.bring(), only=TASKS)

    assert not report.passed
    with pytest.raises(GateFailedError):
        report.require_passed()


def test_versions_that_were_judged_otherwise_are_not_paired(floor: Floor) -> None:
    letters(floor, least="0", least_embedding="0.9")
    first = floor.bring("first")
    floor.serve(first)
    judge(floor)

    report = floor.validate(floor.bring("second"), only=TASKS)

    assert report.figures_of(TASKS)["against"]["production"]["items"] == 12  # the other set's alone


def test_a_model_never_judges_itself_and_what_makes_no_embeddings_is_no_judge(floor: Floor) -> None:
    brought, _ = judge(floor)
    store = ContentStore(floor.site.config.at.store)

    assert carriers.similarity_judge(store, but=brought.model_digest) is None
    floor.bring("mute", name="mute", judges=("similarity",))
    with pytest.raises(MalformedError, match="makes no embeddings"):
        carriers.similarity_judge(store, but="")


def test_cosines_are_thousandths_between_none_and_all() -> None:
    assert [cosine_millis(CLOSE, one) for one in (CLOSE, FAR, [-1.0, 0.0], [0.0, 0.0], [1.0, 1.0])] == [
        1000, 0, 0, 0, 707,
    ]  # fmt: skip


def test_a_threshold_for_vectors_is_for_similarity_alone() -> None:
    lines = [
        {"format": 2, "name": "x", "floor": "0"},
        {"id": "a", "kind": "exact", "prompt": "Q?", "answer": "a", "least_embedding": "0.9"},
    ]
    with pytest.raises(MalformedError):
        TaskSet.from_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
