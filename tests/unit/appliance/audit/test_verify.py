"""The auditor's view: whatever is changed after a checkpoint left the box shows."""

import sqlite3
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.audit import note, pin, tree
from appliance.audit.client import Leaf, TreeHead
from appliance.audit.memory import MemoryLedger
from appliance.audit.note import VerifierKey
from appliance.audit.offline import OfflineLedger
from appliance.audit.sqlite_backend import FILE_NAME
from appliance.audit.verify import Verification, verify
from appliance.errors import LedgerDamagedError, LedgerUnavailableError
from media.clock import FixedClock, SystemClock
from tests.support.ledger import LedgerSite, write_history


class Forged(MemoryLedger):
    """A ledger that lies about one leaf."""

    lie: tuple[int, Leaf] | None = None

    def leaves(self, start: int, limit: int, *, kinds: Collection[str] | None = None) -> list[Leaf]:
        found = super().leaves(start, limit, kinds=kinds)
        return [self.lie[1] if self.lie and leaf.sequence == self.lie[0] else leaf for leaf in found]


class Busy(MemoryLedger):
    """A ledger that others go on writing to: a record follows whatever is asked."""

    def head(self) -> TreeHead:
        found = super().head()
        self.append("release.refused", {"error": "wrong-site"})
        return found

    def checkpoint(self) -> str:
        found = super().checkpoint()
        self.append("release.refused", {"error": "wrong-site"})
        return found


def history(kind: type[MemoryLedger] = MemoryLedger) -> MemoryLedger:
    ledger = kind()
    write_history(ledger)
    return ledger


def key_of(ledger: MemoryLedger) -> VerifierKey:
    return VerifierKey.from_text(ledger.vkey)


def test_a_ledger_that_nobody_touched_verifies_in_every_part() -> None:
    ledger = history()
    seen: list[tuple[int, int]] = []

    done = verify(ledger, pinned=key_of(ledger), progress=lambda count, of: seen.append((count, of)))

    assert done.ok
    assert (done.size, done.root, done.remarks) == (ledger.head().size, ledger.head().root, ())
    assert done.chain == ledger.leaf(done.size - 1).chain
    assert seen[-1] == (done.size, done.size)


def test_records_that_are_added_meanwhile_are_no_contradiction() -> None:
    ledger = history(Busy)

    assert verify(ledger, pinned=key_of(ledger)).findings == ()


def test_it_says_how_much_a_checkpoint_from_outside_covers() -> None:
    ledger = history()
    printed, size = ledger.checkpoint(), ledger.head().size
    ledger.append("trust.rotated", {"version": 2})

    done = verify(ledger, pinned=key_of(ledger), notes=[printed])

    assert (done.ok, done.covered, done.size) == (True, size, size + 1)
    assert verify(ledger, pinned=key_of(ledger)).covered == 0
    assert verify(ledger, pinned=key_of(ledger), notes=[MemoryLedger().checkpoint()]).covered == 0


def test_without_a_pinned_key_the_result_says_what_it_rests_on() -> None:
    done = verify(history())

    assert done.ok
    assert "no key is pinned" in done.remarks[0]


def test_another_pinned_key_is_a_finding() -> None:
    done = verify(history(), pinned=key_of(history()))

    assert not done.ok
    assert any("pinned" in finding for finding in done.findings)


def test_a_rewritten_leaf_is_found() -> None:
    ledger = history(Forged)
    leaf = ledger.leaf(4)
    raw = leaf.raw.replace(b"req_1", b"req_9")
    assert isinstance(ledger, Forged)
    ledger.lie = (4, replace(leaf, raw=raw))

    done = verify(ledger, pinned=key_of(ledger))

    assert any("root" in finding for finding in done.findings)
    assert any("chain breaks at leaf 4" in finding for finding in done.findings)
    assert any("signed tree" in finding for finding in done.findings)


def test_a_leaf_that_does_not_read_is_found_and_named() -> None:
    ledger = history(Forged)
    assert isinstance(ledger, Forged)
    ledger.lie = (4, replace(ledger.leaf(4), raw=b"nothing"))

    assert any("leaf 4 does not read" in finding for finding in verify(ledger).findings)


def test_a_leaf_in_another_place_is_found() -> None:
    ledger = history(Forged)
    assert isinstance(ledger, Forged)
    ledger.lie = (4, ledger.leaf(5))

    assert any("leaf 4 says that it is 5" in finding for finding in verify(ledger).findings)


def test_a_history_rewritten_after_a_checkpoint_was_printed_is_inconsistent_with_the_print() -> None:
    honest, rewritten = history(), MemoryLedger()
    printed = honest.checkpoint()
    rewritten.log.origin = honest.log.origin
    rewritten.log.vkey = honest.log.vkey
    write_history(rewritten)

    done = verify(rewritten, notes=[printed])

    assert not done.ok


def test_a_printed_checkpoint_of_a_longer_ledger_shows_that_the_tail_was_cut() -> None:
    ledger = history()
    ledger.append("request.intent", {"request_id": "last"})
    printed = ledger.checkpoint()
    shorter = Shortened(ledger)

    done = verify(shorter, notes=[printed], pinned=key_of(ledger))  # type: ignore[arg-type]

    assert any("was signed, and there are" in finding for finding in done.findings)


class Shortened:
    """The same ledger as it was before its last leaf."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger
        self._size = ledger.head().size - 1

    def head(self) -> object:
        root = self._ledger.consistency(self._size, self._size + 1).old_root
        return replace(self._ledger.head(), size=self._size, root=root)

    def leaf(self, sequence: int) -> Leaf:
        return self._ledger.leaf(sequence)

    def leaves(self, start: int, limit: int, *, kinds: Collection[str] | None = None) -> list[Leaf]:
        return self._ledger.leaves(start, min(limit, self._size - start), kinds=kinds)

    def nodes(self, start: int, end: int) -> list[tree.Node]:
        return self._ledger.nodes(start, end)

    def checkpoint(self) -> str:
        return self._ledger.inclusion(0, self._size).note or self._ledger.checkpoint()

    def checkpoints(self, start: int, limit: int) -> list[tuple[int, str]]:
        return self._ledger.checkpoints(start, limit)


def test_an_older_printed_checkpoint_of_the_same_ledger_agrees() -> None:
    ledger = MemoryLedger()
    printed = [ledger.checkpoint()]
    write_history(ledger)
    printed.append(ledger.checkpoint())
    write_history(ledger)

    done = verify(ledger, notes=printed, pinned=key_of(ledger))

    assert done.ok
    assert done.checkpoints == (1, (ledger.head().size + 1) // 2, ledger.head().size)


@pytest.mark.parametrize("untrusted", ["", "rubbish", "a\n1\nAAAA\n\n— a AAAAAAA=\n"])
def test_a_checkpoint_that_does_not_verify_is_a_finding(untrusted: str) -> None:
    assert not verify(history(), notes=[untrusted]).ok


def test_a_clock_that_went_back_is_a_remark_for_people() -> None:
    clock = FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC))
    ledger = MemoryLedger(clock)
    clock.advance(-86400)
    ledger.append("request.intent", {"request_id": "a"})

    done = verify(ledger, pinned=key_of(ledger))

    assert done.ok
    assert "went back" in done.remarks[0]


def offline(site: LedgerSite) -> Verification:
    return verify(OfflineLedger(site.places, clock=SystemClock()), pinned=pin.read_pin(site.places))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE leaf SET raw = CAST(replace(CAST(raw AS TEXT), '2026', '2025') AS BLOB) WHERE sequence = 2",
        "UPDATE leaf SET hash = zeroblob(32) WHERE sequence = 2",
        "UPDATE leaf SET chain = zeroblob(32) WHERE sequence = 2",
        "UPDATE leaf SET kind = 'unit.noted' WHERE sequence = 2",
        "UPDATE node SET hash = zeroblob(32) WHERE level = 2",
        "DELETE FROM leaf WHERE sequence = 2",
        "DELETE FROM leaf WHERE sequence >= 5",
    ],
)
def test_a_file_that_root_changed_while_the_service_was_down_is_found_out(site: LedgerSite, statement: str) -> None:
    with site.running():
        actions = site.door("ledger-actions")
        for number in range(12):
            actions.append("trust.rotated", {"version": number})
        actions.close()
    assert offline(site).ok
    connection = sqlite3.connect(site.places.ledger / FILE_NAME, isolation_level=None)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(statement)
    connection.close()

    # A reader may refuse the file outright, or verification says what is wrong with it.
    try:
        found: object = offline(site).findings
    except LedgerDamagedError as error:
        found = error.what
    assert found


@pytest.mark.parametrize(
    ("statement", "count", "first"),
    [
        ("UPDATE node SET hash = zeroblob(32) WHERE level = 1 AND position = 3", 1, 6),
        ("DELETE FROM node WHERE level = 1 AND position = 3", 1, 6),
        ("UPDATE node SET hash = zeroblob(32) WHERE level = 1 OR (level = 2 AND position = 0)", 7, 0),
    ],
)
def test_nodes_that_the_disk_changed_are_named_though_the_root_is_right(
    site: LedgerSite, statement: str, count: int, first: int
) -> None:
    with site.running():
        actions = site.door("ledger-actions")
        while actions.head().size < 12:
            actions.append("trust.rotated", {"version": actions.head().size})
        actions.checkpoint()
        actions.close()
    connection = sqlite3.connect(site.places.ledger / FILE_NAME, isolation_level=None)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(statement)
    connection.close()

    (finding,) = offline(site).findings

    assert finding.startswith(f"{count} stored nodes of the tree are not the hash of their leaves, the first from leaf")
    assert f"leaf {first} on" in finding


def test_leaves_on_a_page_of_their_own_have_their_nodes_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those whose nodes end what began on pages before."""
    monkeypatch.setattr("appliance.audit.verify._PAGE", 3)
    ledger = history()
    assert verify(ledger, pinned=key_of(ledger)).findings == ()

    ledger.log.backend.append([], [(2, 0, bytes(32))])

    (finding,) = verify(ledger, pinned=key_of(ledger)).findings
    assert "the first from leaf 0 on" in finding


@pytest.mark.parametrize(
    ("statement", "count", "why"),
    [
        ("UPDATE checkpoint SET note = replace(note, 'demo', 'dema') WHERE size IN (6, 8)", 2, "6 records (no known"),
        ("UPDATE checkpoint SET note = replace(note, char(10) || '6', char(10) || '5') WHERE size = 6", 1, "is wrong)"),
        ("UPDATE checkpoint SET note = 'x' WHERE size = 6", 1, "6 records (it has no signatures)"),
        ("UPDATE checkpoint SET size = 0 WHERE size = 6", 1, "0 records (it was signed over 6)"),
        ("UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE size = 7) WHERE size = 6", 1, "over 7)"),
    ],
)
def test_a_kept_checkpoint_that_the_disk_changed_is_named_also_where_it_is_not_the_newest(
    site: LedgerSite, statement: str, count: int, why: str
) -> None:
    with site.running():
        actions = site.door("ledger-actions")
        while actions.head().size < 12:
            actions.append("unit.noted", {"version": actions.head().size})
            actions.checkpoint()
        actions.close()
    before = offline(site)
    connection = sqlite3.connect(site.places.ledger / FILE_NAME, isolation_level=None)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    kept = connection.execute("SELECT count(*) FROM checkpoint").fetchone()[0]
    connection.execute(statement)
    connection.close()

    findings = " ".join(offline(site).findings)

    assert (before.findings, before.kept) == ((), kept)
    assert kept > 6
    assert why in findings
    assert f"{count} of the checkpoints that are kept do not hold" in findings


def test_a_kept_checkpoint_of_other_records_is_found_though_the_key_signed_it() -> None:
    ledger = history()
    signed = note.Checkpoint(origin=ledger.log.origin, size=4, root=bytes(32))
    signer = ledger.log.signer
    assert signer is not None
    ledger.log.backend.save_checkpoint(4, note.sign(signed.to_text(), ledger.log.key, signer.sign))

    (finding,) = verify(ledger, pinned=key_of(ledger)).findings

    assert "the first that of 4 records (it was signed over other records): an export with it is refused" in finding


class Broken(MemoryLedger):
    """A ledger of which parts can be taken away."""

    missing_from = 10**9
    signs = True
    opening: Leaf | None = None

    def leaves(self, start: int, limit: int, *, kinds: Collection[str] | None = None) -> list[Leaf]:
        return [] if start >= self.missing_from else super().leaves(start, limit, kinds=kinds)

    def leaf(self, sequence: int) -> Leaf:
        return self.opening if sequence == 0 and self.opening else super().leaf(sequence)

    def checkpoint(self) -> str:
        if not self.signs:
            raise LedgerUnavailableError(what="no checkpoint was ever signed")
        return super().checkpoint()


def test_leaves_that_are_not_given_are_found_missing() -> None:
    ledger = Broken()
    write_history(ledger)
    ledger.missing_from = 0

    assert "leaf 0 is missing" in verify(ledger, pinned=key_of(ledger)).findings


def test_a_ledger_that_never_signed_is_verified_as_far_as_it_goes() -> None:
    ledger = Broken()
    ledger.signs = False

    done = verify(ledger, pinned=key_of(ledger))

    assert done.ok
    assert "was not compared" in done.remarks[0]


def test_an_opening_that_is_none_is_a_finding() -> None:
    ledger = Broken()
    genuine = ledger.leaf(0)
    ledger.opening = replace(genuine, kind="ledger.other", body={})

    assert any("names no key" in finding for finding in verify(ledger, pinned=key_of(ledger)).findings)
    assert any("names no key" in finding for finding in verify(ledger).findings)
    ledger.opening = replace(genuine, kind="ledger.other")
    assert any("leaf 0 is not the opening" in finding for finding in verify(ledger).findings)


def test_a_checkpoint_of_another_origin_under_the_same_key_is_a_finding() -> None:
    ledger, other = MemoryLedger(), MemoryLedger()
    signed = note.Checkpoint(origin="sealift/other/00000000", size=1, root=bytes(32))
    text = note.sign(signed.to_text(), other.log.vkey, Ed25519PrivateKey.generate().sign)
    key = Ed25519PrivateKey.generate()
    pinned = note.VerifierKey(name="sealift/other/00000000", public=key.public_key().public_bytes_raw())

    done = verify(ledger, pinned=pinned, notes=[text, note.sign(signed.to_text(), pinned, key.sign)])

    assert any("another ledger" in finding for finding in done.findings)
