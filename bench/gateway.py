"""The gateway: `make bench-gateway`, or REQUESTS=500 ROUNDS=1 IDLE=50 python -m bench.gateway for a short run.

Ours has keys, limits, the queue, the search for identifiers and two durable records of each answer, by its real
processes (gunicorn, ledger); LiteLLM's proxy has nothing switched on. Both stand before the same engine, which costs
nothing (`bench.mock_engine`). Rounds are interleaved and each begins with another contestant; the engine alone is a
contestant, so that `added` is a difference. LiteLLM's is measured wherever there is room and kept to one core, as ours
is, and the better of both is held against ours. Both rows are of a short question; the same of clinical notes
(`notes-dev.txt`), whose identifiers ours replaces and LiteLLM does not look for, informs.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench import asking, gateway_memory
from bench.asking import Contestant
from bench.litellm_peer import environment, proxy
from bench.measuring import Row, machine, say, versions, write
from bench.notes import notes
from tests.support.gateway import MODEL
from tests.support.gateway_server import free_port, gateway_server

REQUESTS: Final = int(os.environ.get("REQUESTS", "100000"))
ROUNDS: Final = int(os.environ.get("ROUNDS", "5"))
IDLE: Final = int(os.environ.get("IDLE", "500"))
_ALONE: Final = 200
_TOGETHER: Final = 800
_CALLERS: Final = 8
_CHUNKS: Final = 64
_ON_ONE: Final = "LiteLLM on one core"
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
            rows.append(_memory(ours))
            rows.append(_idle(ours))
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
    read = [one.text for one in notes("dev")]
    for texts, what in ((asking.QUESTION, ""), (read, ", of clinical notes")):
        yield _added_row(every, texts, commit, what=what)
        yield _per_core_row(ours, theirs, texts, what=what)
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


def _added_row(every: tuple[Contestant, ...], texts: Sequence[str], commit: float, *, what: str) -> Row:
    """Return the row of what is added to one caller's answer; the goal is of a short question."""
    direct, ours, theirs = every
    held = replace(theirs, name=_ON_ONE)
    taken = _rounds((direct, ours, theirs, held), lambda one: statistics.median(_asked_alone(one, texts)))
    added, peer = _added(taken, ours), min(_added(taken, theirs), _added(taken, held))
    most = _MOST_ADDED * peer + commit
    say(f"added{what}: ours {added * 1000:.2f} ms, LiteLLM {peer * 1000:.2f} ms")
    return Row(
        name=f"added to an answer at the median, one caller{what}",
        ours=added * 1000,
        peer=peer * 1000,
        unit="ms",
        ratio=added / peer,
        goal=None if what else f"at most {_MOST_ADDED} times LiteLLM's and one commit ({commit * 1000:.2f} ms)",
        met=None if what else added <= most,
        more={"runs": taken},
    )


def _per_core_row(ours: Contestant, theirs: Contestant, texts: Sequence[str], *, what: str) -> Row:
    held = replace(theirs, name=_ON_ONE)
    cost = _rounds((ours, theirs, held), lambda one: _per_core(one, texts))
    mine = statistics.median(cost[ours.name])
    other = max(statistics.median(cost[one.name]) for one in (theirs, held))
    say(f"per core{what}: ours {mine:.0f}/s, LiteLLM {other:.0f}/s")
    return Row(
        name=f"answers a second per core, {_CALLERS} callers{what}",
        ours=mine,
        peer=other,
        unit="1/s",
        ratio=mine / other,
        goal=None if what else f"at least {_LEAST_PER_CORE:g} times LiteLLM's",
        met=None if what else mine >= _LEAST_PER_CORE * other,
        more={"runs": cost},
    )


def _asked_alone(one: Contestant, texts: Sequence[str]) -> list[float]:
    with _held(one):
        return asking.alone(one, _ALONE, texts)


@contextmanager
def _held(one: Contestant) -> Iterator[None]:
    """Keep whoever is called so to one core, which ours is kept to by its unit (ADR 63)."""
    if one.name != _ON_ONE:
        yield
        return
    with asking.kept_to(one.pids, min(os.sched_getaffinity(0))):
        yield


def _added(taken: Mapping[str, list[float]], one: Contestant) -> float:
    """Return the median over rounds of what a contestant took beyond the engine alone in the same round."""
    return statistics.median(mine - base for mine, base in zip(taken[one.name], taken["engine alone"], strict=True))


def _per_core(one: Contestant, texts: Sequence[str]) -> float:
    with _held(one):
        before = one.processor_seconds()
        asking.together(one, _TOGETHER, callers=_CALLERS, texts=texts)
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
