"""Load a validated version in the test stage, for application developers who hold test keys, and take it away again.

Promises: only a version whose gates all passed is loaded; it is recorded, with who asked, before its engine starts, and
a start that fails is recorded as taken away; production is not touched, and a version that memory cannot hold beside
what serves is refused. Cut off anywhere, the same command finishes it.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine

from appliance.actions import versions
from appliance.actions.fit import Held, held_beside
from appliance.actions.validate import Surroundings
from appliance.errors import ConflictError, EngineLoadError
from appliance.install.supervisor import Supervisor, UnitState, engine_unit
from appliance.promote.people import require_id
from appliance.registry import catalog, stageloads
from appliance.registry.catalog import Version
from appliance.registry.memory import Room, room
from appliance.registry.stageloads import LOADED, UNLOADED, Load
from appliance.serve.client import EngineClient
from appliance.serve.readiness import wait_ready
from appliance.state import projection
from media.errors import SealiftError

STAGE: Final = "test"
# What callers of production may reach was approved; developers get what passed every gate.
_MAY_BE_TRIED: Final = ("validated", "canary", "production")
_MIB: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFacts:
    """One version in the test stage.

    Attributes:
        version: Which.
        load: As the ledger has it; None where nothing is recorded, as in a dry run.
        engine: What the supervisor says of its engine.
    """

    version: Version
    load: Load | None
    engine: UnitState

    @property
    def runs(self) -> bool:
        """Whether its engine answers."""
        return self.engine is UnitState.ACTIVE

    def to_json(self) -> dict[str, Any]:
        """Return the fields for answers."""
        known = {"model_digest": self.version.model_digest, "name": self.version.name, "version": self.version.version}
        loaded = {} if self.load is None else self.load.to_json()
        return {**known, "person": None, "at": None, "sequence": None, **loaded, "engine": str(self.engine)}


def loaded(state: Engine, supervisor: Supervisor) -> tuple[StageFacts, ...]:
    """Return what is loaded, the newest first.

    Raises:
        UnitError: No supervisor answers.
    """
    with state.connect() as session:
        known = {one.model_digest: one for one in catalog.versions(session)}
        found = [(known[one.model_digest], one) for one in stageloads.loads(session) if one.model_digest in known]
    return tuple(
        StageFacts(version=version, load=load, engine=supervisor.state(engine_unit(STAGE, version.model_digest)))
        for version, load in found
    )


def load(
    here: Surroundings, which: str, *, person: str, memory: Room | None = None, dry_run: bool = False
) -> StageFacts:
    """Start a version in the test stage, for holders of test keys; what is loaded already is started if it is down.

    Args:
        here: What the action works with.
        which: A digest, the beginning of one, a name, or NAME:VERSION.
        person: Who asks, by id.
        memory: What the machine has; asked of the kernel when not given.
        dry_run: Only check.

    Raises:
        UnknownVersionError: There is no such version.
        ConflictError: It did not pass every gate, or its gates run now.
        EngineLoadError: Memory is known not to hold it beside what is loaded.
        UnitError: Its engine did not start; nothing is recorded as loaded then.
        LedgerUnavailableError: It could not be recorded; nothing was started.
    """
    asker = require_id(person)
    facts = versions.show(here.state, which)
    version, unit = facts.version, engine_unit(STAGE, facts.version.model_digest)
    if facts.stage not in _MAY_BE_TRIED:
        raise ConflictError(
            what=f"{version.name} {version.version} is not loaded in the test stage",
            why=f"it is {facts.stage}: not every gate of the policy has passed",
            fix=f"run `sealift validate {version.model_digest[:12]}` first",
        )
    before = _recorded(here.state, version)
    engine = here.supervisor.state(unit)
    if before is None and engine not in {UnitState.INACTIVE, UnitState.FAILED}:
        raise ConflictError(
            what=f"{version.name} {version.version} is not loaded in the test stage",
            why=f"its engine is {engine} there for another reason, most likely its gates",
            fix="wait until they have ended",
        )
    require_room(held_beside(here.config, here.ledger, here.state, version), memory or room(), version)
    if dry_run:
        return StageFacts(version=version, load=before, engine=engine)
    if before is None:
        newest = max(facts.gates, key=lambda gate: gate.sequence)
        _record(here, LOADED, version, asker, evidence_digest=newest.evidence_digest)
    try:
        _start(here, version, unit)
    except SealiftError:
        if before is None:
            with suppress(SealiftError):  # what failed is told; that it stays recorded is seen by `sealift status`
                _record(here, UNLOADED, version, asker)
                here.supervisor.stop(unit)
        raise
    return StageFacts(version=version, load=_recorded(here.state, version), engine=here.supervisor.state(unit))


def unload(here: Surroundings, which: str, *, person: str) -> StageFacts:
    """Take a version away from the test stage; callers are refused from the record on, then its engine is stopped.

    Args:
        here: What the action works with.
        which: As for `load`.
        person: Who asks, by id.

    Raises:
        UnknownVersionError: There is no such version.
        ConflictError: It is not loaded.
        LedgerUnavailableError: It could not be recorded; it is still loaded.
        UnitError: Its engine did not stop; nobody is routed to it any more.
    """
    asker = require_id(person)
    with here.state.connect() as session:
        version = catalog.version(session, which)
    unit, before = engine_unit(STAGE, version.model_digest), _recorded(here.state, version)
    if before is None:
        raise ConflictError(
            what=f"{version.name} {version.version} is not loaded in the test stage",
            why="nobody loaded it, or somebody took it away",
            fix="see `sealift stage show`",
        )
    _record(here, UNLOADED, version, asker)
    here.supervisor.stop(unit)
    return StageFacts(version=version, load=None, engine=here.supervisor.state(unit))


def require_room(held: Held, memory: Room, version: Version) -> None:
    """Return unless it is known that memory does not hold a version beside what is loaded.

    Raises:
        EngineLoadError: It does not.
    """
    if held.total > memory.engines:
        raise EngineLoadError(
            what=f"{version.name} {version.version} does not fit beside what is loaded",
            why=f"together they take {-(-held.total // _MIB)} MiB at most, and engines may take "
            f"{memory.engines // _MIB} MiB; loaded: {', '.join(held.names) or 'nothing'}",
            fix="take another version away (`sealift stage unload`), or wait until a canary has ended",
        )


def _start(here: Surroundings, version: Version, unit: str) -> None:
    here.supervisor.start(unit)
    path = here.config.at.engine_socket(STAGE, version.model_digest)
    if path.exists() and not os.access(path, os.W_OK):
        return  # an operator may have it started and may not speak to it; the supervisor says that it is ready
    with EngineClient(path) as engine:
        wait_ready(
            engine,
            model_digest=version.model_digest,
            stage=STAGE,
            seconds=here.config.engine.start_seconds,
            clock=here.clock,
            sleep=here.sleep,
        )


def _record(here: Surroundings, kind: str, version: Version, person: str, **more: str) -> None:
    here.ledger.append(kind, {"model_digest": version.model_digest, "person": person, **more})
    projection.catch_up(here.state, here.ledger)


def _recorded(state: Engine, version: Version) -> Load | None:
    with state.connect() as session:
        return next((one for one in stageloads.loads(session) if one.model_digest == version.model_digest), None)
