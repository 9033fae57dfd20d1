"""Opening the ledger on a server as one of several nodes that record at once (ADR 53).

Each batch is one transaction that begins by taking the *pen*: it raises the fencing token by one, and with that holds
the one row that says who writes until it ends. The batches of all nodes stand in line at that row; who has the pen
reads what the others added, and goes on after it. Locks of the session, which end with it, say who is there:

    LOCK     shared by every node; held alone by who records alone: a single writer, a copy, a node that opens first
    a name   of the node: no two nodes are called the same
    LEADING  held by one of the nodes: it decides for the site

A batch goes through the session that holds these, so whoever lost them can commit nothing any more.
"""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from appliance.audit.postgres_backend import PostgresBackend
from appliance.audit.postgres_opening import (
    LOCK,
    RETRY_SECONDS,
    closed_on_failure,
    prepared,
    reading,
    require_here,
)
from appliance.config import Places
from appliance.errors import ConflictError, LedgerUnavailableError
from appliance.postgres.session import Session, StatementError

LEADING: Final = 0x5EA11F70_00000003
# A node that is frozen in the middle of a batch keeps the others from theirs for so long, then the server ends it.
PEN_SECONDS: Final = 10
_CALLED: Final = "sealift-node "
_PEN: Final = """
WITH pen AS (UPDATE sealift_ledger.writer SET token = token + 1 WHERE id = 1 AND moved IS NULL RETURNING token)
SELECT set_config('sealift.token', token::text, true), current_setting('fsync'), current_setting('full_page_writes')
FROM pen"""
_ADDED: Final = (
    "SELECT sequence, kind, hash, chain, retry FROM sealift_ledger.leaf WHERE sequence >= %s ORDER BY sequence LIMIT %s"
)
_NODES: Final = """
SELECT a.application_name, EXISTS (
  SELECT 1 FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND (l.classid::bigint << 32) + l.objid::bigint = %s
) FROM pg_stat_activity a WHERE a.datname = current_database() AND a.usename = 'sealift_ledger'
AND starts_with(a.application_name, %s) ORDER BY 1"""


class Added(NamedTuple):
    """What a node needs to know of a record that another one added."""

    sequence: int
    kind: str
    hash: bytes
    chain: bytes
    retry: str


class Node(NamedTuple):
    """A node that has the ledger open."""

    name: str
    leads: bool


class SharedBackend(PostgresBackend):
    """A `Backend` of one node among several. Use `open_node`."""

    def __init__(self, session: Session, *, name: str, is_alone: bool) -> None:
        super().__init__(session)
        self.name = name
        self.is_alone = is_alone
        """Whether no other node can have the ledger open: only until `share`."""
        self.leads = False
        self._turning: int | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the pen for a block, whose appends are one transaction: durable when this returns without an error.

        Raises:
            LedgerUnavailableError: As `append`.
        """
        with self._writing():
            self._turning = threading.get_ident()
            try:
                yield
            finally:
                self._turning = None

    def added(self, start: int, limit: int) -> list[Added]:
        """Return what was added from `start` on, by whomever."""
        return [
            Added(int(sequence), str(kind), bytes(hashed), bytes(chain), bytes(retry).decode())
            for sequence, kind, hashed, chain, retry in self._all(_ADDED, (start, limit))
        ]

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Show a block the records as they stand now, whoever adds to them meanwhile; it only reads."""
        self._all("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield
        finally:
            self._all("ROLLBACK")

    def share(self) -> None:
        """Let other nodes come in; from now on none is alone."""
        if self.is_alone:
            self.is_alone = False
            self._all("SELECT pg_advisory_lock_shared(%s), pg_advisory_unlock(%s)", (LOCK, LOCK))

    def try_to_lead(self) -> bool:
        """Take the lead when no node has it; return whether this one does."""
        if not self.leads:
            self.leads = bool(self._all("SELECT pg_try_advisory_lock(%s)", (LEADING,))[0][0])
        return self.leads

    def distrust(self) -> None:
        """Believe nothing of this session any more: only opening anew shows what is there."""
        self._failed = True

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._turning == threading.get_ident():
            yield
            return
        with super()._writing():
            yield

    def _begin(self) -> tuple[str, str]:
        found = self._session.all(_PEN)
        if not found:
            raise StatementError(why="the records were moved away", passing=False)
        ((_, fsync, pages),) = found
        return str(fsync), str(pages)


def open_node(places: Places, name: str, *, wait_seconds: float = 0.0, server_seconds: float = 0.0) -> SharedBackend:
    """Open the ledger as one of several nodes.

    Args:
        places: The site's places, with a server.
        name: Of this node.
        wait_seconds: How long to wait for who records alone, or has this name.
        server_seconds: How long to wait for a server that is away.

    Raises:
        LedgerUnavailableError: The server is away, gives commits away, somebody records alone, or has this name.
        LedgerDamagedError: Its tables are of a newer release, or its records were moved elsewhere.
    """
    session = prepared(places, server_seconds=server_seconds, open_seconds=PEN_SECONDS)
    with closed_on_failure(session):
        # What the others added while this one waited for the pen must be seen, whatever the server's people prefer.
        session.all(
            "SELECT set_config('default_transaction_isolation', 'read committed', false), "
            "set_config('application_name', %s, false)",
            (_CALLED + name,),
        )
        deadline = time.monotonic() + wait_seconds
        while not _locked(session, key_of(name)):
            _wait(deadline, f"another node is called {name}", "give each node of a site its own database.node")
        while not (is_alone := _locked(session, LOCK)) and not _locked(session, LOCK, shared=True):
            _wait(
                deadline,
                "another process has the ledger open for itself",
                "a node without database.node, a copy, or a node that is just opening it: stop the first two",
            )
        ((moved,),) = session.all("SELECT moved FROM sealift_ledger.writer")
        require_here(moved)
    return SharedBackend(session, name=name, is_alone=is_alone)


def nodes_of(places: Places) -> list[Node]:
    """Return the nodes that have the ledger open now, by name; the server knows, whichever node asks.

    Raises:
        LedgerUnavailableError: The server is away.
    """
    with reading(places) as session:
        found = session.all(_NODES, (LEADING, _CALLED))
    return [Node(str(called).removeprefix(_CALLED), bool(leads)) for called, leads in found]


@contextmanager
def held_out(places: Places, name: str) -> Iterator[None]:
    """Keep a node that is not there from opening the ledger for a block.

    Raises:
        ConflictError: It has the ledger open.
        LedgerUnavailableError: The server is away.
    """
    with reading(places) as session:
        if not _locked(session, key_of(name)):
            raise ConflictError(
                what=f"node {name} has the ledger open",
                why="the database server holds its lock, so it is not gone",
                fix="do it on that node, or stop its services first",
            )
        yield


def key_of(name: str) -> int:
    """Return the number of the lock of a node's name."""
    return int.from_bytes(hashlib.sha256(_CALLED.encode() + name.encode()).digest()[:8], "big", signed=True)


def _locked(session: Session, key: int, *, shared: bool = False) -> bool:
    how = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
    return bool(session.all(f"SELECT {how}(%s)", (key,))[0][0])


def _wait(deadline: float, what: str, fix: str) -> None:
    if time.monotonic() >= deadline:
        raise LedgerUnavailableError(what=what, why="its session holds the lock, perhaps on another machine", fix=fix)
    time.sleep(RETRY_SECONDS)
