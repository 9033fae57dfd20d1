"""What was decided and is still to be carried out: written down before the state reflects it, taken out when it is."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool

from appliance.audit.memory import MemoryLedger
from appliance.config import Config
from appliance.errors import StoreWriteError
from appliance.state import held, projection
from appliance.state.tables import Base
from media import canonical
from media.clock import FixedClock
from tests.support.ledger import bodies, rollout_bodies

CLOCK = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))


@pytest.fixture
def ledger() -> MemoryLedger:
    ledger = MemoryLedger(CLOCK)
    for kind in ("model.registered", "promotion.made"):
        ledger.append(kind, bodies()[kind])
    return ledger


def test_it_is_held_until_it_is_told_and_no_longer(config: Config, state: Engine, ledger: MemoryLedger) -> None:
    made = ledger.head().size - 1
    projection.catch_up(state, ledger)
    assert (held.held(config.at.registry), projection.told_sequence(state)) == (frozenset({made}), made - 1)
    assert projection.catch_up(state, ledger) == made
    assert held.held(config.at.registry) == {made}

    ledger.append("key.created", bodies()["key.created"])
    projection.tell(state, ledger, through=made)
    assert (held.held(config.at.registry), projection.told_sequence(state)) == (frozenset(), made + 1)


def test_what_was_decided_after_one_looked_is_not_told(config: Config, state: Engine, ledger: MemoryLedger) -> None:
    looked = ledger.head().size - 1
    later = ledger.append("promotion.rolled-back", bodies()["promotion.rolled-back"]).sequence

    projection.tell(state, ledger, through=looked)

    assert (held.held(config.at.registry), projection.told_sequence(state)) == (frozenset({later}), looked)


def test_stops_and_what_changes_no_engine_hold_at_once(config: Config, state: Engine, ledger: MemoryLedger) -> None:
    projection.tell(state, ledger, through=ledger.head().size - 1)
    happened = {**bodies(), **rollout_bodies()}
    for kind in ("promotion.stopped", "promotion.canary-aborted", "promotion.cut-over", "key.created", "stop.made"):
        ledger.append(kind, happened[kind])
    projection.catch_up(state, ledger)

    assert held.held(config.at.registry) == frozenset()
    assert projection.told_sequence(state) == ledger.head().size - 1


def test_a_state_made_anew_still_knows_what_is_held_back(config: Config, state: Engine, ledger: MemoryLedger) -> None:
    projection.catch_up(state, ledger)
    before = held.held(config.at.registry)

    projection.rebuild(state, ledger)

    assert held.held(config.at.registry) == before != frozenset()


def test_a_state_in_memory_holds_nothing_back(ledger: MemoryLedger) -> None:
    engine = create_engine("sqlite+pysqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    projection.rebuild(engine, ledger)
    ledger.append("promotion.made", bodies()["promotion.made"])

    projection.catch_up(engine, ledger)

    assert projection.told_sequence(engine) == ledger.head().size - 1


@pytest.mark.parametrize(
    "content",
    [b"", b"{", canonical.dumps({"format": 2, "sequences": [1]}), canonical.dumps({"format": 1, "sequences": ["1"]})],
)
def test_a_file_that_does_not_read_holds_nothing_back(tmp_path: Path, content: bytes) -> None:
    (tmp_path / held.FILE).write_bytes(content)

    assert held.held(tmp_path) == frozenset()


def test_where_it_cannot_be_written_down_the_state_stays_as_it_was(
    config: Config, state: Engine, ledger: MemoryLedger
) -> None:
    (config.at.registry / held.FILE).mkdir()

    with pytest.raises(StoreWriteError):
        projection.catch_up(state, ledger)

    with state.connect() as connection:
        assert projection.applied_sequence(connection) == ledger.head().size - 2
