"""What the target has installed: its dpkg status, or the list that its probe brought.

apt resolves against a status file. A probe's list has names and versions only, so what a package provides and needs is
taken from the verified lists where they still hold that very version; of the rest apt knows that it is there.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from bundler.debian.archives import Archives
from bundler.debian.stanzas import fields, split
from bundler.debian.versions import DebianVersion
from bundler.errors import SourceError

_COPIED: Final = (
    "Breaks", "Conflicts", "Depends", "Essential", "Multi-Arch", "Pre-Depends", "Provides", "Replaces",
)  # fmt: skip
_MAX_STATUS: Final = 64 * 2**20
Installed = tuple[str, str, str]
"""Name, version, architecture."""


def from_status(untrusted: bytes) -> tuple[Installed, ...]:
    """Return the packages that a dpkg status file calls installed, sorted.

    Raises:
        SourceError: It is not such a file.
    """
    if len(untrusted) > _MAX_STATUS:
        raise SourceError(what="the target's package list is too large", why=f"{len(untrusted)} bytes", fix="check it")
    found: set[Installed] = set()
    for stanza in split(untrusted.decode("utf-8", errors="replace")):
        values = fields(stanza, label="the target's package list")
        if values.get("Status", "").split()[-1:] == ["installed"]:
            found.add((values.get("Package", ""), values.get("Version", ""), values.get("Architecture", "")))
    return tuple(sorted(found))


def from_probe(packages: Iterable[str]) -> tuple[Installed, ...]:
    """Return the packages of a probe, sorted; its parser has judged their form."""
    found: list[Installed] = []
    for line in packages:
        name, version, architecture = line.split(" ")
        found.append((name, version, architecture))
    return tuple(sorted(found))


def as_status(installed: Iterable[Installed], archives: Archives) -> bytes:
    """Return a dpkg status that apt can resolve against, made from a probe's list."""
    known: Mapping[Installed, str] = {
        (entry.name, entry.version, entry.architecture): entry.stanza for entry in archives.entries.values()
    }
    stanzas: list[str] = []
    for name, version, architecture in installed:
        lines = [
            f"Package: {name}", "Status: install ok installed", f"Version: {version}",
            f"Architecture: {architecture}", "Maintainer: unknown", "Description: installed on the target",
        ]  # fmt: skip
        stanza = known.get((name, version, architecture))
        if stanza is not None:
            values = fields(stanza, label=name)
            lines += [f"{field}: {values[field]}" for field in _COPIED if field in values]
        stanzas.append("\n".join(lines) + "\n")
    return "\n".join(stanzas).encode()


def security_updates(
    installed: Iterable[Installed], archives: Archives, *, only: Iterable[str] = ()
) -> tuple[tuple[str, str], ...]:
    """Return name and version of what the security archive has newer than the target, sorted.

    Args:
        installed: What the target has.
        archives: The verified archives.
        only: Names to look at; empty means all.

    Raises:
        SourceError: No security archive is among them.
    """
    if not any(archive.is_security for archive in archives.archives):
        raise SourceError(
            what="this machine's apt sources name no security archive",
            why="a security update is chosen from one",
            fix="add the suite that ends with -security to the apt sources, or name a list in debs.sources",
        )
    newest: dict[tuple[str, str], DebianVersion] = {}
    for entry in archives.entries.values():
        if entry.is_security:
            place = (entry.name, entry.architecture)
            offer = DebianVersion(entry.version)
            if place not in newest or newest[place] < offer:
                newest[place] = offer
    wanted = frozenset(only)
    found: set[tuple[str, str]] = set()
    for name, version, architecture in installed:
        if wanted and name not in wanted:
            continue
        # A package may become or cease to be the same for all architectures.
        offered = [newest[name, each] for each in (architecture, "all") if (name, each) in newest]
        if offered and DebianVersion(version) < max(offered):
            found.add((name, max(offered).text))
    return tuple(sorted(found))
