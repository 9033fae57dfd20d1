"""The decoder's sequences: which are free, and what the ones at rest still hold, so that it need not be read again.

Rules:
    PLACE-1 What was read for one salt is used for that salt only: how soon an answer begins tells nobody what others
            asked.
    PLACE-2 What rests goes before anyone is turned away: the longest unused first.
    PLACE-3 Where a model cannot give a part of what it read (hybrid and recurrent ones), it is read again; so is a
            beginning that lies before a window which has slid on, once others were given its places.
    PLACE-4 The last token of a prompt is always decoded: the first one of the answer is drawn from it.
    PLACE-5 Of what rests and what others hold now, what saves most reading is used. What rests is gone on with itself
            only where most of it is; otherwise it is copied from, and rests on while there is room.
    PLACE-6 Where each sequence has a context of its own, a new answer stands beside those that are being made. What
            rests there goes elsewhere first, and what it goes on with is copied to it (`neighbours`). Of the older
            half of what rests, what stands beside them goes before what is older.
    PLACE-7 A step computes a place between others, too, where that takes less time; the place then lets go of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from appliance.serve.context import Context
from appliance.serve.curve import Curve
from appliance.serve.engine import Decoder, Row
from appliance.serve.jobs import Job
from appliance.serve.neighbours import beside, bridges, spread

_WORTH_WAITING: Final = 16
"""Tokens that are read sooner than a step of their own takes are not waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resting:
    sequence: int
    salt: str
    tokens: Sequence[int]


class Places:
    """Sequences of one decoder."""

    def __init__(self, decoder: Decoder, context: Context) -> None:
        self._decoder = decoder
        self._context = context
        self._free = list(range(decoder.sequences))
        self._resting: list[_Resting] = []
        self._cannot_copy = False
        self._cannot_cut = False
        self._between: dict[int, int] = {}
        self._is_apart = decoder.request_tokens < decoder.context_tokens

    @property
    def resting_tokens(self) -> int:
        """How many tokens rest."""
        return sum(len(one.tokens) for one in self._resting)

    def place(self, job: Job, active: Iterable[Job], *, room: int) -> None:
        """Give a job a sequence and what can be used again; what it claims fits into `room` with what rests."""
        wanted, room_beside = len(job.tokens) - 1, room - self._context.claim(job)
        alike = [(self._held(one.sequence, one.tokens, job, wanted), one) for one in self._resting_of(job)]
        kept, rested = max(alike, key=lambda pair: pair[0], default=(0, None))
        shared, holder = self._shared(job, active, wanted)
        taken = _taken(active)
        if rested is not None and kept >= max(1, 0 if self._cannot_copy else shared):
            if self._rests_on(rested, kept, room_beside, taken) and self._copy(rested.sequence, job, kept, taken):
                return
            self._resting.remove(rested)
            self.let_rest(room_beside)
            self._go_on(job, rested.sequence, kept, taken)
            return
        self._make_room(room_beside, needs_sequence=True, taken=taken)
        source = holder.sequence if holder is not None and shared else None
        if source is None or not self._copy(source, job, shared, taken):
            job.sequence, job.held = self._free_place(taken), 0

    def waits_for_another(self, job: Job, active: Iterable[Job]) -> bool:
        """Whether somebody reads now what `job` could share soon; then that one leads it.

        Only where it is worth a step's wait, is not there already, and whoever reads is not less urgent.
        """
        if self._cannot_copy or job.suspended is not None:
            return False
        urgent = job.generation.priority
        reading = [one for one in active if one.salt == job.salt and one.is_reading and one.sequence is not None]
        alike = [(common_start(one.tokens, job.tokens), one) for one in reading if one.generation.priority <= urgent]
        alike = [(common, one) for common, one in alike if common >= _WORTH_WAITING]
        if not alike:
            return False
        most = len(job.tokens)
        there = [self._held(one.sequence, one.tokens, job, most) for one in self._resting_of(job)]
        best = max((*there, self._shared(job, active, most)[0]), default=0)
        for common, one in alike:
            if common - best >= _WORTH_WAITING:
                job.leader, job.shared = one, common
                return True
        return False

    def restore(self, job: Job, active: Iterable[Job], *, room: int) -> None:
        """Give a job that was suspended a sequence, with what it held where the decoder kept it."""
        taken = _taken(active)
        self._make_room(room - self._context.claim(job), needs_sequence=True, taken=taken)
        job.sequence = self._free_place(taken)
        suspended, job.suspended = job.suspended, None
        if not self._decoder.resume(job.sequence, suspended):
            job.held = 0

    def give_back(self, job: Job, *, keeps: bool) -> None:
        """Take a job's sequence back; what it holds rests where `keeps` is true and the job's caller may have it."""
        sequence, job.sequence = job.sequence, None
        if sequence is None:
            return
        if keeps and job.is_kept and job.held:
            self._decoder.rest(sequence)
            self._resting.append(_Resting(sequence=sequence, salt=job.salt, tokens=job.tokens[: job.held]))
            return
        self._decoder.release(sequence)
        self._free.append(sequence)

    def suspend(self, job: Job, *, most_bytes: int) -> None:
        """Take a job's sequence away, and keep for it what the decoder keeps."""
        if job.sequence is not None:
            job.suspended = self._decoder.suspend(job.sequence, most_bytes=most_bytes)
            self._free.append(job.sequence)
            job.sequence = None

    def between(self, taken: Sequence[int], curve: Curve | None, token: int) -> list[Row]:
        """Return rows for a step of these places that nobody asked for; call `empty_between` after it."""
        span = max(taken) - min(taken) + 1
        if not self._is_apart or curve is None or not len(taken) < span <= self._decoder.batch_tokens:
            return []
        held = dict.fromkeys(self._free, 0)
        if not self._cannot_cut:
            held |= {one.sequence: len(one.tokens) for one in self._resting}
        idle = [place for place, tokens in held.items() if tokens < self._decoder.request_tokens]
        self._between = {place: held[place] for place in bridges(taken, idle, curve.seconds)}
        return [Row(token, position, place, False) for place, position in self._between.items()]

    def empty_between(self) -> None:
        """Take away what the last step wrote between the answers."""
        while self._between:
            place, tokens = self._between.popitem()
            if not self._decoder.cut(place, tokens) and tokens:
                self._cannot_cut = True  # what rested is lost with it, once
                self._evict(next(one for one in self._resting if one.sequence == place))

    def let_rest(self, tokens: int) -> None:
        """Leave only so many tokens at rest."""
        self._make_room(tokens, needs_sequence=False)

    def forget(self) -> None:
        """Free everything that rests."""
        while self._resting:
            self._evict(self._resting[0])

    def _resting_of(self, job: Job) -> Iterable[_Resting]:
        return (one for one in self._resting if one.salt == job.salt)

    def _shared(self, job: Job, active: Iterable[Job], wanted: int) -> tuple[int, Job | None]:
        """Return who of the same salt holds most of a job's beginning now, and how much."""
        holders = [one for one in active if one.salt == job.salt and one.sequence is not None and one is not job]
        shared = [(self._held(one.sequence or 0, one.tokens, job, min(one.held, wanted)), one) for one in holders]
        return max(shared, key=lambda pair: pair[0], default=(0, None))

    def _held(self, sequence: int, tokens: Sequence[int], job: Job, most: int) -> int:
        """Return how much of a job's beginning a sequence of these tokens has, `most` at most; all of it or nothing."""
        found = min(common_start(tokens, job.tokens), most)
        return found if self._decoder.reaches(sequence, found) else 0

    def _rests_on(self, rested: _Resting, kept: int, room: int, taken: frozenset[int]) -> bool:
        """Whether less than half of what rests would be used, and there is a place beside it; others go for that."""
        if self._cannot_copy or 2 * kept >= len(rested.tokens) or len(rested.tokens) > room:
            return False
        self._make_room(room, needs_sequence=True, taken=taken, but=rested)
        return bool(self._free)

    def _go_on(self, job: Job, sequence: int, tokens: int, taken: frozenset[int]) -> None:
        """Let a job go on with what rested in a sequence: there, or beside the others where that saves a group."""
        if self._would_save(sequence, taken):
            self._make_room(self.resting_tokens, needs_sequence=True, taken=taken)
            if self._copy(sequence, job, tokens, taken):
                self._decoder.release(sequence)
                self._free.append(sequence)
                return
        job.sequence = sequence
        job.held = tokens if self._decoder.cut(sequence, tokens) else 0

    def _would_save(self, sequence: int, taken: frozenset[int]) -> bool:
        """Tell whether another place than this one would leave fewer groups."""
        others = [*self._free, *(one.sequence for one in self._resting)]
        if not self._is_apart or self._cannot_copy or not taken or not others:
            return False
        return spread(taken, beside(taken, others))[0] < spread(taken, sequence)[0]

    def _copy(self, source: int, job: Job, tokens: int, taken: frozenset[int]) -> bool:
        """Give a job a free sequence with what another one holds; False where the model cannot do that."""
        if self._cannot_copy:
            return False
        moved = {one.sequence: at for at, one in enumerate(self._resting)}.get(source)
        sequence = self._free_place(taken)
        if moved is not None:  # it may be what made room just now
            source = self._resting[moved].sequence
        if not self._decoder.copy(source, sequence, tokens):
            self._cannot_copy = True
            self._free.append(sequence)
            return False
        job.sequence, job.held = sequence, tokens
        return True

    def _free_place(self, taken: frozenset[int]) -> int:
        """Take a free place beside what is taken; what rests there goes to another free one."""
        may_move = self._is_apart and not self._cannot_copy
        place = beside(taken, self._free, resting=[one.sequence for one in self._resting] if may_move else ())
        if place not in self._free:
            at, rested = next((at, one) for at, one in enumerate(self._resting) if one.sequence == place)
            away = max(self._free, key=lambda one: spread(taken, one))
            if self._decoder.copy(place, away, len(rested.tokens)):
                self._resting[at] = replace(rested, sequence=away)
                self._decoder.release(place)
                self._free[self._free.index(away)] = place
            else:
                self._cannot_copy = True
                place = beside(taken, self._free)
        self._free.remove(place)
        return place

    def _make_room(
        self, tokens: int, *, needs_sequence: bool, taken: frozenset[int] = frozenset(), but: _Resting | None = None
    ) -> None:
        while others := [one for one in self._resting if one is not but]:
            if self.resting_tokens > tokens:
                self._evict(others[0])
            elif needs_sequence and not self._free:
                older = others[: (len(others) + 1) // 2] if self._is_apart else others[:1]
                self._evict(min(older, key=lambda one: spread(taken, one.sequence)))
            else:
                return

    def _evict(self, rested: _Resting) -> None:
        self._resting.remove(rested)
        self._decoder.release(rested.sequence)
        self._free.append(rested.sequence)


def _taken(active: Iterable[Job]) -> frozenset[int]:
    return frozenset(one.sequence for one in active if one.sequence is not None)


def common_start(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many tokens two sequences begin with alike."""
    low, high = 0, min(len(left), len(right))
    while low < high:  # slices are compared in C
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
