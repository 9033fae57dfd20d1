"""Signs of life of our own loops: none from what hangs."""

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance import unit
from appliance.audit.leaf import Via
from appliance.audit.log import Entry
from appliance.audit.writer import Writer
from appliance.serve.engine import Generation, Row, Sampling
from appliance.serve.scheduler import Scheduler
from appliance.watchdog.loops import Doors, Pulse, Watchdog, is_free
from tests.support.decoder import EchoDecoder
from tests.support.notices import received


class Hand:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_a_sign_of_life_is_given_only_while_every_part_turns() -> None:
    told: list[str] = []
    turning = {"writer", "doors"}
    probes = {"writer": lambda: "writer" in turning, "doors": lambda: "doors" in turning}
    watchdog = Watchdog(probes, limit_seconds=60, tell=told.append)

    assert watchdog.look()
    turning.remove("doors")
    assert not watchdog.look()
    turning.add("doors")
    assert watchdog.look()

    assert told == ["WATCHDOG=1", "STATUS=no sign of life from: doors", "WATCHDOG=1"]


def test_a_part_that_never_answers_silences_the_service() -> None:
    told: list[str] = []
    asked, freed = threading.Event(), threading.Event()

    def never() -> bool:
        asked.set()
        return freed.wait()

    watchdog = Watchdog({"part": never}, limit_seconds=0.004, tell=told.append)
    watchdog.start()

    assert asked.wait(30)
    assert told == []
    watchdog.stop()
    freed.set()


def test_without_a_limit_nothing_is_asked_or_told() -> None:
    asked: list[str] = []

    def ask() -> bool:
        asked.append("asked")
        return True

    before = set(threading.enumerate())
    Watchdog({"part": ask}, limit_seconds=0, tell=asked.append).start()

    # Another test's may still be ending.
    assert not [thread for thread in threading.enumerate() if thread.name == "watchdog" and thread not in before]
    assert asked == []


def test_a_pulse_ages() -> None:
    hand = Hand()
    pulse = Pulse(now=hand)
    hand.at += 10

    assert pulse.within(10)
    hand.at += 1
    assert not pulse.within(10)
    pulse.beat()
    assert pulse.within(0)


def test_one_door_that_does_not_turn_is_enough() -> None:
    doors = Doors(["a", "b"])

    assert doors.turn(60)
    doors._pulses["b"] = Pulse(now=iter([0.0, 100.0, 0.0, 100.0]).__next__)
    assert not doors.turn(60)


def test_a_lock_that_is_never_given_back_is_no_life() -> None:
    lock = threading.Lock()

    assert is_free(lock, 0.01)
    with lock:
        assert not is_free(lock, 0.01)
    assert is_free(lock, 0.01)


class StuckLog:
    """A log whose disk does not come back until it is told to."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()
        self.backend: Any = self
        self.failed = False

    def append(self, entries: Sequence[Entry]) -> list[Any]:
        self.entered.set()
        self.released.wait()
        return [None] * len(entries)

    def tidy(self) -> None:
        """Nothing to tidy."""


def test_the_ledgers_writer_turns_until_a_write_hangs() -> None:
    log = StuckLog()
    writer = Writer(log, on_failure=lambda: None)  # type: ignore[arg-type]
    writer.start()

    assert writer.turns(30)
    assert not log.entered.is_set(), "a question writes nothing"
    writer.submit([Entry(kind="request.intent", body=b"{}", term="", via=Via(door="d", uid=0))], lambda _: None)
    assert log.entered.wait(30)
    assert not writer.turns(0.01)
    log.released.set()
    assert writer.turns(30)
    writer.stop()


class StuckDecoder(EchoDecoder):
    """A decoder whose step does not end until it is told to."""

    entered = threading.Event()
    unstuck = threading.Event()

    def decode(self, rows: Sequence[Row]) -> bool:
        self.entered.set()
        self.unstuck.wait()
        return super().decode(rows)


def test_the_engines_scheduler_turns_until_a_step_hangs() -> None:
    decoder = StuckDecoder()
    scheduler = Scheduler(decoder)

    assert scheduler.turns(30)
    handle = scheduler.submit(
        Generation(tokens=[ord("a")], max_tokens=4, sampling=Sampling(temperature=0, top_p=1, seed=0), stop=())
    )
    assert decoder.entered.wait(30)
    assert not scheduler.turns(0.01)
    decoder.unstuck.set()
    assert scheduler.turns(30)
    handle.cancel()
    scheduler.stop()
    assert not scheduler.turns(0.01)


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with received(tmp_path, monkeypatch) as notices:
        yield notices


def test_the_notifier_works_where_the_socket_can_no_longer_be_opened(supervisor: socket.socket) -> None:
    notifier = unit.Notifier()
    notifier.connect()
    Path(supervisor.getsockname()).unlink()

    notifier.tell("READY=1")
    notifier.close()

    assert supervisor.recv(100) == b"READY=1"


def test_where_no_supervisor_listens_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "_taken", {})
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)

    unit.notify("nobody listens")


@pytest.mark.parametrize(
    ("microseconds", "pid", "expected"),
    [("90000000", "", 90.0), ("500000", "own", 0.5), ("90000000", "1", 0.0), ("", "", 0.0), ("soon", "", 0.0)],
)
def test_the_watchdogs_limit_is_that_of_this_process(
    monkeypatch: pytest.MonkeyPatch, microseconds: str, pid: str, expected: float
) -> None:
    monkeypatch.setattr(unit, "_taken", {})
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)

    assert unit.watchdog_seconds() == expected
