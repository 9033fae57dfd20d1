"""Versions that developers try: which may be loaded, what is recorded before what, and what stays when a step fails."""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from appliance.actions.fit import Holds, fit, held_beside
from appliance.actions.teststage import load, loaded, unload
from appliance.audit.memory import MemoryLedger
from appliance.errors import (
    ConflictError,
    EngineLoadError,
    LedgerUnavailableError,
    UnitError,
    UnknownVersionError,
)
from appliance.install.supervisor import UnitState, engine_unit
from appliance.promote.policy import packaged
from appliance.registry import catalog, stageloads
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.memory import Need, Room
from appliance.state import projection
from media.errors import SealiftError
from tests.support.floor import Floor, open_floor

GIB = 2**30
ROOMY = Room(total=64 * GIB, available=64 * GIB)


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


def validated(floor: Floor, weights: str = "weights", *, but: str = "", **changes: Any) -> ModelDescriptor:
    """Bring a version whose gates passed, all but one."""
    descriptor = floor.bring(weights, **changes)
    for gate in packaged().gates:
        result = {
            "model_digest": descriptor.model_digest,
            "gate": gate,
            "passed": gate != but,
            "evidence_digest": "e" * 64,
            "figures": {},
        }
        floor.site.ledger.append("gate.result", result)
    projection.catch_up(floor.state, floor.site.ledger)
    return descriptor


def kinds(floor: Floor) -> list[str]:
    return [one.kind for one in floor.site.ledger.find(kind="stage.", limit=50, newest_first=False)]


def unit_of(descriptor: ModelDescriptor) -> str:
    return engine_unit("test", descriptor.model_digest)


def test_a_validated_version_is_recorded_then_started_and_taken_away_again(floor: Floor) -> None:
    descriptor = validated(floor)

    found = load(floor.bench, descriptor.model_digest, person="iris", memory=ROOMY)

    assert found.runs
    assert found.load is not None
    assert (found.load.person, kinds(floor)) == ("iris", ["stage.loaded"])
    assert [one.to_json()["engine"] for one in loaded(floor.state, floor.supervisor)] == ["active"]
    gone = unload(floor.bench, descriptor.model_digest[:12], person="omar")
    assert (gone.load, gone.engine, kinds(floor)) == (None, UnitState.INACTIVE, ["stage.loaded", "stage.unloaded"])
    assert loaded(floor.state, floor.supervisor) == ()
    with pytest.raises(ConflictError, match="is not loaded"):
        unload(floor.bench, descriptor.model_digest, person="omar")


@pytest.mark.parametrize("but", ["integrity", "privacy", "all"])
def test_a_version_that_did_not_pass_every_gate_is_not_lent(floor: Floor, but: str) -> None:
    descriptor = floor.bring() if but == "all" else validated(floor, but=but)

    with pytest.raises(ConflictError):
        load(floor.bench, descriptor.model_digest, person="iris", memory=ROOMY)

    assert (kinds(floor), floor.supervisor.asked) == ([], [])


def test_a_dry_run_records_and_starts_nothing(floor: Floor) -> None:
    descriptor = validated(floor)

    found = load(floor.bench, descriptor.model_digest, person="iris", memory=ROOMY, dry_run=True)

    assert (found.load, found.engine, kinds(floor), floor.supervisor.asked) == (None, UnitState.INACTIVE, [], [])


def test_names_and_people_that_are_none_are_refused_before_anything_happens(floor: Floor) -> None:
    descriptor = validated(floor)
    with pytest.raises(UnknownVersionError):
        load(floor.bench, "nothing", person="iris", memory=ROOMY)
    for person in ("", "Iris Mora", "a\nb", "x" * 200):
        with pytest.raises(SealiftError):
            load(floor.bench, descriptor.model_digest, person=person, memory=ROOMY)
    assert kinds(floor) == []


def test_an_engine_that_does_not_start_leaves_nothing_loaded(floor: Floor) -> None:
    descriptor = validated(floor)
    floor.supervisor.broken = frozenset({unit_of(descriptor)})

    with pytest.raises(UnitError):
        load(floor.bench, descriptor.model_digest, person="iris", memory=ROOMY)

    assert kinds(floor) == ["stage.loaded", "stage.unloaded"]
    assert loaded(floor.state, floor.supervisor) == ()


def test_without_a_record_nothing_is_started(floor: Floor) -> None:
    descriptor, down = validated(floor), MemoryLedger()
    down.available = False

    with pytest.raises(LedgerUnavailableError):
        load(replace(floor.bench, ledger=down), descriptor.model_digest, person="iris", memory=ROOMY)

    assert floor.supervisor.asked == []


def test_after_a_boot_it_is_told_to_be_down_and_the_same_command_starts_it_without_another_record(
    floor: Floor,
) -> None:
    descriptor = validated(floor)
    load(floor.bench, descriptor.model_digest, person="iris", memory=ROOMY)
    floor.supervisor.stop(unit_of(descriptor))
    assert [one.runs for one in loaded(floor.state, floor.supervisor)] == [False]

    again = load(floor.bench, descriptor.model_digest, person="omar", memory=ROOMY)

    assert again.runs
    assert again.load is not None
    assert (again.load.person, kinds(floor)) == ("iris", ["stage.loaded"])


def test_a_version_whose_gates_run_is_not_lent_and_a_lent_one_is_not_validated(floor: Floor) -> None:
    descriptor = validated(floor)
    floor.supervisor.start(unit_of(descriptor))
    with pytest.raises(ConflictError, match="is not loaded"):
        load(floor.bench, descriptor.model_digest, person="iris", memory=ROOMY)
    floor.supervisor.stop(unit_of(descriptor))
    load(floor.bench, descriptor.model_digest, person="iris", memory=ROOMY)
    asked = list(floor.supervisor.asked)

    with pytest.raises(ConflictError, match="is in use in the test stage"):
        floor.validate(descriptor)

    assert floor.supervisor.asked == asked
    assert loaded(floor.state, floor.supervisor)[0].runs


def test_what_memory_does_not_hold_beside_what_is_loaded_is_refused_with_names(floor: Floor) -> None:
    first, second = validated(floor, "a", name="first"), validated(floor, "b", name="second")
    load(floor.bench, first.model_digest, person="iris", memory=ROOMY)
    with floor.state.connect() as session:
        version = catalog.version(session, second.model_digest)
    held = held_beside(floor.site.config, floor.site.ledger, floor.state, version)
    assert (held.names, held.total > 0) == (("first 1",), True)
    tight = Room(total=held.total, available=held.total)  # engines may have a part of it only

    with pytest.raises(EngineLoadError) as refused:
        load(floor.bench, second.model_digest, person="iris", memory=tight)

    assert "first 1" in refused.value.why
    assert kinds(floor) == ["stage.loaded"]


def test_what_fits_counts_what_the_test_stage_holds(floor: Floor) -> None:
    ledger = floor.site.ledger
    descriptors = [validated(floor, name, name=name) for name in ("serves", "new", "lent")]
    with floor.state.connect() as session:
        bodies = [catalog.version(session, one.model_digest) for one in descriptors]
    for one in bodies:
        need = Need(weights=3 * GIB, cache=0, compute=0, process=0).to_json()
        body = {"model_digest": one.model_digest, "name": one.name, "version": one.version}
        more = {"weights_digest": one.weights_digest, "serial": one.serial, "descriptor": one.descriptor}
        ledger.append("model.registered", {**body, **more, "memory": need})
    made: dict[str, Any] = {"model_digest": bodies[0].model_digest, "previous": None, "approvals": []}
    ledger.append("promotion.made", made)
    projection.catch_up(floor.state, ledger)
    room = Room(total=10 * GIB, available=10 * GIB)
    before = fit(floor.site.config, ledger, floor.state, bodies[1].model_digest, room=room)

    load(floor.bench, bodies[2].model_digest, person="iris", memory=ROOMY)
    after = fit(floor.site.config, ledger, floor.state, bodies[1].model_digest, room=room)

    assert (before.holds, after.holds) == (Holds.TWO, Holds.ONE)
    assert after.to_json()["test_stage"] == {"bytes": 3 * GIB, "versions": ["lent 1"]}
    assert "The test stage holds 3072 MiB: lent 1." in after.plan


def test_whatever_is_asked_in_whatever_order_the_record_and_the_engines_agree(floor: Floor) -> None:
    draw, versions = random.Random(5), [validated(floor, name, name=name) for name in ("a", "b")]
    for _ in range(40):
        one = draw.choice(versions)
        floor.supervisor.broken = frozenset({unit_of(one)} if draw.random() < 0.3 else ())
        try:
            if draw.random() < 0.6:
                load(floor.bench, one.model_digest, person="iris", memory=ROOMY)
            else:
                unload(floor.bench, one.model_digest, person="iris")
        except (ConflictError, UnitError):
            pass
        lent = {facts.version.model_digest for facts in loaded(floor.state, floor.supervisor)}
        for version in versions:
            runs = floor.supervisor.state(unit_of(version)) is UnitState.ACTIVE
            assert not runs or version.model_digest in lent
    assert {stageloads.LOADED, stageloads.UNLOADED} == set(kinds(floor))
