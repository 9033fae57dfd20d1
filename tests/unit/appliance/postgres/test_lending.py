"""Connections that are lent: one thread each, tried when they are old, and no line before a server that is away."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from appliance.errors import DatabaseError
from appliance.postgres.connecting import AwayError
from appliance.postgres.lending import Connections
from appliance.postgres.session import Session, StatementError
from media.clock import FixedClock


class FakeSession:
    """One that a test can break; `statements` is what it was asked."""

    def __init__(self) -> None:
        self.is_lost = False
        self.statements: list[str] = []

    def all(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        self.statements.append(statement)
        if self.is_lost:
            raise StatementError(why="gone", passing=False)
        return [tuple(values)]

    def close(self) -> None:
        self.is_lost = True


class FakeServer:
    """Makes sessions, or says why not."""

    def __init__(self) -> None:
        self.made: list[FakeSession] = []
        self.asked = 0
        self.away = False

    def make(self) -> Session:
        self.asked += 1
        if self.away:
            raise AwayError(what="the server is away", why="no such file", fix="start it")
        self.made.append(FakeSession())
        return cast("Session", self.made[-1])


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 20, tzinfo=UTC))


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


def lending(server: FakeServer, clock: FixedClock, *, most: int = 2) -> Connections:
    return Connections(server.make, most=most, wait_seconds=0.01, clock=clock)


def test_one_is_used_again_and_two_threads_never_have_the_same(server: FakeServer, clock: FixedClock) -> None:
    connections = lending(server, clock)
    for _ in range(3):
        with connections.lent() as first:
            first.all("SELECT 2")
    assert [one.statements for one in server.made] == [["SELECT 2"] * 3]

    with connections.lent() as one, connections.lent() as other:
        assert one is not other


def test_who_finds_all_in_use_is_refused_after_a_while(server: FakeServer, clock: FixedClock) -> None:
    connections = lending(server, clock, most=1)
    found: list[str] = []

    def ask() -> None:
        try:
            with connections.lent():
                pass
        except DatabaseError as error:
            found.append(error.what)

    with connections.lent():
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert found == ["the PostgreSQL server does not answer in time"]
    with connections.lent():
        pass


def test_who_waits_comes_before_who_gives_one_back_and_asks_again(server: FakeServer, clock: FixedClock) -> None:
    connections = Connections(server.make, most=1, wait_seconds=20, clock=clock)
    order: list[str] = []
    waits = threading.Event()

    def ask() -> None:
        waits.set()
        with connections.lent():
            order.append("who waited")

    with connections.lent():
        thread = threading.Thread(target=ask)
        thread.start()
        waits.wait(20)
        while not connections._turns._waiting:
            pass
    with connections.lent():
        order.append("who had it")
    thread.join()

    assert order == ["who waited", "who had it"]


def test_one_that_nobody_used_for_a_while_is_tried_first_and_replaced(server: FakeServer, clock: FixedClock) -> None:
    connections = lending(server, clock)
    with connections.lent():
        pass
    server.made[0].is_lost = True
    clock.advance(60)

    with connections.lent() as session:
        session.all("SELECT 2")

    assert [one.statements for one in server.made] == [["SELECT 1"], ["SELECT 2"]]


def test_a_lost_one_takes_the_idle_ones_with_it(server: FakeServer, clock: FixedClock) -> None:
    connections = lending(server, clock)
    with connections.lent(), connections.lent():
        pass
    server.made[0].is_lost = True  # the one that was given back last
    with pytest.raises(StatementError), connections.lent() as session:
        session.all("SELECT 2")

    assert server.made[1].is_lost
    with connections.lent() as session:
        session.all("SELECT 3")
    assert len(server.made) == 3


def test_while_the_server_is_away_nobody_waits_for_one_more_try(server: FakeServer, clock: FixedClock) -> None:
    connections = lending(server, clock, most=1)
    server.away = True
    for _ in range(5):
        with pytest.raises(AwayError) as refused, connections.lent():
            pass
        assert (refused.value.what, refused.value.fix) == ("the server is away", "start it")
    assert server.asked == 1

    server.away = False
    clock.advance(2)
    with connections.lent():
        pass
