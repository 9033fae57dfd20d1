"""The keys of a site's ledger: the one that was compared by telephone, and those that took over from it.

A site that renews its ledger's key shows with what it signs next a note for each renewal: a checkpoint of the records
before, with one more line that names the new key, signed by the key before and by the new one. So the register follows
by itself and needs no further call; what an older key signs over larger trees is refused from then on, whoever has it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from bundler.ledgernote import Checkpoint, LedgerKey, checkpoint, checkpoint_of, parts
from bundler.register import Entry, Register
from media.clock import Clock
from media.errors import BadSignatureError, LimitExceededError, UsageError

MOST: Final = 64
"""Renewals that a site shows at once."""
_NEXT: Final = "sealift/next-key "


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldKey:
    """One key and the sizes of the trees that it signs; `last` is None while nothing is known to follow it."""

    key: LedgerKey
    first: int = 0
    last: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteKeys:
    """Every key of a site's ledger that is known, the one that was compared first, and the notes that lead to it."""

    held: tuple[HeldKey, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, compared: LedgerKey) -> Self:
        """Return the keys of a site of which only the compared one is known."""
        return cls(held=(HeldKey(key=compared),))

    @property
    def keys(self) -> tuple[LedgerKey, ...]:
        """Each key, the compared one first, the one in force last."""
        return tuple(held.key for held in self.held)

    def followed(self, untrusted_notes: Iterable[str]) -> "SiteKeys":
        """Return the keys after these notes; known ones change nothing, nor do those from before the compared key.

        Raises:
            BadSignatureError: A note is not signed by both keys, or another key was named to follow before.
            LimitExceededError: More renewals than are followed.
            MalformedError: One is no such note.
        """
        keys = self
        for note in untrusted_notes:
            if note not in keys.notes:
                keys = keys._after(note)
        return keys

    def checkpoint(self, untrusted: str) -> tuple[Checkpoint, LedgerKey]:
        """Return the checkpoint of a note and which of the keys signed it, over a tree of a size that is its own.

        Raises:
            MalformedError: It is no signed note of a checkpoint.
            BadSignatureError: None of them signed it, or one that had ended or not begun.
        """
        made = {(name, blob[:4]) for name, blob in parts(untrusted)[1]}
        for held in reversed(self.held):
            if (held.key.name, held.key.key_id) in made:
                head = checkpoint(untrusted, held.key)
                if held.first <= head.size and (held.last is None or head.size <= held.last):
                    return head, held.key
                raise _refused(f"the key {held.key.key_id.hex()} signs no tree of {head.size} records")
        raise BadSignatureError(
            what="a checkpoint is not signed by the site's ledger",
            why=f"expected a signature by {self.held[-1].key.name}",
            fix="compare the site's ledger key by telephone",
        )

    def _after(self, note: str) -> "SiteKeys":
        text, signatures = parts(note)
        by, now = {(name, blob[:4]) for name, blob in signatures}, self.held[-1]
        lines = text.split("\n")
        if len(lines) != 5 or not lines[3].startswith(_NEXT):
            raise _refused("it names no key that follows")
        new = LedgerKey.from_text(lines[3].removeprefix(_NEXT))
        if new == self.held[0].key or not by & {(held.key.name, held.key.key_id) for held in self.held}:
            return self  # of before the compared key: it says nothing of what follows
        if by != {(key.name, key.key_id) for key in (now.key, new)} or len(signatures) != 2:
            raise _refused("the key before and the new one did not sign it")
        for key in (now.key, new):
            checkpoint(note, key)
        head = checkpoint_of(text)
        if head.origin != new.name or head.size < now.first or new in self.keys:
            raise _refused("it is of another ledger, of before the key, or names one that was used")
        if len(self.held) > MOST:
            raise LimitExceededError(
                what="the ledger's key was renewed too often",
                why=f"at most {MOST} renewals are followed",
                fix="compare its present key by telephone, then: sealift-bundler register site --replace",
            )
        ended = HeldKey(key=now.key, first=now.first, last=head.size + 1)
        return SiteKeys(held=(*self.held[:-1], ended, HeldKey(key=new, first=head.size + 1)), notes=(*self.notes, note))


def of_site(entries: Sequence[Entry], site: str) -> SiteKeys | None:
    """Return the keys of a site's ledger as the register knows them; None where none was compared.

    Raises:
        SealiftError: A line of the register does not hold.
    """
    keys = None
    for entry in entries:
        if entry.kind == "site" and entry.facts["site"] == site:
            keys = SiteKeys.of(LedgerKey.from_text(entry.facts["ledger_key"]))
        elif entry.kind == "succession" and entry.facts["site"] == site and keys is not None:
            keys = keys.followed([entry.facts["note"]])
    return keys


def required(entries: Sequence[Entry], site: str, *, why: str) -> SiteKeys:
    """Return the keys of a site's ledger, which must have been compared.

    Raises:
        SealiftError: A line of the register does not hold.
        UsageError: None was; `why` says what rests on it.
    """
    keys = of_site(entries, site)
    if keys is None:
        raise UsageError(
            what=f"the ledger key of {site} is not registered",
            why=why,
            fix=f"compare ledger.pub with the site by telephone, then: sealift-bundler register site {site} --key FILE",
        )
    return keys


def remember(register: Register, site: str, keys: SiteKeys, *, clock: Clock) -> int:
    """Enter each renewal that the register does not know yet; return how many there were.

    Raises:
        MalformedError: The register is broken.
        UnreadableError: The register cannot be written.
    """
    known = of_site(register.entries(), site)
    news = [] if known is None else [note for note in keys.notes if note not in known.notes]
    for note in news:
        index = keys.notes.index(note) + 1
        facts = {"site": site, "ledger_key": keys.keys[index].to_text(), "note": note}
        register.append("succession", facts, clock=clock)
    return len(news)


def _refused(why: str) -> BadSignatureError:
    return BadSignatureError(
        what="what the site's ledger says of its key does not hold",
        why=why,
        fix="ask the site by telephone whether it renewed the key; compare `sealift box-keys list` and ledger.pub",
    )
