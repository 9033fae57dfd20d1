"""What files for elsewhere have in common: proven records with their paths, and who held a mirror they come from."""

from collections.abc import Iterable
from typing import Any

from appliance.actions.auditing.records import NAMING, continued, rotations
from appliance.actions.proven_ledger import ProvenLedger
from appliance.actions.proven_mirror import ProvenMirror
from appliance.audit import note, succession
from appliance.audit.facts import EvidenceLedger, Ledger
from appliance.audit.leaf import Leaf
from appliance.errors import ProofError


def holding(proven: ProvenMirror) -> dict[str, Any]:
    """Return who holds a mirror and what that box recorded when it took from it last, proven under its own key.

    Raises:
        ProofError: A record of this box is not in its own signed tree.
        LedgerUnavailableError: This box's ledger does not answer.
    """
    own, ledger = proven.own, proven.own_ledger
    anchor = own.anchor()
    named = naming(ledger, own)
    taken = [] if proven.taken is None else [own.require(proven.taken)]
    return {
        **(proven.mirror or {}),
        "key": own.key().to_text(),
        "checkpoint": cosigned(ledger, anchor, own.text()),
        "records": packed_records(own, (leaf.sequence for leaf in (*named, *taken))),
        "continues": packed_continued(ledger, rotations(named), anchor),
    }


def naming(ledger: Ledger, proven: ProvenLedger) -> list[Leaf]:
    """Return the records that name keys, each proven; raises as `holding`."""
    size = proven.anchor().size
    found = [leaf for leaf in succession.records(ledger, kinds=NAMING) if leaf.sequence < size]
    return [proven.require(leaf) for leaf in found]


def packed_records(proven: ProvenLedger, sequences: Iterable[int]) -> list[dict[str, Any]]:
    """Return records that were proven with their paths, as files hold them."""
    kept = sorted((sequence, proven.kept[sequence]) for sequence in sequences)
    return [{"sequence": sequence, "raw": raw, "hashes": list(hashes)} for sequence, (raw, hashes) in kept]


def packed_continued(ledger: EvidenceLedger, sizes: Iterable[int], anchor: note.Checkpoint) -> list[dict[str, Any]]:
    """Return what joins each smaller tree to the signed one, as files hold it."""
    wanted = sorted({size for size in sizes if 0 < size < anchor.size})
    return [{"size": size, "hashes": continued(ledger, size, anchor.size)} for size in wanted]


def cosigned(ledger: EvidenceLedger, anchor: note.Checkpoint, text: str) -> str:
    """Return a signed head with the second signature where one is kept, else as it is."""
    try:
        return ledger.cosigned(anchor.size)
    except ProofError:
        return text
