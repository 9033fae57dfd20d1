"""ClamAV over the whole payload, where a recipe asks for it: its version, its database's age, and what it found.

A signature scanner finds what is known already; it is one check of many and decides nothing alone. The database is the
machine's own (`/var/lib/clamav`), or the one that `SEALIFT_CLAMAV_DATABASE` names; it never comes from a recipe.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bundler.artifact import Artifact
from bundler.errors import ScanError
from bundler.process import Progress, quiet
from bundler.scanning.findings import Finding, finding
from media.clock import Clock, to_text

DATABASE_VARIABLE: Final = "SEALIFT_CLAMAV_DATABASE"
_DEFAULT: Final = Path("/var/lib/clamav")
_MOST_BYTES: Final = 2**31 - 1  # clamscan reads no larger file, whatever it is told
_SECONDS: Final = 3600
_HEADER: Final = 512
_SUFFIXES: Final = frozenset({".cvd", ".cld", ".ndb", ".hdb", ".hsb", ".ldb", ".yar", ".yara", ".cud"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """What the scanner knows: files, the newest one's time, and a digest over all."""

    folder: Path
    files: int
    newest: datetime
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """One run: what the statement says, and what was found."""

    version: str
    database: Database
    age_days: int
    files: int
    too_large: int
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what the scan statement says."""
        return {
            "program": self.version,
            "database_files": self.database.files,
            "database_time": to_text(self.database.newest),
            "database_age_days": self.age_days,
            "database_sha256": self.database.sha256,
            "files": self.files,
            "too_large": self.too_large,
        }


def run(
    artifacts: Sequence[Artifact],
    *,
    max_age_days: int,
    clock: Clock,
    database: Path | None = None,
    progress: Progress = quiet,
) -> Scanned:
    """Scan every file that is not too large for the scanner.

    Args:
        artifacts: The payload.
        max_age_days: An older database is a finding of the rule `antivirus-stale`.
        clock: What the age is measured against.
        database: A folder or file of signatures, if not the machine's own.
        progress: Told what is done.

    Raises:
        ScanError: ClamAV is absent, has no database, or failed.
    """
    known = _database(database or Path(os.environ.get(DATABASE_VARIABLE) or _DEFAULT))
    version = _clamscan(["--version"])[1].split("/")[0].strip()[:80]
    small = [artifact for artifact in artifacts if artifact.length <= _MOST_BYTES]
    progress(f"scanning {len(small)} files with {version}")
    found: list[Finding] = []
    with TemporaryDirectory(prefix="sl-") as name:
        folder = Path(name)
        for number, artifact in enumerate(small):
            place = folder / f"{number:06}"
            if artifact.file is None:
                place.write_bytes(artifact.content)
            else:
                place.symlink_to(artifact.file.resolve())
        code, told = _clamscan([
            "--recursive", "--infected", "--no-summary", "--stdout", "--follow-file-symlinks=2", "--max-filesize=0",
            "--max-scansize=0", f"--database={known.folder}", name,
        ])  # fmt: skip
        if code not in {0, 1}:
            last = "".join(letter if letter.isprintable() else " " for letter in told.replace(name, ""))[-300:]
            raise ScanError(what="ClamAV could not scan the payload", why=last, fix="run clamscan by hand")
        for line in told.splitlines():
            place_name, _, verdict = line.partition(": ")
            if verdict.endswith(" FOUND") and place_name.startswith(f"{name}/"):
                signature = verdict.removesuffix(" FOUND")[:100]
                found.append(finding(small[int(Path(place_name).name)], "malware", f"ClamAV says {signature!a}"))
    if code == 1 and not found:
        raise ScanError(what="ClamAV found something and does not say where", why="", fix="run clamscan by hand")
    age = max(0, (clock.now() - known.newest).days)
    if age > max_age_days:
        detail = f"the newest signatures are {age} days old; the recipe asks for at most {max_age_days}"
        found.append(Finding(path="clamav", rule="antivirus-stale", detail=detail))
    return Scanned(
        version=version,
        database=known,
        age_days=age,
        files=len(small),
        too_large=len(artifacts) - len(small),
        findings=tuple(sorted(found, key=lambda each: each.path)),
    )


def _clamscan(arguments: list[str]) -> tuple[int, str]:
    program = shutil.which("clamscan")
    if program is None:
        raise ScanError(
            what="the recipe asks for ClamAV, which is not installed here",
            why="clamscan is not on the PATH",
            fix="install clamav and its signatures, or remove scan.antivirus from the recipe",
        )
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise ScanError(
            what="ClamAV did not end", why=f"it ran for {_SECONDS} seconds", fix="run clamscan by hand"
        ) from late
    return done.returncode, done.stdout


def _database(place: Path) -> Database:
    files = [place] if place.is_file() else sorted(place.iterdir()) if place.is_dir() else []
    files = [path for path in files if path.suffix in _SUFFIXES]
    if not files:
        raise ScanError(
            what="ClamAV has no signatures here",
            why="its database folder holds none",
            fix=f"run freshclam, or name a database with {DATABASE_VARIABLE}",
        )
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return Database(folder=place, files=len(files), newest=max(map(_time, files)), sha256=whole.hexdigest())


def _time(path: Path) -> datetime:
    """Return when signatures were made: of an official file its header's word, of another its own time."""
    with path.open("rb") as file:
        fields = file.read(_HEADER).split(b":")
    if fields[0] == b"ClamAV-VDB" and len(fields) > 8 and fields[8].strip().isdigit():
        return datetime.fromtimestamp(int(fields[8]), tz=UTC)
    return datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)
