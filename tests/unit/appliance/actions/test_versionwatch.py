"""A version that is damaged on the disk is named, marked and not routed to, until every file of it holds again."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.actions.scrub import Options, _Scrub
from appliance.actions.versionwatch import DAMAGED, SOUND
from appliance.audit.memory import MemoryLedger
from appliance.config import Config
from appliance.errors import StoreDamagedError
from appliance.gateway.routing import StateRoutes
from appliance.registry import catalog, damaged
from appliance.registry.descriptor import ModelDescriptor
from appliance.state.database import open_state
from appliance.store.content import ContentStore
from appliance.store.spoilt import Problem
from media.clock import FixedClock
from tests.support.gateway import production_of
from tests.support.ledger import tell_all
from tests.support.versions import store_version


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))


def scrub(config: Config, ledger: MemoryLedger, clock: FixedClock) -> tuple[str, ...]:
    return _Scrub(config, ledger, clock, Options()).run(lambda *_: None).hurt


def spoil(config: Config, version: ModelDescriptor) -> Path:
    place = ContentStore(config.at.store).object_path(version.weights_digest)
    place.chmod(0o644)
    place.write_bytes(bytes(reversed(place.read_bytes())))
    return place


def test_the_damaged_version_is_named_and_the_other_is_not(
    config: Config, ledger: MemoryLedger, clock: FixedClock
) -> None:
    _, bad = store_version(config, serial=1, name="bad", weights=b"bad weights")
    _, good = store_version(config, serial=2, name="good", weights=b"good weights")
    spoil(config, bad)

    assert scrub(config, ledger, clock) == (bad.model_digest,)

    (leaf,) = ledger.find(kind=DAMAGED)
    assert leaf.body["model_digest"] == bad.model_digest
    assert (leaf.body["path"], leaf.body["problem"]) == ("data/models/bad/weights.gguf", str(Problem.CHANGED))
    assert set(damaged.damaged(config.at.scrub)) == {bad.model_digest} != {good.model_digest}
    assert ledger.find(kind="store.scrubbed")[0].body["versions"] == [bad.model_digest]


def test_the_mark_stays_while_it_is_damaged_and_goes_when_it_holds(
    config: Config, ledger: MemoryLedger, clock: FixedClock
) -> None:
    _, version = store_version(config)
    place = spoil(config, version)
    for _ in range(2):
        assert scrub(config, ledger, clock) == (version.model_digest,)
    assert len(ledger.find(kind=DAMAGED)) == 1

    place.write_bytes(bytes(reversed(place.read_bytes())))
    assert scrub(config, ledger, clock) == ()
    assert [leaf.body["model_digest"] for leaf in ledger.find(kind=SOUND)] == [version.model_digest]


def test_what_a_deleted_version_lacks_is_no_damage(config: Config, ledger: MemoryLedger, clock: FixedClock) -> None:
    _, version = store_version(config)
    body = {"model_digest": version.model_digest, "name": "tiny", "version": "1", "serial": 1, "descriptor": {}}
    ledger.append("model.registered", {**body, "weights_digest": version.weights_digest})
    ContentStore(config.at.store).object_path(version.weights_digest).unlink()
    assert scrub(config, ledger, clock) == (version.model_digest,)

    ledger.append("model.deleted", {"model_digest": version.model_digest, "person": "ana", "reason": "x"})
    assert scrub(config, ledger, clock) == ()
    assert not any("tiny/weights" in str(one) for one in ledger.find(kind="store.scrubbed")[0].body["findings"])


def test_no_caller_is_routed_to_a_damaged_version(config: Config, ledger: MemoryLedger, clock: FixedClock) -> None:
    stored, version = store_version(config)
    state = open_state(config.at)
    catalog.register(ledger, state, stored)
    made = {"model_digest": version.model_digest, "previous": None, "approvals": [{"person": "ana"}]}
    ledger.append("promotion.made", made)
    tell_all(state, ledger)
    state.dispose()
    routes = StateRoutes(config.at, clock)
    found = production_of(routes)
    assert found is not None
    assert found.model_digest == version.model_digest

    damaged.save(config.at.scrub, {version.model_digest: {"problem": "changed"}})
    clock.advance(2)
    assert production_of(routes) is None

    damaged.save(config.at.scrub, {})
    clock.advance(2)
    assert production_of(routes) is not None


def test_marks_that_do_not_read_stop_routing_and_the_next_scrub_mends_them(
    config: Config, ledger: MemoryLedger, clock: FixedClock
) -> None:
    _, version = store_version(config)
    spoil(config, version)
    config.at.scrub.mkdir(parents=True)
    (config.at.scrub / damaged.FILE).write_bytes(b"{")

    with pytest.raises(StoreDamagedError, match="cannot be told"):
        damaged.damaged(config.at.scrub)
    assert scrub(config, ledger, clock) == (version.model_digest,)
    assert set(damaged.damaged(config.at.scrub)) == {version.model_digest}
