"""The folder with backups: files ``sealift-SITE-TIME-SIZE.backup.gpg``, each with its facts beside it as JSON.

The facts are for finding and for comparing with the ledger; a restore believes none of them.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from appliance.actions.backups.manifest import NeededMedium
from appliance.config import Config
from appliance.errors import ConflictError, PreflightError
from media import canonical
from media.clock import to_text
from media.errors import MediaError

FORMAT: Final = 1
SUFFIX: Final = ".backup.gpg"
UNITS: Final = Path("/media/sealift-backup")
"""The folder that the units of backups may write to as the release brings them."""
_FACT_BYTES: Final = 4 * 2**20
_WHAT: Final = "the facts beside a backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is known of one encrypted file.

    Args:
        name: Of the file.
        site: Whose.
        made_at: When.
        length: In bytes.
        sha256: Of the encrypted file.
        origin: Of the ledger inside.
        size: Records inside.
        root: Of their tree.
        recipient: Fingerprint of the certificate it is encrypted to.
        media: What brings the store back.
    """

    name: str
    site: str
    made_at: datetime
    length: int
    sha256: str
    origin: str
    size: int
    root: str
    recipient: str
    media: tuple[NeededMedium, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {
            "name": self.name,
            "site": self.site,
            "made_at": to_text(self.made_at),
            "bytes": self.length,
            "sha256": self.sha256,
            "ledger": {"origin": self.origin, "size": self.size, "root": self.root},
            "recipient": self.recipient,
            "media": [asdict(each) for each in self.media],
        }

    def to_bytes(self) -> bytes:
        """Return the content of the file with the facts."""
        return canonical.dumps({"format": FORMAT, **self.to_json()})

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Read the facts, as they lie beside a file or in a record.

        Raises:
            MediaError: They do not read.
        """
        fields = canonical.mapping(untrusted, _WHAT)
        ledger = canonical.mapping(fields.get("ledger"), _WHAT)
        media = (canonical.mapping(each, _WHAT) for each in canonical.array(fields.get("media"), _WHAT))
        return cls(
            name=canonical.text(fields.get("name"), _WHAT),
            site=canonical.text(fields.get("site"), _WHAT),
            made_at=canonical.moment(fields.get("made_at"), _WHAT),
            length=canonical.integer(fields.get("bytes"), _WHAT),
            sha256=canonical.sha256_hex(fields.get("sha256"), _WHAT),
            origin=canonical.text(ledger.get("origin"), _WHAT),
            size=canonical.integer(ledger.get("size"), _WHAT),
            root=canonical.sha256_hex(ledger.get("root"), _WHAT),
            recipient=canonical.text(fields.get("recipient"), _WHAT),
            media=tuple(
                NeededMedium(
                    serial=canonical.integer(each.get("serial"), _WHAT),
                    release=canonical.text(each.get("release"), _WHAT),
                    code=canonical.sha256_hex(each.get("code"), _WHAT),
                    payload_digest=canonical.sha256_hex(each.get("payload_digest"), _WHAT),
                )
                for each in media
            ),
        )


def name_of(site: str, made_at: datetime, size: int) -> str:
    """Return a file name: names of one site sort by time."""
    return f"sealift-{site}-{made_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{size}{SUFFIX}"


def require_folder(config: Config) -> Path:
    """Return the folder for backups, on a disk of its own.

    Raises:
        PreflightError: None was chosen, it is not there, it cannot be written, or it is on the disk with the state.
    """
    if not config.backup.folder:
        raise PreflightError(
            what="backups have no folder", why="backup.folder is empty", fix="name a folder on another disk"
        )
    folder = Path(config.backup.folder)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise PreflightError(
            what="the folder for backups is not there, or cannot be written",
            why=f"{folder.name} of backup.folder",
            fix=f"plug the disk in and mount it; check the folder's owner, and ask as root{_elsewhere(folder)}",
        )
    state = next(place for place in (config.at.state, *config.at.state.parents) if place.exists())
    if folder.stat().st_dev == state.stat().st_dev and not config.backup.on_system_disk:
        raise PreflightError(
            what="backups would lie on the disk that they are to replace",
            why="backup.folder is on the same file system as the state; perhaps its disk is not mounted",
            fix="mount a second disk there, or set backup.on_system_disk",
        )
    return folder


def _elsewhere(folder: Path) -> str:
    """Return what units need for a folder that they do not know: they write to one alone, whoever owns another."""
    if folder == UNITS:
        return ""
    return f"; the units write to {UNITS.as_posix()} alone, and another folder takes drop-ins (docs/operator/backup.md)"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder: one backup at a time. What an earlier one left unfinished is removed.

    Raises:
        ConflictError: Another backup runs.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                what="another backup is being made", why="it holds the folder", fix="wait for it"
            ) from error
        for left in folder.glob(f".sealift-*{SUFFIX}.unfinished"):
            with suppress(OSError):
                left.unlink()
        yield
    finally:
        os.close(descriptor)


def kept(folder: Path, site: str) -> list[Kept]:
    """Return the backups of a site that lie here whole, the oldest first; facts without a file do not count."""
    found = []
    for path in sorted(folder.glob(f"sealift-{site}-*{SUFFIX}")):
        with suppress(OSError, MediaError):
            facts = Kept.from_json(canonical.loads_canonical(_small(path.with_name(f"{path.name}.json"))))
            if facts.name == path.name and facts.site == site and path.stat().st_size == facts.length:
                found.append(facts)
    return sorted(found, key=lambda each: (each.made_at, each.size))


def tidy(folder: Path, *, keep: int) -> tuple[str, ...]:
    """Remove the oldest backups beyond `keep`, and facts whose file is gone; return the names of backups removed.

    Each site's are counted on their own: nobody's newest makes room for another's.
    """
    removed = []
    sites = {facts.site for path in folder.glob(f"sealift-*{SUFFIX}.json") if (facts := _facts(path)) is not None}
    for site in sites:
        for facts in kept(folder, site)[:-keep]:
            (folder / facts.name).unlink(missing_ok=True)
            (folder / f"{facts.name}.json").unlink(missing_ok=True)
            removed.append(facts.name)
    for path in folder.glob(f"sealift-*{SUFFIX}.json"):
        if not path.with_suffix("").exists():
            path.unlink(missing_ok=True)
    return tuple(sorted(removed))


def _facts(path: Path) -> Kept | None:
    try:
        return Kept.from_json(canonical.loads_canonical(_small(path)))
    except (OSError, MediaError):
        return None


def _small(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_FACT_BYTES)
