"""Debian packages for the target: the closure that is missing there, fetched by apt and verified here.

apt resolves in private folders against the target's list of installed packages. What it brings is checked from the
archive's signature down (`bundler/debian/`), whatever this machine's apt is told to trust. The medium carries the
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
from bundler.debian import installed
from bundler.debian.archives import Archive, Archives
from bundler.debian.clearsigned import ARCHIVE_KEYRING
from bundler.debian.fetching import Upstream, fetch
from bundler.digests import file_sha256
from bundler.errors import BuildError, SourceError
from bundler.process import Progress, capture, quiet
from bundler.recipe import DebsSection, Recipe
from bundler.target import Target
from media.canonical import dumps
from media.clock import Clock, SystemClock, to_text

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


def gather(
    recipe: Recipe,
    debs: DebsSection,
    *,
    cache: Cache,
    clock: Clock | None = None,
    progress: Progress = quiet,
) -> Gathered:
    """Return the packages, their index and its release file below `data/debs/`.

    A security update takes what the security archive has newer than the target, of all packages or of those named;
    other releases take the named packages with what they need and the target lacks.

    Args:
        recipe: The release.
        debs: Its packages.
        cache: Where they are kept.
        clock: Lists of packages are judged by its time.
        progress: Told what is fetched.

    Raises:
        SourceError: The target's list cannot be read, apt could not resolve, or a list or package is not what its
            archive signed.
        BuildError: apt's tools are absent.
    """
    brought = _obtain(recipe, debs, cache=cache, clock=clock or SystemClock(), progress=progress)
    packages = brought.debs
    index, release = _index(
        packages, architecture=recipe.target.debian_architecture, epoch=recipe.source_date_epoch, cache=cache
    )
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
        materials=(
            *(Material(uri=deb.purl, sha256=deb.sha256) for deb in packages),
            *(Material(uri=uri, sha256=sha256, note=note) for uri, sha256, note in brought.lists),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Brought:
    """Packages in the cache, and the signed lists that named them as (uri, sha256, note)."""

    debs: tuple[Deb, ...]
    lists: tuple[tuple[str, str, str], ...]


def _obtain(recipe: Recipe, debs: DebsSection, *, cache: Cache, clock: Clock, progress: Progress) -> _Brought:
    status = require_known(recipe, debs)
    key = memo_key(recipe, debs, status)
    if known := _remembered(cache, key):
        return known
    only_security = recipe.kind == "security-update"
    present = installed.from_status(status) if status else installed.from_probe(recipe.target.packages or ())

    def wanted(archives: Archives) -> tuple[bytes, tuple[str, ...]]:
        _require_suite(archives, recipe.target.codename)
        known_status = status or installed.as_status(present, archives)
        if not only_security:
            return known_status, debs.packages
        newer = installed.security_updates(present, archives, only=debs.packages)
        progress(f"  {len(newer)} of {len(present)} packages have a security update")
        return known_status, tuple(f"{name}={version}" for name, version in newer)

    progress(f"resolving and fetching {', '.join(debs.packages) or 'security updates'} for the target")
    with cache.scratch() as scratch:
        fetched = fetch(
            wanted,
            scratch,
            upstream=_upstream(recipe, debs),
            architecture=recipe.target.debian_architecture,
            now=clock.now(),
            progress=progress,
        )
        taken = [taken_in(file, cache, fetched.archives) for file in fetched.files]
    packages = tuple(sorted(taken, key=lambda deb: deb.file_name))
    lists = tuple(_list_material(archive) for archive in fetched.archives.archives)
    facts = [[deb.name, deb.version, deb.architecture, deb.sha256] for deb in packages]
    cache.remember("debs", key, {"debs": facts, "lists": [list(each) for each in lists]})
    progress(
        f"  {len(packages)} packages, signed by {', '.join(archive.name for archive in fetched.archives.archives)}"
    )
    return _Brought(debs=packages, lists=lists)


def _require_suite(archives: Archives, codename: str) -> None:
    """Pass when every archive is of the target's release of Debian, where that is known."""
    other = [each.codename for each in archives.archives if each.codename.partition("-")[0] != codename]
    if codename and other:
        raise SourceError(
            what=f"the packages would be those of {other[0]}, the target has {codename}",
            why="this machine's apt sources decide unless the recipe names others",
            fix="name a file with the target's suites in debs.sources",
        )


def _list_material(archive: Archive) -> tuple[str, str, str]:
    keys = ", ".join(archive.fingerprints)
    uri = f"deb-archive:{archive.codename}"
    return uri, archive.inrelease_sha256, f"{archive.name} of {to_text(archive.date)}, InRelease signed by {keys}"


def memo_key(recipe: Recipe, debs: DebsSection, status: bytes) -> str:
    """Return what packages are remembered under: a new release asks apt again, the same recipe gives the same bytes.

    Other sources or keys under the same names, or another release of Debian, ask apt again, too.
    """
    facts = [
        sorted(debs.packages), hashlib.sha256(status).hexdigest(), to_text(recipe.release.created), recipe.kind,
        recipe.target.debian_architecture, list(recipe.target.packages or ()), debs.keyring or "", debs.sources or "",
    ]  # fmt: skip
    # Only where they are named, so that what was remembered without them still counts.
    facts += [_digest_of(recipe.beside(name)) for name in (debs.keyring, debs.sources) if name is not None]
    facts += [recipe.target.codename] if recipe.target.codename else []
    return hashlib.sha256(dumps(facts)).hexdigest()


def _digest_of(file: Path) -> str:
    """Return the digest of a file beside the recipe; empty where it cannot be read, which fetching tells."""
    try:
        return file_sha256(file)
    except OSError:
        return ""


def require_known(recipe: Recipe, debs: DebsSection) -> bytes:
    """Return the target's dpkg status once what it has is known as far as this kind of release needs it.

    Raises:
        SourceError: The list cannot be read; or a security update, and neither a list nor a probe with one is named.
    """
    status = _status(recipe, debs)
    if recipe.kind == "security-update" and not status and not recipe.target.packages:
        raise SourceError(
            what="debs.installed_status: a security update needs to know what the target has",
            why="neither a package list nor a probe with one is named",
            fix="copy /var/lib/dpkg/status from the target, or run the probe there",
        )
    return status


def present(recipe: Recipe, machine: Target, *, is_first: bool) -> frozenset[str]:
    """Return the names of the packages that a machine has, by the list that the recipe names or by its probe.

    Args:
        recipe: The release.
        machine: One of its machines.
        is_first: Whether it is the first: the list is that one's, and packages are resolved for it.

    Raises:
        SourceError: The list cannot be read.
    """
    status = b"" if recipe.debs is None or not is_first else _status(recipe, recipe.debs)
    found = installed.from_status(status) if status else installed.from_probe(machine.packages or ())
    return frozenset(name for name, _, _ in found)


def _status(recipe: Recipe, debs: DebsSection) -> bytes:
    """Return the target's dpkg status; an empty one means that its probe decides, or that the whole closure travels."""
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


def _upstream(recipe: Recipe, debs: DebsSection) -> Upstream:
    sources = None if debs.sources is None else recipe.beside(debs.sources)
    if sources is not None and not sources.is_file():
        raise SourceError(
            what="debs.sources: there is no such file", why=debs.sources or "", fix="name a .list or .sources file"
        )
    return Upstream(keyring=recipe.beside(debs.keyring) if debs.keyring else ARCHIVE_KEYRING, sources=sources)


def taken_in(file: Path, cache: Cache, archives: Archives) -> Deb:
    """Put a fetched package into the cache.

    Raises:
        SourceError: It is none, or not one that a verified list names.
    """
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
    archives.require(
        sha256=sha256, length=file.stat().st_size, name=values[0], version=values[1], architecture=values[2]
    )
    deb = Deb(name=values[0], version=values[1], architecture=values[2], file=file, sha256=sha256)
    kept = cache.add(file, sha256=sha256, name=deb.file_name)
    return Deb(name=deb.name, version=deb.version, architecture=deb.architecture, file=kept, sha256=sha256)


def is_remembered(recipe: Recipe, debs: DebsSection, status: bytes, cache: Cache) -> bool:
    """Whether an earlier build fetched these packages and the cache has them; for plans: nothing is read."""
    memo: Any = cache.recall("debs", memo_key(recipe, debs, status))
    found: list[Any] = memo.get("debs", []) if isinstance(memo, dict) else []
    return bool(found) and all(cache.peek(str(each[3])) is not None for each in found)


def _remembered(cache: Cache, key: str) -> _Brought | None:
    memo: Any = cache.recall("debs", key)
    if not isinstance(memo, dict) or not memo.get("debs"):
        return None
    found: list[Deb] = []
    for name, version, architecture, sha256 in memo["debs"]:
        file = cache.find(sha256)
        if file is None:
            return None
        found.append(Deb(name=name, version=version, architecture=architecture, file=file, sha256=sha256))
    lists = tuple((str(uri), str(sha256), str(note)) for uri, sha256, note in memo.get("lists", ()))
    return _Brought(debs=tuple(found), lists=lists)


def _index(packages: tuple[Deb, ...], *, architecture: str, epoch: int, cache: Cache) -> tuple[bytes, bytes]:
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
    return index, _release(index, architecture, epoch)


def _release(index: bytes, architecture: str, epoch: int) -> bytes:
    """Return the release file of the flat repository; apt-ftparchive would date it by this machine's clock."""
    lines = (
        "Origin: Sealift",
        "Label: Sealift",
        f"Architectures: {architecture}",
        f"Date: {format_datetime(datetime.fromtimestamp(epoch, tz=UTC))}",
        "SHA256:",
        f" {hashlib.sha256(index).hexdigest()} {len(index):>16} Packages",
    )
    return "".join(f"{line}\n" for line in lines).encode()
