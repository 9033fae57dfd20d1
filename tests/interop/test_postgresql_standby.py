"""A server with a synchronous standby: it takes over with everything, and what it may not have is not promised."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from appliance.actions.databases import migrating
from appliance.audit import postgres_opening
from appliance.errors import LedgerUnavailableError
from tests.support.ledger import row
from tests.support.postgres import PostgresServer, postgres_server

pytestmark = pytest.mark.interop


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def replicate_to_all(primary: PostgresServer) -> None:
    primary.admin("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.admin("SELECT pg_reload_conf()")
    until(lambda: primary.admin("SELECT sync_state FROM pg_stat_replication") == [("sync",)])


def test_a_standby_takes_over_with_all_that_was_acknowledged_and_nothing_is_promised_without_it(tmp_path: Path) -> None:
    with postgres_server() as primary:
        name = primary.database()
        there = primary.places(tmp_path, name)
        migrating.migrate(there, "up")
        with postgres_server(of=primary) as standby:
            after = standby.places(tmp_path, name)
            replicate_to_all(primary)
            with closing(postgres_opening.open_writer(there)) as backend:
                for number in range(20):
                    backend.append([row(number)], [])
                with pytest.raises(LedgerUnavailableError, match="is a standby"):
                    postgres_opening.open_writer(after)

                primary.kill()
                with pytest.raises(LedgerUnavailableError):
                    backend.append([row(20)], [])
            standby.admin("ALTER SYSTEM SET synchronous_standby_names = ''")
            standby.admin("SELECT pg_promote()")

            with closing(postgres_opening.open_writer(after, wait_seconds=60, server_seconds=60)) as backend:
                assert backend.rows(0, 99) == [row(number) for number in range(20)]
                backend.append([row(20)], [])


def test_a_commit_that_waits_for_a_standby_in_vain_is_not_acknowledged(tmp_path: Path) -> None:
    with postgres_server() as primary:
        places = primary.places(tmp_path, primary.database())
        migrating.migrate(places, "up")
        with postgres_server(of=primary) as standby:
            replicate_to_all(primary)
            with closing(postgres_opening.open_writer(places)) as backend:
                backend.append([row(0)], [])
                standby.kill()
                refused: list[LedgerUnavailableError] = []

                def append() -> None:
                    try:
                        backend.append([row(1)], [])
                    except LedgerUnavailableError as error:
                        refused.append(error)

                waiting = threading.Thread(target=append)
                waiting.start()
                until(lambda: primary.admin("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == [(1,)])
                # Somebody loses patience: the server says "committed locally", with a warning, and calls it success.
                primary.admin("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
                waiting.join()

                assert backend.failed
        assert len(refused) == 1
        assert "warning" in refused[0].why
