"""What the target has installed: its dpkg status, or the list that its probe brought.

apt resolves against a status file. A probe's list has names and versions only, so what a package provides and needs is
taken from the verified lists: what it needs where they still hold that very version, what it provides also from another
one. A need that nothing known meets is left out, for the target runs with it; else apt would call the target broken.
"""

import re
from collections.abc import Iterable
from typing import Final

from bundler.debian.archives import Archives
from bundler.debian.stanzas import fields, split
from bundler.debian.versions import DebianVersion
from bundler.errors import SourceError

_COPIED: Final = ("Breaks", "Conflicts", "Essential", "Multi-Arch", "Replaces")
_NEEDS: Final = ("Depends", "Pre-Depends")
_NAME: Final = re.compile(r"\s*([a-z0-9][a-z0-9.+-]+)")
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
    present = tuple(installed)
    known = {(entry.name, entry.version, entry.architecture): entry.stanza for entry in archives.entries.values()}
    similar = {entry.name: entry.stanza for entry in archives.entries.values()}
    provided: dict[str, str] = {}
    for each in present:
        stanza = known.get(each) or similar.get(each[0], "")
        if "\nProvides:" in stanza:
            provided[each[0]] = fields(stanza, label=each[0])["Provides"]
    names = {name for name, _, _ in present} | {name for text in provided.values() for name in _names(text)}
    stanzas: list[str] = []
    for name, version, architecture in present:
        lines = [
            f"Package: {name}", "Status: install ok installed", f"Version: {version}",
            f"Architecture: {architecture}", "Maintainer: unknown", "Description: installed on the target",
        ]  # fmt: skip
        if name in provided:
            lines.append(f"Provides: {provided[name]}")
        stanza = known.get((name, version, architecture), "")
        if stanza:
            values = fields(stanza, label=name)
            lines += [f"{field}: {values[field]}" for field in _COPIED if field in values]
            lines += [f"{field}: {met}" for field in _NEEDS if (met := _met(values.get(field, ""), names))]
        stanzas.append("\n".join(lines) + "\n")
    return "\n".join(stanzas).encode()


def _names(relations: str) -> list[str]:
    """Return the package names of a list of relations such as "a (= 1) | b, c:any"."""
    return [match[1] for part in re.split(r"[,|]", relations) if (match := _NAME.match(part))]


def _met(relations: str, names: frozenset[str] | set[str]) -> str:
    clauses = [clause.strip() for clause in relations.split(",") if clause.strip()]
    return ", ".join(clause for clause in clauses if names.intersection(_names(clause)))


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
