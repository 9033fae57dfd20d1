"""Who runs next while all places are taken: pure, so that order, bounds and fairness can be tried on any input.

Rules:
    QUE-1  A request runs at once when a place is free for its class and caller, and nobody who may run waits before it.
    QUE-2  Of those who wait the one with the earliest due moment runs next: its arrival and a handicap of its class. A
           second of waiting counts the same for all, so whoever waits overtakes later ones of a higher class in time
           (aging). A handicap is at most a part of how long requests may wait here, so that this happens before they
           have to give up, and nobody starves who waits that long.
    QUE-3  A class has a ceiling of places; who is at it lets others pass and keeps its own order.
    QUE-4  At most so many wait, of each class, of each caller (half of all), of each line (three quarters, where there
           are more) and in all; who would wait longer than it may is told so at once.
    QUE-5  What is told about time comes from measured service times: how long places were held of late by requests of
           the same kind (endpoint and model) that were answered. The wait is until the first of those who run ends, as
           if they began now, and the sum of those who go before.
    QUE-6  While several lines have requests here, those of one that runs fewer than its share, the places divided by
           these lines and at least one, count as if they had come a minute earlier. What no other line waits for one
           may have in full.
    QUE-7  A caller has at most so many places as its tickets say; who is at it lets others pass and keeps its order.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from appliance.gateway.pace import Pace

_LEAST_SECONDS: Final = 1.0


class Priority(StrEnum):
    """The classes, the most urgent first."""

    URGENT = "urgent"
    INTERACTIVE = "interactive"
    BATCH = "batch"


# How many seconds earlier a request of a class must have come to go before an urgent one; and at most which part of the
# longest wait: with 30 seconds, batch that counted as 300 later would give up before it overtook anybody.
HANDICAP_SECONDS: Final = {Priority.URGENT: 0.0, Priority.INTERACTIVE: 10.0, Priority.BATCH: 300.0}
_MOST_OF_WAIT: Final = {Priority.URGENT: 0.0, Priority.INTERACTIVE: 1 / 3, Priority.BATCH: 2 / 3}

# More than callers wait where a site names no other bound, so that a flood for one model holds nobody of another up.
SHARE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much may run and wait.

    Attributes:
        places: Requests that run at once.
        waiting: Requests that wait; 0 means that nobody waits.
        urgent_percent: The part of both that the class urgent may have.
        interactive_percent: Likewise of the class interactive.
        batch_percent: Likewise of the class batch.
    """

    places: int
    waiting: int
    urgent_percent: int = 100
    interactive_percent: int = 100
    batch_percent: int = 50

    def ceiling(self, priority: Priority) -> int:
        """Return how many of a class may run at once; at least one."""
        return max(self._part(self.places, priority), 1)

    def room(self, priority: Priority) -> int:
        """Return how many of a class may wait, at least one where any may; the last eighth is for urgent ones only."""
        part = max(self._part(self.waiting, priority), min(self.waiting, 1))
        return part if priority is Priority.URGENT else min(part, self.waiting - self.waiting // 8)

    def _part(self, whole: int, priority: Priority) -> int:
        # Batch's is rounded down and the others' up, so that the three together are never below the whole.
        exact = whole * self._percent(priority)
        return exact // 100 if priority is Priority.BATCH else -(-exact // 100)

    def _percent(self, priority: Priority) -> int:
        if priority is Priority.URGENT:
            return self.urgent_percent
        return self.interactive_percent if priority is Priority.INTERACTIVE else self.batch_percent

    @property
    def of_line(self) -> int:
        """How many requests of one line may wait where there are more, so that a flood leaves room for others."""
        return max(self.waiting - self.waiting // 4, 1)

    @property
    def of_caller(self) -> int:
        """How many requests of one caller may wait, so that one that went wild leaves room for others."""
        return max(self.waiting // 2, 1)


@dataclass(slots=True, kw_only=True)
class Ticket:
    """One request that runs or waits; times are monotonic seconds.

    Attributes:
        caller: Whose it is; nobody's is bounded as one caller's.
        most: How many places its caller may have; 0 where it has no bound of its own.
        line: What it asks for, where several models are in production; empty where there is one.
        kind: Which requests hold a place about as long.
        number: Rises with each ticket; the earlier of two that are due at once goes first.
        until: When it gives up waiting.
        patience: How long requests may wait here, in seconds, where its caller waits less; 0 where it waits that long.
            Handicaps follow from this, so that nobody gets ahead by waiting less.
        began: When it got its place; None while it waits.
    """

    id: str
    priority: Priority
    arrived: float
    until: float
    caller: str = ""
    most: int = 0
    line: str = ""
    kind: str = ""
    number: int = 0
    patience: float = 0.0
    began: float | None = None

    @property
    def due(self) -> tuple[float, int]:
        """What those who wait are ordered by where no line is behind its share."""
        return (self.arrived + self.handicap_of(self.priority), self.number)

    def handicap_of(self, priority: Priority) -> float:
        """Return how many seconds later a request of a class counts that may wait as long as this one."""
        longest = self.patience or max(self.until - self.arrived, 0.0)
        return min(HANDICAP_SECONDS[priority], _MOST_OF_WAIT[priority] * longest)


class FullError(Exception):
    """A request may not wait.

    Attributes:
        of_class: Its class, its line or its caller has no room, or its caller no place in time, while the queue has.
        retry_after_seconds: When it is expected to be served within the wait that it allows.
        ahead: How many would have been before it.
    """

    def __init__(self, *, of_class: bool, retry_after_seconds: float, ahead: int) -> None:
        super().__init__("full")
        self.of_class = of_class
        self.retry_after_seconds = retry_after_seconds
        self.ahead = ahead


class Queue:
    """Those who run and those who wait; not safe for threads.

    Args:
        bounds: How much may run and wait.
        pace: What was measured.
        tickets: Those who are there already.
    """

    def __init__(self, bounds: Bounds, pace: Pace, tickets: Iterable[Ticket] = ()) -> None:
        self.bounds = bounds
        self.pace = pace
        self._next = 1
        self._running: dict[str, Ticket] = {}
        self._waiting: dict[str, Ticket] = {}
        self._counts = dict.fromkeys(Priority, 0)
        self._held = Counter[str]()
        for ticket in tickets:
            self._next = max(self._next, ticket.number + 1)
            if ticket.began is None:
                self._waiting[ticket.id] = ticket
            else:
                self._begin(ticket, ticket.began)

    @property
    def running(self) -> tuple[Ticket, ...]:
        """Those who have a place."""
        return tuple(self._running.values())

    @property
    def waiting(self) -> tuple[Ticket, ...]:
        """Those who wait, the next one first; ceilings may let later ones pass."""
        behind = self._behind_their_share()
        return tuple(sorted(self._waiting.values(), key=lambda one: _order(one, behind)))

    def is_running(self, ticket_id: str) -> bool:
        """Tell whether a ticket has its place."""
        return ticket_id in self._running

    def enter(self, ticket: Ticket, now: float) -> int:
        """Take a request in; return how many will run before it, 0 where it runs at once, else counted from 1.

        Raises:
            FullError: It may not wait.
        """
        ticket.number, ticket.began = self._next, None
        self._next += 1
        self._waiting[ticket.id] = ticket
        self.grant(now)
        if self.is_running(ticket.id):
            return 0
        del self._waiting[ticket.id]
        before = self._before(ticket)
        wait = self._expected(ticket, now, before)
        of_class = sum(1 for one in self._waiting.values() if one.priority is ticket.priority)
        of_caller = sum(1 for one in self._waiting.values() if ticket.caller and one.caller == ticket.caller)
        of_line = sum(1 for one in self._waiting.values() if ticket.line and one.line == ticket.line)
        is_class_full = (
            of_class >= self.bounds.room(ticket.priority)
            or of_caller >= self.bounds.of_caller
            or of_line >= self.bounds.of_line
        )
        is_late = wait > ticket.until - now
        if is_class_full or len(self._waiting) >= self.bounds.waiting or is_late:
            least = self._expected(ticket, now, ())
            is_own = is_class_full or (is_late and self._has_all(ticket))
            raise FullError(
                of_class=is_own and len(self._waiting) < self.bounds.waiting,
                retry_after_seconds=max(wait - max(ticket.until - now, 0.0), least),
                ahead=len(before),
            )
        self._waiting[ticket.id] = ticket
        return len(before) + 1

    def leave(self, ticket_id: str, now: float, *, answered: bool) -> None:
        """Free a place or stop waiting; does nothing for a ticket that is not there. Others may run from now on.

        Args:
            ticket_id: Whose place.
            now: Monotonic seconds.
            answered: Whether an engine answered, so that the time says how long answers of the kind take.
        """
        self._waiting.pop(ticket_id, None)
        ticket = self._end(ticket_id)
        if answered and ticket is not None and ticket.began is not None:
            self.pace.note(ticket.kind, now - ticket.began)
        self.grant(now)

    def forget(self, ticket_ids: Iterable[str], now: float) -> None:
        """Drop tickets whose gateway died: what they held was not measured to its end."""
        for ticket_id in ticket_ids:
            self._waiting.pop(ticket_id, None)
            self._end(ticket_id)
        self.grant(now)

    def grant(self, now: float) -> None:
        """Give free places to those who wait."""
        while self._waiting and len(self._running) < self.bounds.places:
            may = [one for one in self._waiting.values() if self._is_below(one.priority) and not self._has_all(one)]
            if not may:
                return
            behind = self._behind_their_share() if len(may) > 1 else frozenset()
            ticket = min(may, key=lambda one: _order(one, behind))
            del self._waiting[ticket.id]
            self._begin(ticket, now)

    def wanted(self) -> frozenset[str]:
        """Return which of those that run hold a place that somebody who waits would have at once."""
        return frozenset(one.id for one in self._running.values() if self._is_wanted(one))

    def expected_seconds(self, ticket: Ticket, now: float) -> float:
        """Return how long a ticket that waits will go on waiting, as measured of late."""
        return self._expected(ticket, now, self._before(ticket))

    def again_seconds(self, ticket: Ticket, now: float) -> float:
        """Return when one like a ticket that gives up now is expected to be served within the wait that it allows."""
        longest = max(ticket.until - ticket.arrived, 0.0)
        again = replace(ticket, arrived=now, until=now + longest, number=self._next)
        before = [one for one in self._before(again) if one.id != ticket.id]
        return max(self.expected_seconds(ticket, now), self._expected(again, now, before) - longest)

    def first_end(self, caller: str, now: float) -> float:
        """Return in how many seconds the first request of a caller, or of any, is expected to end; 0 where none is."""
        running = [one for one in self._running.values() if caller in {"", one.caller}]
        if running:
            return self._first_free(running, now)
        waiting = [one for one in self._waiting.values() if caller in {"", one.caller}]
        ends = (self.expected_seconds(one, now) + self._held_seconds(one.kind, now) for one in waiting)
        return min(ends, default=0.0)

    def _before(self, ticket: Ticket) -> tuple[Ticket, ...]:
        """Return those who wait and go before a ticket, as places are held now."""
        behind = self._behind_their_share({ticket.line})
        own = _order(ticket, behind)
        return tuple(one for one in self._waiting.values() if _order(one, behind) < own)

    def _behind_their_share(self, coming: Collection[str] = ()) -> frozenset[str]:
        """Return the lines that run fewer than their share; none where all that is here is of one line."""
        held = Counter(one.line for one in self._running.values())
        lines = {*held, *coming, *(one.line for one in self._waiting.values())}
        share = max(self.bounds.places // max(len(lines), 1), 1)
        return frozenset(line for line in lines if held[line] < share) if len(lines) > 1 else frozenset()

    def _expected(self, ticket: Ticket, now: float, before: Collection[Ticket]) -> float:
        """Return in how many seconds a ticket gets a place, with these before it, at the measured paces."""
        return self._overtaken(ticket, now, self._from_those(ticket, now, before))

    def _overtaken(self, ticket: Ticket, now: float, wait: float) -> float:
        """Return a wait with what later ones of classes above take of it, as long as they still overtake."""
        due, _ = ticket.due
        window = {one: due - ticket.handicap_of(one) - now for one in Priority}
        part = {one: self._counts[one] / self.bounds.places for one in Priority if window[one] > 0}
        part.pop(ticket.priority, None)
        if len(self._running) < self.bounds.places or not part:
            return wait
        most = wait + sum(part[one] * window[one] for one in part)
        rest = 1.0 - sum(part.values())
        return min(wait / rest, most) if rest > 0 else most

    def _from_those(self, ticket: Ticket, now: float, before: Collection[Ticket]) -> float:
        """Return a wait as those say who are here."""
        running, places = list(self._running.values()), self.bounds.places
        if not self._is_below(ticket.priority):
            running = [one for one in running if one.priority is ticket.priority]
            places = self.bounds.ceiling(ticket.priority)
        wait = self._first_free(running, now) + self._work(before, now) / places
        if not self._has_all(ticket):
            return wait
        running = [one for one in self._running.values() if one.caller == ticket.caller]
        own = [one for one in before if one.caller == ticket.caller]
        return max(wait, self._first_free(running, now) + self._work(own, now) / ticket.most)

    def _first_free(self, running: Collection[Ticket], now: float) -> float:
        """Return in how many seconds the first of these ends: where all are alike, a pace divided by their number.

        One that runs for longer than those before it goes on for as long again: some are left before they end, and say
        so in no pace.
        """
        ends = sum(1 / max(self._held_seconds(one.kind, now), _age(one, now)) for one in running)
        return 1 / ends if ends else 0.0

    def _work(self, tickets: Collection[Ticket], now: float) -> float:
        """Return how long these will hold a place, together."""
        kinds = Counter(one.kind for one in tickets)
        return sum(count * self._held_seconds(kind, now) for kind, count in kinds.items())

    def _held_seconds(self, kind: str, now: float) -> float:
        """Return how long a request of a kind holds a place; of one that was never measured as long as one has yet."""
        if pace := self.pace.of(kind):
            return pace
        ages = (now - one.began for one in self._running.values() if one.kind == kind and one.began is not None)
        return max([_LEAST_SECONDS, *ages])

    def _is_wanted(self, held: Ticket) -> bool:
        return any(
            (one.priority is held.priority or self._is_below(one.priority))
            and (one.caller == held.caller or not self._has_all(one))
            for one in self._waiting.values()
        )

    def _is_below(self, priority: Priority) -> bool:
        return self._counts[priority] < self.bounds.ceiling(priority)

    def _has_all(self, ticket: Ticket) -> bool:
        """Tell whether the caller of a ticket has all the places that it may have."""
        return 0 < ticket.most <= self._held[ticket.caller]

    def _begin(self, ticket: Ticket, now: float) -> None:
        ticket.began = now
        self._running[ticket.id] = ticket
        self._counts[ticket.priority] += 1
        self._held[ticket.caller] += 1

    def _end(self, ticket_id: str) -> Ticket | None:
        ticket = self._running.pop(ticket_id, None)
        if ticket is not None:
            self._counts[ticket.priority] -= 1
            self._held[ticket.caller] -= 1
        return ticket


def _age(ticket: Ticket, now: float) -> float:
    return 0.0 if ticket.began is None else now - ticket.began


def _order(ticket: Ticket, behind: Collection[str]) -> tuple[float, int]:
    """Return what those who wait are ordered by while some lines are behind their share."""
    due, number = ticket.due
    return (due - SHARE_SECONDS if ticket.line in behind else due, number)
