"""Debian packages for the target: the closure that is missing there, fetched and checked by this machine's own apt.

apt works in private folders against the target's list of installed packages, so nothing of this machine's state is read
or changed. Upstream signatures are apt's to check: unsigned lists and packages are refused. The medium carries the
packages with a flat index; on the target every byte was verified before apt sees it.
"""

import hashlib
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

from bundler.artifact import Artifact, Component, Gathered, Material
from bundler.cache import Cache
from bundler.digests import file_sha256
from bundler.errors import BuildError, SourceError
from bundler.process import Progress, capture, quiet, run
from bundler.recipe import DebsSection, Recipe
from media.canonical import dumps
from media.clock import to_text

_ARCHITECTURE: Final = "amd64"
_EPOCH: Final = re.compile(r"^[0-9]+:")
_NAME: Final = re.compile(r"[A-Za-z0-9_.+~-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deb:
    """One package in the cache."""

    name: str
    version: str
    architecture: str
    file: Path
    sha256: str

    @property
    def file_name(self) -> str:
        """The name on the medium: without the epoch, whose colon file systems refuse."""
        return f"{self.name}_{_EPOCH.sub('', self.version)}_{self.architecture}.deb"

    @property
    def purl(self) -> str:
        """The package URL."""
        return f"pkg:deb/debian/{self.name}@{self.version}?arch={self.architecture}"


def gather(recipe: Recipe, debs: DebsSection, *, cache: Cache, progress: Progress = quiet) -> Gathered:
    """Return the packages, their index and its release file below `data/debs/`.

    Raises:
        SourceError: The status file cannot be read, or apt could not resolve or fetch.
        BuildError: apt's tools are absent.
    """
    packages = _obtain(recipe, debs, cache=cache, progress=progress)
    index, release = _index(packages, epoch=recipe.source_date_epoch, cache=cache)
    files = [
        Artifact.of_file(
            deb.file,
            target=f"data/debs/{deb.file_name}",
            kind="deb",
            component=Component(name=deb.name, version=deb.version, purl=deb.purl),
        )
        for deb in packages
    ]
    indexes = [
        Artifact.of_bytes(index, target="data/debs/Packages", kind="deb"),
        Artifact.of_bytes(release, target="data/debs/Release", kind="deb"),
    ]
    return Gathered(
        artifacts=(*files, *indexes),
        materials=tuple(Material(uri=deb.purl, sha256=deb.sha256) for deb in packages),
    )


def _obtain(recipe: Recipe, debs: DebsSection, *, cache: Cache, progress: Progress) -> tuple[Deb, ...]:
    status = _status(recipe, debs)
    key = _key(recipe, debs, status)
    if known := _remembered(cache, key):
        return known
    progress(f"resolving and fetching {', '.join(debs.packages)} for the target")
    with cache.scratch() as scratch:
        fetched = _fetch(debs.packages, status, scratch)
        packages = tuple(sorted((_taken_in(file, cache) for file in fetched), key=lambda deb: deb.file_name))
    cache.remember("debs", key, [[deb.name, deb.version, deb.architecture, deb.sha256] for deb in packages])
    progress(f"  {len(packages)} packages")
    return packages


def _key(recipe: Recipe, debs: DebsSection, status: bytes) -> str:
    """A new release asks apt again; the same recipe gives the same bytes for as long as the cache holds them."""
    facts = [sorted(debs.packages), hashlib.sha256(status).hexdigest(), to_text(recipe.release.created)]
    return hashlib.sha256(dumps(facts)).hexdigest()


def _status(recipe: Recipe, debs: DebsSection) -> bytes:
    """Return the target's dpkg status; an empty one means that the whole closure travels."""
    if debs.installed_status is None:
        return b""
    try:
        return recipe.beside(debs.installed_status).read_bytes()
    except OSError as error:
        raise SourceError(
            what="debs.installed_status: the target's package list cannot be read",
            why=error.strerror or "",
            fix="copy /var/lib/dpkg/status from a machine like the target",
        ) from error


def _fetch(packages: tuple[str, ...], status: bytes, scratch: Path) -> list[Path]:
    for folder in ("state/lists/partial", "cache/archives/partial", "log"):
        (scratch / folder).mkdir(parents=True)
    (scratch / "status").write_bytes(status)
    options = {
        "Dir::State": scratch / "state",
        "Dir::State::status": scratch / "status",
        "Dir::Cache": scratch / "cache",
        "Dir::Log": scratch / "log",
        "APT::Architecture": _ARCHITECTURE,
        "APT::Architectures": _ARCHITECTURE,
        "APT::Install-Recommends": "false",
        "APT::Get::AllowUnauthenticated": "false",
        "APT::Sandbox::User": "",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "true",
        "DPkg::Post-Invoke": "",
        "Binary::apt-get::Acquire::Retries": "3",
    }
    given = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    what = "the Debian packages could not be fetched"
    fix = "check this machine's apt sources, and the names below debs.packages"
    for command in (("update",), ("install", "--download-only", "--yes", *packages)):
        run(
            ["apt-get", "--quiet", *given, *command],
            what=what,
            fix=fix,
            error=SourceError,
            environment={"DEBIAN_FRONTEND": "noninteractive"},
        )
    found = sorted((scratch / "cache" / "archives").glob("*.deb"))
    if not found:
        raise SourceError(what=what, why="the target has all of them already", fix="remove the debs section")
    return found


def _taken_in(file: Path, cache: Cache) -> Deb:
    # dpkg-deb prints the fields that it was asked for, in its own order, as `Name: value`.
    told = capture(
        ["dpkg-deb", "--field", file, "Package", "Version", "Architecture"],
        what=f"{file.name} is not a Debian package",
        fix="remove it from apt's archive and build again",
        error=SourceError,
    )
    fields = dict(line.split(": ", maxsplit=1) for line in told.decode(errors="replace").splitlines() if ": " in line)
    values = [fields.get(name, "") for name in ("Package", "Version", "Architecture")]
    if not all(_NAME.fullmatch(_EPOCH.sub("", value)) for value in values):
        raise SourceError(
            what=f"{file.name} has a strange name", why=ascii(values), fix="remove it from the packages to carry"
        )
    sha256 = file_sha256(file)
    deb = Deb(name=values[0], version=values[1], architecture=values[2], file=file, sha256=sha256)
    kept = cache.add(file, sha256=sha256, name=deb.file_name)
    return Deb(name=deb.name, version=deb.version, architecture=deb.architecture, file=kept, sha256=sha256)


def _remembered(cache: Cache, key: str) -> tuple[Deb, ...]:
    memo: Any = cache.recall("debs", key)
    if not isinstance(memo, list):
        return ()
    found: list[Deb] = []
    for name, version, architecture, sha256 in memo:
        file = cache.find(sha256)
        if file is None:
            return ()
        found.append(Deb(name=name, version=version, architecture=architecture, file=file, sha256=sha256))
    return tuple(found)


def _index(packages: tuple[Deb, ...], *, epoch: int, cache: Cache) -> tuple[bytes, bytes]:
    """Return Packages and Release of the flat repository, dated by the recipe."""
    with cache.scratch() as scratch:
        for deb in packages:
            try:
                (scratch / deb.file_name).hardlink_to(deb.file)
            except OSError:
                shutil.copyfile(deb.file, scratch / deb.file_name)
        index = capture(
            ["apt-ftparchive", "packages", "."],
            what="the index of the Debian packages could not be made",
            fix="install apt-utils",
            error=BuildError,
            folder=scratch,
        )
    return index, _release(index, epoch)


def _release(index: bytes, epoch: int) -> bytes:
    """Return the release file of the flat repository; apt-ftparchive would date it by this machine's clock."""
    lines = (
        "Origin: Sealift",
        "Label: Sealift",
        f"Architectures: {_ARCHITECTURE}",
        f"Date: {format_datetime(datetime.fromtimestamp(epoch, tz=UTC))}",
        "SHA256:",
        f" {hashlib.sha256(index).hexdigest()} {len(index):>16} Packages",
    )
    return "".join(f"{line}\n" for line in lines).encode()
