"""The mirror of another box's ledger as evidence: found by the name of its box, or of its ledger, and opened to read.

Promises: of a mirror that is opened the signed tree is known, and nothing beyond it is believed. Its checkpoint is
signed by the key that the pairing pins, or one that it leads to; of a box that was parted from, it is the one over the
very tree that this box's own ledger says it took. The newest such record (`standby.imported`), proven in this box's
own signed tree, names a tree that the mirror must still hold: one that was cut back or changed since is refused.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from appliance.actions.proven_ledger import ProvenLedger
from appliance.actions.standby.forked import IMPORTED
from appliance.audit import epochs, note, succession
from appliance.audit.facts import EVERY, Appended, InclusionProof, Ledger
from appliance.audit.leaf import Leaf
from appliance.audit.offline import OfflineLedger
from appliance.audit.sqlite_backend import FILE_NAME
from appliance.config import Config
from appliance.errors import (
    LedgerDamagedError,
    LedgerUnavailableError,
    PairingRefusedError,
    PrivilegeError,
    ProofError,
)
from appliance.standby import mirror, peerkeys
from appliance.standby.card import BoxCard
from appliance.standby.pairing import paired
from media.clock import Clock
from media.errors import LimitExceededError, MalformedError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A ledger of which this box has, or should have, a mirror.

    Attributes:
        box: What people call its box.
        card: Of the box while it is paired; None once it was parted from.
    """

    box: str
    origin: str
    card: BoxCard | None

    @property
    def shown(self) -> str:
        """What messages call it."""
        return f"the mirror of {self.box} ({self.origin})"


class Copy(OfflineLedger):
    """A mirror as a ledger that is read: of its checkpoints the one that counts is the newest that was believed."""

    wait_seconds = mirror.WAIT_SECONDS
    signed: note.Checkpoint | None = None
    text: str = ""

    def append(self, kind: str, body: Mapping[str, Any]) -> Appended:
        """Refuse: a mirror holds what its box recorded, and nothing else.

        Raises:
            LedgerUnavailableError: Always.
        """
        del body
        raise LedgerUnavailableError(
            what=f"a record of kind {kind} cannot be written", why="this is the mirror of another box's ledger", fix=""
        )

    def checkpoint(self) -> str:
        """Return the newest checkpoint that counts."""
        return self.text or super().checkpoint()

    def inclusion(self, sequence: int, size: int | None = None) -> InclusionProof:
        """Return the proof for one leaf, under that checkpoint where it covers the leaf; see `Ledger.inclusion`."""
        if size is not None or self.signed is None:
            return super().inclusion(sequence, size)
        if sequence >= self.signed.size:
            return replace(super().inclusion(sequence, self.head().size), note="")
        return replace(super().inclusion(sequence, self.signed.size), note=self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """A mirror that was opened.

    Attributes:
        known: Whose.
        ledger: Its records; nothing of them is proven by opening.
        signed: Its newest checkpoint that counts, verified, and `text` as it was signed.
        key: The key of its ledger as it stands on the papers of its box: the first of its epoch.
        taken: This box's newest record that it took something into it, proven; None where it never came to that.
        held: How many records there are, those that no checkpoint covers among them.
    """

    known: Known
    ledger: Copy
    signed: note.Checkpoint
    text: str
    key: note.VerifierKey
    taken: Leaf | None
    held: int

    @property
    def reach(self) -> str:
        """How far it goes, in words."""
        last = self.ledger.leaf(self.signed.size - 1)
        later = f"; {self.held - self.signed.size} later ones are signed by nobody yet" * (self.held > self.signed.size)
        return f"{self.known.shown} ends with record {last.sequence} of {last.time}{later}"


def known(config: Config, ledger: Ledger) -> tuple[Known, ...]:
    """Return every ledger that was mirrored here or is to be, those of paired boxes first, then the newest first.

    Raises:
        LedgerUnavailableError: This box's ledger does not answer.
    """
    found = {card.origin: Known(box=card.name, origin=card.origin, card=card) for card in _cards(config)}
    for leaf in ledger.find(kind=IMPORTED, limit=EVERY):
        origin = str(leaf.body.get("sender"))
        found.setdefault(origin, Known(box=str(leaf.body.get("peer")), origin=origin, card=None))
    return tuple(found.values())


def named(config: Config, ledger: Ledger, untrusted_name: str) -> Known:
    """Return the ledger that somebody named by its box or by its own name (sealift/SITE/...).

    A box that was set up anew has the name of the one before and another ledger; the name means the one that is paired,
    or where none is the newest.

    Raises:
        UsageError: There is none; or as `known`.
    """
    every = known(config, ledger)
    for one in every:
        if untrusted_name in {one.box, one.origin}:
            return one
    raise UsageError(
        what=f"no ledger of {untrusted_name[:64]!r} was ever mirrored here",
        why=f"there are {', '.join(f'{one.box} ({one.origin})' for one in every) or 'none'}",
        fix="name a box as `sealift standby status` does, or a ledger as `sealift/SITE/...`",
    )


def opened(config: Config, ledger: Ledger, one: Known, *, clock: Clock) -> Mirrored:
    """Open a mirror.

    Args:
        config: The site file.
        ledger: This box's own.
        one: Which.
        clock: That the mirror is opened with.

    Raises:
        LedgerUnavailableError: This box's ledger does not answer, or the mirror cannot be read now.
        PrivilegeError: This user may not read it.
        ProofError: It is not there, not signed, or not what this box took.
    """
    folder = mirror.place_of(config.at, one.origin)
    try:
        os.scandir(config.at.mirrors).close()
        os.scandir(folder).close()
    except PermissionError as error:
        raise PrivilegeError(
            what=f"{one.shown} may not be read", why="mirrors are root's", fix="run it as root"
        ) from error
    except OSError:
        pass  # told below
    taken = ProvenLedger(ledger, config.at).one(IMPORTED, "sender", one.origin)
    copy = Copy.of_folder(folder, clock=clock)
    try:
        return _held(copy, one, ledger, taken)
    except (LedgerDamagedError, ProofError) as error:
        raise refused(one, f"{error.what}{f': {error.why}' if error.why else ''}") from error
    except LedgerUnavailableError as error:
        if (folder / FILE_NAME).exists():
            raise LedgerUnavailableError(
                what=f"{one.shown} cannot be read now",
                why=error.why or error.what,
                fix="try again; else check the disk",
            ) from error
        said = "" if taken is None else f", and record {taken.sequence} says that it held {taken.body['size']} records"
        raise refused(one, f"it is not there{said}") from error


def holding(
    config: Config, ledger: Ledger, *, kind: str, field: str, value: str, clock: Clock
) -> tuple[Mirrored | None, tuple[str, ...]]:
    """Return the first mirror that holds a record, or None; and of those that do not how far they reach, or why not.

    Raises:
        LedgerUnavailableError: This box's ledger does not answer.
    """
    reaches: list[str] = []
    for one in known(config, ledger):
        try:
            found = opened(config, ledger, one, clock=clock)
            if found.ledger.find(kind=kind, field=field, value=value, limit=1):
                return found, ()
            reaches.append(found.reach)
        except (LedgerUnavailableError, PrivilegeError, ProofError) as error:
            reaches.append(f"{error.what}: {error.why}")
    return None, tuple(reaches)


def refused(one: Known, why: str) -> ProofError:
    """Return the error for a mirror of which nothing may be used."""
    return ProofError(
        what=f"{one.shown} proves nothing",
        why=why,
        fix="keep its folder as it is; two people find out why; what that box still has, it proves itself",
    )


def _cards(config: Config) -> tuple[BoxCard, ...]:
    """Return the cards of the paired boxes; none where a pairing does not hold, as after a restore of this box."""
    try:
        return tuple(one.peer for one in paired(config.at))
    except (LimitExceededError, MalformedError, PairingRefusedError, ProofError):
        return ()


def _held(copy: Copy, one: Known, ledger: Ledger, taken: Leaf | None) -> Mirrored:
    size, root = (int(taken.body["size"]), str(taken.body["root"])) if taken is not None else (0, "")
    if one.card is not None:
        text, keys = copy.checkpoint(), peerkeys.known(ledger, one.card)
    else:
        # Nothing is pinned any more: the tree that was taken while it was is believed, and the keys that it names.
        text, keys = copy.cosigned(size), succession.of_ledger(copy)
    try:
        signed = keys.checkpoint(text)
    except ProofError as error:
        raise _no(f"its checkpoint is not signed by that box: {error.why}") from error
    if signed.origin != one.origin:
        raise _no(f"its checkpoint is of {signed.origin}")
    head = copy.head()
    if max(size, signed.size) > head.size:
        raise _no(f"it holds {head.size} records, and held {max(size, signed.size)} when they were taken")
    if size > signed.size:
        raise _no(f"its newest checkpoint signs {signed.size} records, and this box took {size}")
    for older, whose in ((size, root), (signed.size, signed.root.hex())):
        if older:
            proof = copy.consistency(older, head.size)
            if (proof.old_root, proof.new_root) != (whose, head.root):
                raise _no(f"its first {older} records are not those that were taken")
            proof.require()
    begun = epochs.epochs(copy)[-1]
    key = begun.vkey
    first = copy.inclusion(begun.start, signed.size) if begun.start < signed.size else None
    if key.name != one.origin or first is None or first.root != signed.root.hex():
        raise _no("no signed record names its key")
    first.require(copy.leaf(begun.start).raw)
    succession.verified(copy, text, key)
    copy.signed, copy.text = signed, text
    return Mirrored(known=one, ledger=copy, signed=signed, text=text, key=key, taken=taken, held=head.size)


def _no(why: str) -> ProofError:
    return ProofError(what=why)
