"""Large ledgers for benchmarks, written many times faster than a service appends: the same bytes, hashes and nodes.

Every leaf is cut from one that the ledger's own encoder made, and every hash is computed; what is left out is checking
each record's shape, one transaction for each batch of a service, and SQLite's triggers and indexes while rows go in. A
log that is opened over the result signs it and proves from it as from any other, and `verify` recomputes it.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from appliance.audit import exclusive, tree
from appliance.audit.backend import Backend, Row
from appliance.audit.leaf import Via, encode, encode_body
from appliance.audit.log import Log, Signer
from appliance.audit.postgres_opening import open_writer as open_postgres
from appliance.audit.sqlite_backend import FILE_NAME, open_writer
from appliance.keys.files import FileKeys
from media.clock import Clock, SystemClock, to_text
from tests.support.ledger import LedgerSite, intent

KIND: Final = "request.intent"
_PAGE: Final = 2**14
_PLACE: Final = 987_654_321_012
"""Stands for the sequence in the leaf that all are cut from; one more stands for the request."""

Page = tuple[list[Row], list[tree.Node]]


def grow(site: LedgerSite, count: int) -> None:
    """Fill a site's ledger file with requests up to this size, and sign it."""
    site.places.ledger.mkdir(parents=True, exist_ok=True)
    exclusive.take(site.places.ledger).close()  # readers look for the lock that a writer left
    path, clock = site.places.ledger / FILE_NAME, SystemClock()
    with closing(open_writer(path)) as backend:
        origin = opened(site, backend, clock).origin
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        named = "SELECT name, type, sql FROM sqlite_master WHERE name IN ('leaf_gap', 'leaf_kind', 'leaf_term')"
        aside = database.execute(named).fetchall()
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE"):
            database.execute(f"PRAGMA {pragma}").fetchall()
        for name, kind, _ in aside:
            database.execute(f"DROP {kind} {name}")
        first = Row._make(database.execute("SELECT * FROM leaf").fetchone())
        for rows, nodes in pages(first, count, origin=origin, clock=clock):
            database.execute("BEGIN")
            database.executemany("INSERT INTO leaf VALUES(?, ?, ?, ?, ?, ?, ?)", rows)
            database.executemany("INSERT INTO node VALUES(?, ?, ?)", nodes)
            database.execute("COMMIT")
        for *_, statement in aside:
            database.execute(statement)
    with closing(open_writer(path)) as backend:
        opened(site, backend, clock).checkpoint()


def grow_on_server(site: LedgerSite, count: int) -> None:
    """Fill a site's ledger on its PostgreSQL server up to this size, and sign it."""
    clock = SystemClock()
    with closing(open_postgres(site.places, session_seconds=0)) as backend:
        log = opened(site, backend, clock)
        first = backend.rows(log.head().size - 1, 1)[0]
        for rows, nodes in pages(first, count, origin=log.origin, clock=clock):
            backend.append(rows, nodes)
        opened(site, backend, clock).checkpoint()


def opened(site: LedgerSite, backend: Backend, clock: Clock) -> Log:
    """Return the log over a backend with the site's key; an empty one gets its opening."""
    keys = FileKeys(site.places.key_files)
    signer = Signer(public=keys.public("ledger-checkpoint"), sign=lambda data: keys.sign("ledger-checkpoint", data))
    return Log.open(backend, clock=clock, site="demo", signer=signer)


def pages(first: Row, count: int, *, origin: str, clock: Clock) -> Iterator[Page]:
    """Yield rows and nodes that follow the opening of a log of this origin, up to `count` records."""
    if first.sequence:
        raise AssertionError("the ledger holds more than its opening")
    before, between, after = _around(origin, clock)
    frontier, chain, size = [first.hash], first.chain, 1
    sha256 = hashlib.sha256
    while size < count:
        rows: list[Row] = []
        nodes: list[tree.Node] = []
        for sequence in range(size, min(size + _PAGE, count)):
            raw = b"%s%d%s%d%s" % (before, sequence, between, sequence, after)
            hashed = sha256(b"\0" + raw).digest()
            chain = sha256(chain + hashed).digest()
            rows.append(Row(sequence, KIND, raw, hashed, chain, f"req_{sequence}", ""))
            nodes += tree.push(frontier, sequence, hashed)
        size += len(rows)
        yield rows, nodes


def _around(origin: str, clock: Clock) -> tuple[bytes, bytes, bytes]:
    """Return what stands before, between and after the two numbers of each leaf."""
    whole = encode(
        origin=origin,
        sequence=_PLACE,
        time=to_text(clock.now()),
        kind=KIND,
        via=Via(door="ledger-gateway", uid=0),
        body=encode_body(KIND, intent(f"req_{_PLACE + 1}")),
    )
    one, other = sorted((b"%d" % _PLACE, b"%d" % (_PLACE + 1)), key=whole.index)
    before, _, rest = whole.partition(one)
    between, _, after = rest.partition(other)
    return before, between, after
