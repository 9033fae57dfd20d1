"""A request that an engine had not read when it went is no reason why it went: others are asked for it."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import EngineUnavailableError
from appliance.gateway.fleet import Fleet
from appliance.gateway.metrics import Metrics
from appliance.gateway.upstream import Upstream
from media.clock import FixedClock
from tests.support.engine import FakeEngine, fake_engine

ROUTE = "/v1/chat/completions"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
_BYTES = 65536


class _Supervised:
    """An engine's socket and what takes its connections; each reads them, or lets them lie, and goes when told."""

    def __init__(self, path: Path, *, takes: bool, reads: bool) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(16)
        self.taken = threading.Event()
        self._kept: list[socket.socket] = []
        self._reads = reads
        if takes:
            threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        connection, _ = self.listener.accept()
        if self._reads:
            asked = b""
            while b'"hi"' not in asked:
                asked += connection.recv(_BYTES)
        self._kept.append(connection)
        self.taken.set()

    def go(self) -> None:
        """End it, and with it its socket, as a service that starts again does."""
        self.listener.close()
        for connection in self._kept:
            connection.close()


@contextmanager
def _three(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, takes: bool, reads: bool
) -> Iterator[tuple[Fleet, list[_Supervised], FakeEngine]]:
    """Run two engines that go, and a standby that is well; a moment ago all three had said something."""
    monkeypatch.setattr(Upstream, "is_well", lambda upstream, _: "standby" in upstream.name)
    names = ["e.sock", "e-cpu.sock"]
    with ExitStack() as stack:
        standby = stack.enter_context(fake_engine(folder / "e-standby.sock"))
        going = [_Supervised(folder / name, takes=takes, reads=reads) for name in names]
        for one in going:
            stack.callback(one.go)
        fleet = Fleet(folder / "e.sock", clock=FixedClock(datetime(2026, 12, 1, tzinfo=UTC)), metrics=Metrics())
        stack.callback(fleet.close)
        fleet._look()
        for name in [*names, standby.path.name]:
            fleet.heard(name)
        yield fleet, going, standby


def _asked(fleet: Fleet, going: list[_Supervised]) -> list[object]:
    """Ask, and let each engine go once the request waits at it; return what was said, or the error."""
    said: list[object] = []

    def ask() -> None:
        call = fleet.start(ROUTE, CHAT)
        try:
            said.append(call.answer()["choices"][0]["message"]["content"])
        except EngineUnavailableError as error:
            said.append(error)
        call.close()

    caller = threading.Thread(target=ask)
    caller.start()
    for name, one in zip(("e.sock", "e-cpu.sock"), going, strict=True):
        until = time.monotonic() + 10
        while fleet.departures.waiting(name) < 1 and caller.is_alive():
            assert time.monotonic() < until
            time.sleep(0.002)
        one.go()
    caller.join(10)
    return said


def test_who_waited_at_two_engines_that_went_before_they_took_the_call_is_answered_by_the_third(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _three(tmp_path, monkeypatch, takes=False, reads=False) as (fleet, going, standby):
        assert _asked(fleet, going) == ["You said: hi"]
        assert len(standby.asked) == 1


def test_who_was_read_by_neither_of_two_engines_that_went_is_answered_by_the_third(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _three(tmp_path, monkeypatch, takes=True, reads=False) as (fleet, going, standby):
        assert _asked(fleet, going) == ["You said: hi"]
        assert len(standby.asked) == 1


def test_what_two_engines_had_read_when_they_went_is_given_to_no_third(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _three(tmp_path, monkeypatch, takes=True, reads=True) as (fleet, going, standby):
        watch = [threading.Thread(target=_goes_when_read, args=(one,)) for one in going]
        for thread in watch:
            thread.start()
        call = fleet.start(ROUTE, CHAT)
        with pytest.raises(EngineUnavailableError):
            call.answer()
        call.close()
        for thread in watch:
            thread.join(10)
        assert not standby.asked, "it may be what they died of"


def _goes_when_read(one: _Supervised) -> None:
    assert one.taken.wait(10)
    one.go()


@pytest.mark.parametrize(("reads", "asked"), [(False, 1), (True, 0)])
def test_who_waits_at_engines_that_stand_still_is_answered_by_the_third_where_neither_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, reads: bool, asked: int
) -> None:
    with _three(tmp_path, monkeypatch, takes=True, reads=reads) as (fleet, going, standby):
        monkeypatch.setattr(Upstream, "stands_still", lambda upstream: "standby" not in upstream.name)
        call = fleet.start(ROUTE, CHAT)

        def look_after_each() -> None:
            for name, one in zip(("e.sock", "e-cpu.sock"), going, strict=True):
                until = time.monotonic() + 10
                while not (one.taken.is_set() and fleet.departures.waiting(name)):
                    assert time.monotonic() < until
                    time.sleep(0.002)
                fleet._look_after(name)

        looking = threading.Thread(target=look_after_each)
        looking.start()
        if asked:
            assert call.answer()["choices"]
        else:
            with pytest.raises(EngineUnavailableError):
                call.answer()
        call.close()
        looking.join(10)
        assert len(standby.asked) == asked
