"""Laws of the queue, for any order of arrivals, ends and gateways that die."""

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.gateway.pace import MOST_KINDS, Pace
from appliance.gateway.queueing import HANDICAP_SECONDS, SHARE_SECONDS, Bounds, FullError, Priority, Queue, Ticket

_percents = st.integers(1, 100)
_priorities = st.sampled_from(list(Priority))
_parts = st.sampled_from([34, 67, 100])
_lines = st.sampled_from(["", "", "1", "2"])
_kinds = st.sampled_from(["chat", "embeddings"])
_bounds = st.builds(
    Bounds, places=st.integers(1, 6), waiting=st.integers(0, 12), batch_percent=st.sampled_from([1, 25, 50, 100])
)


MOST = {"": 0, "a": 0, "b": 1}


def _ticket(
    name: int,
    priority: Priority,
    now: float,
    seconds: float = 1e9,
    caller: str = "",
    line: str = "",
    kind: str = "chat",
) -> Ticket:
    return Ticket(
        id=str(name),
        priority=priority,
        arrived=now,
        until=now + seconds,
        caller=caller,
        most=MOST[caller],
        line=line,
        kind=kind,
    )


def _paces(queue: Queue) -> dict[str, float]:
    return dict(queue.pace.mean_seconds)


def _may_run(queue: Queue, ticket: Ticket) -> bool:
    """Tell whether neither the class of a ticket nor its caller has all that it may have."""
    of_class = sum(one.priority is ticket.priority for one in queue.running)
    of_caller = sum(one.caller == ticket.caller for one in queue.running)
    return of_class < queue.bounds.ceiling(ticket.priority) and (not ticket.most or of_caller < ticket.most)


class Life(RuleBasedStateMachine):
    """A queue as callers come, end and leave, beside what the rules say of it."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.names = 1000.0, 0
        self.queue = Queue(Bounds(places=3, waiting=8), Pace())

    @initialize(urgent=_parts, interactive=_parts, batch=_parts)
    def begin(self, urgent: int, interactive: int, batch: int) -> None:
        parts = {"urgent_percent": urgent, "interactive_percent": interactive, "batch_percent": batch}
        self.queue = Queue(Bounds(places=3, waiting=8, **parts), Pace())

    @rule(
        priority=_priorities,
        seconds=st.sampled_from([0.0, 5.0, 1e9]),
        caller=st.sampled_from(["", "a", "b"]),
        line=_lines,
        kind=_kinds,
    )
    def arrive(self, priority: Priority, seconds: float, caller: str, line: str, kind: str) -> None:
        self.names += 1
        queue, bounds = self.queue, self.queue.bounds
        ran, waited = queue.running, queue.waiting
        ticket = _ticket(self.names, priority, self.now, seconds, caller, line, kind)
        could_run = len(ran) < bounds.places and _may_run(queue, ticket)
        try:
            position = queue.enter(ticket, self.now)
        except FullError:
            assert not could_run
            assert (queue.running, queue.waiting) == (ran, waited)
            return
        assert (position == 0) == could_run == queue.is_running(ticket.id)
        if position:
            assert [one.id for one in queue.waiting].index(ticket.id) == position - 1
            assert queue.expected_seconds(ticket, self.now) <= seconds, "nobody waits for what is not expected in time"

    @precondition(lambda self: self.queue.running)
    @rule(place=st.integers(0, 100), seconds=st.floats(0, 30), answered=st.booleans())
    def end(self, place: int, seconds: float, *, answered: bool) -> None:
        self.now += seconds
        before, paces = self.queue.waiting, _paces(self.queue)
        one = self.queue.running[place % len(self.queue.running)]
        self.queue.leave(one.id, self.now, answered=answered)
        others = {kind: held for kind, held in _paces(self.queue).items() if kind != one.kind or not answered}
        assert others == {kind: held for kind, held in paces.items() if kind != one.kind or not answered}
        begun = [ticket for ticket in before if self.queue.is_running(ticket.id)]
        # Whoever was passed over was at the ceiling of its class or caller, or by a line that runs at most its share.
        lines = {each.line for each in (*self.queue.running, *before, one)}
        for ticket in begun:
            of_line = sum(each.line == ticket.line for each in self.queue.running)
            if len(lines) > 1 and of_line <= max(self.queue.bounds.places // len(lines), 1):
                continue
            for passed in self.queue.waiting:
                if passed.due < ticket.due:
                    assert not _may_run(self.queue, passed)

    @precondition(lambda self: self.queue.waiting)
    @rule(place=st.integers(0, 100))
    def give_up(self, place: int) -> None:
        one = self.queue.waiting[place % len(self.queue.waiting)]
        paces = _paces(self.queue)
        self.queue.leave(one.id, self.now, answered=True)
        assert one not in self.queue.waiting
        assert not self.queue.is_running(one.id)
        assert _paces(self.queue) == paces

    @rule(every=st.integers(2, 4))
    def die(self, every: int) -> None:
        paces = _paces(self.queue)
        lost = [one.id for one in (*self.queue.running, *self.queue.waiting) if int(one.id) % every == 0]
        self.queue.forget(lost, self.now)
        assert not {one.id for one in (*self.queue.running, *self.queue.waiting)} & set(lost)
        assert _paces(self.queue) == paces

    @invariant()
    def bounds_hold(self) -> None:
        queue, bounds = self.queue, self.queue.bounds
        assert len(queue.running) <= bounds.places
        assert len(queue.waiting) <= bounds.waiting
        for line in ("1", "2"):
            assert sum(one.line == line for one in queue.waiting) <= bounds.of_line
        for caller in ("a", "b"):
            assert sum(one.caller == caller for one in queue.waiting) <= bounds.waiting // 2
        assert sum(one.caller == "b" for one in queue.running) <= MOST["b"]
        for priority in Priority:
            assert sum(one.priority is priority for one in queue.running) <= bounds.ceiling(priority)
            assert sum(one.priority is priority for one in queue.waiting) <= bounds.room(priority)

    @invariant()
    def no_place_is_idle_while_somebody_may_have_it(self) -> None:
        queue = self.queue
        if len(queue.running) < queue.bounds.places:
            assert not any(_may_run(queue, one) for one in queue.waiting)


TestLife = Life.TestCase


@given(bounds=_bounds, gap=st.floats(0.5, 5), held=st.floats(0.5, 5), lines=st.lists(_lines, min_size=1, max_size=3))
def test_nobody_starves_under_a_flood_of_urgent_requests(
    bounds: Bounds, gap: float, held: float, lines: list[str]
) -> None:
    queue, now, names = Queue(bounds, Pace()), 0.0, 0
    for _ in range(bounds.places):
        names += 1
        queue.enter(_ticket(names, Priority.URGENT, now, line=lines[names % len(lines)]), now)
    names += 1
    batch = _ticket(names, Priority.BATCH, now, line=lines[0])
    try:
        queue.enter(batch, now)
    except FullError:
        return
    longest = HANDICAP_SECONDS[Priority.BATCH] + SHARE_SECONDS
    for _ in range(int((longest + held * (bounds.waiting + 2)) / min(gap, held)) + 5):
        if queue.is_running(batch.id):
            return
        now += min(gap, held)
        names += 1
        with suppress(FullError):
            queue.enter(_ticket(names, Priority.URGENT, now, line=lines[names % len(lines)]), now)
        queue.leave(queue.running[0].id, now, answered=True)
    assert queue.is_running(batch.id)


@given(places=st.integers(2, 8), flood=st.integers(1, 20), gap=st.floats(0.1, 5))
def test_a_flood_for_one_model_leaves_the_other_its_share_at_once(places: int, flood: int, gap: float) -> None:
    queue, now = Queue(Bounds(places=places, waiting=400), Pace()), 0.0
    for number in range(places + flood):
        queue.enter(_ticket(number, Priority.INTERACTIVE, now, line="1"), now)
    few = [_ticket(1000 + number, Priority.INTERACTIVE, now + gap, line="2") for number in range(places)]
    positions = [queue.enter(ticket, now + gap) for ticket in few]
    assert positions[: places // 2] == list(range(1, places // 2 + 1))
    for _ in range(places // 2):
        first = next(one for one in queue.running if one.line == "1")
        queue.leave(first.id, now + gap, answered=True)
    assert sum(one.line == "2" for one in queue.running) == places // 2
    # Then the flood, which came before, has its turn again; neither gets less than its share.
    queue.leave(next(one for one in queue.running if one.line == "1").id, now + gap, answered=True)
    assert sum(one.line == "2" for one in queue.running) == places // 2


@given(places=st.integers(2, 4), more=st.integers(0, 2), flood=st.integers(10, 20))
def test_a_flood_lets_others_pass_where_there_are_fewer_places_than_models(places: int, more: int, flood: int) -> None:
    queue, others = Queue(Bounds(places=places, waiting=400), Pace()), [str(2 + each) for each in range(places + more)]
    for number in range(places + flood):
        queue.enter(_ticket(number, Priority.INTERACTIVE, 0.0, line="1"), 0.0)
    for place, line in enumerate(others, 1):
        assert queue.enter(_ticket(1000 + place, Priority.INTERACTIVE, 1.0, line=line), 1.0) == place
    for _ in range(places - 1):
        queue.leave(next(one.id for one in queue.running if one.line == "1"), 1.0, answered=True)
    assert [one.line for one in queue.running] == ["1", *others[: places - 1]]


@given(bounds=_bounds.filter(lambda one: one.places > 1 and one.waiting > 4))
def test_batch_of_one_model_is_not_before_urgent_requests_of_another(bounds: Bounds) -> None:
    queue = Queue(bounds, Pace())
    for number in range(bounds.places):
        queue.enter(_ticket(number, Priority.INTERACTIVE, 0.0, line="1"), 0.0)
    batch = _ticket(100, Priority.BATCH, 1.0, line="2")
    urgent = _ticket(101, Priority.URGENT, 2.0, line="1")
    with suppress(FullError):
        queue.enter(batch, 1.0)
    queue.enter(urgent, 2.0)
    queue.leave("0", 3.0, answered=True)
    assert queue.is_running("101")
    assert not queue.is_running("100")


@given(
    places=st.integers(1, 64), urgent=st.integers(1, 100), interactive=st.integers(1, 100), waiting=st.integers(0, 9)
)
def test_parts_that_are_the_whole_together_leave_no_place_unused_and_every_class_room_to_wait(
    places: int, urgent: int, interactive: int, waiting: int
) -> None:
    batch = max(100 - urgent - interactive, 1)
    bounds = Bounds(
        places=places,
        waiting=waiting,
        urgent_percent=urgent,
        interactive_percent=interactive,
        batch_percent=batch,
    )
    assert sum(bounds.ceiling(each) for each in Priority) >= places
    assert all(bounds.room(each) >= min(waiting, 1) for each in Priority)


@given(places=st.integers(1, 20), part=st.integers(1, 100), priority=_priorities)
def test_each_class_has_its_part_of_the_places_and_leaves_the_others_to_those_behind_it(
    places: int, part: int, priority: Priority
) -> None:
    parts = {f"{each}_percent": part if each is priority else 100 for each in Priority}
    queue, other = Queue(Bounds(places=places, waiting=400, **parts), Pace()), min(set(Priority) - {priority})
    for number in range(2 * places):
        with suppress(FullError):
            queue.enter(_ticket(number, priority, 0.0), 0.0)
    # Rounded up, but for batch: three parts that are the whole together leave no place unused.
    most = max(math.floor(places * part / 100) if priority is Priority.BATCH else math.ceil(places * part / 100), 1)
    assert len(queue.running) == most
    passes = [queue.enter(_ticket(1000 + number, other, 1.0), 1.0) for number in range(places - most)]
    assert passes == [0] * (places - most)
    assert sum(one.priority is priority for one in queue.running) == most


@given(arrivals=st.lists(st.tuples(_priorities, st.floats(0, 60)), min_size=1, max_size=10))
def test_order_is_by_arrival_and_handicap_and_within_a_class_by_arrival(
    arrivals: list[tuple[Priority, float]],
) -> None:
    queue, now = Queue(Bounds(places=1, waiting=100, batch_percent=100), Pace()), 0.0
    queue.enter(_ticket(0, Priority.URGENT, now), now)
    came: dict[str, tuple[float, int]] = {}
    for number, (priority, gap) in enumerate(arrivals, 1):
        now += gap
        queue.enter(_ticket(number, priority, now), now)
        came[str(number)] = (now + HANDICAP_SECONDS[priority], number)
    order = []
    while queue.waiting:
        queue.leave(queue.running[0].id, now, answered=True)
        order.append(queue.running[0].id)
    assert order == sorted(came, key=lambda each: came[each])


@given(held=st.floats(0.1, 100), waiting=st.integers(0, 3), places=st.integers(2, 4))
def test_who_has_all_its_places_is_told_when_its_own_come_free(held: float, waiting: int, places: int) -> None:
    queue = Queue(Bounds(places=places, waiting=8), Pace(mean_seconds={"chat": held}))
    for number in range(1 + waiting):
        queue.enter(_ticket(number, Priority.URGENT, 0.0, caller="b"), 0.0)
    with pytest.raises(FullError) as full:
        queue.enter(_ticket(100, Priority.URGENT, 0.0, seconds=0.0, caller="b"), 0.0)
    assert full.value.of_class
    assert full.value.retry_after_seconds == pytest.approx((waiting + 1) * held)
    assert queue.enter(_ticket(101, Priority.URGENT, 0.0, seconds=0.0, caller="a"), 0.0) == 0


@given(held=st.floats(0.1, 100), waiting=st.integers(0, 6), places=st.integers(1, 4))
def test_retry_after_is_what_service_times_say(held: float, waiting: int, places: int) -> None:
    queue = Queue(Bounds(places=places, waiting=waiting), Pace(mean_seconds={"chat": held}))
    count = 0
    for count in range(places + waiting):
        queue.enter(_ticket(count, Priority.URGENT, 0.0), 0.0)
    with pytest.raises(FullError) as full:
        queue.enter(_ticket(count + 1, Priority.URGENT, 0.0, seconds=0.0), 0.0)
    assert full.value.ahead == waiting
    assert full.value.retry_after_seconds == pytest.approx((waiting + 1) * held / places)


@given(
    places=st.integers(1, 4),
    chats=st.floats(1, 100),
    embeddings=st.floats(0.001, 1),
    before=st.lists(_kinds, max_size=8),
)
def test_the_wait_is_the_first_place_that_comes_free_and_the_sum_of_those_before(
    places: int, chats: float, embeddings: float, before: list[str]
) -> None:
    held = {"chat": chats, "embeddings": embeddings}
    queue = Queue(Bounds(places=places, waiting=100), Pace(mean_seconds=dict(held)))
    for number in range(places):
        queue.enter(_ticket(number, Priority.URGENT, 0.0, kind="chat"), 0.0)
    for number, kind in enumerate(before, places):
        queue.enter(_ticket(number, Priority.URGENT, 0.0, kind=kind), 0.0)
    last = _ticket(100, Priority.URGENT, 0.0, kind="embeddings")
    queue.enter(last, 0.0)

    expected = (chats + sum(held[kind] for kind in before)) / places
    assert queue.expected_seconds(last, 0.0) == pytest.approx(expected)


@given(short=st.integers(1, 200), answered=st.booleans())
def test_short_requests_of_another_kind_and_failed_ones_let_nobody_wait_in_vain(short: int, *, answered: bool) -> None:
    queue, now, names = Queue(Bounds(places=1, waiting=64), Pace()), 0.0, 0

    def held(kind: str, seconds: float, *, answered: bool) -> None:
        nonlocal now, names
        names += 1
        queue.enter(_ticket(names, Priority.INTERACTIVE, now, kind=kind), now)
        now += seconds
        queue.leave(str(names), now, answered=answered)

    for _ in range(20):
        held("chat", 20.0, answered=True)
    for _ in range(short):
        held("embeddings" if answered else "chat", 0.01, answered=answered)

    queue.enter(_ticket(1000, Priority.INTERACTIVE, now), now)
    assert queue.enter(_ticket(1001, Priority.INTERACTIVE, now, seconds=30.0), now) == 1
    with pytest.raises(FullError) as full:
        queue.enter(_ticket(1002, Priority.INTERACTIVE, now, seconds=30.0), now)
    assert full.value.retry_after_seconds == pytest.approx(20.0)


@given(kinds=st.lists(st.integers(0, 100), max_size=200))
def test_paces_are_remembered_of_the_kinds_that_were_measured_last(kinds: list[int]) -> None:
    pace = Pace()
    for kind in kinds:
        pace.note(str(kind), 1.0)

    latest = list(dict.fromkeys(reversed(kinds)))[:MOST_KINDS]
    assert list(pace.mean_seconds) == [str(kind) for kind in reversed(latest)]


def test_a_kind_that_was_never_measured_takes_as_long_as_one_has_yet() -> None:
    queue = Queue(Bounds(places=1, waiting=64), Pace(mean_seconds={"embeddings": 0.01}))
    queue.enter(_ticket(1, Priority.INTERACTIVE, 0.0), 0.0)
    waiting = _ticket(2, Priority.INTERACTIVE, 0.0, kind="embeddings")
    queue.enter(waiting, 0.0)

    assert queue.expected_seconds(waiting, 0.0) == pytest.approx(1.0)
    assert queue.expected_seconds(waiting, 25.0) == pytest.approx(25.0)


def test_those_that_run_for_longer_than_the_ones_before_say_so_before_they_end() -> None:
    """Callers who leave before their answers end measure nothing, and would let others wait in vain."""
    queue = Queue(Bounds(places=1, waiting=64), Pace(mean_seconds={"chat": 5.0}))
    queue.enter(_ticket(1, Priority.INTERACTIVE, 0.0), 0.0)
    waiting = _ticket(2, Priority.INTERACTIVE, 0.0)
    queue.enter(waiting, 0.0)

    assert queue.expected_seconds(waiting, 3.0) == pytest.approx(5.0)
    assert queue.expected_seconds(waiting, 60.0) == pytest.approx(60.0)


@pytest.mark.parametrize("age", [130.0, 3600.0])
def test_one_that_runs_for_very_long_lets_nobody_be_refused_beside_others_that_end(age: float) -> None:
    queue = Queue(Bounds(places=2, waiting=64), Pace(mean_seconds={"chat": 2.0}))
    queue.enter(_ticket(1, Priority.INTERACTIVE, 0.0), 0.0)
    queue.enter(_ticket(2, Priority.INTERACTIVE, age - 1.0), age - 1.0)

    for number in range(3, 13):
        waiting = _ticket(number, Priority.INTERACTIVE, age, seconds=30.0)
        queue.enter(waiting, age)
        assert queue.expected_seconds(waiting, age) <= 2.0 + (number - 3) * 1.0 + 0.1
