"""Which requests a start closes, where one node records and where several do."""

import pytest

from appliance.audit.entry import Entry
from appliance.audit.leaf import Via
from appliance.audit.lives import STARTED, left_open
from appliance.audit.log import Log
from appliance.audit.memory import MemoryLedger

GATEWAY = Via(door="ledger-gateway", uid=0)
OWN = Via(door="ledger", uid=0)


@pytest.fixture
def log() -> Log:
    return MemoryLedger().log


def begin(log: Log, node: str, *requests: str) -> None:
    log.node = node
    log.append([Entry.of("request.intent", {"request_id": request}, via=GATEWAY) for request in requests])


def end(log: Log, node: str, *requests: str) -> None:
    log.node = node
    body = {"outcome": "ok"}
    log.append([Entry.of("request.outcome", {"request_id": one, **body}, via=GATEWAY) for one in requests])


def start(log: Log, node: str, *, is_alone: bool = True) -> list[str]:
    """Close what a start of this node closes, note the start; return what was closed."""
    log.node = node
    found = [request for request, _ in left_open(log, is_alone=is_alone)]
    end(log, node, *found)
    log.append([Entry.of(STARTED, {"alone": is_alone} if node else {}, via=OWN)])
    return found


def test_a_single_node_closes_everything_that_is_open(log: Log) -> None:
    start(log, "")
    begin(log, "", "x", "y")
    end(log, "", "x")

    assert start(log, "") == ["y"]
    assert start(log, "") == []


def test_a_node_closes_its_own_and_never_those_of_another_that_lives(log: Log) -> None:
    start(log, "a")
    start(log, "b", is_alone=False)
    begin(log, "a", "of-a")
    begin(log, "b", "of-b")

    assert start(log, "a", is_alone=False) == ["of-a"]
    assert start(log, "a", is_alone=False) == []
    assert start(log, "b", is_alone=False) == ["of-b"]


def test_being_alone_is_no_reason_to_close_what_a_node_that_may_come_back_left_open(log: Log) -> None:
    start(log, "a")
    start(log, "b", is_alone=False)
    begin(log, "b", "of-b")

    assert start(log, "a", is_alone=True) == []
    assert start(log, "b", is_alone=False) == ["of-b"]


def test_what_a_single_node_left_open_is_closed_once_by_the_first_of_several_that_is_alone(log: Log) -> None:
    start(log, "")
    begin(log, "", "old")

    assert start(log, "b", is_alone=True) == ["old"]
    assert start(log, "a", is_alone=False) == []
    assert start(log, "a", is_alone=True) == []


def test_a_node_that_is_not_alone_leaves_what_a_single_node_left_open(log: Log) -> None:
    start(log, "")
    begin(log, "", "old")

    assert start(log, "a", is_alone=False) == []
    assert start(log, "b", is_alone=True) == ["old"]


def test_a_single_node_after_several_closes_what_each_of_them_left_open(log: Log) -> None:
    start(log, "b")
    begin(log, "b", "of-b")
    start(log, "a", is_alone=False)
    begin(log, "a", "of-a")
    start(log, "a", is_alone=False)
    begin(log, "a", "again")

    assert start(log, "") == ["of-b", "again"]
    assert start(log, "") == []
