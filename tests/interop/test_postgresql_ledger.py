"""The ledger on a real PostgreSQL server: the same tree as in a file, one writer among all, append-only by rights.

What backends have in common is tested with all of them (tests/unit/appliance/audit); here is what only a server has.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.audit import postgres_opening, postgres_schema
from appliance.audit.leaf import Via
from appliance.audit.log import Entry, Log, Signer
from appliance.audit.postgres_backend import PostgresBackend
from appliance.audit.postgres_opening import open_reader
from appliance.audit.sqlite_backend import SqliteBackend
from appliance.audit.sqlite_backend import open_writer as open_file
from appliance.audit.verify import require_sound_tail
from appliance.config import Places
from appliance.errors import LedgerDamagedError, LedgerUnavailableError
from appliance.postgres.connecting import ROLES, connect
from appliance.postgres.session import Session
from media.clock import FixedClock
from tests.support.ledger import row
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.interop

ROOT = Path(__file__).resolve().parents[2]
CLOCK = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
PRIVATE = Ed25519PrivateKey.generate()
SIGNER = Signer(public=PRIVATE.public_key().public_bytes_raw(), sign=PRIVATE.sign)
VIA = Via(door="ledger-actions", uid=7)
KINDS = ("model.noted", "request.intent", "request.outcome", "custody.noted")


@contextmanager
def writer(places: Places, **options: float) -> Iterator[PostgresBackend]:
    with closing(postgres_opening.open_writer(places, **options)) as backend:  # type: ignore[arg-type]
        yield backend


def database_of(places: Places) -> str:
    assert places.server is not None
    return places.server.name


RECORDS = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(KINDS),
            st.dictionaries(st.sampled_from(["request_id", "note", "n"]), st.text(max_size=20) | st.integers(0, 9)),
            st.sampled_from(["", "k1", "k2"]),
        ),
        max_size=5,
    ),
    max_size=4,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(batches=RECORDS)
def test_the_same_records_give_the_same_tree_on_both(
    batches: list[list[tuple[str, dict[str, str | int], str]]],
    postgres: PostgresServer,
    on_server: Places,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("both")
    postgres.empty(database_of(on_server))
    with closing(open_file(folder / "ledger.db")) as file, writer(on_server) as server:
        first = Log.open(file, clock=CLOCK, site="demo", signer=SIGNER)
        opening = file.rows(0, 1)
        server.append(opening, [])
        second = Log.open(server, clock=CLOCK, site="demo", signer=SIGNER)
        for batch in batches:
            entries = [Entry.of(kind, body, via=VIA, key=key) for kind, body, key in batch]
            assert str(first.append(entries)) == str(second.append(entries))
        size = file.size()

        assert first.head() == second.head()
        assert first.checkpoint() == second.checkpoint()
        assert everything(file, size) == everything(server, size)
        for sequence in range(size):
            assert first.inclusion(sequence) == second.inclusion(sequence)
        require_sound_tail(server)


def everything(backend: SqliteBackend | PostgresBackend, size: int) -> list[object]:
    """Return all answers of a backend."""
    return [
        backend.size(),
        backend.kinds(),
        backend.rows(0, size),
        backend.rows(size - 1, size, newest_first=True),
        [backend.rows(0, size, kinds=[kind]) for kind in KINDS],
        [backend.with_term(one.term) for one in backend.rows(0, size)],
        backend.retries(size),
        backend.open_terms(0, "request.intent", "request.outcome"),
        backend.checkpoints(),
    ]


def test_texts_that_postgresql_has_no_text_for_come_back(on_server: Places) -> None:
    given_rows = [row(0, term="nul\0in it", retry="d/k"), row(1, term="é\U0001f600" * 5000), row(2, size=900_000)]
    with writer(on_server) as backend:
        backend.append(given_rows, [])

        assert backend.rows(0, 9) == given_rows
        assert backend.with_term("nul\0in it") == given_rows[:1]
        assert backend.with_term("é\U0001f600" * 5000) == given_rows[1:2]
        assert backend.with_term("") == []


def test_two_writers_at_once_are_one_too_many(on_server: Places) -> None:
    assert not postgres_opening.has_writer(on_server)
    with writer(on_server) as backend:
        assert postgres_opening.has_writer(on_server)
        backend.append([row(0)], [])
        with pytest.raises(LedgerUnavailableError, match="another process"):
            postgres_opening.open_writer(on_server)
        backend.append([row(1)], [])

    with writer(on_server) as again:
        assert again.size() == 2


def test_who_waits_gets_it_when_the_other_lets_go(on_server: Places, postgres: PostgresServer) -> None:
    with writer(on_server) as first:
        postgres.admin(f"SELECT pg_terminate_backend({first._session.pid})")
        with writer(on_server, wait_seconds=60) as second:
            second.append([row(0)], [])
            with pytest.raises(LedgerUnavailableError):
                first.append([row(0)], [])
            assert first.failed
            assert second.size() == 1


def test_a_writer_that_others_took_over_from_is_fenced_although_its_session_lives(
    on_server: Places, postgres: PostgresServer
) -> None:
    # As behind a pooler that hands one session's lock to another: the lock is gone, the session is not.
    with writer(on_server) as old:
        old.append([row(0)], [])
        old._session.all("SELECT pg_advisory_unlock_all()")
        with writer(on_server) as new:
            assert new.token == (old.token or 0) + 1
            with pytest.raises(LedgerUnavailableError) as caught:
                old.append([row(1)], [])
            assert old.failed
            with pytest.raises(LedgerUnavailableError):
                old.save_checkpoint(1, "a note")
            new.append([row(1)], [])
            assert new.checkpoints() == []
    assert "SL001" in caught.value.why


_PAUSED = """
import sys
from pathlib import Path
from appliance.audit import postgres_opening
from appliance.config import DatabaseSection, Places
from appliance.errors import LedgerUnavailableError
from tests.support.ledger import row
places = Places(root=Path("/"), run=Path("/"), server=DatabaseSection.model_validate_json(sys.argv[1]))
backend = postgres_opening.open_writer(places, session_seconds=1)
backend.append([row(0)], [])
print("ready", flush=True)
sys.stdin.readline()
try:
    backend.append([row(1, size=5)], [])
    print("appended", flush=True)
except LedgerUnavailableError as error:
    print("refused", error.why, flush=True)
"""


def test_a_writer_that_was_paused_can_never_append_again(on_server: Places) -> None:
    assert on_server.server is not None
    command = [sys.executable, "-c", _PAUSED, on_server.server.model_dump_json()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as paused:
        try:
            assert paused.stdout is not None
            assert paused.stdin is not None
            assert paused.stdout.readline() == "ready\n"
            paused.send_signal(signal.SIGSTOP)
            # The server ends a session that says nothing, and with it goes the lock.
            with writer(on_server, wait_seconds=60) as backend:
                backend.append([row(1)], [])
                paused.send_signal(signal.SIGCONT)
                paused.stdin.write("go\n")
                paused.stdin.flush()
                assert paused.stdout.readline().startswith("refused")
                assert backend.rows(0, 9) == [row(0), row(1)]
        finally:
            paused.kill()


CHANGES = (
    "UPDATE sealift_ledger.leaf SET raw = ''",
    "DELETE FROM sealift_ledger.leaf",
    "TRUNCATE sealift_ledger.leaf",
    "UPDATE sealift_ledger.node SET level = 2",
    "DELETE FROM sealift_ledger.node",
    "UPDATE sealift_ledger.checkpoint SET note = ''",
    "DELETE FROM sealift_ledger.checkpoint",
    "UPDATE sealift_ledger.writer SET token = 0",
    "UPDATE sealift_ledger.writer SET token = token + 2",
    "DELETE FROM sealift_ledger.writer",
    "INSERT INTO sealift_ledger.writer VALUES(1, 9, NULL)",
    "SET session_replication_role = replica",  # would switch every trigger off
)


def test_nobody_changes_what_is_there_neither_our_role_nor_the_owner(on_server: Places) -> None:
    with writer(on_server) as backend:
        backend.append([row(0), row(1)], [(1, 0, bytes(32))])
        backend.save_checkpoint(2, "a note")
        before = everything(backend, 2)
        for role in ROLES:
            with closing(connect(on_server, role)) as connection:
                for statement in CHANGES:
                    with pytest.raises(psycopg.Error):
                        connection.execute(statement.encode())
        assert everything(backend, 2) == before


def test_leaves_with_gaps_are_refused_whole(on_server: Places) -> None:
    for sequences in ([1], [0, 2], [0, 0], [-1, 0]):
        with writer(on_server, wait_seconds=60) as backend:
            with pytest.raises(LedgerUnavailableError):
                backend.append([row(number) for number in sequences], [])
            assert backend.size() == 0


def test_a_lock_that_somebody_holds_refuses_the_batch_and_the_next_one_succeeds(
    alone_on_server: Places, postgres: PostgresServer
) -> None:
    assert alone_on_server.server is not None
    postgres.admin(f"ALTER ROLE sealift_ledger IN DATABASE {alone_on_server.server.name} SET lock_timeout = '50ms'")
    with writer(alone_on_server) as backend, connect(alone_on_server, "ledger") as other:
        with other.transaction():
            other.execute(b"SELECT 1 FROM sealift_ledger.writer FOR UPDATE")
            with pytest.raises(LedgerUnavailableError) as caught:
                backend.append([row(0)], [])

        assert "55P03" in caught.value.why
        assert not backend.failed
        backend.append([row(0)], [])
        assert backend.size() == 1


def test_a_commit_that_a_standby_may_not_have_is_not_acknowledged(
    alone_on_server: Places, postgres: PostgresServer
) -> None:
    # The server answers such a COMMIT with success and a warning, as here a function does.
    name = database_of(alone_on_server)
    postgres.admin(
        "CREATE FUNCTION public.warn() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE WARNING 'canceling wait for synchronous replication'; RETURN NULL; END $$",
        name,
    )
    with writer(alone_on_server) as backend:
        postgres.admin(
            "CREATE CONSTRAINT TRIGGER warned AFTER INSERT ON sealift_ledger.leaf DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION public.warn()",
            name,
        )
        with pytest.raises(LedgerUnavailableError) as caught:
            backend.append([row(0)], [])

        assert "warning" in caught.value.why
        assert backend.failed


def test_an_insert_without_the_token_is_refused(on_server: Places) -> None:
    with connect(on_server, "ledger") as connection, pytest.raises(psycopg.Error, match="another writer"):
        connection.execute(b"INSERT INTO sealift_ledger.leaf VALUES(0, 'a.b', '', sha256(''), sha256(''), '', '')")


def test_a_database_that_gives_commits_away_is_refused(alone_on_server: Places, postgres: PostgresServer) -> None:
    for value in ("off", "local", "remote_write"):
        postgres.admin(f"ALTER DATABASE {database_of(alone_on_server)} SET synchronous_commit = {value}")

        with pytest.raises(LedgerUnavailableError) as caught:
            postgres_opening.open_writer(alone_on_server)

        assert f"synchronous_commit = {value}" in caught.value.why
        assert "ALTER SYSTEM" in caught.value.fix


@pytest.mark.parametrize(
    "statement",
    [
        "GRANT UPDATE ON sealift_ledger.leaf TO sealift_ledger",
        "ALTER TABLE sealift_ledger.node DISABLE TRIGGER append_only",
        "DROP TRIGGER fence ON sealift_ledger.checkpoint",
        "ALTER TABLE sealift_ledger.leaf OWNER TO sealift_ledger",
        "ALTER ROLE sealift_ledger IN DATABASE {} SET session_replication_role = replica",
    ],
)
def test_tables_that_are_not_guarded_are_not_written(
    alone_on_server: Places, postgres: PostgresServer, statement: str
) -> None:
    postgres.admin(statement.format(database_of(alone_on_server)), database_of(alone_on_server))

    with pytest.raises(LedgerUnavailableError) as caught:
        postgres_opening.open_writer(alone_on_server)

    assert caught.value.why
    assert "rights" in caught.value.fix


def test_a_database_without_our_tables_says_what_to_do(postgres: PostgresServer, tmp_path: Path) -> None:
    places = postgres.places(tmp_path, postgres.database())

    for open_it in (postgres_opening.open_writer, open_reader):
        with pytest.raises(LedgerUnavailableError) as caught:
            open_it(places)
        assert "sealift db migrate up" in caught.value.fix


def test_tables_of_a_newer_release_are_left_alone(alone_on_server: Places, postgres: PostgresServer) -> None:
    postgres.admin("UPDATE sealift_ledger.format SET version = 2", database_of(alone_on_server))

    with pytest.raises(LedgerUnavailableError) as caught:
        postgres_opening.open_writer(alone_on_server)

    assert "version 2" in caught.value.why


def test_records_that_were_moved_away_do_not_go_on_here(on_server: Places) -> None:
    with writer(on_server) as backend:
        backend.append([row(0)], [])
        backend.leave("a file")
        with pytest.raises(LedgerUnavailableError):
            backend.append([row(1)], [])

    with pytest.raises(LedgerDamagedError, match="moved away"):
        postgres_opening.open_writer(on_server)
    with closing(open_reader(on_server)) as reader:
        assert reader.size() == 1


def test_readers_see_one_moment_and_cannot_write(on_server: Places) -> None:
    with writer(on_server) as backend:
        backend.append([row(0)], [])
        with closing(open_reader(on_server)) as reader:
            assert reader.size() == 1
            backend.append([row(1)], [])
            assert reader.size() == 1
            with pytest.raises(LedgerUnavailableError):
                reader.append([row(1)], [])
        assert backend.size() == 2


def test_the_ledgers_tables_go_down_only_while_they_are_empty(on_server: Places) -> None:
    with writer(on_server) as backend:
        backend.append([row(0)], [])
    with closing(Session(connect(on_server, "owner"))) as owner:
        with pytest.raises(Exception, match="has records"):
            postgres_schema.LEDGER.remove(owner)
        assert postgres_schema.LEDGER.present(owner) == postgres_schema.LEDGER.version


def test_a_server_that_is_away_is_an_error_that_shows_no_path_and_names_the_cure(
    on_server: Places, tmp_path: Path
) -> None:
    assert on_server.server is not None
    away = replace(on_server, server=on_server.server.model_copy(update={"socket": str(tmp_path)}))

    before = time.monotonic()
    with pytest.raises(LedgerUnavailableError) as caught:
        postgres_opening.open_writer(away, server_seconds=0.1)

    assert time.monotonic() - before < 60
    assert str(tmp_path) not in str(caught.value.to_json())
    assert "No such file" in caught.value.why
