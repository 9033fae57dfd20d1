from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from appliance.audit.memory import MemoryLedger
from appliance.config import Places
from appliance.errors import LedgerDamagedError, LedgerRefusedError
from appliance.state import projection
from appliance.state.database import open_state, writing
from appliance.state.shapes import SHAPES, require_shape
from appliance.state.tables import Applied, Base, Promotion
from media.clock import FixedClock
from tests.support.ledger import DIGEST_A, DIGEST_B, bodies, rollout_bodies, write_history


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.interop)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    if request.param == "postgresql":
        return open_state(request.getfixturevalue("on_server"))
    return open_state(Places(root=tmp_path, run=tmp_path / "run"))


def rows(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.connect() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
        }


def test_a_history_becomes_rows_of_every_table(engine: Engine) -> None:
    ledger = MemoryLedger()
    write_history(ledger)

    reached = projection.catch_up(engine, ledger)

    found = rows(engine)
    assert reached == ledger.head().size - 1
    assert found["applied"] == [(1, reached)]
    assert found["release"] == [(7, "2026.11", "c" * 64, "2026-11-20T08:00:00Z", "2026-11-20T08:00:00Z")]
    assert [row[1] for row in found["promotion"]] == ["made", "rolled-back", "stopped", "made", "made"]
    assert found["promotion"][0][5] == [{"person": "ada", "name": "Ada"}, {"person": "bo", "name": "Bo"}]
    assert found["promotion"][2][2] is None
    assert found["api_key"][0][-3:] == ("2026-11-20T08:00:00Z", None, None)
    assert found["gate_result"][0][5] == {"accuracy": 0.75, "count": 40}
    assert len(found["model_version"]) == 1
    assert [row[5] for row in found["rollout"]] == ["ended"]
    assert found["caller_stop"] == []
    assert found["key_rule"][0][:3] == ("abcdefghij", "kept-out", None)


def test_a_version_is_loaded_in_the_test_stage_until_it_is_unloaded_or_deleted(engine: Engine) -> None:
    ledger, loaded = MemoryLedger(), bodies()["stage.loaded"]
    first = ledger.append("stage.loaded", loaded)
    ledger.append("stage.loaded", {**loaded, "model_digest": DIGEST_B})
    again = ledger.append("stage.loaded", {**loaded, "person": "bo"})
    projection.catch_up(engine, ledger)
    at = "2026-11-20T08:00:00Z"
    others = (DIGEST_B, first.sequence + 1, at, "ada")
    assert rows(engine)["stage_load"] == [(DIGEST_A, again.sequence, at, "bo"), others]

    ledger.append("stage.unloaded", loaded)
    projection.catch_up(engine, ledger)
    assert rows(engine)["stage_load"] == [others]
    ledger.append("model.deleted", {**bodies()["model.deleted"], "model_digest": DIGEST_B})
    projection.catch_up(engine, ledger)
    assert rows(engine)["stage_load"] == []


def test_a_rollouts_row_says_how_it_stands_after_each_step(engine: Engine) -> None:
    clock = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
    ledger, found = MemoryLedger(clock), []
    for kind in ("canary-started", "canary-held", "canary-resumed", "cut-over", "retired"):
        ledger.append(f"promotion.{kind}", rollout_bodies()[f"promotion.{kind}"])
        projection.catch_up(engine, ledger)
        found.append((rows(engine)["rollout"][0][5], rows(engine)["rollout"][0][7][:13]))
        clock.advance(3600)

    assert found == [
        ("running", "2026-11-24T08"),
        ("held", "2026-11-24T08"),
        ("running", "2026-11-24T09"),
        ("beside", "2026-11-22T11"),
        ("ended", "2026-11-22T11"),
    ]


@pytest.mark.parametrize("kind", ["promotion.made", "promotion.rolled-back", "promotion.stopped"])
def test_a_change_of_production_ends_a_canary(engine: Engine, kind: str) -> None:
    ledger = MemoryLedger()
    ledger.append("promotion.canary-started", rollout_bodies()["promotion.canary-started"])
    ledger.append(kind, bodies()[kind])

    projection.catch_up(engine, ledger)

    assert rows(engine)["rollout"][0][5] == "ended"


def test_a_stopped_caller_is_free_again_and_a_keys_rule_is_the_last_one(engine: Engine) -> None:
    ledger, caller = MemoryLedger(), rollout_bodies()["stop.made"]
    for kind in ("stop.made", "stop.made"):
        ledger.append(kind, caller)
    ledger.append("key.ruled", {"key_id": "abcdefghij", "rule": "pinned", "model_digest": DIGEST_B})
    projection.catch_up(engine, ledger)
    assert [row[:2] for row in rows(engine)["caller_stop"]] == [("key", "abcdefghij")]
    assert rows(engine)["key_rule"][0][1:3] == ("pinned", DIGEST_B)

    ledger.append("stop.lifted", caller)
    ledger.append("key.ruled", {"key_id": "abcdefghij", "rule": "free", "model_digest": None})
    projection.catch_up(engine, ledger)

    assert (rows(engine)["caller_stop"], rows(engine)["key_rule"]) == ([], [])


def test_a_rebuild_gives_the_rows_that_were_built_leaf_by_leaf(engine: Engine) -> None:
    ledger = MemoryLedger()
    ledger.appended = lambda _: projection.catch_up(engine, ledger)
    write_history(ledger)
    incremental = rows(engine)

    projection.rebuild(engine, ledger)

    assert rows(engine) == incremental


def test_catching_up_again_changes_nothing(engine: Engine) -> None:
    ledger = MemoryLedger()
    write_history(ledger)
    projection.catch_up(engine, ledger)
    before = rows(engine)

    projection.catch_up(engine, ledger)

    assert rows(engine) == before


def test_a_leaf_is_applied_once_however_often_it_is_given(engine: Engine) -> None:
    ledger = MemoryLedger()
    appended = ledger.append("gate.result", bodies()["gate.result"])
    leaf = ledger.leaf(appended.sequence)

    with writing(engine) as connection:
        assert projection.apply(connection, leaf)
        assert not projection.apply(connection, leaf)

    assert len(rows(engine)["gate_result"]) == 1


def test_more_leaves_than_a_page_are_all_applied(engine: Engine) -> None:
    ledger = MemoryLedger()
    for number in range(450):
        ledger.append("promotion.stopped", {**bodies()["promotion.stopped"], "reason": str(number)})

    projection.rebuild(engine, ledger)

    assert len(rows(engine)["promotion"]) == 450


def test_a_leaf_and_its_sequence_are_stored_in_one_transaction(engine: Engine) -> None:
    ledger = MemoryLedger()
    appended = ledger.append("promotion.stopped", bodies()["promotion.stopped"])
    leaf = ledger.leaf(appended.sequence)

    def apply_and_fail() -> None:
        with writing(engine) as connection:
            projection.apply(connection, leaf)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        apply_and_fail()

    with engine.connect() as connection:
        assert connection.execute(select(Applied.sequence)).scalar_one() == -1
        assert connection.execute(select(Promotion)).first() is None


def test_state_ahead_of_its_ledger_is_reported_and_not_hidden(engine: Engine) -> None:
    long, short = MemoryLedger(), MemoryLedger()
    write_history(long)
    projection.catch_up(engine, long)

    with pytest.raises(LedgerDamagedError):
        projection.catch_up(engine, short)


def test_a_release_signed_anew_keeps_its_row_and_stays_installed(engine: Engine) -> None:
    ledger = MemoryLedger()
    write_history(ledger)
    ledger.append("release.received", {**bodies()["release.received"], "code": "9" * 64})

    projection.catch_up(engine, ledger)

    (release,) = rows(engine)["release"]
    assert release[2] == "9" * 64
    assert release[4] is not None


def test_registering_a_version_again_changes_nothing(engine: Engine) -> None:
    ledger = MemoryLedger()
    first = ledger.append("model.registered", bodies()["model.registered"])
    ledger.append("model.registered", {**bodies()["model.registered"], "name": "other"})

    projection.catch_up(engine, ledger)

    (version,) = rows(engine)["model_version"]
    assert version[1] == "smol"
    assert version[-1] == first.sequence


def test_a_deleted_version_and_its_gates_leave_and_come_back_without_them(engine: Engine) -> None:
    ledger = MemoryLedger()
    for kind in ("model.registered", "gate.result"):
        ledger.append(kind, bodies(DIGEST_A)[kind])
    ledger.append("model.deleted", {**bodies()["model.deleted"], "model_digest": DIGEST_A})
    projection.catch_up(engine, ledger)
    assert (rows(engine)["model_version"], rows(engine)["gate_result"]) == ([], [])

    ledger.append("model.registered", bodies(DIGEST_A)["model.registered"])
    projection.catch_up(engine, ledger)
    assert (len(rows(engine)["model_version"]), rows(engine)["gate_result"]) == (1, [])


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_the_example_of_each_kind_has_its_shape_and_lacks_it_without_any_required_member(kind: str) -> None:
    body = bodies()[kind]
    require_shape(kind, body)

    for member in SHAPES[kind]:
        if body.get(member) is None or member in {"reason", "previous"}:
            continue
        with pytest.raises(LedgerRefusedError, match=kind):
            require_shape(kind, {name: value for name, value in body.items() if name != member})
        with pytest.raises(LedgerRefusedError, match=kind):
            require_shape(kind, {**body, member: 0.5})


def test_a_body_that_could_not_be_applied_is_refused_before_it_is_in_the_ledger() -> None:
    ledger = MemoryLedger()

    with pytest.raises(LedgerRefusedError):
        ledger.append("promotion.made", {"model_digest": DIGEST_B, "previous": DIGEST_A, "approvals": [{"name": "x"}]})

    assert ledger.head().size == 1


def test_a_leaf_that_breaks_its_shape_stops_the_projection_by_its_number(engine: Engine) -> None:
    class Broken:
        sequence = 5
        time = "2026-11-20T08:00:00Z"
        kind = "key.revoked"
        body: dict[str, Any] = {}  # noqa: RUF012 - a leaf that no ledger would take

    with pytest.raises(LedgerDamagedError, match="leaf 5"), writing(engine) as connection:
        projection.apply(connection, Broken())
