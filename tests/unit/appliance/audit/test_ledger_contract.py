"""What every way into a ledger promises: in memory, through a door, and from the file while the service is down."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.audit import tree
from appliance.audit.client import Ledger, SocketLedger
from appliance.audit.leaf import Leaf
from appliance.audit.memory import MemoryLedger
from appliance.audit.note import VerifierKey, verify_checkpoint
from appliance.audit.offline import OfflineLedger
from appliance.errors import LedgerRefusedError, LedgerUnavailableError, ProofError
from media.clock import SystemClock
from media.errors import UsageError
from tests.support.ledger import DIGEST_A, bodies, intent, ledger_site, write_history

SERVER = pytest.mark.interop  # the same, with the records on a PostgreSQL server


@pytest.fixture(params=["memory", "door", pytest.param("server door", marks=SERVER)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger to append to; the door is that of actions, so its tests stay with kinds of that door."""
    if request.param == "memory":
        yield MemoryLedger()
        return
    database = request.getfixturevalue("on_server").server if request.param == "server door" else None
    with ledger_site(tmp_path, database=database) as site, site.running():
        through = site.door("ledger-actions")
        yield through
        through.close()


@pytest.fixture(
    params=[
        "memory",
        "door",
        "file",
        pytest.param("server door", marks=SERVER),
        pytest.param("server tables", marks=SERVER),
    ],
    scope="module",
)
def history(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A ledger with the same few hundred leaves, however it is reached. Only read it."""
    if request.param == "memory":
        ledger = MemoryLedger()
        write_models(ledger)
        yield ledger
        return
    database = request.getfixturevalue("new_database")() if request.param.startswith("server") else None
    with ledger_site(tmp_path_factory.mktemp("history"), database=database) as site:
        with site.running():
            through = site.door("ledger-actions")
            write_models(through)
            through.checkpoint()
            if request.param.endswith("door"):
                yield through
            through.close()
        if not request.param.endswith("door"):
            yield OfflineLedger(site.places, clock=SystemClock())


def write_models(ledger: Ledger) -> None:
    for number in range(300):
        ledger.append("model.noted", {"number": number, "even": number % 2 == 0, "at": {"shelf": f"s{number % 7}"}})
    ledger.append("gate.result", bodies()["gate.result"])
    ledger.append("custody.noted", {"request_id": "req_1", "text": "Zürich"})


def noted(ledger: Ledger) -> int:
    """Return the sequence of the first model.noted."""
    return ledger.find("model.noted", limit=1, newest_first=False)[0].sequence


def test_what_was_appended_can_be_read_at_its_sequence(ledger: Ledger) -> None:
    appended = ledger.append("gate.result", bodies()["gate.result"])

    leaf = ledger.leaf(appended.sequence)

    assert (leaf.kind, leaf.body, leaf.hash, leaf.time) == (
        "gate.result",
        bodies()["gate.result"],
        appended.leaf_hash,
        appended.time,
    )
    assert Leaf.from_bytes(leaf.raw).body == leaf.body


def test_sequences_rise_by_one(ledger: Ledger) -> None:
    sequences = [ledger.append("model.noted", {"n": number}).sequence for number in range(5)]

    assert sequences == list(range(sequences[0], sequences[0] + 5))
    assert ledger.head().size == sequences[-1] + 1


def test_records_of_several_threads_follow_one_another(ledger: Ledger) -> None:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # as on a busy machine, where threads leave off anywhere
    try:
        with ThreadPoolExecutor(4) as pool:
            appended = list(pool.map(lambda number: ledger.append("model.noted", {"n": number}), range(40)))
    finally:
        sys.setswitchinterval(usual)

    assert len({one.sequence for one in appended}) == 40
    assert [leaf.sequence for leaf in ledger.leaves(0, 100)] == list(range(ledger.head().size))


def test_the_first_leaf_names_the_origin_and_the_key(ledger: Ledger) -> None:
    opening = ledger.leaf(0)

    assert opening.kind == "ledger.opened"
    assert opening.body["origin"] == opening.origin == ledger.head().origin
    assert VerifierKey.from_text(opening.body["vkey"]).name == opening.origin


@pytest.mark.parametrize("kind", ["nonsense", "", "A.b", "model.", "x" * 100])
def test_a_kind_in_no_proper_form_is_refused(ledger: Ledger, kind: str) -> None:
    with pytest.raises(LedgerRefusedError):
        ledger.append(kind, {})


def test_a_body_that_cannot_be_written_is_refused_and_leaves_no_trace(ledger: Ledger) -> None:
    size = ledger.head().size

    for body in ({"n": 2**60}, {"n": float("nan")}, {"n": b"x"}, {"n": "\ud800"}, {"n": {1, 2}}):
        with pytest.raises(LedgerRefusedError):
            ledger.append("model.noted", body)

    assert ledger.head().size == size


def test_a_body_that_breaks_the_shape_of_its_kind_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerRefusedError):
        ledger.append("gate.result", {"gate": "smoke"})


def test_leaves_come_in_order_and_in_the_number_asked_for(history: Ledger) -> None:
    first = noted(history)

    found = history.leaves(first + 10, 250)

    assert [leaf.sequence for leaf in found] == list(range(first + 10, first + 260))
    assert history.leaves(history.head().size, 10) == []
    assert history.leaves(0, 0) == []


def test_leaves_of_some_kinds_come_in_order_without_the_rest(history: Ledger) -> None:
    found = history.leaves(0, 10**6, kinds={"custody.noted", "gate.result", "no.such"})

    assert [leaf.kind for leaf in found] == ["gate.result", "custody.noted"]
    assert history.leaves(0, 10, kinds=[]) == []


def test_the_newest_of_a_kind_is_found_first_unless_asked_otherwise(history: Ledger) -> None:
    newest = history.find("model.noted", limit=3)
    oldest = history.find("model.noted", limit=3, newest_first=False)

    assert [leaf.body["number"] for leaf in newest] == [299, 298, 297]
    assert [leaf.body["number"] for leaf in oldest] == [0, 1, 2]


def test_a_family_of_kinds_is_named_by_its_first_word(history: Ledger) -> None:
    assert {leaf.kind for leaf in history.find("model.", limit=400)} == {"model.noted"}
    assert len(history.find("model.", limit=400)) == 300
    assert history.find("mod.") == []


def test_a_field_of_the_body_is_compared_by_value_and_type(history: Ledger) -> None:
    assert [leaf.body["number"] for leaf in history.find(field="number", value=41)] == [41]
    assert history.find(field="number", value="41") == []
    assert history.find(field="number", value=True) == []
    assert len(history.find("model.noted", "even", value=True, limit=1000)) == 150
    assert [leaf.body["number"] for leaf in history.find(field="at.shelf", value="s3", limit=2)] == [297, 290]
    assert history.find(field="at.shelf.deeper", value="s3") == []
    assert history.find(field="text", value="Zürich")[0].kind == "custody.noted"


def test_a_request_is_found_by_its_id(history: Ledger) -> None:
    assert [leaf.kind for leaf in history.find(field="request_id", value="req_1")] == ["custody.noted"]
    assert history.find("gate.result", field="request_id", value="req_1") == []
    assert history.find(field="request_id", value="") == []


def test_every_leaf_is_proven_in_the_signed_tree(history: Ledger) -> None:
    key = VerifierKey.from_text(history.leaf(0).body["vkey"])

    for sequence in (0, 1, 17, 299):
        proof = history.inclusion(sequence)
        checkpoint = verify_checkpoint(proof.note, [key])

        proof.require(history.leaf(sequence).raw)
        assert (checkpoint.size, checkpoint.root.hex()) == (proof.size, proof.root)
        with pytest.raises(ProofError):
            proof.require(history.leaf(sequence + 1).raw)


def test_a_leaf_can_be_proven_in_any_tree_that_has_it(history: Ledger) -> None:
    proof = history.inclusion(5, 100)

    proof.require(history.leaf(5).raw)
    assert (proof.size, proof.sequence) == (100, 5)


def test_trees_of_any_two_sizes_are_consistent(history: Ledger) -> None:
    size = history.head().size

    for old, new in ((0, size), (1, 2), (100, 257), (256, size), (size, size)):
        history.consistency(old, new).require()

    assert history.consistency(1, size).new_root == history.head().root


def test_the_nodes_that_leaves_complete_are_given_as_they_are_stored(history: Ledger) -> None:
    size = history.head().size
    frontier: list[bytes] = []
    made = []
    for leaf in history.leaves(0, size):
        hashed = tree.leaf_hash(leaf.raw)
        made.append({(0, leaf.sequence, hashed), *tree.push(frontier, leaf.sequence, hashed)})

    for start, end in ((0, size), (0, 1), (5, 8), (7, 7), (size - 3, size + 10), (size + 5, size + 9)):
        found = history.nodes(start, end)
        assert len(found) == len(set(found))
        assert set(found) == {node for nodes in made[start:end] for node in nodes}


def test_proofs_of_what_is_not_there_are_refused(history: Ledger) -> None:
    size = history.head().size

    for ask in (
        lambda: history.inclusion(size),
        lambda: history.inclusion(3, size + 1),
        lambda: history.inclusion(3, 3),
        lambda: history.consistency(1, size + 1),
        lambda: history.consistency(3, 2),
    ):
        with pytest.raises(ProofError):
            ask()


def test_a_sequence_beyond_the_end_is_a_usage_error(history: Ledger) -> None:
    with pytest.raises(UsageError):
        history.leaf(history.head().size)


def test_a_checkpoint_signs_the_present_tree(history: Ledger) -> None:
    key = VerifierKey.from_text(history.leaf(0).body["vkey"])

    checkpoint = verify_checkpoint(history.checkpoint(), [key])

    assert (checkpoint.origin, checkpoint.size, checkpoint.root.hex()) == (
        history.head().origin,
        history.head().size,
        history.head().root,
    )


def test_a_ledger_that_is_switched_off_records_nothing() -> None:
    ledger = MemoryLedger()
    ledger.available = False

    with pytest.raises(LedgerUnavailableError):
        ledger.append("request.intent", intent("req_1"))

    ledger.available = True
    assert ledger.head().size == 1


def test_a_history_in_memory_holds_all_kinds_of_all_doors() -> None:
    ledger = MemoryLedger()

    write_history(ledger)

    assert len(ledger.find("request.intent", "model_digest", DIGEST_A)) == len(bodies())


def test_the_oldest_record_of_a_request_comes_first_when_asked() -> None:
    ledger = MemoryLedger()
    for kind in ("request.intent", "request.outcome"):
        ledger.append(kind, intent("req_1"))

    assert [leaf.kind for leaf in ledger.find(field="request_id", value="req_1", newest_first=False)] == [
        "request.intent",
        "request.outcome",
    ]


@pytest.mark.parametrize("broken", [("zz",), ("00",), ()])
def test_a_proof_with_broken_hashes_proves_nothing(broken: tuple[str, ...]) -> None:
    ledger = MemoryLedger()
    write_history(ledger)
    proof = ledger.inclusion(3)

    with pytest.raises(ProofError):
        replace(proof, hashes=broken).require(ledger.leaf(3).raw)
    with pytest.raises(ProofError):
        replace(proof, root="nothing").require(ledger.leaf(3).raw)
    with pytest.raises(ProofError):
        replace(ledger.consistency(3, 9), hashes=broken).require()


def test_a_ledger_that_nobody_serves_is_unavailable(tmp_path: Path) -> None:
    ledger = SocketLedger(tmp_path / "absent.sock")

    for ask in (lambda: ledger.append("model.noted", {}), ledger.head, ledger.checkpoint):
        with pytest.raises(LedgerUnavailableError):
            ask()
