"""Lets requests run or wait for a place: a thread for each, woken by a place, a deadline or its caller's leaving.

Where the box has one gateway its queue is in memory; several share one in a file (`appliance.gateway.shared_queue`), so
that places, order and bounds are those of the box.
"""

import math
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from appliance.config import LimitsSection
from appliance.errors import StoreDamagedError
from appliance.gateway import problems
from appliance.gateway.metrics import NO_MODEL, Metrics
from appliance.gateway.pace import Pace
from appliance.gateway.problems import Problem, invalid
from appliance.gateway.queueing import Bounds, FullError, Priority, Queue, Ticket
from appliance.gateway.wellness import never
from media.clock import Clock

PRIORITY_HEADER: Final = "X-Sealift-Priority"
WAIT_HEADER: Final = "X-Sealift-Max-Wait"
POSITION_HEADER: Final = "x-sealift-queue-position"
WAITED_HEADER: Final = "x-sealift-queue-ms"
URGENT_TIER: Final = "premium"
_LOOK_SECONDS: Final = 0.5
# How long what was looked up of the queue holds, for those who ask whether their places are wanted.
_WANTED_SECONDS: Final = 1.0
# Who was turned away is told to ask again, and waits nowhere meanwhile.
_TURNED_AWAY_SECONDS: Final = 10.0
_PRIORITIES: Final = frozenset(Priority)
Watch = Callable[[Callable[[], None]], Callable[[], None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a caller asks of the queue: its class, and how long it waits.

    `patience` is how long requests may wait here, where that is longer; 0 where it is not.
    """

    priority: Priority
    seconds: float
    patience: float = 0.0


class GiveBack(Protocol):
    """What ends the holding of a place."""

    def __call__(self, *, answered: bool = False) -> None:
        """Free it; where an engine `answered` the time that it was held says how long others will wait."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One of the places.

    Attributes:
        position: How many were to run before the request when it came, 0 where it ran at once.
        waited_seconds: How long it waited.
        give_back: Frees it.
        is_wanted: Tells whether somebody waits for it, or was turned away of late.
    """

    position: int
    waited_seconds: float
    give_back: GiveBack
    is_wanted: Callable[[], bool] = never

    def headers(self) -> dict[str, str]:
        """Return what callers are told."""
        return {POSITION_HEADER: str(self.position), WAITED_HEADER: str(round(self.waited_seconds * 1000))}


def _nothing(*, answered: bool = False) -> None:
    """Free nothing; see `GiveBack`."""


NO_PLACE: Final = Place(position=0, waited_seconds=0.0, give_back=_nothing)
"""Of a request that no engine is asked for."""


class Desk(Protocol):
    """Where the queue is kept."""

    def open(self) -> AbstractContextManager[Queue]:
        """Lend the queue to one user at a time; what was done is kept when the block ends.

        Raises:
            StoreDamagedError: It cannot be read or written.
        """
        ...

    def await_change(self, ticket_id: str, woken: threading.Event, seconds: float) -> None:
        """Wait until something may have changed for a ticket of this gateway, or for so many seconds."""
        ...

    def close(self) -> None:
        """Give back what this gateway holds."""
        ...


class MemoryDesk:
    """The queue of the only gateway."""

    def __init__(self, bounds: Bounds) -> None:
        self._queue = Queue(bounds, Pace())
        self._lock = threading.Lock()

    @contextmanager
    def open(self) -> Iterator[Queue]:
        """Lend the queue; see `Desk`."""
        with self._lock:
            yield self._queue

    def await_change(self, ticket_id: str, woken: threading.Event, seconds: float) -> None:  # noqa: ARG002 - the port
        """Wait to be woken; see `Desk`."""
        woken.wait(seconds)

    def close(self) -> None:
        """Nothing outlives the process."""


class Admission:
    """Gives places.

    Args:
        desk: Where the queue is kept.
        clock: Its monotonic seconds are those of the kernel, the same in all processes.
        metrics: Counted into.
    """

    def __init__(self, desk: Desk, *, clock: Clock, metrics: Metrics) -> None:
        self._desk = desk
        self._clock = clock
        self._metrics = metrics
        self._lock = threading.Lock()
        self._woken: dict[str, threading.Event] = {}
        self._owed: dict[str, bool] = {}
        self._wanted: tuple[float, frozenset[str]] = (-math.inf, frozenset())
        self._turned_away = -math.inf

    def close(self) -> None:
        """Give back what is held."""
        self._desk.close()

    def take(
        self,
        wish: Wish,
        watch: Watch,
        *,
        caller: str = "",
        most: int = 0,
        line: str = "",
        model: str = NO_MODEL,
        kind: str = "",
    ) -> Place:
        """Return a place as soon as there is one.

        Args:
            wish: Of which class, and how long it may take.
            caller: Whose it is.
            most: How many places that one may have at once; 0 for no bound of its own.
            line: What it asks for, where several models are in production.
            model: Which one is to answer, for the metrics.
            kind: Which requests hold a place about as long.
            watch: Given what is to be called when the caller leaves; returns what ends the watch.

        Raises:
            Problem: There is no room to wait in, no place in time, or the caller left.
            StoreDamagedError: The queue cannot be read or written.
        """
        now = self._clock.monotonic()
        ticket = Ticket(
            id=secrets.token_hex(8),
            priority=wish.priority,
            arrived=now,
            until=now + wish.seconds,
            caller=caller,
            most=most,
            line=line,
            kind=kind,
            patience=wish.patience,
        )
        name = wish.priority.value
        self._pay()
        try:
            with self._desk.open() as queue:
                position = queue.enter(ticket, now)
        except FullError as full:
            if not full.of_class:
                self._turned_away = now
            self._metrics.turned_away(name, "full")
            raise problems.queue_full(
                of_class=full.of_class, retry_after_seconds=full.retry_after_seconds, position=full.ahead + 1
            ) from None
        if position:
            with self._metrics.waiting(name, model):
                self._wait(ticket, watch)
        waited = self._clock.monotonic() - now
        self._metrics.waited(name, waited)
        return Place(
            position=position,
            waited_seconds=waited,
            give_back=partial(self._give_back, ticket.id),
            is_wanted=partial(self._is_wanted, ticket.id),
        )

    def first_end(self, caller: str = "") -> float:
        """Return in how many seconds the first request is expected to end, of one caller or of any; 0 where none is.

        Raises:
            StoreDamagedError: The queue cannot be read.
        """
        with self._desk.open() as queue:
            return queue.first_end(caller, self._clock.monotonic())

    def _is_wanted(self, ticket_id: str) -> bool:
        """Tell whether a place is wanted; where the queue cannot be read, as it was before."""
        now = self._clock.monotonic()
        with self._lock:
            looked, found = self._wanted
            if is_old := now - looked > _WANTED_SECONDS:
                self._wanted = (now, found)  # one looks, and others go by what was found before meanwhile
        if is_old:
            with suppress(StoreDamagedError), self._desk.open() as queue:
                found = queue.wanted()
            with self._lock:
                self._wanted = (now, found)
        return ticket_id in found or now - self._turned_away < _TURNED_AWAY_SECONDS

    def _wait(self, ticket: Ticket, watch: Watch) -> None:
        woken, has_left = threading.Event(), threading.Event()
        with self._lock:
            self._woken[ticket.id] = woken

        def left() -> None:
            has_left.set()
            woken.set()

        try:
            unwatch = watch(left)
            try:
                while True:
                    woken.clear()  # before looking, so that what happens after the look is not lost
                    if self._is_served(ticket, has_left=has_left.is_set()):
                        return
                    remaining = max(ticket.until - self._clock.monotonic(), 0.0)
                    self._desk.await_change(ticket.id, woken, min(remaining, _LOOK_SECONDS))
            finally:
                unwatch()
        except BaseException:
            self._give_back(ticket.id)
            raise
        finally:
            with self._lock:
                del self._woken[ticket.id]

    def _is_served(self, ticket: Ticket, *, has_left: bool) -> bool:
        """Tell whether a ticket has its place.

        Raises:
            Problem: It will not get one.
        """
        name, now = ticket.priority.value, self._clock.monotonic()
        if has_left:
            self._metrics.turned_away(name, "left")
            raise problems.caller_left()
        with self._desk.open() as queue:
            if queue.is_running(ticket.id):
                return True
            again = queue.again_seconds(ticket, now) if now >= ticket.until else 0.0
        if now >= ticket.until:
            self._metrics.turned_away(name, "deadline")
            raise problems.waited_too_long(again)
        return False

    def _give_back(self, ticket_id: str, *, answered: bool = False) -> None:
        """Free a place or stop waiting; where the queue cannot be written, before the next place is taken."""
        with self._lock:
            self._owed[ticket_id] = answered
        with suppress(StoreDamagedError):
            self._pay()

    def _pay(self) -> None:
        with self._lock:
            owed = tuple(self._owed.items())
        for each, answered in owed:
            self._leave(each, answered=answered)
            with self._lock:
                self._owed.pop(each, None)

    def _leave(self, ticket_id: str, *, answered: bool) -> None:
        with self._desk.open() as queue:
            queue.leave(ticket_id, self._clock.monotonic(), answered=answered)
            # Whoever comes to wait from here on looks before it sleeps.
            begun = {one.id for one in queue.running} if self._woken else frozenset()
        with self._lock:
            for each, woken in self._woken.items():
                if each in begun:
                    woken.set()


def bounds_of(limits: LimitsSection) -> Bounds:
    """Return the bounds that the site file names."""
    return Bounds(
        places=limits.concurrent_requests,
        waiting=limits.queue_length,
        urgent_percent=limits.urgent_percent,
        interactive_percent=limits.interactive_percent,
        batch_percent=limits.batch_percent,
    )


def wish_of(environ: Mapping[str, Any], *, tier: str, limits: LimitsSection) -> Wish:
    """Return what the headers of a request ask of the queue; a caller may wait less than the site allows, never more.

    Raises:
        Problem: A header is wrong, or the key may not have that class.
    """
    untrusted = str(environ.get("HTTP_X_SEALIFT_PRIORITY") or Priority.INTERACTIVE.value).strip().lower()
    if untrusted not in _PRIORITIES:
        raise invalid(PRIORITY_HEADER, f"One of {', '.join(Priority)}.")
    priority = Priority(untrusted)
    if priority is Priority.URGENT and tier != URGENT_TIER:
        raise Problem(403, "priority_refused", f"Only keys of tier {URGENT_TIER} ask urgently.", param=PRIORITY_HEADER)
    seconds = str(environ.get("HTTP_X_SEALIFT_MAX_WAIT") or limits.queue_seconds).strip()
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) <= 4):
        raise invalid(WAIT_HEADER, "Whole seconds.")
    longest = limits.queue_seconds
    return Wish(priority=priority, seconds=float(min(int(seconds), longest)), patience=float(longest))
