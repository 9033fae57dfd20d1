"""The ledger's own record of something that leaves; who has it with its proof knows that the ledger's key covers it."""

from collections.abc import Mapping
from typing import Any

from appliance.actions.auditing.records import continued
from appliance.audit import note
from appliance.audit.facts import EvidenceLedger


def recorded(
    ledger: EvidenceLedger, signed: note.Checkpoint, kind: str, body: Mapping[str, Any]
) -> tuple[int, dict[str, Any]]:
    """Record, and return the sequence and what proves it: the record, its path, a checkpoint, and what joins the two.

    Args:
        ledger: Through its door.
        signed: The head that what leaves was made of.
        kind: Of the record.
        body: Names what leaves by its digest.

    Raises:
        LedgerUnavailableError: It could not be recorded, so nothing may leave.
    """
    sequence = ledger.append(kind, body).sequence
    ledger.checkpoint()  # signed now, whatever the round
    proof = ledger.inclusion(sequence)
    return sequence, {
        "record": ledger.leaf(sequence).raw.decode(),
        "hashes": list(proof.hashes),
        "checkpoint": proof.note,
        "continues": continued(ledger, signed.size, proof.size),
    }
