"""The queue's promises for waits as a site file allows them: nobody who waits that long starves, or is told wrongly."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import LimitsSection
from appliance.gateway.admission import bounds_of, wish_of
from appliance.gateway.pace import Pace
from appliance.gateway.queueing import FullError, Priority, Queue, Ticket

_limits = st.builds(
    LimitsSection,
    concurrent_requests=st.integers(1, 64),
    queue_length=st.integers(2, 64),
    queue_seconds=st.integers(3, 600),
    batch_percent=st.integers(1, 100),
)


def _ticket(
    number: int, priority: Priority, now: float, limits: LimitsSection, *, seconds: int | None = None
) -> Ticket:
    headers = {"HTTP_X_SEALIFT_PRIORITY": priority.value}
    if seconds is not None:
        headers["HTTP_X_SEALIFT_MAX_WAIT"] = str(seconds)
    wish = wish_of(headers, tier="premium", limits=limits)
    return Ticket(
        id=str(number),
        priority=priority,
        arrived=now,
        until=now + wish.seconds,
        patience=wish.patience,
        caller=str(number),
        kind="chat",
    )


class _Flood:
    """A queue whose places are all held, and which more requests come to than are served.

    `held` is such that the whole queue passes within a quarter of the longest wait: what it promises nobody can be
    promised where the requests that are there already take longer than that.
    """

    def __init__(self, limits: LimitsSection, above: list[Priority]) -> None:
        self.limits, self.above = limits, above
        places = limits.concurrent_requests
        self.passes = limits.queue_seconds / 4
        self.held = self.passes * places / (places + limits.queue_length)
        self.queue = Queue(bounds_of(limits), Pace(mean_seconds={"chat": self.held}))
        self.now, self.names = 0.0, count()
        while len(self.queue.running) < places:
            self._come()

    def _come(self) -> None:
        number = next(self.names)
        with suppress(FullError):
            priority = self.above[number % len(self.above)]
            self.queue.enter(_ticket(number, priority, self.now, self.limits), self.now)

    def wait(self, ticket: Ticket) -> float:
        """Return how long a ticket waits while one place comes free after another, and two come for each."""
        while not self.queue.is_running(ticket.id):
            assert self.now < ticket.until, "starved"
            self.now += self.held / self.limits.concurrent_requests
            self.queue.leave(self.queue.running[0].id, self.now, answered=True)
            self._come()
            self._come()
        return self.now - ticket.arrived


def _above() -> Iterator[tuple[Priority, list[Priority]]]:
    urgent, interactive, batch = Priority
    yield interactive, [urgent]
    yield batch, [urgent]
    yield batch, [interactive]
    yield batch, [urgent, interactive]


@pytest.mark.parametrize(("priority", "above"), list(_above()))
@given(limits=_limits)
def test_nobody_starves_who_waits_as_long_as_the_site_lets_them(
    priority: Priority, above: list[Priority], limits: LimitsSection
) -> None:
    flood = _Flood(limits, above)
    ticket = _ticket(-1, priority, 0.0, limits)
    flood.queue.enter(ticket, 0.0)
    told = flood.queue.expected_seconds(ticket, 0.0)

    waited = flood.wait(ticket)

    assert waited - flood.passes <= told <= limits.queue_seconds, "told as if nobody overtook it"


@given(limits=_limits)
def test_a_class_goes_behind_those_above_that_come_a_moment_later(limits: LimitsSection) -> None:
    queue = Queue(bounds_of(limits.model_copy(update={"concurrent_requests": 1})), Pace(mean_seconds={"chat": 0.001}))
    queue.enter(_ticket(0, Priority.URGENT, 0.0, limits), 0.0)
    for number, priority in enumerate(reversed(Priority), 1):
        with suppress(FullError):  # the last place of a short queue is for urgent ones
            queue.enter(_ticket(number, priority, number / 10, limits), number / 10)

    waiting = [one.priority for one in queue.waiting]
    assert waiting == [one for one in Priority if one in waiting]


@given(limits=_limits, seconds=st.integers(1, 600), priority=st.sampled_from(list(Priority)))
def test_nobody_gets_ahead_by_waiting_less(limits: LimitsSection, seconds: int, priority: Priority) -> None:
    patient = _ticket(1, priority, 0.0, limits)
    hasty = _ticket(2, priority, 0.1, limits, seconds=seconds)

    assert patient.due < hasty.due


@pytest.mark.parametrize(("share", "told"), [(4, 5.0 + 10.0), (2, (5.0 / 4) / (1 - 2 / 4)), (0, 5.0 / 4)])
def test_what_later_ones_take_of_a_wait_is_told_by_the_places_that_they_hold(share: int, told: float) -> None:
    """Four places of 5 s each, the first of which comes free after 5/4; batch counts as 10 s later than interactive."""
    limits = LimitsSection(concurrent_requests=4, queue_length=8, queue_seconds=30, batch_percent=100)
    queue = Queue(bounds_of(limits), Pace(mean_seconds={"chat": 5.0}))
    for number in range(4):
        queue.enter(_ticket(number, Priority.INTERACTIVE if number < share else Priority.BATCH, 0.0, limits), 0.0)
    ticket = _ticket(9, Priority.BATCH, 0.0, limits)
    queue.enter(ticket, 0.0)

    assert queue.expected_seconds(ticket, 0.0) == pytest.approx(told if share < 4 else 5.0 / 4 + 10.0)


def test_who_waits_less_than_others_overtake_is_told_at_once_when_to_come_back() -> None:
    limits = LimitsSection(concurrent_requests=1, queue_seconds=30)
    queue = Queue(bounds_of(limits), Pace(mean_seconds={"chat": 1.0}))
    queue.enter(_ticket(0, Priority.INTERACTIVE, 0.0, limits), 0.0)

    with pytest.raises(FullError) as full:
        queue.enter(_ticket(1, Priority.BATCH, 0.0, limits, seconds=5), 0.0)

    assert full.value.retry_after_seconds == pytest.approx(1.0 + 10.0)


def test_who_gave_up_is_told_when_one_that_comes_now_will_be_served() -> None:
    """One like it would be behind three that came since, and behind what comes in the next ten seconds, too."""
    limits = LimitsSection(concurrent_requests=1, queue_length=8, queue_seconds=30)
    queue = Queue(bounds_of(limits), Pace(mean_seconds={"chat": 5.0}))
    queue.enter(_ticket(0, Priority.INTERACTIVE, 0.0, limits), 0.0)
    ticket = _ticket(1, Priority.BATCH, 0.0, limits, seconds=16)
    queue.enter(ticket, 0.0)
    for number in range(2, 5):
        queue.enter(_ticket(number, Priority.INTERACTIVE, 10.5, limits), 10.5)

    first = 16.0  # as long as the one that runs has run: more than is usual
    assert queue.expected_seconds(ticket, 16.0) == pytest.approx(first)
    assert queue.again_seconds(ticket, 16.0) == pytest.approx(first + 3 * 5.0 + 10.0 - 16.0)
