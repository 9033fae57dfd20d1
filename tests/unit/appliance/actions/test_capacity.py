"""Measuring as an action: which engine, what is recorded, what stands beside it, and the picture."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from appliance.actions import capacity
from appliance.actions.capacity import CapacityFacts
from appliance.actions.capacity_plot import svg
from appliance.actions.validate import Surroundings
from appliance.cli.capacity import lines_of
from appliance.errors import ConflictError, EngineUnavailableError, UnknownVersionError
from appliance.install.supervisor import UnitState, engine_unit
from appliance.registry.descriptor import ModelDescriptor
from appliance.state import projection
from media.clock import SystemClock
from tests.support.engine import tokens
from tests.support.floor import Floor, open_floor
from tests.support.scripted_http import Reply

FIGURES: dict[str, Any] = {
    "format": 1,
    "note_tokens": 900,
    "answer_tokens": 250,
    "prefill_tokens_per_second": 400,
    "notes_per_hour": 120,
    "best_callers": 4,
    "left_out": [16],
    "levels": [
        {
            "callers": callers,
            "answer_tokens": 250,
            "tokens_per_second_millis": 9_500 * callers,
            "seconds_per_note_millis": 30_000,
            "first_token_millis": 2_300,
            "notes_per_hour": 30 * callers,
        }
        for callers in (1, 4)
    ],
}


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


def bench(floor: Floor) -> Surroundings:
    return replace(floor.bench, clock=SystemClock(), sleep=time.sleep)  # what is timed takes real time


def know(floor: Floor, descriptor: ModelDescriptor) -> None:
    def count(body: Mapping[str, Any]) -> Reply:
        return Reply(body={"tokens": len(tokens(body["messages"][0]["content"]))})

    def note(body: Mapping[str, Any]) -> Reply:
        event = b'data: {"choices": [{"delta": {"content": "word "}}]}\n\n'
        usage = b'data: {"choices": [], "usage": {"completion_tokens": 4}}\n\ndata: [DONE]\n\n'
        return Reply(pieces=(*[event] * 4, usage))

    floor.supervisor.know(descriptor, replies={"/sealift/v1/tokenize": count, "/v1/chat/completions": note})


def test_before_a_promotion_the_newest_version_is_measured_in_test_and_stopped_again(floor: Floor) -> None:
    descriptor = floor.bring()
    know(floor, descriptor)

    found = capacity.measure(bench(floor), seconds=30)

    assert (found.stage, found.model_digest) == ("test", descriptor.model_digest)
    assert floor.supervisor.state(engine_unit("test", descriptor.model_digest)) is UnitState.INACTIVE
    assert capacity.latest(floor.here.ledger) == found
    assert capacity.latest(floor.here.ledger, "ab" * 32) is None


def test_a_figure_of_another_machine_is_not_this_ones(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "machine", lambda: (8, 16_000))
    ledger = floor.here.ledger
    body = {"format": 1, "model_digest": "a" * 64, "model": "tiny 1", "stage": "test", "figures": FIGURES}

    for cores, memory in ((8, 15_700), (8, 64_000), (32, 16_000)):
        ledger.append(capacity.MEASURED, {**body, "cores": cores, "memory_mib": memory})

    found, newest = capacity.of_this_machine(ledger), capacity.latest(ledger)
    assert found is not None
    assert newest is not None
    assert (found.cores, found.memory_mib, found.is_of_this_machine) == (8, 15_700, True)
    assert (newest.cores, newest.is_of_this_machine) == (32, False)
    assert any("another machine than this one: 32 cores" in line for line in lines_of(newest))
    assert any("  this machine: 8 cores" in line for line in lines_of(found))


def test_what_developers_have_in_the_test_stage_is_not_measured_and_stopped_under_them(floor: Floor) -> None:
    descriptor = floor.bring()
    unit = engine_unit("test", descriptor.model_digest)
    floor.supervisor.start(unit)
    lent = {"model_digest": descriptor.model_digest, "person": "ana", "evidence_digest": "e" * 64}
    floor.site.ledger.append("stage.loaded", lent)
    projection.catch_up(floor.state, floor.site.ledger)

    with pytest.raises(ConflictError, match="is in use in the test stage"):
        capacity.measure(bench(floor), seconds=30)

    assert floor.supervisor.state(unit) is UnitState.ACTIVE


def test_what_is_in_production_is_measured_where_it_runs_and_goes_on(floor: Floor) -> None:
    descriptor = floor.bring()
    floor.serve(descriptor)
    unit = engine_unit("production", descriptor.model_digest)
    floor.supervisor.stop(unit)
    know(floor, descriptor)
    with pytest.raises(EngineUnavailableError, match="does not run"):
        capacity.measure(bench(floor), seconds=30)
    floor.supervisor.start(unit)

    found = capacity.measure(bench(floor), seconds=30)

    assert found.stage == "production"
    assert floor.supervisor.state(unit) is UnitState.ACTIVE


def test_with_nothing_to_measure_that_is_said(floor: Floor) -> None:
    with pytest.raises(UnknownVersionError, match="no version to measure"):
        capacity.measure(bench(floor))


@pytest.mark.parametrize(
    ("cores", "gibibytes", "reached"), [(2, 4, None), (8, 16, "B23"), (31, 64, "B23"), (32, 64, "B24"), (64, 8, None)]
)
def test_the_machine_is_compared_with_what_the_requirements_ask(
    cores: int, gibibytes: int, reached: str | None
) -> None:
    # A machine's memory is a little less than what was bought: the firmware keeps some.
    found = facts(cores=cores, memory_mib=int(gibibytes * 1024 * 0.97))

    assert found.to_json()["reached"] == reached


def test_lines_and_picture_say_the_same_and_no_name_breaks_the_picture() -> None:
    found = facts(model='tiny <"&> 1')

    picture = ET.fromstring(svg(found))  # noqa: S314 - made here
    text = " ".join(picture.itertext())

    assert 'tiny <"&> 1' in text
    for words in ("120 notes/h", "B23: up to 3", "B24: up to 10", "38.0"):
        assert words in text
    assert "16 at once  not measured" in "\n".join(lines_of(found))


def facts(**changes: Any) -> CapacityFacts:
    values: dict[str, Any] = {
        "model_digest": "ab" * 32,
        "model": "tiny 1",
        "stage": "test",
        "cores": 8,
        "memory_mib": 16384,
        "at": "2026-11-20T08:00:00Z",
        "figures": FIGURES,
    }
    return CapacityFacts(**values | changes)
