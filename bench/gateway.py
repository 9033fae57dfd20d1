"""The gateway: `make bench-gateway`, or REQUESTS=500 ROUNDS=1 IDLE=50 python -m bench.gateway for a short run.

Ours has keys, limits, the queue, the search for identifiers and two durable records of each answer, by its real
processes (gunicorn, ledger); LiteLLM's proxy has nothing switched on. Both stand before the same engine, which costs
nothing (`bench.mock_engine`). Rounds are interleaved and each begins with another contestant; the engine alone is a
contestant, so that `added` is a difference.

    added       the median time of one caller's answers, without the engine's own
    per core    answers a second for each second of a processor that the contestant's processes used, 8 callers
    chunk       the median time from the engine's sending a chunk to the caller's reading it, without the engine's own
    memory      what our processes hold after REQUESTS (100,000) answers, by what they held after a tenth of these
    idle        the 95th percentile of good callers beside IDLE (500) streams that say nothing, by what it was before;
                each must still be open afterwards

BENCH_DIR is a folder on the disk that records are written to.
"""

import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench import asking, gateway_memory
from bench.asking import Contestant
from bench.litellm_peer import environment, proxy
from bench.measuring import Row, machine, say, versions, write
from tests.support.gateway import MODEL
from tests.support.gateway_server import free_port, gateway_server

REQUESTS: Final = int(os.environ.get("REQUESTS", "100000"))
ROUNDS: Final = int(os.environ.get("ROUNDS", "5"))
IDLE: Final = int(os.environ.get("IDLE", "500"))
_ALONE: Final = 200
_TOGETHER: Final = 800
_CALLERS: Final = 8
_CHUNKS: Final = 64
_INTERVAL: Final = 10.0
_MOST_ADDED: Final = 0.35
_LEAST_PER_CORE: Final = 4.0
_MOST_IDLE: Final = 1.5


def main() -> int:
    """Measure all and write build/bench/gateway.json; return the exit status."""
    rows = [machine(), versions((environment() / "bin/python", ["litellm"]))]
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR"), prefix="bench-gateway-") as name:
        folder = Path(name)
        commit = _commit_seconds(folder / "single.db")
        say(f"one commit takes {commit * 1000:.2f} ms")
        with _contestants(folder) as (direct, ours, theirs):
            rows += _compared(direct, ours, theirs, commit)
            rows.append(_idle(ours))
            rows.append(_memory(ours))
    return write("gateway", rows)


@contextmanager
def _contestants(folder: Path) -> Iterator[tuple[Contestant, Contestant, Contestant]]:
    room = gateway_memory.limits(together=IDLE + 64)
    with ExitStack() as stack:
        server = stack.enter_context(
            gateway_server(folder / "ours", limits=room, ledger_apart=True, core=min(os.sched_getaffinity(0)))
        )
        engine_port, port = stack.enter_context(free_port()), stack.enter_context(free_port())
        engine = stack.enter_context(gateway_memory.costless_engine(server, port=engine_port))
        say("LiteLLM begins")
        (folder / "theirs").mkdir()
        other = stack.enter_context(proxy(folder / "theirs", engine_port=engine_port, port=port, model=MODEL))
        yield (
            Contestant(name="engine alone", port=engine_port, model=MODEL, pids=(engine.pid,)),
            gateway_memory.contestant(server),
            Contestant(name="LiteLLM", port=port, model=MODEL, pids=(other.pid,)),
        )


def _rounds(contestants: tuple[Contestant, ...], measure: Callable[[Contestant], float]) -> Mapping[str, list[float]]:
    found: dict[str, list[float]] = {one.name: [] for one in contestants}
    for number in range(ROUNDS):
        turn = number % len(contestants)
        for one in (*contestants[turn:], *contestants[:turn]):
            found[one.name].append(measure(one))
    return found


def _compared(direct: Contestant, ours: Contestant, theirs: Contestant, commit: float) -> Iterator[Row]:
    every = (direct, ours, theirs)
    for one in every:
        asking.alone(one, 50)  # whatever is made at first use is made now
    taken = _rounds(every, lambda one: statistics.median(asking.alone(one, _ALONE)))
    added, peer = _added(taken, ours), _added(taken, theirs)
    most = _MOST_ADDED * peer + commit
    say(f"added: ours {added * 1000:.2f} ms, LiteLLM {peer * 1000:.2f} ms")
    yield Row(
        name="added to an answer at the median, one caller",
        ours=added * 1000,
        peer=peer * 1000,
        unit="ms",
        ratio=added / peer,
        goal=f"at most {_MOST_ADDED} times LiteLLM's and one commit ({commit * 1000:.2f} ms)",
        met=added <= most,
        more={"runs": taken},
    )
    cost = _rounds((ours, theirs), _per_core)
    mine, other = statistics.median(cost[ours.name]), statistics.median(cost[theirs.name])
    say(f"per core: ours {mine:.0f}/s, LiteLLM {other:.0f}/s")
    yield Row(
        name=f"answers a second per core, {_CALLERS} callers",
        ours=mine,
        peer=other,
        unit="1/s",
        ratio=mine / other,
        goal=f"at least {_LEAST_PER_CORE:g} times LiteLLM's",
        met=mine >= _LEAST_PER_CORE * other,
        more={"runs": cost},
    )
    chunks = _rounds(every, lambda one: asking.chunk_seconds(one, chunks=_CHUNKS, milliseconds=_INTERVAL))
    added, peer = _added(chunks, ours), _added(chunks, theirs)
    say(f"chunk: ours {added * 1000:.2f} ms, LiteLLM {peer * 1000:.2f} ms")
    yield Row(
        name="added to a streamed chunk at the median",
        ours=added * 1000,
        peer=peer * 1000,
        unit="ms",
        ratio=added / peer if peer > 0 else None,
        more={"runs": chunks},
    )


def _added(taken: Mapping[str, list[float]], one: Contestant) -> float:
    """Return the median over rounds of what a contestant took beyond the engine alone in the same round."""
    return statistics.median(mine - base for mine, base in zip(taken[one.name], taken["engine alone"], strict=True))


def _per_core(one: Contestant) -> float:
    before = one.processor_seconds()
    asking.together(one, _TOGETHER, callers=_CALLERS)
    return _TOGETHER / max(one.processor_seconds() - before, 0.01)


def _idle(ours: Contestant) -> Row:
    before = _p95(ours)
    opened = asking.idle(ours, IDLE)
    beside = _p95(ours)
    asking.require_open(opened)
    for connection, response in opened:
        response.close()
        connection.close()
    say(f"beside {IDLE} idle streams: p95 {beside * 1000:.1f} ms, before {before * 1000:.1f} ms")
    return Row(
        name=f"95th percentile beside {IDLE} idle streams, against none",
        ours=beside * 1000,
        peer=before * 1000,
        unit="ms",
        ratio=beside / before,
        goal=f"at most {_MOST_IDLE} times",
        met=beside <= _MOST_IDLE * before,
    )


def _p95(one: Contestant) -> float:
    return statistics.median(
        statistics.quantiles(asking.together(one, _TOGETHER, callers=4)[1], n=20)[18] for _ in range(max(ROUNDS, 1))
    )


def _memory(ours: Contestant) -> Row:
    early, late = gateway_memory.resident(ours, REQUESTS, callers=_CALLERS)
    say(f"memory: {early / 2**20:.0f} MiB, then {late / 2**20:.0f} MiB")
    return Row(
        name=f"memory after {REQUESTS} answers, against a tenth of them",
        ours=late / 2**20,
        peer=early / 2**20,
        unit="MiB",
        ratio=late / early,
        goal=f"at most {gateway_memory.MOST_GROWTH} times",
        met=late <= gateway_memory.MOST_GROWTH * early,
    )


def _commit_seconds(path: Path) -> float:
    """Return the median seconds of one durable commit of one row on this disk."""
    database = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        database.execute(f"PRAGMA {pragma}").fetchall()
    database.execute("CREATE TABLE record(sequence INTEGER PRIMARY KEY, raw BLOB)")
    taken = []
    for _ in range(300):
        began = time.perf_counter()
        database.execute("INSERT INTO record(raw) VALUES(?)", (b"x" * 600,))
        taken.append(time.perf_counter() - began)
    database.close()
    return statistics.median(taken)


if __name__ == "__main__":
    raise SystemExit(main())
