"""The callers of `bench.vllm`: the same questions for everybody, asked in turns, and what each contestant did."""

import http.client
import itertools
import json
import os
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

from bench.asking import held_still, processor_seconds
from bench.engine_peers import SUBJECTS, connection_to
from bench.measuring import require_text, say
from bench.vllm_steps import Steps, counted

CALLERS: Final = int(os.environ.get("CALLERS", "16"))
ROUNDS: Final = int(os.environ.get("ROUNDS", "3"))
ASKED_EACH: Final = int(os.environ.get("ASKED", "8"))
TOKENS: Final = 64
_NUMBERS: Final = itertools.count()
_TIMEOUT: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Where to ask, and as whom.

    Attributes:
        name: Of the contestant.
        model: What a request names.
        port: Of loopback.
        path: Its Unix socket; then the port says nothing.
        key: That a caller shows.
        pids: The processes that are to stand still while others are asked, with all below them.
        counts: Where its vLLM listens itself and tells what it counts; None where it is none.
    """

    name: str
    model: str
    port: int = 0
    path: Path | None = None
    key: str = ""
    pids: tuple[int, ...] = ()
    counts: int | Path | None = None

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection of a caller's own, connected."""
        connection = connection_to(self.port if self.path is None else self.path, timeout=_TIMEOUT)
        connection.connect()
        return connection

    def counted(self) -> Steps | None:
        """Return what its vLLM has counted so far; None where it is none."""
        return None if self.counts is None else counted(self.counts)

    def headers(self) -> dict[str, str]:
        """Return what each request carries."""
        own = {"content-type": "application/json"}
        return own | ({"authorization": f"Bearer {self.key}"} if self.key else {})

    def body(self, text: str) -> dict[str, Any]:
        """Return what asks for a whole answer."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": TOKENS,
        }
        # As the gateway says whose prompt it is; without, our engine shares with nobody, and vLLM with everybody.
        return body if self.path is None else body | {"cache_salt": "bench"}


@dataclass(slots=True, kw_only=True)
class Measured:
    """What one contestant did in one way of asking, round by round."""

    tokens_per_second: list[float] = field(default_factory=list)
    first_seconds: list[float] = field(default_factory=list)
    whole_seconds: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    processors: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    steps: list[Steps] = field(default_factory=list)

    @property
    def outside_seconds(self) -> list[float]:
        """How much longer than its vLLM a caller waited for the end of an answer, the mean of each round."""
        answers = CALLERS * ASKED_EACH
        return [
            all_of_it - each.within_seconds / answers
            for all_of_it, each in zip(self.whole_seconds, self.steps, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return every round; `processors` are how many the contestant's `pids` used at a time, where it names any."""
        return {
            "tokens_per_second": [round(each, 1) for each in self.tokens_per_second],
            "first_token_seconds": [round(each, 4) for each in self.first_seconds],
            "tokens": self.tokens,
            "processors": [round(each, 2) for each in self.processors],
            "load": [round(each, 2) for each in self.load],
            "to_the_end_seconds": [round(each, 4) for each in self.whole_seconds],
            "steps": [asdict(each) for each in self.steps],
        }


class Callers:
    """Callers that each ask a number of questions, one answer after another; they begin together.

    Args:
        contestant: Who is asked.
        questions: Of each caller.
        stream: Whether answers are streamed.
    """

    def __init__(self, contestant: Contestant, questions: Sequence[Sequence[str]], *, stream: bool) -> None:
        self._contestant, self._questions, self._stream = contestant, questions, stream
        self._barrier = threading.Barrier(len(questions) + 1)
        self._lock = threading.Lock()
        self.tokens = 0
        self.first: list[float] = []
        self.whole: list[float] = []
        self.failed: list[str] = []

    def run(self) -> float:
        """Return the seconds from the common beginning to the last answer's end.

        Raises:
            SystemExit: A request was not answered whole.
        """
        threads = [threading.Thread(target=self._ask, args=(each,)) for each in self._questions]
        for thread in threads:
            thread.start()
        self._barrier.wait()
        began = time.monotonic()
        for thread in threads:
            thread.join()
        if self.failed:
            raise SystemExit(f"error: {self._contestant.name}: {len(self.failed)} requests failed: {self.failed[0]}")
        return time.monotonic() - began

    def _ask(self, questions: Sequence[str]) -> None:
        connection = self._contestant.connection()
        self._barrier.wait()
        for text in questions:
            try:
                self._one(connection, text)
            except (OSError, ValueError, LookupError, http.client.HTTPException) as error:
                self.failed.append(repr(error)[:300])
                break
        connection.close()

    def _one(self, connection: http.client.HTTPConnection, text: str) -> None:
        body = self._contestant.body(text)
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
                    event = json.loads(raw[6:])
                    # The event that only says who speaks may come before anything was computed.
                    if not first and any(one.get("delta", {}).get("content") for one in event.get("choices") or []):
                        first = time.monotonic() - began
                    usage = event.get("usage") or usage
            require_text(first)
        else:
            usage = json.load(answer)["usage"]
            first = time.monotonic() - began
        whole = time.monotonic() - began
        with self._lock:
            self.tokens += int(usage["completion_tokens"])
            self.first.append(first)
            self.whole.append(whole)


def measured(contestants: Sequence[Contestant], *, stream: bool) -> dict[str, Measured]:
    """Ask all contestants in turns, `ROUNDS` times, each round beginning with the next one; the first is a warm-up.

    A round's questions are the same for all, and new ones. While one is asked, the `pids` of the others stand still:
    not all that idles leaves its processor, such as vLLM's worker, which looks for more all the time for a second.
    """
    found = {one.name: Measured() for one in contestants}
    for turn in range(ROUNDS + 1):
        questions = _questions()
        begins = turn % len(contestants)
        for one in (*contestants[begins:], *contestants[:begins]):
            with ExitStack() as stack:
                # Two may be ways to one process, which then goes on for both.
                for other in contestants:
                    if other.pids != one.pids:
                        stack.enter_context(held_still(other.pids))
                callers, own = Callers(one, questions, stream=stream), found[one.name]
                began = one.counted()
                load, before = os.getloadavg()[0], processor_seconds(one.pids)
                seconds = callers.run()
                used = processor_seconds(one.pids) - before
                ended = one.counted()
            if turn == 0:
                continue
            own.tokens_per_second.append(callers.tokens / seconds)
            own.first_seconds.append(median(callers.first))
            own.whole_seconds.append(fmean(callers.whole))
            own.tokens.append(callers.tokens)
            own.load.append(load)
            if one.pids:
                own.processors.append(used / seconds)
            way, told = "streamed" if stream else "whole", ""
            if began is not None and ended is not None:
                taken = ended.since(began)
                own.steps.append(taken)
                told = f"   {taken.steps:.0f} steps of {1000 * seconds / taken.steps:.1f} ms"
            say(
                f"  round {turn}  {one.name:<22} {way:<9} {callers.tokens / seconds:9.1f} tokens/s"
                f"   load {load:.1f}{told}"
            )
    return found


def _questions() -> list[list[str]]:
    """Return what each caller asks in one round; nobody was asked any of it before."""
    subjects = [SUBJECTS[turn % len(SUBJECTS)] for turn in range(ASKED_EACH)]
    return [[f"Write a story about {each}, number {next(_NUMBERS)}." for each in subjects] for _ in range(CALLERS)]
