"""One record of a peer's ledger with its proof: what crosses from box to box and is recorded again by the other.

Promises: a carried record is believed to be in the peer's ledger only by its inclusion in a tree that the peer's own
key signed: the key that the pairing names, or one that it leads to. What it says is judged anew by whoever takes it.
Recorded here, its body holds `carried`: origin and sequence there and its leaf hash, so that nothing is taken twice or
sent back. What a box took over it gives on: a box that is set up anew has no other way to what a lost one decided.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from appliance.audit.facts import InclusionProof, Ledger
from appliance.audit.leaf import MAX_LEAF_BYTES, Leaf
from appliance.audit.succession import Keys
from appliance.errors import ProofError
from appliance.standby.card import BoxCard
from media import canonical

FIELD: Final = "carried"
_MOST_HASHES: Final = 64
_MOST_NOTE: Final = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """The exact bytes of a leaf, and the proof that a signed tree holds them."""

    raw: bytes
    proof: InclusionProof

    @classmethod
    def of(cls, ledger: Ledger, sequence: int) -> Self:
        """Return a record of a ledger or of its mirror with a proof under a signed checkpoint.

        Raises:
            UsageError: There is no such record.
            LedgerUnavailableError: The ledger does not answer.
            ProofError: No checkpoint covers it.
        """
        proof = ledger.inclusion(sequence)
        if not proof.note:
            raise ProofError(
                what=f"record {sequence} cannot be proven",
                why="no signed checkpoint covers it",
                fix="run `sealift audit checkpoint`",
            )
        return cls(raw=ledger.leaf(sequence).raw, proof=proof)

    def require(self, box: BoxCard, keys: Keys) -> Leaf:
        """Return the record when this box's ledger holds it.

        Args:
            box: The card of the box.
            keys: Those of its ledger (`appliance.standby.peerkeys`).

        Raises:
            LedgerDamagedError: The bytes are no leaf.
            ProofError: The tree is not signed by this box, or does not hold the record at its place.
        """
        signed = keys.checkpoint(self.proof.note)
        if (signed.origin, signed.size, signed.root.hex()) != (box.origin, self.proof.size, self.proof.root):
            raise _unproven("the checkpoint is of another tree than the proof")
        self.proof.require(self.raw)
        leaf = Leaf.from_bytes(self.raw)
        # Its origin may be that of an earlier epoch, which the tree that the present key signed holds as well.
        if leaf.sequence != self.proof.sequence:
            raise _unproven("the record names another place than the proof")
        return leaf

    def to_json(self) -> dict[str, Any]:
        """Return the fields for messages and files."""
        return {
            "leaf": base64.b64encode(self.raw).decode(),
            "sequence": self.proof.sequence,
            "size": self.proof.size,
            "root": self.proof.root,
            "hashes": list(self.proof.hashes),
            "note": self.proof.note,
        }

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Parse what `to_json` gave; nothing is verified by that.

        Raises:
            MalformedError: A field is missing or of another shape.
            ProofError: The leaf is not base64.
        """
        required = ("leaf", "sequence", "size", "root", "hashes", "note")
        fields = canonical.exact_keys(untrusted, required, what="carried")
        most = 4 * (MAX_LEAF_BYTES // 3 + 2)
        try:
            raw = base64.b64decode(canonical.text(fields["leaf"], "carried.leaf", most=most), validate=True)
        except (binascii.Error, ValueError) as error:
            raise _unproven("the record is not base64") from error
        return cls(
            raw=raw,
            proof=InclusionProof(
                sequence=canonical.integer(fields["sequence"], "carried.sequence"),
                size=canonical.integer(fields["size"], "carried.size"),
                root=canonical.sha256_hex(fields["root"], "carried.root"),
                hashes=tuple(
                    canonical.sha256_hex(one, "carried.hashes")
                    for one in canonical.array(fields["hashes"], "carried.hashes", most=_MOST_HASHES)
                ),
                note=canonical.text(fields["note"], "carried.note", most=_MOST_NOTE, lines=True),
            ),
        )


def marked(leaf: Leaf, box: BoxCard) -> dict[str, Any]:
    """Return the body as it is recorded on this box, with where it comes from."""
    return {**leaf.body, FIELD: {"origin": box.origin, "sequence": leaf.sequence, "leaf_hash": leaf.hash}}


def origin_of(body: Mapping[str, Any]) -> str:
    """Return the ledger that a record here was carried from; empty for one that was made here."""
    found = body.get(FIELD)
    return str(found.get("origin", "")) if isinstance(found, Mapping) else ""


def is_here(ledger: Ledger, body: Mapping[str, Any], kinds: Iterable[str]) -> bool:
    """Tell whether this box holds already what a record of a paired box was carried from, whichever way that was.

    Args:
        ledger: This box's own.
        body: Of the other box's record; one that was made there is not here.
        kinds: Of what is taken over.
    """
    if is_own(ledger, body):
        return True
    origin = origin_of(body)
    sequence = body[FIELD].get("sequence") if origin else None
    # Taken from that box by this one itself.
    return isinstance(sequence, int) and 0 <= sequence <= last_taken(ledger, kinds, origin)


def is_own(ledger: Ledger, body: Mapping[str, Any]) -> bool:
    """Tell whether a paired box has a record from this ledger, be it of an earlier epoch, as after a restore."""
    origin = origin_of(body)
    if not origin:
        return False
    head, mark = ledger.head(), body[FIELD]
    if origin == head.origin:
        return True
    sequence = mark.get("sequence")
    if not isinstance(sequence, int) or not 0 <= sequence < head.size:
        return False
    is_same: bool = ledger.leaf(sequence).hash == mark.get("leaf_hash")
    return is_same


def last_taken(ledger: Ledger, kinds: Iterable[str], origin: str) -> int:
    """Return the highest sequence of that ledger that is recorded here among these kinds; -1 for none."""
    last = -1
    for kind in kinds:
        for leaf in ledger.find(kind=kind, field=f"{FIELD}.origin", value=origin, limit=1):
            last = max(last, int(leaf.body[FIELD]["sequence"]))
    return last


def _unproven(why: str) -> ProofError:
    return ProofError(
        what="a record of the other box is not proven", why=why, fix="make the bundle anew on the other box"
    )
