"""Places and waiting for them: the queue of one gateway, and that of several in one file."""

import queue
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.config import LimitsSection
from appliance.errors import StoreDamagedError
from appliance.gateway.admission import Admission, Desk, MemoryDesk, Place, Wish, bounds_of, wish_of
from appliance.gateway.metrics import Metrics
from appliance.gateway.pace import MOST_KINDS
from appliance.gateway.problems import Problem
from appliance.gateway.queueing import Bounds, Priority
from appliance.gateway.shared_queue import SharedDesk
from media.clock import Clock, SystemClock

BOUNDS = Bounds(places=2, waiting=4, batch_percent=50)
Make = Callable[[], Admission]


@pytest.fixture(params=["memory", "file"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Return what makes gateways' admissions: of one gateway, or of several that share a file."""
    memory, every = MemoryDesk(BOUNDS), []
    clock: Clock = SystemClock()

    def make() -> Admission:
        desk: Desk = memory if request.param == "memory" else SharedDesk(tmp_path / "q/queue.db", BOUNDS, clock)
        every.append(Admission(desk, clock=clock, metrics=Metrics()))
        return every[-1]

    one = make()
    yield (lambda: one) if request.param == "memory" else make
    for each in every:
        each.close()


def _wish(priority: Priority = Priority.INTERACTIVE, seconds: float = 60.0) -> Wish:
    return Wish(priority=priority, seconds=seconds)


def _stay(_: Callable[[], None]) -> Callable[[], None]:
    return lambda: None


def _wait_for(what: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.005)


def _waits(admission: Admission, count: int) -> bool:
    with admission._desk.open() as queue:
        return len(queue.waiting) == count


def test_places_run_out_and_the_next_gets_the_first_that_is_given_back(made: Make) -> None:
    first, second = made(), made()
    held = [first.take(_wish(), _stay), second.take(_wish(), _stay)]
    assert [one.position for one in held] == [0, 0]
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Place] = pool.submit(first.take, _wish(), _stay)
        _wait_for(lambda: _waits(second, 1))
        held[1].give_back()
        place = waiting.result(30)
    assert place.position == 1
    assert int(place.headers()["x-sealift-queue-ms"]) >= 0


def test_whoever_waits_is_counted_by_model_until_it_has_its_place() -> None:
    metrics = Metrics()
    admission = Admission(MemoryDesk(BOUNDS), clock=SystemClock(), metrics=metrics)

    def counted(model: str) -> float | None:
        return metrics.registry.get_sample_value("vllm:num_requests_waiting", {"model_name": model})

    held = [admission.take(_wish(), _stay, model="small") for _ in range(BOUNDS.places)]
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(admission.take, _wish(), _stay, model=model) for model in ("small", "chat")]
        _wait_for(lambda: (counted("small"), counted("chat")) == (1, 1))
        for one in held:
            one.give_back()
        for each in waiting:
            each.result(30).give_back()
    assert (counted("small"), counted("chat")) == (0, 0)
    admission.close()


def test_an_urgent_one_goes_first_and_batch_leaves_places_to_others(made: Make) -> None:
    one, other = made(), made()
    batch = one.take(_wish(Priority.BATCH), _stay)
    order: list[str] = []
    with ThreadPoolExecutor(3) as pool:

        def take(admission: Admission, name: str, priority: Priority) -> None:
            place = admission.take(_wish(priority), _stay)
            order.append(name)
            place.give_back()

        jobs = [pool.submit(take, one, "second batch", Priority.BATCH)]
        _wait_for(lambda: _waits(one, 1))
        running = other.take(_wish(), _stay)  # a place was free, and the class batch is at its ceiling
        assert running.position == 0
        jobs.append(pool.submit(take, other, "interactive", Priority.INTERACTIVE))
        _wait_for(lambda: _waits(one, 2))
        jobs.append(pool.submit(take, one, "urgent", Priority.URGENT))
        _wait_for(lambda: _waits(one, 3))
        running.give_back()
        _wait_for(lambda: len(order) == 2)
        batch.give_back()
        for job in jobs:
            job.result(30)
    assert order == ["urgent", "interactive", "second batch"]


def test_a_caller_that_leaves_frees_its_place_in_the_queue(made: Make) -> None:
    one = made()
    held = [one.take(_wish(), _stay) for _ in range(2)]
    gone: list[Callable[[], None]] = []

    def watch(on_gone: Callable[[], None]) -> Callable[[], None]:
        gone.append(on_gone)
        return lambda: None

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.take, _wish(), watch)
        _wait_for(lambda: _waits(one, 1))
        _wait_for(lambda: bool(gone))
        gone[0]()
        with pytest.raises(Problem) as left:
            waiting.result(30)
    assert (left.value.status, left.value.code) == (499, "caller_left")
    assert _waits(one, 0)
    for place in held:
        place.give_back()
    assert one.take(_wish(), _stay).position == 0


def test_a_caller_whose_leaving_cannot_be_watched_waits_no_longer_and_holds_no_place(made: Make) -> None:
    one = made()
    held = [one.take(_wish(), _stay) for _ in range(2)]

    def watch(_: Callable[[], None]) -> Callable[[], None]:
        raise OSError("too many open files")

    with pytest.raises(OSError, match="open files"):
        one.take(_wish(), watch)

    assert _waits(one, 0)
    for place in held:
        place.give_back()
    assert [one.take(_wish(), _stay).position for _ in range(2)] == [0, 0]


def test_every_gateway_knows_how_long_requests_may_wait_by_which_one_of_a_lower_class_has_its_turn(made: Make) -> None:
    one, other = made(), made()
    for _ in range(2):
        one.take(_wish(), _stay)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.take, Wish(priority=Priority.BATCH, seconds=80.0, patience=90.0), _stay)
        _wait_for(lambda: _waits(other, 1))
        with other._desk.open() as queue:
            (ticket,) = queue.waiting
            assert ticket.due[0] - ticket.arrived == pytest.approx(60.0)
            running = [each.id for each in queue.running]
            for each in running:
                queue.leave(each, SystemClock().monotonic(), answered=True)
        waiting.result(30).give_back()


def test_who_gets_no_place_in_time_is_told_when_to_come_back(made: Make) -> None:
    one = made()
    for _ in range(2):
        one.take(_wish(), _stay)
    with pytest.raises(Problem) as hopeless:
        one.take(_wish(seconds=0.0), _stay)
    assert (hopeless.value.status, hopeless.value.code) == (503, "overloaded")
    assert hopeless.value.retry_after_seconds is not None
    with one._desk.open() as queue:
        queue.pace.note("", 0.001)  # places are held for nearly no time, so waiting looks short
    with pytest.raises(Problem) as late:
        one.take(_wish(seconds=0.2), _stay)
    assert (late.value.status, late.value.code) == (503, "queue_timeout")
    assert _waits(one, 0)


def test_a_full_class_is_429_and_a_full_queue_503(made: Make) -> None:
    one = made()
    with one._desk.open() as queue:
        queue.pace.note("", 0.001)
    for _ in range(2):
        one.take(_wish(), _stay)
    ends: list[Callable[[], None]] = []

    def watch(on_gone: Callable[[], None]) -> Callable[[], None]:
        ends.append(on_gone)
        return lambda: None

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(one.take, _wish(Priority.BATCH), watch) for _ in range(2)]
        _wait_for(lambda: _waits(one, 2))
        with pytest.raises(Problem) as of_class:
            one.take(_wish(Priority.BATCH), _stay)
        jobs += [pool.submit(one.take, _wish(), watch) for _ in range(2)]
        _wait_for(lambda: _waits(one, 4))
        with pytest.raises(Problem) as full:
            one.take(_wish(Priority.URGENT), _stay)
        _wait_for(lambda: len(ends) == 4)
        for end in ends:
            end()
        for job in jobs:
            assert isinstance(job.exception(30), Problem)
    assert (of_class.value.status, of_class.value.code) == (429, "class_full")
    assert (full.value.status, full.value.code) == (503, "overloaded")
    assert full.value.headers["x-sealift-queue-position"] == "1"


def test_one_key_leaves_room_in_the_queue_for_others(made: Make) -> None:
    one, ends = made(), list[Callable[[], None]]()
    with one._desk.open() as queue:
        queue.pace.note("", 0.001)

    def watch(on_gone: Callable[[], None]) -> Callable[[], None]:
        ends.append(on_gone)
        return lambda: None

    for _ in range(2):
        one.take(_wish(), _stay, caller="wild")
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(one.take, _wish(), watch, caller="wild") for _ in range(2)]
        _wait_for(lambda: _waits(one, 2))
        with pytest.raises(Problem) as refused:
            one.take(_wish(), _stay, caller="wild")
        jobs.append(pool.submit(one.take, _wish(), watch, caller="other"))
        _wait_for(lambda: len(ends) == 3)
        for end in ends:
            end()
        for job in jobs:
            assert isinstance(job.exception(30), Problem)
    assert (refused.value.status, refused.value.code) == (429, "class_full")


def test_a_key_has_no_more_places_than_it_may_on_all_gateways_and_others_pass(made: Make) -> None:
    one, other = made(), made()
    mine = one.take(_wish(), _stay, caller="mine", most=1)
    with pytest.raises(Problem) as refused:
        other.take(_wish(seconds=0.0), _stay, caller="mine", most=1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(other.take, _wish(), _stay, caller="mine", most=1)
        _wait_for(lambda: _waits(one, 1))
        assert one.take(_wish(), _stay, caller="others").position == 0, "a place was free, and not for `mine`"
        mine.give_back()
        assert waiting.result(30).position == 1
    assert (refused.value.status, refused.value.code) == (429, "class_full")
    assert refused.value.retry_after_seconds is not None


def test_gateways_share_what_was_measured_of_each_kind(made: Make) -> None:
    one, other = made(), made()
    for kind in ("a", "b", "a"):
        one.take(_wish(), _stay, kind=kind).give_back(answered=True)
    other.take(_wish(), _stay, kind="c").give_back()
    with other._desk.open() as queue:
        paces = list(queue.pace.mean_seconds.items())
        assert [kind for kind, _ in paces] == ["b", "a"], "the one that was measured last is the last"
        assert min(held for _, held in paces) > 0
        for number in range(MOST_KINDS):
            queue.pace.note(str(number), 1.0)
    with one._desk.open() as queue:
        assert list(queue.pace.mean_seconds) == [str(number) for number in range(MOST_KINDS)]


def test_a_queue_of_another_release_begins_anew(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "queue.db") as old:
        old.execute("CREATE TABLE ticket (id TEXT PRIMARY KEY, gateway TEXT)")
        old.execute("INSERT INTO ticket VALUES ('a', 'b')")
        old.execute("CREATE TABLE pace (one INTEGER PRIMARY KEY, mean_seconds REAL NOT NULL)")
        old.execute("INSERT INTO pace VALUES (1, 7.0)")
        old.execute("PRAGMA user_version = 1")
    old.close()
    desk = SharedDesk(tmp_path / "queue.db", BOUNDS, SystemClock())
    with desk.open() as queue:
        assert queue.waiting == queue.running == ()
        assert queue.pace.mean_seconds == {}
    desk.close()


def test_a_place_that_cannot_be_given_back_is_given_back_before_the_next_is_taken(tmp_path: Path) -> None:
    desk = SharedDesk(tmp_path / "q/queue.db", Bounds(places=1, waiting=0), SystemClock())
    one = Admission(desk, clock=SystemClock(), metrics=Metrics())
    place = one.take(_wish(), _stay)
    with sqlite3.connect(tmp_path / "q/queue.db") as other:
        other.execute("ALTER TABLE ticket RENAME TO away")
    place.give_back()
    with pytest.raises(StoreDamagedError):
        one.take(_wish(), _stay)
    with other:
        other.execute("ALTER TABLE away RENAME TO ticket")
    other.close()
    assert one.take(_wish(), _stay).position == 0
    one.close()


def test_a_caller_that_left_while_the_queue_could_not_be_written_is_not_given_a_place_later(tmp_path: Path) -> None:
    desk = SharedDesk(tmp_path / "q/queue.db", Bounds(places=1, waiting=4), SystemClock())
    one = Admission(desk, clock=SystemClock(), metrics=Metrics())
    place = one.take(_wish(), _stay)
    gone: list[Callable[[], None]] = []

    def watch(on_gone: Callable[[], None]) -> Callable[[], None]:
        gone.append(on_gone)
        return lambda: None

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.take, _wish(), watch)
        _wait_for(lambda: bool(gone))
        with sqlite3.connect(tmp_path / "q/queue.db") as other:
            other.execute("ALTER TABLE ticket RENAME TO away")
        gone[0]()
        assert isinstance(waiting.exception(30), Problem | StoreDamagedError)
        with other:
            other.execute("ALTER TABLE away RENAME TO ticket")
        other.close()
    place.give_back()
    assert one.take(_wish(), _stay).position == 0
    one.close()


def test_many_gateways_never_hold_more_places_than_the_box_has(tmp_path: Path) -> None:
    bounds, clock = Bounds(places=3, waiting=100), SystemClock()
    desks = [SharedDesk(tmp_path / "queue.db", bounds, clock) for _ in range(3)]
    gateways = [Admission(one, clock=clock, metrics=Metrics()) for one in desks]
    lock, now, most = threading.Lock(), 0, 0

    def work(number: int) -> None:
        nonlocal now, most
        place = gateways[number % 3].take(_wish(), _stay)
        with lock:
            now, most = now + 1, max(most, now + 1)
        time.sleep(0.002)
        with lock:
            now -= 1
        place.give_back()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(48)))
    for one in gateways:
        one.close()
    assert 1 <= most <= 3


def test_what_a_gateway_held_is_free_when_it_died(tmp_path: Path) -> None:
    program = (
        "import sys, os; from pathlib import Path; from appliance.gateway.queueing import *\n"
        "from appliance.gateway.shared_queue import SharedDesk; from media.clock import SystemClock\n"
        "clock = SystemClock(); desk = SharedDesk(Path(sys.argv[1]), Bounds(places=1, waiting=0), clock)\n"
        "now = clock.monotonic()\n"
        "with desk.open() as queue:\n"
        "    queue.enter(Ticket(id='a', priority=Priority.INTERACTIVE, arrived=now, until=now + 60), now)\n"
        "print('held', flush=True); sys.stdin.read(1); os._exit(1)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "queue.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"held\n"
        clock = SystemClock()
        desk = SharedDesk(tmp_path / "queue.db", Bounds(places=1, waiting=0), clock)
        mine = Admission(desk, clock=clock, metrics=Metrics())
        with pytest.raises(Problem):
            mine.take(_wish(), _stay)
        other.stdin.write(b"x")
        other.stdin.flush()
        other.wait(30)

        def is_free() -> bool:
            try:
                return mine.take(_wish(), _stay).position == 0
            except Problem:
                return False

        _wait_for(is_free)
        mine.close()
    assert list(tmp_path.glob("queue-*.lock")) == []


def test_a_file_that_is_no_queue_refuses(tmp_path: Path) -> None:
    (tmp_path / "queue.db").write_bytes(b"no database, but long enough to be looked at" * 40)
    with pytest.raises(StoreDamagedError), SharedDesk(tmp_path / "queue.db", BOUNDS, SystemClock()).open():
        pass


def test_a_queue_that_could_not_be_opened_refuses_again_and_is_opened_when_it_can_be(tmp_path: Path) -> None:
    file = tmp_path / "queue.db"
    file.write_bytes(b"no database, but long enough to be looked at" * 40)
    one = Admission(SharedDesk(file, BOUNDS, SystemClock()), clock=SystemClock(), metrics=Metrics())
    results: queue.SimpleQueue[Place | StoreDamagedError] = queue.SimpleQueue()

    def take() -> None:
        try:
            results.put(one.take(_wish(), _stay))
        except StoreDamagedError as error:
            results.put(error)

    def taken() -> Place | StoreDamagedError:
        # A thread that may be left behind: a try that waits for the one before it would never end.
        threading.Thread(target=take, daemon=True).start()
        return results.get(timeout=30)

    assert [type(taken()) for _ in range(2)] == [StoreDamagedError] * 2
    assert list(tmp_path.glob("queue-*.lock")) == []
    file.unlink()
    assert isinstance(taken(), Place)
    one.close()


@pytest.mark.parametrize(
    ("headers", "tier", "said"),
    [
        ({}, "basic", (Priority.INTERACTIVE, 30)),
        ({"HTTP_X_SEALIFT_PRIORITY": " Batch "}, "basic", (Priority.BATCH, 30)),
        ({"HTTP_X_SEALIFT_PRIORITY": "urgent", "HTTP_X_SEALIFT_MAX_WAIT": "5"}, "premium", (Priority.URGENT, 5)),
        ({"HTTP_X_SEALIFT_MAX_WAIT": "9999"}, "basic", (Priority.INTERACTIVE, 30)),
    ],
)
def test_headers_ask_for_a_class_and_a_wait(headers: dict[str, str], tier: str, said: tuple[Priority, int]) -> None:
    wish = wish_of(headers, tier=tier, limits=LimitsSection())
    assert (wish.priority, wish.seconds) == said


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"HTTP_X_SEALIFT_PRIORITY": "urgent"}, 403),
        ({"HTTP_X_SEALIFT_PRIORITY": "first"}, 400),
        ({"HTTP_X_SEALIFT_MAX_WAIT": "-1"}, 400),
        ({"HTTP_X_SEALIFT_MAX_WAIT": "\u0663"}, 400),
        ({"HTTP_X_SEALIFT_MAX_WAIT": "12345"}, 400),
    ],
)
def test_headers_that_ask_for_what_there_is_not_are_refused(headers: dict[str, str], status: int) -> None:
    with pytest.raises(Problem) as refused:
        wish_of(headers, tier="standard", limits=LimitsSection())
    assert refused.value.status == status


def test_the_sites_parts_of_each_class_are_the_queues() -> None:
    parts = {Priority.URGENT: 60, Priority.INTERACTIVE: 80, Priority.BATCH: 25}
    named = {f"{priority}_percent": part for priority, part in parts.items()}
    bounds = bounds_of(LimitsSection.model_validate({"concurrent_requests": 20, "queue_length": 40, **named}))

    assert {each: (bounds.ceiling(each), bounds.room(each)) for each in Priority} == {
        Priority.URGENT: (12, 24),
        Priority.INTERACTIVE: (16, 32),
        Priority.BATCH: (5, 10),
    }
    before = bounds_of(LimitsSection(concurrent_requests=20, queue_length=40))
    assert [before.ceiling(each) for each in Priority] == [20, 20, 10]
    assert [before.room(each) for each in Priority] == [40, 35, 20]
