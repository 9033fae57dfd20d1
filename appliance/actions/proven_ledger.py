"""The ledger as a proof may use it: every record it names is shown to be in a tree that the pinned key signed.

Nothing is believed because the ledger says so: a record counts when its exact bytes lie in the tree of a checkpoint
whose signature the key in etc/ledger.pub verifies, or one that it leads to, and that tree must continue the one the
trust record knew. That no record was kept from a proof (how records are found is not signed) is shown against the
promoter's own files.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from typing import Any

from appliance.actions.site_custody import ENTERED
from appliance.audit import note, pin, succession
from appliance.audit.epochs import epochs
from appliance.audit.facts import EVERY, Ledger
from appliance.audit.leaf import Leaf
from appliance.config import Places
from appliance.errors import ProofError
from appliance.promote import peoplebook
from appliance.promote.folder import PromoterFolder
from appliance.promote.history import Production
from appliance.promote.people import SitePeople
from appliance.promote.record import EVENTS, Kind, Promotion
from appliance.registry import catalog
from appliance.registry.deletion import DELETED
from appliance.verify import trust
from media.clock import from_text
from media.errors import NoTrustError

_PAGE = 200


class ProvenLedger:
    """Reads a ledger and counts what was proven of it: this box's own, or as a subclass does it for a mirror."""

    mirror: Mapping[str, Any] | None = None
    """Which box's ledger this is and who holds the mirror; nothing for the own one."""

    def __init__(self, ledger: Ledger, places: Places) -> None:
        self._ledger = ledger
        self._places = places
        self._anchor: note.Checkpoint | None = None
        self._names: frozenset[str] | None = None
        self._text = ""
        self._key: note.VerifierKey | None = None
        self.elsewhere: tuple[str, ...] = ()
        """How far the mirrors of other boxes go that were searched for an answer, in vain."""
        self.kept: dict[int, tuple[str, tuple[str, ...]]] = {}
        """Of each proven record its bytes and its path to the anchor, by sequence."""

    def anchor(self) -> note.Checkpoint:
        """Return the newest checkpoint, its signature verified by the pinned key or one that it leads to.

        Raises:
            ProofError: No key is pinned, or it did not sign.
            LedgerUnavailableError: There is no checkpoint.
        """
        if self._anchor is None:
            key = pin.read_pin(self._places)
            if key is None:
                raise ProofError(
                    what="no ledger key is pinned",
                    why="etc/ledger.pub is absent",
                    fix="restore it from the site's records",
                )
            self._key, self._text = key, self._ledger.checkpoint()
            self._anchor = succession.verified(self._ledger, self._text, key)
        return self._anchor

    @property
    def proven(self) -> frozenset[int]:
        """The sequences of all records that were proven."""
        return frozenset(self.kept)

    def key(self) -> note.VerifierKey:
        """Return the pinned key; raises as `anchor`."""
        self.anchor()
        if self._key is None:
            raise AssertionError
        return self._key

    def text(self) -> str:
        """Return the signed checkpoint that everything is proven against; raises as `anchor`."""
        self.anchor()
        return self._text

    def require(self, leaf: Leaf) -> Leaf:
        """Return the leaf, read again from its bytes, when they lie in the signed tree.

        Raises:
            ProofError: They do not.
        """
        anchor = self.anchor()
        if leaf.sequence >= anchor.size:
            raise ProofError(
                what=f"record {leaf.sequence} is not under a signed checkpoint yet",
                why=f"the newest one covers {anchor.size} records",
                fix="start the ledger, which signs one, and prove again",
            )
        proof = self._ledger.inclusion(leaf.sequence, anchor.size)
        if (proof.sequence, proof.size, proof.root) != (leaf.sequence, anchor.size, anchor.root.hex()):
            raise ProofError(
                what=f"the proof of record {leaf.sequence} is about another tree",
                why=f"its root is {proof.root[:12]}, signed was {anchor.root.hex()[:12]}",
                fix="run `sealift audit verify`",
            )
        proof.require(leaf.raw)
        again = Leaf.from_bytes(leaf.raw)
        if again.sequence != leaf.sequence or again.origin not in self._origins():
            raise ProofError(
                what=f"record {leaf.sequence} says it is another",
                why=f"{again.sequence}",
                fix="run `sealift audit verify`",
            )
        self.kept[leaf.sequence] = (leaf.raw.decode(), proof.hashes)
        return again

    def _origins(self) -> frozenset[str]:
        """Return every name this ledger has had: a restore from a backup goes on under a new one."""
        if self._names is None:
            self._names = frozenset(epoch.origin for epoch in epochs(self._ledger)) | {self.anchor().origin}
        return self._names

    def one(self, kind: str, field: str, value: str | int) -> Leaf | None:
        """Return the newest record of a kind whose field has this value, proven; None when there is none."""
        found = self._ledger.find(kind=kind, field=field, value=value, limit=1)
        return self.require(found[0]) if found else None

    def last_before(self, sequence: int, kind: str, field: str, value: str | int) -> Leaf | None:
        """Return the last record of a kind before a sequence whose field has this value, proven; None without any."""
        found = self._ledger.find(kind=kind, field=field, value=value, limit=EVERY)
        leaf = next((one for one in found if one.sequence < sequence), None)
        return None if leaf is None else self.require(leaf)

    def all(self, kind: str, field: str, value: str | int, *, before: int = EVERY) -> list[Leaf]:
        """Return every record of a kind before a sequence whose field has this value, proven, the oldest first."""
        found = self._ledger.find(kind=kind, field=field, value=value, limit=EVERY, newest_first=False)
        return [self.require(leaf) for leaf in found if leaf.sequence < before]

    def since_when(self, kind: str, says: Callable[[Leaf], bool]) -> Leaf | None:
        """Return the record since which every one of a kind says what is meant; it and the newest one are proven.

        None where there is none, or the newest does not say it.
        """
        found = [*takewhile(says, self._ledger.find(kind=kind, limit=EVERY))]
        return [self.require(leaf) for leaf in (found[0], found[-1])][-1] if found else None

    def every(self, kind: str, says: Callable[[Leaf], bool]) -> list[Leaf]:
        """Return the records of a kind that say what is meant, proven, the oldest first."""
        return [
            self.require(leaf) for leaf in self._ledger.find(kind=kind, limit=EVERY, newest_first=False) if says(leaf)
        ]

    def people(self, *, before: int) -> SitePeople:
        """Return the site's people as the records up to a sequence make them.

        Raises:
            ProofError: The promoter's own file knows of a person or a revocation that no record shows.
        """
        people = SitePeople()
        for leaf in self._walk(set(peoplebook.KINDS), before=before):
            people = peoplebook.after(people, leaf.kind, leaf.body, leaf.sequence)
        self._require_everybody(people, before=before)
        return people

    def _require_everybody(self, people: SitePeople, *, before: int) -> None:
        found = [person.as_of(before) for person in people.people]
        for person in PromoterFolder(self._places.promoter).people().people:
            if person.enrolled < before and person.as_of(before) not in found:
                raise _kept_back(f"what became of {person.id}")

    def productions(self, *, before: int) -> Iterator[Production]:
        """Yield where production stood after each promotion record up to a sequence; always the same object."""
        production = Production()
        yield production
        for leaf in self._walk(set(EVENTS), before=before):
            kind = Kind(leaf.kind.removeprefix("promotion."))
            production.take(
                Promotion.from_event(
                    kind,
                    leaf.body,
                    number=production.number + 1,
                    before=production.before,
                    sequence=leaf.sequence,
                    leaf_hash=leaf.hash,
                    at=from_text(leaf.time),
                )
            )
            yield production

    def require_whole(self, production: Production, *, before: int) -> None:
        """Return when the records show every promotion up to a sequence that the promoter's own files know.

        Raises:
            ProofError: One is missing, or is another.
            NotPromotedError: The promoter's files do not read.
        """
        kept = PromoterFolder(self._places.promoter).production().promotions
        wanted = [(one.sequence, one.leaf_hash) for one in kept if one.sequence < before]
        # A crash may leave the files one behind, never ahead.
        if [(one.sequence, one.leaf_hash) for one in production.promotions][: len(wanted)] != wanted:
            raise _kept_back("every promotion")

    def look(self, progress: Callable[[int, int], None]) -> str:
        """Return what there is to say before anything of this ledger is used; empty for the own one.

        Args:
            progress: Called with records read and records in all.

        Raises:
            ProofError: Nothing of it may be used.
        """
        del progress
        return ""

    def reach(self) -> str:
        """Return how far it goes, where an answer may be missing for that; of the own one, how far mirrors here do."""
        return "".join(f"; {one}" for one in self.elsewhere)

    def deletion(self, model_digest: str) -> Leaf | None:
        """Return the record by which a version's weights left this box; None while they have to be here."""
        gone, known = (
            self._ledger.find(kind=kind, field="model_digest", value=model_digest, limit=1)
            for kind in (DELETED, catalog.REGISTERED)
        )
        # A registration after it says no more than that the weights have to be here, and they are hashed.
        return self.require(gone[0]) if gone and not (known and known[0].sequence > gone[0].sequence) else None

    def entered(self, volume: str) -> list[Mapping[str, Any]]:
        """Return what was entered from paper of the volume of an id, each record proven."""
        return [leaf.body for leaf in self.all(ENTERED, "volume", volume)]

    def hand_overs(self, received: Leaf) -> frozenset[str] | None:
        """Return which hand-overs a received medium bore, by the SHA-256 of each; None for all that the store keeps.

        Raises:
            ProofError: The record does not name all of them.
        """
        del received
        return None

    def since(self) -> tuple[int, str]:
        """Return how many records were known before from elsewhere, and from where; raises as `continues`."""
        known = self.continues()
        return (
            known,
            f"continues the {known} records the trust record knew" if known else "no earlier size is known here",
        )

    def continues(self) -> int:
        """Return the size of the tree that the trust record knew, when the signed one continues it; 0 for none known.

        Raises:
            ProofError: It does not continue it.
        """
        anchor = self.anchor()
        try:
            record = trust.load(self._places.trust, self._places.pinned_trust, may_begin=False)
        except NoTrustError:
            return 0
        known = record.checkpoint
        if known is None or not known.size:
            return 0
        if known.origin != anchor.origin or known.size > anchor.size:
            raise ProofError(
                what="the ledger is not the one the trust record knew",
                why=f"it had {known.size} records then, {anchor.size} are signed now",
                fix="two people find out why: `sealift audit verify`",
            )
        proof = self._ledger.consistency(known.size, anchor.size)
        if (proof.old_root, proof.new_root) != (known.root, anchor.root.hex()):
            raise ProofError(
                what="the ledger's past was changed",
                why=f"its first {known.size} records hash to something else",
                fix="two people find out why: `sealift audit verify`",
            )
        proof.require()
        return known.size

    def _walk(self, kinds: set[str], *, before: int) -> Iterator[Leaf]:
        start = 0
        while page := self._ledger.leaves(start, _PAGE, kinds=kinds):
            for leaf in page:
                if leaf.sequence >= before:
                    return
                yield self.require(leaf)
            start = page[-1].sequence + 1


def _kept_back(what: str) -> ProofError:
    return ProofError(
        what=f"the ledger does not show {what}",
        why="the promoter's own files know of a record that is not found in it",
        fix="run `sealift audit verify`",
    )
