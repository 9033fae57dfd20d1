"""Whose places somebody waits for: those who hold one for a slow reader are hurried then."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from appliance.errors import StoreDamagedError
from appliance.gateway.admission import NO_PLACE, Admission, MemoryDesk, Place, Wish
from appliance.gateway.metrics import Metrics
from appliance.gateway.pace import Pace
from appliance.gateway.problems import Problem
from appliance.gateway.queueing import Bounds, Priority, Queue, Ticket
from media.clock import FixedClock


def _queue(places: int, *tickets: Ticket) -> Queue:
    queue = Queue(Bounds(places=places, waiting=8, batch_percent=50), Pace())
    for one in tickets:
        queue.enter(one, 0.0)
    return queue


def _ticket(name: str, *, priority: Priority = Priority.INTERACTIVE, caller: str = "", most: int = 0) -> Ticket:
    return Ticket(id=name, priority=priority, arrived=0.0, until=1e6, caller=caller or name, most=most)


def test_a_place_is_wanted_while_somebody_waits_who_would_have_it() -> None:
    assert _queue(2, _ticket("a"), _ticket("b")).wanted() == frozenset()

    queue = _queue(2, _ticket("a"), _ticket("b"), _ticket("c"))
    assert queue.wanted() == {"a", "b"}
    queue.leave("c", 0.0, answered=False)
    assert queue.wanted() == frozenset()


def test_who_waits_for_its_class_or_its_key_wants_places_of_that_class_or_that_key_alone() -> None:
    batch = [_ticket(name, priority=Priority.BATCH) for name in ("b1", "b2")]
    assert _queue(3, _ticket("a"), *batch).wanted() == {"b1"}, "batch has a half"

    own = [_ticket(name, caller="key", most=1) for name in ("k1", "k2")]
    assert _queue(3, _ticket("a"), *own).wanted() == {"k1"}


def _stay(_: Callable[[], None]) -> Callable[[], None]:
    return lambda: None


def _take(admission: Admission) -> Place:
    return admission.take(Wish(priority=Priority.INTERACTIVE, seconds=60), _stay)


def test_who_was_turned_away_wants_a_place_for_a_while() -> None:
    """Scenario: nobody may wait, so whoever comes is told to come back, and finds no place then either."""
    clock = FixedClock(datetime(2026, 11, 20, tzinfo=UTC))
    admission = Admission(MemoryDesk(Bounds(places=1, waiting=0)), clock=clock, metrics=Metrics())
    place = _take(admission)
    found = [place.is_wanted(), NO_PLACE.is_wanted()]
    with suppress(Problem):
        _take(admission)
    found.append(place.is_wanted())
    clock.advance(9)
    found.append(place.is_wanted())
    clock.advance(2)
    found.append(place.is_wanted())

    assert found == [False, False, True, True, False]


class _Damaged(MemoryDesk):
    """A desk that counts looks, and fails when a test says so."""

    looks = 0
    is_damaged = False

    @contextmanager
    def open(self) -> Iterator[Queue]:
        self.looks += 1
        if self.is_damaged:
            raise StoreDamagedError(what="the queue cannot be used", why="a test", fix="none")
        with super().open() as queue:
            yield queue


def test_the_queue_is_looked_at_once_a_second_for_all_and_not_believed_anew_where_it_cannot_be_read() -> None:
    clock = FixedClock(datetime(2026, 11, 20, tzinfo=UTC))
    desk = _Damaged(Bounds(places=1, waiting=1))
    admission = Admission(desk, clock=clock, metrics=Metrics())
    place = _take(admission)
    with desk.open() as queue:
        queue.enter(Ticket(id="next", priority=Priority.INTERACTIVE, arrived=0.0, until=1e9), clock.monotonic())
    before = desk.looks

    assert [place.is_wanted() for _ in range(3)] == [True] * 3
    assert desk.looks == before + 1
    with desk.open() as queue:
        queue.leave("next", clock.monotonic(), answered=False)
    desk.is_damaged = True
    clock.advance(2)
    assert place.is_wanted()
    desk.is_damaged = False
    clock.advance(2)
    assert not place.is_wanted()
