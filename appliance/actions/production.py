"""Making the machine serve what the promoter says: one engine up and healthy, state told, the others down.

Promises: callers are switched to a version (state is projected, which is where the gateway reads its route) only when
its engine answers with the right digests; the engine before is stopped only after that, so nobody is left without one.
Every step may be repeated, so a command that was cut off is finished by running it again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from sqlalchemy import Engine

from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import EngineLoadError
from appliance.install.supervisor import Supervisor, UnitState, engine_unit
from appliance.promote.client import PromoterClient
from appliance.promote.standing import Standing, current_digest, require_promoted
from appliance.serve.client import EngineClient
from appliance.serve.readiness import wait_ready
from appliance.state import projection
from media.clock import Clock

STAGE: Final = "production"
_UNITS: Final = f"sealift-engine-{STAGE}@"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the actions on production work with.

    `follow` lets a typed job switch engines where this process may not; `proofs` reads what this process may not.
    """

    config: Config
    ledger: Ledger
    state: Engine
    promoter: PromoterClient
    supervisor: Supervisor
    clock: Clock
    tell: Tell = lambda _: None
    sleep: Callable[[float], None] = time.sleep
    follow: "Callable[[tuple[str, ...]], Served] | None" = None
    proofs: "Proofs | None" = None


class Proofs(Protocol):
    """Where evidence and descriptors are read by who may not read the box's folders; bytes are hashed again."""

    def text(self, what: str, digest: str) -> bytes:
        """Return the bytes of an evidence or a descriptor of that digest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What serves production now; `seconds` is how long it took from the decision on."""

    standing: Standing | None
    started: tuple[str, ...]
    stopped: tuple[str, ...]
    seconds: float


def settle(here: Surroundings, *, keep: tuple[str, ...] = ()) -> Served:
    """Bring engines and state to what the promoter's chain says.

    Args:
        here: What the action works with.
        keep: Digests whose engines stay warm, for going back fast.

    Raises:
        NotPromotedError: The chain does not verify; nothing was started.
        UnitError: The engine did not start; what ran before still runs, and callers still reach it.
        EngineUnavailableError: The same: it is not healthy.
    """
    begun = here.clock.monotonic()
    if here.follow is not None:
        return here.follow(keep)
    current = current_digest(here.config.at)
    started: tuple[str, ...] = ()
    standing = None
    wanted = set()
    if current is not None:
        standing = require_promoted(here.config.at, current, approvals=here.config.policy.approvals)
        unit = engine_unit(STAGE, current)
        wanted.add(unit)
        if here.supervisor.state(unit) is not UnitState.ACTIVE:
            here.tell(f"starting {unit}")
            here.supervisor.start(unit)
            started = (unit,)
        _require_serving(here, standing)
    projection.catch_up(here.state, here.ledger)
    wanted |= {engine_unit(STAGE, digest) for digest in keep}
    return Served(
        standing=standing,
        started=started,
        stopped=_stop_others(here, wanted),
        seconds=here.clock.monotonic() - begun,
    )


def _require_serving(here: Surroundings, standing: Standing) -> None:
    here.tell("waiting for the engine")
    with EngineClient(here.config.at.socket(f"engine-{STAGE}-{standing.model_digest[:12]}")) as engine:
        status = wait_ready(
            engine,
            model_digest=standing.model_digest,
            stage=STAGE,
            seconds=here.config.engine.start_seconds,
            clock=here.clock,
            sleep=here.sleep,
        )
    if status.weights_digest != standing.weights_digest:
        raise EngineLoadError(
            what=f"the engine of {standing.model_digest[:12]} loaded other weights",
            why=f"{status.weights_digest[:12]}, and {standing.weights_digest[:12]} were approved",
            fix="stop production: `sealift stop --as PERSON --reason TEXT`",
        )


def _stop_others(here: Surroundings, wanted: set[str]) -> tuple[str, ...]:
    stopped = []
    for facts in here.supervisor.units():
        if facts.name.startswith(_UNITS) and facts.name not in wanted and facts.state is not UnitState.INACTIVE:
            here.tell(f"stopping {facts.name}")
            here.supervisor.stop(facts.name)
            stopped.append(facts.name)
    return tuple(stopped)
