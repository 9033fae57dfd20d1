"""The engine for processors: `make bench-engine` after `make demo`; CALLERS=1,16 ROUNDS=1 LEVELS=Q4_1 for a short run.

Ours is the unit's own process with its scheduler, asked at its socket; no gateway is before it. Beside it are
llama-cpp-python's packaged server, llama.cpp's own C++ server (as xllamacpp) and the bare `llama_decode` loop, which is
what any of them could reach: contexts apart as ours has, the likeliest token found in place. All have the same weights
and the same THREADS. Rounds are interleaved and each begins with another contestant; the others stay loaded and idle;
where goals are, at 16 callers, there are three times as many, since what a machine gives differs between them.
Every question is a new one, so that no contestant has read it before; all of them keep what they read, and questions
begin alike, as an application's do. ONLY=servers measures them alone, ONLY=step what Python takes of our engine's steps
alone.

    tokens     of whole answers of 64 tokens, a second, at 1, 4, 8, 16 and 32 callers
    first      the median time to the first token of a streamed answer at 16 callers
    step       what Python takes of a step at 16 callers: all but `llama_decode` and copies by llama.cpp, without HTTP

Of all servers whole answers are measured. The loop's clock starts before the tokens that each prompt shares with no
other, which any server has to read; what prompts begin with alike is read before. A second figure of the loop is of its
steps alone, as if no prompt had to be read at all.
"""

import http.client
import itertools
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench import engine_peers, engine_step
from bench.engine_peers import SUBJECTS
from bench.measuring import Row, machine, require_text, say, versions, write

CALLERS: Final = tuple(int(one) for one in os.environ.get("CALLERS", "1,4,8,16,32").split(","))
LEVELS: Final = tuple(os.environ.get("LEVELS", "Q4_1,Q8_0").split(","))
ROUNDS: Final = int(os.environ.get("ROUNDS", "3"))
THREADS: Final = int(os.environ.get("THREADS", str(os.cpu_count() or 1)))
ONLY: Final = os.environ.get("ONLY", "step,servers").split(",")
TOKENS: Final = 64
_LOOP, _STEPS = "bare loop", "bare loop without prompts"
_GOALS: Final = {"llama_cpp.server": 3.0, "llama.cpp C++": 1.15, _LOOP: 0.9}
# A question of `SUBJECTS` in the template, and what of it stands behind what all questions about a subject begin with.
_PROMPT, _OWN = 43, 8
_MORE_ROUNDS: Final = 3
_ALONE: Final = 0.95
_AT: Final = 16
_NUMBERS: Final = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Who is asked, at a Unix socket or a port of loopback."""

    name: str
    path: Path | None = None
    port: int = 0

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection of a caller's own."""
        connection = engine_peers.connection_to(self.port if self.path is None else self.path, timeout=600)
        connection.connect()
        return connection


@dataclass(slots=True)
class Callers:
    """So many callers that each ask once, at the same moment."""

    contestant: Contestant
    count: int
    stream: bool = False
    tokens: int = 0
    first: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> float:
        """Return the seconds until the last answer's end.

        Raises:
            SystemExit: One was not answered.
        """
        threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(self.count)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.faults:
            raise SystemExit(f"error: {self.contestant.name}: {self.faults[0]}")
        return time.perf_counter() - began

    def _ask(self, number: int) -> None:
        asked = [{"role": "user", "content": _question(number)}]
        body = {"model": "m", "messages": asked, "temperature": 0, "max_tokens": TOKENS}
        if self.contestant.path is not None:
            body["cache_salt"] = "bench"  # as the gateway says whose prompt it is; the peers share with everybody
        connection = self.contestant.connection()
        try:
            began = time.perf_counter()
            words = json.dumps({**body, "stream": self.stream})
            connection.request("POST", "/v1/chat/completions", words, {"content-type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise ValueError(answer.status, answer.read(300))
            first, tokens = self._read(answer, began)
        except (OSError, ValueError, LookupError, http.client.HTTPException) as fault:
            self.faults.append(repr(fault)[:300])
            return
        finally:
            connection.close()
        with self._lock:
            self.first.append(first)
            self.tokens += tokens

    def _read(self, answer: http.client.HTTPResponse, began: float) -> tuple[float, int]:
        if not self.stream:
            usage: dict[str, Any] = json.load(answer)["usage"]
            return time.perf_counter() - began, int(usage["completion_tokens"])
        first = 0.0
        for line in answer:
            if line.startswith(b"data: {") and not first:
                choices = json.loads(line[6:]).get("choices") or [{}]
                if choices[0].get("delta", {}).get("content"):
                    first = time.perf_counter() - began
        require_text(first)
        return first, 0


def main() -> int:
    """Measure all and write `build/bench/engine.json`; returns 1 when a goal was missed."""
    if unknown := set(ONLY) - {"step", "servers"}:
        raise SystemExit(f"error: ONLY={','.join(sorted(unknown))}\n  fix: step, servers or both")
    own, others = engine_peers.interpreter(), engine_peers.peers()
    rows = [machine(), versions((own, ["llama-cpp-python"]), (others, ["llama-cpp-python", "xllamacpp"]))]
    for level in LEVELS:
        with tempfile.TemporaryDirectory(prefix="sle", dir="/tmp") as name, ExitStack() as stack:
            model = engine_peers.weights(Path(name), level)
            if "step" in ONLY and _AT in CALLERS:
                rows.append(_step(level, model))
            if "servers" in ONLY:
                rows += _servers(level, model, Path(name), stack)
    return write("engine", rows)


def _step(level: str, model: Path) -> Row:
    return engine_step.row(level, model, question=_question, answers=_AT, tokens=TOKENS, threads=THREADS, rounds=ROUNDS)


def _question(number: int) -> str:
    return f"Write a long story about {SUBJECTS[number % len(SUBJECTS)]}, number {next(_NUMBERS)}."


def _servers(level: str, model: Path, folder: Path, stack: ExitStack) -> list[Row]:
    python_port, cpp_port = _free_port(), _free_port()
    contestants = [
        Contestant(name="ours", path=stack.enter_context(engine_peers.ours(model, threads=THREADS)).socket),
        Contestant(
            name="llama_cpp.server",
            port=stack.enter_context(
                engine_peers.peer("server", model, threads=THREADS, port=python_port, log=folder / "server.log")
            ),
        ),
        Contestant(
            name="llama.cpp C++",
            port=stack.enter_context(
                engine_peers.peer("cpp", model, threads=THREADS, port=cpp_port, log=folder / "cpp.log")
            ),
        ),
    ]
    rows: list[Row] = []
    for count in CALLERS:
        found = _speeds(contestants, model, count)
        rows += _speed_rows(level, count, found)
    if _AT in CALLERS:
        rows += _first_rows(level, _firsts(contestants))
    return rows


def _speeds(contestants: Sequence[Contestant], model: Path, count: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in (*(one.name for one in contestants), _LOOP, _STEPS)}
    for turn in range(ROUNDS * (_MORE_ROUNDS if count == _AT else 1)):
        for place in _order(len(contestants) + 1, turn):
            if place == len(contestants):
                steps, whole = engine_peers.loop(
                    model, threads=THREADS, sequences=count, steps=TOKENS, prompt=_PROMPT, own=_OWN
                )
                found[_LOOP].append(whole)
                found[_STEPS].append(steps)
                continue
            callers = Callers(contestants[place], count)
            seconds = callers.run()
            found[contestants[place].name].append(callers.tokens / seconds)
        told = "  ".join(f"{name} {speeds[-1]:.0f}" for name, speeds in found.items())
        say(f"  {count} callers, round {turn + 1}: {told} tokens/s   load {os.getloadavg()[0]:.1f}")
    return found


def _order(contestants: int, turn: int) -> list[int]:
    """Return their places in the order of a round, which begins with the next one each time."""
    return [(turn + place) % contestants for place in range(contestants)]


def _firsts(contestants: Sequence[Contestant]) -> dict[str, list[list[float]]]:
    """Return the seconds of every caller, the quickest first, round by round."""
    found: dict[str, list[list[float]]] = {one.name: [] for one in contestants}
    for turn in range(ROUNDS):
        for one in (contestants[place] for place in _order(len(contestants), turn)):
            callers = Callers(one, _AT, stream=True)
            callers.run()
            found[one.name].append(sorted(callers.first))
    return found


def _speed_rows(level: str, count: int, found: dict[str, list[float]]) -> list[Row]:
    medians = {name: statistics.median(speeds) for name, speeds in found.items()}
    ours, rows = medians.pop("ours"), []
    more = {"threads": THREADS, "runs": {name: [round(one, 1) for one in speeds] for name, speeds in found.items()}}
    for name, peer in medians.items():
        goal = _GOALS.get(name) if count == _AT else None
        rows.append(_row(f"{level}, {count} callers, against {name}", ours, peer, "tokens/s", least=goal, more=more))
    if count == 1:
        better = max(medians["llama_cpp.server"], medians["llama.cpp C++"])
        name = f"{level}, 1 caller, against the better server"
        rows.append(_row(name, ours, better, "tokens/s", least=_ALONE, more={"threads": THREADS}))
    return rows


def _first_rows(level: str, found: dict[str, list[list[float]]]) -> list[Row]:
    medians = {name: statistics.median(map(statistics.median, rounds)) for name, rounds in found.items()}
    every = {name: [[round(one, 4) for one in seconds] for seconds in rounds] for name, rounds in found.items()}
    ours, rows = medians.pop("ours"), []
    for name, most in (("llama_cpp.server", 1 / 20), ("llama.cpp C++", 1.0)):
        ratio = ours / medians[name]
        rows.append(
            Row(
                name=f"{level}, {_AT} callers, to the first token, against {name}",
                ours=ours,
                peer=medians[name],
                unit="s",
                ratio=ratio,
                goal=f"at most {most:g} times the peer's",
                met=ratio <= most,
                more={"threads": THREADS, "runs": every},
            )
        )
    for name in ("llama_cpp.server", "llama.cpp C++"):
        last = {of: statistics.median(seconds[-1] for seconds in rounds) for of, rounds in found.items()}
        rows.append(
            Row(
                name=f"{level}, {_AT} callers, to the first token of whoever waits longest, against {name}",
                ours=last["ours"],
                peer=last[name],
                unit="s",
                ratio=last["ours"] / last[name],
                more={"threads": THREADS},
            )
        )
    return rows


def _row(
    name: str, ours: float, peer: float, unit: str, *, least: float | None, more: dict[str, Any] | None = None
) -> Row:
    ratio = ours / peer
    return Row(
        name=name,
        ours=ours,
        peer=peer,
        unit=unit,
        ratio=ratio,
        goal=None if least is None else f"at least {least:g} times the peer's",
        met=None if least is None else ratio >= least,
        more=more or {},
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
