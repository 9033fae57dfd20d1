"""A quantized version against its parent: figures that come from what both said, and from nothing else."""

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

import pytest

from appliance.promote.comparison import Recorder, compare
from appliance.promote.evaluation import examine
from appliance.promote.taskset import TaskSet
from appliance.registry import evidence
from appliance.registry.reference import Reference
from appliance.serve.reference import examine as computed
from media import canonical
from media.errors import MalformedError
from tests.support.decoder import EchoDecoder
from tests.support.floor import Floor, open_floor
from tests.support.versions import task_file

TASKS = TaskSet.from_bytes(task_file(8))
HEADER: dict[str, Any] = {
    "format": 1,
    "name": "facts",
    "eval_sha256": TASKS.sha256,
    "parent_sha256": "a" * 64,
    "parent_types": ["F16"],
    "engine": "llama-cpp-python 0.3.36",
    "engine_sha256": "b" * 64,
    "method": 1,
    "temperature": "0",
    "seed": 0,
    "max_tokens": 32,
    "template_sha256": "c" * 64,
    "system_prompt_sha256": "d" * 64,
}


def items(*, best: Sequence[int] = (), text: str = "It is Rome.") -> list[dict[str, Any]]:
    """Return what a parent said: the right choice at -1 nat and the others at -9, or `best` instead."""
    made = []
    for number, item in enumerate(TASKS.items):
        told = {"id": item.id, "kind": item.kind, "prompt_sha256": sha256(item.prompt.encode()).hexdigest()}
        if item.choices:
            likeliest = best[number] if best else item.choices.index(item.answer)
            made.append({**told, "millinats": [-1000 if at == likeliest else -9000 for at in range(4)]})
        else:
            made.append({**told, "text": text, "text_sha256": sha256(text.encode()).hexdigest()})
    return made


def written(lines: Sequence[dict[str, Any]], **changes: Any) -> bytes:
    return b"".join(canonical.dumps(line) + b"\n" for line in ({**HEADER, **changes}, *lines))


class Child:
    """Likes the right choice, one nat less than its parent does."""

    def likelihoods(self, prompt: str, continuations: Sequence[str]) -> Sequence[float]:
        item = next(item for item in TASKS.items if item.prompt in prompt)
        return [(-2.0 if one.strip() == item.answer else -10.0) / len(one) for one in continuations]

    def answer(self, prompt: str, *, max_tokens: int) -> str:
        return "rome"


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


def test_agreement_and_the_shift_of_likelihoods_are_counted_item_by_item() -> None:
    recorder = Recorder(examinee=Child())
    examine(TASKS, recorder)

    same = compare(TASKS, recorder.said, Reference.from_bytes(written(items())))
    other = compare(TASKS, recorder.said, Reference.from_bytes(written(items(best=[3] * 8, text="Berlin"))))

    assert same is not None
    assert other is not None
    assert (same.items, same.agreement, same.difference) == (8, 1000, -1000)
    assert other.agreement == 0
    assert other.difference == -1000


def test_a_reference_of_other_tasks_is_compared_with_nothing() -> None:
    recorder = Recorder(examinee=Child())
    examine(TASKS, recorder)
    strange = items()
    strange[0]["prompt_sha256"] = "0" * 64

    for raw in (written(items(), eval_sha256="0" * 64), written(items()[:-1]), written(strange)):
        assert compare(TASKS, recorder.said, Reference.from_bytes(raw)) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        written([]),
        written(items())[:-1],
        written(items(), format=2),
        written([*items(), items()[0]]),
        written([{**items()[0], "text": "x"}]),
        written([{**items()[0], "millinats": [1]}]),
        written([{**items()[0], "millinats": ["-1", "-2"]}]),
        json.dumps(HEADER).encode() + b"\n",
    ],
)
def test_a_reference_that_breaks_the_format_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        Reference.from_bytes(raw)


def test_validate_says_how_a_version_compares_with_its_parent(floor: Floor) -> None:
    descriptor = floor.bring(tasks=task_file(8), reference=written(items()))

    report = floor.validate(descriptor)

    report.require_passed()
    document = evidence.read(floor.site.config.at, report.evidence_digest)
    found = next(gate for gate in document["gates"] if gate["gate"] == "task-evaluation")["figures"]["sets"][0]
    assert found["reference"] == {
        "by": "reference",
        "parent_sha256": "a" * 64,
        "items": 8,
        "agreement_millis": 1000,
        "difference_millinats": 0,
    }


def test_validate_says_why_a_version_is_compared_with_nothing(floor: Floor) -> None:
    told = [{"eval": "data/evals/facts.jsonl", "not_made": "the parent is too large"}]
    silent, loud = floor.bring("silent"), floor.bring("loud", references=told)

    for descriptor, why in ((silent, "the release says nothing of reference outputs"), (loud, told[0]["not_made"])):
        sets = floor.validate(descriptor).figures_of("task-evaluation")["sets"]
        assert sets[0]["reference"] == {"not_made": why}


def test_the_program_that_computes_references_asks_as_the_gate_does() -> None:
    job = {"system_prompt": "", "n_ctx": 512, "template": "{{ messages[0].content }}"}

    result = computed(job, EchoDecoder(context_tokens=512, batch_tokens=128), [task_file(8)])

    made = Reference.from_bytes(written(result["sets"][0]["items"]))
    assert result["sets"][0]["sha256"] == TASKS.sha256
    stopped = computed(
        {**job, "defaults": {"stop": ["TI"]}}, EchoDecoder(context_tokens=512, batch_tokens=128), [task_file(8)]
    )
    assert Reference.from_bytes(written(stopped["sets"][0]["items"])).items[3].text == "ES"
    penal = EchoDecoder(context_tokens=512, batch_tokens=128)
    computed({**job, "defaults": {"repeat_penalty": "1.1", "top_k": 3}}, penal, [task_file(8)])
    assert {(one.repeat_penalty, one.top_k) for one in penal.begun} == {(1.1, 3)}
    assert made.items[0].millinats == tuple(-1000 * (len(choice) + 1) for choice in TASKS.items[0].choices)
    assert made.items[3].text == "ESTION"
    assert [item.prompt_sha256 for item in made.items] == [
        sha256(item.prompt.encode()).hexdigest() for item in TASKS.items
    ]
