import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from appliance.cli import context
from appliance.config import Places
from appliance.errors import DatabaseError, NotInstalledError, StoreDamagedError, StoreWriteError
from appliance.state import lines, migrating
from appliance.state.database import open_state, require_whole, writing
from appliance.state.tables import Applied, Base, Promotion, Release, Rollout


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(root=tmp_path / "box", run=tmp_path / "run")


def schema(connection: Connection) -> dict[str, list[Any]]:
    inspector = inspect(connection)
    found = {}
    for table in sorted(Base.metadata.tables):
        found[table] = [
            *((c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)),
            *sorted((i["name"], tuple(i["column_names"]), i["unique"]) for i in inspector.get_indexes(table)),
            *sorted((u["name"], tuple(u["column_names"])) for u in inspector.get_unique_constraints(table)),
            *sorted((c["name"], c["sqltext"]) for c in inspector.get_check_constraints(table)),
            (inspector.get_pk_constraint(table)["name"],),
        ]
    return found


def test_the_migrated_schema_is_the_one_the_tables_declare(places: Places) -> None:
    engine = open_state(places)
    declared = create_engine("sqlite://")
    with declared.begin() as connection:
        Base.metadata.create_all(connection)
        wanted = schema(connection)
    declared.dispose()

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        assert schema(connection) == wanted


def test_the_head_that_opening_trusts_is_the_newest_migration() -> None:
    settings = Config()
    settings.set_main_option("script_location", "appliance:migrations")
    settings.set_main_option("path_separator", "os")

    assert ScriptDirectory.from_config(settings).get_current_head() == migrating.HEAD


def test_rows_of_before_lines_keep_what_they_say_and_are_of_the_first(places: Places) -> None:
    engine = open_state(places)
    with writing(engine) as connection:
        migrating.downgrade(connection, "0004")
        connection.execute(
            text(
                "INSERT INTO promotion (sequence, kind, model_digest, at, people)"
                " VALUES (3, 'made', 'a', '2026-11-20T08:00:00Z', '[]')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO rollout (sequence, model_digest, control, percent, hours, state, at, ends_at)"
                " VALUES (4, 'b', 'a', 20, 48, 'running', '2026-11-20T08:00:00Z', '2026-11-22T08:00:00Z')"
            )
        )
        migrating.upgrade(connection)

    with engine.connect() as connection:
        for table in (Promotion, Rollout):
            assert connection.execute(select(table.line)).all() == [(None,)]
            assert len(connection.execute(select(table.__table__).where(lines.is_of(table))).all()) == 1
        assert lines.served(connection) == {1: "a"}


def test_state_uses_a_rollback_journal_that_survives_power_cuts(places: Places) -> None:
    with open_state(places).connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "delete"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 3
        assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
        assert connection.execute(text("PRAGMA trusted_schema")).scalar_one() == 0


def test_opening_again_keeps_what_is_there(places: Places) -> None:
    with writing(open_state(places)) as connection:
        connection.execute(update(Applied).values(sequence=41))

    with open_state(places).connect() as connection:
        assert connection.execute(select(Applied.sequence)).scalar_one() == 41


def test_a_reader_can_not_write(places: Places) -> None:
    open_state(places)
    engine = open_state(places, read_only=True)

    with pytest.raises(Exception, match="readonly"), writing(engine) as connection:
        connection.execute(update(Applied).values(sequence=1))


def test_reading_state_that_does_not_exist_says_so(places: Places) -> None:
    with pytest.raises(NotInstalledError):
        open_state(places, read_only=True)


def test_writers_wait_for_each_other_and_none_is_lost(places: Places) -> None:
    engine = open_state(places)

    def add(first: int) -> None:
        for number in range(first, first + 5):
            with writing(engine) as connection:
                connection.execute(
                    insert(Release).values(serial=number, name="r", code="c", received_at="2026-11-20T08:00:00Z")
                )

    threads = [threading.Thread(target=add, args=(first,)) for first in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with engine.connect() as connection:
        assert len(connection.execute(select(Release.serial)).all()) == 15


def test_several_processes_may_open_a_new_state_at_once(places: Places) -> None:
    failures: list[Exception] = []

    def open_it() -> None:
        try:
            open_state(places)
        except Exception as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


def test_a_file_that_is_no_database_is_damaged_not_overwritten(places: Places) -> None:
    places.registry.mkdir(parents=True)
    (places.registry / "state.db").write_bytes(b"something else" * 100)

    with pytest.raises(StoreDamagedError):
        open_state(places)

    assert (places.registry / "state.db").read_bytes().startswith(b"something else")


def test_state_of_a_newer_release_is_left_alone(places: Places) -> None:
    with writing(open_state(places)) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(StoreDamagedError, match=r"state\.db"):
        open_state(places)


def test_a_folder_that_cannot_be_made_is_a_write_error(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file where a folder belongs")

    with pytest.raises(StoreWriteError):
        open_state(Places(root=tmp_path, run=tmp_path))


@pytest.mark.parametrize(
    ("failed", "kind"),
    [
        (sqlite3.OperationalError("database or disk is full"), StoreWriteError),
        (sqlite3.DatabaseError("database disk image is malformed"), StoreDamagedError),
        (sqlite3.IntegrityError("UNIQUE constraint failed: promotion.sequence"), StoreDamagedError),
        (RuntimeError("a driver's own"), DatabaseError),
    ],
)
def test_a_statement_that_fails_is_told_with_what_to_do_by_every_command(
    failed: Exception, kind: type[Exception]
) -> None:
    error = DBAPIError("SELECT secret", None, failed)

    told = context._unexpected(error)

    assert type(told) is kind
    assert told.fix
    assert "secret" not in told.what + told.why


def test_a_file_that_holds_together_is_passed_and_one_that_does_not_is_named(places: Places) -> None:
    engine = open_state(places)
    require_whole(engine)
    with engine.connect() as connection:
        page = connection.execute(text("SELECT rootpage FROM sqlite_schema WHERE name = 'promotion'")).scalar_one()
    with (places.registry / "state.db").open("r+b") as stream:
        stream.seek((page - 1) * 4096)
        stream.write(b"\x0d\x00\x00\xff\xff")

    with pytest.raises(StoreDamagedError):
        require_whole(engine)
