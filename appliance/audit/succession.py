"""The keys of checkpoints within one epoch: each names the next, and signs over the tree in which it did so.

The record ``ledger.key-rotated`` holds the new key and a C2SP signed note: the head of the tree before that record,
with one more line that names the new key, signed by the key before and by the new one. A reader who knows any key of
the epoch from outside follows the records.

Rules:
    SUC-1 A record counts when the newest key of its ledger and the one it names both signed its note, and the note is
          about the records before it.
    SUC-2 A key signs from the tree that holds the record naming it on (the first: from the beginning) to the tree that
          holds the record naming the next. At that one size both do; whatever an old key signs later is refused.
    SUC-3 A key never comes back, in no epoch.
    SUC-4 What the note says of the records before must be so: who has the new key alone cannot rewrite those.
"""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from appliance.audit import epochs, note
from appliance.audit.backend import Backend, Row
from appliance.audit.facts import ConsistencyProof, Ledger
from appliance.audit.leaf import Leaf
from appliance.errors import ProofError

ROTATED: Final = "ledger.key-rotated"
NAMING: Final = frozenset({epochs.OPENED, epochs.RESTORED, ROTATED})
_MARK: Final = "sealift/next-key "
_OWN_DOOR: Final = "ledger"
_PAGE: Final = 500
_FIX: Final = "two people find out why: docs/operator/ledger.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One key and the sizes of the trees that it signs; `last` is None while it is in force."""

    key: note.VerifierKey
    first: int
    last: int | None = None

    def signs(self, size: int) -> bool:
        """Tell whether a checkpoint of this size may bear its signature."""
        return self.first <= size and (self.last is None or size <= self.last)


class Keys:
    """What a ledger's own records say of its keys; grown record by record, in order."""

    def __init__(self, leaves: Iterable[Leaf] = ()) -> None:
        """Take these records.

        Raises:
            LedgerDamagedError, ProofError: As `take`.
        """
        self._held: dict[str, list[Held]] = {}
        self.heads: list[note.Checkpoint] = []
        """What each rotation said of the records before it; whoever has those compares (SUC-4)."""
        for leaf in leaves:
            self.take(leaf)

    def take(self, leaf: Leaf) -> None:
        """Follow one record; those that name no key of checkpoints are passed over.

        Raises:
            LedgerDamagedError: It begins no epoch though it says so.
            ProofError: It breaks SUC-1 or SUC-3.
        """
        if leaf.via.door != _OWN_DOOR or leaf.kind not in NAMING:
            return
        if leaf.kind == ROTATED:
            self._rotate(leaf)
            return
        epoch = epochs.begun_by(leaf)
        self._require_new(epoch.vkey, leaf)
        if epoch.origin in self._held:
            raise _bad(leaf, "its epoch has the name of an earlier one")
        self._held[epoch.origin] = [Held(key=epoch.vkey, first=0)]

    def of(self, origin: str) -> tuple[Held, ...]:
        """Return the keys of one epoch, the first first; none for one that is not known."""
        return tuple(self._held.get(origin, ()))

    def all(self) -> list[note.VerifierKey]:
        """Return the keys of all epochs, the first first."""
        return [held.key for epoch in self._held.values() for held in epoch]

    def in_force(self, origin: str) -> note.VerifierKey:
        """Return the key that signs now.

        Raises:
            ProofError: No record names this ledger.
        """
        held = self._held.get(origin)
        if not held:
            raise _refused(f"no record names a key of {origin}")
        return held[-1].key

    def checkpoint(self, untrusted_note: str) -> note.Checkpoint:
        """Return a checkpoint that keys of its ledger signed, each over a tree of a size that is its own (SUC-2).

        Raises:
            ProofError: None of them signed it, a signature is wrong, or a key had ended or not begun.
        """
        signed = note.verify_checkpoint(untrusted_note, self.all())
        made = {(name, blob[:4]) for name, blob in note.parts(untrusted_note)[1]}
        signers = [held for held in self.of(signed.origin) if (held.key.name, held.key.key_id) in made]
        if not signers:
            raise _refused("it is signed by the key of another ledger")
        for held in signers:
            if not held.signs(signed.size):
                raise _refused(
                    f"the key {held.key.key_id.hex()} signs trees of {held.first} to {held.last or 'any number of'} "
                    f"records, and this is one of {signed.size}"
                )
        return signed

    def _rotate(self, leaf: Leaf) -> None:
        held = self._held.get(leaf.origin)
        if not held:
            raise _bad(leaf, "its ledger was not opened")
        new, statement = read(leaf, held[-1].key)
        self._require_new(new, leaf)
        end = leaf.sequence + 1
        if end <= held[-1].first:
            raise _bad(leaf, "it lies before the record that named the key")
        held[-1] = Held(key=held[-1].key, first=held[-1].first, last=end)
        held.append(Held(key=new, first=end))
        self.heads.append(statement)

    def _require_new(self, key: note.VerifierKey, leaf: Leaf) -> None:
        if key.public in {known.public for known in self.all()}:
            raise _bad(leaf, "its key was one of this ledger before")


def statement(head: note.Checkpoint, new: note.VerifierKey) -> str:
    """Return what both keys sign: a checkpoint of the records before, and the new key in an extension line."""
    return f"{head.to_text()}{_MARK}{new.to_text()}\n"


def read(leaf: Leaf, before: note.VerifierKey) -> tuple[note.VerifierKey, note.Checkpoint]:
    """Return the key that a rotation names and what its note says of the records before it.

    Raises:
        ProofError: It does not follow that key, or one of the two did not sign (SUC-1).
    """
    new = note.VerifierKey.from_text(str(leaf.body.get("vkey", "")))
    if leaf.body.get("previous") != before.to_text() or new.name != leaf.origin or before.name != leaf.origin:
        raise _bad(leaf, "it follows another key, or is of another ledger")
    untrusted = str(leaf.body.get("note", ""))
    text, signatures = note.parts(untrusted)
    if [(name, blob[:4]) for name, blob in signatures] != [(key.name, key.key_id) for key in (before, new)]:
        raise _bad(leaf, "it is not signed by exactly the key before and the new one")
    for key in (before, new):
        note.verify(untrusted, [key])
    head = note.Checkpoint.from_text(text)
    if text != statement(head, new) or (head.origin, head.size) != (leaf.origin, leaf.sequence):
        raise _bad(leaf, "its note is about something else")
    return new, head


def records(ledger: Ledger, *, kinds: Collection[str] = NAMING) -> list[Leaf]:
    """Return every record that names a key of checkpoints, in order.

    Raises:
        LedgerUnavailableError: The ledger neither answers nor reads.
    """
    found: list[Leaf] = []
    while page := ledger.leaves(found[-1].sequence + 1 if found else 0, _PAGE, kinds=kinds):
        found += page
    return found


def of_ledger(ledger: Ledger) -> Keys:
    """Return the keys of all epochs as the records name them.

    Raises:
        LedgerDamagedError, ProofError: A record breaks the rules.
        LedgerUnavailableError: The ledger neither answers nor reads.
    """
    return Keys(records(ledger))


def of_backend(backend: Backend) -> Keys:
    """Return the keys of all epochs as the rows name them; raises as `of_ledger`."""
    rows: list[Row] = []
    while page := backend.rows(rows[-1].sequence + 1 if rows else 0, _PAGE, kinds=NAMING):
        rows += page
    return Keys(Leaf.from_bytes(row.raw) for row in rows)


def newest_of(backend: Backend) -> note.VerifierKey | None:
    """Return the key in force; None for a ledger without records. Raises as `of_ledger`."""
    keys = of_backend(backend).all()
    return keys[-1] if keys else None


def followed(leaves: Iterable[Leaf], known: note.VerifierKey) -> Keys:
    """Return the keys of the epoch that a key from outside is of, from records that need not be proven yet.

    Each link is signed by the key before it, so that nothing is believed that the known key does not lead to.

    Raises:
        ProofError: A record breaks the rules.
    """
    keys = Keys()
    keys._held[known.name] = [Held(key=known, first=0)]  # noqa: SLF001 - the same module
    for leaf in leaves:
        if leaf.kind == ROTATED and leaf.origin == known.name:
            keys.take(leaf)
    return keys


def verified(ledger: Ledger, untrusted_note: str, pinned: note.VerifierKey) -> note.Checkpoint:
    """Return the checkpoint of a ledger of which a key is pinned outside, following what its records say.

    Without a rotation this is one signature by the pinned key. With rotations the records that name the newer keys
    are shown to lie in the signed tree, which must continue the one that each of the older keys signed last.

    Args:
        ledger: Any way in; nothing of it is believed without proof.
        untrusted_note: What it, or somebody else, shows.
        pinned: The first key of the epoch.

    Raises:
        ProofError: It is not signed by a key that the pinned one leads to, or the tree is not the one that was rotated.
        LedgerUnavailableError: The ledger neither answers nor reads.
    """
    found = [leaf for leaf in records(ledger, kinds=(ROTATED,)) if leaf.origin == pinned.name]
    keys = followed(found, pinned)
    signed = keys.checkpoint(untrusted_note)
    for leaf in found:
        if leaf.sequence < signed.size:
            proof = ledger.inclusion(leaf.sequence, signed.size)
            if (proof.sequence, proof.size, proof.root) != (leaf.sequence, signed.size, signed.root.hex()):
                raise _refused(f"the proof of record {leaf.sequence} is about another tree")
            proof.require(leaf.raw)
    for head in keys.heads:
        if head.size < signed.size:
            require_continued(head, ledger.consistency(head.size, signed.size), signed.root)
    return signed


def require_continued(head: note.Checkpoint, proof: ConsistencyProof, root: bytes) -> None:
    """Pass only when a tree begins with the records that a rotation was about (SUC-4).

    Raises:
        ProofError: It does not.
    """
    if (proof.old, proof.old_root, proof.new_root) != (head.size, head.root.hex(), root.hex()):
        raise _refused(f"the first {head.size} records are not those over which its key was rotated")
    proof.require()


def body_of(head: note.Checkpoint, *, old: "Signing", new: "Signing", reason: str, version: int) -> dict[str, Any]:
    """Return the record's body, signed by both keys.

    Args:
        head: Of the records before.
        old: The key in force.
        new: The one that follows.
        reason: What a person gave.
        version: Of the new key, as the box counts them.
    """
    text = statement(head, new.key)
    signed = cosigned(text, [old, new])
    return {
        "vkey": new.key.to_text(),
        "previous": old.key.to_text(),
        "note": signed,
        "reason": reason,
        "version": version,
        "uid": os.getuid(),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """A key of a ledger and a way to sign with it."""

    key: note.VerifierKey
    sign: note.Sign


def cosigned(text: str, signing: Sequence[Signing]) -> str:
    """Return a note with one line of each key."""
    lines = [note.line(one.key.name, one.key.key_id + one.sign(text.encode())) for one in signing]
    return f"{text}\n{''.join(lines)}"


def _bad(leaf: Leaf, why: str) -> ProofError:
    return ProofError(what=f"record {leaf.sequence} rotates no key of this ledger", why=why, fix=_FIX)


def _refused(why: str) -> ProofError:
    return ProofError(what="a checkpoint is not one of this ledger's keys", why=why, fix=_FIX)
