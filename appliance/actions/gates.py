"""The gates a version passes before people are asked, each a function from the same bench to one verdict.

Promises: a gate looks at the version itself, through the store or the test engine, never at what was said of it; its
figures hold numbers and digests, never prompts or answers; whatever goes wrong in it is a verdict, not a crash, so a
version can fail but not slip through.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.errors import EngineProtocolError
from appliance.install.supervisor import Supervisor, engine_unit
from appliance.promote import evaluation
from appliance.promote.comparison import Recorder, compare
from appliance.promote.policy import GatePolicy
from appliance.promote.taskset import TaskSet
from appliance.registry import reference as references
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.reference import Declared, Reference
from appliance.serve.client import EngineClient
from appliance.serve.readiness import wait_ready
from appliance.store.content import StoredRelease
from media.clock import Clock
from media.errors import SealiftError

TEST_STAGE: Final = "test"

Progress = Callable[[str, int, int], None]
"""Told of a gate, how much is done and how much there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one gate found; `why` says what failed, in words without content."""

    gate: str
    passed: bool
    figures: dict[str, Any] = field(default_factory=dict)
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields for evidence and answers."""
        return {"gate": self.gate, "passed": self.passed, "figures": self.figures, "why": self.why}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Everything a gate may use."""

    descriptor: ModelDescriptor
    stored: StoredRelease
    task_paths: tuple[str, ...]
    engine: EngineClient
    supervisor: Supervisor
    policy: GatePolicy
    clock: Clock
    start_seconds: float
    production_answers: Mapping[str, str]
    progress: Progress = lambda *_: None
    sleep: Callable[[float], None] = time.sleep

    @property
    def unit(self) -> str:
        """The test engine's unit."""
        return engine_unit(TEST_STAGE, self.descriptor.model_digest)


def run(gate: str, bench: Bench) -> Verdict:
    """Run one gate by its name."""
    try:
        return _GATES[gate](bench)
    except SealiftError as error:
        why = f"{error.what}{f': {error.why}' if error.why else ''}"
        return Verdict(gate=gate, passed=False, figures={"error": error.code}, why=why)


def integrity(bench: Bench) -> Verdict:
    """Hash every file of the version in the store again, and its descriptor."""
    descriptor = bench.descriptor
    files = [(file.path, file.sha256, file.length) for file in descriptor.files]
    if descriptor.template_path not in {path for path, _, _ in files}:
        length = bench.stored.files[descriptor.template_path].length
        files.append((descriptor.template_path, descriptor.template_sha256, length))
    done, total = 0, sum(length for _, _, length in files)
    for path, sha256, length in files:
        bench.progress("integrity", done, total)
        bench.stored.verify(path)
        if bench.stored.files[path].sha256 != sha256:
            return Verdict(gate="integrity", passed=False, why=f"{path} is not the file the descriptor names")
        done += length
    bench.progress("integrity", total, total)
    return Verdict(gate="integrity", passed=True, figures={"files": len(files), "bytes": total})


def load(bench: Bench) -> Verdict:
    """Start the test engine and let it say what it loaded, by digests it computed itself."""
    started = bench.clock.monotonic()
    bench.supervisor.start(bench.unit)
    status = wait_ready(
        bench.engine,
        model_digest=bench.descriptor.model_digest,
        stage=TEST_STAGE,
        seconds=bench.start_seconds,
        clock=bench.clock,
        sleep=bench.sleep,
    )
    figures = {"load_millis": _millis_since(bench.clock, started), "n_ctx": status.n_ctx}
    if status.weights_digest != bench.descriptor.weights_digest:
        why = f"it loaded weights {status.weights_digest[:12]}, not {bench.descriptor.weights_digest[:12]}"
        return Verdict(gate="load", passed=False, figures=figures, why=why)
    return Verdict(gate="load", passed=True, figures=figures)


def smoke(bench: Bench) -> Verdict:
    """Ask one question, whole and streamed; both answers must hold text and end properly."""
    body = {
        "messages": [{"role": "user", "content": bench.policy.smoke_prompt}],
        "max_tokens": bench.policy.smoke_max_tokens,
        "temperature": 0,
        "seed": 0,
    }
    started = bench.clock.monotonic()
    whole = _content(bench.engine.chat(body))
    whole_millis = _millis_since(bench.clock, started)
    started = bench.clock.monotonic()
    first_millis, streamed = -1, ""
    for event in bench.engine.chat_stream(body):
        streamed += _delta(event)
        if streamed and first_millis < 0:
            first_millis = _millis_since(bench.clock, started)
    figures = {"answer_millis": whole_millis, "first_text_millis": first_millis, "same_text": whole == streamed}
    if not whole.strip() or not streamed.strip():
        return Verdict(gate="smoke", passed=False, figures=figures, why="an answer was empty")
    return Verdict(gate="smoke", passed=True, figures=figures)


def task_evaluation(bench: Bench) -> Verdict:
    """Do every task set that came with the version, and compare with the version in production."""
    if not bench.task_paths:
        return Verdict(gate="task-evaluation", passed=False, why="the release brings no tasks for this version")
    results: list[evaluation.Result] = []
    sets: list[dict[str, Any]] = []
    declared = references.declared(bench.stored, bench.descriptor)
    for number, path in enumerate(bench.task_paths):
        bench.progress("task-evaluation", number, len(bench.task_paths))
        tasks = TaskSet.from_bytes(bench.stored.read(path))
        recorder = Recorder(examinee=_EngineExaminee(bench.engine))
        right = evaluation.examine(tasks, recorder)
        known = bench.production_answers.get(tasks.sha256)
        results.append(evaluation.judge(tasks, right, bench.policy, production=known))
        compared = _with_parent(bench, tasks, recorder, declared.get(path, Declared()))
        sets.append({**results[-1].to_json(), "reference": compared})
    bench.progress("task-evaluation", len(results), len(results))
    failures = [f"{result.name}: {failure}" for result in results for failure in result.failures]
    items = sum(len(result.right) for result in results)
    rights = sum(result.right.count("1") for result in results)
    figures: dict[str, Any] = {
        "items": items,
        "accuracy_millis": rights * 1000 // items,
        "sets": sets,
    }
    return Verdict(gate="task-evaluation", passed=not failures, figures=figures, why="; ".join(failures))


def _with_parent(bench: Bench, tasks: TaskSet, recorder: Recorder, declared: Declared) -> dict[str, Any]:
    """Return how the version compares with what it was quantized from; figures for people, and no verdict."""
    if not declared.path:
        return {"not_made": declared.not_made or "the release says nothing of reference outputs"}
    content = bench.stored.read(declared.path, max_bytes=references.MAX_BYTES)
    found = compare(tasks, recorder.said, Reference.from_bytes(content))
    return {"not_made": "the reference is of other tasks"} if found is None else found.to_json()


class _EngineExaminee:
    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine

    def likelihoods(self, prompt: str, continuations: Sequence[str]) -> Sequence[float]:
        scores = self._engine.score(prompt, continuations)
        return [score.log_likelihood / len(text) for score, text in zip(scores, continuations, strict=True)]

    def answer(self, prompt: str, *, max_tokens: int) -> str:
        body = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "seed": 0,
        }
        return _content(self._engine.chat(body))


_GATES: Final[Mapping[str, Callable[[Bench], Verdict]]] = {
    "integrity": integrity,
    "load": load,
    "smoke": smoke,
    "task-evaluation": task_evaluation,
}


def _content(untrusted_answer: Mapping[str, Any]) -> str:
    try:
        content = untrusted_answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise _no_text() from error
    if not isinstance(content, str):
        raise _no_text()
    return content


def _delta(untrusted_event: Mapping[str, Any]) -> str:
    choices = untrusted_event.get("choices")
    if not isinstance(choices, list) or not choices:
        return ""  # a chunk that only carries usage
    delta = choices[0].get("delta") if isinstance(choices[0], dict) else None
    content = delta.get("content") if isinstance(delta, dict) else None
    return content if isinstance(content, str) else ""


def _no_text() -> EngineProtocolError:
    return EngineProtocolError(
        what="the test engine's answer holds no text", why="choices[0].message.content", fix="use the release's engine"
    )


def _millis_since(clock: Clock, started: float) -> int:
    return int((clock.monotonic() - started) * 1000)
