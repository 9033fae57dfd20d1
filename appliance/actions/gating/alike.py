"""The judge of similarity: a version that a release declares for it, in a test engine of its own while it is needed.

A model under test never judges itself. The judge's engine is started when the first item asks for it, says which
weights it loaded like any engine, and is stopped with the validation. Vectors are kept for the run, so that a reference
answer is read once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from appliance.actions.gating.bench import TEST_STAGE, TOO_LONG
from appliance.config import Config
from appliance.errors import EngineRefusedError, GateFailedError
from appliance.install.supervisor import Supervisor, engine_unit
from appliance.promote.similarity import cosine_millis
from appliance.registry.descriptor import ModelDescriptor
from appliance.serve.client import EngineClient
from appliance.serve.readiness import wait_ready
from media.clock import Clock

_SHORTEST: Final = 200


@dataclass(slots=True, kw_only=True)
class EmbeddingJudge:
    """A `SimilarityJudge` whose engine makes vectors; where developers have it loaded (`is_lent`), it goes on."""

    descriptor: ModelDescriptor
    config: Config
    supervisor: Supervisor
    clock: Clock
    sleep: Callable[[float], None]
    is_lent: bool = False
    _engine: EngineClient | None = None
    _vectors: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name and version."""
        return f"{self.descriptor.name} {self.descriptor.version}"

    @property
    def model_digest(self) -> str:
        """Its digest."""
        return self.descriptor.model_digest

    def millis(self, one: str, other: str) -> int:
        """Return how alike two texts are; see `SimilarityJudge`. An empty text is like nothing."""
        if not one.strip() or not other.strip():
            return 0
        return cosine_millis(self._vector(one), self._vector(other))

    def close(self) -> None:
        """Stop its engine, where it was started for this."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
            if not self.is_lent:
                self.supervisor.stop(self._unit)

    @property
    def _unit(self) -> str:
        return engine_unit(TEST_STAGE, self.model_digest)

    def _vector(self, text: str) -> tuple[float, ...]:
        found = self._vectors.get(text)
        if found is None:
            found = self._vectors[text] = self._embedded(text)
        return found

    def _embedded(self, text: str) -> tuple[float, ...]:
        engine, read = self._ready(), text
        while True:
            try:
                [found] = engine.embed([read])
            except EngineRefusedError as refused:
                # Longer than the judge reads: its beginning counts, which for an answer is what was asked for.
                if refused.engine_code != TOO_LONG or len(read) < _SHORTEST:
                    raise
                read = read[: len(read) // 2]
            else:
                return found

    def _ready(self) -> EngineClient:
        if self._engine is not None:
            return self._engine
        self._engine = engine = EngineClient(self.config.at.engine_socket(TEST_STAGE, self.model_digest))
        self.supervisor.start(self._unit)
        status = wait_ready(
            engine,
            model_digest=self.model_digest,
            stage=TEST_STAGE,
            seconds=self.config.engine.start_seconds,
            clock=self.clock,
            sleep=self.sleep,
        )
        if status.weights_digest != self.descriptor.weights_digest:
            raise GateFailedError(
                what=f"the judge of similarity, {self.name}, cannot be used",
                why="its engine loaded other weights",
                fix="receive its release again",
            )
        return engine
