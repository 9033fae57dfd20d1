"""An engine that loaded other weights than were approved answers nobody, in production as in the test stage."""

from collections.abc import Iterator

import pytest

from appliance.actions.production import settle
from appliance.actions.trying import try_out
from appliance.errors import EngineLoadError
from appliance.install.supervisor import UnitState, engine_unit
from appliance.registry.descriptor import ModelDescriptor
from tests.support.floor import Floor, open_floor
from tests.support.scripted_http import Reply

OTHER = "f" * 64


@pytest.fixture
def floor() -> Iterator[Floor]:
    with open_floor() as opened:
        yield opened


def swap(floor: Floor, descriptor: ModelDescriptor, stage: str) -> str:
    """Let the engine of a stage say that it loaded other weights; return its unit."""
    unit, path = engine_unit(stage, descriptor.model_digest), "/sealift/v1/status"
    answer = floor.supervisor.versions[unit][path]
    assert isinstance(answer, Reply)
    assert isinstance(answer.body, dict)
    floor.supervisor.versions[unit][path] = Reply(body={**answer.body, "weights_digest": OTHER})
    return unit


def test_production_is_not_served_with_other_weights(floor: Floor) -> None:
    descriptor = floor.bring()
    swap(floor, descriptor, "production")

    with pytest.raises(EngineLoadError, match=r"the engine of .* loaded other weights") as refused:
        floor.serve(descriptor)

    assert refused.value.why == f"{OTHER[:12]}, and {descriptor.weights_digest[:12]} were approved"
    assert "sealift stop" in refused.value.fix
    assert floor.in_production() is None
    with pytest.raises(EngineLoadError):
        settle(floor.here)


def test_a_look_at_a_version_ends_where_its_engine_loaded_other_weights(floor: Floor) -> None:
    descriptor = floor.bring()
    unit = swap(floor, descriptor, "test")

    with pytest.raises(EngineLoadError, match=r"the test engine of .* loaded other weights") as refused:
        try_out(floor.here, descriptor.model_digest)

    assert refused.value.why == f"{OTHER[:12]}, and {descriptor.weights_digest[:12]} were approved"
    assert "sealift scrub" in refused.value.fix
    assert floor.supervisor.state(unit) is UnitState.INACTIVE
