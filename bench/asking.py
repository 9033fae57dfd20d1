"""What a caller does to a contestant of `bench.gateway`, and what the processes of any contestant cost."""

import http.client
import itertools
import json
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
QUESTION: Final = (
    "Please summarise: the patient is stable, has no fever and goes home on Monday with a follow-up in a week.",
)
"""What callers ask: a short question that names nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Somebody who answers at a port of loopback; `pids` are all processes that it is made of."""

    name: str
    port: int
    model: str
    key: str = ""
    pids: tuple[int, ...] = ()

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection of a caller's own."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def send(self, connection: http.client.HTTPConnection, text: str, *, stream: bool) -> http.client.HTTPResponse:
        """Ask; return the response, unread."""
        body = {"model": self.model, "messages": [{"role": "user", "content": text}], "max_tokens": 256}
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.key or 'none'}"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body | {"stream": stream}), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise SystemExit(f"{self.name} answers {response.status}: {response.read(500)!r}")
        return response

    def ask(self, connection: http.client.HTTPConnection, text: str, *, stream: bool = False) -> float:
        """Ask for an answer and read it whole; return the seconds it took."""
        began = time.perf_counter()
        self.send(connection, text, stream=stream).read()
        return time.perf_counter() - began

    def processor_seconds(self) -> float:
        """Return what all its processes have used of processors so far."""
        return processor_seconds(self.pids)

    def resident_bytes(self) -> int:
        """Return the memory that its processes hold."""
        return sum(int(_stat(pid)[21]) * _PAGE for pid in family(self.pids))


def family(pids: Sequence[int]) -> list[int]:
    """Return these processes and all below them."""
    found: list[int] = []
    left = list(pids)
    while left:
        pid = left.pop()
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            left += [int(one) for one in task.read_text().split()]
    return found


def processor_seconds(pids: Sequence[int]) -> float:
    """Return what these processes and all below them have used of processors so far."""
    return sum(sum(map(int, _stat(pid)[11:13])) for pid in family(pids)) / _TICKS


@contextmanager
def held_still(pids: Sequence[int]) -> Iterator[None]:
    """Stop these processes and all below them until the block ends, so that they take no processor from others."""
    stopped = family(pids)
    try:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


@contextmanager
def kept_to(pids: Sequence[int], core: int) -> Iterator[None]:
    """Keep these processes and all below them to one core until the block ends."""
    cores = os.sched_getaffinity(pids[0])
    try:
        _place(pids, {core})
        yield
    finally:
        _place(pids, cores)


def _place(pids: Sequence[int], cores: set[int]) -> None:
    for pid in family(pids):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), cores)


def alone(one: Contestant, count: int, texts: Sequence[str] = QUESTION, *, streamed: bool = False) -> list[float]:
    """Return the seconds of so many answers, asked one after another on one connection.

    Args:
        one: Who is asked.
        count: How often.
        texts: What is asked, in turns.
        streamed: Whether every other answer is streamed.
    """
    connection = one.connection()
    asked = itertools.islice(itertools.cycle(texts), count)
    taken = [one.ask(connection, text, stream=streamed and bool(turn % 2)) for turn, text in enumerate(asked)]
    connection.close()
    return taken


def together(
    one: Contestant, count: int, *, callers: int, texts: Sequence[str] = QUESTION, streamed: bool = False
) -> tuple[float, list[float]]:
    """Ask as `alone` so often with so many callers; return the wall seconds, and those of each answer."""
    taken: list[list[float]] = [[] for _ in range(callers)]
    faults: list[BaseException] = []

    def work(place: int) -> None:
        try:
            # Each begins with another text, so that not all ask the same at one time.
            own = (*texts[place % len(texts) :], *texts[: place % len(texts)])
            taken[place] = alone(one, count // callers, own, streamed=streamed)
        except BaseException as fault:  # noqa: BLE001 - told to whoever waits
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(callers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise SystemExit(f"{one.name}: {faults[0]!r}")
    return time.perf_counter() - began, [each for some in taken for each in some]


def chunk_seconds(one: Contestant, *, chunks: int, milliseconds: float) -> float:
    """Return the median seconds from the moment the engine sent a chunk until a caller has read it."""
    connection = one.connection()
    response = one.send(connection, f"stream {chunks} {milliseconds}", stream=True)
    taken: list[float] = []
    for raw in response:
        now = time.monotonic_ns()
        sent = _sent(raw)
        if sent:
            taken.append((now - sent) / 1e9)
    connection.close()
    if len(taken) < chunks * 0.9:
        raise SystemExit(f"{one.name} passed {len(taken)} of {chunks} chunks on")
    return statistics.median(taken)


def idle(one: Contestant, count: int) -> list[tuple[http.client.HTTPConnection, http.client.HTTPResponse]]:
    """Open so many streams that say one word and then nothing; return what keeps them open."""
    opened = []
    for _ in range(count):
        connection = one.connection()
        response = one.send(connection, "idle", stream=True)
        response.readline()
        opened.append((connection, response))
    return opened


def require_open(
    opened: Sequence[tuple[http.client.HTTPConnection, http.client.HTTPResponse]], *, seconds: float = 0.01
) -> None:
    """Pass where each of these streams goes on: whatever it says besides, its end does not come.

    Args:
        opened: What `idle` returned; none of them can be read afterwards.
        seconds: How long each is waited for once it says nothing more.

    Raises:
        SystemExit: Some have ended, so that nothing was measured beside them.
    """
    ended = sum(not _goes_on(connection, response, seconds) for connection, response in opened)
    if ended:
        raise SystemExit(f"error: {ended} of {len(opened)} idle streams ended while others were asked")


def _goes_on(connection: http.client.HTTPConnection, response: http.client.HTTPResponse, seconds: float) -> bool:
    if connection.sock is None:  # the answer was to be the connection's last
        return False
    connection.sock.settimeout(seconds)
    try:
        while response.readline():
            pass  # a comment that keeps it, or the end's own words, which the end follows
    except TimeoutError:
        return True
    except (OSError, http.client.HTTPException):
        return False
    return False


def _sent(raw: bytes) -> int:
    if not raw.startswith(b"data: {"):
        return 0
    value: dict[str, Any] = json.loads(raw[6:])
    text = "".join(choice.get("delta", {}).get("content") or "" for choice in value.get("choices", []))
    words = text.split()
    return int(words[-1]) if words and words[-1].isdigit() and len(words[-1]) > 9 else 0
