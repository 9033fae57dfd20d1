"""Callers who want to know the same wait for one look at it, never one after another."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance.audit.memory import MemoryLedger
from appliance.errors import DatabaseError, LedgerUnavailableError, StoreDamagedError
from appliance.gateway.auth import StateApiKeys
from appliance.gateway.conversations import Conversations
from appliance.gateway.fleets import Upstreams
from appliance.gateway.health import Found, Readiness
from appliance.gateway.onelook import OneLook
from appliance.gateway.quotas import Quotas
from appliance.gateway.resting import Resting
from appliance.gateway.routing import Serving
from appliance.standby.permit import Always
from media.clock import FixedClock
from media.errors import SealiftError
from tests.support.gateway import OneRoute, site_file

CALLERS = 4


@dataclass(slots=True)
class Watched(FixedClock):
    """A clock that tells when each caller has looked at it."""

    looked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def monotonic(self) -> float:
        self.looked.release()
        return self.ticks


@pytest.fixture
def clock() -> Watched:
    return Watched(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))


@dataclass(slots=True)
class Slow:
    """What takes ten seconds to be found, while all others come; `error` is what comes of it."""

    clock: Watched
    error: SealiftError | None = None
    looks: int = 0
    goes_on: threading.Event = field(default_factory=threading.Event)

    def look(self) -> int:
        self.looks += 1
        assert self.goes_on.wait(10)
        self.clock.advance(10)
        if self.error is not None:
            raise self.error
        return self.looks


def told(slow: Slow, ask: Callable[[], Any]) -> list[Any]:
    """Return what callers who come at once are told."""
    found: list[Any] = []

    def one() -> None:
        try:
            found.append(ask())
        except SealiftError as error:
            found.append(error)

    threads = [threading.Thread(target=one) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for _ in range(CALLERS + 1):  # each when it comes, and the first one when it looks
        assert slow.clock.looked.acquire(timeout=10)
    slow.goes_on.set()
    for thread in threads:
        thread.join(10)
    return found


def test_who_waited_for_a_look_is_told_what_it_found_and_who_comes_later_looks_anew(clock: Watched) -> None:
    slow = Slow(clock)
    looking = OneLook(slow.look, clock)

    assert told(slow, looking.found) == [1] * CALLERS
    assert (looking.found(), looking.found()) == (2, 3)  # each takes ten seconds, and what is older is told to nobody


def test_what_was_found_is_told_for_a_second(clock: Watched) -> None:
    found = iter(range(3))
    looking = OneLook(lambda: next(found), clock)

    first = looking.found()
    clock.advance(1)
    second = looking.found()
    clock.advance(0.1)

    assert (first, second, looking.found()) == (0, 0, 1)


@pytest.mark.parametrize("kind", [StoreDamagedError, DatabaseError, LedgerUnavailableError])
def test_who_waited_for_a_look_that_failed_is_told_so_and_waits_for_no_other(
    clock: Watched, kind: type[SealiftError]
) -> None:
    slow = Slow(clock, error=kind(what="the state cannot be read", why="locked", fix="wait"))
    looking = OneLook(slow.look, clock)

    found = told(slow, looking.found)

    assert [(type(one), one.what, one.why, one.fix) for one in found] == [
        (kind, "the state cannot be read", "locked", "wait")
    ] * CALLERS
    assert slow.looks == 1
    slow.error = None
    assert looking.found() == 2


def test_a_failure_of_another_kind_is_one_callers_alone(clock: Watched) -> None:
    slow = Slow(clock, error=SealiftError(what="odd"))

    assert len(told(slow, OneLook(slow.look, clock).found)) == slow.looks == CALLERS


def test_callers_do_not_wait_one_after_another_for_keys_that_cannot_be_read(clock: Watched, tmp_path: Path) -> None:
    slow = Slow(clock, error=StoreDamagedError(what="the keys cannot be read"))

    class Locked(StateApiKeys):
        def _row(self, key_id: str) -> Any:
            return slow.look()

    keys = Locked(site_file(tmp_path).at, clock)

    found = told(slow, lambda: keys.lookup("abcdefghij"))

    assert [type(one) for one in found] == [StoreDamagedError] * CALLERS
    assert slow.looks == 1


def test_whoever_asks_whether_the_box_is_well_waits_for_one_look_at_an_engine_that_stands_still(clock: Watched) -> None:
    slow = Slow(clock)
    engine = SimpleNamespace(is_well=lambda: bool(slow.look()) and False)
    ledger = MemoryLedger(FixedClock(clock.at))
    routes = OneRoute(
        cast("Any", SimpleNamespace(socket=Path("engine.sock"), places=0, name="m", also=(), model_digest=""))
    )
    readiness = Readiness(
        routes=routes,
        upstreams=cast("Upstreams", SimpleNamespace(to=lambda *_, **__: engine)),
        ledger=ledger,
        clock=clock,
        permit=Always(),
        resting=Resting(ledger, FixedClock(clock.at)),
        quotas=cast("Quotas", SimpleNamespace(require=lambda: None)),
    )

    assert told(slow, readiness.found) == [Found(missing=("engine",))] * CALLERS
    assert slow.looks == 1


def test_callers_do_not_wait_one_after_another_for_a_ledger_that_tells_no_conversation() -> None:
    asked: list[int] = []
    come = threading.Semaphore(0)

    class Silent(MemoryLedger):
        def head(self) -> Any:
            asked.append(1)
            assert all(come.acquire(timeout=10) for _ in range(CALLERS))
            time.sleep(0.3)  # until the last one waits, too
            raise LedgerUnavailableError(what="the ledger does not answer", why="", fix="")

    conversations = Conversations(Silent())
    serving = cast("Serving", SimpleNamespace(line=1, since=0, routes=()))

    def ask() -> None:
        come.release()
        with pytest.raises(LedgerUnavailableError):
            conversations.began(serving, "c")

    threads = [threading.Thread(target=ask) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(asked) == 1
