"""apt in private folders: resolves for the target, fetches, and hands out only what verified lists name.

Nothing of this machine's package state is read or changed; of its configuration, sources and proxies are used.
"""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

from bundler.debian.archives import Archives, read_lists
from bundler.debian.clearsigned import ARCHIVE_KEYRING
from bundler.errors import SourceError
from bundler.process import Progress, quiet, run

_LOCAL = re.compile(r"^'file:(/[^'\n]+\.deb)' ", re.MULTILINE)
_WHAT = "the Debian packages could not be fetched"
_FIX = "check this machine's apt sources, and the names below debs.packages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where packages come from and whose signature counts.

    Args:
        keyring: Public keys in the form that gpgv reads.
        sources: A file of apt sources in the place of this machine's, `.list` or `.sources`.
    """

    keyring: Path = ARCHIVE_KEYRING
    sources: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What apt brought, and the archives that vouch for it."""

    files: tuple[Path, ...]
    archives: Archives


Wanted = Callable[[Archives], tuple[bytes, Sequence[str]]]
"""From the verified archives: the target's dpkg status, and what apt is asked to install (`name` or `name=version`)."""


def fetch(
    wanted: Wanted,
    scratch: Path,
    *,
    upstream: Upstream,
    architecture: str,
    now: datetime,
    progress: Progress = quiet,
) -> Fetched:
    """Resolve and download packages into a scratch folder.

    Args:
        wanted: Says what to install, once the lists are verified.
        scratch: An empty folder.
        upstream: Where from.
        architecture: Debian's name of the target's machine type.
        now: Lists are judged by this time.
        progress: Told which archives are passed over.

    Raises:
        SourceError: A list or a package is not what its archive signed, apt could not resolve, or nothing is missing.
    """
    options = _options(scratch, upstream, architecture)
    (scratch / "status").write_bytes(b"")
    _apt(options, "update", "--error-on=any")
    lists = scratch / "state" / "lists"
    archives = read_lists(lists, keyring=upstream.keyring, now=now, progress=progress)
    status, names = wanted(archives)
    if not names:
        raise SourceError(what=_WHAT, why="the target has all of them already", fix="remove the debs section")
    (scratch / "status").write_bytes(status)
    _apt(options, "install", "--download-only", "--yes", "--no-remove", *names)
    place = scratch / "cache" / "archives"
    files = tuple(sorted(place.glob("*.deb"))) + _beside(options, names, place)
    if not files:
        raise SourceError(what=_WHAT, why="the target has all of them already", fix="remove the debs section")
    return Fetched(files=files, archives=archives)


def _beside(options: Sequence[str], names: Sequence[str], place: Path) -> tuple[Path, ...]:
    """Copy packages of a mirror on this machine's own disk: apt uses them where they lie and fetches nothing."""
    told = _apt(options, "install", "--print-uris", "--yes", "--no-remove", *names)
    copied: list[Path] = []
    for match in _LOCAL.finditer(told):
        source = Path(unquote(match[1]))
        target = place / source.name
        if not source.is_file() or target.exists():
            raise SourceError(what=_WHAT, why=f"{source.name} is not in the mirror, or twice", fix=_FIX)
        shutil.copyfile(source, target)
        copied.append(target)
    return tuple(sorted(copied))


def _apt(options: Sequence[str], *command: str) -> str:
    return run(
        ["apt-get", "--quiet", *options, *command],
        what=_WHAT,
        fix=_FIX,
        error=SourceError,
        environment={"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
    )


def _options(scratch: Path, upstream: Upstream, architecture: str) -> list[str]:
    for folder in ("state/lists/partial", "cache/archives/partial", "log", "sources.list.d", "preferences.d"):
        (scratch / folder).mkdir(parents=True)
    options: dict[str, str | Path] = {
        "Dir::State": scratch / "state",
        "Dir::State::status": scratch / "status",
        "Dir::Cache": scratch / "cache",
        "Dir::Log": scratch / "log",
        # Pins of this machine would choose for the target.
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": scratch / "preferences.d",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Default-Release": "",
        "APT::Install-Recommends": "false",
        "APT::Get::AllowUnauthenticated": "false",
        "APT::Sandbox::User": "",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::AllowWeakRepositories": "false",
        "Acquire::GzipIndexes": "false",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "true",
        "DPkg::Post-Invoke": "",
        "Binary::apt-get::Acquire::Retries": "3",
    }
    if upstream.sources is not None:
        suffix = upstream.sources.suffix if upstream.sources.suffix in {".list", ".sources"} else ".list"
        (scratch / "sources.list.d" / f"recipe{suffix}").write_bytes(upstream.sources.read_bytes())
        options |= {"Dir::Etc::sourcelist": "/dev/null", "Dir::Etc::sourceparts": scratch / "sources.list.d"}
        options |= {"Dir::Etc::trusted": upstream.keyring.resolve(), "Dir::Etc::trustedparts": "/dev/null"}
    return [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
