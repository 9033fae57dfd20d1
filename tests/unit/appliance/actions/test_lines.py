"""Engines follow every line of production, and a fault in one keeps nothing from another."""

from collections.abc import Iterator
from typing import Any

import pytest

from appliance.actions.production import settle
from appliance.actions.promote import Step, WithdrawnFacts, promote, withdraw
from appliance.enginesections import EnginesSection, ProductionEngines
from appliance.errors import ApprovalRefusedError, ConflictError, JobRefusedError, NotPromotedError, UnitError
from appliance.install.supervisor import engine_unit
from appliance.promote.destination import Said
from appliance.promote.promoter import Request
from appliance.promote.record import Kind
from appliance.registry.descriptor import ModelDescriptor
from appliance.state import projection
from tests.support import lines
from tests.support.floor import Floor, open_floor
from tests.support.signatories import signatories
from tests.support.supervisor import FakeSupervisor
from tests.unit.appliance.install.test_jobdesk import ask, desk_of, ended

pytestmark = pytest.mark.slow

ANA, BEN, *_ = signatories()


@pytest.fixture
def first(floor: Floor) -> ModelDescriptor:
    """What line 1 serves."""
    descriptor = floor.bring("first")
    floor.serve(descriptor)
    return descriptor


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


def requested(floor: Floor, descriptor: ModelDescriptor, **said: Any) -> Request:
    floor.validate(descriptor).require_passed()
    facts = promote(floor.here, descriptor.model_digest, person=ANA.id, said=Said(**said))
    assert facts.request is not None
    return facts.request


def beside(floor: Floor) -> tuple[int, ModelDescriptor]:
    """Open a line; its engine is not started yet."""
    descriptor = floor.bring("classes")
    return lines.open_line(floor.site, requested(floor, descriptor)), descriptor


def unit_of(descriptor: ModelDescriptor, which: str = "") -> str:
    return engine_unit("production", descriptor.model_digest, which)


def is_told(floor: Floor) -> bool:
    with floor.state.connect() as connection:
        return projection.applied_sequence(connection) == floor.site.ledger.head().size - 1


def test_every_line_gets_its_engine_and_only_what_a_stop_withdrew_ends(floor: Floor, first: ModelDescriptor) -> None:
    number, other = beside(floor)
    served = settle(floor.here)

    assert served.started == (unit_of(other),)
    assert served.standing is not None
    assert served.standing.model_digest == first.model_digest
    assert floor.running() == {unit_of(first), unit_of(other)}
    lines.stop_line(floor.site, 1)
    served = settle(floor.here)
    assert (served.standing, served.stopped, floor.running()) == (None, (unit_of(first),), {unit_of(other)})
    lines.stop_line(floor.site, number)
    assert settle(floor.here).stopped == (unit_of(other),)
    assert floor.running() == set()


def test_further_engines_are_line_1_s(floor: Floor, first: ModelDescriptor) -> None:
    engines = EnginesSection(production=ProductionEngines(count=2))
    floor.site.config = floor.site.config.model_copy(update={"engines": engines})
    _, other = beside(floor)
    settle(floor.here)
    assert floor.running() == {unit_of(first), unit_of(first, "2"), unit_of(other)}

    lines.stop_line(floor.site, 1)
    settle(floor.here)
    assert floor.running() == {unit_of(other)}


def test_an_engine_of_another_line_that_is_down_keeps_nothing_back_and_is_told(
    floor: Floor, first: ModelDescriptor
) -> None:
    _, other = beside(floor)
    settle(floor.here)
    floor.supervisor.stop(unit_of(other))
    floor.supervisor.broken = frozenset({unit_of(other)})
    second = floor.bring("second")
    floor.site.approve(requested(floor, second), ANA, BEN)

    with pytest.raises(UnitError):
        promote(floor.here, second.model_digest, person="")
    assert is_told(floor)
    assert floor.running() == {unit_of(second)}


def test_who_asks_again_is_told_for_what_the_request_waits(floor: Floor, first: ModelDescriptor) -> None:
    other = floor.bring("classes", name="classes")
    floor.validate(other)
    promote(floor.here, other.model_digest, person=ANA.id, said=Said(replaces=first.name))

    waits = promote(floor.here, other.model_digest, person="")

    assert waits.step is Step.WAITING
    assert waits.goes.startswith(f"takes the place of {first.name}")


def test_where_requests_for_several_lines_wait_it_is_said_which_is_meant(floor: Floor, first: ModelDescriptor) -> None:
    other = floor.bring("classes", name="classes")
    floor.validate(other)
    in_its_place = promote(floor.here, other.model_digest, person=ANA.id, said=Said(replaces=first.name))
    beside = promote(floor.here, other.model_digest, person=ANA.id, said=Said(beside=True))
    assert in_its_place.request is not None
    assert beside.request is not None
    floor.site.approve(in_its_place.request, ANA, BEN)

    with pytest.raises(ConflictError) as refused:
        promote(floor.here, other.model_digest, person="")
    assert refused.value.why == (
        f"beside what is in production (0 of 2 have approved); in the place of {first.name} (2 of 2 have approved)"
    )
    assert floor.site.client.current()["model_digest"] == first.model_digest
    waits = promote(floor.here, other.model_digest, person="", said=Said(beside=True))
    assert (waits.step, waits.request) == (Step.WAITING, beside.request)
    served = promote(floor.here, other.model_digest, person="", said=Said(replaces=first.name))
    assert served.step is Step.SERVING


def test_the_request_that_is_said_is_withdrawn_and_no_other(floor: Floor, first: ModelDescriptor) -> None:
    other = floor.bring("classes", name="classes")
    floor.validate(other)
    for said in (Said(replaces=first.name), Said(beside=True)):
        promote(floor.here, other.model_digest, person=ANA.id, said=said)

    def back(**options: Any) -> WithdrawnFacts:
        return withdraw(floor.here, other.model_digest, person=BEN.id, reason="a mistake", **options)

    with pytest.raises(ConflictError):
        back()
    told = back(said=Said(beside=True), dry_run=True)
    assert len(floor.here.promoter.pending()) == 2
    done = back(said=Said(beside=True))

    assert done == told
    (left,) = floor.here.promoter.pending()
    assert Said.of(left.statement) == Said()
    back()
    with pytest.raises(ApprovalRefusedError):
        back()


def test_what_was_decided_about_a_line_waits_for_its_own_engine(floor: Floor, first: ModelDescriptor) -> None:
    floor.supervisor.broken = frozenset({unit_of(floor.bring("classes"))})
    beside(floor)
    projection.catch_up(floor.state, floor.site.ledger)
    before = floor.site.ledger.head().size
    second = floor.bring("second")
    floor.supervisor.broken = frozenset({unit_of(second)})
    floor.site.approve(requested(floor, second), ANA, BEN)

    with pytest.raises(UnitError):
        promote(floor.here, second.model_digest, person="")
    assert not is_told(floor)
    assert unit_of(first) in floor.running()
    assert floor.site.ledger.head().size > before


def test_a_stop_of_one_line_goes_through_though_a_version_of_another_never_started(
    floor: Floor, first: ModelDescriptor
) -> None:
    _, other = beside(floor)
    floor.supervisor.broken = frozenset({unit_of(other)})
    with pytest.raises(UnitError):
        settle(floor.here)
    assert not is_told(floor)

    lines.stop_line(floor.site, 1)
    with pytest.raises(UnitError):
        settle(floor.here)
    assert is_told(floor)
    assert floor.running() == set()


def test_no_line_is_settled_by_a_chain_that_nobody_signed(floor: Floor, first: ModelDescriptor) -> None:
    _, other = beside(floor)
    path = floor.site.folder.path / "promotions/000002.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"class":"openpgp"', b'"class":"openpgp"', 1)[:-1])

    with pytest.raises(NotPromotedError):
        settle(floor.here)
    assert unit_of(other) not in floor.running()


def test_the_job_service_switches_and_halts_what_the_chain_says_of_any_line(
    floor: Floor, first: ModelDescriptor
) -> None:
    number, other = beside(floor)
    settle(floor.here)
    desk = desk_of(floor.site, FakeSupervisor())

    def job(kind: str, descriptor: ModelDescriptor) -> None:
        asked = ask(desk, "jobs-operator", kind=f"{kind}-production", digest=descriptor.model_digest)
        ended(desk, asked["job"])

    job("switch", first)
    job("switch", other)
    with pytest.raises(JobRefusedError):
        job("halt", other)
    lines.stop_line(floor.site, number)
    with pytest.raises(JobRefusedError):
        job("halt", first)
    job("halt", other)
    with pytest.raises(NotPromotedError):
        job("switch", other)
    anew = floor.bring("classes anew")
    lines.bring(floor.site, requested(floor, anew), number)
    lines.record(floor.site, Kind.STOPPED, {"previous": first.model_digest, **lines.alone()})
    job("halt", first)
    job("halt", anew)
