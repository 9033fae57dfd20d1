"""What was decided and is still to be carried out: written down before the state reflects it, taken out when it is."""

import sqlite3
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool

from appliance.actions import nodes
from appliance.actions.databases import checking, migrating
from appliance.audit.memory import MemoryLedger
from appliance.config import Config, Places, PlacesSection
from appliance.errors import StoreWriteError
from appliance.postgres.connecting import connect
from appliance.state import database, held, projection
from appliance.state.database import open_state, writing
from appliance.state.tables import Base
from media import canonical
from media.clock import FixedClock, SystemClock
from tests.support.ledger import bodies, rollout_bodies

CLOCK = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.interop)])
def places(request: pytest.FixtureRequest, config: Config) -> Places:
    return request.getfixturevalue("on_server") if request.param == "postgresql" else config.at


@pytest.fixture
def state(places: Places) -> Engine:
    return open_state(places)


def held_in(state: Engine) -> frozenset[int]:
    with state.connect() as connection:
        return held.held(connection)


@pytest.fixture
def ledger() -> MemoryLedger:
    ledger = MemoryLedger(CLOCK)
    for kind in ("model.registered", "promotion.made"):
        ledger.append(kind, bodies()[kind])
    return ledger


def test_it_is_held_until_it_is_told_and_no_longer(state: Engine, ledger: MemoryLedger) -> None:
    made = ledger.head().size - 1
    projection.catch_up(state, ledger)
    assert (held_in(state), projection.told_sequence(state)) == (frozenset({made}), made - 1)
    assert projection.catch_up(state, ledger) == made
    assert held_in(state) == {made}

    ledger.append("key.created", bodies()["key.created"])
    projection.tell(state, ledger, through=made)
    assert (held_in(state), projection.told_sequence(state)) == (frozenset(), made + 1)


def test_what_was_decided_after_one_looked_is_not_told(state: Engine, ledger: MemoryLedger) -> None:
    looked = ledger.head().size - 1
    later = ledger.append("promotion.rolled-back", bodies()["promotion.rolled-back"]).sequence

    projection.tell(state, ledger, through=looked)

    assert (held_in(state), projection.told_sequence(state)) == (frozenset({later}), looked)


def test_stops_and_what_changes_no_engine_hold_at_once(state: Engine, ledger: MemoryLedger) -> None:
    projection.tell(state, ledger, through=ledger.head().size - 1)
    happened = {**bodies(), **rollout_bodies()}
    for kind in ("promotion.stopped", "promotion.canary-aborted", "promotion.cut-over", "key.created", "stop.made"):
        ledger.append(kind, happened[kind])
    projection.catch_up(state, ledger)

    assert held_in(state) == frozenset()
    assert projection.told_sequence(state) == ledger.head().size - 1


def test_a_state_made_anew_still_knows_what_is_held_back(state: Engine, ledger: MemoryLedger) -> None:
    projection.catch_up(state, ledger)
    before = held_in(state)

    projection.rebuild(state, ledger)

    assert held_in(state) == before != frozenset()


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
def test_a_file_that_does_not_read_holds_nothing_back(config: Config, content: bytes) -> None:
    state = open_state(config.at)
    (config.at.registry / held.FILE).write_bytes(content)

    assert held_in(state) == frozenset()


@pytest.mark.interop
def test_a_server_without_the_table_holds_nothing_back_and_gets_it_like_the_other_tables(
    alone_on_server: Places, ledger: MemoryLedger
) -> None:
    assert alone_on_server.server is not None
    with connect(alone_on_server, "owner") as connection:
        connection.execute("DROP SCHEMA sealift_held CASCADE")
    state, made = open_state(alone_on_server), ledger.head().size - 1
    projection.catch_up(state, ledger)
    assert projection.told_sequence(state) == made
    config = Config(site="demo", places=PlacesSection(root=str(alone_on_server.root)), database=alone_on_server.server)
    (found,) = (one for one in checking.check(config, clock=SystemClock()) if one.name == "held back")
    assert (found.state, found.fix) == (checking.REMARK, "`sealift db migrate up`")

    among = alone_on_server.server.model_copy(update={"node": "a"})
    (remark,) = (one for one in nodes.findings(config.model_copy(update={"database": among})) if one.name == found.name)
    assert (remark.is_good, remark.fix) == (None, found.fix)

    assert [change.part for change in migrating.migrate(alone_on_server, "up")] == ["held"]
    later = ledger.append("promotion.rolled-back", bodies()["promotion.rolled-back"]).sequence
    projection.catch_up(state, ledger)
    assert held_in(state) == {later}


@pytest.mark.interop
def test_a_row_that_is_not_written_on_a_server_leaves_nothing_held_back(
    on_server: Places, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = open_state(on_server)
    projection.tell(state, ledger, through=ledger.head().size - 1)
    ledger.append("promotion.rolled-back", bodies()["promotion.rolled-back"])
    monkeypatch.setattr(projection, "apply", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        projection.catch_up(state, ledger)

    assert held_in(state) == frozenset()


def test_where_it_cannot_be_written_down_the_state_stays_as_it_was(config: Config, ledger: MemoryLedger) -> None:
    state = open_state(config.at)
    (config.at.registry / held.FILE).mkdir()

    with pytest.raises(StoreWriteError):
        projection.catch_up(state, ledger)

    with state.connect() as connection:
        assert projection.applied_sequence(connection) == ledger.head().size - 2


def test_a_state_made_anew_holds_back_what_nobody_told_it_before(state: Engine, ledger: MemoryLedger) -> None:
    projection.tell(state, ledger, through=ledger.head().size - 1)
    later = ledger.append("promotion.rolled-back", bodies()["promotion.rolled-back"]).sequence

    projection.rebuild(state, ledger)  # the command that decided it was killed, or its engine is still loading

    assert (held_in(state), projection.told_sequence(state)) == (frozenset({later}), later - 1)
    assert projection.tell(state, ledger, through=later) == later
    projection.rebuild(state, ledger)
    assert held_in(state) == frozenset()


def test_a_state_where_there_was_none_holds_back_what_another_one_did_not_reflect(
    state: Engine, ledger: MemoryLedger
) -> None:
    told = ledger.head().size - 1
    later = ledger.append("promotion.rolled-back", bodies()["promotion.rolled-back"]).sequence
    projection.rebuild(state, ledger, reflected=told)
    assert held_in(state) == {later}

    projection.tell(state, ledger, through=later)
    projection.rebuild(state, ledger, reflected=told)
    assert held_in(state) == frozenset()


def test_a_rebuild_asks_how_far_the_ledger_is_while_nobody_else_may_write(config: Config, ledger: MemoryLedger) -> None:
    state, asked = open_state(config.at), []

    class Watched:
        """What a revoked key's command wrote after an earlier look would be gone until the next command."""

        leaves = ledger.leaves

        def head(self) -> Any:
            other = sqlite3.connect(config.at.registry / "state.db", timeout=0, isolation_level=None)
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
            other.close()
            asked.append(1)
            return ledger.head()

    assert projection.rebuild(state, Watched()) == ledger.head().size - 1
    assert asked


@pytest.mark.parametrize("step", ["catch_up", "tell", "rebuild"])
def test_a_state_that_another_process_writes_too_long_is_an_error_of_ours(
    config: Config, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)
    state, other = open_state(config.at), open_state(config.at)
    through = {"through": 1} if step == "tell" else {}

    with writing(other), pytest.raises(StoreWriteError, match=r"state\.db") as caught:
        getattr(projection, step)(state, ledger, **through)

    assert caught.value.why == "database is locked"
