"""Proofs of answers that people asked for on the page: every link verified afresh, kept with its time, and on record.

The page may not read the store, so a job in a unit that may makes the proof, as `sealift prove` does, and keeps it here
for the page to show: what was found of each link and when, and where all hold the file that is checked elsewhere. What
is shown is compared with the digest that the ledger has of it. A proof is recorded before its files take their place;
only the newest are kept, and any can be made again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.actions import portable
from appliance.actions.proof import ProofReport, Tell
from appliance.actions.prove import prove
from appliance.actions.proven_ledger import ProvenLedger
from appliance.actions.recorded import file_of
from appliance.actions.tracing.selection import INTENT
from appliance.audit.facts import EvidenceLedger, Ledger
from appliance.audit.leaf import Leaf
from appliance.config import Config
from appliance.errors import JobRefusedError, StoreWriteError
from media import canonical, durable
from media.clock import Clock, to_text
from media.digest import sha256_hex
from media.errors import SealiftError

PROVEN: Final = "evidence.proven"
_FORMAT: Final = 1
_REPORT: Final = ".json"
_FILE: Final = ".proof"
_MOST_BYTES: Final = 16 * 2**20
_MOST_KEPT: Final = 400
"""Files, two for each proof that holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A proof as it was recorded last: of which answer, when it was made and in which record, and each link's outcome.

    `steps` are as in `Step.to_json`; there are none where the file is gone or is not the one that was recorded.
    """

    request_id: str
    answer: int
    at: str
    sequence: int
    ok: bool
    failed: tuple[str, ...]
    steps: tuple[Mapping[str, Any], ...]
    has_file: bool


def keep(
    config: Config, ledger: EvidenceLedger, record: int, *, clock: Clock, tell: Tell = lambda *_: None
) -> ProofReport:
    """Verify every link of an answer's origin afresh, keep what was found, and return it; whether it holds is in it.

    Args:
        config: The site file.
        ledger: Through its door.
        record: The sequence of the answer's record.
        clock: For the time of each link.
        tell: Told of each link as it begins, and how many bytes of the weights were hashed.

    Raises:
        JobRefusedError: The record is not about an answer.
        ProofError: Every link holds, but the file for elsewhere cannot be made; nothing is recorded.
        LedgerUnavailableError: The outcome could not be recorded; nothing is kept.
        StoreWriteError: It could not be kept; make it again.
    """
    asked = ledger.leaf(record)
    if asked.kind != INTENT:
        raise JobRefusedError(
            what=f"record {record} is not about an answer", why=f"it is {asked.kind}", fix="see `sealift audit list`"
        )
    proven = ProvenLedger(ledger, config.at)
    report = prove(config, ledger, str(asked.body.get("request_id")), tell=tell, proven=proven, clock=clock)
    told = {"format": _FORMAT, "record": record, "at": to_text(clock.now()), **report.to_json()}
    files = {_REPORT: canonical.dumps(told, allow_floats=True) + b"\n"}
    if report.ok:
        files[_FILE] = portable.packed(ledger, proven, report)
    ledger.append(
        PROVEN,
        {
            "record": record,
            "request_id": report.subject,
            "ok": report.ok,
            "failed": [step.name for step in report.steps if not step.ok],
            "files": {suffix.removeprefix("."): sha256_hex(content) for suffix, content in files.items()},
        },
    )
    _place(config.at.proofs, record, files)
    return report


def newest(folder: Path, ledger: Ledger, record: int) -> Kept | None:
    """Return the newest proof of an answer, read again as it was recorded; None where none was made.

    Raises:
        LedgerUnavailableError: The ledger neither answers nor reads.
    """
    leaf = _recorded(ledger, record)
    if leaf is None:
        return None
    content = file_of(leaf, folder / f"{record}{_REPORT}", max_bytes=_MOST_BYTES)
    return Kept(
        request_id=str(leaf.body.get("request_id")),
        answer=record,
        at=leaf.time,
        sequence=leaf.sequence,
        ok=leaf.body.get("ok") is True,
        failed=tuple(str(name) for name in leaf.body.get("failed", ())),
        steps=() if content is None else _steps(content),
        has_file=file_of(leaf, folder / f"{record}{_FILE}", max_bytes=_MOST_BYTES) is not None,
    )


def file(folder: Path, ledger: Ledger, record: int) -> bytes | None:
    """Return the newest proof's file for elsewhere, hashed again and as it was recorded; None where there is none.

    Raises:
        LedgerUnavailableError: The ledger neither answers nor reads.
    """
    leaf = _recorded(ledger, record)
    return None if leaf is None else file_of(leaf, folder / f"{record}{_FILE}", max_bytes=_MOST_BYTES)


def _recorded(ledger: Ledger, record: int) -> Leaf | None:
    found = ledger.find(kind=PROVEN, field="record", value=record, limit=1)
    return found[0] if found else None


def _steps(content: bytes) -> tuple[Mapping[str, Any], ...]:
    try:
        told = canonical.mapping(canonical.loads(content, max_bytes=_MOST_BYTES, allow_floats=True), "proof")
        return tuple(canonical.mapping(one, "proof.steps") for one in canonical.array(told.get("steps"), "proof.steps"))
    except SealiftError:
        return ()


def _place(folder: Path, record: int, files: Mapping[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        (folder / f"{record}{_FILE}").unlink(missing_ok=True)  # one of an earlier proof, where this one does not hold
        for suffix, content in files.items():
            durable.replace(folder / f"{record}{suffix}", content, mode=0o640)
        kept = sorted((one for one in folder.iterdir() if one.is_file()), key=lambda one: one.stat().st_mtime_ns)
        for old in kept[:-_MOST_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise StoreWriteError(
            what="the proof could not be kept", why=error.strerror or "", fix="make room, and make it again"
        ) from error
