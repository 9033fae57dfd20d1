"""Handing the ledger to an auditor: plain files that need none of our programs, and the ledger's own record of it.

The folder is written beside its place and renamed, so that what has the name is complete. Its last file is the record
``evidence.exported`` with its proof in the tree: it names the SHA-256 of export.json, which names that of every other
file, so that the ledger's signature covers all of them. A mirror of another box's ledger records nothing: its export
says in mirror.json who held it, and that box's own ledger has the record.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from appliance.actions.auditing import explained
from appliance.actions.auditing.holder import holding
from appliance.actions.auditing.ownrecord import recorded
from appliance.actions.auditing.records import Walker
from appliance.actions.auditing.report import report
from appliance.actions.auditing.span import Span, between
from appliance.actions.proven_mirror import ProvenMirror
from appliance.audit import note, succession
from appliance.audit.facts import EvidenceLedger
from appliance.errors import StoreWriteError
from appliance.paper.drawn import drawn
from media import canonical, durable
from media.clock import Clock, to_text
from media.digest import sha256_hex
from media.errors import UsageError

FORMAT: Final = 2
"""Where the key of checkpoints was rotated it is 3, which checkers of before refuse by its number."""
EXPORTED: Final = "evidence.exported"
_REPORTS: Final = ("report.html", "report.pdf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for.

    Args:
        site: Named in the report.
        key: The verifier key that is written beside the records and that has to lead to the one of the checkpoint.
        since: RFC 3339 text as the ledger writes it, or empty for the beginning.
        until: The first moment that is not wanted, or empty.
        printed: Checkpoints from outside that the proofs must reach.
        recorded: Whether this box's ledger is there to record the export.
        mirror: Of which box's ledger it is, where it is the mirror of another's.
    """

    site: str
    key: note.VerifierKey
    since: str = ""
    until: str = ""
    printed: Sequence[str] = ()
    recorded: bool = True
    mirror: ProvenMirror | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What lies in the folder, or would: `record` is the sequence of this box's record of it, -1 for none."""

    origin: str
    root: str
    size: int
    start: int
    end: int
    files: dict[str, str]
    record: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def plan(ledger: EvidenceLedger, wanted: Wanted) -> Made:
    """Return what an export would hold, without writing or recording anything.

    Raises:
        UsageError: No record is of the time asked for.
        ProofError: The checkpoint is not signed by this key.
    """
    signed = succession.verified(ledger, ledger.checkpoint(), wanted.key)
    span = between(ledger, signed.size, since=wanted.since, until=wanted.until)
    return _made(signed, span, {}, -1)


def require_new(folder: Path) -> None:
    """Return when an export may be written there.

    Raises:
        UsageError: Something is there already.
    """
    if folder.exists() or folder.is_symlink():
        raise UsageError(what=f"{folder.name or '.'} exists already", fix="name a folder that does not")


def make(
    ledger: EvidenceLedger,
    folder: Path,
    wanted: Wanted,
    *,
    clock: Clock,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Made:
    """Write an export into a new folder, and record it.

    Args:
        ledger: Any way in.
        folder: Must not exist yet.
        wanted: What of it.
        clock: For the date of the report.
        progress: Called with records read and records in all.

    Raises:
        UsageError: The folder exists, or no record is of that time.
        StoreWriteError: It cannot be written.
        LedgerDamagedError: The records are not those that were signed.
        LedgerUnavailableError: It could not be recorded; nothing is left.
        ProofError: The checkpoint is not signed by this key.
    """
    require_new(folder)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        made = _fill(ledger, unfinished, wanted, clock, progress)
        durable.sync_folder(unfinished)
        unfinished.rename(folder)
        durable.sync_folder(folder.parent)
    except OSError as error:
        raise StoreWriteError(
            what="the export cannot be written", why=error.strerror or "", fix="make room, or name another folder"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return made


def _fill(
    ledger: EvidenceLedger, folder: Path, wanted: Wanted, clock: Clock, progress: Callable[[int, int], None]
) -> Made:
    signed = succession.verified(ledger, ledger.checkpoint(), wanted.key)
    span = between(ledger, signed.size, since=wanted.since, until=wanted.until)
    walker = Walker(ledger, folder, span=span, signed=signed)
    taken = [] if wanted.mirror is None else [wanted.mirror.continues()]
    walker.write(printed=[*taken, *(_size(text) for text in wanted.printed)], progress=progress)
    at = to_text(clock.now())
    is_recorded = wanted.recorded and wanted.mirror is None
    sheet = report(walker.observed, span, signed, key=wanted.key, site=wanted.site, at=at, mirror=wanted.mirror)
    files = {
        "checkpoint.txt": ledger.cosigned(signed.size).encode(),
        "ledger.pub": f"{wanted.key.to_text()}\n".encode(),
        "schema.json": canonical.dumps(explained.SCHEMA) + b"\n",
        "README.txt": explained.README.encode(),
        **{name: drawn(sheet, Path(name)) for name in _REPORTS},
    }
    if wanted.mirror is not None:
        files["mirror.json"] = canonical.dumps(holding(wanted.mirror)) + b"\n"
    for name, data in files.items():
        durable.write_new(folder / name, data)
    digests = {path.name: _digest(path) for path in sorted(folder.iterdir())}
    about = {
        "format": FORMAT + bool(walker.rotated),
        "origin": signed.origin,
        "root": signed.root.hex(),
        "start": span.start,
        "end": span.end,
        "size": span.size,
        "at": at,
        "recorded": is_recorded,
        "files": digests,
    }
    content = canonical.dumps(about) + b"\n"
    durable.write_new(folder / "export.json", content)
    record = -1
    if is_recorded:
        record = _record(ledger, folder, signed, span, content)
    elif wanted.mirror is not None and wanted.recorded:
        body = {**_body(span, content), "ledger": signed.origin}
        record = wanted.mirror.own_ledger.append(EXPORTED, body).sequence
    return _made(signed, span, digests, record)


def _record(ledger: EvidenceLedger, folder: Path, signed: note.Checkpoint, span: Span, content: bytes) -> int:
    sequence, kept = recorded(ledger, signed, EXPORTED, _body(span, content))
    durable.write_new(folder / "exported.json", canonical.dumps(kept) + b"\n")
    return sequence


def _body(span: Span, content: bytes) -> dict[str, Any]:
    return {"export_sha256": sha256_hex(content), "start": span.start, "end": span.end, "size": span.size}


def _made(signed: note.Checkpoint, span: Span, files: dict[str, str], record: int) -> Made:
    return Made(
        origin=signed.origin,
        root=signed.root.hex(),
        size=span.size,
        start=span.start,
        end=span.end,
        files=files,
        record=record,
    )


def _size(text: str) -> int:
    """Return the size that a checkpoint names; nothing of it is believed, the proof is for whoever checks."""
    words = text.split("\n")
    return int(words[1]) if len(words) > 2 and words[1].isdecimal() and len(words[1]) < 16 else -1


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
