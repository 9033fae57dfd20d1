"""One answer in the making: what its sequence must hold, what it holds, and what was said of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from appliance.errors import EngineUnavailableError
from appliance.serve.engine import FinishReason, Generation, Likelihood, Piece, Row, Suspended
from appliance.serve.handles import Handle
from appliance.serve.speech import Speech


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """One answer of a generation.

    Attributes:
        tokens: The prompt and what was drawn so far.
        held: How many of them the sequence holds.
        ahead: How many tokens the sequence holds beyond them, which were guessed.
        sequence: Which one; None while it waits.
        leader: Another answer to the same prompt, or to one that begins alike, which reads that first; only while this
            one waits.
        shared: How many tokens of its prompt the leader reads for this one, too.
        suspended: What the decoder kept when another took this one's place, or its room.
        cached: How many tokens of the prompt were there already.
        salt: Whose prompt it is; answers of one generation share theirs even where nobody else may.
        is_kept: Whether what was read may be used by later ones of the same salt.
        turn: The step it was last part of.
        due: How many tokens its caller will have had once its prompt is read, if none goes before it (WAIT-2); None
            until it could be.
        line: The class that its prompt is read in, as it is by now (WAIT-1).
        since: The step in which it began to wait.
        preempted: How often it gave its place to a more urgent one.
        said, likelihoods: What was said of an answer that nobody reads as it is made, and how likely it was. Every
            token that wakes a thread takes a core from those that decode, and the interpreter from the scheduler.
    """

    handle: Handle
    generation: Generation
    index: int
    number: int
    salt: str
    is_kept: bool
    tokens: list[int]
    speech: Speech
    leader: "Job | None" = None
    shared: int = 0
    held: int = 0
    ahead: int = 0
    sequence: int | None = None
    suspended: Suspended | None = None
    cached: int | None = None
    produced: int = 0
    turn: int = 0
    due: int | None = None
    line: int | None = None
    since: int = 0
    preempted: int = 0
    ended: bool = False
    said: list[str] = field(default_factory=list)
    likelihoods: list[Likelihood] = field(default_factory=list)

    @property
    def need(self) -> int:
        """How many tokens it may come to hold."""
        return len(self.generation.tokens) + self.generation.max_tokens

    @property
    def kept_bytes(self) -> int:
        """How large what is kept of its tokens is while it waits."""
        return 0 if self.suspended is None else self.suspended.state_bytes

    @property
    def unread(self) -> int:
        """How many tokens have to be decoded before another can be drawn."""
        return len(self.tokens) - self.held

    @property
    def is_reading(self) -> bool:
        """Whether these are more than the newest one."""
        return len(self.tokens) - self.held > 1  # asked of every answer in every step

    @property
    def may_begin(self) -> bool:
        """Whether the leader, if there is one, has read what is shared, or is gone."""
        leader = self.leader
        return leader is None or leader.ended or leader.suspended is not None or leader.held >= self.shared

    def guessed(self, guesses: Sequence[int]) -> list[Row]:
        """Return the rows of tokens that were guessed to follow: ahead of what it holds, until they are judged."""
        self.ahead = len(guesses)
        sequence = self.sequence or 0
        return [
            Row(token=token, position=self.held + at, sequence=sequence, wants_logits=True)
            for at, token in enumerate(guesses)
        ]

    def say(self, text: str, reason: FinishReason | None = None, likelihoods: Sequence[Likelihood] = ()) -> None:
        """Deliver a piece; of an answer that is asked for as a whole, all of it once it ends."""
        if not self.generation.is_streamed:
            self.said.append(text)
            self.likelihoods.extend(likelihoods)
            if reason is None:
                return
            text, likelihoods = "".join(self.said), self.likelihoods
        self.handle.put(
            Piece(
                text=text,
                completion_tokens=self.produced,
                finish_reason=reason,
                index=self.index,
                likelihoods=tuple(likelihoods),
                cached_tokens=self.cached or 0,
            )
        )


def require_fits(generation: Generation, request_tokens: int) -> None:
    """Pass when the prompt and the longest answer fit what one sequence may hold.

    Raises:
        EngineUnavailableError: They never will.
    """
    need = len(generation.tokens) + generation.max_tokens
    if need > request_tokens:
        raise EngineUnavailableError(
            what="the request does not fit the context",
            why=f"it needs {need} tokens, the context holds {request_tokens}",
            fix="shorten the prompt or lower max_tokens",
        )


def jobs_of(
    generation: Generation, number: int, *, on_cancel: Callable[[], None] = lambda: None
) -> tuple[Handle, list[Job]]:
    """Return the answers that a generation asks for, and the caller's end of them, which tells when that has left."""
    handle = Handle(generation.answers, on_cancel=on_cancel)
    jobs: list[Job] = []
    for index in range(generation.answers):
        jobs.append(
            Job(
                handle=handle,
                generation=generation,
                index=index,
                number=number + index,
                salt=generation.salt or f"\0{number}",
                is_kept=bool(generation.salt),
                tokens=list(generation.tokens),
                speech=Speech(generation.stop, generation.apart),
                leader=jobs[0] if jobs else None,
                shared=len(generation.tokens),
            )
        )
    return handle, jobs
