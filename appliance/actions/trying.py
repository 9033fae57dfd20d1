"""One look at a version before it takes production's place: it loads in the test stage, is what was approved, answers.

No gate: nothing is judged or recorded. It is what stands between a cut-over and a version that this box cannot run.
"""

from collections.abc import Callable
from typing import Final, Protocol

from appliance.actions.gating.bench import content_of
from appliance.config import Config
from appliance.errors import EngineLoadError
from appliance.install.supervisor import Supervisor, engine_unit
from appliance.registry.carriers import carrier
from appliance.serve.client import EngineClient
from appliance.serve.readiness import require_weights, wait_ready
from appliance.stages import Stage
from appliance.store.content import ContentStore
from media.clock import Clock

_QUESTION: Final = "Which day comes after Monday? Answer in one word."
_MOST_TOKENS: Final = 16


class Surroundings(Protocol):
    """What it works with; those of production and those of the gates both are."""

    @property
    def config(self) -> Config:
        """The site file."""
        ...

    @property
    def supervisor(self) -> Supervisor:
        """Starts and stops engines of the test stage."""
        ...

    @property
    def clock(self) -> Clock:
        """Times the engine."""
        ...

    @property
    def sleep(self) -> Callable[[float], None]:
        """Waits."""
        ...


def try_out(here: Surroundings, digest: str) -> float:
    """Let a version answer a question in the test stage and stop it again; return the seconds until it had.

    Raises:
        UnknownVersionError: The store holds no such version.
        UnitError: Its engine did not start.
        EngineUnavailableError: It is not healthy.
        EngineLoadError: It loaded other weights than were approved, or said nothing.
        EngineProtocolError: What it said is no answer.
    """
    stage = str(Stage.TEST)
    unit, began = engine_unit(stage, digest), here.clock.monotonic()
    _, descriptor, _ = carrier(ContentStore(here.config.at.store), digest)
    try:
        here.supervisor.start(unit)
        with EngineClient(here.config.at.engine_socket(stage, digest)) as engine:
            status = wait_ready(
                engine,
                model_digest=digest,
                stage=stage,
                seconds=here.config.engine.start_seconds,
                clock=here.clock,
                sleep=here.sleep,
            )
            fix = "scrub the store: `sealift scrub`"
            require_weights(status, descriptor.weights_digest, engine="the test engine", fix=fix)
            body = {"messages": [{"role": "user", "content": _QUESTION}], "max_tokens": _MOST_TOKENS, "temperature": 0}
            said = content_of(engine.chat(body))
    finally:
        here.supervisor.stop(unit)
    if not said.strip():
        raise EngineLoadError(
            what=f"{digest[:12]} gave an empty answer", why="in the test stage", fix="validate it again"
        )
    return here.clock.monotonic() - began
