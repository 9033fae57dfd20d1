"""The part of a proof that is about an answer of the test stage: who had the version loaded, and which gates it passed.

Nobody promoted it for that answer, and nobody approved it: the proof says so by what it does not claim.
"""

from datetime import timedelta
from typing import Final

from appliance.actions.proof import Found
from appliance.actions.proven_ledger import ProvenLedger
from appliance.audit.leaf import Leaf
from appliance.config import Places
from appliance.errors import ProofError
from appliance.registry import evidence
from appliance.registry.stageloads import LOADED, UNLOADED
from media import canonical
from media.clock import from_text

_LEAVING: Final = timedelta(minutes=15)
"""How long an answer may have been on its way when its version was taken away."""


def loaded_for(ledger: ProvenLedger, intent: Leaf) -> Found[Leaf]:
    """Find the record by which the version was in the test stage when it answered.

    Raises:
        ProofError: Nobody had loaded it, or it had been taken away.
    """
    digest = str(intent.body.get("model_digest"))
    made, gone = (ledger.last_before(intent.sequence, kind, "model_digest", digest) for kind in (LOADED, UNLOADED))
    if made is None:
        raise ProofError(
            what=f"version {digest[:12]} was not loaded in the test stage before it answered", why="", fix=""
        )
    was_leaving = gone is not None and from_text(intent.time) - from_text(gone.time) <= _LEAVING
    if gone is not None and gone.sequence > made.sequence and not was_leaving:
        raise ProofError(
            what=f"version {digest[:12]} was not in the test stage when it answered",
            why=f"it left at {gone.sequence}",
            fix="",
        )
    person = str(made.body.get("person"))
    detail = (
        f"loaded by {person} at sequence {made.sequence}, {made.time}; an answer to a developer, approved by nobody"
    )
    return Found(value=made, detail=detail, data={"person": person, "sequence": made.sequence, "at": made.time})


def gates_of(places: Places, ledger: ProvenLedger, made: Leaf) -> Found[None]:
    """Check the gates that the version had passed when it was loaded, by their evidence, hashed again.

    Raises:
        ProofError: The evidence is about another version, or a gate did not pass or was not recorded.
        StoreDamagedError: The evidence is not what its digest says.
    """
    digest = canonical.sha256_hex(made.body.get("evidence_digest"), "stage.loaded.evidence_digest")
    document = evidence.read(places, digest)
    if document.get("model_digest") != made.body.get("model_digest"):
        raise ProofError(what="the evidence is about another version", why=digest[:12], fix="")
    recorded = {
        str(leaf.body.get("gate")): leaf.body.get("passed")
        for leaf in ledger.all("gate.result", "evidence_digest", digest, before=made.sequence)
    }
    gates = [canonical.mapping(one, "gate") for one in canonical.array(document.get("gates"), "evidence.gates")]
    names = [str(gate["gate"]) for gate in gates]
    if not names or any(gate["passed"] is not True or recorded.get(str(gate["gate"])) is not True for gate in gates):
        raise ProofError(what="a gate did not pass, or was not recorded", why=", ".join(names), fix="")
    detail = f"{', '.join(names)} passed; evidence {digest[:12]} hashed again"
    return Found(value=None, detail=detail, data={"evidence_digest": digest, "gates": names})
