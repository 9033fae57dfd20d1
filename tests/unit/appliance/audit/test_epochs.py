"""Epochs of a restored ledger: a new name and key that its own first record binds to the records before."""

from collections.abc import Callable
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.audit import epochs, note, rights
from appliance.audit.facts import EvidenceLedger
from appliance.audit.leaf import Via
from appliance.audit.log import Entry, Log, Signer
from appliance.audit.memory import MemoryBackend
from appliance.audit.note import VerifierKey, verify_checkpoint
from appliance.audit.verify import verify
from appliance.errors import KeyMissingError, LedgerDamagedError, LedgerRefusedError
from appliance.wire import Peer
from media.clock import SystemClock

CLOCK = SystemClock()
FACTS = {"by": ["Ann", "Bo"], "reason": "fire"}


def signer() -> Signer:
    key = Ed25519PrivateKey.generate()
    return Signer(public=key.public_key().public_bytes_raw(), sign=key.sign)


def read(log: Log) -> EvidenceLedger:
    """Return the log as what reads a ledger sees: its methods, by name."""
    return cast("EvidenceLedger", log)


def opened(backend: MemoryBackend, own: Signer) -> Log:
    log = Log.open(backend, clock=CLOCK, site="demo", signer=own)
    log.append([Entry.of("release.refused", {"number": number}, via=Via(door="x", uid=1)) for number in range(3)])
    return log


def begun(backend: MemoryBackend, own: Signer) -> Log:
    return Log.begin_epoch(backend, clock=CLOCK, site="demo", signer=own, facts=FACTS)


def test_the_tree_goes_on_under_another_name_and_only_the_new_key_opens_it() -> None:
    backend, first, second = MemoryBackend(), signer(), signer()
    before = opened(backend, first)
    old_note, old = before.checkpoint(), before.head()

    log = begun(backend, second)

    assert (log.head().size, log.origin != old.origin) == (old.size + 1, True)
    assert log.consistency(old.size, log.head().size).old_root == old.root
    assert [epoch.number for epoch in epochs.epochs(read(log))] == [1, 2]
    assert Log.open(backend, clock=CLOCK, site="demo", signer=second).origin == log.origin
    with pytest.raises(KeyMissingError):
        Log.open(backend, clock=CLOCK, site="demo", signer=first)
    assert verify_checkpoint(log.checkpoint(), [log.vkey]).size == log.head().size
    found = verify(read(log), pinned=log.vkey, notes=[old_note])
    assert (found.findings, found.origin) == ((), log.origin)
    third = begun(backend, signer())
    assert [epoch.origin for epoch in epochs.epochs(read(third))] == [old.origin, log.origin, third.origin]
    assert verify(read(third), pinned=third.vkey, notes=[old_note]).ok


def test_kept_checkpoints_of_an_epoch_that_ended_are_held_against_its_own_key() -> None:
    backend, first, second = MemoryBackend(), signer(), signer()
    before = opened(backend, first)
    before.checkpoint()
    log = begun(backend, second)
    whole = verify(read(log), pinned=log.vkey)
    by_the_new_key = note.Checkpoint(
        origin=before.origin, size=2, root=bytes.fromhex(before.consistency(2, 3).old_root)
    )

    backend.save_checkpoint(2, note.sign(by_the_new_key.to_text(), log.vkey, second.sign))

    assert (whole.findings, whole.kept) == ((), 2)
    (finding,) = verify(read(log), pinned=log.vkey).findings
    assert "the first that of 2 records (it is signed by the key of another ledger)" in finding


def test_an_epoch_never_begins_with_the_key_of_the_one_before() -> None:
    backend, first = MemoryBackend(), signer()
    opened(backend, first)

    with pytest.raises(KeyMissingError, match="cannot begin"):
        begun(backend, first)


def lie(log: Log, own: Signer, **changes: object) -> Log:
    """Append the first record of an epoch that says something else than the truth, signed by its own key."""
    origin = "sealift/demo/00000000"
    vkey = VerifierKey(name=origin, public=own.public)
    other = Log(log.backend, clock=CLOCK, origin=origin, vkey=vkey, signer=own)
    head = log.head()
    body = {
        **FACTS,
        "epoch": 2,
        "origin": origin,
        "vkey": vkey.to_text(),
        "continues": {"origin": head.origin, "size": head.size, "root": head.root},
        **changes,
    }
    other.append([Entry.of(epochs.RESTORED, body, via=Via(door="ledger", uid=0))])
    other.checkpoint()
    return other


@pytest.mark.parametrize(
    "changes",
    [
        lambda log: {"continues": {"origin": log.origin, "size": 2, "root": log.head().root}},
        lambda log: {"continues": {"origin": "sealift/demo/11111111", "size": 4, "root": log.head().root}},
        lambda log: {"continues": {"origin": log.origin, "size": 4, "root": "0" * 64}},
        lambda _: {"continues": None},
        lambda _: {"epoch": 3},
    ],
)
def test_an_epoch_that_lies_about_what_it_continues_is_a_finding(changes: Callable[[Log], dict[str, object]]) -> None:
    log = opened(MemoryBackend(), signer())
    assert verify(read(lie(opened(MemoryBackend(), signer()), signer()))).findings == ()

    findings = verify(read(lie(log, signer(), **changes(log)))).findings

    assert any("continues another tree" in finding for finding in findings)


def test_nobody_begins_an_epoch_through_a_door() -> None:
    for door in rights.DOORS:
        with pytest.raises(LedgerRefusedError):
            rights.require_may_append(door, epochs.RESTORED)
    backend = MemoryBackend()
    log = opened(backend, signer())
    log.append([Entry.of(epochs.RESTORED, {"epoch": 2}, via=Via(door="ledger-actions", uid=1))])

    with pytest.raises(LedgerDamagedError):
        Log.read(backend, clock=CLOCK)


def test_the_backup_s_user_records_backups_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "_uid", lambda account: 4711 if account == rights.BACKUP_ACCOUNT else -1)
    peer = Peer(door=rights.ACTIONS, uid=4711, gid=1, pid=1)

    rights.require_may_enter(peer)
    rights.require_account_may(peer, "backup.made")
    for kind in ("release.received", "key.created", "trust.replaced"):
        with pytest.raises(LedgerRefusedError):
            rights.require_account_may(peer, kind)
    with pytest.raises(LedgerRefusedError):
        rights.require_may_enter(Peer(door=rights.GATEWAY, uid=4711, gid=1, pid=1))
