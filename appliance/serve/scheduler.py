"""Continuous batching: one thread owns the decoder; every step first feeds those who are answering, then the newcomers.

Admission reserves a sequence's whole need (prompt and max_tokens), so a started answer never runs out of context. A
cancelled request leaves at the next step, inside a prefill too, because a prefill is fed in chunks. Whatever fails,
whoever waits is told, and the thread goes on.
"""

import codecs
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from appliance.errors import EngineProtocolError, EngineUnavailableError
from appliance.serve.engine import Decoder, FinishReason, Generation, Piece, Row
from appliance.serve.stopping import StopBuffer

PREFILL_CHUNK: Final = 256
_LOOK_SECONDS: Final = 0.25
_T = TypeVar("_T")


class Handle:
    """A caller's end of one generation."""

    def __init__(self) -> None:
        self._pieces: queue.SimpleQueue[Piece | Exception] = queue.SimpleQueue()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Ask the scheduler to stop within one step; safe at any time and more than once."""
        self._cancelled.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    def put(self, piece: Piece | Exception) -> None:
        """Deliver from the scheduler."""
        self._pieces.put(piece)

    def pieces(self, has_left: Callable[[], bool] = lambda: False) -> Iterator[Piece]:
        """Yield what is final until a piece with a finish reason; leaving the loop early cancels.

        Args:
            has_left: Asked between pieces, and while one does not come, whether the caller is gone; then it ends too.

        Raises:
            EngineProtocolError: The decoder failed.
        """
        try:
            while True:
                if has_left():
                    yield Piece(text="", completion_tokens=0, finish_reason="cancelled")
                    return
                try:
                    piece = self._pieces.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    continue
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                if piece.finish_reason is not None:
                    return
        finally:
            self.cancel()


@dataclass(slots=True)
class _Active:
    handle: Handle
    generation: Generation
    sequence: int
    fed: int = 0
    produced: int = 0
    next_token: int | None = None
    text: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))
    stops: StopBuffer = field(default_factory=lambda: StopBuffer(()))

    @property
    def need(self) -> int:
        return len(self.generation.tokens) + self.generation.max_tokens


@dataclass(slots=True)
class _Scoring:
    prompt: Sequence[int]
    continuations: Sequence[Sequence[int]]
    answer: queue.SimpleQueue[list[float] | Exception] = field(default_factory=queue.SimpleQueue)


@dataclass(slots=True)
class _Job:
    """Work of another context on the same cores: two of them at once would stall each other's threads."""

    work: Callable[[], Any]
    answer: queue.SimpleQueue[tuple[Any, Exception | None]] = field(default_factory=queue.SimpleQueue)

    def run(self) -> None:
        try:
            self.answer.put((self.work(), None))
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            self.answer.put((None, _failure(error)))


@dataclass(slots=True)
class _Question:
    """Whether the thread comes round at all."""

    came_round: threading.Event = field(default_factory=threading.Event)


class Scheduler:
    """Runs one decoder for many callers."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._arrivals: queue.SimpleQueue[_Scoring | _Question | _Job | tuple[Handle, Generation] | None] = (
            queue.SimpleQueue()
        )
        self._jobs: deque[_Job] = deque()
        self._waiting: deque[tuple[Handle, Generation]] = deque()
        self._active: list[_Active] = []
        self._free = list(range(decoder.sequences))
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether answers are being made at all."""
        return self._thread.is_alive()

    @property
    def running(self) -> int:
        """How many answers are being made."""
        return len(self._active)

    @property
    def waiting(self) -> int:
        """How many requests wait for room."""
        return len(self._waiting) + self._arrivals.qsize()

    def submit(self, generation: Generation) -> Handle:
        """Queue a generation.

        Raises:
            EngineUnavailableError: It can never fit, or the scheduler has stopped.
        """
        need = len(generation.tokens) + generation.max_tokens
        if need > self._decoder.context_tokens:
            raise EngineUnavailableError(
                what="the request does not fit the context",
                why=f"it needs {need} tokens, the context holds {self._decoder.context_tokens}",
                fix="shorten the prompt or lower max_tokens",
            )
        self._require_alive()
        handle = Handle()
        self._arrivals.put((handle, generation))
        return handle

    def score(self, prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[float]:
        """Return the log-likelihood (nats) of each continuation after the prompt.

        Raises:
            EngineProtocolError: The decoder failed.
            EngineUnavailableError: The scheduler has stopped.
        """
        self._require_alive()
        scoring = _Scoring(prompt=prompt, continuations=continuations)
        self._arrivals.put(scoring)
        answer = scoring.answer.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def between_steps(self, work: Callable[[], _T]) -> _T:
        """Run `work` on the decoder's thread, after a step; of several that wait one a step, so that answers go on.

        Raises:
            EngineProtocolError: It failed.
            EngineUnavailableError: The scheduler has stopped.
        """
        self._require_alive()
        job = _Job(work=work)
        self._arrivals.put(job)
        while True:
            try:
                found, error = job.answer.get(timeout=_LOOK_SECONDS)
                break
            except queue.Empty:
                self._require_alive()
        if error is not None:
            raise error
        return found  # type: ignore[no-any-return] # it is what `work` returned

    def turns(self, seconds: float) -> bool:
        """Whether the thread that owns the decoder comes round within `seconds`, out of its step and for more."""
        question = _Question()
        self._arrivals.put(question)
        return question.came_round.wait(seconds)

    def stop(self) -> None:
        """End the thread after the present step; unfinished answers end with reason ``error``."""
        self._arrivals.put(None)
        self._thread.join(timeout=5)

    def _require_alive(self) -> None:
        if not self.is_alive:
            raise EngineUnavailableError(what="the engine has stopped", why="", fix="see the journal of the unit")

    def _run(self) -> None:
        while self._collect(block=not self._active and not self._waiting and not self._jobs):
            try:
                self._drop_cancelled()
                self._admit()
                if self._active:
                    self._step()
                if self._jobs:
                    self._jobs.popleft().run()
            except Exception as error:  # noqa: BLE001 - without this thread everybody would wait for ever
                for active in list(self._active):
                    active.handle.put(_failure(error))
                    self._leave(active)
        for active in list(self._active):
            self._finish(active, "error")
        for job in self._jobs:
            job.answer.put(
                (None, _failure(EngineProtocolError(what="the engine has stopped", why="", fix="ask again")))
            )
        for handle, _ in self._waiting:
            handle.put(Piece(text="", completion_tokens=0, finish_reason="error"))

    def _collect(self, *, block: bool) -> bool:
        while True:
            try:
                arrival = self._arrivals.get(block=block)
            except queue.Empty:
                return True
            if arrival is None:
                return False
            if isinstance(arrival, _Question):
                arrival.came_round.set()
            elif isinstance(arrival, _Scoring):
                self._score(arrival)
            elif isinstance(arrival, _Job):
                self._jobs.append(arrival)
                block = False
            else:
                self._waiting.append(arrival)
                block = False

    def _score(self, scoring: _Scoring) -> None:
        try:
            scoring.answer.put([self._decoder.score(scoring.prompt, one) for one in scoring.continuations])
        except Exception as error:  # noqa: BLE001 - as above
            scoring.answer.put(_failure(error))

    def _drop_cancelled(self) -> None:
        for active in [one for one in self._active if one.handle.is_cancelled]:
            self._finish(active, "cancelled")
        if any(handle.is_cancelled for handle, _ in self._waiting):
            for handle, _ in self._waiting:
                if handle.is_cancelled:
                    handle.put(Piece(text="", completion_tokens=0, finish_reason="cancelled"))
            self._waiting = deque(one for one in self._waiting if not one[0].is_cancelled)

    def _admit(self) -> None:
        held = sum(active.need for active in self._active)
        while self._waiting and self._free:
            handle, generation = self._waiting[0]
            need = len(generation.tokens) + generation.max_tokens
            if held + need > self._decoder.context_tokens:
                return
            self._waiting.popleft()
            held += need
            sequence = self._free.pop()
            active = _Active(handle=handle, generation=generation, sequence=sequence)
            active.stops = StopBuffer(generation.stop)
            self._active.append(active)
            self._decoder.begin(sequence, generation.sampling)

    def _step(self) -> None:
        rows: list[Row] = []
        sampled: list[tuple[_Active, int]] = []
        for active in self._active:
            if active.next_token is not None:
                position = len(active.generation.tokens) + active.produced - 1
                sampled.append((active, len(rows)))
                rows.append(
                    Row(token=active.next_token, position=position, sequence=active.sequence, wants_logits=True)
                )
        for active in self._active:
            if active.next_token is None:
                self._feed(active, rows, sampled)
        self._decoder.decode(rows)
        for active, row in sampled:
            self._take(active, self._decoder.sample(active.sequence, row))

    def _feed(self, active: _Active, rows: list[Row], sampled: list[tuple[_Active, int]]) -> None:
        tokens = active.generation.tokens
        room = min(PREFILL_CHUNK, self._decoder.batch_tokens - len(rows))
        for position in range(active.fed, min(active.fed + room, len(tokens))):
            is_last = position == len(tokens) - 1
            if is_last:
                sampled.append((active, len(rows)))
            rows.append(Row(token=tokens[position], position=position, sequence=active.sequence, wants_logits=is_last))
            active.fed = position + 1

    def _take(self, active: _Active, token: int) -> None:
        if self._decoder.is_end(token):
            self._finish(active, "stop")
            return
        active.produced += 1
        active.next_token = token
        text, stopped = active.stops.add(active.text.decode(self._decoder.bytes_of(token)))
        if stopped:
            active.handle.put(Piece(text=text, completion_tokens=active.produced, finish_reason="stop"))
            self._leave(active)
        elif active.produced >= active.generation.max_tokens:
            active.handle.put(Piece(text=text, completion_tokens=active.produced))
            self._finish(active, "length")
        elif text:
            active.handle.put(Piece(text=text, completion_tokens=active.produced))

    def _finish(self, active: _Active, reason: FinishReason) -> None:
        text, stopped = active.stops.add(active.text.decode(b"", final=True))
        rest = "" if stopped else active.stops.flush()
        finish: FinishReason = "stop" if stopped else reason
        active.handle.put(Piece(text=text + rest, completion_tokens=active.produced, finish_reason=finish))
        self._leave(active)

    def _leave(self, active: _Active) -> None:
        self._decoder.release(active.sequence)
        self._active.remove(active)
        self._free.append(active.sequence)


def _failure(error: Exception) -> EngineProtocolError:
    """Return the error as callers see it; of a fault of ours only its type, because its text may hold content."""
    if isinstance(error, EngineProtocolError):
        return error
    return EngineProtocolError(
        what="the engine failed", why=f"a fault of ours ({type(error).__name__})", fix="see the journal of the engine"
    )
