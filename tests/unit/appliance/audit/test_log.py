import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.audit import postgres_opening
from appliance.audit.backend import Backend
from appliance.audit.facts import Appended
from appliance.audit.leaf import Leaf, Via
from appliance.audit.log import FIRST_CHAIN, Entry, Log, Signer
from appliance.audit.memory import MemoryBackend
from appliance.audit.sqlite_backend import open_writer
from appliance.errors import KeyMissingError, LedgerDamagedError, LedgerRefusedError, LedgerUnavailableError
from media.clock import FixedClock

CLOCK = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
PRIVATE = Ed25519PrivateKey.generate()
SIGNER = Signer(public=PRIVATE.public_key().public_bytes_raw(), sign=PRIVATE.sign)
VIA = Via(door="ledger-actions", uid=7)


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.interop)])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    made: Backend
    if request.param == "memory":
        made = MemoryBackend()
    elif request.param == "sqlite":
        made = open_writer(tmp_path / "ledger.db")
    else:
        made = postgres_opening.open_writer(request.getfixturevalue("on_server"))
    yield made
    made.close()


def opened(backend: Backend) -> Log:
    return Log.open(backend, clock=CLOCK, site="demo", signer=SIGNER)


def entry(number: int, key: str = "", door: str = "ledger-actions") -> Entry:
    return Entry.of("model.noted", {"number": number}, via=Via(door=door, uid=7), key=key)


def sequences(answers: list[Appended | LedgerRefusedError]) -> list[int]:
    return [answer.sequence for answer in answers if isinstance(answer, Appended)]


def test_a_retry_with_the_same_key_gets_the_first_answer_and_adds_nothing(backend: Backend) -> None:
    log = opened(backend)
    first = log.append([entry(1, "k1"), entry(2, "k2")])

    again = log.append([entry(2, "k2"), entry(3, "k3"), entry(1, "k1")])

    assert again[0] == first[1]
    assert again[2] == first[0]
    assert log.head().size == 4


def test_a_retry_within_one_batch_is_one_record(backend: Backend) -> None:
    log = opened(backend)

    answers = log.append([entry(1, "k"), entry(1, "k"), entry(2)])

    assert sequences(answers) == [1, 1, 2]


def test_a_key_is_remembered_when_the_log_is_opened_again(backend: Backend) -> None:
    first = opened(backend).append([entry(1, "k")])

    again = opened(backend).append([entry(1, "k")])

    assert again == first


def test_a_key_used_for_another_record_is_refused_alone(backend: Backend) -> None:
    log = opened(backend)
    log.append([entry(1, "k")])

    answers = log.append([entry(2, "k"), entry(3)])

    assert isinstance(answers[0], LedgerRefusedError)
    assert sequences(answers) == [2]


def test_equal_keys_of_two_doors_are_two_keys(backend: Backend) -> None:
    log = opened(backend)

    answers = log.append([entry(1, "k"), entry(1, "k", "ledger-admin")])

    assert sequences(answers) == [1, 2]


def test_records_without_a_key_are_never_taken_for_retries(backend: Backend) -> None:
    assert sequences(opened(backend).append([entry(1), entry(1)])) == [1, 2]


def test_an_empty_batch_writes_nothing(backend: Backend) -> None:
    log = opened(backend)

    assert log.append([]) == []
    assert log.head().size == 1


def test_the_chain_is_the_hash_of_all_leaf_hashes_in_order(backend: Backend) -> None:
    log = opened(backend)
    log.append([entry(number) for number in range(5)])

    chain = FIRST_CHAIN
    for leaf in log.leaves(0, 10):
        chain = hashlib.sha256(chain + bytes.fromhex(leaf.hash)).digest()
        assert leaf.chain == chain.hex()


def test_what_is_opened_again_continues_where_it_was(backend: Backend) -> None:
    log = opened(backend)
    log.append([entry(number) for number in range(20)])
    before = log.head()

    again = opened(backend)

    assert again.head() == before
    again.append([entry(20)])
    again.consistency(before.size, before.size + 1).require()
    assert {leaf.origin for leaf in again.leaves(0, 99)} == {before.origin}


def test_leaves_are_in_canonical_form_with_time_door_and_user(backend: Backend) -> None:
    log = opened(backend)
    log.append([entry(1)])

    leaf = Leaf.from_bytes(log.leaf(1).raw)

    assert (leaf.time, leaf.via) == ("2026-11-20T08:00:00Z", VIA)


def test_another_checkpoint_key_is_refused(backend: Backend) -> None:
    opened(backend)
    other = Ed25519PrivateKey.generate()

    with pytest.raises(KeyMissingError, match="key"):
        Log.open(
            backend,
            clock=CLOCK,
            site="demo",
            signer=Signer(public=other.public_key().public_bytes_raw(), sign=other.sign),
        )


def test_a_checkpoint_of_an_unchanged_tree_is_signed_once(backend: Backend) -> None:
    log = opened(backend)

    assert log.checkpoint() == log.checkpoint()
    assert backend.checkpoint() == (1, log.checkpoint())


def test_a_reader_gives_the_last_signed_checkpoint_and_cannot_sign(backend: Backend) -> None:
    log = opened(backend)
    log.append([entry(1)])
    reader = Log.read(backend, clock=CLOCK)
    with pytest.raises(LedgerUnavailableError):
        reader.checkpoint()
    assert reader.inclusion(1).note == ""
    text = log.checkpoint()
    log.append([entry(2)])

    assert Log.read(backend, clock=CLOCK).checkpoint() == text
    assert reader.inclusion(1).note == text


def test_a_log_that_begins_with_something_else_is_damaged() -> None:
    backend = MemoryBackend()
    with pytest.raises(LedgerDamagedError):
        Log.read(backend, clock=CLOCK)
    opened(backend)
    row = backend.rows(0, 1)[0]
    other = MemoryBackend()
    other.append([row._replace(raw=row.raw.replace(b"ledger.opened", b"ledger.closed"))], [])

    with pytest.raises(LedgerDamagedError):
        Log.read(other, clock=CLOCK)


def test_a_negative_sequence_is_a_usage_error(backend: Backend) -> None:
    with pytest.raises(Exception, match="leaf -1"):
        opened(backend).leaf(-1)


def test_requests_that_began_and_did_not_end_are_told(backend: Backend) -> None:
    log = opened(backend)
    for kind, request in (
        ("request.intent", "a"),
        ("request.intent", "b"),
        ("request.outcome", "a"),
        ("request.intent", "c"),
        ("request.refused", "b"),
    ):
        log.append([Entry.of(kind, {"request_id": request}, via=VIA)])

    assert backend.open_terms(0, "request.intent", "request.outcome") == [("b", 2), ("c", 4)]
    assert backend.open_terms(3, "request.intent", "request.outcome") == [("c", 4)]
