"""The ledger: `make bench-ledger`, or ROWS=1000000 SECONDS=5 python -m bench.ledger.

    records        durable records per second of the service over its socket, 64 writers with 16 records in flight each;
                   beside it one commit for each record by SQLite alone on the same disk (WAL, synchronous=FULL)
    fewer writers  the same with 1 and 16 writers, for information
    acknowledged   the time until a record is acknowledged at 1,000 records a second, the 99th percentile
    inclusion      one proof in a ledger of ROWS records (10 million by default), the median of 1,000 leaves at random
    verify         recomputing all of a million records (fewer where ROWS is less), ours and the checker's: seconds of
                   one processor, since both have one thread
    PostgreSQL     records, acknowledgement and inclusion again with the records on a real server on the same disk, for
                   information beside ours on SQLite; POSTGRES_ROWS (as many as ROWS) are in the large one, 0 for none

BENCH_DIR is a folder on the disk to measure. The writers are one process that only passes prepared lines, so that what
is measured is the service; both share the machine's cores, as a gateway and its ledger do. Large ledgers are written by
`bench.growing`, which takes what it needs of the disk (half a gigabyte for a million records) until the end.
"""

import json
import os
import random
import selectors
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic, perf_counter, process_time, sleep
from typing import Final

from appliance.actions.auditing import making
from appliance.actions.databases import migrating
from appliance.audit.backend import Backend
from appliance.audit.log import Log
from appliance.audit.offline import OfflineLedger
from appliance.audit.postgres_opening import open_reader
from appliance.audit.sqlite_backend import FILE_NAME, open_writer
from appliance.audit.verify import verify
from bench import growing
from bench.measuring import ROOT, Row, machine, say, timed, write
from media.clock import SystemClock
from tests.support.ledger import LedgerSite, intent, ledger_site
from tests.support.postgres import PostgresServer

ROWS: Final = int(os.environ.get("ROWS", "10000000"))
POSTGRES_ROWS: Final = int(os.environ.get("POSTGRES_ROWS", str(ROWS)))
SECONDS: Final = float(os.environ.get("SECONDS", "10"))
_VERIFIED: Final = min(ROWS, 1_000_000)
_FLIGHT: Final = 16
_LEAST_PER_SECOND: Final = 30_000
_TIMES: Final = 40
_SLOW_COMMIT: Final = 0.002
_MOST_ACKNOWLEDGED: Final = 0.015
_MOST_PROOF: Final = 0.010
_GOAL_ROWS: Final = 10_000_000
_MOST_VERIFY: Final = 60.0
_LATE: Final = "99th percentile of the acknowledgement at 1,000 records/s"
_SERVER: Final = {
    "listen_addresses": "''",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "logging_collector": "off",
    "log_min_messages": "fatal",
}


def main() -> int:
    """Measure all and write build/bench/ledger.json; return the exit status."""
    rows = [machine()]
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR"), prefix="bench-ledger-") as folder:
        commit = single_commits(Path(folder) / "single.db")
        say(f"one commit takes {commit * 1000:.2f} ms")
        rows += writing(Path(folder), commit)
        rows += reading(Path(folder))
    return write("ledger", rows)


def single_commits(path: Path) -> float:
    """Return the median seconds of one commit of one record."""
    database = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        database.execute(f"PRAGMA {pragma}").fetchall()
    database.execute("CREATE TABLE record(sequence INTEGER PRIMARY KEY, raw BLOB)")
    taken = []
    raw = json.dumps(intent("req_0")).encode()
    ends = monotonic() + SECONDS / 2
    while monotonic() < ends:
        began = perf_counter()
        database.execute("INSERT INTO record(raw) VALUES(?)", (raw,))
        taken.append(perf_counter() - began)
    database.close()
    return statistics.median(taken)


def writing(folder: Path, commit: float) -> Iterator[Row]:
    """Yield the rows about records that are written through the service's socket, in a file and on a server."""
    ours: dict[str, float] = {}
    with ledger_site(folder / "service") as site, site.process():
        for writers in (64, 16, 1):
            name = f"durable records, {writers} writers with {_FLIGHT} in flight"
            count = ours[name] = flood(site, writers)
            say(f"{writers} writers: {count:.0f} records/s")
            is_slow = commit >= _SLOW_COMMIT
            goal = f"at least {_TIMES} times single commits" if is_slow else f"at least {_LEAST_PER_SECOND}/s"
            met = count * commit >= _TIMES if is_slow else count >= _LEAST_PER_SECOND
            yield Row(
                name=f"{name}, against one commit each",
                ours=count,
                peer=1 / commit,
                unit="1/s",
                ratio=count * commit,
                goal=goal if writers == 64 else None,
                met=met if writers == 64 else None,
            )
        late = ours[_LATE] = paced(site)
        say(f"acknowledged: p99 {late * 1000:.1f} ms")
        yield Row(
            name=f"{_LATE}, against one commit",
            ours=late,
            peer=commit,
            unit="s",
            ratio=late / commit,
            goal="under 15 ms and one commit",
            met=late < _MOST_ACKNOWLEDGED + commit,
        )
    if POSTGRES_ROWS:
        with on_server(folder / "server") as site, site.process():
            name = f"durable records, 64 writers with {_FLIGHT} in flight"
            yield beside(name, flood(site, 64), ours[name], "1/s")
            yield beside(_LATE, paced(site), ours[_LATE], "s")


@contextmanager
def on_server(folder: Path) -> Iterator[LedgerSite]:
    """Lend a site whose ledger is on a PostgreSQL server of its own, which lies below this folder."""
    folder.mkdir()
    for above in (folder, folder.parent):  # the server has a user of its own
        above.chmod(0o711)
    place = folder / "pg"
    place.mkdir()
    server = PostgresServer(folder=place, settings=dict(_SERVER))
    try:
        server.create()
        section = server.section(server.database())
        with ledger_site(folder / "site", database=section) as site:
            migrating.migrate(site.places, "up")
            yield site
    finally:
        server.kill()


def beside(name: str, figure: float, ours: float, unit: str) -> Row:
    """Return the row of a figure with the records on a server; the peer is the same in a file."""
    say(f"PostgreSQL: {name}: {figure:.4g} {unit}")
    return Row(name=f"{name}, on PostgreSQL, against SQLite", ours=figure, peer=ours, unit=unit, ratio=figure / ours)


def connected(site: LedgerSite) -> socket.socket:
    """Return a connection to the gateway's door."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.connect(str(site.places.socket("ledger-gateway")))
    return line


def _prepared() -> bytes:
    """Return the line of a request to append, made once, with places for the numbers of its key and its request."""
    body = intent("req_%d", department="radiology", key_id="abcdefghij", phi={"NAME": 1})
    message = {"do": "append", "key": f"%x-{os.getpid()}", "kind": "request.intent", "body": body}
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


_LINE: Final = _prepared()


def told(number: int) -> bytes:
    """Return the line of one request to append."""
    return _LINE % (number, number)


def flood(site: LedgerSite, writers: int) -> float:
    """Return acknowledged records per second when every writer keeps its number in flight."""
    lines, selector = [connected(site) for _ in range(writers)], selectors.DefaultSelector()
    number = random.getrandbits(40)
    for line in lines:
        line.sendall(b"".join(told(number + place) for place in range(_FLIGHT)))
        number += _FLIGHT
        selector.register(line, selectors.EVENT_READ)
    done, began = 0, monotonic()
    while monotonic() - began < SECONDS:
        for key, _ in selector.select(1.0):
            if not isinstance(key.fileobj, socket.socket):
                continue
            answers = key.fileobj.recv(2**16).count(b"\n")
            done += answers
            key.fileobj.sendall(b"".join(told(number + place) for place in range(answers)))
            number += answers
    seconds = monotonic() - began
    for line in lines:
        line.close()
    return done / seconds


def paced(site: LedgerSite) -> float:
    """Return the 99th percentile of seconds from sending to the acknowledgement, at 1,000 records a second."""
    line, number = connected(site), random.getrandbits(40)
    line.setblocking(False)
    waiting: deque[float] = deque()
    taken: list[float] = []
    began = monotonic()
    sent, most = 0, int(1000 * SECONDS)
    while len(taken) < most and monotonic() - began < 4 * SECONDS:
        while sent < most and sent / 1000 <= monotonic() - began:
            line.sendall(told(number + sent))
            waiting.append(perf_counter())
            sent += 1
        try:
            answers = line.recv(2**16).count(b"\n")
        except BlockingIOError:
            sleep(0.0002)
            continue
        now = perf_counter()
        taken += [now - waiting.popleft() for _ in range(answers)]
    line.close()
    return statistics.quantiles(taken, n=100)[98]


def reading(folder: Path) -> Iterator[Row]:
    """Yield the rows about a large ledger: proofs of single records, and recomputing it."""
    with ledger_site(folder / "large") as site:
        say(f"writing {ROWS} records took {timed(lambda: growing.grow(site, ROWS)):.0f} s")
        with closing(open_writer(site.places.ledger / FILE_NAME)) as backend:
            proof = proofs(backend)
        say(f"inclusion: {proof * 1000:.2f} ms")
        yield Row(
            name=f"inclusion proof in {ROWS} records, median of 1,000",
            ours=proof,
            peer=None,
            unit="s",
            goal="under 10 ms in 10 million",
            met=proof < _MOST_PROOF if ROWS >= _GOAL_ROWS else None,
        )
        shutil.rmtree(site.places.ledger)
    if POSTGRES_ROWS:
        with on_server(folder / "large-server") as site:
            took = timed(lambda: growing.grow_on_server(site, POSTGRES_ROWS))
            say(f"writing {POSTGRES_ROWS} records on PostgreSQL took {took:.0f} s")
            with closing(open_reader(site.places)) as reader:
                found = proofs(reader)
        shutil.rmtree(folder / "large-server")
        yield beside(f"inclusion proof in {POSTGRES_ROWS} records, median of 1,000", found, proof, "s")
    with ledger_site(folder / "million") as site:
        growing.grow(site, _VERIFIED)
        ledger = OfflineLedger(site.places, clock=SystemClock())
        began = process_time()
        done = verify(ledger)
        seconds = process_time() - began
        if not done.ok:
            raise AssertionError(done.findings)
        checked = checker_seconds(ledger, folder / "export")
        say(f"verify: {seconds:.1f} s, the checker {checked:.1f} s")
        yield Row(
            name=f"verify {_VERIFIED} records, against the stand-alone checker on the export",
            ours=seconds,
            peer=checked,
            unit="s",
            ratio=seconds / checked,
            goal="a million under 60 s on one core",
            met=seconds * 1_000_000 / _VERIFIED < _MOST_VERIFY,
        )


def proofs(backend: Backend) -> float:
    """Return the median seconds of one inclusion proof through the open ledger, leaves at random; each is checked."""
    log = Log.read(backend, clock=SystemClock())
    head, taken = log.head(), []
    for _ in range(1000):
        leaf = random.randrange(head.size)  # noqa: S311 - a sample
        began = perf_counter()
        proof = log.inclusion(leaf, head.size)
        taken.append(perf_counter() - began)
        if proof.root != head.root:
            raise AssertionError(leaf)
        proof.require(log.leaf(leaf).raw)
    return statistics.median(taken)


def checker_seconds(ledger: OfflineLedger, folder: Path) -> float:
    """Export, and return how many seconds of a processor the stand-alone checker takes over it."""
    wanted = making.Wanted(site="demo", key=ledger.vkey(), recorded=False)
    making.make(ledger, folder, wanted, clock=SystemClock())
    command = [sys.executable, "-I", str(ROOT / "bundler/check/verify.py"), "ledger", "--unrecorded", str(folder)]
    before = os.times().children_user + os.times().children_system
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return os.times().children_user + os.times().children_system - before


if __name__ == "__main__":
    raise SystemExit(main())
