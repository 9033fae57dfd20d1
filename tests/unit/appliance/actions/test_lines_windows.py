"""Windows and settling where production has two lines: one rests and comes back, the other knows nothing of it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from appliance.actions import window
from appliance.actions.production import settle
from appliance.enginesections import EnginesSection, ProductionEngines
from appliance.errors import UnitError
from appliance.registry import windows
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.windows import Asked, Purpose
from tests.support import lines
from tests.support.floor import Floor, open_floor
from tests.support.signatories import signatories
from tests.unit.appliance.actions.test_lines import is_told, requested, unit_of

pytestmark = pytest.mark.slow

ANA, *_ = signatories()


class Two:
    """Line 1 serves a chat model, a further one a model for classes, which has a successor."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.first = floor.bring("first")
        floor.serve(self.first)
        self.other, self.new = (floor.bring(text, name="classes") for text in ("classes", "anew"))
        self.number = lines.open_line(floor.site, requested(floor, self.other, beside=True))
        settle(floor.here)
        floor.supervisor.asked.clear()

    @property
    def closed(self) -> dict[str, Any]:
        (found,) = self.floor.site.ledger.find(kind=windows.CLOSED)
        return dict(found.body)


@pytest.fixture(name="two")
def two_lines() -> Iterator[Two]:
    with open_floor() as opened:
        yield Two(opened)


def asked(descriptor: ModelDescriptor, purpose: Purpose = Purpose.VALIDATE) -> Asked:
    return Asked(purpose=purpose, model_digest=descriptor.model_digest, person=ANA.id, reason="change 4711")


def unexpected(_: object) -> Any:
    raise AssertionError


def test_gates_in_a_window_of_this_process_rest_the_line_of_that_name(two: Two) -> None:
    floor = two.floor
    seen: list[set[str]] = []

    window.validate(
        floor.here, floor.bench, asked(two.new), report=unexpected, progress=lambda *_: seen.append(floor.running())
    )

    assert all(unit_of(two.first) in running and unit_of(two.other) not in running for running in seen)
    assert seen
    assert floor.running() == {unit_of(two.first), unit_of(two.other)}
    assert [verb for verb, unit in floor.supervisor.asked if unit == unit_of(two.first)] == []
    assert (two.closed["line"], two.closed["previous"]) == (two.number, two.other.model_digest)


def test_a_window_that_was_killed_after_its_version_went_forward_says_so_whichever_line_it_is(two: Two) -> None:
    floor = two.floor
    request = requested(floor, two.new)
    windows.open_now(
        floor.site.ledger,
        floor.site.clock,
        asked(two.new, Purpose.CUT_OVER),
        previous=two.other.model_digest,
        line=two.number,
    )
    floor.supervisor.rest(unit_of(two.other))
    lines.bring(floor.site, request, two.number)

    window.end(floor.here, ANA.id)

    assert floor.running() == {unit_of(two.first), unit_of(two.new)}
    assert (two.closed["cut_over"], two.closed["why"]) == (True, "ended")


def test_a_line_comes_back_though_an_engine_of_another_is_down_which_is_told(two: Two) -> None:
    floor, told = two.floor, list[str]()
    for one in (two.first, two.other):
        floor.supervisor.stop(unit_of(one))
    floor.supervisor.broken = frozenset({unit_of(two.first)})

    settle(replace(floor.here, tell=told.append), line=two.number)

    assert floor.running() == {unit_of(two.other)}
    assert any(unit_of(two.first) in text and "its line alone" in text for text in told)
    with pytest.raises(UnitError):
        settle(floor.here, line=1)
    with pytest.raises(UnitError):
        settle(floor.here)


def test_a_line_whose_first_engine_never_started_keeps_no_other_line_down(two: Two) -> None:
    floor = two.floor
    third, fourth = (floor.bring(text, name=text) for text in ("third", "fourth"))
    floor.supervisor.broken = frozenset({unit_of(third)})
    requests = [requested(floor, one, beside=True) for one in (third, fourth)]
    *_, number = (lines.open_line(floor.site, one) for one in requests)
    floor.supervisor.stop(unit_of(two.other))

    with pytest.raises(UnitError):
        settle(floor.here, line=number)

    assert floor.running() == {unit_of(two.first), unit_of(two.other), unit_of(fourth)}
    assert not is_told(floor)  # what nobody can answer is not told to callers


def test_what_is_decided_about_a_line_takes_effect_while_another_rests(two: Two) -> None:
    floor = two.floor
    engines = EnginesSection(production=ProductionEngines(count=2))
    floor.site.config = floor.site.config.model_copy(update={"engines": engines})
    floor.supervisor.rest(unit_of(two.first))
    lines.bring(floor.site, requested(floor, two.new), two.number)

    settle(floor.here, rests=1)
    assert (floor.running(), is_told(floor)) == ({unit_of(two.new)}, True)
    lines.stop_line(floor.site, two.number)
    settle(floor.here, rests=1)
    assert (floor.running(), is_told(floor)) == (set(), True)

    settle(floor.here, line=1)
    assert floor.running() == {unit_of(two.first), unit_of(two.first, "2")}
