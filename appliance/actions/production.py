"""Making the machine serve what the promoter says: one engine up and healthy, state told, the others down.

Promises: callers are switched to a version (state is told, which is where the gateway reads its route) only when its
engine answers with the right digests, whoever else brings the state up meanwhile; where memory holds two, the engine
before is stopped only after that, when every gateway has read the new route and what it began is answered, so no
request is lost. Where memory holds one, it is
stopped first, and callers get a clear 503 until the other answers. A canary, and the version kept beside after a
cut-over, are kept running likewise. Further engines of the version in production, as the site file names them, come
last, as many as memory holds: each is asked by the gateway once it has loaded, and one that does not start takes
nothing from the others. Where production has several lines, an engine of one that does not answer keeps nothing from
callers that was decided about another; it is told when that is done. Every step may be repeated, so a command that was
cut off is finished by running it again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from sqlalchemy import Engine

from appliance.actions.fit import Holds, fit, further_that_fit
from appliance.actions.following import is_anothers
from appliance.actions.linefaults import LineFaults
from appliance.audit.facts import Ledger
from appliance.config import Config, Places
from appliance.errors import UnitError
from appliance.install.engines import wanted_engines
from appliance.install.jobclient import Seen
from appliance.install.joboutcome import Outcome
from appliance.install.jobs import Kind
from appliance.install.supervisor import Supervisor, UnitState, engine_of, engine_unit
from appliance.promote.client import PromoterClient
from appliance.promote.folder import PromoterFolder
from appliance.promote.history import Production
from appliance.promote.standing import Standing, current_digest, require_loadable
from appliance.registry import memory
from appliance.registry.windows import Asked
from appliance.serve.client import EngineClient
from appliance.serve.readiness import require_weights, wait_ready
from appliance.stages import FIRST_LINE
from appliance.state import projection
from media.clock import Clock, from_text
from media.errors import SealiftError

STAGE: Final = "production"
_UNITS: Final = f"sealift-engine-{STAGE}@"
_INTENT: Final = "request.intent"
_OUTCOME: Final = "request.outcome"
_ROUTES_SECONDS: Final = 1.5
"""A gateway reads its routes once a second."""
_DRAIN_LOOKS: Final = 60
_DRAIN_PAUSE_SECONDS: Final = 0.5
_DRAIN_RECORDS: Final = 5000
_LATELY_SECONDS: Final = 60
_PAGE: Final = 500

_WITHOUT: Final = {True: "its line alone is without it", False: "callers are not told what was decided"}

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the actions on production work with.

    `follow` lets a typed job switch engines where this process may not, and `in_window` carries a window out there;
    `proofs` reads what this process may not.
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
    in_window: "InWindow | None" = None
    proofs: "Proofs | None" = None


class InWindow(Protocol):
    """Has a maintenance window carried out by the job service, and waits for its end."""

    def __call__(self, kind: Kind, asked: Asked, *, seen: Seen = ...) -> Outcome:
        """Return how the work in the window ended; production is back then."""
        ...

    def end(self, asked: Asked) -> None:
        """End it; production comes back."""
        ...


class Proofs(Protocol):
    """Where evidence and descriptors are read by who may not read the box's folders; bytes are hashed again."""

    def text(self, what: str, digest: str) -> bytes:
        """Return the bytes of an evidence or a descriptor of that digest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What serves production now, by its standing in line 1; `seconds` is how long it took from the decision on.

    `missing` are further engines that the site file names and that do not run.
    """

    standing: Standing | None
    started: tuple[str, ...]
    stopped: tuple[str, ...]
    seconds: float
    missing: tuple[str, ...] = ()


def settle(
    here: Surroundings,
    *,
    keep: tuple[str, ...] = (),
    line: int | None = None,
    rests: int | None = None,
    known: int | None = None,
) -> Served:
    """Bring engines and state to what the promoter's chain says.

    What is decided while an engine loads is followed at once, and callers are not told of what was decided before it.

    Args:
        here: What the action works with.
        keep: Digests whose engines stay warm, for going back fast.
        line: The one line that is brought back; that an engine of another does not answer is told then, and no error.
        rests: The line that a window keeps down; its engines are neither started nor asked for.
        known: The sequence of the decision that is to be carried out; where there is a later one, nothing is done.

    Raises:
        NotPromotedError: The chain does not verify; nothing was started.
        UnitError: The engine did not start; what ran before still runs, and callers still reach it. Where it is one of
            another line than the one that something was decided about, all else was done.
        EngineUnavailableError: The same: it is not healthy.
    """
    begun = here.clock.monotonic()
    if here.follow is not None:
        return here.follow(keep)
    places, policy = here.config.at, here.config.policy
    standing = None
    started: list[str] = []
    stopped: list[str] = []
    production = PromoterFolder(places.promoter).production()
    last = -1 if production.last is None else production.last.sequence
    if known is not None and known != last:
        return Served(standing=None, started=(), stopped=(), seconds=0.0)
    loadable = production.loadable
    faults = LineFaults(production, told=lambda: projection.told_sequence(here.state), line=line)
    kept = {engine_unit(STAGE, digest) for digest in keep}
    wanted = {*wanted_engines(here.config, loadable, production.current), *kept}
    down = production.lines[rests].loadable if rests in production.lines else ()
    for digest in (one for one in loadable if one not in down):
        found = require_loadable(places, digest, approvals=policy.approvals, counting=policy.classes)
        standing = found if digest == production.current else standing
        unit = engine_unit(STAGE, digest)
        try:
            if here.supervisor.state(unit) is not UnitState.ACTIVE:
                if not _holds_two(here, digest):
                    faults.require_takes_effect()
                    stopped += _stop_others(here, {engine_unit(STAGE, one) for one in (*loadable, *keep)})
                here.tell(f"starting {unit}")
                here.supervisor.start(unit)
                started.append(unit)
            _require_serving(here, found)
        except SealiftError as error:
            alone = faults.take(digest, error)
            here.tell(f"{unit} does not answer: {error.why}; {_WITHOUT[alone]}")
    faults.require_takes_effect()
    if _decided(places) != last:  # while an engine loaded, as a stop: callers are told of nothing that is over
        again = settle(here, keep=keep, line=line, rests=rests, known=known)
        return replace(
            again,
            started=(*started, *again.started),
            stopped=(*stopped, *again.stopped),
            seconds=here.clock.monotonic() - begun,
        )
    if _is_anothers_to_tell(here, production, in_window=line is not None or rests is not None):
        # Callers are sent by what was before, so that stays; what this node's engines have they get all the same.
        projection.catch_up(here.state, here.ledger)
        wanted |= set(_others(here, wanted))
    else:
        projection.tell(here.state, here.ledger, through=last)
    seconds = here.clock.monotonic() - begun
    left = _others(here, wanted)
    if left and loadable:
        drain(here, {unit_digest(unit) for unit in left})
    stopped += _stop_others(here, wanted)
    loaded = (*loadable, *(digest for digest in keep if digest not in loadable))
    further, missing = ((), ()) if rests == FIRST_LINE else _start_further(here, loaded)
    faults.require_none()
    return Served(
        standing=standing,
        started=(*started, *further),
        stopped=tuple(stopped),
        seconds=seconds,
        missing=missing,
    )


def _decided(places: Places) -> int:
    """Return the sequence of what was decided last about production; -1 where nothing was."""
    last = PromoterFolder(places.promoter).production().last
    return -1 if last is None else last.sequence


def drain(here: Surroundings, digests12: set[str]) -> None:
    """Wait until no gateway sends requests to these versions any more, and what they began is answered.

    Returns after half a minute in any case: whoever changes production does not wait for a caller that never ends.
    """
    if not _was_asked_lately(here):
        return
    here.sleep(_ROUTES_SECONDS)
    for _ in range(_DRAIN_LOOKS):
        if not open_requests(here.ledger, digests12):
            return
        here.sleep(_DRAIN_PAUSE_SECONDS)


def open_requests(ledger: Ledger, digests12: set[str]) -> int:
    """Count the requests that these versions began to answer and have not ended, among the newest records."""
    start = max(ledger.head().size - _DRAIN_RECORDS, 0)
    begun: set[str] = set()
    while page := ledger.leaves(start, _PAGE, kinds={_INTENT, _OUTCOME}):
        for leaf in page:
            request_id = str(leaf.body.get("request_id"))
            if leaf.kind == _OUTCOME:
                begun.discard(request_id)
            elif str(leaf.body.get("model_digest"))[:12] in digests12:
                begun.add(request_id)
        start = page[-1].sequence + 1
    return len(begun)


def is_production(unit: str) -> bool:
    """Tell whether a unit is an engine of production."""
    return unit.startswith(_UNITS)


def unit_digest(unit: str) -> str:
    """Return the first twelve digits of the version that an engine's unit serves."""
    return (engine_of(unit) or ("", ""))[1]


def _is_anothers_to_tell(here: Surroundings, production: Production, *, in_window: bool) -> bool:
    """Tell whether another node is still to carry out what was decided: a window that ends here tells nobody of it."""
    last = production.last
    if not in_window or last is None or projection.told_sequence(here.state) >= last.sequence:
        return False
    return bool(production.serving) and is_anothers(here.config, here.ledger, last)


def _start_further(here: Surroundings, loaded: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Start what the site file names besides the first engine of line 1; return what was started, and what lacks.

    None of them is needed for answers, so no fault of one is a fault of the step that started it.
    """
    named = here.config.engines.production.further
    if not named or current_digest(here.config.at) is None:
        return (), ()
    fitting = further_that_fit(here.config, here.ledger, here.state, loaded, room=memory.machine())
    started: list[str] = []
    missing: list[str] = []
    for which in named:
        unit = engine_unit(STAGE, loaded[0], which)
        if here.supervisor.state(unit) is UnitState.ACTIVE:
            continue
        if which not in fitting:
            here.tell(f"memory does not hold {unit}: `sealift models fit {loaded[0][:12]}`")
            missing.append(unit)
            continue
        here.tell(f"starting {unit}")
        try:
            here.supervisor.start(unit)
        except UnitError as error:
            here.tell(f"{unit} did not start: {error.why}; the others answer")
            missing.append(unit)
        else:
            started.append(unit)
    return tuple(started), tuple(missing)


def _was_asked_lately(here: Surroundings) -> bool:
    newest = here.ledger.find(kind=_INTENT, limit=1)
    return bool(newest) and (here.clock.now() - from_text(newest[0].time)).total_seconds() < _LATELY_SECONDS


def _holds_two(here: Surroundings, digest: str) -> bool:
    """Tell whether an engine may start while another runs; where it is not known that it may not, it may."""
    try:
        return fit(here.config, here.ledger, here.state, digest, room=memory.machine()).holds is not Holds.ONE
    except (SealiftError, OSError, ValueError):
        return True


def _require_serving(here: Surroundings, standing: Standing) -> None:
    here.tell("waiting for the engine")
    with EngineClient(here.config.at.engine_socket(STAGE, standing.model_digest)) as engine:
        status = wait_ready(
            engine,
            model_digest=standing.model_digest,
            stage=STAGE,
            seconds=here.config.engine.start_seconds,
            clock=here.clock,
            sleep=here.sleep,
        )
    fix = "stop production: `sealift stop --as PERSON --reason TEXT`"
    require_weights(status, standing.weights_digest, engine="the engine", fix=fix)


def _others(here: Surroundings, wanted: set[str]) -> list[str]:
    return [
        facts.name
        for facts in here.supervisor.units()
        if is_production(facts.name) and facts.name not in wanted and facts.state is not UnitState.INACTIVE
    ]


def _stop_others(here: Surroundings, wanted: set[str]) -> list[str]:
    others = _others(here, wanted)
    for name in others:
        here.tell(f"stopping {name}")
        here.supervisor.stop(name)
    return others
