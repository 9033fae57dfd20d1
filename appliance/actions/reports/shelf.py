"""The box's own reports, one set of files for each quarter: made by a job or by the timer, shown on the page.

What is handed out is compared with the digest that the ledger has of it: a file that is another one is not shown.
A set is recorded before its files take their place, so that what lies here is on record; one that a power cut left
incomplete is made again.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.actions.recorded import file_of
from appliance.actions.reports import making
from appliance.actions.reports.period import Period, last_quarter, quarter, require_quarter
from appliance.audit.facts import EVERY, EvidenceLedger, Ledger
from appliance.audit.leaf import Leaf
from appliance.errors import StoreBusyError, StoreWriteError
from media import durable
from media.clock import Clock

DUE: Final = "due"
_LOCK: Final = ".lock"
_MAX_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A report as it was recorded last: when, in which record, and which of its files are here as recorded."""

    name: str
    at: str
    sequence: int
    files: tuple[str, ...]


def keep(
    folder: Path,
    ledger: EvidenceLedger,
    untrusted_name: str,
    count: Callable[[Period], dict[str, Any]],
    *,
    clock: Clock,
) -> Kept | None:
    """Make the report of a quarter, or the one that is due, and keep its files; None where nothing is due.

    Args:
        folder: Where reports lie.
        ledger: Through its door.
        untrusted_name: A quarter, or `due` for the newest that is over and has no report yet.
        count: Returns the figures of a time.
        clock: What time it is.

    Raises:
        UsageError: It is no quarter, or one that has not begun.
        StoreBusyError: Another report is being made.
        StoreWriteError: It could not be kept; make it again.
        LedgerUnavailableError: It could not be recorded; nothing is kept.
    """
    is_due = untrusted_name == DUE
    period = last_quarter(clock.now()) if is_due else quarter(require_quarter(untrusted_name))
    with _alone(folder):
        if is_due and any(
            # One that was made before the quarter's end lacks what came after.
            one.name == period.name and one.at >= period.until and len(one.files) == len(making.SUFFIXES)
            for one in all_kept(folder, ledger)
        ):
            return None
        made = making.made(count(period))
        sequence = making.record(ledger, made)
        try:
            for suffix, content in made.files.items():
                durable.replace(folder / f"{period.name}{suffix}", content, mode=0o640)
        except OSError as error:
            raise StoreWriteError(
                what="the report could not be kept", why=error.strerror or "", fix="make room, and make it again"
            ) from error
    return Kept(name=period.name, at=made.facts["at"], sequence=sequence, files=making.SUFFIXES)


def all_kept(folder: Path, ledger: Ledger) -> tuple[Kept, ...]:
    """Return the newest report of each quarter or time on record, the newest first, with the files that are here.

    Raises:
        LedgerUnavailableError: The ledger neither answers nor reads.
    """
    found: dict[str, Kept] = {}
    for leaf in ledger.find(making.REPORTED, limit=EVERY):
        name = str(leaf.body.get("name"))
        if name not in found:
            found[name] = Kept(name=name, at=leaf.time, sequence=leaf.sequence, files=tuple(_sound(folder, leaf)))
    return tuple(found.values())


def read(folder: Path, ledger: Ledger, untrusted_name: str, untrusted_suffix: str) -> bytes | None:
    """Return a file of a quarter's report, hashed again and as it was recorded last; None where there is none.

    Raises:
        UsageError: That is no quarter.
        LedgerUnavailableError: The ledger neither answers nor reads.
    """
    name = require_quarter(untrusted_name)
    newest = ledger.find(making.REPORTED, field="name", value=name, limit=1)
    if not newest or untrusted_suffix not in making.SUFFIXES:
        return None
    return file_of(newest[0], folder / f"{name}{untrusted_suffix}", max_bytes=_MAX_BYTES)


def _sound(folder: Path, leaf: Leaf) -> Iterator[str]:
    for suffix in making.SUFFIXES:
        if file_of(leaf, folder / f"{leaf.body.get('name')}{suffix}", max_bytes=_MAX_BYTES) is not None:
            yield suffix


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StoreWriteError(
            what="the folder of reports cannot be used", why=error.strerror or "", fix="look at its owner and mode"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreBusyError(
                what="another report is being made", why="one at a time", fix="wait until it is done"
            ) from error
        yield
    finally:
        os.close(descriptor)
