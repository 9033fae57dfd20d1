"""The drill: the newest backup is brought back into a throwaway folder, timed, and the evidence recorded.

Two levels, told apart everywhere. *full*: two people brought the recipient's private key, and the encrypted file itself
was opened. *stream*: nobody did (the monthly timer); then the encrypted file is compared with its record, and the same
content, streamed anew, is rebuilt. Only a full drill shows that the key still opens the file. A drill that fails is
recorded too, by a kind of its own, so that nobody who counts drills takes it for one that was made.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance import throwaway
from appliance.actions import exporting
from appliance.actions.backups import archive, aside, doomed, floors, making, rebuilt, restoring, shelf
from appliance.actions.backups.archive import Contents
from appliance.actions.backups.making import Surroundings
from appliance.actions.backups.proving import piped
from appliance.actions.backups.shelf import Kept
from appliance.audit import epochs, pin
from appliance.audit.client import Appended, Ledger, OfflineLedger, SocketLedger, open_ledger
from appliance.audit.facts import EVERY
from appliance.audit.leaf import Leaf
from appliance.audit.verify import verify
from appliance.config import Config, DatabaseSection, KeysSection, PlacesSection
from appliance.errors import (
    ApprovalRefusedError,
    KeyMissingError,
    LedgerUnavailableError,
    NoSpaceError,
    PreflightError,
    UnitError,
)
from appliance.store.content import ContentStore
from appliance.timekeeping.believed import BelievedClock
from appliance.verify.freshness import different
from media import canonical, durable
from media.clock import Clock, to_text
from media.digest import file_sha256
from media.errors import SealiftError

DRILLED: Final = "backup.drilled"
FAILED: Final = "backup.drill-failed"
FULL: Final = "full"
STREAM: Final = "stream"
FORMAT: Final = 1
_LEAST_PEOPLE: Final = 2
_NOT_ITS: Final = (KeyMissingError, UnitError, NoSpaceError, LedgerUnavailableError)
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """What a drill found.

    Args:
        facts: As they were recorded.
        sequence: Of the record.
        report: The evidence, beside the backups.
    """

    facts: Mapping[str, Any]
    sequence: int
    report: Path

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {**self.facts, "sequence": self.sequence, "report": self.report.name}


def drill(
    config: Config,
    *,
    clock: Clock,
    by: tuple[str, ...] = (),
    home: Path | None = None,
    surroundings: Surroundings | None = None,
) -> Drilled:
    """Bring the newest backup back into a throwaway folder.

    Args:
        config: The site's.
        clock: To measure with.
        by: The two people of a full drill; nobody for a drill of the stream.
        home: The GnuPG folder with the recipient's private key, for a full drill.
        surroundings: Where secrets come from.

    Raises:
        ApprovalRefusedError: One person alone.
        BackupDamagedError: The backup does not hold, or is not the one that was recorded.
        KeyMissingError: The private key is not there.
        LedgerUnavailableError: The ledger does not run, so that nothing could be recorded; or there was no room.
        PreflightError: There is no backup.
        UnitError: gpg is not installed.
        Others: As reading and rebuilding it. Once a backup was found, a failure that may be its own is recorded and
            reported first; that the key, gpg, the ledger or room was lacking says nothing of it.
    """
    is_full = bool(by) or home is not None  # a key that was brought is never left unused in silence
    if is_full and (many := different(by)) < _LEAST_PEOPLE:
        raise ApprovalRefusedError(
            what="a full drill takes two people", why=f"different people named: {many}", fix="--by NAME --by NAME"
        )
    folder = shelf.require_folder(config)
    found = shelf.kept(folder, config.site)
    if not found:
        raise PreflightError(what="there is no backup to drill with", why="", fix="sealift backup make")
    ledger = open_ledger(config, making.DOOR, clock=clock)
    try:
        if not isinstance(ledger, SocketLedger):
            raise LedgerUnavailableError(
                what="a drill cannot be recorded", why="sealift-ledger does not run", fix="start it and try again"
            )
        try:
            making.finish(config, ledger, folder)
            facts = _drill(config, ledger, folder, found[-1], by=by, home=home, surroundings=surroundings, clock=clock)
        except (SealiftError, OSError) as error:
            if _says_nothing(error):
                raise
            failed = {**_begun(found[-1], by), "failed": _told(error)}
            with suppress(SealiftError, OSError):  # what people are told is why the drill failed
                _kept(ledger, FAILED, failed, folder, clock)
            raise
        done, report = _kept(ledger, DRILLED, facts, folder, clock)
    finally:
        ledger.close()
    return Drilled(facts=facts, sequence=done.sequence, report=report)


def is_due(config: Config, ledger: Ledger, *, clock: Clock) -> bool:
    """Tell whether this node made no drill yet in this month, by the time that is believed; one that failed is none.

    A drill of before the ledger was restored is the lost box's, and none.

    Raises:
        LedgerUnavailableError: There is no ledger to ask.
    """
    begun = epoch_begun(ledger)
    last = next((leaf.time for leaf in own(config, ledger, DRILLED) if leaf.sequence > begun), "")
    return not last.startswith(to_text(BelievedClock(config.at, clock).now())[: len("2026-11")])


def own(config: Config, ledger: Ledger, kind: str) -> list[Leaf]:
    """Return the records of a kind that are of this box, newest first: of several nodes each has a disk of its own.

    Raises:
        LedgerUnavailableError: There is no ledger to ask.
    """
    return [leaf for leaf in ledger.find(kind=kind, limit=EVERY) if leaf.via.is_of(config.database.node)]


def epoch_begun(ledger: Ledger) -> int:
    """Return the number of the record with which the ledger was restored last; 0 where it never was.

    Raises:
        LedgerUnavailableError: There is no ledger to ask.
    """
    return next((leaf.sequence for leaf in ledger.find(kind=epochs.RESTORED, limit=1)), 0)


def _kept(ledger: Ledger, kind: str, facts: Mapping[str, Any], folder: Path, clock: Clock) -> tuple[Appended, Path]:
    """Record what a drill found, and lay the evidence beside the backups."""
    done = ledger.append(kind, facts)
    report = folder / f"drill-{to_text(clock.now()).replace(':', '').replace('-', '')}.json"
    proof = exporting.proof(ledger, done)
    durable.replace(report, canonical.dumps({"format": FORMAT, "drill": facts, "ledger": proof}), mode=0o640)
    return done, report


def _begun(newest: Kept, by: tuple[str, ...]) -> dict[str, Any]:
    return {
        "level": FULL if by else STREAM,
        "by": list(by),
        "backup": {"name": newest.name, "sha256": newest.sha256, "made_at": to_text(newest.made_at)},
    }


def _says_nothing(error: SealiftError | OSError) -> bool:
    """Tell whether a failure is none of the backup's: a drill of the same file may hold once it is mended."""
    if isinstance(error, OSError):
        # Whoever looks for a folder for temporary files in vain names none.
        return error.errno in _NO_ROOM or (error.errno == errno.ENOENT and error.filename is None)
    return isinstance(error, _NOT_ITS)


def _told(error: SealiftError | OSError) -> dict[str, str]:
    if isinstance(error, SealiftError):
        return {"code": error.code, "what": error.what, "why": error.why}
    return {"code": "io", "what": "the drill could not read or write", "why": error.strerror or type(error).__name__}


def _drill(
    config: Config,
    ledger: Ledger,
    folder: Path,
    newest: Kept,
    *,
    by: tuple[str, ...],
    home: Path | None,
    surroundings: Surroundings | None,
    clock: Clock,
) -> dict[str, Any]:
    file = folder / newest.name
    _require_recorded(ledger, file, newest)
    began, now = clock.monotonic(), BelievedClock(config.at, clock).now()
    with _folder() as place:
        places = PlacesSection(root=str(place), run=str(place / "run"))
        # Files, whatever the site uses: a drill may not touch its database or token.
        target = config.model_copy(
            update={"places": places, "database": DatabaseSection(), "keys": KeysSection()},
        )
        if by:
            _, contents = restoring.opened(file, home, target.at.ledger)
        else:
            contents = _streamed(config, ledger, target, newest, surroundings=surroundings, clock=clock)
        again = rebuilt.rebuild(
            target,
            contents,
            known=floors.Known(shown=(), here=None, printed=None),
            serial=0,
            erased=frozenset(),
            facts={"backup": {"sha256": newest.sha256}, "by": list(by) or ["drill"], "reason": "drill"},
            clock=clock,
        )
        found = verify(
            OfflineLedger(target.at, clock=clock), pinned=pin.read_pin(target.at), notes=[contents.checkpoint]
        )
        if not found.ok:
            raise archive.damaged(found.findings[0])
    held = {each.serial for each in ContentStore(config.at.store).releases()}
    return {
        **_begun(newest, by),
        "records": again.records,
        "people": len(again.people),
        "production": again.production,
        **({"further": dict(again.further)} if again.further else {}),
        "serial": again.serial,
        "media": [each.serial for each in contents.manifest.media],
        "media_missing": sorted({each.serial for each in contents.manifest.media} - held),
        "rpo_seconds": max(int((now - newest.made_at).total_seconds()), 0),
        # Media are received besides: their time depends on their size.
        "rto_milliseconds": int(1000 * (clock.monotonic() - began)),
    }


@contextmanager
def _folder() -> Iterator[Path]:
    """Lend a throwaway folder; the site's own keys are in it, and are overwritten before it goes."""
    with throwaway.folder(aside.DRILL) as place:
        try:
            yield place
        finally:
            doomed.wipe(place)


def _require_recorded(ledger: Ledger, file: Path, newest: Kept) -> None:
    """Return when file and time are those of the backup's record: what lies beside it on the disk, nobody signed."""
    digest = file_sha256(file)
    leaf = making.recorded(ledger, digest)
    if digest != newest.sha256 or leaf is None:
        raise archive.damaged("the file on the disk is not the one that was recorded when it was made")
    about = leaf.body.get("backup", leaf.body)  # of a backup that was restored here
    if not isinstance(about, Mapping) or about.get("made_at") != to_text(newest.made_at):
        raise archive.damaged("what lies beside it on the disk says that it was made at another time than the record")


def _streamed(
    config: Config,
    ledger: Ledger,
    target: Config,
    newest: Kept,
    *,
    surroundings: Surroundings | None,
    clock: Clock,
) -> Contents:
    """Return what a backup made now holds, read as a restore reads it."""
    prepared = making.draft(config, ledger, clock=clock, surroundings=surroundings, fingerprint=newest.recipient)
    return piped(ledger, prepared, target.at.ledger)
