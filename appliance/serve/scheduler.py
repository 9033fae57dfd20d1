"""Continuous batching: one thread owns the decoder; every step first feeds those who are answering, then the newcomers.

Who is let in, and who gives way where answers outgrow the context, `context` says. A cancelled request leaves at the
next step, inside a prefill too, because a prefill is fed in chunks. Whatever fails, whoever waits is told, and the
thread goes on.

Rules:
    SCHED-1 An answer whose priority is a lower class gives its place to one that waits and would not fit otherwise; a
            few times at most. Whoever gives way, to that one or to those who grow (ROOM-2), goes on later where it was,
            with what its sequence held where that is not too large.
    SCHED-2 How many answers go on in one step is what the curve says (`curve`); rounds take turns.
    SCHED-3 A failure in one answer's sampling ends that answer only.
    SCHED-4 The decoder is called on this one thread only, calibration included: OpenMP keeps a team of threads for each
            thread that ever computed, and with more of them than cores every barrier sleeps instead of spinning, which
            made single steps twice as long. For the same reason weights are loaded on a thread that ends.
    SCHED-5 A prompt that begins as one that is being read for the same salt waits for it, and shares what was read.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from appliance.errors import EngineUnavailableError
from appliance.serve.coming import Coming
from appliance.serve.context import Context
from appliance.serve.counts import Counts
from appliance.serve.curve import Curve, Plan, padding
from appliance.serve.drafting import Drafter
from appliance.serve.engine import Decoder, FinishReason, Generation, Row
from appliance.serve.errands import Question, Scoring, Work, failure
from appliance.serve.handles import Handle
from appliance.serve.jobs import Job, jobs_of, require_fits
from appliance.serve.places import Places
from appliance.serve.unwanted import UnwantedSteps
from appliance.serve.waiting import Shares, Waiting

_T = TypeVar("_T")
_Arrival = Scoring | Work[Any] | Question | list[Job] | None


class Scheduler:
    """Runs one decoder for many callers.

    Args:
        decoder: What decodes; nobody else calls it from now on, but for `tokenize` and `grammar_of`.
        curve: What its steps take; without one, everybody goes on in every step.
        drafter: What guesses where there is room for it; see `drafting`.
    """

    def __init__(self, decoder: Decoder, *, curve: Curve | None = None, drafter: Drafter | None = None) -> None:
        self.counts, self.coming = Counts(), Coming()
        self._drafter = drafter
        self._decoder = decoder
        self._go_by(curve)
        self._arrivals: queue.SimpleQueue[_Arrival] = queue.SimpleQueue()
        self._shares = Shares()
        self._waiting = Waiting(self._shares)
        self._context = Context(decoder)
        self._places = Places(decoder, self._context)
        self._active: list[Job] = []
        self._steps = UnwantedSteps(decoder, self._active)
        self._work: deque[Work[Any]] = deque()
        self._numbers = 0
        self._lock = threading.Lock()
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

    @property
    def filled(self) -> float:
        """Part of the context that running answers fill, 0 to 1."""
        return min(sum(job.held for job in list(self._active)) / self._decoder.context_tokens, 1.0)

    def submit(self, generation: Generation) -> Handle:
        """Queue a generation.

        Raises:
            EngineUnavailableError: It can never fit, or the scheduler has stopped.
        """
        require_fits(generation, self._decoder.request_tokens)
        self._require_alive()
        with self._lock:
            number = self._numbers
            self._numbers += generation.answers
        handle, jobs = jobs_of(generation, number, on_cancel=self._steps.look)
        self._arrivals.put(jobs)
        return handle

    def score(self, prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[float]:
        """Return the log-likelihood (nats) of each continuation after the prompt.

        Raises:
            EngineProtocolError: The decoder failed.
            EngineUnavailableError: The scheduler has stopped.
        """
        self._require_alive()
        scoring = Scoring(prompt=prompt, continuations=continuations)
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
        asked = Work(work=work)
        self._arrivals.put(asked)
        return asked.outcome(self._require_alive)

    def calibrate(self, take: Callable[[Decoder], Curve]) -> Curve:
        """Take what steps take from `take`, and go by it from now on. Nothing may have been asked before.

        Raises:
            EngineProtocolError: A step failed.
            EngineUnavailableError: The scheduler has stopped.
        """
        curve = self.between_steps(lambda: take(self._decoder))
        self._go_by(curve)
        return curve

    def turns(self, seconds: float) -> bool:
        """Whether the thread that owns the decoder comes round within `seconds`, out of its step and for more."""
        question = Question()
        self._arrivals.put(question)
        return question.came_round.wait(seconds)

    def stop(self) -> None:
        """End the thread after the present step; unfinished answers end with reason ``error``."""
        self._arrivals.put(None)
        self._thread.join(timeout=5)

    def _go_by(self, curve: Curve | None) -> None:
        self.curve, decoder = curve, self._decoder
        shares = decoder.request_tokens == decoder.context_tokens
        self._plan = Plan(curve, most=min(decoder.sequences, decoder.batch_tokens), fills=shares)

    def _require_alive(self) -> None:
        if not self.is_alive:
            raise EngineUnavailableError(what="the engine has stopped", why="", fix="see the journal of the unit")

    def _run(self) -> None:
        while self._collect(block=not self._active and not len(self._waiting) and not self._work):
            try:
                self._drop_cancelled()
                self._give_way()
                self._admit()
                if self._active:
                    self._step()
                if self._work:
                    self._work.popleft().run()
            except Exception as error:  # noqa: BLE001 - without this thread everybody would wait for ever
                for job in list(self._active):
                    self._fail(job, error)
                with suppress(Exception):
                    self._places.forget()
        for job in [*self._active, *self._waiting.take_all()]:
            self._finish(job, "error")
        for work in self._work:
            work.refuse()

    def _collect(self, *, block: bool) -> bool:
        while True:
            try:
                arrival = self._arrivals.get(block=block)
            except queue.Empty:
                return True
            if arrival is None:
                return False
            if isinstance(arrival, Question):
                arrival.came_round.set()
            elif isinstance(arrival, Scoring):
                arrival.run(self._decoder)
            elif isinstance(arrival, Work):
                self._work.append(arrival)
                block = False
            else:
                salts = self._waiting.salts | {job.salt for job in self._active}
                self._shares.arrive(arrival[0].salt, salts)
                for job in arrival:
                    self._waiting.add(job, step=self.counts.steps)
                if block and self.curve is not None:
                    self.coming.wait(self.curve.reading(len(arrival[0].tokens)))
                block = False

    def _drop_cancelled(self) -> None:
        for job in [*(one for one in self._active if one.handle.is_cancelled), *self._waiting.take_cancelled()]:
            self._finish(job, "cancelled")

    def _admit(self) -> None:
        while (job := self._waiting.next(step=self.counts.steps)) is not None:
            if self._context.fits(job, self._active):
                # Asked of who would begin now only: whoever waits for room is first in line at every step.
                if job.leader is None and self._places.waits_for_another(job, self._active):
                    continue
            elif not self._preempt_for(job):
                return
            self._waiting.remove(job)
            job.leader = None
            room = self._context.left(self._active)
            self._active.append(job)
            try:
                self._place(job, room)
            except Exception as error:  # noqa: BLE001 - as above, and it is this one's fault only
                self._fail(job, error)

    def _place(self, job: Job, room: int) -> None:
        if job.suspended is not None:
            self._places.restore(job, self._active, room=room)
            return
        self._places.place(job, self._active, room=room)
        if job.sequence is None:
            return
        sampling = job.generation.sampling
        self._decoder.begin(job.sequence, replace(sampling, seed=sampling.seed + job.index))
        if job.cached is None:
            job.cached = job.held
            self.counts.prompt_tokens += len(job.tokens)
            self.counts.cached_tokens += job.held

    def _preempt_for(self, job: Job) -> bool:
        """Take the places of the least urgent that are less urgent than `job`, if it then fits."""
        leaving = self._context.leaving_for(job, self._active)
        for one in leaving:
            self._suspend(one, for_urgent=True)
        return bool(leaving)

    def _give_way(self) -> None:
        while (job := self._context.gives_way(self._active)) is not None:
            priority = job.generation.priority
            self._suspend(job, for_urgent=any(one.generation.priority < priority for one in self._active))

    def _suspend(self, job: Job, *, for_urgent: bool) -> None:
        most = self._context.bytes_for(job, self._waiting.kept)
        self._active.remove(job)
        try:
            self._places.suspend(job, most_bytes=most)
        except Exception as error:  # noqa: BLE001 - its caller would wait for ever, and its sequence be lost
            self._fail(job, error)
            return
        job.preempted += for_urgent
        self.counts.preempted += 1
        self._waiting.add(job, step=self.counts.steps)

    def _step(self) -> None:
        self.counts.steps += 1
        going, reading = list[Job](), list[Job]()
        for job in self._active:
            (reading if job.is_reading else going).append(job)
        guesses = [] if reading else self._guesses(going)
        self._places.let_rest(self._context.unfilled(self._active) - len(guesses))
        # A prompt is read in every step, or in every other one where a step has one row.
        beside = self._decoder.batch_tokens - 1 or self.counts.steps % 2
        width = min(len(going), beside) if reading else self._plan.rows(len(going))
        # Rounds take turns: who waited longest for a step is first.
        if width < len(going):
            going = sorted(going, key=lambda job: (job.turn, job.sequence or 0))[:width]
        rows: list[Row] = []
        sampled: list[tuple[Job, int]] = []
        for job in going:
            self._feed(job, 1, rows, sampled)
        if guesses:
            rows.extend(going[0].guessed(guesses))
        self._shares.sort(reading, step=self.counts.steps)
        counts = self._plan.read([job.unread for job in reading], beside=len(rows), most=self._decoder.batch_tokens)
        for job, count in zip(reading, counts, strict=True):
            self._feed(job, count, rows, sampled)
        spare = 0 if reading or guesses else width - len(going)
        if spare > 0:
            rows.extend(padding(spare, sequence=self._decoder.sequences, token=rows[0].token))
            self.counts.padded += spare
        if not reading and not guesses:
            rows.extend(between := self._places.between([row.sequence for row in rows], self.curve, rows[0].token))
            self.counts.padded += len(between)
        self.counts.rows += len(rows)
        try:
            is_done = self._steps.decode(rows, step=self.counts.steps)
        finally:
            if spare > 0:
                self._decoder.cut(self._decoder.sequences, 0)
            self._places.empty_between()
        for job, row in sampled if is_done else ():
            try:
                self._take(job, row)
                if guesses:
                    self._judge(job, guesses)
            except Exception as error:  # noqa: BLE001 - one answer's fault is not the others'
                self._fail(job, error)

    def _guesses(self, going: Sequence[Job]) -> list[int]:
        if self._drafter is None or len(going) != 1 or self.waiting:
            return []
        (job,) = going
        job.turn = self.counts.steps
        most = min(job.generation.max_tokens - job.produced, self._decoder.batch_tokens) - 1
        run = partial(self._steps.run, step=job.turn)
        return self._drafter.guess(job.tokens, salt=job.salt, most=most, run=run)

    def _judge(self, job: Job, guesses: Sequence[int]) -> None:
        """Draw on for as long as what is drawn was guessed; then the sequence lets go of the guesses that were not."""
        kept = 0
        while not job.ended and kept < len(guesses) and job.tokens[-1] == guesses[kept]:
            kept += 1
            job.held, job.ahead = job.held + 1, job.ahead - 1
            self._take(job, kept)
        self.counts.guessed += len(guesses)
        self.counts.kept += kept
        if self._drafter is not None and not job.ended:
            self._drafter.learn(len(guesses), kept)
        self._let_go(job)

    def _let_go(self, job: Job) -> None:
        if job.ahead and job.sequence is not None and not self._decoder.cut(job.sequence, job.held):
            job.held, self._drafter = 0, None  # it is read again; with such a model nothing is guessed any more
        job.ahead = 0

    def _feed(self, job: Job, room: int, rows: list[Row], sampled: list[tuple[Job, int]]) -> int:
        """Add the job's next tokens to the rows; return how many."""
        if (sequence := job.sequence) is None or room <= 0:
            return 0
        job.turn = self.counts.steps
        tokens, begin = job.tokens, job.held
        last = len(tokens) - 1
        job.held = end = min(begin + room, last + 1)
        if begin <= last < end:
            sampled.append((job, len(rows) + last - begin))
        if end - begin == 1:  # of an answer that goes on
            rows.append(Row(tokens[begin], begin, sequence, begin == last))
        else:
            rows.extend([Row(tokens[at], at, sequence, at == last) for at in range(begin, end)])
        self._shares.charge(job, end - begin)
        return end - begin

    def _take(self, job: Job, row: int) -> None:
        if (sequence := job.sequence) is None:
            return
        token = self._decoder.sample(sequence, row)
        if self._decoder.is_end(token):
            self._finish(job, "stop")
            return
        generation = job.generation
        top = generation.top_logprobs
        likelihood = None if top is None else self._decoder.likelihood(row, token, top)
        job.produced += 1
        self.counts.answer_tokens += 1
        job.tokens.append(token)
        text, stopped = job.speech.add(self._decoder.bytes_of(token), likelihood)
        if stopped:
            self._leave(job, keeps=True)
            job.say(text, "stop", job.speech.told())
        elif job.produced >= generation.max_tokens:
            job.say(text, None, job.speech.told())
            self._finish(job, "length")
        elif text:
            job.say(text, None, () if likelihood is None else job.speech.told())

    def _finish(self, job: Job, reason: FinishReason) -> None:
        text, stopped = job.speech.end()
        self._leave(job, keeps=reason != "error")
        job.say(text, "stop" if stopped else reason, job.speech.told(all_of_them=not stopped))

    def _fail(self, job: Job, error: Exception) -> None:
        job.handle.put(failure(error))
        with suppress(Exception):
            self._leave(job, keeps=False)

    def _leave(self, job: Job, *, keeps: bool) -> None:
        job.ended = True
        if job in self._active:
            self._active.remove(job)
        if keeps:  # of a failed step nobody knows what the sequence holds, and all of it goes
            self._let_go(job)
        if job.suspended is not None:
            suspended, job.suspended = job.suspended, None
            self._decoder.discard(suspended)
        self._places.give_back(job, keeps=keeps)
