"""An engine that stands still closes no connection: who waits for its first word is answered by another one."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import EngineProtocolError, EngineUnavailableError
from appliance.gateway import upstream as upstreams
from appliance.gateway.fleet import Fleet
from appliance.gateway.instances import FIRST_OUT_SECONDS, SILENT_SECONDS
from appliance.gateway.lookout import Lookout
from appliance.gateway.metrics import Metrics
from appliance.gateway.problems import Problem, stopped
from appliance.gateway.upstream import Upstream
from media.clock import FixedClock
from tests.support.engine import FakeEngine, Script, fake_engine
from tests.support.unix_http import listening

ROUTE = "/v1/chat/completions"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
STREAM = {**CHAT, "stream": True}


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 20, tzinfo=UTC))


class _Two:
    """Two engines of a version, of which the second says who speaks, and no word until `hold` is set."""

    def __init__(self, folder: Path, clock: FixedClock, well: FakeEngine, held: FakeEngine) -> None:
        self.well, self.held, self.clock, self.hold = well, held, clock, threading.Event()
        self.held.script = Script(text="at last", hold=self.hold)
        self.well.script = Script(text="fine, thank you")
        self.metrics = Metrics()
        self.fleet = Fleet(folder / "e.sock", clock=clock, metrics=self.metrics)
        self.said: list[str] = []
        self._threads: list[threading.Thread] = []

    def ask_the_held(self, *asked: dict[str, Any]) -> None:
        """Let callers wait for the first words of the second engine."""
        self.fleet._look()
        self.fleet._instances.known["e.sock"].running = 99  # so that the other one is asked
        for one in asked:
            call = self.fleet.start(ROUTE, one)
            thread = threading.Thread(target=self._read, args=(call, one))
            thread.start()
            self._threads.append(thread)
        self.until(lambda: self.fleet.departures.waiting("e-2.sock") == len(asked))
        self.fleet._instances.known["e.sock"].running = 0

    def until(self, happened: Callable[[], object]) -> None:
        end = time.monotonic() + 30
        while not happened():
            assert time.monotonic() < end
            time.sleep(0.005)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)

    def _read(self, call: Any, asked: dict[str, Any]) -> None:
        try:
            events = call.events() if asked is STREAM else [call.answer()]
            choices = [one for event in events for one in event["choices"]]
            self.said.append("".join(one.get("delta", one.get("message", {})).get("content") or "" for one in choices))
        finally:
            call.close()


@contextmanager
def _two(folder: Path, clock: FixedClock) -> Iterator[_Two]:
    with fake_engine(folder / "e.sock") as well, fake_engine(folder / "e-2.sock") as held:
        two = _Two(folder, clock, well, held)
        try:
            yield two
        finally:
            two.hold.set()
            two.join()
            two.fleet.close()


@pytest.mark.parametrize("found_by", ["a newcomer", "those who wait"])
def test_who_waits_at_an_engine_that_stands_still_is_answered_by_another_one(
    tmp_path: Path, clock: FixedClock, found_by: str
) -> None:
    with _two(tmp_path, clock) as two:
        if found_by == "those who wait":
            two.fleet._lookout._seconds = 0.05
        two.ask_the_held(STREAM, CHAT, STREAM)
        two.held.is_ready = False
        if found_by == "a newcomer":
            clock.advance(SILENT_SECONDS + 1)
            two.fleet._instances.known["e.sock"].running = 99
            call = two.fleet.start(ROUTE, CHAT)  # doubts the second one, and is answered by the first
            assert call.answer()
            call.close()
        two.join()

        assert two.said == ["fine, thank you"] * 3
        assert len(two.held.asked) == 3
        assert two.metrics.registry.get_sample_value("sealift_engines_out", {"engine": "e"}) == 1
        assert two.fleet._instances.known["e-2.sock"].running == 0
        assert two.fleet.departures.waiting("e-2.sock") == 0


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let the second engine need more than a second for short questions; tells when it had its five."""
    looked = threading.Event()
    stands_still = Upstream.stands_still

    def looking(upstream: Upstream) -> bool:
        found = stands_still(upstream)
        looked.set()
        return found

    monkeypatch.setattr(Upstream, "is_well", lambda one, _: one.name == "e.sock")
    monkeypatch.setattr(Upstream, "stands_still", looking)
    return looked


def test_a_busy_engine_that_needs_longer_than_a_moment_keeps_those_who_wait(
    tmp_path: Path, clock: FixedClock, looked: threading.Event
) -> None:
    with _two(tmp_path, clock) as two:
        two.fleet._look()
        two.fleet.heard("e-2.sock")
        two.ask_the_held(STREAM)
        clock.advance(SILENT_SECONDS + 1)
        two.fleet._instances.known["e.sock"].running = 99
        call = two.fleet.start(ROUTE, CHAT)
        assert call.answer()
        call.close()
        assert looked.wait(30)
        two.hold.set()
        two.join()

        assert two.said == ["at last"]
        assert len(two.held.asked) == 1
        assert len(two.well.asked) == 1, "the newcomer alone"


def test_a_busy_engine_that_broke_one_call_off_keeps_the_others_who_wait(
    tmp_path: Path, clock: FixedClock, looked: threading.Event
) -> None:
    with _two(tmp_path, clock) as two:
        two.fleet._look()
        two.fleet.heard("e-2.sock")
        two.ask_the_held(STREAM, CHAT, STREAM)
        assert two.fleet.broke_off("e-2.sock")
        assert two.fleet._instances.known["e-2.sock"].is_out
        assert looked.wait(30)
        two.hold.set()
        two.join()

        assert two.said == ["at last"] * 3
        assert not two.well.asked


def test_nobody_is_sent_from_an_engine_that_stands_still_where_no_other_one_is_in(
    tmp_path: Path, clock: FixedClock
) -> None:
    with _two(tmp_path, clock) as two:
        two.ask_the_held(STREAM)
        for _ in range(3):
            two.fleet.failed("e.sock")
        two.held.is_ready = False
        two.fleet._look_after("e-2.sock")
        assert two.fleet.departures.waiting("e-2.sock") == 1
        two.hold.set()
        two.join()

        assert two.said == ["at last"]
        assert not two.well.asked


def test_who_waits_is_broken_off_for_nobody_who_answers_no_question_either(tmp_path: Path, clock: FixedClock) -> None:
    """Scenario: all engines of a version are told to stop; each ends what it began, and answers no questions."""
    with _two(tmp_path, clock) as two:
        two.ask_the_held(STREAM, CHAT)
        two.well.is_ready = two.held.is_ready = False
        two.fleet._look_after("e-2.sock")
        assert two.fleet.departures.waiting("e-2.sock") == 2
        assert not two.fleet._instances.known["e-2.sock"].is_out
        two.hold.set()
        two.join()

        assert two.said == ["at last"] * 2
        assert not two.well.asked


def test_a_stream_that_began_is_broken_off_for_nobody(tmp_path: Path, clock: FixedClock) -> None:
    with _two(tmp_path, clock) as two:
        two.held.script = Script(text="one two three")
        two.fleet._look()
        two.fleet._instances.known["e.sock"].running = 99
        call = two.fleet.start(ROUTE, STREAM)
        events = call.events()
        said = [next(events)]
        two.held.is_ready = False
        two.fleet._look_after("e-2.sock")
        assert two.fleet._instances.known["e-2.sock"].is_out
        said += events
        call.close()

        assert [one["choices"][0]["delta"].get("content") for one in said[:3]] == ["one", " two", " three"]


@pytest.mark.parametrize("began_first", [False, True])
def test_a_call_is_broken_off_before_it_began_or_not_at_all(tmp_path: Path, *, began_first: bool) -> None:
    with fake_engine(tmp_path / "e.sock") as engine:
        engine.script = Script(hold=None if began_first else threading.Event())
        upstream = Upstream(tmp_path / "e.sock")
        call = upstream.start(ROUTE, STREAM)
        call.opened()
        if began_first:
            call.began()
            call.break_off()
            assert list(call.events())
        else:
            call.break_off()
            with pytest.raises(EngineUnavailableError):
                call.began()
            with pytest.raises(EngineProtocolError):
                list(call.events())
        call.close()
        upstream.close()


def test_who_takes_a_question_in_and_says_nothing_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstreams, "_STILL_SECONDS", 0.3)
    over = threading.Event()

    def take_in(_: object) -> None:
        over.wait(30)

    with listening(tmp_path / "e.sock", take_in), fake_engine(tmp_path / "well.sock"):
        began = time.monotonic()
        assert Upstream(tmp_path / "e.sock").stands_still()
        assert time.monotonic() - began >= 0.3, "it had all the time"
        over.set()
        assert not Upstream(tmp_path / "well.sock").stands_still()


def test_an_engine_that_answers_what_it_is_asked_is_asked_again_and_again(tmp_path: Path) -> None:
    asked: list[str] = []
    often = threading.Event()

    def ask(name: str) -> None:
        asked.append(name)
        if len(asked) == 3:
            often.set()

    lookout = Lookout(lambda seconds: ["slow"] if seconds else ["slow", "new"], ask, seconds=0.01)
    lookout.begin()
    lookout.begin()
    assert often.wait(30)
    lookout.doubt("new")
    lookout.doubt("nobody waits for it")
    end = time.monotonic() + 30
    while "new" not in asked:
        assert time.monotonic() < end
        time.sleep(0.005)
    lookout.close()
    lookout.begin()
    assert set(asked) == {"slow", "new"}


@pytest.mark.parametrize("asked", [STREAM, CHAT])
def test_what_may_be_answered_no_more_is_asked_of_no_second_instance(
    tmp_path: Path, clock: FixedClock, asked: dict[str, Any]
) -> None:
    def still() -> None:
        raise stopped()

    with fake_engine(tmp_path / "e.sock") as first, fake_engine(tmp_path / "e-2.sock") as second:
        first.script = second.script = Script(tear_after=0)
        fleet = Fleet(tmp_path / "e.sock", clock=clock, metrics=Metrics())
        assert fleet.is_well()
        call = fleet.start(ROUTE, asked, still=still)
        with pytest.raises(Problem, match="stopped"):
            list(call.events()) if asked is STREAM else call.answer()
        call.close()

        assert len(first.asked) + len(second.asked) == 1
        assert not any(one.running for one in fleet._instances.known.values())
        fleet.close()


def test_one_that_stood_still_is_out_for_longer_than_the_question_took(tmp_path: Path, clock: FixedClock) -> None:
    with _two(tmp_path, clock) as two:
        two.ask_the_held(STREAM)
        two.held.is_ready = False
        clock.advance(SILENT_SECONDS + 1)
        two.fleet._instances.questioned("e-2.sock", clock.monotonic(), is_well=False)
        clock.advance(FIRST_OUT_SECONDS + 0.1)
        two.fleet._look_after("e-2.sock")
        assert two.fleet._instances.known["e-2.sock"].out_until > clock.monotonic()
        two.join()
        assert two.said == ["fine, thank you"]
