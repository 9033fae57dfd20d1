"""Measures what this machine can do with the engine that is in production, records it, and reads it again.

Where nothing is in production yet, the newest version is started in the test stage for the measurement and stopped
again. The figure is a fact of the ledger, so page, go-live report and `sealift capacity` show the same one.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from appliance.actions.registering import register_what_is_installed
from appliance.actions.validate import Surroundings
from appliance.audit.facts import EVERY, Ledger
from appliance.errors import EngineUnavailableError, PrivilegeError, UnknownVersionError
from appliance.install.supervisor import UnitState, engine_unit
from appliance.promote.standing import current_digest
from appliance.registry import catalog, stageloads
from appliance.registry.catalog import Version
from appliance.serve.capacity import FORMAT, Capacity, Progress, Stopwatch
from appliance.serve.client import EngineClient
from appliance.serve.readiness import wait_ready
from media import canonical

MEASURED: Final = "capacity.measured"
DEFAULT_SECONDS: Final = 180
_READ_SECONDS: Final = 1800.0
_MEMORY_SHARE: Final = 16
"""A kernel's own part of the memory changes with its version: figures of one machine differ by less than this share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What the requirements say of answering on a processor alone (B23, B24): a 7B model at four bits."""

    id: str
    name: str
    cores: int
    memory_gib: int
    tokens_per_second: tuple[int, int]
    use: str


REFERENCES: Final = (
    Reference(
        id="B23", name="minimum", cores=8, memory_gib=16, tokens_per_second=(1, 3), use="development and tests only"
    ),
    Reference(
        id="B24", name="acceptable", cores=32, memory_gib=64, tokens_per_second=(5, 10), use="production at low volume"
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityFacts:
    """One measurement: of what, on what, and the figures as the ledger holds them."""

    model_digest: str
    model: str
    stage: str
    cores: int
    memory_mib: int
    at: str
    figures: dict[str, Any]

    @property
    def notes_per_hour(self) -> int:
        """Notes of about 900 tokens in and 250 out."""
        return int(self.figures["notes_per_hour"])

    @property
    def is_of_this_machine(self) -> bool:
        """Whether it was measured with this machine's cores and memory.

        A restored ledger, or one that several nodes share, holds figures of other machines too.
        """
        cores, memory_mib = machine()
        return self.cores == cores and abs(self.memory_mib - memory_mib) <= memory_mib // _MEMORY_SHARE

    @property
    def reached(self) -> Reference | None:
        """The highest of the requirements' machines that this one is as large as."""
        held = [
            one for one in REFERENCES if self.cores >= one.cores and self.memory_mib >= one.memory_gib * 1024 * 15 // 16
        ]
        return held[-1] if held else None

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers, the requirements' numbers beside them."""
        return {
            "format": FORMAT,
            "model_digest": self.model_digest,
            "model": self.model,
            "stage": self.stage,
            "cores": self.cores,
            "memory_mib": self.memory_mib,
            "at": self.at,
            "figures": self.figures,
            "reached": None if self.reached is None else self.reached.id,
            "requirements": {
                one.id: {
                    "cores": one.cores,
                    "memory_gib": one.memory_gib,
                    "tokens_per_second": list(one.tokens_per_second),
                    "use": one.use,
                }
                for one in REFERENCES
            },
        }


def machine() -> tuple[int, int]:
    """Return how many cores this machine lets us use, and its memory in MiB."""
    return len(os.sched_getaffinity(0)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def measure(
    here: Surroundings,
    which: str = "",
    *,
    seconds: float = DEFAULT_SECONDS,
    progress: Progress = lambda *_: None,
) -> CapacityFacts:
    """Measure and record.

    Args:
        here: What the action works with.
        which: A version to measure in the test stage; production's engine when empty.
        seconds: About how long it may take; loading the model comes on top.
        progress: Told (words, done, of).

    Raises:
        PrivilegeError: It is a box and this is not root, who alone may start engines and speak to them.
        UnknownVersionError: No such version, or none at all.
        ConflictError: Application developers use it in the test stage.
        EngineUnavailableError: Its engine did not become ready.
        LedgerUnavailableError: It was measured, and could not be recorded.
    """
    if here.config.places.root == "/" and os.geteuid() != 0:
        raise PrivilegeError(
            what="measuring speaks to engines", why="only root may do that past the gateway", fix="run it as root"
        )
    production = current_digest(here.config.at)
    if not which and production is not None:
        stage, digest = "production", production
    else:
        stage, digest = "test", ""
    with here.state.connect() as session:
        version = catalog.version(session, digest) if digest else _newest(here, which)
        if stage == "test":
            stageloads.require_not_loaded(session, version.model_digest)
    unit = engine_unit(stage, version.model_digest)
    if stage == "production" and here.supervisor.state(unit) is not UnitState.ACTIVE:
        raise EngineUnavailableError(
            what="production's engine does not run", why=unit, fix="run `sealift doctor`; then measure again"
        )
    try:
        if stage == "test":
            progress("loading the model", 0, 1)
            here.supervisor.start(unit)
        capacity = _measured(here, version, stage, seconds, progress)
    finally:
        if stage == "test":
            here.supervisor.stop(unit)
    cores, memory_mib = machine()
    body = {
        "format": FORMAT,
        "model_digest": version.model_digest,
        "model": f"{version.name} {version.version}",
        "stage": stage,
        "cores": cores,
        "memory_mib": memory_mib,
        "figures": capacity.to_json(),
    }
    done = here.ledger.append(MEASURED, body)
    return _facts(body, done.time)


def latest(ledger: Ledger, model_digest: str = "") -> CapacityFacts | None:
    """Return the newest measurement, of one version when it is named; None when there is none that can be read."""
    field, value = ("model_digest", model_digest) if model_digest else (None, None)
    for leaf in ledger.find(MEASURED, field, value, limit=1):
        try:
            return _facts(leaf.body, leaf.time)
        except (KeyError, TypeError, ValueError):
            return None
    return None


def of_this_machine(ledger: Ledger, model_digest: str = "") -> CapacityFacts | None:
    """Return the newest measurement with this machine's cores and memory, of one version when it is named; or None."""
    field, value = ("model_digest", model_digest) if model_digest else (None, None)
    for leaf in ledger.find(MEASURED, field, value, limit=EVERY):
        with suppress(KeyError, TypeError, ValueError):
            if (found := _facts(leaf.body, leaf.time)).is_of_this_machine:
                return found
    return None


def _facts(body: Any, at: str) -> CapacityFacts:
    figures = canonical.mapping(body["figures"], "figures")
    return CapacityFacts(
        model_digest=str(body["model_digest"]),
        model=str(body["model"]),
        stage=str(body["stage"]),
        cores=int(body["cores"]),
        memory_mib=int(body["memory_mib"]),
        at=at,
        figures=dict(figures),
    )


def _newest(here: Surroundings, which: str) -> Version:
    register_what_is_installed(here.config, here.ledger, here.state)
    with here.state.connect() as session:
        if which:
            return catalog.version(session, which)
        known = catalog.versions(session)
    if not known:
        raise UnknownVersionError(
            what="there is no version to measure",
            why="no release with a model was received",
            fix="run `sealift receive`",
        )
    return known[0]


def _measured(here: Surroundings, version: Version, stage: str, seconds: float, progress: Progress) -> Capacity:
    socket = here.config.at.engine_socket(stage, version.model_digest)
    with EngineClient(socket, read_seconds=_READ_SECONDS) as engine:
        status = wait_ready(
            engine,
            model_digest=version.model_digest,
            stage=stage,
            seconds=here.config.engine.start_seconds,
            clock=here.clock,
            sleep=here.sleep,
        )
        return Stopwatch(engine, clock=here.clock, seconds=seconds, n_ctx=status.n_ctx, progress=progress).measure()
