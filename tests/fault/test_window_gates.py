"""Gates where memory holds one version: refused beside production, run in a window, and production comes back."""

from dataclasses import replace
from typing import Any

import pytest

from appliance.actions import teststage, window
from appliance.actions import validate as validation
from appliance.actions.fit import need_of
from appliance.errors import ConflictError, UnitError, UnknownPersonError
from appliance.registry import catalog, windows
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.memory import Room
from appliance.registry.windows import Asked, Purpose
from media.errors import UsageError
from tests.support.floor import Floor, open_floor, serving_floor
from tests.support.signatories import signatories

__all__ = ["serving_floor"]  # a fixture
pytestmark = pytest.mark.fault
ANA, BEN, *_ = signatories()


def unit(digest: str, stage: str = "production") -> str:
    return f"sealift-engine-{stage}@{digest[:12]}.service"


def asked(digest: str, person: str = ANA.id) -> Asked:
    return Asked(purpose=Purpose.VALIDATE, model_digest=digest, person=person, reason="change 4711")


def unexpected(outcome: Any) -> validation.ValidationReport:
    raise AssertionError(outcome)


@pytest.fixture
def new(floor: Floor) -> ModelDescriptor:
    return floor.bring("new")


def tight(floor: Floor, digest: str) -> Room:
    """Memory that holds one of the two and not both."""
    with floor.state.connect() as session:
        need = need_of(floor.site.config, floor.site.ledger, catalog.version(session, digest))
    assert need is not None
    return Room(total=int(need.total * 1.5 / 0.85), available=0)


def run(floor: Floor, digest: str, **changes: Any) -> validation.ValidationReport:
    return window.validate(
        floor.here, floor.bench, asked(digest, **changes), report=unexpected, progress=lambda *_: None
    )


def test_gates_beside_production_are_refused_where_memory_holds_one_with_the_command_to_type(
    floor: Floor, new: ModelDescriptor
) -> None:
    old, since = str(floor.in_production()), len(floor.supervisor.asked)
    narrow = replace(floor.bench, room=tight(floor, new.model_digest))

    for digest in (new.model_digest, old):  # the second copy of what serves has no room either
        with pytest.raises(ConflictError) as refused:
            validation.validate(narrow, digest)
        assert refused.value.fix == f"run `sealift validate {digest[:12]} --window --as PERSON --reason TEXT`"
    assert floor.supervisor.asked[since:] == []

    floor.supervisor.rest(unit(old))
    validation.validate(narrow, new.model_digest).require_passed()


def test_in_a_window_production_rests_and_is_back_after_the_gates(floor: Floor, new: ModelDescriptor) -> None:
    old, since = str(floor.in_production()), len(floor.supervisor.asked)

    run(floor, new.model_digest).require_passed()

    steps = floor.supervisor.asked[since:]
    assert (steps[0], steps[-1]) == (("rest", unit(old)), ("start", unit(old)))
    assert (floor.running(), windows.opened(floor.site.ledger)) == ({unit(old)}, None)
    (closed,) = floor.site.ledger.find(kind=windows.CLOSED)
    assert (closed.body["why"], closed.body["person"], closed.body["cut_over"]) == ("done", ANA.id, False)
    assert closed.body["silent_millis"] >= 0


def test_whoever_breaks_it_off_gets_production_back(floor: Floor, new: ModelDescriptor) -> None:
    old = str(floor.in_production())

    def interrupted(step: str, _done: int, _total: int) -> None:
        if step == "smoke":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        window.validate(floor.here, floor.bench, asked(new.model_digest), report=unexpected, progress=interrupted)

    assert (floor.running(), windows.opened(floor.site.ledger)) == ({unit(old)}, None)
    assert floor.site.ledger.find(kind=windows.CLOSED)[0].body["why"] == "failed"


def test_nothing_stops_for_nobody_twice_or_under_developers(floor: Floor, new: ModelDescriptor) -> None:
    since = len(floor.supervisor.asked)
    with pytest.raises(UnknownPersonError):
        run(floor, new.model_digest, person="nobody")
    other = windows.open_now(floor.site.ledger, floor.site.clock, asked(new.model_digest), previous=None)
    with pytest.raises(ConflictError, match="another maintenance window"):
        run(floor, new.model_digest)
    windows.close(floor.site.ledger, other, why=windows.Closing.ENDED)
    assert floor.supervisor.asked[since:] == []

    run(floor, new.model_digest).require_passed()
    teststage.load(floor.bench, new.model_digest, person=ANA.id, memory=Room(total=2**40, available=2**40))
    since = len(floor.supervisor.asked)
    with pytest.raises(ConflictError, match="is in use in the test stage"):
        run(floor, new.model_digest)
    assert floor.supervisor.asked[since:] == []


def test_one_that_was_cut_off_is_ended_by_a_person_once(floor: Floor, new: ModelDescriptor) -> None:
    old = str(floor.in_production())
    windows.open_now(floor.site.ledger, floor.site.clock, asked(new.model_digest), previous=old)
    floor.supervisor.rest(unit(old))
    floor.supervisor.start(unit(new.model_digest, "test"))  # the process was killed here

    window.end(floor.here, BEN.id)

    assert (floor.running(), windows.opened(floor.site.ledger)) == ({unit(old)}, None)
    with pytest.raises(ConflictError, match="no maintenance window"):
        window.end(floor.here, BEN.id)


def test_where_production_does_not_start_again_that_is_said_and_the_window_stays_open(
    floor: Floor, new: ModelDescriptor
) -> None:
    floor.supervisor.versions.pop(unit(str(floor.in_production())))

    with pytest.raises(UnitError):
        run(floor, new.model_digest)

    assert windows.opened(floor.site.ledger) is not None


def test_without_anything_in_production_no_window_is_needed() -> None:
    with open_floor() as floor:
        brought = floor.bring("new")
        with pytest.raises(UsageError, match="no window is needed"):
            run(floor, brought.model_digest)
