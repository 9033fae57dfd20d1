"""The context that answers share: who fits into it beside whom, who gives way, and what is kept of those who did.

Rules:
    ROOM-1 An answer is let in with its prompt and a part of what it may say. Many callers name the largest max_tokens
            for the shortest answers; who is let in with all of that keeps everybody else out.
    ROOM-2 Where answers outgrow the context, the newest of the least urgent gives way, until the others fit. So the
            oldest of the most urgent goes on whatever comes.
    ROOM-3 An answer gives way to more urgent ones a few times at most; then none is more urgent than it.
    ROOM-4 What is kept of all who gave way is at most a context of tokens, a place's state for each place, and
            `MOST_SUSPENDED_BYTES`; the first one takes what it needs, the next what is left. The rest is read again.

Every answer ends: one that may hold the whole context fits alone, and after any is let in, all that are being made can
grow by a token at least before one gives way. So the tokens that are still to come bound how often that happens.
"""

from collections.abc import Sequence
from typing import Final

from appliance.serve.engine import Decoder
from appliance.serve.jobs import Job
from media.llamaprofile import MOST_SUSPENDED_BYTES

MOST_PREEMPTIONS: Final = 4
_MOST_PART: Final = 128
"""Tokens: half an ordinary answer."""
_PARTS: Final = 4
"""At most so much of the context, one part of four, is left for those who are answering to grow into."""


class Context:
    """Counts the tokens of one decoder's context."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def claim(self, job: Job) -> int:
        """Return how many tokens an answer is let in with: never more than it may come to hold."""
        decoder = self._decoder
        part = min(_MOST_PART, decoder.context_tokens // (_PARTS * decoder.sequences))
        return min(job.need, len(job.tokens) + max(1, part))

    def left(self, active: Sequence[Job]) -> int:
        """Return how many tokens nobody claims; less than none where answers have grown."""
        return self._decoder.context_tokens - sum(map(self.claim, active))

    def unfilled(self, active: Sequence[Job]) -> int:
        """Return how many tokens are left beside all that answers hold after the next step."""
        return self._decoder.context_tokens - sum([len(job.tokens) for job in active])

    def fits(self, job: Job, beside: Sequence[Job]) -> bool:
        """Tell whether there are a place and room for one more."""
        return len(beside) < self._decoder.sequences and self.claim(job) <= self.left(beside)

    def leaving_for(self, job: Job, active: Sequence[Job]) -> list[Job]:
        """Return the least urgent of those less urgent than `job` without whom it fits; none where it does not."""
        stays, order = list(active), sorted(active, key=lambda one: (one.generation.priority, one.number))
        leaving: list[Job] = []
        while order and not self.fits(job, stays):
            last = order.pop()
            if last.generation.priority > job.generation.priority and last.preempted < MOST_PREEMPTIONS:
                stays.remove(last)
                leaving.append(last)
        return leaving if self.fits(job, stays) else []

    def gives_way(self, active: Sequence[Job]) -> Job | None:
        """Return who leaves next where answers no longer fit beside each other; None where they do."""
        return max(active, key=_rank) if self.unfilled(active) < 0 else None

    def bytes_for(self, job: Job, kept: Sequence[Job]) -> int:
        """Return how large a state may be kept of an answer beside those that are."""
        tokens = job.held + sum(one.held for one in kept)
        if len(kept) >= self._decoder.sequences or tokens > self._decoder.context_tokens:
            return 0
        return MOST_SUSPENDED_BYTES - sum(one.kept_bytes for one in kept)


def _rank(job: Job) -> tuple[bool, int, int]:
    return job.preempted < MOST_PREEMPTIONS, job.generation.priority, job.number
