"""What goes into a backup, and what does not.

In: site file, trust record and every root and note kept beside it, pinned roots, receipts, the evidence of gates, the
keys that old records need (pepper, keyed hashes), password hashes, facts that wait for the ledger. The ledger itself is
the records.

Out, because it follows from the ledger: state, people, promotions. Out, because it must not survive: sessions, the key
that hides identifiers while a request runs, enrolment codes, requests that wait for approval, a receive that was cut
off. Out, because nobody but this box may sign for this epoch: the ledger's own key. Out, because media bring it: the
store.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appliance.actions.backups import manifest as form
from appliance.actions.backups.manifest import NeededMedium
from appliance.config import Config
from appliance.errors import PreflightError
from appliance.promote.passwords import PASSWORDS
from appliance.registry import evidence
from appliance.store.content import ContentStore
from appliance.verify import trust
from media.errors import MediaError, NoTrustError

KEYS: Final = ("api-key-pepper", "content-hmac", "identity-hmac")
SITE_FILE: Final = "site/sealift.toml"
PASSWORD_FILE: Final = f"promoter/{PASSWORDS}"
_PENDING: Final = "pending"


def gather(config: Config, *, keys: Path, passwords: Path) -> dict[str, bytes]:
    """Return the small files by their path in a backup.

    Args:
        config: The site's.
        keys: The folder with key files, or with the credentials of the unit.
        passwords: The file with password hashes, or the credential that holds it.

    Raises:
        PreflightError: One cannot be read, or is not what it should be.
    """
    places = config.at
    found: dict[str, bytes] = {}
    for path, file in (
        (SITE_FILE, places.config_file),
        (PASSWORD_FILE, passwords),
        *_below("trust", places.trust),
        *_below("pinned", places.pinned_trust),
        *_below("receipts", places.receipts),
        *_below("evidence", evidence.folder(places)),
        *_below("spool", places.spool),
        # A token's never leave it: whoever restores needs the token, or makes them anew.
        *(_keys(keys) if config.keys.provider == "files" else ()),
    ):
        content = _read(file, path)
        if content and form.is_file(path):
            found[path] = content
    return found


def media_of(config: Config) -> tuple[NeededMedium, ...]:
    """Return the releases that the store holds: what media have to bring again.

    Raises:
        PreflightError: The store cannot be read: which media are needed would be unknown.
    """
    try:
        held = ContentStore(config.at.store).releases()
    except OSError as error:
        raise PreflightError(
            what="the store cannot be read", why=error.strerror or "", fix="run as root, or as the unit sealift-backup"
        ) from error
    return tuple(
        NeededMedium(serial=each.serial, release=each.release, code=each.code, payload_digest=each.payload_digest)
        for each in held
    )


def serial_of(config: Config) -> int:
    """Return the last serial accepted; 0 before the first, or where no record reads."""
    try:
        return trust.load(config.at.trust, config.at.pinned_trust, may_begin=True).serial
    except (NoTrustError, MediaError):
        return 0


def _keys(folder: Path) -> Iterator[tuple[str, Path]]:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise PreflightError(
            what="the keys cannot be read", why=error.strerror or "", fix="run as root, or as the unit sealift-backup"
        ) from error
    for name in names:
        # A credential has no version in its name: it is the first one's.
        if name in KEYS:
            yield f"keys/{name}.v1", folder / name
        elif name.partition(".v")[0] in KEYS:
            yield f"keys/{name}", folder / name


def _below(prefix: str, folder: Path) -> Iterator[tuple[str, Path]]:
    if not folder.is_dir():
        return
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and not path.name.startswith((".", _PENDING)):
            yield f"{prefix}/{relative}", path


def _read(file: Path, name: str) -> bytes:
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return b""
            content = stream.read(form.FILE_BYTES + 1)
    except FileNotFoundError:
        return b""  # the site has none yet, or it went while the others were read
    except OSError as error:
        raise PreflightError(
            what=f"{name} cannot be read", why=error.strerror or "", fix="run as root, or as the unit sealift-backup"
        ) from error
    if len(content) > form.FILE_BYTES:
        raise PreflightError(
            what=f"{name} is too large to be backed up",
            why=f"more than {form.FILE_BYTES} bytes",
            fix="report it: no file of ours grows so large",
        )
    return content
