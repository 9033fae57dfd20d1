"""The form that people sign after a receive: each check with its time and result, from what the ledger holds.

It is made from a record's body and nothing else, so that it can be printed again years later, also for a release that
was refused. It stays in the facility: it names people of the site. What may leave is the EXPORT type evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.actions import evidence_form
from appliance.actions.recorded import PARTLY_RECEIVED, RECEIVED, REFUSED, REVERIFIED, waiting
from appliance.audit.client import open_ledger
from appliance.audit.facts import Ledger
from appliance.config import Config
from appliance.errors import LedgerUnavailableError, StoreWriteError, UnknownReleaseError
from appliance.paper.drawn import drawn, is_drawable
from media.clock import Clock
from media.errors import UsageError

DOOR: Final = "ledger-actions"
CHECKED: Final = "release.checked"
KINDS: Final = (RECEIVED, PARTLY_RECEIVED, REVERIFIED, REFUSED)
_MOST_OTHERS: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A receive as it was recorded.

    Args:
        kind: release.received, release.partly-received, release.reverified, release.refused, or release.checked (a dry
            run, never recorded).
        body: Of the record.
        at: When it was made; RFC 3339.
        sequence: In the ledger; -1 while it waits for the ledger, None for a dry run.
        receipt: The receipt's file name, where there is one.
        others: Other records about the same payload: sequence, time, kind, error.
    """

    kind: str
    body: Mapping[str, Any]
    at: str
    sequence: int | None
    receipt: str = ""
    others: tuple[tuple[int, str, str, str], ...] = ()


def require_writable(file: Path) -> None:
    """Refuse a form that could not be written later.

    Raises:
        UsageError: Its name ends in neither .pdf nor .html, it exists, or its folder does not.
    """
    why = ""
    if not is_drawable(file):
        why = "its name ends in .pdf or .html"
    elif file.exists() or file.is_symlink():
        why = "it exists, and evidence is written once"
    elif not file.absolute().parent.is_dir():
        why = "its folder does not exist"
    if why:
        raise UsageError(what=f"the form cannot be written to {file.name}", why=why, fix="choose another file")


def write(file: Path, record: Record) -> None:
    """Write the form of a receive to a file that does not exist yet.

    Raises:
        UsageError: As `require_writable`.
        StoreWriteError: It could not be written; what was received stays in place.
    """
    require_writable(file)
    form = evidence_form.form_of(record.kind, record.body, at=record.at, place=_place(record))
    made = drawn(form, file)
    try:
        with file.open("xb") as target:
            target.write(made)
    except OSError as error:
        raise StoreWriteError(
            what=f"the form {file.name} could not be written",
            why=error.strerror or "",
            fix="print it again from the records: sealift evidence SERIAL --out FILE",
        ) from error


def write_again(config: Config, file: Path, *, serial: int | None, sequence: int | None, clock: Clock) -> Record:
    """Write the form of an earlier receive from the records, and return the record.

    Args:
        config: The site's.
        file: Where to.
        serial: Of a release that was received; its newest receive is taken.
        sequence: Of a record, in place of the serial: for releases that were refused.
        clock: What time it is.

    Raises:
        UsageError: Neither or both were given, the record is about something else, or the file cannot be written.
        UnknownReleaseError: No release of that serial was received here.
        LedgerUnavailableError: The ledger does not answer.
        StoreWriteError: It could not be written.
    """
    require_writable(file)
    ledger = open_ledger(config, DOOR, clock=clock)
    try:
        record = _with_others(record_of(config, ledger, serial=serial, sequence=sequence), ledger)
    finally:
        ledger.close()
    write(file, record)
    return record


def record_of(
    config: Config, ledger: Ledger, *, serial: int | None, sequence: int | None, kinds: Sequence[str] = KINDS
) -> Record:
    """Return the newest receive of a serial, or the record with that sequence.

    Raises:
        UsageError: Neither or both were given, or the record is of none of these kinds.
        UnknownReleaseError: No release of that serial was received here.
        LedgerUnavailableError: The ledger does not answer.
    """
    if sequence is not None and serial is None:
        return _by_sequence(ledger, sequence, kinds)
    if serial is not None and sequence is None:
        return _by_serial(config, ledger, serial)
    raise UsageError(what="give a serial or --record", why="one of them names a receive", fix="see --help")


def _by_sequence(ledger: Ledger, sequence: int, kinds: Sequence[str]) -> Record:
    leaf = ledger.leaf(sequence)
    if leaf.kind not in kinds:
        raise UsageError(
            what=f"record {sequence} is not about a receive",
            why=f"its kind is {leaf.kind}",
            fix="see `sealift audit list --kind release.`",
        )
    return Record(kind=leaf.kind, body=leaf.body, at=leaf.time, sequence=leaf.sequence)


def _by_serial(config: Config, ledger: Ledger, serial: int) -> Record:
    try:
        for leaf in ledger.find(kind=RECEIVED, field="serial", value=serial, limit=1):
            return Record(
                kind=leaf.kind,
                body=leaf.body,
                at=leaf.time,
                sequence=leaf.sequence,
                receipt=_receipt(config, leaf.body),
            )
    except LedgerUnavailableError:
        if not (spooled := waiting(config.at, RECEIVED)):
            raise
    else:
        spooled = waiting(config.at, RECEIVED)
    for body in reversed(spooled):
        if body.get("serial") == serial:
            return Record(kind=RECEIVED, body=body, at=_ended(body), sequence=-1, receipt=_receipt(config, body))
    raise UnknownReleaseError(
        what=f"no release with serial {serial} was received here",
        why="neither the ledger nor what waits for it has such a record",
        fix="`sealift audit list --kind release.` lists receives; a refused one is printed with --record",
    )


def _with_others(record: Record, ledger: Ledger) -> Record:
    """Add what else happened to the same payload: attempts that were refused, volumes that came one by one."""
    digest = record.body.get("payload_digest")
    others = []
    if digest:
        for kind in KINDS:
            try:
                leaves = ledger.find(kind=kind, field="payload_digest", value=str(digest), limit=_MOST_OTHERS)
            except LedgerUnavailableError:
                break
            others += [
                (leaf.sequence, leaf.time, kind, str(leaf.body.get("error", "")))
                for leaf in leaves
                if leaf.sequence != record.sequence
            ]
    return Record(
        kind=record.kind,
        body=record.body,
        at=record.at,
        sequence=record.sequence,
        receipt=record.receipt,
        others=tuple(sorted(others)[:_MOST_OTHERS]),
    )


def _receipt(config: Config, body: Mapping[str, Any]) -> str:
    name = f"receipt-{body.get('serial')}-{str(body.get('code'))[:12]}.dsse.json"
    return name if (config.at.receipts / name).is_file() else ""


def _ended(body: Mapping[str, Any]) -> str:
    times = [str(each.get("end", "")) for each in body.get("checks", ())]
    return max(times, default="") or "1970-01-01T00:00:00Z"


def _place(record: Record) -> evidence_form.Place:
    return evidence_form.Place(sequence=record.sequence, receipt=record.receipt, others=record.others)
