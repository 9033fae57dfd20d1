"""What the gateway reads from `state.db`: promotions and keys, fresh within a second, and a state that is not there."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from appliance.audit.memory import MemoryLedger
from appliance.config import Places
from appliance.errors import StoreDamagedError
from appliance.gateway.auth import StateApiKeys
from appliance.gateway.routing import StateRoutes
from appliance.phi.policy import PhiMode
from appliance.state.database import FILE_NAME, open_state
from media.clock import FixedClock, to_text
from media.vllmprofile import VllmSettings
from tests.support.gateway import production_of, site_file
from tests.support.ledger import DIGEST_A, DIGEST_B, bodies, tell_all


@dataclass(slots=True)
class State:
    places: Places
    clock: FixedClock
    ledger: MemoryLedger
    engine: Engine

    def happen(self, kind: str, **changes: Any) -> None:
        self.ledger.append(kind, bodies()[kind] | changes)
        tell_all(self.engine, self.ledger)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.interop)])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    clock = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
    places = site_file(tmp_path).at
    if request.param == "postgresql":
        places = replace(places, server=request.getfixturevalue("on_server").server)
    found = State(places, clock, MemoryLedger(clock), open_state(places))
    found.happen("release.received")
    found.happen("model.registered")
    yield found
    found.engine.dispose()


def test_nothing_is_served_before_a_promotion(state: State) -> None:
    assert production_of(StateRoutes(state.places, state.clock)) is None


def test_the_newest_promotion_is_served(state: State) -> None:
    state.happen("promotion.made")

    route = production_of(StateRoutes(state.places, state.clock))

    assert route is not None
    assert (route.name, route.version, route.model_digest) == ("smol", "1", DIGEST_A)
    assert (route.serial, route.release) == (7, "2026.11")
    assert route.socket == state.places.socket("engine-production-aaaaaaaaaaaa")
    assert route.created == int(state.clock.now().timestamp())
    assert (route.temperature, route.top_p, route.has_tools) == (0.2, 1.0, False)
    assert route.answers_to("smol")
    assert route.answers_to("production")
    assert not route.answers_to("previous")


def test_defaults_are_those_of_the_descriptor(state: State) -> None:
    descriptor = {
        "engine": "vllm",
        "runtime": {"n_seq_max": 24, "defaults": {"temperature": "0.35", "top_p": "0.95", "max_tokens": 256}},
    }
    state.happen("model.registered", model_digest=DIGEST_B, descriptor=descriptor)
    state.happen("promotion.made", model_digest=DIGEST_B)

    route = production_of(StateRoutes(state.places, state.clock))

    assert route is not None
    assert (route.temperature, route.top_p, route.max_tokens) == (0.35, 0.95, 256)
    assert route.places == 24


@pytest.mark.parametrize(
    ("engine", "runtime", "expected"),
    [
        ("llama.cpp", {}, True),
        ("vllm", {}, False),
        ("vllm", {"vllm": VllmSettings().to_json()}, False),
        ("vllm", {"vllm": VllmSettings(tool_call_parser="hermes").to_json()}, True),
        ("attached", {}, False),
    ],
)
def test_functions_are_promised_of_llama_cpp_and_of_vllm_with_a_reader_of_calls(
    state: State, engine: str, runtime: dict[str, Any], *, expected: bool
) -> None:
    state.happen("model.registered", model_digest=DIGEST_B, descriptor={"engine": engine, "runtime": runtime})
    state.happen("promotion.made", model_digest=DIGEST_B)

    route = production_of(StateRoutes(state.places, state.clock))

    assert route is not None
    assert (route.engine, route.has_tools) == (engine, expected)


def test_without_defaults_of_its_own_a_version_has_the_documents(state: State) -> None:
    state.happen("model.registered", model_digest=DIGEST_B, descriptor={"engine": "llama.cpp"})
    state.happen("promotion.made", model_digest=DIGEST_B)

    route = production_of(StateRoutes(state.places, state.clock))

    assert route is not None
    assert (route.temperature, route.top_p, route.max_tokens) == (0.7, 1.0, 0)


def test_a_stop_and_a_rollback_are_seen_within_a_second(state: State) -> None:
    state.happen("promotion.made")
    routes = StateRoutes(state.places, state.clock)
    assert production_of(routes) is not None

    state.happen("promotion.stopped")
    assert production_of(routes) is not None
    state.clock.advance(1.1)
    assert production_of(routes) is None
    state.happen("promotion.rolled-back")
    state.clock.advance(1.1)
    assert production_of(routes) is not None


def test_a_promotion_of_an_unregistered_version_serves_nothing(state: State) -> None:
    state.happen("promotion.made", model_digest="f" * 64)

    assert production_of(StateRoutes(state.places, state.clock)) is None


def test_without_a_state_there_is_no_route_and_no_key(tmp_path: Path) -> None:
    places, clock = site_file(tmp_path).at, FixedClock(datetime(2026, 11, 20, tzinfo=UTC))

    assert production_of(StateRoutes(places, clock)) is None
    assert StateApiKeys(places, clock).lookup("abcdefghij") is None
    assert not StateApiKeys(places, clock).is_ended("abcdefghij")


@pytest.mark.parametrize("state", ["sqlite"], indirect=True)
def test_a_damaged_state_is_not_mistaken_for_an_empty_one(state: State) -> None:
    routes, keys = StateRoutes(state.places, state.clock), StateApiKeys(state.places, state.clock)
    (state.places.registry / FILE_NAME).write_bytes(b"not a database, but long enough to be read as one" * 100)

    with pytest.raises(StoreDamagedError):
        production_of(routes)
    with pytest.raises(StoreDamagedError):
        keys.lookup("abcdefghij")


def test_a_key_is_found_as_soon_as_it_is_there_and_gone_soon_after_its_end(state: State) -> None:
    keys = StateApiKeys(state.places, state.clock)
    assert keys.lookup("abcdefghij") is None

    state.happen("key.created")
    found = keys.lookup("abcdefghij")
    assert found is not None
    assert (found.department, found.phi_mode, found.tier) == ("radiology", PhiMode.TOKENISE, "basic")
    state.happen("key.revoked")
    assert keys.lookup("abcdefghij") is found
    state.clock.advance(1.1)
    assert keys.lookup("abcdefghij") is None


@pytest.mark.parametrize("stage", ["test", "future"])
def test_a_key_that_is_not_for_production_is_no_key_here(state: State, stage: str) -> None:
    state.happen("key.created", stage=stage)

    assert StateApiKeys(state.places, state.clock).lookup("abcdefghij") is None


def test_a_key_works_until_its_end(state: State) -> None:
    keys = StateApiKeys(state.places, state.clock)
    ends = to_text(state.clock.now() + timedelta(days=30))
    state.happen("key.created", expires_at=ends)

    assert keys.lookup("abcdefghij") is not None
    state.clock.advance(30 * 86_400 - 2)
    assert keys.lookup("abcdefghij") is not None
    state.clock.advance(2)
    assert keys.lookup("abcdefghij") is None


def test_a_key_that_is_not_there_yet_has_not_ended(state: State) -> None:
    keys = StateApiKeys(state.places, state.clock)
    assert not keys.is_ended("abcdefghij")

    state.happen("key.created", expires_at=to_text(state.clock.now() + timedelta(days=30)))
    assert not keys.is_ended("abcdefghij")
    state.clock.advance(30 * 86_400)
    assert keys.is_ended("abcdefghij")


def test_a_revoked_key_has_ended_at_once(state: State) -> None:
    keys = StateApiKeys(state.places, state.clock)
    state.happen("key.created")
    state.happen("key.revoked")

    assert keys.is_ended("abcdefghij")


def test_a_phi_mode_that_is_not_known_is_the_strictest(state: State) -> None:
    state.happen("key.created", phi_mode="future")

    found = StateApiKeys(state.places, state.clock).lookup("abcdefghij")

    assert found is not None
    assert found.phi_mode is PhiMode.BLOCK
