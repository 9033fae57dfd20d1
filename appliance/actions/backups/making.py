"""Making a backup: record, stream, prove, encrypt, in one pass; the newest is in place or the one before still is.

    gather -> record backup.begun -> signed checkpoint -> tar -+-> gpg -> file beside -> read back, the same bytes
                                                               +-> read, ledger made again, everything compared
    -> record backup.written -> rename -> record backup.made

No file is in place whose bytes no record names. Where the last record was lost, the next backup or drill makes it.

The very bytes that are encrypted are also read as a restore reads them, in a throwaway folder. No plaintext is laid
down but the records, which hold no prompt, no answer and no secret.
"""

import errno
import hashlib
import io
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from appliance.actions.backups import archive, contents, erasures, recipient, shelf
from appliance.actions.backups import manifest as form
from appliance.actions.backups.archive import Draft
from appliance.actions.backups.laying import CHUNK, Bytes, Laying
from appliance.actions.backups.manifest import Manifest
from appliance.actions.backups.proving import proving
from appliance.actions.backups.shelf import Kept
from appliance.audit import epochs, succession
from appliance.audit.client import SocketLedger, open_ledger
from appliance.audit.facts import EVERY, KeyedLedger, Ledger
from appliance.audit.leaf import Leaf
from appliance.config import Config
from appliance.errors import LedgerUnavailableError, NoSpaceError, StoreWriteError
from appliance.timekeeping.believed import BelievedClock
from media import durable
from media.clock import Clock
from media.digest import file_sha256
from media.errors import SealiftError

DOOR: Final = "ledger-actions"
WRITTEN: Final = "backup.written"
"""Its bytes are whole on the disk, and about to be put in place; the body is that of `MADE`."""
MADE: Final = "backup.made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where secrets come from: key files and password hashes, or the unit's credentials."""

    keys: Path
    passwords: Path

    @classmethod
    def of(cls, config: Config) -> "Surroundings":
        """Return the credentials that a unit was given, else the files themselves."""
        given = os.environ.get("CREDENTIALS_DIRECTORY")
        if given:
            return cls(keys=Path(given), passwords=Path(given) / "passwords")
        return cls(keys=config.at.key_files, passwords=config.at.promoter / "passwords.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A backup that is in place."""

    kept: Kept
    file: Path
    sequence: int
    removed: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the facts."""
        return {**self.kept.to_json(), "file": self.file.name, "sequence": self.sequence, "removed": list(self.removed)}


def make(config: Config, *, clock: Clock, surroundings: Surroundings | None = None) -> Made:
    """Make one backup and remove the oldest beyond the number kept.

    Raises:
        PreflightError: Folder, recipient or files are not as they must be; nothing was written.
        LedgerUnavailableError: The ledger does not run, so that nothing can be recorded.
        BackupDamagedError: What was to be encrypted would not have been restored.
        NoSpaceError, StoreWriteError: It could not be written; those before it are untouched.
    """
    folder = shelf.require_folder(config)
    whose = recipient.certificate(config.at)
    ledger = open_ledger(config, DOOR, clock=clock)
    try:
        if not isinstance(ledger, SocketLedger):
            raise LedgerUnavailableError(
                what="a backup cannot be recorded", why="sealift-ledger does not run", fix="start it and try again"
            )
        with shelf.alone(folder):
            finish(config, ledger, folder)
            return _make(config, ledger, folder, clock=clock, surroundings=surroundings, fingerprint=whose.fingerprint)
    finally:
        ledger.close()


def draft(
    config: Config, ledger: Ledger, *, clock: Clock, surroundings: Surroundings | None, fingerprint: str
) -> Draft:
    """Record what is about to be backed up, and return it with the signed head that covers the record."""
    own = surroundings or Surroundings.of(config)
    files = contents.gather(config, keys=own.keys, passwords=own.passwords)
    body = {
        "files": len(files),
        "files_sha256": form.files_sha256(archive.describe(files)),
        "recipient": fingerprint,
    }
    begun = ledger.append(archive.BEGUN, body)
    text = ledger.checkpoint()
    signed = succession.of_ledger(ledger).checkpoint(text)
    if signed.size <= begun.sequence:
        raise LedgerUnavailableError(
            what="the ledger did not sign what was just recorded", why=f"{signed.size} records", fix="try again"
        )
    return Draft(
        site=config.site,
        environment=config.environment,
        # Names, order and age of backups go by it: a wrong clock makes none the oldest, which would go at once.
        made_at=BelievedClock(config.at, clock).now().replace(microsecond=0),
        files=files,
        checkpoint=text,
        signed=signed,
        serial=contents.serial_of(config),
        media=contents.media_of(config),
    )


def finish(config: Config, ledger: KeyedLedger, folder: Path) -> None:
    """Record the newest backup as made where it lies here and that record was lost; the one before names its bytes.

    Raises:
        LedgerUnavailableError: It could not be recorded.
    """
    made = ledger.find(kind=MADE, limit=1)
    written = ledger.find(kind=WRITTEN, limit=1)
    if not written or (made and made[0].sequence > written[0].sequence):
        return
    body = written[0].body
    for kept in shelf.kept(folder, config.site):
        if kept.sha256 == body.get("sha256") and _digest(folder / kept.name) == kept.sha256:
            ledger.append(MADE, body, key=_key(kept.sha256))


def recorded(ledger: Ledger, sha256: str) -> Leaf | None:
    """Return the record that names these bytes as a backup: that it was made, written, or restored here; None for none.

    Raises:
        LedgerUnavailableError: There is no ledger to ask.
    """
    named = ((MADE, "sha256"), (WRITTEN, "sha256"), (epochs.RESTORED, "backup.sha256"))
    found = (ledger.find(kind=kind, field=field, value=sha256, limit=1) for kind, field in named)
    return next((leaves[0] for leaves in found if leaves), None)


def all_made(ledger: Ledger) -> list[Leaf]:
    """Return a record of each backup that was made, in order: those among them whose last record was lost.

    Raises:
        LedgerUnavailableError: There is no ledger to ask.
    """
    found = [leaf for kind in (WRITTEN, MADE) for leaf in ledger.find(kind=kind, limit=EVERY)]
    return sorted({leaf.body.get("sha256"): leaf for leaf in found}.values(), key=lambda leaf: leaf.sequence)


def _make(
    config: Config,
    ledger: KeyedLedger,
    folder: Path,
    *,
    clock: Clock,
    surroundings: Surroundings | None,
    fingerprint: str,
) -> Made:
    started = clock.monotonic()
    prepared = draft(config, ledger, clock=clock, surroundings=surroundings, fingerprint=fingerprint)
    name = shelf.name_of(config.site, prepared.made_at, prepared.signed.size)
    beside = folder / f".{name}.unfinished"
    try:
        # First, too: what is surplus since `backup.keep` was lowered may be the room that this one needs.
        surplus = shelf.tidy(folder, keep=config.backup.keep)
        manifest, given = _write(beside, config, ledger, prepared)
        if _read_back(beside) != given:
            raise StoreWriteError(
                what="the backup disk gives back other bytes than were written",
                why="nobody could decrypt them",
                fix="replace the disk: `sealift backup disk DEVICE`; the backups before may be as bad",
            )
        kept = Kept(
            name=name,
            site=config.site,
            made_at=manifest.made_at,
            length=given.length,
            sha256=given.sha256,
            origin=manifest.origin,
            size=manifest.size,
            root=manifest.root,
            recipient=fingerprint,
            media=manifest.media,
        )
        body = {
            **kept.to_json(),
            "milliseconds": int(1000 * (clock.monotonic() - started)),
            "verified": "plaintext restored",
        }
        ledger.append(WRITTEN, body)
        erasures.note(folder, ledger)
        durable.replace(folder / f"{name}.json", kept.to_bytes(), mode=0o640)
        beside.rename(folder / name)
        durable.sync_folder(folder)
    except OSError as error:
        raise _unwritable(error, folder) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    done = ledger.append(MADE, body, key=_key(given.sha256))
    oldest = shelf.tidy(folder, keep=config.backup.keep)
    return Made(kept=kept, file=folder / name, sequence=done.sequence, removed=tuple(sorted((*surplus, *oldest))))


def _digest(file: Path) -> str:
    """Return the SHA-256 of a backup; nothing where it does not read, which the drill tells."""
    try:
        return file_sha256(file)
    except OSError:
        return ""


def _key(sha256: str) -> str:
    """Return under what a backup is recorded as made, once: a drill may do so at the same moment."""
    return f"backup-{sha256[:32]}"


def _write(beside: Path, config: Config, ledger: Ledger, prepared: Draft) -> tuple[Manifest, Bytes]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, flags, 0o640), "wb", buffering=0) as out:
        with recipient.encrypting(config.at.backup_recipient, subprocess.PIPE) as process, proving() as prover:
            manifest: Manifest | None = None
            if process.stdin is None or process.stdout is None:
                raise BrokenPipeError
            laying = Laying(process.stdout, out)
            try:
                # One of the two readers ended early: they say below which, and why.
                with suppress(BrokenPipeError), io.BufferedWriter(_Both(process.stdin, prover.stream), CHUNK) as both:
                    manifest = archive.write(both, ledger, prepared)
            finally:
                with suppress(BrokenPipeError):
                    prover.stream.close()
                with suppress(BrokenPipeError):
                    process.stdin.close()
                laying.wait()
            code = process.wait()
            given = _given(laying, beside.parent)
            if code != 0:
                raise _gpg_failed()
            proven = prover.result()
        if manifest is None or proven.manifest != manifest or dict(proven.files) != dict(prepared.files):
            raise archive.damaged("what was read back is not what was written")
        os.fsync(out.fileno())
    return manifest, given


def _given(laying: Laying, folder: Path) -> Bytes:
    try:
        return laying.result()
    except OSError as error:
        if (free := _free(folder)) < CHUNK:
            raise _full(free) from error
        raise _not_written(error) from error


class _Both(io.RawIOBase):
    """Writes the same bytes to two streams."""

    def __init__(self, *streams: IO[bytes]) -> None:
        self._streams = streams

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        for stream in self._streams:
            stream.write(data)
        return len(data)


def _read_back(file: Path) -> Bytes:
    """Return what the disk gives back, not what memory remembers."""
    seen, size = hashlib.sha256(), 0
    with file.open("rb", buffering=0) as source:
        os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while chunk := source.read(CHUNK):
            seen.update(chunk)
            size += len(chunk)
    return Bytes(size, seen.hexdigest())


def _gpg_failed() -> StoreWriteError:
    return StoreWriteError(
        what="the backup could not be encrypted",
        why="gpg ended with an error",
        fix="check the recipient's certificate; the backups before are untouched",
    )


def _unwritable(error: OSError, folder: Path) -> SealiftError:
    free = _free(folder)
    if error.errno == errno.ENOSPC and free < CHUNK:
        return _full(free)
    # Whoever looks for a folder for temporary files in vain names none.
    if error.errno == errno.ENOSPC or (error.errno == errno.ENOENT and error.filename is None):
        return NoSpaceError(
            what="there is no room for temporary files",
            why="the backup disk has room, the machine's own file system has none",
            fix="make room there: `sealift doctor`; the backups before are untouched",
        )
    return _not_written(error)


def _not_written(error: OSError) -> StoreWriteError:
    return StoreWriteError(
        what="the backup could not be written",
        why=error.strerror or type(error).__name__,
        fix="check the disk; the backups before are untouched",
    )


def _free(folder: Path) -> int:
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize


def _full(free: int) -> NoSpaceError:
    return NoSpaceError(
        what="the backup disk is full",
        why=f"{free} bytes are free",
        fix="make room or lower backup.keep; the backups before are untouched",
    )
