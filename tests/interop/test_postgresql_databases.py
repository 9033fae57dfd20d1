"""`sealift db` on a real server and on files: schemas up and down with data, and the ledger moved both ways."""

import json
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import typer
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, select, update

from appliance.actions.databases import comparing, copying, migrating
from appliance.audit import pin, postgres_backend, postgres_opening, storage
from appliance.audit.log import Log
from appliance.audit.memory import MemoryLedger
from appliance.audit.offline import OfflineLedger
from appliance.audit.postgres_opening import open_reader
from appliance.audit.sqlite_backend import FILE_NAME, open_writer
from appliance.audit.verify import verify
from appliance.cli import audit, db, main
from appliance.cli import context as shared
from appliance.config import Config, DatabaseSection, Places
from appliance.errors import ConflictError, DatabaseError, LedgerDamagedError, LedgerUnavailableError
from appliance.postgres.connecting import connect
from appliance.state import migrating as schema
from appliance.state import projection
from appliance.state.database import engine_of, open_state, writing
from appliance.state.server import engine_of as server_engine_of
from appliance.state.tables import Applied, Base
from media.clock import SystemClock
from media.errors import UsageError
from tests.support.ledger import LedgerSite, bodies, ledger_site, row, toml_of, write_history
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.interop

CLOCK = SystemClock()
Sealift = Callable[..., tuple[int, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """A site with some history in its file, and a configuration for each of its two places."""

    site: LedgerSite
    file: Config
    server: Config

    def files(self) -> Places:
        return self.file.at

    def tables(self) -> Places:
        return self.server.at


@pytest.fixture
def sealift(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sealift:
    """Run a command of ours on a site file with this configuration; return exit code and result."""

    def run(site: LedgerSite, config: Config, *words: str) -> tuple[int, Any]:
        file = site.config_file.with_name("other.toml")
        file.write_text(site.config_file.read_text() + toml_of(config.database))
        app = typer.Typer()
        app.callback()(main._root)
        audit.register(app)
        db.register(app)
        monkeypatch.setattr(sys, "argv", ["sealift", "--config", str(file), "--json", *words])
        with pytest.raises(SystemExit) as ended:
            shared.run(app)
        return int(str(ended.value.code or 0)), json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def moving(tmp_path: Path, on_server: Places) -> Iterator[Moving]:
    with ledger_site(tmp_path) as site:
        with site.running():
            ledger = site.door("ledger-actions")
            for number in range(30):
                ledger.append("model.noted", {"number": number})
            ledger.append("custody.noted", {"request_id": "req_1", "text": "Zürich \U0001f600"})
            ledger.checkpoint()
            ledger.close()
        section = on_server.server
        assert section is not None
        file = site.config.model_copy(update={"database": section.model_copy(update={"kind": "sqlite"})})
        yield Moving(site=site, file=file, server=site.config.model_copy(update={"database": section}))


def rows(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.connect() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
        }


def everything(places: Places) -> tuple[Any, ...]:
    """Return all that a ledger holds, wherever it lies."""
    backend = open_reader(places) if places.server is not None else open_writer(places.ledger / FILE_NAME)
    with closing(backend):
        size = backend.size()
        head = Log.read(backend, clock=CLOCK).head()
        return backend.rows(0, size), backend.checkpoints(), head, backend.retries(size)


def test_a_ledger_goes_to_the_server_and_back_and_stays_the_same(moving: Moving) -> None:
    before = everything(moving.files())

    there = copying.copy(moving.file, "postgresql", clock=CLOCK)

    assert everything(moving.tables()) == before
    assert (there.size, there.root, there.checkpoints) == (len(before[0]), before[2].root, len(before[1]))
    with ledger_of(moving, moving.server) as site, site.running() as log:
        log.backend.size()
        ledger = site.door("ledger-actions")
        ledger.append("model.noted", {"number": 99})
        ledger.close()
    grown = everything(moving.tables())
    assert grown[0][: len(before[0])] == before[0]

    (moving.files().ledger / FILE_NAME).rename(moving.files().ledger / "left-behind.db")
    back = copying.copy(moving.server, "sqlite", clock=CLOCK)

    assert everything(moving.files()) == grown
    assert back.size == len(grown[0])
    with moving.site.running():
        ledger = moving.site.door("ledger-actions")
        assert verify(ledger, pinned=pin.read_pin(moving.files())).ok
        started = ledger.find("ledger.started", limit=3)
        ledger.close()
    assert ["sqlite" in leaf.body for leaf in started] == [True, False, True]
    assert started[1].body["postgresql"].startswith("15")


def ledger_of(moving: Moving, config: Config) -> Any:
    """Return the same site with another database, to run its ledger."""
    return _Same(replace(moving.site, config=config))


@dataclass(frozen=True)
class _Same:
    site: LedgerSite

    def __enter__(self) -> LedgerSite:
        return self.site

    def __exit__(self, *_: object) -> None:
        """Nothing: the folder is the other's."""


def test_nothing_goes_on_where_the_records_were(moving: Moving) -> None:
    copying.copy(moving.file, "postgresql", clock=CLOCK)

    with pytest.raises(LedgerDamagedError, match="on a PostgreSQL server"), moving.site.running():
        pass

    (moving.files().ledger / FILE_NAME).rename(moving.files().ledger / "left-behind.db")
    copying.copy(moving.server, "sqlite", clock=CLOCK)

    with pytest.raises(LedgerDamagedError, match="moved away"):
        postgres_opening.open_writer(moving.tables())


def test_a_server_without_records_is_not_begun_on_while_a_file_has_them(moving: Moving) -> None:
    with (
        pytest.raises(LedgerDamagedError) as caught,
        storage.writing(moving.tables(), wait_seconds=0, server_seconds=0),
    ):
        pass

    assert "sealift db move --to postgresql" in caught.value.fix
    assert not (moving.files().ledger / storage.ELSEWHERE).exists()


def test_a_target_with_records_is_refused_both_ways(moving: Moving) -> None:
    copying.copy(moving.file, "postgresql", clock=CLOCK)
    (moving.files().ledger / storage.ELSEWHERE).unlink()

    with pytest.raises(ConflictError, match="the database has records"):
        copying.copy(moving.file, "postgresql", clock=CLOCK)
    with pytest.raises(ConflictError, match=r"ledger\.db has records"):
        copying.copy(moving.server, "sqlite", clock=CLOCK)


def test_a_file_that_is_not_what_it_says_is_not_copied(moving: Moving) -> None:
    with closing(sqlite3.connect(moving.files().ledger / FILE_NAME, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER leaf_update")
        connection.execute("UPDATE leaf SET retry = retry, chain = zeroblob(32) WHERE sequence = 3")

    with pytest.raises(LedgerDamagedError):
        copying.copy(moving.file, "postgresql", clock=CLOCK)

    with closing(open_reader(moving.tables())) as reader:
        assert reader.size() == 0


def test_a_copy_that_is_not_the_same_is_no_copy(moving: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        postgres_backend, "_stored", lambda one: (*one[:5], b"", b"")
    )  # a driver that loses two columns

    with pytest.raises(LedgerDamagedError) as caught:
        copying.copy(moving.file, "postgresql", clock=CLOCK)

    assert "differs" in caught.value.why
    assert not (moving.files().ledger / storage.ELSEWHERE).exists()


def test_a_copy_that_is_cut_short_leaves_nothing(moving: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "PAGE", 7)
    before = everything(moving.files())

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copying.copy(moving.file, "postgresql", clock=CLOCK, progress=stop)

    with closing(open_reader(moving.tables())) as reader:
        assert reader.size() == 0
    assert everything(moving.files()) == before
    assert copying.copy(moving.file, "postgresql", clock=CLOCK).size == len(before[0])


def test_copying_waits_for_no_running_service(moving: Moving) -> None:
    with moving.site.running(), pytest.raises(LedgerUnavailableError, match="open"):
        copying.copy(moving.file, "postgresql", clock=CLOCK)


def test_a_crash_between_the_two_marks_is_finished_by_copying_again(moving: Moving) -> None:
    copying.copy(moving.file, "postgresql", clock=CLOCK)
    aside = moving.files().ledger / "left-behind.db"
    (moving.files().ledger / FILE_NAME).rename(aside)
    copying.copy(moving.server, "sqlite", clock=CLOCK)
    storage.mark_elsewhere(moving.files().ledger)  # as if it had not come to removing it

    assert copying.copy(moving.server, "sqlite", clock=CLOCK).size == len(everything(moving.files())[0])

    with moving.site.running():
        pass


def test_the_commands_check_copy_and_say_what_is_next(moving: Moving, sealift: Sealift) -> None:
    code, tried = sealift(moving.site, moving.file, "db", "copy", "--to", "postgresql", "--dry-run")
    assert (code, tried["dry_run"]) == (0, True)
    assert not (moving.files().ledger / storage.ELSEWHERE).exists()

    code, copied = sealift(moving.site, moving.file, "db", "copy", "--to", "postgresql")
    assert (code, copied["kind_is_set"], copied["root"]) == (0, False, tried["root"])

    code, found = sealift(moving.site, moving.file, "db", "check")
    assert (code, found["ok"]) == (DatabaseError.exit_code, False)
    code, found = sealift(moving.site, moving.server, "db", "check")
    assert (code, found["ok"]) == (0, True), found
    names = {one["name"]: one["state"] for one in found["findings"]}
    assert names["append-only"] == names["durability"] == names["ledger"] == names["state"] == "ok"
    code, listed = sealift(moving.site, moving.server, "audit", "list", "--kind", "custody.")
    assert code == 0
    assert "Zürich" in json.dumps(listed, ensure_ascii=False)


def test_tables_are_made_on_the_server_while_the_records_are_in_files(
    moving: Moving, sealift: Sealift, postgres: PostgresServer
) -> None:
    other = moving.file.database.model_copy(update={"name": postgres.database()})
    config = moving.file.model_copy(update={"database": other})

    code, planned = sealift(moving.site, config, "db", "migrate", "up", "--on", "postgresql", "--dry-run")
    assert (code, [one["part"] for one in planned["changes"]]) == (0, ["ledger", "limits", "held", "state"])
    code, _ = sealift(moving.site, config, "db", "migrate", "up", "--on", "postgresql")
    assert code == 0
    code, planned = sealift(moving.site, config, "db", "migrate", "up", "--on", "postgresql", "--dry-run")
    assert (code, planned["changes"]) == (0, [])
    code, refused = sealift(moving.site, config, "db", "move", "--to", "postgresql")
    assert (code, "sealift db copy" in refused["error"]["fix"]) == (UsageError.exit_code, True)  # no systemd here


def test_commands_on_a_server_that_is_away_say_why_and_how_to_mend_it(
    moving: Moving, sealift: Sealift, tmp_path: Path
) -> None:
    away = moving.server.database.model_copy(update={"socket": str(tmp_path)})
    config = moving.server.model_copy(update={"database": away})

    code, found = sealift(moving.site, config, "db", "check")

    assert (code, found["ok"]) == (DatabaseError.exit_code, False)
    assert all(one["fix"] for one in found["findings"] if one["state"] == "fault")
    code, refused = sealift(moving.site, config, "db", "migrate", "up", "--dry-run")
    assert (code, refused["error"]["code"]) == (DatabaseError.exit_code, "database")
    assert str(tmp_path) not in json.dumps(refused)


@pytest.fixture(params=["sqlite", "postgresql"])
def places(request: pytest.FixtureRequest, tmp_path: Path, postgres: PostgresServer) -> Places:
    """Places without any table of ours."""
    server = None if request.param == "sqlite" else postgres.section(postgres.database())
    return Places(root=tmp_path / "box", run=tmp_path / "run", server=server)


def state_engine(places: Places) -> Engine:
    return engine_of(places) if places.server is None else server_engine_of(places, "owner")


def test_the_schema_goes_up_and_down_with_data_and_every_row_comes_again(places: Places) -> None:
    ledger = MemoryLedger()
    write_history(ledger)
    ledger.append("stop.made", {**bodies()["stop.made"], "what": "department", "name": "radiology"})
    ledger.append("stage.loaded", bodies()["stage.loaded"])  # which the history took away again
    if places.server is None:
        open_state(places).dispose()  # a file is made by its first use
    else:
        migrating.migrate(places, "up")
    engine = open_state(places)
    projection.catch_up(engine, ledger)
    before = rows(engine)
    assert all(before.values())

    down = migrating.migrate(places, "down")

    assert {change.part: change.after for change in down}["state"] == "none"
    with closing(state_engine(places).connect()) as connection:
        assert set(inspect(connection).get_table_names()) == set()
    assert [change.part for change in migrating.plan(places, "down")] == []
    up = migrating.migrate(places, "up")
    assert {change.part: change.after for change in up}["state"] == schema.HEAD
    again = open_state(places)
    projection.rebuild(again, ledger)
    assert rows(again) == before
    assert migrating.plan(places, "up") == ()


def test_a_dry_run_prints_the_sql_and_changes_nothing(places: Places) -> None:
    if places.server is None:
        open_state(places).dispose()
        migrating.migrate(places, "down")

    changes = migrating.plan(places, "up")

    text = "".join(change.statements for change in changes)
    assert "CREATE TABLE model_version" in text
    assert ("CREATE TABLE sealift_ledger.leaf" in text) == (places.server is not None)
    assert migrating.plan(places, "up") == changes


def test_what_a_dry_run_prints_does_what_the_command_does(postgres: PostgresServer, tmp_path: Path) -> None:
    places = postgres.places(tmp_path, postgres.database())
    for way in ("up", "down", "up"):
        for change in migrating.plan(places, way):
            with connect(places, "owner") as connection, connection.transaction():
                connection.execute(change.statements.encode())

        assert migrating.plan(places, way) == ()

    open_state(places).dispose()
    with closing(postgres_opening.open_writer(places)) as backend:
        backend.append([row(0)], [])


def test_a_ledger_with_records_keeps_both_schemas_up(on_server: Places) -> None:
    with closing(postgres_opening.open_writer(on_server)) as backend:
        backend.append([row(0)], [])

    with pytest.raises(DatabaseError, match="has records"):
        migrating.migrate(on_server, "down")

    open_state(on_server).dispose()


def test_wrong_ways_and_unknown_revisions_are_usage_errors(on_server: Places) -> None:
    for way, to in (("up", "7777"), ("up", "base"), ("down", schema.HEAD)):
        if way == "down":
            assert migrating.plan(on_server, "down", to) == ()
            continue
        with pytest.raises(UsageError):
            migrating.plan(on_server, "up", to)


def test_a_schema_of_a_newer_release_is_left_alone(alone_on_server: Places, postgres: PostgresServer) -> None:
    assert alone_on_server.server is not None
    postgres.admin("UPDATE sealift_state.alembic_version SET version_num = '9999'", alone_on_server.server.name)

    with pytest.raises(DatabaseError) as caught:
        open_state(alone_on_server)
    assert "release that made them" in caught.value.fix
    with pytest.raises(DatabaseError):
        migrating.migrate(alone_on_server, "down")


def test_only_the_owner_changes_tables_and_readers_change_nothing(on_server: Places) -> None:
    engine = open_state(on_server)
    for statement in ("DROP TABLE release", "ALTER TABLE release ADD x integer", "DELETE FROM alembic_version"):
        with pytest.raises(Exception, match=r"must be owner|permission denied"), writing(engine) as connection:
            connection.exec_driver_sql(statement)
    reader = open_state(on_server, read_only=True)
    with pytest.raises(Exception, match=r"read-only|permission denied"), writing(reader) as connection:
        connection.exec_driver_sql("DELETE FROM release")


def test_writers_of_the_state_wait_for_each_other(on_server: Places) -> None:
    engine = open_state(on_server)
    together = threading.Barrier(3)

    def count() -> None:
        together.wait()
        for _ in range(10):
            with writing(engine) as connection:
                seen = projection.applied_sequence(connection)
                connection.execute(update(Applied).values(sequence=seen + 1))

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with engine.connect() as connection:
        assert projection.applied_sequence(connection) == 29


def test_the_migrated_tables_are_the_declared_ones_on_the_server(on_server: Places) -> None:
    with open_state(on_server, read_only=True).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_a_ledger_is_read_while_its_service_is_down(moving: Moving) -> None:
    copying.copy(moving.file, "postgresql", clock=CLOCK)

    ledger = OfflineLedger(moving.tables(), clock=CLOCK)

    assert ledger.head() == everything(moving.tables())[2]
    assert verify(ledger, pinned=pin.read_pin(moving.files())).ok
    with pytest.raises(LedgerUnavailableError):
        ledger.append("model.noted", {})


def test_a_ledger_that_began_on_a_server_does_not_begin_anew_where_that_lost_everything(
    new_database: Callable[[], DatabaseSection], postgres: PostgresServer, tmp_path: Path
) -> None:
    section = new_database()
    with ledger_site(tmp_path, database=section) as site:
        site.places.ledger.mkdir(parents=True, exist_ok=True)
        storage.mark_elsewhere(site.places.ledger)  # its first start was cut off before its first record
        with site.running() as log:
            origin = log.origin
        postgres.empty(section.name)

        with (
            pytest.raises(LedgerDamagedError, match="on a server, and this database has none") as refused,
            site.running(),
        ):
            pass

        assert "restore a backup" in refused.value.fix
        with closing(open_reader(site.places)) as there:
            assert there.size() == 0
        assert site.config.at.etc.joinpath("ledger.pub").read_text().startswith(origin)
