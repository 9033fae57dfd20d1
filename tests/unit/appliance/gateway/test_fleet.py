"""Several instances of a version behind one name: who is asked, who is kept out, what a failure costs the caller."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import EngineProtocolError, EngineRefusedError, EngineUnavailableError
from appliance.gateway.fleet import Fleet
from appliance.gateway.fleetcall import FleetCall
from appliance.gateway.fleets import Upstreams
from appliance.gateway.instances import (
    FAULTS,
    FIRST_OUT_SECONDS,
    MORE_CALLS,
    SLOW_SAMPLES,
    Instance,
    Instances,
    Kind,
)
from appliance.gateway.metrics import Metrics
from appliance.gateway.problems import Problem
from appliance.gateway.upstream import Upstream
from appliance.serve.client import EngineClient
from media.clock import FixedClock
from tests.support.dying_engine import dying_engine
from tests.support.engine import FakeEngine, Script, fake_engine

ROUTE = "/v1/chat/completions"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
STREAM = {**CHAT, "stream": True}


def _instances(*kinds: Kind, most: int = 0) -> Instances:
    found = Instances()
    found.set([Instance(name=str(place), kind=kind, most=most) for place, kind in enumerate(kinds)])
    return found


def _chosen(instances: Instances, now: float = 0.0, tried: tuple[str, ...] = ()) -> str:
    one = instances.choose(now, tried=tried)
    assert one is not None
    return one.name


def _out(instances: Instances) -> set[str]:
    return {name for name, one in instances.known.items() if one.is_out}


def _answered(instances: Instances, name: str, seconds: float | None, now: float) -> None:
    instances.answered(name, seconds, now)
    instances.ended_well(name, now)


def _put_out(instances: Instances, name: str, now: float = 0.0) -> None:
    for _ in range(FAULTS):
        instances.failed(name, now)


@given(ends=st.lists(st.integers(0, 3), max_size=60))
def test_the_least_loaded_is_asked_whatever_ends_when(ends: list[int]) -> None:
    instances, running = _instances(*[Kind.OWN] * 4), [0, 0, 0, 0]
    for now, end in enumerate(ends):
        name = int(_chosen(instances, float(now)))
        assert running[name] == min(running)
        running[name] += 1
        if running[end]:
            instances.ended(str(end))
            running[end] -= 1


def test_three_faults_in_a_row_put_out_and_one_answered_call_brings_back() -> None:
    instances = _instances(Kind.OWN, Kind.OWN)
    _put_out(instances, "0")
    assert {_chosen(instances, 1.0) for _ in range(4)} == {"1"}
    assert _chosen(instances, FIRST_OUT_SECONDS + 1) == "0", "one call finds out"
    assert _chosen(instances, FIRST_OUT_SECONDS + 1) == "1", "and only one at a time"
    instances.failed("0", FIRST_OUT_SECONDS + 1)
    assert _chosen(instances, 2 * FIRST_OUT_SECONDS + 2) == "1", "twice as long"
    assert _chosen(instances, 3 * FIRST_OUT_SECONDS + 2) == "0"
    instances.answered("0", 0.1, 20.0, is_trial=True)
    for name in ("0", "1"):
        for _ in range(8):
            instances.ended(name)
    assert {_chosen(instances, 21.0), _chosen(instances, 21.5)} == {"0", "1"}


def test_an_instance_that_is_much_slower_than_the_others_is_out() -> None:
    instances = _instances(Kind.OWN, Kind.OWN, Kind.OWN)
    for _ in range(SLOW_SAMPLES):
        for name in ("0", "1"):
            instances.answered(name, 0.5, 0.0)
    for _ in range(SLOW_SAMPLES - 1):
        instances.answered("2", 9.0, 0.0)
    assert _out(instances) == set()
    instances.answered("2", 9.0, 0.0)
    assert _out(instances) == {"2"}


def test_some_first_words_that_took_long_put_nobody_out() -> None:
    """Scenario: half of an instance's callers have long prompts, or wait within it; the others are answered soon."""
    instances = _instances(Kind.OWN, Kind.OWN)
    for seconds in (0.3, 30.0) * (2 * SLOW_SAMPLES):
        instances.answered("0", 0.3, 0.0)
        instances.answered("1", seconds, 0.0)
    assert _out(instances) == set()


def test_many_calls_that_fail_at_once_put_out_for_no_longer_than_three() -> None:
    instances = _instances(Kind.OWN, Kind.OWN)
    for name in ("0", "1"):  # all are out, so each caller tries both
        for _ in range(4 * FAULTS):
            instances.failed(name, 0.0)
    instances.gone("0", 0.25)
    assert {one.out_until for one in instances.known.values()} == {FIRST_OUT_SECONDS, FIRST_OUT_SECONDS + 0.25}
    assert _chosen(instances, 1.0) == "1", "the other failed last"


def test_a_slow_instance_stays_out_also_where_others_of_its_calls_are_under_way() -> None:
    instances = _instances(Kind.OWN, Kind.OWN, Kind.OWN)
    for _ in range(SLOW_SAMPLES):
        for name in ("0", "1"):
            instances.answered(name, 0.5, 0.0)
    for _ in range(SLOW_SAMPLES):
        instances.answered("2", 9.0, 0.0)
    assert _out(instances) == {"2"}
    for _ in range(FAULTS):
        instances.answered("2", 9.0, 1.0)
    assert _out(instances) == {"2"}
    assert _chosen(instances, FIRST_OUT_SECONDS) == "2"
    instances.answered("2", 9.0, FIRST_OUT_SECONDS)
    assert _out(instances) == {"2"}, "nor does one of them while another call finds out"
    instances.answered("2", 0.5, FIRST_OUT_SECONDS, is_trial=True)
    assert _out(instances) == set()


def test_a_caller_that_leaves_as_its_call_finds_out_leaves_that_to_the_next_one(
    tmp_path: Path, clock: FixedClock
) -> None:
    with _engines(tmp_path, "e", "e-2") as (first, second):
        first.script = second.script = Script(pieces=("one ", "two "), hold=threading.Event())
        fleet, _ = _fleet(tmp_path, clock)
        long = [fleet.start(ROUTE, STREAM) for _ in range(2)]  # one runs in each
        for _ in range(FAULTS):
            fleet.failed("e-2.sock")
        clock.advance(FIRST_OUT_SECONDS)
        leaves = fleet.start(ROUTE, STREAM)
        leaves.cancel()
        leaves.close()
        assert _picked(fleet, 1) == ["e-2.sock"]
        for call in long:
            call.close()
        fleet.close()


def test_who_fails_soon_after_it_came_back_is_out_for_twice_as_long() -> None:
    instances = _instances(Kind.OWN, Kind.OWN, Kind.OWN)
    for _ in range(SLOW_SAMPLES):
        for name in ("0", "1"):
            instances.answered(name, 0.5, 0.0)
    now, lengths = 0.0, []
    for _ in range(3):
        for _ in range(SLOW_SAMPLES - len(instances.known["2"].firsts)):
            instances.answered("2", 9.0, now)
        assert _out(instances) == {"2"}
        lengths.append(instances.known["2"].out_until - now)
        now = instances.known["2"].out_until
        assert _chosen(instances, now) == "2", "one call finds out, and is answered"
        instances.answered("2", 9.0, now, is_trial=True)
    assert lengths == [FIRST_OUT_SECONDS, 2 * FIRST_OUT_SECONDS, 4 * FIRST_OUT_SECONDS]


@pytest.mark.parametrize(("whole", "streams", "seconds"), [(3, 1, 4), (1, 0, 1)])
def test_a_slow_instance_is_out_for_longer_each_time_also_where_most_answers_are_whole(
    whole: int, streams: int, seconds: int
) -> None:
    """Of every few answers one is a stream; where none is, nothing tells that it is slow."""
    instances = _instances(Kind.OWN, Kind.OWN)
    for _ in range(SLOW_SAMPLES):
        instances.answered("0", 0.1, 0)
    instances.known["1"].out_seconds = 4 * FIRST_OUT_SECONDS

    for _ in range(SLOW_SAMPLES - 1):
        for _ in range(streams):
            _answered(instances, "1", 30.0, 0)
        for _ in range(whole):
            _answered(instances, "1", None, 0)
    _answered(instances, "1", 30.0 if streams else None, 0)

    one = instances.known["1"]
    assert one.is_out is bool(streams)
    if streams:
        assert one.out_until == seconds * FIRST_OUT_SECONDS
    else:
        assert one.out_seconds == seconds * FIRST_OUT_SECONDS


def test_long_answers_that_callers_wanted_whole_put_no_instance_out() -> None:
    instances = Instances()
    instances.set([Instance(name="short"), Instance(name="long")])
    for _ in range(FAULTS + 1):
        instances.failed("long", 0.0)
    instances.answered("long", 0.1, 10.0, is_trial=True)
    for _ in range(SLOW_SAMPLES):
        _answered(instances, "short", 0.1, 10.0)
        _answered(instances, "long", 0.1, 10.0)
    for _ in range(SLOW_SAMPLES):
        _answered(instances, "long", None, 60.0)

    assert not any(one.is_out for one in instances.known.values())
    _put_out(instances, "long", 100.0)
    assert instances.known["long"].out_until == 100.0 + FIRST_OUT_SECONDS, "it was well for long enough to begin anew"


@pytest.mark.parametrize("asked", [STREAM, CHAT])
def test_only_of_streams_it_is_known_when_first_words_came(
    tmp_path: Path, clock: FixedClock, asked: dict[str, Any]
) -> None:
    with fake_engine(tmp_path / "engine-production-a.sock"):
        fleet = Fleet(tmp_path / "engine-production-a.sock", clock=clock, metrics=Metrics())
        call = fleet.start(ROUTE, asked)
        assert list(call.events()) if asked is STREAM else call.answer()
        call.close()
        (one,) = fleet._instances.known.values()
        fleet.close()

    assert (one.answers, len(one.firsts)) == (1, int(asked is STREAM))


def test_overflow_when_full_standby_when_all_are_out_and_somebody_always() -> None:
    instances = _instances(Kind.OWN, Kind.OVERFLOW, Kind.STANDBY, most=1)
    assert [_chosen(instances) for _ in range(2)] == ["0", "1"]
    instances.ended("0")
    instances.ended("1")
    _put_out(instances, "0")
    assert _chosen(instances, 1.0) == "1"
    _put_out(instances, "1", 2.0)
    assert _chosen(instances, 2.0) == "2"
    _put_out(instances, "2", 3.0)
    assert _chosen(instances, 3.0) == "0", "due back first"
    assert instances.choose(3.0, tried=("0", "1", "2")) is None


def test_a_standby_is_kept_from_callers_while_an_engine_is_in_that_has_as_many_calls_as_it_takes() -> None:
    instances = _instances(Kind.OWN, Kind.OVERFLOW, Kind.STANDBY)
    instances.known["0"].most = 1
    _put_out(instances, "1")
    assert [_chosen(instances) for _ in range(3)] == ["0"] * 3
    assert _chosen(instances, tried=("0",)) == "2", "the other one was asked in vain"
    assert instances.doubted("0", 0.0)
    assert instances.awaits(0.0), "whether it is well"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 20, tzinfo=UTC))


@contextmanager
def _engines(folder: Path, *names: str) -> Iterator[list[FakeEngine]]:
    with ExitStack() as stack:
        yield [stack.enter_context(fake_engine(folder / f"{name}.sock")) for name in names]


def _fleet(folder: Path, clock: FixedClock) -> tuple[Fleet, Metrics]:
    metrics = Metrics()
    return Fleet(folder / "e.sock", clock=clock, metrics=metrics), metrics


def _text(event: dict[str, Any]) -> str:
    return "".join(one.get("delta", one.get("message", {})).get("content") or "" for one in event["choices"])


def test_an_instance_that_refuses_as_busy_costs_the_caller_nothing(tmp_path: Path, clock: FixedClock) -> None:
    with _engines(tmp_path, "e", "e-2") as (first, second):
        first.script = Script(refuse=(503, "loading"))
        fleet, metrics = _fleet(tmp_path, clock)
        for _ in range(2 * FAULTS):
            call = fleet.start(ROUTE, STREAM)
            assert "".join(_text(one) for one in call.events()) == "You said: hi"
            call.close()
        assert len(second.asked) == 2 * FAULTS
        assert len(first.asked) == FAULTS, "then it is out"
        assert metrics.registry.get_sample_value("sealift_asked_elsewhere_total") == FAULTS
        assert metrics.registry.get_sample_value("sealift_engines_out", {"engine": "e"}) == 1
        fleet.close()


def test_an_instance_that_is_gone_is_left_before_the_first_byte(tmp_path: Path, clock: FixedClock) -> None:
    with _engines(tmp_path, "e-2") as (second,):
        fleet, _ = _fleet(tmp_path, clock)
        assert _text(fleet.start(ROUTE, CHAT).answer()) == "You said: hi"
        assert len(second.asked) == 1
        fleet.close()
    with pytest.raises(EngineUnavailableError):
        fleet.start(ROUTE, CHAT)


def _counted(fleet: Fleet) -> int:
    return fleet.ask(lambda engine: engine.tokenize(prompt="two words"))


@pytest.mark.parametrize("has_just_spoken", [False, True])
def test_a_short_question_is_answered_by_another_instance_where_one_is_gone(
    tmp_path: Path, clock: FixedClock, *, has_just_spoken: bool
) -> None:
    with _engines(tmp_path, "e-2"):  # the first, which is asked first, is not there
        fleet, metrics = _fleet(tmp_path, clock)
        assert fleet.is_well()
        if has_just_spoken:  # so nobody doubts it
            fleet.answered("e.sock", None, is_trial=False)
        assert [_counted(fleet) for _ in range(3)] == [2, 2, 2]
        assert metrics.registry.get_sample_value("sealift_engines_out", {"engine": "e"}) == 1
        assert not any(one.running for one in fleet._instances.known.values())
        fleet.close()
    nobody, _ = _fleet(tmp_path, clock)
    assert not nobody.is_well()
    with pytest.raises(EngineUnavailableError):
        _counted(nobody)


def test_what_is_wrong_with_a_short_question_is_asked_nowhere_else(tmp_path: Path, clock: FixedClock) -> None:
    asked = []

    def refuse(engine: EngineClient) -> int:
        asked.append(engine.path.name)
        raise EngineRefusedError(what="", why="", fix="", http_status=404, engine_code="", engine_param="")

    with _engines(tmp_path, "e", "e-2"):
        fleet, _ = _fleet(tmp_path, clock)
        with pytest.raises(EngineRefusedError):
            fleet.ask(refuse)
        assert len(asked) == 1
        assert not any(one.running or one.is_out for one in fleet._instances.known.values())
        fleet.close()


@pytest.mark.parametrize("first_kept", [False, True])
def test_an_instance_that_dies_in_the_middle_of_a_whole_answer_is_left_for_another(
    tmp_path: Path, clock: FixedClock, *, first_kept: bool
) -> None:
    with _engines(tmp_path, "e", "e-2") as (first, second):
        fleet, metrics = _fleet(tmp_path, clock)
        if first_kept:  # what breaks off inside an answer was no idle connection that the engine had closed
            assert _text(fleet.start(ROUTE, CHAT).answer()) == "You said: hi"
        before = len(first.asked)
        first.script = Script(tear_inside=True)
        calls = [fleet.start(ROUTE, CHAT) for _ in range(2)]
        assert [_text(call.answer()) for call in calls] == ["You said: hi"] * 2
        assert len(first.asked) == before + 1, "it is asked once"
        assert len(second.asked) == 2
        assert metrics.registry.get_sample_value("sealift_asked_elsewhere_total") == 1
        second.script = Script(tear_inside=True)
        with pytest.raises(EngineProtocolError):  # both broke off: nobody else is to be asked
            fleet.start(ROUTE, CHAT).answer()
        for call in calls:
            call.close()
        fleet.close()


def test_after_the_first_byte_nobody_else_is_asked(tmp_path: Path, clock: FixedClock) -> None:
    with _engines(tmp_path, "e", "e-2") as (first, second):
        first.script = second.script = Script(pieces=("one ", "two ", "three "), tear_after=2)
        fleet, _ = _fleet(tmp_path, clock)
        said: list[str] = []
        call = fleet.start(ROUTE, STREAM)
        with pytest.raises(EngineProtocolError):
            said.extend(_text(event) for event in call.events())
        call.close()
        assert "".join(said) == "one two "
        assert len(first.asked) + len(second.asked) == 1
        fleet.close()


def test_what_is_wrong_with_the_request_is_asked_nowhere_else(tmp_path: Path, clock: FixedClock) -> None:
    with _engines(tmp_path, "e", "e-2") as (first, second):
        first.script = second.script = Script(refuse=(400, "context_length_exceeded"))
        fleet, _ = _fleet(tmp_path, clock)
        for _ in range(2 * FAULTS):
            call = fleet.start(ROUTE, CHAT)
            with pytest.raises(EngineRefusedError):
                call.opened()
            call.close()
        assert len(first.asked) + len(second.asked) == 2 * FAULTS
        assert not any(one.is_out for one in fleet._instances.known.values())
        fleet.close()


def test_a_caller_that_leaves_is_no_fault_of_the_instance_and_asks_nobody_else(
    tmp_path: Path, clock: FixedClock
) -> None:
    with _engines(tmp_path, "e", "e-2") as (first, second):
        first.script = second.script = Script(hold=threading.Event())
        fleet, _ = _fleet(tmp_path, clock)
        call = fleet.start(ROUTE, CHAT)
        threading.Timer(0.05, call.cancel).start()
        with pytest.raises((EngineProtocolError, EngineUnavailableError)):
            call.answer()
        call.close()
        assert len(first.asked) + len(second.asked) <= 1
        assert all(not one.faults and not one.running for one in fleet._instances.known.values())
        fleet.close()


def _picked(fleet: Fleet, calls: int) -> list[str]:
    found = [fleet.pick(frozenset()) for _ in range(calls)]
    return [one.name for one in found if one is not None]


@pytest.mark.parametrize(("gateways", "own"), [(1, 3), (2, 2)])
def test_overflow_is_asked_when_the_versions_own_engines_answer_as_many_as_they_can(
    tmp_path: Path, clock: FixedClock, gateways: int, own: int
) -> None:
    fleets = Upstreams(clock=clock, metrics=Metrics(), gateways=gateways)
    with _engines(tmp_path, "e", "e-cpu"):
        fleet = fleets.to(tmp_path / "e.sock", places=3)

        found = _picked(fleet, own + 1)

        fleets.close()
    assert found == [*["e.sock"] * own, "e-cpu.sock"]


def test_overflow_that_started_after_the_engine_that_it_relieves_is_asked(tmp_path: Path, clock: FixedClock) -> None:
    fleets = Upstreams(clock=clock, metrics=Metrics())
    with _engines(tmp_path, "e"):
        fleet = fleets.to(tmp_path / "e.sock", places=1)
        alone = _picked(fleet, 2)
        with _engines(tmp_path, "e-cpu"):
            clock.advance(1.5)
            found = _picked(fleet, 1)
        fleets.close()
    assert (alone, found) == (["e.sock", "e.sock"], ["e-cpu.sock"])


def test_few_versions_are_remembered(tmp_path: Path, clock: FixedClock) -> None:
    fleets = Upstreams(clock=clock, metrics=Metrics())
    first = fleets.to(tmp_path / "0.sock")
    for number in range(1, 4):
        fleets.to(tmp_path / f"{number}.sock")
    assert fleets.to(tmp_path / "0.sock") is first
    for number in range(4, 7):
        fleets.to(tmp_path / f"{number}.sock")
    assert fleets.to(tmp_path / "0.sock") is first
    fleets.close()
    assert fleets.to(tmp_path / "0.sock") is not first


def test_as_many_versions_are_remembered_as_may_answer(tmp_path: Path, clock: FixedClock) -> None:
    loaded = [6]
    fleets = Upstreams(clock=clock, metrics=Metrics(), loaded=lambda: loaded[0])
    kept = [fleets.to(tmp_path / f"{number}.sock") for number in range(6)]
    assert [fleets.to(tmp_path / f"{number}.sock") for number in range(6)] == kept
    fleets.to(tmp_path / "6.sock")
    assert fleets.to(tmp_path / "0.sock") is not kept[0]

    loaded[0] = 2
    for _ in range(3):
        fleets.to(tmp_path / "6.sock")
    assert fleets.to(tmp_path / "5.sock") is kept[5]
    assert fleets.to(tmp_path / "3.sock") is not kept[3], "they are as few again"
    fleets.close()


@given(sessions=st.lists(st.text(max_size=8), min_size=1, max_size=20), busy=st.lists(st.integers(0, 9), min_size=3))
def test_a_conversation_stays_with_its_instance_on_every_gateway_while_that_is_not_much_busier(
    sessions: list[str], busy: list[int]
) -> None:
    for session in sessions:
        gateways = [_instances(*[Kind.OWN] * 3), _instances(*[Kind.OWN] * 3)]
        first = [one.choose(0.0, session=session or "x", goes_on=turn > 0) for turn, one in enumerate(gateways)]
        assert first[0] is not None
        assert first[1] is not None
        assert first[0].name == first[1].name, "whoever asks"
        own = gateways[0]
        for place, running in enumerate(busy[:3]):
            own.known[str(place)].running = running
        then = own.choose(1.0, session=session or "x", goes_on=True)
        assert then is not None
        assert then.running - 1 <= min(busy[:3]) + MORE_CALLS
        if busy[int(first[0].name)] <= min(busy[:3]) + MORE_CALLS:
            assert then.name == first[0].name


def test_conversations_are_spread_and_leave_an_instance_that_is_out() -> None:
    instances = _instances(*[Kind.OWN] * 3)
    at_first = {}
    for number in range(60):
        one = instances.choose(0.0, session=f"c{number}")
        assert one is not None
        instances.ended(one.name)
        at_first[f"c{number}"] = one.name
    assert {name: list(at_first.values()).count(name) >= 8 for name in "012"} == {"0": True, "1": True, "2": True}
    _put_out(instances, "1")
    for session, before in at_first.items():
        one = instances.choose(1.0, session=session, goes_on=True)
        assert one is not None
        instances.ended(one.name)
        assert one.name == before if before != "1" else one.name != "1", "only those move that must"


def test_a_first_question_goes_where_least_is_asked() -> None:
    instances = _instances(Kind.OWN, Kind.OWN)
    assert {_session(instances, f"c{number}") for number in range(2)} == {"0", "1"}


def _session(instances: Instances, session: str) -> str:
    one = instances.choose(0.0, session=session)
    assert one is not None
    return one.name


@contextmanager
def _silent(path: Path) -> Iterator[socket.socket]:
    """Listen as a supervisor does for an engine that starts again: calls are taken in, and nobody answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        yield listener


def test_a_socket_behind_which_nobody_answers_costs_a_caller_a_second_once(tmp_path: Path, clock: FixedClock) -> None:
    with _engines(tmp_path, "e") as (first,), _silent(tmp_path / "e-2.sock"):
        fleet, metrics = _fleet(tmp_path, clock)
        for _ in range(6):
            assert _text(fleet.start(ROUTE, CHAT).answer()) == "You said: hi"
        assert len(first.asked) == 6
        assert metrics.registry.get_sample_value("sealift_engines_out", {"engine": "e"}) == 1
        fleet.close()


@pytest.mark.parametrize("kind", ["cpu", "standby"])
def test_calls_that_come_at_once_to_an_idle_engine_are_all_answered_by_it(
    tmp_path: Path, clock: FixedClock, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with _engines(tmp_path, "e", f"e-{kind}") as (first, waiting):
        fleet, _ = _fleet(tmp_path, clock)
        _slow_question(monkeypatch, is_well=True)
        assert _asked_at_once(fleet, 4) == ["You said: hi"] * 4
        assert (len(first.asked), len(waiting.asked)) == (4, 0)
        fleet.close()


def test_calls_that_come_at_once_to_an_engine_that_is_gone_wait_for_one_question(
    tmp_path: Path, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _engines(tmp_path, "e", "e-standby") as (first, waiting):
        fleet, metrics = _fleet(tmp_path, clock)
        questions = _slow_question(monkeypatch, is_well=False, of="e.sock")
        assert _asked_at_once(fleet, 4) == ["You said: hi"] * 4
        assert (len(first.asked), len(waiting.asked)) == (0, 4)
        assert questions.count("e.sock") == 1
        assert metrics.registry.get_sample_value("sealift_engines_out", {"engine": "e"}) == 1
        fleet.close()


def test_a_question_that_fails_in_an_unknown_way_holds_nobody(
    tmp_path: Path, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Upstream, __: object) -> bool:
        raise RuntimeError

    with _engines(tmp_path, "e", "e-standby") as (_, waiting):
        fleet, _ = _fleet(tmp_path, clock)
        with monkeypatch.context() as patched:
            patched.setattr(Upstream, "is_well", broken)
            with pytest.raises(RuntimeError):
                fleet.start(ROUTE, CHAT)
        assert _asked_at_once(fleet, 2) == ["You said: hi"] * 2
        assert len(waiting.asked) == 2, "the first is out"
        fleet.close()


@contextmanager
def _takes_no_longer(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def _leaves_after(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def test_a_caller_that_leaves_during_a_short_question_is_let_go_and_the_next_call_asks_it(
    tmp_path: Path, clock: FixedClock
) -> None:
    with _silent(tmp_path / "e.sock"), _silent(tmp_path / "e-2.sock"):
        fleet, _ = _fleet(tmp_path, clock)
        with _takes_no_longer(0.8), pytest.raises(Problem) as left:
            fleet.start(ROUTE, CHAT, left=_leaves_after(0.1))
        assert left.value.code == "caller_left"
        known = fleet._instances.known.values()
        assert not [one for one in known if one.is_out or one.running or one.is_questioned], "nothing was learnt"
        fleet.start(ROUTE, CHAT).close()
        assert sorted(one.is_out for one in known) == [False, True], "asked again, and not spared"
        fleet.close()


def test_a_caller_that_leaves_while_another_one_asks_waits_for_no_answer(
    tmp_path: Path, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _engines(tmp_path, "e", "e-standby") as (first, _):
        fleet, _ = _fleet(tmp_path, clock)
        asked, answer = threading.Event(), threading.Event()

        def held(_: Upstream, __: object) -> bool:
            asked.set()
            return answer.wait(30)

        monkeypatch.setattr(Upstream, "is_well", held)
        (one,), said = _begun(fleet, [CHAT])
        assert asked.wait(30)
        with _takes_no_longer(0.8), pytest.raises(Problem, match="left"):
            fleet.start(ROUTE, CHAT, left=_leaves_after(0.1))
        answer.set()
        one.join(30)
        assert said == ["You said: hi"]
        assert len(first.asked) == 1
        fleet.close()


def test_a_caller_that_leaves_while_it_is_found_out_whether_its_instance_is_gone_is_let_go(
    tmp_path: Path, clock: FixedClock
) -> None:
    with _engines(tmp_path, "e") as (first,), dying_engine(tmp_path / "e-2.sock") as second:
        fleet, metrics = _fleet(tmp_path, clock)
        for _ in range(3):
            assert fleet.start(ROUTE, CHAT).answer()
        second.stop()
        call = fleet.start(ROUTE, CHAT)
        timer = threading.Timer(0.3, call.cancel)
        second.kill()  # its socket stays and takes the question in
        timer.start()
        with _takes_no_longer(0.9), pytest.raises(EngineUnavailableError):
            call.answer()
        call.close()
        timer.join()
        assert len(first.asked) == 2, "nobody is asked for a caller who is gone"
        assert metrics.registry.get_sample_value("sealift_engines_out", {"engine": "e"}) in (None, 0)
        fleet.close()


def _slow_question(monkeypatch: pytest.MonkeyPatch, *, is_well: bool, of: str = "") -> list[str]:
    """Let short questions take a while, and the one of an engine be answered so; return who was asked one."""
    questions: list[str] = []

    def asked(upstream: Upstream, _: object) -> bool:
        questions.append(upstream.name)
        time.sleep(0.2)
        return is_well or upstream.name != of

    monkeypatch.setattr(Upstream, "is_well", asked)
    return questions


def _asked_at_once(fleet: Fleet, callers: int) -> list[str]:
    threads, said = _begun(fleet, [CHAT] * callers)
    for thread in threads:
        thread.join(30)
    return said


def _begun(fleet: Fleet, asked: Sequence[dict[str, Any]]) -> tuple[list[threading.Thread], list[str]]:
    """Let one caller ask each of these; return the callers, and what will have been said to them when they end."""
    said: list[str] = []

    def ask(one: dict[str, Any]) -> None:
        call = fleet.start(ROUTE, one)
        said.append("".join(_text(each) for each in (call.events() if one is STREAM else [call.answer()])))
        call.close()

    threads = [threading.Thread(target=ask, args=(one,)) for one in asked]
    for thread in threads:
        thread.start()
    return threads, said


def test_when_an_instance_dies_all_that_wait_for_it_are_answered_by_the_others(
    tmp_path: Path, clock: FixedClock
) -> None:
    release = threading.Event()
    with _engines(tmp_path, "e") as (first,), dying_engine(tmp_path / "e-2.sock") as second:
        fleet, metrics = _fleet(tmp_path, clock)
        for _ in range(2):
            assert fleet.start(ROUTE, CHAT).answer()
        second.stop()  # it takes calls in, and says nothing
        first.script = Script(text="fine, thank you", hold=release)
        threads, said = _begun(fleet, (CHAT, STREAM) * 3)
        until = time.monotonic() + 30
        while len(first.asked) < 4 or fleet.departures.waiting("e-2.sock") < 3:
            assert time.monotonic() < until
            time.sleep(0.005)
        second.kill()  # the socket stays, as a supervisor's does
        release.set()
        for thread in threads:
            thread.join(30)
        assert said == ["fine, thank you"] * 6
        assert len(first.asked) == 7
        assert metrics.registry.get_sample_value("sealift_engines_out", {"engine": "e"}) == 1
        fleet.close()


def test_a_crash_that_breaks_many_streams_off_puts_an_instance_out_once(
    tmp_path: Path, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _engines(tmp_path, "e", "e-2") as (_, second):
        second.script = Script(tear_after=1)
        fleet, _ = _fleet(tmp_path, clock)
        calls = [fleet.start(ROUTE, STREAM) for _ in range(16)]
        for call in calls:
            call.opened()
        _slow_question(monkeypatch, is_well=False, of="e-2.sock")

        def read(call: FleetCall) -> None:
            with suppress(EngineProtocolError):
                list(call.events())

        with ThreadPoolExecutor(len(calls)) as pool:
            list(pool.map(read, calls))
        for call in calls:
            call.close()
        assert fleet._instances.known["e-2.sock"].out_until == clock.monotonic() + FIRST_OUT_SECONDS
        fleet.close()


def test_a_call_that_is_sent_as_its_instance_is_found_to_be_gone_is_answered_by_another(
    tmp_path: Path, clock: FixedClock
) -> None:
    with _engines(tmp_path, "e", "e-2") as (first, second):
        fleet, _ = _fleet(tmp_path, clock)
        second.script = Script(hold=threading.Event())
        calls = [fleet.start(ROUTE, CHAT) for _ in range(2)]
        second.is_ready = False
        fleet._look_after("e-2.sock")  # before either call waits

        assert [_text(call.answer()) for call in calls] == ["You said: hi"] * 2
        assert len(first.asked) == 2
        for call in calls:
            call.close()
        fleet.close()
