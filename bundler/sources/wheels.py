"""Wheels for the target machine, chosen from hash-locked requirements and nothing else.

The lock decides names, versions and digests; this module decides which of the locked wheels fits the target (Python,
platform, glibc), whatever machine it runs on. Markers are evaluated for the target, not for the builder. Source
distributions are refused, but for the packages that are built here (`llama_wheel.py`).
"""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from bundler.cache import Cache
from bundler.digests import file_sha256
from bundler.errors import SourceError
from bundler.process import Progress, quiet
from bundler.sources import wheeloffers
from bundler.target import WheelTarget
from bundler.targettags import environments, target_platforms, target_tags
from bundler.toolchain import Toolchain
from bundler.wheelfile import parse_name
from media.canonical import dumps

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_AT_ONCE: Final = 8
_FETCHES: Final = 6
Fetch = Callable[[str, WheelTarget, Path], None]
"""Downloads what a requirements text names, for a target, into a folder; called from several threads at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """One line of a lock."""

    name: str
    version: str
    marker: Marker | None
    hashes: frozenset[str]
    extras: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenWheel:
    """The one wheel of a locked package that fits the target, in the cache."""

    name: str
    version: str
    file: Path
    sha256: str
    extras: frozenset[str] = frozenset()

    @property
    def requirement(self) -> str:
        """The line that installs exactly this wheel."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


def parse_lock(text: str, *, label: str) -> tuple[Locked, ...]:
    """Read a requirements file in which every package has an exact version and SHA-256 hashes.

    Raises:
        SourceError: A line is anything else.
    """
    found: list[Locked] = []
    for line in _logical_lines(text):
        wanted, _, options = line.partition(" --hash=")
        hashes = frozenset(_HASH.findall(f"--hash={options}"))
        try:
            requirement = Requirement(wanted.strip())
        except InvalidRequirement as error:
            raise _bad_lock(label, f"{line[:80]!r} is not a requirement") from error
        versions = [specifier.version for specifier in requirement.specifier if specifier.operator == "=="]
        if not options or not hashes or len(versions) != 1 or len(requirement.specifier) != 1 or requirement.url:
            raise _bad_lock(label, f"{requirement.name} has no exact version with SHA-256 hashes")
        found.append(
            Locked(
                name=canonicalize_name(requirement.name),
                version=versions[0],
                marker=requirement.marker,
                hashes=hashes,
                extras=frozenset(requirement.extras),
            )
        )
    return tuple(found)


def read_lock(path: Path) -> str:
    """Return the text of a lock.

    Raises:
        SourceError: It cannot be read.
    """
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            what=f"the lock {path.name} cannot be read",
            why=getattr(error, "strerror", None) or "it is no text",
            fix="make it with uv pip compile --generate-hashes --no-emit-index-url and name it below locks",
        ) from error


def cached_length(package: Locked, target: WheelTarget, *, cache: Cache) -> int | None:
    """Return the size of the wheel that an earlier build chose, where the cache still has it; nothing is read."""
    sha256 = _chosen(package, target, cache)
    held = None if sha256 is None else cache.peek(sha256)
    return None if held is None else held.stat().st_size


def needed(locked: Iterable[Locked], target: WheelTarget, *, label: str) -> tuple[Locked, ...]:
    """Return the packages that the target needs, by name.

    Raises:
        SourceError: A marker depends on the patch release of Python, or two versions of one package are needed.
    """
    chosen: dict[str, Locked] = {}
    for package in locked:
        verdicts = {
            package.marker is None or package.marker.evaluate(environment) for environment in environments(target)
        }
        if len(verdicts) > 1:
            raise _bad_lock(label, f"{package.name} depends on the patch release of Python {target.python}")
        if True in verdicts:
            if package.name in chosen:
                raise _bad_lock(label, f"{package.name} is needed in two versions")
            chosen[package.name] = package
    return tuple(chosen[name] for name in sorted(chosen))


def obtain(
    packages: Sequence[Locked],
    target: WheelTarget,
    *,
    cache: Cache,
    fetch: Fetch,
    built: Mapping[str, Callable[[Locked], Path]],
    progress: Progress = quiet,
) -> tuple[ChosenWheel, ...]:
    """Return the wheel of each package, from the cache where it is there.

    Args:
        packages: What `needed` returned.
        target: The machine they must fit.
        cache: Where they are kept.
        fetch: Downloads the missing ones.
        built: Packages that are built here, by name, with what returns their wheel.
        progress: Told what is downloaded.

    Raises:
        SourceError: A wheel cannot be had, is not the locked one, or does not fit the target.
    """
    ready: dict[str, ChosenWheel] = {}
    for package in packages:
        if package.name in built:
            file = built[package.name](package)
            ready[package.name] = _checked(package, file, file_sha256(file), target, is_built=True)
        elif known := _remembered(package, target, cache):
            ready[package.name] = known
    missing = [package for package in packages if package.name not in ready]
    if missing:
        progress(f"downloading {len(missing)} wheels for {target.python} {target.platform} glibc {target.glibc}")

        def bring(some: Sequence[Locked]) -> dict[str, ChosenWheel]:
            with cache.scratch() as folder:
                fetch("".join(_pinned(package) for package in some), target, folder)
                return _taken_in(some, folder, target, cache)

        # An index answers slowly, and for one package after the other. What came stays, also when another one fails.
        batches = [missing[start : start + _AT_ONCE] for start in range(0, len(missing), _AT_ONCE)]
        with ThreadPoolExecutor(max_workers=_FETCHES) as pool:
            for brought in pool.map(bring, batches):
                ready |= brought
    return tuple(ready[package.name] for package in packages)


def pip_fetch(toolchain: Toolchain) -> Fetch:
    """Return a `Fetch` that uses pip, by hash, wheels only, without dependency resolution; yanked files are refused."""

    def fetch(requirements: str, target: WheelTarget, folder: Path) -> None:
        listed, unpacking = folder / "requirements.txt", folder / "unpacking"
        listed.write_text(requirements)
        unpacking.mkdir()  # gigabytes of wheels for a GPU lie beside the cache, not in a /tmp that may be memory
        platforms = [option for name in target_platforms(target) for option in ("--platform", name)]
        told: list[str] = []
        try:
            toolchain.pip(
                "download", "-vv", "--no-color", "--progress-bar=off", "--no-deps", "--require-hashes",
                "--only-binary=:all:", "--implementation", "cp", "--python-version", target.python, *platforms,
                "-r", listed, "-d", folder,
                what="wheels for the target could not be downloaded",
                fix="check the connection to the package index",
                error=SourceError,
                environment={"TMPDIR": str(unpacking)},
                on_line=told.append,
            )  # fmt: skip
        except SourceError as error:
            raise wheeloffers.explained(told, target) or error from error
        wheeloffers.require_none_yanked(told)
        listed.unlink()
        shutil.rmtree(unpacking)

    return fetch


def _taken_in(missing: Sequence[Locked], folder: Path, target: WheelTarget, cache: Cache) -> dict[str, ChosenWheel]:
    arrived: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        name = parse_name(file.name).name
        if name in arrived:
            raise SourceError(
                what=f"two files of {name} came",
                why=f"{arrived[name].name}, {file.name}",
                fix="report it: exactly one wheel of each package travels",
            )
        arrived[name] = file
    taken: dict[str, ChosenWheel] = {}
    for package in missing:
        if package.name not in arrived:
            raise SourceError(
                what=f"no wheel of {package.name} {package.version} came",
                why="the package index has none of the locked files",
                fix="lock again with a version that has one",
            )
        file = arrived[package.name]
        sha256 = file_sha256(file)
        wheel = _checked(package, file, sha256, target, is_built=False)
        kept = cache.add(file, sha256=sha256, name=file.name)
        cache.remember("resolved", _memo_key(package, target), {"name": kept.name, "sha256": sha256})
        taken[package.name] = replace(wheel, file=kept)
    return taken


def _remembered(package: Locked, target: WheelTarget, cache: Cache) -> ChosenWheel | None:
    sha256 = _chosen(package, target, cache)
    file = None if sha256 is None else cache.find(sha256)
    return None if sha256 is None or file is None else _checked(package, file, sha256, target, is_built=False)


def _chosen(package: Locked, target: WheelTarget, cache: Cache) -> str | None:
    """Return the digest of the file that an earlier build chose, or of the only one there is to choose."""
    memo = cache.recall("resolved", _memo_key(package, target))
    if memo is None and len(package.hashes) == 1:
        return next(iter(package.hashes))
    sha256 = memo.get("sha256") if isinstance(memo, dict) else None
    return sha256 if isinstance(sha256, str) else None


def _checked(package: Locked, file: Path, sha256: str, target: WheelTarget, *, is_built: bool) -> ChosenWheel:
    named = parse_name(file.name)
    if named.name != package.name or Version(named.version) != Version(package.version):
        raise _unfit(package, f"the file is {named.name} {named.version}")
    if not is_built and sha256 not in package.hashes:
        raise _unfit(package, f"its sha256 {sha256[:12]} is not in the lock")
    if not named.tags & frozenset(target_tags(target)):
        raise _unfit(package, f"{file.name} {wheeloffers.unfit(file.name, target)}")
    return ChosenWheel(name=package.name, version=package.version, file=file, sha256=sha256, extras=package.extras)


def _pinned(package: Locked) -> str:
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in sorted(package.hashes))
    return f"{package.name}=={package.version} {hashes}\n"


def _memo_key(package: Locked, target: WheelTarget) -> str:
    chosen_for = [target.python, target.platform, target.glibc]
    return hashlib.sha256(dumps([package.name, package.version, sorted(package.hashes), chosen_for])).hexdigest()


def _logical_lines(text: str) -> Iterator[str]:
    joined = re.sub(r"\\\n", " ", text)
    for line in joined.splitlines():
        content = re.sub(r"(^|\s)#.*$", "", line).strip()
        if content:
            yield " ".join(content.split())


def _bad_lock(label: str, why: str) -> SourceError:
    return SourceError(what=f"the lock {label} cannot be used", why=why, fix="make it again: make lock")


def _unfit(package: Locked, why: str) -> SourceError:
    return SourceError(
        what=f"the wheel of {package.name} {package.version} is not the locked one for the target",
        why=why,
        fix="lock again, or correct the target in the recipe",
    )
