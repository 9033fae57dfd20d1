"""Who is let in next: the class first, then the caller who had least, then the earliest.

Rules:
    WAIT-1 A lower number of priority goes before a higher one; every `AGING_STEPS` steps of waiting count as one class,
           so nobody waits for ever.
    WAIT-2 Within a class the caller goes first for whom the fewest tokens were decoded of late: one who sends a hundred
           requests gets no more than one who sends two. A caller who comes back has no credit for having been away.
           So it is with the prompts of those who were let in, by start-time fair queueing (Goyal, Vin and Cheng 1996):
           one begins behind what was decoded for its caller in its class, or with the one that is read now. So nobody's
           question waits for more than one prompt of a caller who sends many, and who comes later with several does
           not go before for ever. Where nobody's prompt waits, all that was before is forgotten.
    WAIT-3 An answer that has to wait for another one's reading of the same prompt lets others pass.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from appliance.serve.jobs import Job

AGING_STEPS: Final = 2048
_MAX_CALLERS: Final = 4096


class Shares:
    """How many tokens were decoded for each caller, on one common scale."""

    def __init__(self) -> None:
        self._had: OrderedDict[str, float] = OrderedDict()
        self._floor = 0.0
        self._ends: OrderedDict[tuple[int, str], int] = OrderedDict()
        self._now = 0
        self._latest = 0

    def arrive(self, salt: str, present: Iterable[str]) -> None:
        """Note that a caller asks; `present` are those who are being answered or wait."""
        others = [self._had[one] for one in set(present) if one != salt and one in self._had]
        self._floor = max(self._floor, min(others, default=self._floor))
        if salt not in present:
            self._had[salt] = max(self._had.get(salt, 0.0), self._floor)
        self._had.setdefault(salt, self._floor)
        self._had.move_to_end(salt)
        while len(self._had) > _MAX_CALLERS:
            self._had.popitem(last=False)

    def charge(self, job: Job, tokens: int) -> None:
        """Note that tokens were decoded for a caller."""
        self._had[job.salt] = self._had.get(job.salt, self._floor) + tokens
        if job.begins is None:
            job.begins = self._begin(job)
        whose = (job.generation.priority, job.salt)
        self._ends[whose] = max(self._ends.pop(whose, 0), self._now) + tokens
        self._latest = max(self._latest, self._ends[whose])
        if len(self._ends) > _MAX_CALLERS:
            self._ends.popitem(last=False)

    def sort(self, reading: list[Job]) -> None:
        """Put first whose prompt a step reads first: by class, then by where it begins, then who came first."""
        reading.sort(key=lambda job: (job.generation.priority, self._begin(job), job.number))
        self._now = max(self._now, self._begin(reading[0])) if reading else self._latest

    def _begin(self, job: Job) -> int:
        if job.begins is not None:
            return job.begins
        return max(self._now, self._ends.get((job.generation.priority, job.salt), 0))

    def had(self, salt: str) -> float:
        """Return what a caller had."""
        return self._had.get(salt, self._floor)


class Waiting:
    """Jobs that are not being decoded."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._jobs: list[Job] = []

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def salts(self) -> set[str]:
        """Whose jobs wait."""
        return {job.salt for job in self._jobs}

    @property
    def suspended(self) -> int:
        """How many were begun and gave their places away."""
        return sum(job.suspended is not None for job in self._jobs)

    def add(self, job: Job, *, step: int) -> None:
        """Take a job in."""
        job.since = step
        self._jobs.append(job)

    def next(self, *, step: int) -> Job | None:
        """Return the job that goes first; None where none may begin."""
        ready = [job for job in self._jobs if job.may_begin]
        return min(ready, key=lambda job: self._order(job, step), default=None)

    def remove(self, job: Job) -> None:
        """Take a job out."""
        self._jobs.remove(job)

    def take_cancelled(self) -> list[Job]:
        """Take out all whose callers left."""
        gone = [job for job in self._jobs if job.handle.is_cancelled]
        if gone:
            self._jobs = [job for job in self._jobs if not job.handle.is_cancelled]
        return gone

    def take_all(self) -> list[Job]:
        """Take out everything."""
        jobs, self._jobs = self._jobs, []
        return jobs

    def _order(self, job: Job, step: int) -> tuple[int, float, int]:
        aged = job.generation.priority - (step - job.since) // AGING_STEPS
        return aged, self._shares.had(job.salt), job.number
