"""The mirror of another box's ledger as a proof may use it: what that box signed, read on this one.

What this box's own ledger has over a mirror are the promoter's files, which show that no record was kept back. For a
mirror every record is hashed again instead, and what is found by its kind must be all that there is of that kind. What
a proof needs besides records (weights, seals, metadata, evidence of gates) is looked for on this box; what is not here
is a step that does not hold.
"""

from collections.abc import Callable
from typing import Final

from appliance.actions.proven_ledger import ProvenLedger
from appliance.actions.standby import mirrored
from appliance.actions.standby.mirrored import Mirrored
from appliance.audit import verify
from appliance.audit.facts import EvidenceLedger
from appliance.audit.leaf import Leaf
from appliance.config import Places
from appliance.errors import ProofError
from appliance.promote.history import Production
from appliance.promote.people import SitePeople
from media import canonical

_FREQUENT: Final = "request."
_PAGE: Final = 1000


class ProvenMirror(ProvenLedger):
    """Reads a mirror and counts what was proven of it."""

    def __init__(self, copy: Mirrored, own: EvidenceLedger, places: Places) -> None:
        """Read this mirror, held on the box whose ledger is `own`."""
        super().__init__(copy.ledger, places)
        self._copy = copy
        self.own_ledger = own
        self.own = ProvenLedger(own, places)
        """This box's own ledger, which says what was taken from the other one."""
        self.taken = copy.taken
        self._anchor, self._text, self._key = copy.signed, copy.text, copy.key
        self.held_by = own.head().origin
        """The ledger of the box that holds the mirror."""
        self.mirror = {
            "box": copy.known.box,
            "origin": copy.known.origin,
            "size": copy.signed.size,
            "held_by": self.held_by,
            "taken": None if copy.taken is None else copy.taken.sequence,
            "taken_at": None if copy.taken is None else copy.taken.time,
        }

    @property
    def shown(self) -> str:
        """The box, and how far its signed records go."""
        return f"{self._copy.known.box}, up to record {self._copy.signed.size - 1}"

    def look(self, progress: Callable[[int, int], None] = lambda _done, _of: None) -> str:
        """Return whose ledger it is and how far it was signed, after every record was hashed again.

        Args:
            progress: Called with records read and records in all.

        Raises:
            ProofError: They are not those that were signed, or are not found as they are.
        """
        found = verify.verify(self._copy.ledger, pinned=self._copy.key, progress=progress)
        if not found.ok:
            raise mirrored.refused(self._copy.known, found.findings[0])
        signed = self._copy.signed
        return (
            f"not this box's ledger: that of {self._copy.known.box} ({signed.origin}), mirrored here; signed up to "
            f"{signed.size}, {found.size} records hashed again; {self.since()[1]}"
        )

    def reach(self) -> str:
        """Return how far the mirror goes."""
        return f"; {self._copy.reach}; what came after it is not proven here"

    def one(self, kind: str, field: str, value: str | int) -> Leaf | None:
        """Return the newest record of a kind whose field has this value, proven; None when there is none.

        Requests are found by an index that nothing signs and `look` does not compare: where it knows none, all is read.
        """
        found = super().one(kind, field, value)
        if found is not None or not kind.startswith(_FREQUENT):
            return found
        last: Leaf | None = None
        for start in range(0, self._copy.signed.size, _PAGE):
            for leaf in self._copy.ledger.leaves(start, min(_PAGE, self._copy.signed.size - start)):
                if leaf.kind == kind and leaf.body.get(field) == value:
                    last = leaf
        return None if last is None else self.require(last)

    def require(self, leaf: Leaf) -> Leaf:
        """Return the leaf when it lies in the signed tree; see `ProvenLedger.require`.

        Raises:
            ProofError: It does not, or came after what was signed.
        """
        if leaf.sequence >= self._copy.signed.size:
            raise ProofError(
                what=f"record {leaf.sequence} is newer than the last checkpoint of {self._copy.known.box} that is here",
                why=f"it signs {self._copy.signed.size} records",
                fix="take the next bundle of that box; where there will be none, nothing proves this record",
            )
        return super().require(leaf)

    def require_whole(self, production: Production, *, before: int) -> None:
        """Do nothing: `look` showed that the records are all there are."""

    def deletion(self, model_digest: str) -> Leaf | None:
        """Return the record by which the weights left this box, which holds them for the other one's answers."""
        return self.own.deletion(model_digest)

    def hand_overs(self, received: Leaf) -> frozenset[str] | None:
        """Return which hand-overs the medium bore when the other box received it; later ones are not of its story.

        Raises:
            ProofError: Its record does not name all of them.
        """
        custody = canonical.mapping(received.body.get("custody"), "release.received.custody")
        entries = canonical.array(custody.get("entries"), "release.received.custody.entries")
        if custody.get("entries_in_all", len(entries)) != len(entries):
            raise ProofError(
                what=f"the record of {self._copy.known.box} does not name every hand-over of the medium",
                why=f"it lists {len(entries)} of {custody.get('entries_in_all')}",
                fix="",
            )
        return frozenset(canonical.sha256_hex(one.get("sha256"), "custody.sha256") for one in entries)

    def since(self) -> tuple[int, str]:
        """Return how many records this box recorded that it took, and where."""
        known = self.continues()
        taken = self._copy.taken
        if taken is None:
            return 0, "this box has no record yet of what it took"
        return known, f"the {known} records that this box took at {taken.time} (its record {taken.sequence}) are in it"

    def continues(self) -> int:
        """Return the size of the tree that this box took last, which the opened mirror was shown to hold."""
        return 0 if self._copy.taken is None else int(self._copy.taken.body["size"])

    def _require_everybody(self, people: SitePeople, *, before: int) -> None:
        """Do nothing: `look` showed that the records are all there are."""
