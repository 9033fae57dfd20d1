"""The proof of one answer as one file that is checked elsewhere, by `check/verify.py proof FILE` of any medium.

It holds the exact bytes of every record that the proof names, each with its path to one signed checkpoint, the records
that name the ledger's keys, and what this machine found when it hashed weights and media again. Records hold no prompt
and no answer, so neither does the file. What only this machine could check (bytes of weights, custody on media) is in
its report and has to be believed, or checked with the medium itself. A proof from a mirror says of which box, and holds
the holder's own record of what it took, under the holder's key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.actions.auditing.holder import cosigned, holding, naming, packed_continued, packed_records
from appliance.actions.auditing.records import rotations
from appliance.actions.proof import ProofReport, Tell
from appliance.actions.prove import prove
from appliance.actions.proven_ledger import ProvenLedger
from appliance.actions.proven_mirror import ProvenMirror
from appliance.audit import note
from appliance.audit.facts import EvidenceLedger
from appliance.config import Config
from media import canonical
from media.clock import Clock

FORMAT: Final = 1
"""Where the key of checkpoints was rotated it is 2, which checkers of before refuse by its number."""
TYPE: Final = "sealift/proof-of-answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Portable:
    """A proof, and the file of it."""

    report: ProofReport
    content: bytes


def made(
    config: Config,
    ledger: EvidenceLedger,
    request_id: str,
    *,
    printed: Sequence[str] = (),
    tell: Tell = lambda *_: None,
    clock: Clock | None = None,
    proven: ProvenLedger | None = None,
) -> Portable:
    """Prove an answer and return the proof with its file; whether it holds is in the report.

    Args:
        config: The site file.
        ledger: Through its door or from its file.
        request_id: The x-request-id of the answer, or the id in its body.
        printed: Checkpoints from outside that the file must be comparable with.
        tell: Told of each step, as `prove` does.
        clock: For the time of each step.
        proven: Of a mirror, reads that instead; `ledger` is the mirror, then.

    Raises:
        ProofError: No key is pinned, or the records that name keys are not in the signed tree.
        LedgerUnavailableError: There is no checkpoint.
    """
    proven = proven or ProvenLedger(ledger, config.at)
    report = prove(config, ledger, request_id, tell=tell, proven=proven, clock=clock)
    return Portable(report=report, content=packed(ledger, proven, report, printed=printed))


def packed(ledger: EvidenceLedger, proven: ProvenLedger, report: ProofReport, *, printed: Sequence[str] = ()) -> bytes:
    """Return the file of a proof that was made just now; raises as `made`.

    Args:
        ledger: Through its door or from its file.
        proven: What the proof showed to lie in the signed tree.
        report: The proof.
        printed: Checkpoints from outside that the file must be comparable with.
    """
    anchor = proven.anchor()
    rotated = rotations(naming(ledger, proven))
    sizes = {*rotated, *(note.Checkpoint.from_text(note.parts(text)[0]).size for text in printed)}
    if isinstance(proven, ProvenMirror):
        sizes.add(proven.continues())
    asked = next((step.data.get("request_id") for step in report.steps if step.name == "request"), None)
    content = {
        "format": FORMAT + bool(rotated),
        "type": TYPE,
        "request": asked or report.subject,
        "origin": anchor.origin,
        "key": proven.key().to_text(),
        "checkpoint": cosigned(ledger, anchor, proven.text()),
        "records": packed_records(proven, proven.kept),
        "continues": packed_continued(ledger, sizes, anchor),
        "report": report.to_json(),
    }
    if isinstance(proven, ProvenMirror):
        content["mirror"] = holding(proven)
    return canonical.dumps(content, allow_floats=True) + b"\n"
