"""The server, and the one process that writes to it, are killed in the middle of appends.

Scenario: callers write groups of records through the ledger's door; SIGKILL for every process of the server, or for the
ledger's, after a random moment; what was killed starts again; the callers send what was not acknowledged once more,
under the same keys. Promise: whatever was acknowledged is there, at its place and with its hash; nothing is there
twice; the whole tree verifies; nothing has to be mended by hand. `SEALIFT_KILL_ROUNDS` sets the number of rounds.
"""

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.actions.databases import migrating
from appliance.audit import postgres_opening
from appliance.audit.memory import MemoryLedger
from appliance.config import Places
from appliance.errors import DatabaseError, LedgerUnavailableError
from appliance.gateway import problems
from appliance.gateway.routing import StateRoutes
from appliance.postgres.connecting import connect
from appliance.state import projection
from appliance.state.database import open_state
from media.clock import FixedClock
from tests.support.callers import Caller, require_everything_promised
from tests.support.gateway import production_of
from tests.support.ledger import LedgerSite, bodies, ledger_site, row
from tests.support.postgres import PostgresServer, postgres_server

pytestmark = pytest.mark.interop

ROUNDS = int(os.environ.get("SEALIFT_KILL_ROUNDS", "4"))


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of its own, because it is killed."""
    with postgres_server() as made:
        yield made


@pytest.fixture
def places(server: PostgresServer, tmp_path: Path) -> Places:
    made = server.places(tmp_path / "box", server.database())
    migrating.migrate(made, "up")
    return made


def write_until(site: LedgerSite, callers: list[Caller], kill: Callable[[int], None]) -> int:
    """Run the ledger, let callers write, kill after a random moment; return how the ledger ended."""
    with site.process() as running:
        ledgers = [site.door("ledger-gateway") for _ in callers]
        threads = [
            threading.Thread(target=caller.write, args=(ledger,))
            for caller, ledger in zip(callers, ledgers, strict=True)
        ]
        for thread in threads:
            thread.start()
        time.sleep(random.uniform(0.05, 0.4))
        kill(running.pid)
        for thread in threads:
            thread.join()
        for ledger in ledgers:
            ledger.close()
        return running.wait(timeout=60)


def test_nothing_acknowledged_is_lost_or_doubled_whoever_is_killed(
    server: PostgresServer, places: Places, tmp_path: Path
) -> None:
    callers = [Caller(number) for number in range(4)]
    with ledger_site(tmp_path, database=places.server) as site:
        for number in range(ROUNDS):
            if number % 2:
                ended = write_until(site, callers, lambda pid: os.kill(pid, signal.SIGKILL))
                assert ended == -signal.SIGKILL
            else:
                ended = write_until(site, callers, lambda _: server.kill())
                # It ends by itself: what became of the last commit is known only by opening anew.
                assert ended == LedgerUnavailableError.exit_code
                server.start()
        require_everything_promised(site, callers)

    assert sum(len(caller.promised) for caller in callers) > ROUNDS


def test_an_append_that_the_server_did_not_answer_is_never_acknowledged(server: PostgresServer, places: Places) -> None:
    with closing(postgres_opening.open_writer(places)) as backend:
        backend.append([row(0)], [])
        server.kill()
        with pytest.raises(LedgerUnavailableError):
            backend.append([row(1)], [])
        assert backend.failed
        server.start()
        # A server that is back does not make this session good again.
        with pytest.raises(LedgerUnavailableError):
            backend.append([row(1)], [])

    with closing(postgres_opening.open_writer(places, wait_seconds=60)) as again:
        assert again.rows(0, 9) == [row(0)]
        again.append([row(1)], [])


def test_a_server_whose_syncs_are_switched_off_is_written_no_more_until_they_are_on_again(
    server: PostgresServer, places: Places
) -> None:
    with closing(postgres_opening.open_writer(places)) as backend:
        backend.append([row(0)], [])
        reload_with(server, fsync="off")
        try:
            with pytest.raises(LedgerUnavailableError) as caught:
                backend.append([row(1)], [])
            with pytest.raises(LedgerUnavailableError, match="acknowledge"):
                postgres_opening.open_writer(places)
        finally:
            reload_with(server, fsync="on")

        assert "fsync" in caught.value.why
        assert not backend.failed
        backend.append([row(1)], [])


def test_a_session_keeps_its_durability_when_the_servers_settings_are_reloaded(
    server: PostgresServer, places: Places
) -> None:
    with closing(postgres_opening.open_writer(places)) as backend:
        reload_with(server, synchronous_commit="off")
        try:
            assert backend._session.all("SHOW synchronous_commit") == [("on",)]
        finally:
            reload_with(server, synchronous_commit="on")


def reload_with(server: PostgresServer, **settings: str) -> None:
    """Change settings of the running server and wait until new sessions have them."""
    for name, value in settings.items():
        server.admin(f"ALTER SYSTEM SET {name} = {value}")
    server.admin("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 60
    while any(server.admin(f"SHOW {name}") != [(value,)] for name, value in settings.items()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_ledger_that_starts_before_its_server_waits_for_it(
    server: PostgresServer, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.kill()
    waited: list[float] = []

    def come_back(seconds: float) -> None:
        waited.append(seconds)
        server.start()

    monkeypatch.setattr(postgres_opening, "time", SimpleNamespace(monotonic=time.monotonic, sleep=come_back))
    with closing(postgres_opening.open_writer(places, server_seconds=600)) as backend:
        backend.append([row(0)], [])

    assert len(waited) == 1


def test_a_lost_connection_is_noticed_though_nobody_writes(
    server: PostgresServer, places: Places, tmp_path: Path
) -> None:
    with ledger_site(tmp_path, database=places.server) as site, site.process() as running:
        server.kill()
        assert running.wait(timeout=60) == LedgerUnavailableError.exit_code
    server.start()
    with (
        ledger_site(tmp_path, database=places.server) as site,
        site.process(),
        closing(site.door("ledger-actions")) as ledger,
    ):
        assert ledger.append("model.noted", {"n": 1}).leaf_hash


def test_a_role_that_may_do_everything_and_a_database_of_other_bytes_are_refused(
    server: PostgresServer, places: Places
) -> None:
    assert places.server is not None
    server.admin("ALTER ROLE sealift_reader SUPERUSER")
    try:
        with pytest.raises(DatabaseError, match="may do everything"):
            connect(places, "reader")
    finally:
        server.admin("ALTER ROLE sealift_reader NOSUPERUSER")
    connect(places, "reader").close()
    server.admin("CREATE DATABASE other_bytes ENCODING 'SQL_ASCII' TEMPLATE template0")
    other = replace(places, server=places.server.model_copy(update={"name": "other_bytes"}))
    with pytest.raises(DatabaseError, match="cannot hold every text"):
        connect(other, "ledger")


def test_a_second_node_waits_and_goes_on_at_the_next_record(
    server: PostgresServer, places: Places, tmp_path: Path
) -> None:
    callers = [Caller(number) for number in range(2)]
    with (
        ledger_site(tmp_path / "first", database=places.server) as first,
        ledger_site(tmp_path / "second", database=places.server) as second,
    ):
        key = "ledger-checkpoint.v1"
        (second.places.key_files / key).unlink()
        shutil.copy2(first.places.key_files / key, second.places.key_files / key)
        with first.process() as running:
            standing_by = second.start()
            try:
                with closing(first.door("ledger-gateway")) as ledger:
                    threads = [threading.Thread(target=caller.write, args=(ledger,)) for caller in callers[:1]]
                    for thread in threads:
                        thread.start()
                    while not callers[0].promised:
                        time.sleep(0.01)
                    assert not second.places.socket("ledger-gateway").exists()
                    running.send_signal(signal.SIGKILL)
                    for thread in threads:
                        thread.join()
                wait_for(second.places.socket("ledger-gateway"))
            finally:
                standing_by.kill()
                standing_by.wait()
        require_everything_promised(second, callers)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_gateway_reads_its_route_again_as_soon_as_the_server_is_back(
    server: PostgresServer, places: Places
) -> None:
    ledger = MemoryLedger()
    for kind in ("release.received", "model.registered", "promotion.made"):
        ledger.append(kind, bodies()[kind])
    projection.tell(open_state(places), ledger, through=ledger.head().size - 1)
    clock = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
    routes = StateRoutes(places, clock)
    before = production_of(routes)
    assert before is not None

    server.kill()
    clock.advance(10)
    with pytest.raises(DatabaseError) as caught:
        production_of(routes)
    problem = problems.from_error(caught.value)
    assert (problem.status, problem.code) == (503, "state_unavailable")
    server.start()
    clock.advance(10)

    assert production_of(routes) == before
