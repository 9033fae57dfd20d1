"""Completes a release that does not bring everything: what it leaves unchanged comes from the release below it.

A release of the server alone keeps the engines of the release that runs; a security update keeps all of the release it
names, but for the packages and the wheels that it replaces. Nothing is taken from anywhere but stored releases, whose
bytes were signed and hashed; the result is built and checked like any other, by exact digest.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from appliance.errors import InstallError, UnknownReleaseError
from appliance.install.environment_check import pins
from appliance.install.maintainer import INDEX
from appliance.install.releases import InstalledReleases
from appliance.store.content import StoredFile, StoredRelease
from media import canonical, wheelnames

FULL: Final = "full"
SERVER: Final = "server"
SECURITY_UPDATE: Final = "security-update"
_KINDS: Final = (FULL, SERVER, SECURITY_UPDATE)
_ENGINE: Final = "engine-"
_WHEELS: Final = "data/wheels/"
_GROUPS: Final = {"data/host/ansible/": "playbooks", "data/host/systemd/": "units", "data/debs/": "Debian packages"}
_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{1,99}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A release with what it leaves unchanged.

    Args:
        stored: The release; its files are those to install from, whichever release brought them.
        kind: "full", "server" or "security-update".
        requirements: The requirements file of each environment.
        base: Serial of the release below it; None where it stands alone.
        kept: What comes from there, for people.
        packages: Names of the Debian packages that a security update brings: what it exists for is installed by name.
    """

    stored: StoredRelease
    kind: str
    requirements: Mapping[str, bytes]
    base: int | None = None
    kept: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


def complete(stored: StoredRelease, releases: InstalledReleases) -> Whole:
    """Return a release as it is to be installed here.

    Raises:
        InstallError: The release below it is not here or not the one that runs, or the two do not fit.
        StoreDamagedError: A file in the store is not what was signed.
    """
    contents = stored.contents()
    kind = str(contents.get("kind", FULL))
    if kind not in _KINDS:
        raise _refused(stored, f"its kind {ascii(kind)[:40]} is unknown here", "install a newer server first")
    listed = canonical.mapping(contents.get("environments"), "environments")
    own = {name: stored.read(canonical.text(path, name)) for name, path in sorted(listed.items())}
    serial = _base_of(stored, kind, contents, releases)
    if serial is None:
        return Whole(stored=stored, kind=kind, requirements=own)
    try:
        base = complete(StoredRelease.load(stored.store, serial), releases)
    except UnknownReleaseError as error:
        raise _refused(
            stored, f"it changes release {serial}, which is not in the store", f"receive release {serial} first"
        ) from error
    if kind == SERVER:
        requirements = {name: text for name, text in base.requirements.items() if name.startswith(_ENGINE)} | own
    else:
        requirements = _replaced(stored, base.requirements, own)
    files, groups = _files(stored, base)
    kept = sorted(requirements.keys() - own.keys())
    return Whole(
        stored=replace(stored, files=files),
        kind=kind,
        requirements=requirements,
        base=serial,
        kept=("models", *kept, *groups),
        packages=_packages(stored) if kind == SECURITY_UPDATE else (),
    )


def _base_of(stored: StoredRelease, kind: str, contents: Mapping[str, Any], releases: InstalledReleases) -> int | None:
    """Return the serial below: the one that the release names, else the one that runs or ran when it came."""
    if kind == FULL:
        return None
    current, known = releases.current(), releases.load(stored.serial)
    running = current.serial if current is not None and current.serial < stored.serial else None
    if "base" not in contents:
        return known.base if known is not None else running
    named = canonical.integer(contents["base"], "release.json: base", minimum=1)
    if named >= stored.serial:
        raise _refused(
            stored, f"it names release {named} as the one below it", "ask the sender for a corrected release"
        )
    if known is None and running is not None and running != named:
        raise _refused(
            stored,
            f"it changes release {named}, and release {running} runs",
            f"install release {named} first, or ask the sender for a release that changes {running}",
        )
    return named


def _replaced(stored: StoredRelease, before: Mapping[str, bytes], own: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the requirements with the update's lines in the place of the same packages' lines."""
    found = dict(before)
    unused = {name for text in own.values() for name in pins(text)}
    for environment, text in own.items():
        if environment.startswith(_ENGINE) or environment not in before:
            raise _refused(stored, f"it would change {environment}", "an update changes server and host alone")
        fresh, lines = _lines(text), _lines(before[environment])
        unused -= fresh.keys() & lines.keys()
        merged = lines | {name: line for name, line in fresh.items() if name in lines}
        found[environment] = "".join(f"{merged[name]}\n" for name in sorted(merged)).encode()
    if unused:
        raise _refused(stored, f"nothing here has {min(unused)}, which it replaces", "ask the sender what it is for")
    return found


def _lines(requirements: bytes) -> dict[str, str]:
    """Return the line of each package; `pins` vouches that every line is one."""
    pins(requirements)
    lines = [line for line in requirements.decode().splitlines() if line.strip() and not line.startswith("#")]
    return {wheelnames.canonical(line.partition("==")[0]): line for line in lines}


def _files(stored: StoredRelease, base: Whole) -> tuple[dict[str, StoredFile], tuple[str, ...]]:
    """Return the files to install from, and the names of the groups that are all from below."""
    below = base.stored.files
    files = {path: file for path, file in below.items() if path.startswith(_WHEELS)}
    kept = []
    for prefix, name in _GROUPS.items():
        if any(path.startswith(prefix) for path in stored.files):
            continue
        group = {path: file for path, file in below.items() if path.startswith(prefix)}
        files |= group
        kept += [name] if group else []
    return files | dict(stored.files), tuple(kept)


def _packages(stored: StoredRelease) -> tuple[str, ...]:
    if INDEX not in stored.files:
        return ()
    names = {
        line.removeprefix("Package: ")
        for line in stored.read(INDEX).decode(errors="replace").split("\n")
        if line.startswith("Package: ")
    }
    if strange := sorted(name for name in names if not _PACKAGE.fullmatch(name)):
        raise _refused(stored, f"it brings a package called {ascii(strange[0])[:40]}", "ask the sender")
    return tuple(sorted(names))


def _refused(stored: StoredRelease, why: str, fix: str) -> InstallError:
    return InstallError(what=f"release {stored.release} (serial {stored.serial}) cannot be installed", why=why, fix=fix)
