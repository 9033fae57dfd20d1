"""The stage of a gateway: whose keys it takes by their form, which versions it names, how the site file reads there."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from appliance.audit.memory import MemoryLedger
from appliance.config import Config, Places, StagedConfig
from appliance.gateway.arms import Arm, Assigned, Caller, choose, choose_for_vectors
from appliance.gateway.auth import ApiKey, StateApiKeys, authenticate
from appliance.gateway.problems import Problem
from appliance.gateway.routing import require_route, require_serving
from appliance.gateway.stageroutes import StageRoutes
from appliance.keys.files import FileKeys, create_missing
from appliance.keys.stages import keys_of
from appliance.phi.policy import PhiMode
from appliance.stages import Stage
from appliance.state.database import open_state
from appliance.state.projection import catch_up
from media.clock import FixedClock
from tests.support.gateway import key_text, site_file
from tests.support.ledger import DIGEST_A, DIGEST_B, bodies
from tests.support.stage_server import developer_key

TEST_KEY = developer_key("abcdefgh23")


class Known:
    """One key of one stage, hashed under that stage's pepper."""

    def __init__(self, keys: FileKeys, stage: Stage) -> None:
        self.text = TEST_KEY if stage is Stage.TEST else key_text()
        self.secret = keys_of(stage, keys).hmac("api-key-pepper", self.text.encode()).hex()
        self.asked: list[str] = []

    def lookup(self, key_id: str) -> ApiKey | None:
        self.asked.append(key_id)
        more: dict[str, Any] = {"department": "radiology", "phi_mode": PhiMode.TOKENISE, "tier": "basic"}
        return ApiKey(key_id=key_id, secret_hmac=self.secret, key_version=1, **more)

    def is_ended(self, key_id: str) -> bool:
        del key_id
        return False


@pytest.fixture
def keys(tmp_path: Path) -> FileKeys:
    create_missing(tmp_path / "keys")
    return FileKeys(tmp_path / "keys")


@pytest.mark.parametrize("stage", Stage)
def test_a_stage_takes_its_own_keys_and_refuses_the_others_without_looking_them_up(
    keys: FileKeys, stage: Stage
) -> None:
    known = Known(keys, stage)
    other = key_text() if stage is Stage.TEST else TEST_KEY

    assert authenticate(known.text, api_keys=known, keys=keys_of(stage, keys), stage=stage).key_id == "abcdefgh23"
    assert known.asked == ["abcdefgh23"]
    with pytest.raises(Problem) as refused:
        authenticate(other, api_keys=known, keys=keys_of(stage, keys), stage=stage)
    assert (refused.value.status, refused.value.code) == (403, "wrong_stage")
    assert known.asked == ["abcdefgh23"]


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize(
    "untrusted",
    ["", "sl-", "sl-test-", TEST_KEY[:-1], TEST_KEY + "x", TEST_KEY.upper(), "sl-test-sl-test-abcdefgh23", "sk-test-1"],
)
def test_what_has_neither_form_is_told_nothing_of_stages(keys: FileKeys, stage: Stage, untrusted: str) -> None:
    with pytest.raises(Problem) as refused:
        authenticate(untrusted, api_keys=Known(keys, stage), keys=keys_of(stage, keys), stage=stage)

    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")


def test_the_other_stages_pepper_proves_nothing(keys: FileKeys) -> None:
    known = Known(keys, Stage.TEST)

    with pytest.raises(Problem) as refused:  # production's keys in the test stage's process
        authenticate(known.text, api_keys=known, keys=keys, stage=Stage.TEST)

    assert refused.value.code == "invalid_api_key"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return site_file(tmp_path, "[service]\ngateways = 3\n[limits]\nrequests_per_minute = 40\n[review]\none_in = 5")


def test_the_site_file_is_read_for_the_test_stage_with_a_folder_of_its_own_and_fewer_places(config: Config) -> None:
    staged = StagedConfig.of(config)

    assert (config.at.stage, staged.at.stage) == (Stage.PRODUCTION, Stage.TEST)
    assert staged.at.counters == config.at.state / "gateway-test/limits.db"
    assert not staged.at.counters.is_relative_to(config.at.gateway)
    assert (staged.limits.requests_per_minute, staged.limits.concurrent_requests) == (40, 4)
    assert (staged.service.gateways, staged.service.metrics_port, staged.review.keeps) == (1, 0, False)
    assert (staged.site, staged.at.registry) == (config.site, config.at.registry)
    assert config.review.keeps


@pytest.fixture
def state(config: Config) -> Iterator[tuple[Places, MemoryLedger, Engine]]:
    ledger, places = MemoryLedger(), StagedConfig.of(config).at
    engine = open_state(places)
    for kind in ("release.received", "promotion.made"):
        ledger.append(kind, bodies()[kind])
    for digest, version in ((DIGEST_A, "1"), (DIGEST_B, "2")):
        ledger.append("model.registered", {**bodies(digest)["model.registered"], "version": version})
    catch_up(engine, ledger)
    yield places, ledger, engine
    engine.dispose()


def test_only_what_was_lent_is_routed_to_the_newest_first_and_by_every_name(
    state: tuple[Places, MemoryLedger, Engine],
) -> None:
    places, ledger, engine = state
    clock = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
    routes = StageRoutes(places, clock)
    assert routes.lines().first is None  # what production serves is not here
    with pytest.raises(Problem, match="no_model"):
        require_serving(routes.lines(), "smol")

    for digest in (DIGEST_A, DIGEST_B):
        ledger.append("stage.loaded", {**bodies(digest)["stage.loaded"]})
    catch_up(engine, ledger)
    clock.advance(1.1)

    assert {name: require_route(routes, name).version for name in ("smol", "test", "smol:1", "smol:2")} == {
        "smol": "2",
        "test": "2",
        "smol:1": "1",
        "smol:2": "2",
    }
    for name in ("production", "smol:3", DIGEST_A, "candidate", ""):
        with pytest.raises(Problem, match="model_not_found"):
            require_serving(routes.lines(), name)
    clients = StageRoutes(places, clock, sites={"gpt-4o-mini": "production", "notes": "smol", "smol:1": "production"})
    assert [require_route(clients, name).version for name in ("gpt-4o-mini", "notes", "smol:1")] == ["2", "2", "1"]
    chosen = require_serving(routes.lines(), "smol:1")
    assert chosen.production.socket == places.socket("engine-test-aaaaaaaaaaaa")
    assert not chosen.is_split
    caller = Caller(key_id="abcdefghij", bucket=1, conversation="c", goes_on=True)
    for found in (choose(chosen, caller, None), choose_for_vectors(chosen, caller)):
        assert (found.arm, found.assigned, found.route.model_digest) == (Arm.TEST, Assigned.ONLY, DIGEST_A)


def test_each_stage_finds_the_keys_recorded_for_it_and_no_others(
    state: tuple[Places, MemoryLedger, Engine], config: Config
) -> None:
    places, ledger, engine = state
    clock = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
    for key_id, stage in (("productkey", None), ("testingkey", "test"), ("stagingkey", "staging")):
        ledger.append("key.created", {**bodies()["key.created"], "key_id": key_id, "stage": stage})
    catch_up(engine, ledger)

    found = {
        places.stage: [one for one in ("productkey", "testingkey", "stagingkey") if keys.lookup(one) is not None]
        for places, keys in ((at, StateApiKeys(at, clock)) for at in (places, config.at))
    }

    assert found == {Stage.TEST: ["testingkey"], Stage.PRODUCTION: ["productkey"]}
