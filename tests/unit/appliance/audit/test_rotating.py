"""The checkpoint key rotates when the ledger starts: asked for by a record, once, and whole wherever it is cut."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from appliance.audit import note, rotating, succession
from appliance.audit.backend import Row
from appliance.audit.client import OfflineLedger
from appliance.audit.facts import EvidenceLedger
from appliance.audit.leaf import Via
from appliance.audit.log import Entry, Log
from appliance.audit.memory import MemoryBackend
from appliance.audit.rotating import ASKED, KEY_NAME
from appliance.audit.tree import Node
from appliance.audit.verify import verify
from appliance.errors import KeyMissingError, LedgerUnavailableError
from appliance.keys.files import FileKeys, create_missing
from media.clock import SystemClock
from tests.support.ledger import ledger_site


@pytest.fixture
def keys(tmp_path: Path) -> FileKeys:
    create_missing(tmp_path / "keys")
    return FileKeys(tmp_path / "keys")


class Failing(MemoryBackend):
    """A backend whose n-th write does not happen, or happens and is not told of; -1 for none."""

    def __init__(self) -> None:
        super().__init__()
        self.left = -1
        self.is_kept = False

    def append(self, rows: Sequence[Row], nodes: Sequence[Node]) -> None:
        if self._fails() and not self.is_kept:
            raise LedgerUnavailableError(what="cut")
        super().append(rows, nodes)
        self._told()

    def save_checkpoint(self, size: int, note: str) -> None:
        if self._fails() and not self.is_kept:
            raise LedgerUnavailableError(what="cut")
        super().save_checkpoint(size, note)
        self._told()

    def _fails(self) -> bool:
        self.left -= 1
        return self.left == 0

    def _told(self) -> None:
        if self.left == 0:
            raise LedgerUnavailableError(what="cut")


def opened(backend: MemoryBackend, keys: FileKeys) -> Log:
    named = succession.newest_of(backend)
    return Log.open(backend, clock=SystemClock(), site="demo", signer=rotating.choose(keys, named))


def ask(log: Log, version: object, door: str = "ledger-actions") -> None:
    body = {"name": KEY_NAME, "version": version, "reason": "an administrator left"}
    log.append([Entry.of(ASKED, body, via=Via(door=door, uid=0))])


def reading(log: Log) -> EvidenceLedger:
    """Return the log as what reads a ledger sees: its methods, by name."""
    return cast("EvidenceLedger", log)


def public(keys: FileKeys, version: int) -> bytes:
    return keys.public(KEY_NAME, version=version)


def test_nothing_rotates_unless_a_record_asks_for_it(keys: FileKeys) -> None:
    log = opened(MemoryBackend(), keys)
    keys.create(KEY_NAME)

    rotating.settle(log, keys)

    assert log.key.public == public(keys, 1)


def test_what_is_asked_for_takes_over_once_and_both_sign_the_handover(keys: FileKeys) -> None:
    backend = MemoryBackend()
    log = opened(backend, keys)
    ask(log, keys.create(KEY_NAME))

    for _ in range(3):
        rotating.settle(log, keys)
        log = opened(backend, keys)

    (leaf,) = log.find(kind=succession.ROTATED)
    assert (leaf.body["reason"], leaf.body["version"], leaf.via.door) == ("an administrator left", 2, "ledger")
    assert log.key.public == public(keys, 2)
    handover = backend.checkpoint_of(leaf.sequence + 1)
    assert handover is not None
    old = note.VerifierKey(name=log.origin, public=public(keys, 1))
    for key in (old, log.key):
        assert note.verify_checkpoint(handover, [key]).size == leaf.sequence + 1
    assert len(note.parts(handover)[1]) == 2
    assert verify(reading(log), notes=[handover]).findings == ()


def test_beside_others_who_add_records_the_key_before_signs_on(keys: FileKeys) -> None:
    backend = MemoryBackend()
    log = opened(backend, keys)
    ask(log, keys.create(KEY_NAME))
    size = log.head().size

    rotating.settle(log, keys, is_alone=False)

    assert (log.head().size, log.key.public) == (size, public(keys, 1))
    rotating.settle(opened(backend, keys), keys)
    assert opened(backend, keys).key.public == public(keys, 2)


@pytest.mark.parametrize("version", [1, 7, 0, -1, "2", True, None], ids=repr)
def test_asking_for_a_key_that_is_not_here_or_was_used_changes_nothing(keys: FileKeys, version: object) -> None:
    log = opened(MemoryBackend(), keys)
    keys.create(KEY_NAME)
    ask(log, version)

    rotating.settle(log, keys)

    assert log.find(kind=succession.ROTATED) == []
    assert log.key.public == public(keys, 1)


def test_no_other_door_asks(keys: FileKeys) -> None:
    log = opened(MemoryBackend(), keys)
    ask(log, keys.create(KEY_NAME), door="spool")

    rotating.settle(log, keys)

    assert log.find(kind=succession.ROTATED) == []


def test_several_follow_each_other_and_the_older_keys_may_go(keys: FileKeys) -> None:
    backend = MemoryBackend()
    log = opened(backend, keys)
    for version in (2, 3, 4):
        assert keys.create(KEY_NAME) == version
        ask(log, version)
        log = opened(backend, keys)
        rotating.settle(log, keys)
        log.checkpoint()
    for version in (1, 2, 3):
        keys.remove(KEY_NAME, version)
    log = opened(backend, keys)
    rotating.settle(log, keys)

    assert log.key.public == public(keys, 4)
    assert [held.key.public for held in log.keys.of(log.origin)][-1] == public(keys, 4)
    assert verify(reading(log), pinned=log.vkey, notes=[text for _, text in backend.checkpoints()]).findings == ()


def test_without_the_key_in_force_the_ledger_does_not_open(keys: FileKeys) -> None:
    backend = MemoryBackend()
    ask(opened(backend, keys), keys.create(KEY_NAME))
    rotating.settle(opened(backend, keys), keys)
    keys.remove(KEY_NAME, 2)

    with pytest.raises(KeyMissingError, match="checkpoint key"):
        opened(backend, keys)


@pytest.mark.parametrize("is_kept", [False, True], ids=["not-written", "written-and-not-told"])
@pytest.mark.parametrize("cut", range(1, 5))
def test_wherever_a_write_is_cut_one_key_is_in_force_and_the_next_start_ends_it(
    keys: FileKeys, cut: int, *, is_kept: bool
) -> None:
    backend = Failing()
    log = opened(backend, keys)
    log.checkpoint()
    ask(log, keys.create(KEY_NAME))
    log = opened(backend, keys)
    backend.left, backend.is_kept = cut, is_kept
    was_cut = False
    try:
        rotating.settle(log, keys)
        log.checkpoint()
    except LedgerUnavailableError:
        was_cut = True
    backend.left = -1

    after = opened(backend, keys)
    assert after.key.public in {public(keys, 1), public(keys, 2)}
    assert verify(reading(Log.read(backend, clock=SystemClock())), pinned=after.vkey).findings == ()
    rotating.settle(after, keys)
    after.checkpoint()

    assert was_cut == (cut < 3)
    assert after.key.public == public(keys, 2)
    assert len(after.find(kind=succession.ROTATED)) == 1
    (leaf,) = after.find(kind=succession.ROTATED)
    assert len(note.parts(str(backend.checkpoint_of(leaf.sequence + 1)))[1]) == 2
    assert verify(reading(after), pinned=after.vkey, notes=[text for _, text in backend.checkpoints()]).findings == ()


def test_a_site_rotates_over_a_restart_and_reads_so_offline(tmp_path: Path) -> None:
    with ledger_site(tmp_path) as site:
        keys = FileKeys(site.places.key_files)
        with site.running() as log, closing(site.door("ledger-actions")) as door:
            first, before = log.vkey, log.checkpoint()
            door.append(ASKED, {"name": KEY_NAME, "version": keys.create(KEY_NAME), "reason": "yearly"})
            assert log.key == first
        with site.running() as log, closing(site.door("ledger-operator")) as door:
            text = door.checkpoint()
            assert log.key.public == public(keys, 2)
            assert succession.verified(door, text, first).size == log.head().size
            assert door.vkey() == first
        offline = OfflineLedger(site.places, clock=SystemClock())

        assert verify(offline, pinned=first, notes=[before, text]).findings == ()
        assert offline.inclusion(0).note
