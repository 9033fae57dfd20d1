"""Restoring: a backup, what people know besides, and a new epoch; the box then needs its media again.

    open and compare -> site, people, printed head, receipts -> rebuilt beside -> old state aside -> new state in place

The ledger goes into place last: while there is none, nothing serves, and the same command may be run again. The
restored box never signs with the lost one's key, and keeps every serial that anybody can show was accepted.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from appliance.actions.backups import archive, aside, doomed, erasures, floors, rebuilt, recipient, replacing
from appliance.actions.backups.archive import Contents
from appliance.actions.backups.manifest import NeededMedium
from appliance.actions.backups.rebuilt import Rebuilt
from appliance.audit import pin
from appliance.config import Config, PlacesSection
from appliance.errors import (
    ApprovalRefusedError,
    BackupDamagedError,
    ConflictError,
    StoreWriteError,
)
from appliance.keys.opening import PIN, KeyStore, open_keys
from appliance.store.content import ContentStore
from appliance.verify import trust
from appliance.verify.freshness import different
from media import durable
from media.clock import Clock, to_text
from media.digest import file_sha256
from media.errors import NoTrustError, SealiftError, WrongEnvironmentError

_LEDGER_KEY: Final = "ledger-checkpoint"
_LEAST_PEOPLE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """What people say and show.

    Args:
        by: Who restores; two different names.
        reason: Why.
        printed: The last printed checkpoint of the lost box, empty where nobody has one.
        receipts: Receipts of the lost box, as senders keep them.
        serial: The highest serial that people know was accepted; 0 for none.
        replace: What is on this box may be put aside.
        erased: Digests of keys that must not come back, besides those that the backups' folder lists, or a ledger here.
    """

    by: tuple[str, ...]
    reason: str
    printed: str = ""
    receipts: tuple[bytes, ...] = ()
    serial: int = 0
    replace: bool = False
    erased: frozenset[str] = field(default=frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What came of it.

    Args:
        backup: SHA-256 of the encrypted file.
        rebuilt: The site as it is now.
        media: Which media have to be received again: what the store holds already is not among them.
        aside: The folder that holds what was here before; empty for none.
        unread: Ledgers on this box, below its state, that did not read as a whole; what they say was destroyed may be
            back.
        shown: How many digests of destroyed keys people brought.
        seconds: How long it took.
        dry_run: Nothing was changed.
    """

    backup: str
    rebuilt: Rebuilt
    media: tuple[NeededMedium, ...]
    aside: str
    unread: tuple[str, ...]
    shown: int
    seconds: float
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {
            "backup": self.backup,
            **self.rebuilt.to_json(),
            "media": [{"serial": each.serial, "release": each.release, "code": each.code} for each in self.media],
            "aside": self.aside,
            "unread": list(self.unread),
            "shown": self.shown,
            "seconds": self.seconds,
            "dry_run": self.dry_run,
        }


def restore(
    config: Config,
    file: Path,
    *,
    home: Path | None,
    decisions: Decisions,
    clock: Clock,
    dry_run: bool = False,
) -> Restored:
    """Bring a site back from one backup.

    Args:
        config: Of the box to restore onto.
        file: The encrypted backup.
        home: The GnuPG folder with the recipient's private key, which people brought.
        decisions: Theirs.
        clock: What time it is.
        dry_run: Do everything beside, then throw it away.

    Raises:
        ApprovalRefusedError: Fewer than two people, or no reason.
        BackupDamagedError: The backup does not hold, or is another site's.
        ConflictError: This box is in use, and nobody said that it may be replaced; or its records are on a server.
        KeyMissingError: The private key is not there.
        LedgerUnavailableError: The ledger runs: stop the units first.
        ProofError: The printed checkpoint or a receipt contradicts the backup.
    """
    _require_people(decisions)
    if config.database.kind != "sqlite":
        raise ConflictError(
            what="a restore brings the ledger back as a file",
            why=f"database.kind is {config.database.kind}",
            fix='set database.kind = "sqlite" and take database.node out; then `sealift db move --to postgresql`'
            " into an empty database: docs/operator/postgresql.md, a lost server",
        )
    places = config.at
    started = clock.monotonic()
    replaced = replacing.replaced(config, may=decisions.replace, clock=clock)
    here, unread = replacing.erased_here(config)
    erased = decisions.erased | erasures.noted(file.parent) | here
    stage = places.state / aside.STAGE
    doomed.discard(stage)
    try:
        stage.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise _unwritable(error) from error
    target = config.model_copy(update={"places": PlacesSection(root=str(stage), run=str(stage / "run"))})
    try:
        with replacing.stopped(config), _token(config, target, dry_run=dry_run) as token:
            backup, contents = opened(file, home, target.at.ledger)
            _require_same_site(config, contents)
            known = floors.gather(
                config, contents, target.at.ledger, decisions.printed, decisions.receipts, clock=clock
            )
            found = rebuilt.rebuild(
                target,
                contents,
                known=known,
                serial=decisions.serial,
                erased=erased,
                facts={
                    "backup": {"sha256": backup, "made_at": to_text(contents.manifest.made_at)},
                    "by": list(decisions.by),
                    "reason": decisions.reason,
                    "replaced": replaced,
                },
                clock=clock,
                token=token,
            )
            before = "" if dry_run else _put_in_place(config, target, at=to_text(clock.now()))
    except OSError as error:
        raise _unwritable(error) from error
    finally:
        doomed.discard(stage)
    return Restored(
        backup=backup,
        rebuilt=found,
        media=_missing(config, contents.manifest.media),
        aside=before,
        unread=unread,
        shown=len(decisions.erased),
        seconds=round(clock.monotonic() - started, 1),
        dry_run=dry_run,
    )


def _missing(config: Config, needed: tuple[NeededMedium, ...]) -> tuple[NeededMedium, ...]:
    """Return what no release in the store brings; the same bytes under newer signatures are no other release."""
    try:
        held = {one.payload_digest for one in ContentStore(config.at.store).releases()}
    except (OSError, SealiftError):
        held = set()
    return tuple(one for one in needed if one.payload_digest not in held)


@contextmanager
def _token(config: Config, target: Config, *, dry_run: bool) -> Iterator[KeyStore | None]:
    """Lend the token that holds this box's keys, with a new key for the new epoch; None where they are files.

    The PIN goes with the folder of keys that is put in place. What fails takes the new key away again, so that a box
    whose ledger is not replaced goes on with the key that it knows.
    """
    if config.keys.provider == "files" or dry_run:
        yield None
        return
    token = open_keys(config, environ={})
    made = token.create(_LEDGER_KEY)
    try:
        target.at.key_files.mkdir(mode=0o700, parents=True)
        durable.write_new(target.at.key_files / PIN, (config.at.key_files / PIN).read_bytes(), mode=0o400)
        yield token
    except BaseException:
        token.remove(_LEDGER_KEY, made)
        raise
    finally:
        token.close()


def opened(file: Path, home: Path | None, ledger_folder: Path) -> tuple[str, Contents]:
    """Return the digest of an encrypted backup and what is in it, its ledger made again in a folder.

    Raises:
        BackupDamagedError, KeyMissingError, UnitError: As `recipient.decrypting` and `archive.read`.
    """
    return digest_of(file), recipient.decrypting(file, home, lambda stream: archive.read(stream, ledger_folder))


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a backup's file.

    Raises:
        BackupDamagedError: It is not there, or cannot be read.
    """
    try:
        return file_sha256(file)
    except OSError as error:
        raise BackupDamagedError(
            what=f"the backup {file.name} cannot be read", why=error.strerror or "", fix="see `sealift backup list`"
        ) from error


def _require_people(decisions: Decisions) -> None:
    if different(decisions.by) < _LEAST_PEOPLE or not decisions.reason.strip():
        raise ApprovalRefusedError(
            what="a restore takes two people and a reason",
            why=f"{len(decisions.by)} names were given",
            fix="--by NAME --by NAME --reason TEXT",
        )


def _require_same_site(config: Config, contents: Contents) -> None:
    manifest = contents.manifest
    if manifest.site != config.site:
        raise BackupDamagedError(
            what="the backup is another site's",
            why=f"it is of {manifest.site}, this box is {config.site}",
            fix="set site in the site file to the lost box's, or bring the right backup",
        )
    if manifest.environment != config.environment:
        raise WrongEnvironmentError(
            what="the backup is of another environment",
            why=f"{manifest.environment}, and this box is {config.environment}",
            fix="a demo's backup is never restored into production",
        )
    pinned = contents.files.get(f"pinned/{trust.PINNED_ROOT}")
    try:
        here = trust.pinned_root(config.at.pinned_trust).encode()
    except NoTrustError:
        return  # a machine on which nobody typed a code yet: the backup's root is pinned
    if pinned is not None and here != pinned:
        raise NoTrustError(
            what="this box has pinned another root than the lost one",
            why="its first root is not the backup's",
            fix="install the box anew, with the sheet of the same sender",
        )


def _put_in_place(config: Config, target: Config, *, at: str) -> str:
    """Move what is here aside and what was rebuilt into its place, the ledger last; return the name of the folder."""
    real, made = config.at, target.at
    before = real.state / f"{aside.PREFIX}{at.replace(':', '').replace('-', '')}"
    before.mkdir(mode=0o700, parents=True, exist_ok=True)
    for here, new, name in (
        (real.key_files, made.key_files, "keys"),
        (real.trust, made.trust, aside.TRUST),
        (real.promoter, made.promoter, "promoter"),
        (real.registry, made.registry, "registry"),
    ):
        _swap(here, new, before / name)
    # Not aside: what was received here before the restore is recorded when the ledger starts, and has its receipts.
    _copy_missing(made.spool, real.spool, mode=0o660)
    _copy_missing(made.receipts, real.receipts)
    _copy_missing(made.pinned_trust, real.pinned_trust)
    for name in (pin.FILE_NAME,):
        old = real.etc / name
        if old.exists():
            shutil.copy2(old, before / name)
        durable.replace(old, (made.etc / name).read_bytes(), mode=0o644)
    site_file = made.etc / "sealift.toml"
    if site_file.exists():
        durable.replace(real.etc / "sealift.toml.from-backup", site_file.read_bytes(), mode=0o644)
    _swap(real.ledger, made.ledger, before / "ledger")
    return before.name


def _swap(here: Path, new: Path, before: Path) -> None:
    if here.exists():
        _move(here, before)
    if new.exists():
        here.parent.mkdir(parents=True, exist_ok=True)
        _move(new, here)
        durable.sync_folder(here.parent)


def _move(source: Path, target: Path) -> None:
    """Move a folder; where that copies it, to another file system, its secrets are overwritten where they were."""
    if source.is_symlink() or _disk_of(source) == _disk_of(target if target.exists() else target.parent):
        shutil.move(source, target)
        return
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)  # where a disk is mounted, a folder stays
    os.sync()  # nothing is overwritten while its copy may be lost with the power
    doomed.discard(source)


def _disk_of(path: Path) -> int:
    return path.stat().st_dev


def _copy_missing(source: Path, folder: Path, *, mode: int = 0o644) -> None:
    for path in sorted(source.rglob("*")) if source.is_dir() else ():
        place = folder / path.relative_to(source)
        if path.is_file() and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            durable.replace(place, path.read_bytes(), mode=mode)  # a part would be taken for the whole by the next run
    if folder.is_dir():
        durable.sync_folder(folder)


def _unwritable(error: OSError) -> StoreWriteError:
    return StoreWriteError(
        what="the backup could not be restored",
        why=error.strerror or type(error).__name__,
        fix="make room, check that you are root, and run the same command again",
    )
