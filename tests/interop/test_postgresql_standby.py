"""A server with a synchronous standby: it takes over with everything, and what it may not have is not promised."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.actions.databases import migrating
from appliance.audit import postgres_opening
from appliance.audit.entry import Entry
from appliance.audit.facts import Appended, EvidenceLedger
from appliance.audit.leaf import Via
from appliance.audit.log import Signer
from appliance.audit.postgres_sharing import open_node
from appliance.audit.sharing import SharedLog
from appliance.audit.verify import verify
from appliance.config import Places
from appliance.errors import LedgerUnavailableError
from media.clock import SystemClock
from tests.support.ledger import row
from tests.support.postgres import PostgresServer, postgres_server

pytestmark = pytest.mark.interop

PRIVATE = Ed25519PrivateKey.generate()
SIGNER = Signer(public=PRIVATE.public_key().public_bytes_raw(), sign=PRIVATE.sign)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def replicate_to_all(primary: PostgresServer) -> None:
    primary.admin("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.admin("SELECT pg_reload_conf()")
    until(lambda: primary.admin("SELECT sync_state FROM pg_stat_replication") == [("sync",)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A server and its synchronous standby, with one database: `before` names it at the one, `after` at the other."""

    primary: PostgresServer
    standby: PostgresServer
    before: Places
    after: Places

    def take_over(self) -> None:
        """Let the standby go on alone."""
        self.standby.admin("ALTER SYSTEM SET synchronous_standby_names = ''")
        self.standby.admin("SELECT pg_promote()")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with postgres_server() as primary:
        name = primary.database()
        before = primary.places(tmp_path, name)
        migrating.migrate(before, "up")
        with postgres_server(of=primary) as standby:
            replicate_to_all(primary)
            yield Pair(primary=primary, standby=standby, before=before, after=standby.places(tmp_path, name))


def test_a_standby_takes_over_with_all_that_was_acknowledged_and_nothing_is_promised_without_it(pair: Pair) -> None:
    with closing(postgres_opening.open_writer(pair.before)) as backend:
        for number in range(20):
            backend.append([row(number)], [])
        with pytest.raises(LedgerUnavailableError, match="is a standby"):
            postgres_opening.open_writer(pair.after)

        pair.primary.kill()
        with pytest.raises(LedgerUnavailableError):
            backend.append([row(20)], [])
    pair.take_over()

    with closing(postgres_opening.open_writer(pair.after, wait_seconds=60, server_seconds=60)) as backend:
        assert backend.rows(0, 99) == [row(number) for number in range(20)]
        backend.append([row(20)], [])


def test_a_commit_that_waits_for_a_standby_in_vain_is_not_acknowledged(pair: Pair) -> None:
    primary = pair.primary
    with closing(postgres_opening.open_writer(pair.before)) as backend:
        backend.append([row(0)], [])
        pair.standby.kill()
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


def test_two_nodes_go_on_at_a_standby_with_all_that_either_acknowledged(pair: Pair) -> None:
    with ExitStack() as stack:
        logs = [opened(stack, pair.before, node) for node in ("a", "b")]
        promised = [log.append([noted(number)])[0] for number in range(5) for log in logs]
        pair.primary.kill()
        for log in logs:
            with pytest.raises(LedgerUnavailableError):
                log.append([noted(9)])
            assert log.backend.failed
    pair.take_over()

    with ExitStack() as stack:
        logs = [opened(stack, pair.after, node) for node in ("b", "a")]
        for log in logs:
            promised += log.append([noted(10)])
        heads = {log.head() for log in logs}
        for one in promised:
            assert isinstance(one, Appended)
            assert logs[0].leaf(one.sequence).hash == one.leaf_hash
        assert verify(cast("EvidenceLedger", logs[1])).ok
    assert len(heads) == 1


def opened(stack: ExitStack, places: Places, node: str) -> SharedLog:
    """Open the ledger as a node and let the next one in."""
    backend = stack.enter_context(closing(open_node(places, node, wait_seconds=60, server_seconds=60)))
    log = SharedLog.open(backend, clock=SystemClock(), site="demo", signer=SIGNER)
    backend.share()
    assert isinstance(log, SharedLog)
    return log


def noted(number: int) -> Entry:
    return Entry.of("model.noted", {"number": number}, via=Via(door="ledger-actions", uid=7))
