import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.audit import tree
from appliance.audit.backend import Row
from appliance.audit.sqlite_backend import APPLICATION_ID, USER_VERSION, SqliteBackend, open_reader, open_writer
from appliance.errors import LedgerDamagedError, LedgerUnavailableError


def row(sequence: int, *, size: int = 10) -> Row:
    raw = b"%d" % sequence + bytes(size)
    return Row(sequence, "a.b", raw, tree.leaf_hash(raw), bytes(32), f"t{sequence % 3}" if sequence % 2 else "", "")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@contextmanager
def opened(path: Path) -> Iterator[SqliteBackend]:
    backend = open_writer(path)
    try:
        yield backend
    finally:
        backend.close()


def pragma(backend: SqliteBackend, name: str) -> object:
    return backend._connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_the_file_is_set_up_to_survive_power_cuts(path: Path) -> None:
    with opened(path) as backend:
        found = {
            name: pragma(backend, name)
            for name in ("journal_mode", "synchronous", "trusted_schema", "application_id", "user_version", "mmap_size")
        }

    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "trusted_schema": 0,
        "application_id": APPLICATION_ID,
        "user_version": USER_VERSION,
        "mmap_size": 0,
    }


def test_sqlite_may_not_fold_the_log_behind_our_back(path: Path) -> None:
    with opened(path) as backend:
        assert pragma(backend, "wal_autocheckpoint") == 0


def test_nothing_of_a_record_is_written_to_a_temporary_file(path: Path) -> None:
    with opened(path) as backend:
        assert pragma(backend, "temp_store") == 2  # MEMORY


def test_a_batch_takes_few_statements_whatever_its_length(path: Path) -> None:
    told: list[str] = []  # a statement is told again for each row that it runs the trigger for
    with opened(path) as backend:
        backend.append([row(0)], [])
        backend._connection.set_trace_callback(told.append)
        backend.append([row(sequence) for sequence in range(1, 512)], [])

    assert len({one for one in told if one.startswith("INSERT INTO leaf")}) == 3 + 7


@pytest.mark.parametrize("count", [1, 63, 64, 65, 127, 128, 129, 300])
def test_a_batch_of_any_length_is_stored_whole_and_in_order(path: Path, count: int) -> None:
    rows, nodes = [row(sequence) for sequence in range(count)], [(1, at, bytes(32)) for at in range(count)]
    with opened(path) as backend:
        backend.append(rows, nodes)

        assert backend.rows(0, 1000) == rows
        assert backend.node(1, count - 1) == bytes(32)


def test_of_a_batch_that_breaks_a_rule_in_its_last_rows_nothing_is_stored(path: Path) -> None:
    rows = [row(sequence) for sequence in range(150)]
    with opened(path) as backend:
        with pytest.raises(LedgerUnavailableError):
            backend.append([*rows, row(151)], [])

        assert backend.size() == 0


def test_every_table_is_strict_and_append_only(path: Path) -> None:
    with opened(path) as backend:
        backend.append([row(0), row(1)], [(1, 0, bytes(32))])
        backend.save_checkpoint(2, "note")
        tables = backend._connection.execute("PRAGMA table_list").fetchall()
        strict = {name: bool(is_strict) for _, name, kind, _, _, is_strict in tables if not name.startswith("sqlite_")}
        assert strict == {"leaf": True, "node": True, "checkpoint": True}
        for statement in (
            "UPDATE leaf SET raw = x'00'",
            "DELETE FROM leaf",
            "INSERT OR REPLACE INTO leaf SELECT * FROM leaf WHERE sequence = 1",
            "UPDATE node SET hash = zeroblob(32)",
            "DELETE FROM node",
            "INSERT OR REPLACE INTO node VALUES(1, 0, zeroblob(32))",
            "UPDATE checkpoint SET note = ''",
            "DELETE FROM checkpoint",
            "INSERT INTO leaf VALUES(3, 'a.b', x'', zeroblob(32), zeroblob(32), '', '')",
            "INSERT INTO leaf VALUES(2, 'a.b', x'', zeroblob(31), zeroblob(32), '', '')",
            "INSERT INTO leaf VALUES(2, 'a.b', 'text', zeroblob(32), zeroblob(32), '', '')",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                backend._connection.execute(statement)


def test_rows_come_back_as_they_were_given(path: Path) -> None:
    with opened(path) as backend:
        backend.append([row(number) for number in range(10)], [(1, number, bytes(32)) for number in range(5)])

    with opened(path) as backend:
        assert backend.size() == 10
        assert backend.rows(3, 4) == [row(number) for number in range(3, 7)]
        assert backend.rows(3, 4, newest_first=True) == [row(number) for number in (3, 2, 1, 0)]
        assert backend.rows(-1, 4, newest_first=True) == []
        assert backend.rows(0, 9, kinds=["x.y"]) == []
        assert backend.kinds() == {"a.b"}
        assert [one.sequence for one in backend.with_term("t1")] == [1, 7]
        assert backend.with_term("") == []
        assert backend.node(0, 4) == row(4).hash


def test_a_node_that_is_not_stored_is_damage(path: Path) -> None:
    with opened(path) as backend, pytest.raises(LedgerDamagedError):
        backend.node(1, 0)


def test_the_first_checkpoint_of_a_size_stays(path: Path) -> None:
    with opened(path) as backend:
        assert backend.checkpoint() is None
        backend.save_checkpoint(3, "first")
        backend.save_checkpoint(3, "second")
        backend.save_checkpoint(2, "earlier")

        assert backend.checkpoint() == (3, "first")
        assert backend.checkpoint(at_least=4) is None
        assert backend.checkpoint_of(2) == "earlier"
        assert backend.checkpoint_of(1) is None


def test_a_batch_with_one_bad_row_leaves_no_row(path: Path) -> None:
    with opened(path) as backend:
        with pytest.raises(LedgerUnavailableError):
            backend.append([row(0), row(5)], [])

        assert backend.size() == 0


def test_a_full_disk_refuses_the_batch_and_the_next_one_may_succeed(path: Path) -> None:
    with opened(path) as backend:
        backend.append([row(0)], [])
        pages = pragma(backend, "page_count")
        backend._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LedgerUnavailableError) as caught:
            backend.append([row(number, size=3000) for number in range(1, 40)], [])
        assert caught.value.why == "SQLITE_FULL"
        assert not backend.failed
        backend._connection.execute("PRAGMA max_page_count = 100000")

        backend.append([row(1)], [])

        assert backend.size() == 2


def test_after_a_write_that_failed_for_another_reason_nothing_more_is_written(path: Path) -> None:
    backend = open_writer(path)
    backend.append([row(0)], [])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("ledger.db-wal").stat().st_size, limits[1]))
    try:
        with pytest.raises(LedgerUnavailableError) as caught:
            backend.append([row(number, size=3000) for number in range(1, 40)], [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.why.startswith("SQLITE_IOERR")
    assert backend.failed

    with pytest.raises(LedgerUnavailableError):
        backend.append([row(1)], [])
    backend.close()
    backend._connection.close()
    with opened(path) as again:
        assert again.size() == 1


def test_a_long_write_ahead_log_is_folded_in(path: Path) -> None:
    wal = path.with_name("ledger.db-wal")
    backend = open_writer(path, fold_bytes=100_000)
    try:
        backend.append([row(0)], [])
        backend.tidy()
        assert wal.stat().st_size > 0
        backend.append([row(number, size=3000) for number in range(1, 40)], [])

        backend.tidy()

        assert wal.stat().st_size == 0
    finally:
        backend.close()
    assert not wal.exists()


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\x00" + bytes(200)])
def test_a_file_that_is_no_ledger_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    for open_it in (open_writer, lambda one: open_reader(one, immutable=True)):
        with pytest.raises((LedgerDamagedError, LedgerUnavailableError)):
            open_it(path)

    assert path.read_bytes() == content


@pytest.mark.parametrize("statement", ["PRAGMA application_id = 7", "PRAGMA user_version = 2"])
def test_another_database_or_a_newer_one_is_left_alone(path: Path, statement: str) -> None:
    with opened(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.close()

    for open_it in (open_writer, lambda one: open_reader(one, immutable=True)):
        with pytest.raises(LedgerDamagedError):
            open_it(path)


def test_a_database_of_somebody_else_is_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine(x)")
    connection.close()

    with pytest.raises(LedgerDamagedError):
        open_writer(path)


def test_an_absent_file_cannot_be_read_and_an_absent_folder_not_written(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailableError):
        open_reader(tmp_path / "ledger.db", immutable=False)
    with pytest.raises(LedgerUnavailableError):
        open_writer(tmp_path / "nowhere/ledger.db")


def test_pages_that_were_overwritten_are_damage_not_silence(path: Path) -> None:
    with opened(path) as backend:
        backend.append([row(number, size=3000) for number in range(40)], [])
    with path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * 4096 * 20)

    with opened(path) as backend, pytest.raises(LedgerDamagedError):
        backend.rows(0, 40)
