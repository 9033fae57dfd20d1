"""Who is let in next: the class first, then the caller who had least, then the earliest.

Rules:
    WAIT-1 A lower number of priority goes before a higher one; every `AGING_STEPS` steps of waiting count as one class,
           so nobody waits for ever, to be let in or to be read.
    WAIT-2 Within a class the caller goes first for whom the fewest tokens were decoded of late: one who sends a hundred
           requests gets no more than one who sends two. A caller who comes back has no credit for having been away.
           So it is with the prompts of those who were let in, anew before every step: first is read what is read
           through soonest behind what was decoded for its caller in its class; of a caller who had `LEAD` tokens more
           than whoever had least, only behind that of others (worst-case fair queueing, Bennett and Zhang 1996). So a
           short question waits for no long prompt, prompts of one length are read one after another, and a long one
           waits for as much of all others as its own length and their number make fair, however many come and go
           meanwhile. Who comes begins at the fair part of those who wait. Of one caller's own, short ones pass a long
           one for as much as that has, too. Where nobody's prompt waits, all that was before is forgotten.
    WAIT-3 An answer that has to wait for another one's reading of the same prompt lets others pass.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from appliance.serve.jobs import Job

AGING_STEPS: Final = 2048
LEAD: Final = 1024
"""Tokens: several times an ordinary prompt, and read in seconds by a processor."""
_MAX_CALLERS: Final = 4096


@dataclass(slots=True)
class _Line:
    """Prompts of one class: what was decoded for each caller, and what each of those who wait would have had by now."""

    had: OrderedDict[str, int] = field(default_factory=OrderedDict)
    callers: set[str] = field(default_factory=set)
    fair: float = 0.0

    def charge(self, salt: str, tokens: int) -> None:
        if salt in self.callers:
            self.fair += tokens / len(self.callers)
        else:
            self._begin(salt)
        self.had[salt] = self._of(salt) + tokens
        self.had.move_to_end(salt)
        if len(self.had) > _MAX_CALLERS:
            self.had.popitem(last=False)

    def sorted(self, jobs: Sequence[Job]) -> list[Job]:
        callers = {job.salt for job in jobs}
        for salt in callers - self.callers:
            self._begin(salt)
        self.callers = callers
        begins = {salt: self._of(salt) for salt in callers}
        least = min(begins.values())
        self.fair = max(self.fair, least)
        for job in jobs:
            if job.due is None:
                job.due = begins[job.salt] + job.unread
        ranks: dict[int, tuple[bool, int, int]] = {}
        for job in sorted(jobs, key=lambda job: (job.due or 0, job.number)):
            begin = begins[job.salt]
            begins[job.salt] = end = begin + job.unread
            ranks[job.number] = (begin > least + LEAD, end, job.number)
        return sorted(jobs, key=lambda job: ranks[job.number])

    def clear(self) -> None:
        self.had.clear()
        self.callers.clear()

    def _begin(self, salt: str) -> None:
        """Give no credit for having been away; who waits keeps what it is owed."""
        self.had[salt] = max(int(self.fair), self.had.get(salt, 0))

    def _of(self, salt: str) -> int:
        return self.had.get(salt, int(self.fair))


class Shares:
    """How many tokens were decoded for each caller, on one common scale."""

    def __init__(self) -> None:
        self._had: OrderedDict[str, float] = OrderedDict()
        self._floor = 0.0
        self._lines: dict[int, _Line] = {}
        self._are_read = False
        """Whether somebody's prompt waited before the last step; where none did, what is charged would be forgotten."""

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
        if self._are_read:
            line = self._lines.get(job.generation.priority if job.line is None else job.line)
            if line is not None:
                line.charge(job.salt, tokens)

    def sort(self, reading: list[Job], *, step: int) -> None:
        """Put first whose prompt a step reads first: by class as WAIT-1 has it, then as WAIT-2 says."""
        classes: dict[int, list[Job]] = {}
        for job in reading:
            aged = aged_class(job, step)
            if job.line != aged:  # what it is due is said on the scale of one class
                job.line, job.due = aged, None
            classes.setdefault(aged, []).append(job)
        if classes or self._are_read:
            for gone in self._lines.keys() - classes.keys():
                self._lines[gone].clear()
        self._are_read = bool(classes)
        reading.clear()
        for number, jobs in sorted(classes.items()):
            reading.extend(self._lines.setdefault(number, _Line()).sorted(jobs))

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
    def kept(self) -> list[Job]:
        """Those who gave their places away, and need not be read again."""
        return [job for job in self._jobs if job.kept_bytes]

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
        return aged_class(job, step), self._shares.had(job.salt), job.number


def aged_class(job: Job, step: int) -> int:
    """Return the class that a job counts as by now (WAIT-1)."""
    return job.generation.priority - (step - job.since) // AGING_STEPS
