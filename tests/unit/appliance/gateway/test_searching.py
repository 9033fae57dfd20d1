"""Large requests are searched for identifiers few at a time, and for nobody who left."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from appliance.config import LimitsSection
from appliance.gateway.admission import Wish
from appliance.gateway.auth import ApiKey
from appliance.gateway.beginning import Come
from appliance.gateway.disconnect import DisconnectWatch
from appliance.gateway.metrics import Metrics
from appliance.gateway.problems import Problem
from appliance.gateway.queueing import Priority
from appliance.gateway.searching import LARGE_CHARACTERS, Searches
from appliance.phi.detect import Finding, PatternDetector
from appliance.phi.policy import PhiMode
from media.clock import SystemClock

LARGE = ["x" * 16_384] * 8
SMALL = ["MRN: 12345678"]


class _Slow:
    """Finds nothing, and not before it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.texts: list[str] = []
        self.begun: list[str] = []
        self.each: Callable[[], None] = lambda: None

    def find(self, text: str) -> Sequence[Finding]:
        """Find nothing in one text of a large request."""
        self.begun.append(threading.current_thread().name)
        self.texts.append(text)
        self.each()
        assert self.let.wait(30)
        return []


@pytest.fixture
def slow() -> Iterator[_Slow]:
    detector = _Slow()
    yield detector
    detector.let.set()


def _searches(detector: _Slow | PatternDetector, *, limits: LimitsSection | None = None) -> Searches:
    return Searches(
        detector,
        limits=limits or LimitsSection(),
        watch=DisconnectWatch(),
        clock=SystemClock(),
        metrics=Metrics(),
    )


def _come(key_id: str, caller: socket.socket | None = None, *, wish: Wish | None = None) -> Come:
    key = ApiKey(
        key_id=key_id,
        secret_hmac="",
        key_version=1,
        department="cardiology",
        phi_mode=PhiMode.TOKENISE,
        tier="standard",
    )
    return Come(
        request_id="req_a",
        began=0.0,
        key=key,
        certificate="",
        body=b"",
        untrusted={},
        label="",
        user="",
        environ={} if caller is None else {"werkzeug.socket": caller},
        wish=wish or Wish(priority=Priority.INTERACTIVE, seconds=60.0),
    )


def _wait_for(what: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_one_large_request_of_a_key_is_searched_at_once_and_one_of_another_beside_it(slow: _Slow) -> None:
    """Scenario: one key sends six requests of a megabyte, another one, a third asks shortly.

    Searched all at once they would share one core with everybody else, for as long as all of them take.
    """
    searches = _searches(slow)
    with ThreadPoolExecutor(7) as pool:
        jobs = [pool.submit(searches.of, _come("wild"), [LARGE])]
        _wait_for(lambda: len(slow.texts) == 1)
        jobs += [pool.submit(searches.of, _come("wild"), [LARGE]) for _ in range(5)]
        time.sleep(0.2)
        assert len(slow.texts) == 1
        jobs.append(pool.submit(searches.of, _come("other"), [LARGE]))
        _wait_for(lambda: len(slow.texts) == 2)
        slow.let.set()
        waited = [job.result(30).has_waited for job in jobs]

    assert waited == [False, True, True, True, True, True, False]
    assert len(slow.texts) == 7 * len(LARGE)


def test_what_is_not_large_is_searched_at_once_however_many_large_ones_wait(slow: _Slow) -> None:
    searches = _searches(slow)
    with ThreadPoolExecutor(4) as pool:
        large = [pool.submit(searches.of, _come(f"key {number}"), [LARGE]) for number in range(3)]
        _wait_for(lambda: len(slow.texts) == 2)
        small = pool.submit(searches.of, _come("key 0"), [["y" * (LARGE_CHARACTERS - 1)]])
        _wait_for(lambda: len(slow.texts) == 3)
        slow.let.set()
        assert not small.result(30).has_waited
        assert [job.result(30).has_waited for job in large].count(True) == 1


def test_nobody_is_searched_for_who_left(slow: _Slow) -> None:
    searches = _searches(slow)
    ours, theirs = socket.socketpair()
    slow.each = theirs.close
    slow.let.set()

    with ours, pytest.raises(Problem) as left:
        searches.of(_come("a", ours), [LARGE])

    assert (left.value.status, left.value.code) == (499, "caller_left")
    assert len(slow.texts) == 1
    assert not searches.of(_come("a"), [LARGE]).has_waited, "its turn was given back"


def test_who_leaves_while_it_waits_for_its_search_waits_no_more(slow: _Slow) -> None:
    searches = _searches(slow)
    ours, theirs = socket.socketpair()
    with ours, ThreadPoolExecutor(2) as pool:
        first = pool.submit(searches.of, _come("a"), [LARGE])
        _wait_for(lambda: len(slow.texts) == 1)
        second = pool.submit(searches.of, _come("a", ours), [LARGE])
        time.sleep(0.1)
        theirs.close()
        error = second.exception(30)
        assert len(slow.texts) == 1
        slow.let.set()
        first.result(30)

    assert isinstance(error, Problem)
    assert error.code == "caller_left"


def test_one_key_has_half_of_the_room_to_wait_for_a_search(slow: _Slow) -> None:
    searches = _searches(slow, limits=LimitsSection(queue_length=8))
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(searches.of, _come("wild"), [LARGE])]
        _wait_for(lambda: len(slow.texts) == 1)
        jobs += [pool.submit(searches.of, _come("wild"), [LARGE]) for _ in range(2)]
        _wait_for(lambda: sum(job.running() for job in jobs) == 3)
        time.sleep(0.2)
        with pytest.raises(Problem) as full:
            searches.of(_come("wild"), [LARGE])
        slow.let.set()
        for job in jobs:
            job.result(30)

    assert (full.value.status, full.value.code) == (429, "class_full")
    assert full.value.retry_after_seconds is not None


def test_the_wait_for_a_search_is_a_part_of_the_one_that_a_request_may_have(slow: _Slow) -> None:
    searches = _searches(slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(searches.of, _come("a"), [LARGE])
        _wait_for(lambda: len(slow.texts) == 1)
        second = pool.submit(searches.of, _come("a"), [LARGE])
        time.sleep(0.3)
        slow.let.set()
        rest = second.result(30).wish
        assert first.result(30).wish.seconds == pytest.approx(60.0, abs=0.2)

    assert rest.seconds < 59.8
    assert rest.patience == 60.0, "and costs nobody the turn of its class"


def test_each_list_is_masked_by_itself() -> None:
    searched = _searches(PatternDetector()).of(_come("a"), [SMALL, ["MRN: 87654321"]])

    assert [one.texts for one in searched.masked] == [("MRN: [MRN_1]",), ("MRN: [MRN_1]",)]
