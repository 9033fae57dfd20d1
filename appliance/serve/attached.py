"""Makes an attached engine look like our own: the same requests, refusals, answers and counts, over another's server.

What reads requests and what tells answers is the same code as for llama.cpp (`asking`, `saying`); only who decodes is
another. So this module has the two places of the seam: what counts tokens, and what takes generations.

Rules:
    PEER-1 The peer is never given more than the profile's places, nor more tokens than it has room for by its dialect,
           so it neither queues nor runs out; who waits here goes by class, caller and time as with our own engine
           (`waiting`). Nothing is preempted.
    PEER-2 A caller who leaves ends the peer's work within `LOOK_SECONDS`: the connection is broken, in a prefill too.
    PEER-3 A peer that is silent for longer than an answer may be, or that breaks its contract, ends that answer alone;
           one that does not say that it is well is an engine that is down, and after `_GONE_SECONDS` all its answers
           end. While it says that it is well, a long prompt on a slow processor is waited for.
"""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from appliance.errors import EngineLoadError, EngineUnavailableError
from appliance.serve import attached_words as words
from appliance.serve.asking import RefusedError
from appliance.serve.attached_dialect import Dialect
from appliance.serve.attached_peer import Peer, PeerStream
from appliance.serve.counts import Counts
from appliance.serve.curve import Curve
from appliance.serve.engine import Constraint, FinishReason, Generation
from appliance.serve.events import broken
from appliance.serve.handles import Handle
from appliance.serve.jobs import Job, jobs_of, require_fits
from appliance.serve.schema import SchemaRefusedError
from appliance.serve.stopping import StopBuffer
from appliance.serve.waiting import Shares, Waiting
from media.errors import SealiftError

LOOK_SECONDS: Final = 0.25
_WELL_SECONDS: Final = 30.0
"""How long a peer may be silent when asked whether it is well before it counts as down."""
_GONE_SECONDS: Final = 300.0
_LEAST_DOUBT: Final = -0.01


class AttachedTokens:
    """Counts tokens and takes shapes of answers for a peer; the part of a decoder that readers of requests need.

    Args:
        dialect: Who knows the vocabulary.
    """

    has_forms_behind_thoughts = False

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    @property
    def vocabulary_tokens(self) -> int:
        """How many tokens there may be."""
        return self._dialect.vocabulary_tokens

    @property
    def opening(self) -> Sequence[int]:
        """What comes before a text that no template was made of."""
        return self._dialect.opening

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens of `text`; control tokens are recognised only when `special`.

        Raises:
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: Nobody said.
        """
        return self._dialect.tokenize(text, special=special) if text else []

    @property
    def knows_names(self) -> bool:
        """Whether `is_named` can be answered."""
        return self._dialect.named is not None

    def is_named(self, token: int) -> bool:
        """Tell whether a token is found in a text by its name."""
        return token in (self._dialect.named or ())

    def grammar_of(self, constraint: Constraint) -> str:
        """Return the schema that the whole answer must match, as text.

        Raises:
            SchemaRefusedError: The answer would be more than one piece of JSON (calls of functions).
        """
        if constraint.opening:
            raise SchemaRefusedError("", "an attached engine calls no functions")
        return json.dumps(constraint.schema)


class AttachedScheduler:
    """Takes generations for a peer, as `Scheduler` does for a decoder.

    Args:
        peer: Who answers.
        dialect: Its words.
        context_tokens: Tokens of one question and its answer; how many all at once may have, the dialect says.
        places: Answers at once.
        is_running: Whether the peer's process, where it is ours, still runs.
        now: The machine's monotonic clock.
    """

    def __init__(
        self,
        peer: Peer,
        dialect: Dialect,
        *,
        context_tokens: int,
        places: int,
        is_running: Callable[[], bool] = lambda: True,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = Counts()
        self.curve: Curve | None = None
        self._peer = peer
        self._dialect = dialect
        self._context_tokens = context_tokens
        self._is_running = is_running
        self._now = now
        self._room = _Room(places=places, tokens=dialect.held(context_tokens=context_tokens, places=places))
        self._arrivals: queue.SimpleQueue[list[Job]] = queue.SimpleQueue()
        self._shares = Shares()
        self._waiting = Waiting(self._shares)
        self._active: dict[Job, PeerStream] = {}
        self._lock = threading.Lock()
        self._numbers = 0
        self._well = now()
        self._turned = now()
        self._pool = ThreadPoolExecutor(max_workers=places, thread_name_prefix="attached")
        for name, run in (("attached-places", self._run), ("attached-well", self._look)):
            threading.Thread(target=run, name=name, daemon=True).start()

    @property
    def is_alive(self) -> bool:
        """Whether the peer runs and said lately that it is well."""
        return self._is_running() and self._now() - self._well <= _WELL_SECONDS

    @property
    def running(self) -> int:
        """How many answers are being made."""
        return len(self._active)

    @property
    def waiting(self) -> int:
        """How many answers wait for a place."""
        return len(self._waiting)

    @property
    def filled(self) -> float | None:
        """None: how full its cache is, the peer alone knows."""
        return None

    def turns(self, patience_seconds: float) -> bool:
        """Return whether what hands out places came round lately, and the peer is well."""
        limit = max(patience_seconds, 4 * LOOK_SECONDS)
        return self.is_alive and self._now() - self._turned <= limit

    def submit(self, generation: Generation) -> Handle:
        """Queue a generation.

        Raises:
            RefusedError: The peer cannot do what is wanted.
            EngineUnavailableError: It can never fit, or the peer is down.
        """
        self._dialect.require_askable(generation)
        require_fits(generation, self._context_tokens)
        self._require_alive()
        with self._lock:
            number = self._numbers
            self._numbers += generation.answers
        handle, jobs = jobs_of(generation, number)
        for job in jobs:
            job.leader = None  # the peer reads the prompt for each
        self._arrivals.put(jobs)
        return handle

    def score(self, prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[float]:
        """Return the log-likelihood (nats) of each continuation after the prompt.

        Raises:
            RefusedError: It cannot be told of these.
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: The peer did not say, or is down.
        """
        self._require_alive()
        return [self._score(list(prompt), one) for one in continuations]

    def require_unbiased(self, prompt: Sequence[int], unlikely: int) -> None:
        """Pass when the peer says how likely a token was before it was made the only choice.

        Raises:
            EngineLoadError: It says that what it was forced to say was certain: its scores would be worth nothing.
            EngineProtocolError, EngineRefusedError, EngineUnavailableError: It did not say.
        """
        if self._score(list(prompt), [unlikely]) > _LEAST_DOUBT:
            raise EngineLoadError(
                what="the attached engine cannot be validated",
                why="it counts a bias in how likely it says that a token was",
                fix="use an engine that tells likelihoods before sampling",
            )

    def _score(self, prompt: list[int], continuation: Sequence[int]) -> float:
        with self._room.held(min(len(prompt) + len(continuation), self._context_tokens)):
            return self._dialect.likelihood(prompt, continuation)

    def _require_alive(self) -> None:
        if not self.is_alive:
            raise EngineUnavailableError(
                what="the attached engine is down", why="it does not answer", fix="see the journal of the unit"
            )

    def _look(self) -> None:
        pause = threading.Event()
        while True:
            if self._peer.is_well():
                self._well = self._now()
            pause.wait(4 * LOOK_SECONDS)

    def _run(self) -> None:
        step = 0
        while True:
            step += 1
            self._turned = self._now()
            self._take_in(step)
            for job in self._waiting.take_cancelled():
                job.say("", "cancelled")
            is_gone = self._now() - self._well > _GONE_SECONDS
            for job, stream in list(self._active.items()):
                if is_gone or job.handle.is_cancelled:
                    stream.abort()
            while (first := self._waiting.next(step=step)) is not None and self._room.take(first.need):
                self._begin(first)

    def _begin(self, job: Job) -> None:
        self._waiting.remove(job)
        self._shares.charge(job, job.need)
        try:
            asked = self._dialect.question(job.generation, index=job.index)
        except RefusedError:  # it was askable when it came
            self._room.give(job.need)
            job.say("", "error")
            return
        stream = self._active[job] = self._peer.stream(words.COMPLETIONS, asked)
        self._pool.submit(self._answer, job, stream)

    def _take_in(self, step: int) -> None:
        try:
            arrived = self._arrivals.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            return
        if not arrived:
            return
        self._shares.arrive(arrived[0].salt, {*self._waiting.salts, *(job.salt for job in list(self._active))})
        for job in arrived:
            self._waiting.add(job, step=step)

    def _answer(self, job: Job, stream: PeerStream) -> None:
        ended: FinishReason = "error"
        try:
            ended = self._follow(job, stream)
        except SealiftError:
            ended = "cancelled" if job.handle.is_cancelled else "error"
        finally:
            # The place is free before the caller hears the end, so that whoever asks next finds it free.
            self._active.pop(job, None)
            self._room.give(job.need)
            self._arrivals.put([])  # whoever waits is looked at now
            job.say("", ended)

    def _follow(self, job: Job, stream: PeerStream) -> FinishReason:
        """Say what the peer says; return why the answer ended.

        Raises:
            SealiftError: The peer broke its contract, went away or was silent.
        """
        generation, name = job.generation, self._peer.name
        reason: FinishReason | None = None
        counted = words.Part()
        stops = StopBuffer(() if self._dialect.leaves_stops_out else generation.stop)
        is_met = False
        for event in stream.events():
            part = self._dialect.part_of(event, top=generation.top_logprobs)
            if reason is not None and (part.text or part.reason):
                raise broken(name, "an answer went on after its end")
            reason = reason or part.reason
            if part.completion_tokens is not None:
                counted = part
            if part.text or part.likelihoods:
                job.produced += 1
                if job.produced > generation.max_tokens:
                    raise broken(name, "it wrote more than it was asked for")
                text, is_met = ("", True) if is_met else stops.add(part.text)
                if text or part.likelihoods:
                    job.say(text, None, part.likelihoods)
        if reason is None:
            raise broken(name, "an answer ended without a reason")
        job.produced = words.require_counted(
            counted, prompt=len(generation.tokens), most=generation.max_tokens, name=name
        )
        if left := stops.flush():
            job.say(left, None)
        self.counts.prompt_tokens += len(generation.tokens)
        self.counts.answer_tokens += job.produced
        return "stop" if is_met else reason


class _Room:
    """Places and tokens of a peer that are not given away."""

    def __init__(self, *, places: int, tokens: int) -> None:
        self._places = places
        self._tokens = tokens
        self._changed = threading.Condition()

    def take(self, tokens: int) -> bool:
        """Take a place with so many tokens; False where there is none."""
        with self._changed:
            if self._places < 1 or self._tokens < tokens:
                return False
            self._places -= 1
            self._tokens -= tokens
            return True

    def give(self, tokens: int) -> None:
        """Give it back."""
        with self._changed:
            self._places += 1
            self._tokens += tokens
            self._changed.notify_all()

    @contextmanager
    def held(self, tokens: int) -> Iterator[None]:
        """Wait for a place, and have it for the block."""
        with self._changed:
            while not self.take(tokens):
                self._changed.wait()
        try:
            yield
        finally:
            self.give(tokens)
