"""Keys of nodes compared with what the records say: another one is refused by name, what lacks is said."""

import pytest

from appliance.audit import nodekeys
from appliance.audit.facts import Appended
from appliance.audit.leaf import Via
from appliance.audit.log import Entry, Log
from appliance.audit.memory import MemoryLedger
from appliance.errors import KeyMissingError

A, B, C = "a" * 64, "b" * 64, "c" * 64
OWN = {"session.v1": A, "api-key-pepper.v1": B}


@pytest.fixture
def log() -> Log:
    made = MemoryLedger().log
    made.node = "a"
    return made


def add(log: Log, kind: str, body: dict[str, object], *, door: str = "ledger-actions") -> None:
    (done,) = log.append([Entry.of(kind, body, via=Via(door=door, uid=0))])
    assert isinstance(done, Appended)


def recorded(log: Log) -> list[object]:
    return [leaf.body["keys"] for leaf in log.find(kind=nodekeys.RECORDED, newest_first=False)]


def test_the_first_node_says_what_its_keys_are_once(log: Log) -> None:
    assert nodekeys.settle(log, OWN).text == ""
    assert nodekeys.settle(log, OWN).text == ""

    assert recorded(log) == [OWN]


def test_another_key_is_refused_by_name_and_nothing_is_recorded(log: Log) -> None:
    nodekeys.settle(log, OWN)
    log.node = "b"
    size = log.head().size

    with pytest.raises(KeyMissingError) as caught:
        nodekeys.settle(log, {**OWN, "api-key-pepper.v1": C, "phi-map.v1": C})

    assert caught.value.what == "other keys than those of node a: api-key-pepper.v1"
    assert "copy api-key-pepper.v1 from /etc/sealift/keys of node a" in caught.value.fix
    assert log.head().size == size


def test_a_version_that_one_node_alone_has_is_said_on_the_other(log: Log) -> None:
    nodekeys.settle(log, OWN)
    log.node = "b"
    nodekeys.settle(log, {**OWN, "session.v2": C})

    found = nodekeys.compare(log, log.origin, OWN)

    assert recorded(log) == [OWN, {"session.v2": C}]
    assert found.text == "session.v2 is not here, node b has it"


def rotated(version: int, commitment: str) -> dict[str, object]:
    return {"name": "session", "version": version, "reason": "so", "commitment": commitment}


def test_a_rotation_is_said_where_it_has_not_arrived_and_refused_where_it_is_another(log: Log) -> None:
    nodekeys.settle(log, OWN)
    add(log, "key.rotated", rotated(2, C))

    assert nodekeys.compare(log, log.origin, OWN).text == "session.v2 is not here, node a has it"
    assert nodekeys.compare(log, log.origin, {**OWN, "session.v2": C}).text == ""
    with pytest.raises(KeyMissingError, match=r"session\.v2"):
        nodekeys.settle(log, {**OWN, "session.v2": A})


def test_a_number_that_is_used_again_after_a_rotation_was_taken_back_is_the_later_one(log: Log) -> None:
    nodekeys.settle(log, OWN)
    add(log, "key.rotated", rotated(2, A))
    add(log, "key.rotated", rotated(2, C))

    assert nodekeys.settle(log, {**OWN, "session.v2": C}).text == ""


def test_a_number_that_a_single_node_used_again_shuts_nobody_out(log: Log) -> None:
    nodekeys.settle(log, OWN)
    add(log, "key.rotated", rotated(2, A))  # recorded, and not answered: taken back
    log.node = ""
    add(log, "key.rotated", {name: value for name, value in rotated(2, C).items() if name != "commitment"})
    log.node = "a"

    assert nodekeys.settle(log, {**OWN, "session.v2": C}).text == ""
    log.node = "b"
    with pytest.raises(KeyMissingError, match=r"session\.v2"):
        nodekeys.settle(log, {**OWN, "session.v2": A})


def test_what_was_destroyed_on_one_node_is_said_where_it_is_still_here_and_never_asked_for(log: Log) -> None:
    both = {**OWN, "session.v2": C}
    nodekeys.settle(log, both)
    add(log, "key.destroyed", {"name": "session", "files": ["session.v1"], "digests": [], "reason": "so"})

    left = nodekeys.settle(log, both)

    assert left.text == "session.v1 was destroyed on another node and is still here"
    assert nodekeys.compare(log, log.origin, {name: both[name] for name in both if name != "session.v1"}).text == ""


def test_only_the_ledger_itself_and_roots_door_are_believed(log: Log) -> None:
    nodekeys.settle(log, OWN)
    add(log, nodekeys.RECORDED, {"format": 1, "keys": {"phi-map.v1": A}})
    add(log, "key.rotated", rotated(2, C), door="ledger-gateway")
    add(log, "key.destroyed", {"files": ["session.v1"]}, door="ledger-gateway")

    assert nodekeys.settle(log, OWN).text == ""


def test_a_record_of_a_later_form_is_passed_over(log: Log) -> None:
    add(log, nodekeys.RECORDED, {"format": 2, "keys": ["x"]}, door="ledger")
    add(log, nodekeys.RECORDED, {"format": 2, "keys": dict.fromkeys(OWN, C)}, door="ledger")

    assert nodekeys.settle(log, OWN).text == ""


def test_another_epoch_begins_anew(log: Log) -> None:
    nodekeys.settle(log, OWN)

    assert nodekeys.compare(log, "sealift/demo/0000", {"session.v1": C}).text == ""


def test_of_keys_that_a_unit_does_not_see_it_says_nothing(log: Log) -> None:
    nodekeys.settle(log, {**OWN, "session.v2": C})

    assert nodekeys.settle(log, {"api-key-pepper.v1": B}).text == ""
    assert nodekeys.settle(log, {"session.v2": C}).text == "session.v1 is not here, node a has it"
