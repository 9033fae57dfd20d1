"""The Debian packages that a release would put in, with their maintainer scripts: programs that run as root.

Read from the packages' bytes, which were verified when the release was received; nothing of them is run.
"""

import io
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from appliance.errors import InstallError
from appliance.store.content import StoredRelease
from media import canonical

INDEX: Final = "data/debs/Packages"
_INDEX_BYTES: Final = 64 * 1024 * 1024
SCRIPTS: Final = ("preinst", "postinst", "prerm", "postrm", "config", "triggers")
_SECONDS: Final = 60
_MOST_BYTES: Final = 512 * 1024
_INST = re.compile(
    r"Inst ([a-z0-9][a-z0-9.+-]{1,99})(?: \[([^\]\s]{1,200})\])? \(([A-Za-z0-9.+:~-]{1,200})[ )]", re.ASCII
)
_REMOVED = re.compile(r"^Remv ([a-z0-9][a-z0-9.+:-]{1,99}) ", re.ASCII | re.MULTILINE)
_MOST_NAMED: Final = 6

_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package: its version now (empty when absent) and after, and the text of each script."""

    name: str
    before: str
    after: str
    scripts: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {
            "name": self.name,
            "before": self.before,
            "after": self.after,
            "scripts": [{"name": name, "text": text} for name, text in self.scripts],
        }

    @classmethod
    def from_json(cls, untrusted: Any) -> Self:
        """Parse one package.

        Raises:
            MalformedError: A field is missing or of another shape.
        """
        fields = canonical.exact_keys(untrusted, ("name", "before", "after", "scripts"), what="package")
        scripts = []
        for one in canonical.array(fields["scripts"], "package.scripts", most=len(SCRIPTS)):
            script = canonical.exact_keys(one, ("name", "text"), what="package.script")
            name = canonical.one_of(script["name"], SCRIPTS, "package.script.name")
            text = canonical.text(script["text"], "package.script", most=_MOST_BYTES, may_be_empty=True, lines=True)
            scripts.append((name, text))
        return cls(
            name=canonical.text(fields["name"], "package.name"),
            before=canonical.text(fields["before"], "package.before", may_be_empty=True),
            after=canonical.text(fields["after"], "package.after"),
            scripts=tuple(scripts),
        )


def readable(text: str) -> str:
    """Return text in which every character that hides or turns others is written as its number."""
    return _HIDDEN.sub(lambda found: f"<U+{ord(found[0]):04X}>", text.replace("\r\n", "\n"))


def changes(debs: Path, wanted: Sequence[str]) -> tuple[Package, ...]:
    """Return the packages that apt would put in from `debs` for `wanted`, by name, with their scripts.

    Args:
        debs: The release's folder of packages with its index; it is the only source.
        wanted: Names of the packages that this machine needs.

    Raises:
        InstallError: apt does not answer, would take a package away, or a package cannot be read.
    """
    index = debs / "Packages"
    if not index.exists():
        return ()
    simulated = _simulate(debs, wanted)
    files = files_of(index.read_text(errors="replace"))
    found = []
    for name, (before, after) in sorted(simulated.items()):
        path = (debs / files.get((name, after), "..")).resolve()
        if not path.is_relative_to(debs.resolve()):
            raise _unreadable(name, "the release's index does not name its file")
        found.append(Package(name=name, before=before, after=after, scripts=scripts_of(path)))
    return tuple(found)


def files_of(index: str) -> dict[tuple[str, str], str]:
    """Return what a release's index of packages says: the file of each name and version, as it stands there."""
    return {
        (fields.get("Package", ""), fields.get("Version", "")): fields.get("Filename", "") for fields in stanzas(index)
    }


def carried_files(stored: StoredRelease) -> dict[tuple[str, str], str]:
    """Return what `files_of` says of the packages that a stored release carries, by its index.

    Raises:
        StoreDamagedError: The index is not what was signed.
    """
    return files_of(stored.read(INDEX, max_bytes=_INDEX_BYTES).decode(errors="replace"))


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the fields of one line of each package that apt's or dpkg's lists tell of."""
    for stanza in text.split("\n\n"):
        yield dict(line.split(": ", 1) for line in stanza.split("\n") if ": " in line and not line.startswith(" "))


def _simulate(debs: Path, wanted: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return what apt would put in: versions before and after by name. Its lists and cache are scratch."""
    with tempfile.TemporaryDirectory(prefix="sealift-apt-") as scratch:
        source = Path(scratch) / "sources.list"
        source.write_text(f"deb [trusted=yes] file:{debs} ./\n")
        (Path(scratch) / "lists/partial").mkdir(parents=True)
        (Path(scratch) / "cache/archives/partial").mkdir(parents=True)
        options = {
            "Dir::Etc::SourceList": source,
            "Dir::Etc::SourceParts": "-",
            "Dir::State::Lists": f"{scratch}/lists",
            "Dir::Cache": f"{scratch}/cache",
            "APT::Sandbox::User": "root",
            "Debug::NoLocking": "1",
        }
        apt = ["apt-get", "--quiet", *(f"--option={name}={value}" for name, value in options.items())]
        _run([*apt, "update"])
        told = _run([*apt, "--simulate", "--no-install-recommends", "install", *wanted])
    if taken := sorted(set(_REMOVED.findall(told))):
        raise _takes_away(taken)
    found = {}
    for line in told.splitlines():
        if line.startswith("Inst "):
            if (match := _INST.match(line)) is None:
                raise _unreadable("apt's account", ascii(line)[:60])
            found[match[1]] = (match[2] or "", match[3])
    return found


def _run(command: Sequence[str]) -> str:
    quiet = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True, timeout=_SECONDS, env=quiet).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or type(error).__name__
        raise InstallError(
            what="apt does not say what it would install",
            why=str(said).strip().splitlines()[-1][:200],
            fix="run `dpkg --audit`, then make the plan again",
        ) from error


def scripts_of(deb: Path) -> tuple[tuple[str, str], ...]:
    """Return the maintainer scripts of a package file, in a fixed order.

    Raises:
        InstallError: It cannot be read.
    """
    try:
        done = subprocess.run(["dpkg-deb", "--ctrl-tarfile", deb], capture_output=True, check=True, timeout=_SECONDS)
        with tarfile.open(fileobj=io.BytesIO(done.stdout), mode="r:") as archive:
            members = {member.name.removeprefix("./"): member for member in archive if member.isfile()}
            found = {name: _read(archive, members[name]) for name in SCRIPTS if name in members}
    except (OSError, subprocess.SubprocessError, tarfile.TarError) as error:
        raise _unreadable(deb.name, type(error).__name__) from error
    return tuple(found.items())


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = archive.extractfile(member)
    content = b"" if stream is None else stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise tarfile.TarError
    return readable(content.decode(errors="replace"))


def _takes_away(names: Sequence[str]) -> InstallError:
    named = f"{', '.join(names[:_MOST_NAMED])}{' and more' if len(names) > _MOST_NAMED else ''}"
    return InstallError(
        what=f"apt would take packages of this machine away: {named}",
        why="they do not go with what the release brings, and an install removes none",
        fix="where this machine does not need them, remove them first (`apt-get remove`); else ask the sender for a"
        " release that goes with them",
    )


def _unreadable(name: str, why: str) -> InstallError:
    return InstallError(
        what=f"the package {name} cannot be read for the plan", why=why, fix="receive the release again from its medium"
    )
