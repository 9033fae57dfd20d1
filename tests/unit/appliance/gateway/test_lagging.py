"""What is kept for callers who read slowly, over a real connection."""

import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from appliance.gateway.lagging import Backlog, CallerLagsError, Lagging, Paced, Patience, Reader
from appliance.gateway.reading import Part, Text
from appliance.gateway.wellness import never
from media.clock import FixedClock

PIECE = b"x" * 1000
A, B, C, D = (Text(text=letter) for letter in "abcd")
LONG = Text(text="x" * 1000)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, callers = socket.socketpair()
    with ours, callers:
        yield ours, callers


def _filled(ours: socket.socket) -> None:
    """Send until the kernel takes no more: the caller does not read."""
    ours.setblocking(False)
    with suppress(BlockingIOError):
        while ours.send(PIECE):
            pass
    ours.setblocking(True)


def _read(callers: socket.socket) -> None:
    """Read all there is."""
    callers.setblocking(False)
    with suppress(BlockingIOError):
        while callers.recv(65536):
            pass


def _sent(ours: socket.socket, rest: Iterable[bytes], sizes: list[int]) -> None:
    """Send as a web server does, and note how much."""
    for piece in rest:
        ours.sendall(piece)
        sizes.append(len(piece))


def _texts(parts: Iterable[Part]) -> Iterator[bytes]:
    return (part.text.encode() for part in parts if isinstance(part, Text))


def _clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 20, tzinfo=UTC))


def _backlog(
    ours: socket.socket | None,
    lagging: Lagging | None = None,
    *,
    clock: FixedClock | None = None,
    has_left: Callable[[], bool] = never,
) -> Backlog:
    return Backlog(Reader(ours, clock=clock or _clock(), has_left=has_left), lagging or Lagging())


def test_what_a_caller_takes_is_told_at_once(pair: Pair) -> None:
    for backlog in (_backlog(pair[0]), _backlog(None)):
        assert [list(backlog.add(one)) for one in (A, B)] == [[A], [B]]
        assert list(backlog.rest(lambda: pytest.fail("it has all"))) == []


def test_what_it_does_not_take_is_kept_in_order_and_told_when_it_reads_again(pair: Pair) -> None:
    ours, callers = pair
    _filled(ours)
    backlog = _backlog(ours)
    assert [list(backlog.add(one)) for one in (A, B, C)] == [[], [], []]

    _read(callers)

    assert list(backlog.add(D)) == [A, B, C, D]


def test_no_more_is_told_than_a_caller_takes_at_once(pair: Pair) -> None:
    """Scenario: a caller who reads steadily and slowly; what is sent beyond that would hold the engine up."""
    ours, callers = pair
    _filled(ours)
    backlog = _backlog(ours)
    for _ in range(1000):
        assert not list(backlog.add(LONG))
    _read(callers)

    sizes: list[int] = []
    ours.setblocking(False)
    _sent(ours, _texts(backlog.add(LONG)), sizes)

    assert 0 < len(sizes) < 300


def test_at_the_engines_end_the_place_is_freed_before_the_rest_is_told(pair: Pair) -> None:
    ours, callers = pair
    _filled(ours)
    lagging = Lagging(most_callers=1)
    backlog, freed = _backlog(ours, lagging), []
    for _ in range(10):
        assert not list(backlog.add(LONG))
    rest = backlog.rest(lambda: freed.append(True))
    _read(callers)

    assert next(rest) == LONG
    assert (list(rest), freed) == ([LONG] * 9, [True])
    assert not lagging.has_entered()
    backlog.close()
    backlog.close()
    assert lagging.has_entered()
    assert not lagging.has_entered()


def test_where_as_many_lag_as_may_a_caller_holds_its_place(pair: Pair) -> None:
    ours, _ = pair
    _filled(ours)
    backlog = _backlog(ours, Lagging(most_callers=0), has_left=lambda: True)
    assert not list(backlog.add(A))

    with pytest.raises(CallerLagsError):
        list(backlog.rest(lambda: pytest.fail("there is no room without a place")))


def test_no_more_is_kept_for_all_than_the_bound_and_what_was_kept_is_given_back(pair: Pair) -> None:
    ours, callers = pair
    _filled(ours)
    lagging = Lagging(most_bytes=3000)

    def reads_later() -> bool:
        _read(callers)
        return False

    one, other = (_backlog(ours, lagging, has_left=reads_later) for _ in range(2))
    assert [list(one.add(LONG)), list(other.add(LONG))] == [[], []]
    assert list(one.add(LONG)) == [LONG, LONG]  # the engine waits for its caller
    one.close()
    other.close()
    assert lagging.has_kept(3000)
    assert not lagging.has_kept(1)


def _taken(lagging: Lagging, *keys: str) -> list[int]:
    """Let callers of these keys come in turn until none gets in; return how many of each did."""
    found, coming = Counter[str](), list(keys)
    while coming:
        coming = [key for key in coming if lagging.has_entered(key)]
        found.update(coming)
    return [found[key] for key in keys]


def test_one_key_leaves_others_a_part_of_those_who_are_given_the_rest_without_a_place() -> None:
    lagging = Lagging(most_callers=64)

    assert _taken(lagging, "a") == [48]
    assert _taken(lagging, "b") == [12]
    assert _taken(lagging, "a", "b") == [0, 0]
    assert lagging.has_entered("c")
    for _ in range(48):
        lagging.leave("a")
    assert _taken(lagging, "b") == [48 - 12]


def test_keys_that_each_take_all_they_may_leave_nothing_to_a_fifth_until_one_ends() -> None:
    lagging = Lagging(most_callers=64)

    assert [_taken(lagging, key) for key in "abcde"] == [[48], [12], [3], [1], [0]]
    lagging.leave("a")
    assert _taken(lagging, "e") == [1]


def test_keys_that_come_together_have_as_much() -> None:
    for count in (2, 3, 8, 21):
        taken = _taken(Lagging(most_callers=64), *(str(number) for number in range(count)))
        assert max(taken) - min(taken) <= 1
        assert 54 <= sum(taken) < 64


def test_one_key_leaves_others_a_part_of_what_is_kept(pair: Pair) -> None:
    ours, _ = pair
    _filled(ours)
    lagging = Lagging(most_bytes=100_000)
    greedy, other = (
        Backlog(Reader(ours, clock=_clock(), has_left=lambda: True), lagging, key_id=key) for key in ("a", "b")
    )

    kept = [list(greedy.add(LONG)) for _ in range(75_000 // 1256 + 1)]
    with pytest.raises(CallerLagsError):
        list(greedy.add(LONG))
    kept += [list(other.add(LONG)) for _ in range(10)]
    assert not any(kept)
    greedy.close()
    other.close()
    assert lagging.has_kept(75_000, "a")


@pytest.mark.parametrize(("more", "is_waited_for"), [(-1, True), (1, False)])
def test_a_caller_who_takes_nothing_is_waited_for_as_if_it_read_what_the_kernel_holds(
    pair: Pair, *, more: int, is_waited_for: bool
) -> None:
    ours, callers = pair
    _filled(ours)
    clock = _clock()
    seconds = 30 + ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) / 4096 + more

    def reads_later() -> bool:
        clock.advance(seconds)
        if is_waited_for:
            _read(callers)
        return False

    backlog = _backlog(ours, clock=clock, has_left=reads_later)
    assert not list(backlog.add(A))
    rest = backlog.rest(lambda: None)
    if is_waited_for:
        assert list(rest) == [A]
    else:
        with pytest.raises(CallerLagsError):
            next(rest)


def test_a_caller_who_takes_a_little_now_and_then_is_waited_for_only_so_long(pair: Pair) -> None:
    ours, callers = pair
    _filled(ours)
    clock = _clock()

    def takes_a_little() -> bool:
        clock.advance(60)
        callers.recv(131072)
        return False

    backlog = _backlog(ours, clock=clock, has_left=takes_a_little)
    for _ in range(1000):
        assert not list(backlog.add(LONG))
    told: list[int] = []
    with pytest.raises(CallerLagsError):
        _sent(ours, _texts(backlog.rest(lambda: None)), told)

    assert 0 < sum(told) < 1000 * 1000
    assert clock.monotonic() < 1000


def test_a_caller_who_took_much_and_takes_no_more_is_waited_for_no_longer(pair: Pair) -> None:
    ours, _ = pair
    clock = _clock()

    def time_goes() -> bool:
        clock.advance(60)
        return False

    reader = Reader(ours, clock=clock, has_left=time_goes)
    reader.took(10**9)
    _filled(ours)

    with pytest.raises(CallerLagsError):
        reader.wait()
    assert clock.monotonic() == 120


def test_a_caller_who_left_is_told_by_sending_to_it(pair: Pair) -> None:
    ours, callers = pair
    _filled(ours)
    backlog = _backlog(ours)
    assert not list(backlog.add(A))
    callers.close()

    assert list(backlog.rest(lambda: None)) == [A]  # a web server's sending fails


def test_a_whole_answer_is_sent_as_its_caller_takes_it_and_closed(pair: Pair) -> None:
    ours, callers = pair
    _filled(ours)
    clock = _clock()

    class Told(list[bytes]):
        closed = False

        def close(self) -> None:
            self.closed = True

    def takes_a_little() -> bool:
        clock.advance(60)
        callers.recv(131072)
        return False

    told = Told([PIECE * 1000])
    paced = Paced(told, Reader(ours, clock=clock, has_left=takes_a_little), Lagging())
    with pytest.raises(CallerLagsError):
        _sent(ours, paced, [])
    paced.close()

    assert told.closed
    assert b"".join(Paced([PIECE, b"", PIECE * 100], Reader(None, clock=clock), Lagging())) == PIECE * 101


@pytest.mark.parametrize(("more", "is_waited_for"), [(-1, True), (1, False)])
def test_a_caller_whom_others_wait_for_has_little_time_from_then_on(
    pair: Pair, *, more: int, is_waited_for: bool
) -> None:
    ours, callers = pair
    _filled(ours)
    clock, hurried = _clock(), False
    little = 5 + ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) / (128 * 1024)
    steps = iter([(30, False), (little + more, True), (0, True)])

    def time_goes() -> bool:
        nonlocal hurried
        seconds, hurried = next(steps)
        clock.advance(seconds)
        if not seconds:
            _read(callers)
        return False

    reader = Reader(ours, clock=clock, has_left=time_goes, is_hurried=lambda: hurried)
    if is_waited_for:
        reader.wait()
    else:
        with pytest.raises(CallerLagsError):
            reader.wait()


@pytest.mark.parametrize(("seconds", "is_whole"), [(3.0, False), (0.2, True)])
def test_a_hurried_caller_gets_all_of_an_answer_where_it_reads_as_over_an_ordinary_line(
    pair: Pair, *, seconds: float, is_whole: bool
) -> None:
    """Scenario: a key without room reads just above the pace that anybody else may have, and keeps a thread by it."""
    ours, callers = pair
    clock, size = _clock(), 400_000

    def reads_a_part() -> bool:
        clock.advance(seconds)
        callers.recv(180 * 1024)
        return False

    paced = Paced([b"x" * size], Reader(ours, clock=clock, has_left=reads_a_part), Lagging(most_callers=0))
    sizes: list[int] = []
    if is_whole:
        _sent(ours, paced, sizes)
        assert sum(sizes) == size
    else:
        with pytest.raises(CallerLagsError):
            _sent(ours, paced, sizes)
        assert 0 < sum(sizes) < size


def test_slow_readers_of_whole_answers_count_by_key_and_by_what_is_kept_for_them() -> None:
    lagging = Lagging(most_callers=4, most_bytes=100, most_hurried=4)

    assert lagging.enter_whole(60, "a") is Patience.USUAL
    assert lagging.enter_whole(60, "a") is Patience.HURRIED, "one key has three quarters of the bytes"
    assert lagging.enter_whole(60, "a") is Patience.NONE
    assert [lagging.enter_whole(0, "a") for _ in range(5)] == [
        *[Patience.USUAL] * 2,
        *[Patience.HURRIED] * 2,
        Patience.NONE,
    ], "and of the callers"
    assert lagging.enter_whole(30, "b") is Patience.USUAL
    assert not lagging.has_entered("c"), "streams have the same room"
    for patience in (Patience.USUAL, Patience.HURRIED, Patience.NONE):
        lagging.leave_whole(patience, 60, "a")
    assert lagging.has_entered("c")
    assert lagging.enter_whole(45, "b") is Patience.HURRIED
    assert lagging.has_kept(30, "b")


def test_a_slow_reader_of_a_whole_answer_counts_until_it_is_closed_and_a_quick_one_never(pair: Pair) -> None:
    ours, callers = pair
    lagging = Lagging(most_callers=1, most_hurried=0, most_bytes=5000)

    def seen_slow() -> bool:
        assert not lagging.has_entered("key"), "it is counted while it is waited for"
        assert not lagging.has_kept(3000)
        _read(callers)
        return False

    def answered(size: int) -> Paced:
        return Paced([PIECE], Reader(ours, clock=_clock(), has_left=seen_slow), lagging, whose=("key", size))

    _sent(ours, answered(10**9), [])  # its socket takes all of it
    _filled(ours)
    with pytest.raises(CallerLagsError, match="no room"):
        next(iter(answered(5000)))
    paced = answered(2000)
    assert list(paced) == [PIECE]
    paced.close()
    paced.close()
    assert lagging.has_entered("key")
    assert lagging.has_kept(3000)


def test_who_was_waited_for_now_and_then_is_slow_in_all(pair: Pair) -> None:
    ours, callers = pair
    clock = _clock()

    def reads_a_little_later() -> bool:
        clock.advance(0.6)
        _read(callers)
        return False

    reader = Reader(ours, clock=clock, has_left=reads_a_little_later)
    found = []
    for _ in range(2):
        _filled(ours)
        reader.wait()
        found.append(reader.is_slow())

    assert found == [False, True]
    assert not Reader(None, clock=clock).is_slow()
