"""vLLM behind the gateway beside vLLM alone: tokens a second at 16 callers, whole answers and streamed ones.

Ours is all that a caller of the box meets: the gateway with keys, limits, identifiers and an audit store that is
durable before each answer, our launcher, and vLLM behind our door. The peer is the same vLLM by its own command on a
TCP port, with the same model and the same limits. Both stay loaded; they are asked in turns. A version is received,
validated and promoted by two people as on a site; only the gates' engine is a stand-in.

``SEALIFT_VLLM_PYTHON`` names an interpreter that finds vLLM and this checkout (else one is made from
tests/engines/engine-vllm.txt and kept in the cache), ``SEALIFT_VLLM_MODEL`` a folder of safetensors (else the demo's
model, widened), ``CALLERS``, ``ROUNDS``, ``ASKED`` and ``THREADS`` how many: on a processor both decode with as many
threads, by default with all but one, as a box does.
"""

import http.client
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from appliance.gateway import gpus
from appliance.serve import vllm
from bench.measuring import Row, machine, say, write
from tests.engines.served import promoted
from tests.engines.vllm_environment import interpreter, model
from tests.support.commands import as_json
from tests.support.vllm_engine import RUNTIME, START_SECONDS

CALLERS: Final = int(os.environ.get("CALLERS", "16"))
ROUNDS: Final = int(os.environ.get("ROUNDS", "3"))
ASKED_EACH: Final = int(os.environ.get("ASKED", "8"))
THREADS: Final = int(os.environ.get("THREADS", str(max(1, (os.cpu_count() or 2) - 1))))
TOKENS: Final = 64
GOAL: Final = 0.97
SUBJECTS: Final = ("the sea", "a lighthouse", "winter", "an old map", "bread", "a railway", "chalk", "rain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Where to ask, and as whom."""

    name: str
    port: int
    model: str
    key: str = ""

    def headers(self) -> dict[str, str]:
        """Return what each request carries."""
        own = {"content-type": "application/json"}
        return own | ({"authorization": f"Bearer {self.key}"} if self.key else {})


@dataclass(slots=True, kw_only=True)
class Measured:
    """What one contestant did in one way of asking, round by round."""

    tokens_per_second: list[float] = field(default_factory=list)
    first_seconds: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return every round."""
        return {
            "tokens_per_second": [round(each, 1) for each in self.tokens_per_second],
            "first_token_seconds": [round(each, 4) for each in self.first_seconds],
            "load": [round(each, 2) for each in self.load],
        }


class Callers:
    """Callers that each ask a number of times, one answer after another; they begin together."""

    def __init__(self, contestant: Contestant, *, stream: bool) -> None:
        self._contestant, self._stream = contestant, stream
        self._barrier = threading.Barrier(CALLERS + 1)
        self._lock = threading.Lock()
        self.tokens = 0
        self.first: list[float] = []
        self.failed: list[str] = []

    def run(self) -> float:
        """Return the seconds from the common beginning to the last answer's end.

        Raises:
            SystemExit: A request was not answered whole.
        """
        threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
        self._barrier.wait()
        began = time.monotonic()
        for thread in threads:
            thread.join()
        if self.failed:
            raise SystemExit(f"error: {self._contestant.name}: {len(self.failed)} requests failed: {self.failed[0]}")
        return time.monotonic() - began

    def _ask(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._contestant.port, timeout=300)
        connection.connect()
        self._barrier.wait()
        for turn in range(ASKED_EACH):
            try:
                self._one(connection, f"Write a story about {SUBJECTS[turn % len(SUBJECTS)]}, number {number}.")
            except (OSError, ValueError, LookupError, http.client.HTTPException) as error:
                self.failed.append(repr(error)[:300])
                break
        connection.close()

    def _one(self, connection: http.client.HTTPConnection, text: str) -> None:
        body: dict[str, Any] = {
            "model": self._contestant.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": TOKENS,
        }
        if self._stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        began, first = time.monotonic(), 0.0
        connection.request("POST", "/v1/chat/completions", json.dumps(body), self._contestant.headers())
        answer = connection.getresponse()
        if answer.status != 200:
            raise ValueError(answer.status, answer.read(300))
        if self._stream:
            usage: dict[str, Any] = {}
            for raw in answer:
                if raw.startswith(b"data: {"):
                    first = first or time.monotonic() - began
                    usage = json.loads(raw[6:]).get("usage") or usage
        else:
            usage = json.load(answer)["usage"]
            first = time.monotonic() - began
        with self._lock:
            self.tokens += int(usage["completion_tokens"])
            self.first.append(first)


def measured(contestants: list[Contestant], *, stream: bool) -> dict[str, Measured]:
    """Ask all contestants in turns, `ROUNDS` times, each round beginning with another one; the first is a warm-up."""
    found = {one.name: Measured() for one in contestants}
    for turn in range(ROUNDS + 1):
        for one in contestants[turn % 2 :] + contestants[: turn % 2]:
            load, callers = os.getloadavg()[0], Callers(one, stream=stream)
            seconds = callers.run()
            if turn == 0:
                continue
            found[one.name].tokens_per_second.append(callers.tokens / seconds)
            found[one.name].first_seconds.append(median(callers.first))
            found[one.name].load.append(load)
            way = "streamed" if stream else "whole"
            say(f"  round {turn}  {one.name:<22} {way:<9} {callers.tokens / seconds:9.1f} tokens/s   load {load:.1f}")
    return found


@contextmanager
def alone(python: Path, folder: Path, scratch: Path) -> Iterator[int]:
    """Run vLLM by its own command; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    on_processor = not gpus.open_reader()()
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    told = vllm.environment(scratch, threads=THREADS, free_bytes=free, on_processor=on_processor)
    command = [
        *(str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--host", "127.0.0.1"),
        *("--port", str(port), "--max-model-len", str(RUNTIME["n_ctx"]), "--max-num-seqs", str(RUNTIME["n_seq_max"])),
        *("--max-num-batched-tokens", str(RUNTIME["n_batch"]), "--served-model-name", "alone"),
        *("--chat-template", str(folder / "chat_template.jinja"), "--generation-config", "vllm", "--seed", "0"),
        *("--disable-uvicorn-access-log", "--uvicorn-log-level", "warning"),
        *(["--enforce-eager"] if on_processor else ["--gpu-memory-utilization", "0.15"]),
    ]
    with (scratch / "alone.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=scratch, env=told, stdout=log, stderr=log)
        try:
            _until_answering(process, port, scratch / "alone.log")
            yield port
        finally:
            process.terminate()
            process.wait(timeout=180)


def _until_answering(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.5)
    raise SystemExit(f"error: vLLM alone does not answer: {log.read_text(errors='replace')[-3000:]}")


def main() -> int:
    """Measure and write `build/bench/vllm.json`; returns 1 when a goal was missed."""
    rows = [machine()]
    with tempfile.TemporaryDirectory(prefix="slv", dir="/tmp") as scratch, ExitStack() as stack:
        python, folder = interpreter(Path(scratch) / "python"), model(Path(scratch) / "model")
        own = stack.enter_context(promoted(python, folder, more=f"threads = {THREADS}\n"))
        key = as_json(own.sealift, "keys", "create", "--department", "radiology", "--owner", "test")["key"]
        ours = Contestant(name="through the gateway", port=own.port, model="production", key=str(key))
        port = stack.enter_context(alone(python, folder, Path(scratch)))
        peer = Contestant(name="vLLM alone", port=port, model="alone")
        for stream in (False, True):
            found = measured([ours, peer], stream=stream)
            rows += _rows(found[ours.name], found[peer.name], way="streamed" if stream else "whole")
    held = [gpu.memory_total_bytes for gpu in gpus.open_reader()()]
    rows.append(Row(name="GPUs", ours=float(len(held)), peer=None, unit="GPUs", more={"memory_bytes": held}))
    return write("vllm", rows)


def _rows(ours: Measured, peer: Measured, *, way: str) -> list[Row]:
    speed, other = median(ours.tokens_per_second), median(peer.tokens_per_second)
    first, first_alone = median(ours.first_seconds), median(peer.first_seconds)
    what = "to the first token" if way == "streamed" else "to the whole answer"
    return [
        Row(
            name=f"vLLM behind the gateway, {CALLERS} callers, {way} answers",
            ours=speed,
            peer=other,
            unit="tokens/s",
            ratio=speed / other,
            goal=f"at least {GOAL} times vLLM alone",
            met=speed / other >= GOAL,
            more={"threads": THREADS, "runs": {"ours": ours.to_json(), "peer": peer.to_json()}},
        ),
        Row(name=f"{what}, {CALLERS} callers", ours=first, peer=first_alone, unit="s", ratio=first / first_alone),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
