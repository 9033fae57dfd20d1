"""Windows and settling where production has two lines: one rests and comes back, the other knows nothing of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from appliance.actions import window
from appliance.actions.production import settle
from appliance.registry import windows
from appliance.registry.descriptor import ModelDescriptor
from appliance.registry.windows import Asked, Purpose
from tests.support import lines
from tests.support.floor import Floor, open_floor
from tests.support.signatories import signatories
from tests.unit.appliance.actions.test_lines import requested, unit_of

ANA, *_ = signatories()


class Two:
    """Line 1 serves a chat model, a further one a model for classes, which has a successor."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.first = floor.bring("first")
        floor.serve(self.first)
        self.other, self.new = (floor.bring(text, name="classes") for text in ("classes", "anew"))
        self.number = lines.open_line(floor.site, requested(floor, self.other))
        settle(floor.here)
        floor.supervisor.asked.clear()

    @property
    def closed(self) -> dict[str, Any]:
        (found,) = self.floor.site.ledger.find(kind=windows.CLOSED)
        return dict(found.body)


@pytest.fixture
def two() -> Iterator[Two]:
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
