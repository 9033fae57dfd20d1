"""One answer from its recorded intent to its recorded outcome, each exactly once, however it ends.

The outcome is durable before the last byte leaves. The place, the watch on the caller and the engine's connection are
given back at the same moment.
"""

import select
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.costs import CostSection
from appliance.errors import EngineProtocolError, EngineRefusedError, EngineUnavailableError
from appliance.gateway.admission import GiveBack
from appliance.gateway.assembly import Assembly
from appliance.gateway.calls import Delivery, EngineCall
from appliance.gateway.logs import Event, Log
from appliance.gateway.metrics import Metrics
from appliance.gateway.problems import Problem, caller_left, ending, from_error
from appliance.gateway.reading import Usage
from appliance.gateway.record import Ending, Outcome, Recorder, Recording
from appliance.gateway.samples import Samples
from appliance.gateway.upstream import is_unread
from appliance.gateway.wellness import never
from appliance.phi.vault import SealedTokens
from media.clock import Clock
from media.errors import SealiftError

CALLER_LEFT: Final = 499
_WHOLE: Final = 200
_FAULTS_FROM: Final = 500
_LOOK_MILLISECONDS: Final = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What metrics and the log say about a request; no content."""

    request_id: str
    endpoint: str
    model: str
    arm: str
    department: str
    user_hash: str
    prompt_characters: int
    stream: bool
    is_batch: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnesses:
    """Who notes how answers end: the ledger, metrics, the log, what keeps samples; their clock, the site's prices."""

    recorder: Recorder
    metrics: Metrics
    log: Log
    samples: Samples
    clock: Clock
    prices: CostSection = field(default_factory=CostSection)


class Exchange:
    """Made when the intent is durable, or is being recorded and `answer` is what reads.

    Args:
        facts: For metrics and the log.
        intent: The record of it.
        began: The clock's monotonic seconds when the request came.
        call: The engine's answer, or that of a cache.
        tokens: The request's tokens, encrypted until the answer begins.
        release: Gives back what the exchange holds; told whether an engine answered.
        settle: Told how many tokens the answer cost, where somebody counted, and what was delivered.
        witnesses: Who notes how it ends.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        intent: Recording,
        began: float,
        call: EngineCall,
        tokens: SealedTokens,
        release: GiveBack,
        settle: Callable[[int | None, str], None],
        witnesses: Witnesses,
    ) -> None:
        self.facts = facts
        self.call = call
        self._intent = intent
        self._began = began
        self._tokens = tokens
        self._release = release
        self._settle = settle
        self._witnesses = witnesses
        self._is_asked_once = self._is_unread = False
        self._is_ending: Callable[[], bool] = never
        self._is_stopping: Callable[[], bool] = never
        self._keep: Callable[[], None] = lambda: None
        self._free: Callable[[], None] = lambda: None
        self._assembly: Delivery | None = None
        self._ttft_seconds: float | None = None
        self._ended = False
        self._is_refused = False
        self._started = witnesses.clock.monotonic()
        self._was_read: float | None = None
        witnesses.metrics.began(facts.model)

    def answer(self) -> dict[str, Any]:
        """Return the engine's whole answer, as it came.

        It is read when the intent is durable, or before where it is there sooner: it goes nowhere then until its
        outcome is durable, which is recorded after the intent.

        Raises:
            LedgerUnavailableError: The intent is not recorded; all is given back, and this is a refusal.
            SealiftError: Of the engine; see `appliance.gateway.upstream.Call.answer`.
        """
        if not _first_is(self.call.fileno(), before=self._intent.fileno()):
            try:
                self._intended()
            except BaseException:
                self._refuse()
                raise
        return self.call.answer()

    def assembly(self) -> Assembly:
        """Open the request's tokens and begin the answer.

        Raises:
            KeyMissingError: They cannot be opened.
        """
        assembly = Assembly(self._tokens.open())
        self.deliver(assembly)
        return assembly

    def deliver(self, delivery: Delivery) -> None:
        """Note what reaches the caller, or begins to."""
        self._assembly = delivery

    def withdraw(self) -> None:
        """Note that nothing of it reaches the caller after all: it was to leave whole, and is not."""
        self._assembly = None

    def when_whole(self, keep: Callable[[], None]) -> None:
        """Let `keep` be called when the answer is whole and its outcome durable."""
        self._keep = keep

    def asks_once(self) -> None:
        """Let what an engine refuses cost nothing: of several prompts others may have been answered before."""
        self._is_asked_once = True

    def frees_with(self, free: Callable[[], None]) -> None:
        """Let `free` free the place alone, where the engine is done before its caller; more is released at the end."""
        self._free = free

    def stops_with(self, is_ending: Callable[[], bool], *, is_stopping: Callable[[], bool] = never) -> None:
        """Let `is_ending` tell whether calls are cancelled since this process stops, and not since callers left.

        And let `is_stopping` tell whether it was told to, so that an engine that goes may have been told likewise.
        """
        self._is_ending = is_ending
        self._is_stopping = is_stopping

    def first_token(self) -> None:
        """Note the time to the first token of a stream."""
        if self._ttft_seconds is None:
            self._ttft_seconds = self._witnesses.clock.monotonic() - self._began

    def was_read(self) -> None:
        """Free the place: the engine has said all, and the caller, who is still watched, has not read all."""
        self._was_read = self._witnesses.clock.monotonic()
        self._free()

    def succeed(self) -> None:
        """Record the outcome of a whole answer; its last byte may leave when this returns.

        Raises:
            LedgerUnavailableError: It is not recorded.
            KeyMissingError: Its content cannot be hashed.
        """
        if not self._ended:
            self._end("ok")
            self._keep()

    def fail(self, error: Exception) -> Problem:
        """Record that no whole answer could be given; return what the caller is told, if still there."""
        if self._is_refused:
            return from_error(error)
        has_left = self.call.is_cancelled or (isinstance(error, Problem) and error.status == CALLER_LEFT)
        is_gone = isinstance(error, EngineUnavailableError | EngineProtocolError) and self._is_stopping()
        # The version did nothing wrong: no fault that a canary or a watch counts.
        if is_gone or (has_left and self._is_ending()):
            problem = ending()
            problem.recorded = True
            self._end_anyhow("cancelled", problem)
            return problem
        if has_left:
            self.abandon()
            problem = caller_left()
            problem.recorded = True
            return problem
        if not isinstance(error, SealiftError | Problem):
            self._witnesses.log.fault(error, request_id=self.facts.request_id)
        problem = from_error(error)
        problem.recorded = True
        if isinstance(error, EngineRefusedError) and self._is_asked_once and self._ttft_seconds is None:
            self._is_unread = is_unread(error)  # no word of a stream came before
        self._end_anyhow("error", problem)
        return problem

    def abandon(self) -> None:
        """Cancel the engine and record that the caller left; does nothing after an end."""
        if not self._ended:
            self.call.cancel()
            self._end_anyhow("cancelled", caller_left())

    def _refuse(self) -> None:
        """Give everything back: nothing was answered, and no record says that anything would be."""
        self._ended = True
        self._release()
        self.call.close()
        self._witnesses.metrics.gave_up(self.facts.model)
        self._witnesses.samples.ended(self.facts.request_id, None)
        with suppress(SealiftError):
            self._settle(0, "")

    def _end_anyhow(self, outcome: Outcome, problem: Problem) -> None:
        try:
            self._end(outcome, problem)
        except SealiftError as lost:
            self._witnesses.log.alert(Event.LOST_OUTCOME, request_id=self.facts.request_id, code=lost.code)

    def _end(self, outcome: Outcome, problem: Problem | None = None) -> None:
        """Record how it ended; `problem` is what the caller is told where it is no whole answer."""
        if self._ended:
            return
        self._ended = True
        self._release(answered=outcome == "ok" or self._ttft_seconds is not None)
        self.call.close()
        seconds = self._witnesses.clock.monotonic() - self._began
        assembly = self._assembly
        usage = assembly.usage if assembly else None
        ending = Ending(
            status=problem.status if problem else _WHOLE,
            outcome=outcome,
            finish_reason=assembly.finish_reason if assembly else None,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            latency_ms=round(seconds * 1000),
            ttft_ms=None if self._ttft_seconds is None else round(self._ttft_seconds * 1000),
            delivered=assembly.delivered() if assembly else "",
            thoughts=assembly.thoughts() if assembly else "",
            sampled=outcome == "ok" and self._witnesses.samples.has_chosen(self.facts.request_id),
        )
        self._pay(ending, usage)
        try:
            self._record(ending, seconds=seconds)
        except BaseException as lost:
            problem = problem or from_error(lost)  # what was whole leaves without an end then
            raise
        finally:
            self._witnesses.samples.ended(self.facts.request_id, None if problem else ending.delivered)
            self._count(ending, assembly, seconds=seconds, problem=problem)

    def _record(self, ending: Ending, *, seconds: float) -> None:
        try:
            recording = self._witnesses.recorder.outcome(self.facts.request_id, self._intended(), ending)
        finally:
            self._measure(ending, seconds=seconds)  # while it becomes durable
        recording.wait()

    def _intended(self) -> int:
        """Return where the intent is recorded; where it is not, what was read is no answer, and this is a refusal."""
        try:
            return self._intent.wait()
        except SealiftError:
            self._is_refused = True
            raise

    def _pay(self, ending: Ending, usage: Usage | None) -> None:
        counted = None if usage is None else usage.prompt_tokens + usage.completion_tokens
        if counted is None and self._is_unread:
            counted = 0
        try:
            self._settle(counted, ending.delivered + ending.thoughts)
        except SealiftError as lost:  # charged too much is no reason to lose the answer
            self._witnesses.log.alert(Event.LOST_COUNT, request_id=self.facts.request_id, code=lost.code)

    def _count(self, ending: Ending, assembly: Delivery | None, *, seconds: float, problem: Problem | None) -> None:
        facts = self.facts
        success = problem is None
        self._witnesses.metrics.ended(
            model=facts.model,
            arm=facts.arm,
            endpoint=facts.endpoint,
            department=facts.department,
            status=_counted_as(ending.outcome, problem),
            seconds=seconds,
            ttft_seconds=self._ttft_seconds,
            is_batch=facts.is_batch,
        )
        if assembly is not None:
            self._witnesses.metrics.unknown_tokens(assembly.unknown_tokens)
            self._witnesses.metrics.cut(facts.model, assembly.cut if success else 0)
        self._witnesses.log.note(
            Event.REQUEST,
            request_id=facts.request_id,
            user_id_hash=facts.user_hash[:16],
            department=facts.department,
            model=facts.model,
            endpoint=facts.endpoint,
            stream=facts.stream,
            prompt_length=facts.prompt_characters,
            response_length=len(ending.delivered),
            latency_ms=ending.latency_ms,
            ttft_ms=ending.ttft_ms,
            status=problem.status if problem else ending.status,
            success=success,
            error=problem.code if problem else None,
        )

    def _measure(self, ending: Ending, *, seconds: float) -> None:
        self._witnesses.metrics.took(
            self.facts.model,
            seconds=seconds,
            engine_seconds=(self._was_read or self._witnesses.clock.monotonic()) - self._started,
            ttft_seconds=self._ttft_seconds,
            tokens=ending.completion_tokens,
        )
        if ending.prompt_tokens is not None and ending.completion_tokens is not None:
            self._spent(ending.prompt_tokens, ending.completion_tokens)

    def _spent(self, prompt: int, completion: int) -> None:
        metrics, facts = self._witnesses.metrics, self.facts
        metrics.tokens(model=facts.model, prompt=prompt, completion=completion)
        cost = self._witnesses.prices.billionths(facts.model, prompt=prompt, answer=completion)
        if cost is not None:
            metrics.cost(department=facts.department, model=facts.model, billionths=cost)


def _counted_as(outcome: Outcome, problem: Problem | None) -> str:
    """Return the word of the metrics; what is wrong with a request is a refusal also where an engine found it out."""
    if problem is None:
        return "success"
    if outcome == "cancelled":
        return "cancelled"
    return "refused" if problem.status < _FAULTS_FROM else "error"


def _first_is(answer: int, *, before: int) -> bool:
    """Wait for an answer and a record, and tell whether the answer alone is there."""
    if answer < 0 or before < 0:
        return False
    poll = select.poll()
    for one in (answer, before):
        poll.register(one, select.POLLIN)
    return [one for one, _ in poll.poll(_LOOK_MILLISECONDS)] == [answer]
