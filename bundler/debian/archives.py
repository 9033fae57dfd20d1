"""Archives whose lists were verified from the signature down: keyring, InRelease, Packages, and so every package.

apt checks signatures too, but as this machine is configured (`trusted=yes` turns it off). Here the lists that apt left
are judged again: gpgv with Debian's keyring over InRelease, its dates, its digest of each Packages file, and the digest
of each package in one of these. What no verified list names does not travel.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from bundler.debian.clearsigned import StrangerError, verified
from bundler.debian.stanzas import fields, split
from bundler.errors import SourceError
from bundler.process import Progress, quiet
from media.digest import file_sha256

_INRELEASE: Final = "InRelease"
_LINE: Final = re.compile(r"([0-9a-f]{64}) +([0-9]{1,15}) +(\S{1,300})")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_AHEAD: Final = timedelta(days=1)
_MAX_LIST: Final = 512 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One package of a verified list."""

    name: str
    version: str
    architecture: str
    sha256: str
    length: int
    is_security: bool
    stanza: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One suite of an archive, at one date."""

    origin: str
    label: str
    codename: str
    date: datetime
    fingerprints: tuple[str, ...]
    inrelease_sha256: str
    prefix: str

    @property
    def is_security(self) -> bool:
        """Whether it holds security updates."""
        return self.codename.endswith("-security")

    @property
    def name(self) -> str:
        """For people and for the provenance statement."""
        return f"{self.origin or 'archive'} {self.codename}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archives:
    """All archives that a build may take packages from, with what they offer."""

    archives: tuple[Archive, ...]
    entries: Mapping[str, Entry] = field(repr=False)

    def require(self, *, sha256: str, length: int, name: str, version: str, architecture: str) -> Entry:
        """Return the entry of a fetched package.

        Raises:
            SourceError: No verified list names these bytes, or names them otherwise.
        """
        entry = self.entries.get(sha256)
        found = (name, version, architecture, length)
        if entry is None or (entry.name, entry.version, entry.architecture, entry.length) != found:
            raise SourceError(
                what=f"the package {name} {version} is not one that a signed list names",
                why=f"sha256 {sha256[:12]}, {length} bytes",
                fix="do not use this mirror; fetch from another one",
            )
        return entry


def read_lists(folder: Path, *, keyring: Path, now: datetime, progress: Progress = quiet) -> Archives:
    """Verify the lists that apt fetched, and remove those of archives that the keyring does not know.

    Args:
        folder: apt's `lists`.
        keyring: Whose signatures count.
        now: Lists are judged by this time.
        progress: Told which archives are passed over.

    Raises:
        SourceError: A list is altered, expired, dated in the future, or none is left.
    """
    archives: list[Archive] = []
    entries: dict[str, Entry] = {}
    for file in sorted(folder.glob(f"*{_INRELEASE}")):
        try:
            archive, listed = _archive(file, keyring=keyring, now=now)
        except StrangerError as error:
            progress(f"  passed over: {error.what}")
            for other in folder.glob(f"{_prefix(file)}*"):
                other.unlink()
            continue
        archives.append(archive)
        for entry in _entries(file, archive, listed):
            # A point release takes the security archive's own files over: they are security updates still.
            if entry.is_security or entry.sha256 not in entries:
                entries[entry.sha256] = entry
    # Unsigned archives leave a Release file, or lists with neither.
    for other in folder.glob("*_Packages*"):
        if not any(other.name.startswith(archive.prefix) for archive in archives):
            other.unlink()
    if not archives or not entries:
        raise SourceError(
            what="this machine's apt sources name no archive that the keyring vouches for",
            why=f"no list is signed by a key of {keyring.name}",
            fix="name Debian's archive in the apt sources, or another keyring in debs.keyring",
        )
    return Archives(archives=tuple(archives), entries=entries)


def _archive(file: Path, *, keyring: Path, now: datetime) -> tuple[Archive, Mapping[str, tuple[str, int]]]:
    untrusted = file.read_bytes()
    label = _label(file)
    signed = verified(untrusted, keyring=keyring, label=label)
    values = fields(signed.text.strip("\n"), label=label)
    date = _date(values.get("Date", ""), label)
    if date > now + _AHEAD:
        raise _refused(label, f"it is dated {date:%Y-%m-%d}, which is in the future", "set this machine's clock")
    if "Valid-Until" in values and (until := _date(values["Valid-Until"], label)) < now:
        raise _refused(
            label,
            f"it was valid until {until:%Y-%m-%d %H:%M} UTC",
            "use a mirror that is up to date: an old list hides security updates",
        )
    listed: dict[str, tuple[str, int]] = {}
    for line in values.get("SHA256", "").split("\n"):
        if match := _LINE.fullmatch(line.strip()):
            listed[match[3].replace("/", "_")] = (match[1], int(match[2]))
    archive = Archive(
        origin=values.get("Origin", "")[:60],
        label=values.get("Label", "")[:60],
        codename=values.get("Codename", values.get("Suite", ""))[:60],
        date=date,
        fingerprints=signed.fingerprints,
        inrelease_sha256=file_sha256(file),
        prefix=_prefix(file),
    )
    return archive, listed


def _entries(file: Path, archive: Archive, listed: Mapping[str, tuple[str, int]]) -> Iterator[Entry]:
    for index in sorted(file.parent.glob(f"{archive.prefix}*Packages")):
        member = index.name.removeprefix(archive.prefix)
        size = index.stat().st_size
        if size > _MAX_LIST or listed.get(member) != (file_sha256(index), size):
            raise _refused(
                f"{_label(file)} {member}",
                "its digest or length is not the signed one",
                "do not use this mirror; fetch from another one",
            )
        yield from _stanzas(index, archive, f"{_label(file)} {member}")


def _stanzas(index: Path, archive: Archive, label: str) -> Iterator[Entry]:
    # Every field that is used is ASCII; one byte a character keeps a list of 50 MB small.
    for stanza in split(index.read_text(encoding="latin-1")):
        # A list has tens of thousands of stanzas: the few fields are picked out, not all parsed.
        picked = {name: _picked(stanza, name) for name in ("Package", "Version", "Architecture", "SHA256", "Size")}
        if not all(picked.values()) or not _SHA256.fullmatch(picked["SHA256"]) or not picked["Size"].isdecimal():
            raise _refused(label, "a package in it has no name, version, digest or size", "fetch it again")
        yield Entry(
            name=picked["Package"],
            version=picked["Version"],
            architecture=picked["Architecture"],
            sha256=picked["SHA256"],
            length=int(picked["Size"]),
            is_security=archive.is_security,
            stanza=stanza,
        )


def _picked(stanza: str, name: str) -> str:
    if stanza.startswith(f"{name}: "):
        start = len(name) + 2
    else:
        at = stanza.find(f"\n{name}: ")
        if at < 0:
            return ""
        start = at + len(name) + 3
    end = stanza.find("\n", start)
    return (stanza[start:] if end < 0 else stanza[start:end]).strip()


def _date(text: str, label: str) -> datetime:
    try:
        found = parsedate_to_datetime(text.replace("UTC", "+0000"))
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError, IndexError) as error:
        raise _refused(label, "its date cannot be read", "fetch it again from another mirror") from error


def _prefix(file: Path) -> str:
    return file.name.removesuffix(_INRELEASE)


def _label(file: Path) -> str:
    """Name a list without its host: the part of the file's name from dists on."""
    _, found, rest = file.name.partition("_dists_")
    return (rest if found else "flat").removesuffix(f"_{_INRELEASE}").removesuffix(_INRELEASE)


def _refused(label: str, why: str, fix: str) -> SourceError:
    return SourceError(what=f"the list {label} cannot be used", why=why, fix=fix)
