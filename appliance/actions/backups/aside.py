"""What restores put aside, and what one that was killed left: secrets of this box lie there beside those in use.

A folder that was put aside holds keys of the same lineage, and opens what they made for as long as it lies there. So
whoever destroys a key or retires the box asks here for its copies, and `sealift doctor` names the folders.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from appliance.actions.backups import erasures
from appliance.actions.findings import Finding
from appliance.config import Places
from appliance.errors import KeyMissingError
from appliance.keys.provider import PURPOSES
from media.clock import Clock

STAGE: Final = ".restoring"
PREFIX: Final = "before-restore-"
TRUST: Final = "trust"
"""What was believed before, in a folder that was put aside."""
DRILL: Final = "sealift-drill-"
"""Of the throwaway folders that a drill brings a backup back into, with the keys in it."""

PASSWORDS: Final = ("passwords.json", "codes.json", "secondfactors.json")
_DAY: Final = timedelta(days=1)
_SHRED: Final = (
    "find /var/lib/sealift/{name} -type f \\( -path '*/keys/*' -o -name passwords.json -o -name codes.json"
    " -o -name secondfactors.json \\) -exec shred -u {{}} +"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """One such folder.

    Args:
        root: The folder.
        at: When it was put aside; None where its name does not say, and for what a killed restore left.
    """

    root: Path
    at: datetime | None

    @property
    def key_folders(self) -> list[Path]:
        """Return the folders of keys in it."""
        return sorted(path for path in self.root.rglob("keys") if path.is_dir() and not path.is_symlink())

    def files(self, *patterns: str) -> list[Path]:
        """Return the files in it, at any depth, whose names are of a pattern; a link is none."""
        found = {path for pattern in patterns for path in self.root.rglob(pattern)}
        return sorted(path for path in found if path.is_file() and not path.is_symlink())

    def keys(self, name: str) -> list[Path]:
        """Return every version of a key in it."""
        return self.files(f"{name}.v*")


def asides(places: Places) -> tuple[Aside, ...]:
    """Return what lies beside the state of this box, oldest first."""
    found = [*sorted(places.state.glob(f"{PREFIX}*")), places.state / STAGE]
    return tuple(Aside(root=path, at=_moment(path.name)) for path in found if path.is_dir() and not path.is_symlink())


def named(file: Path) -> str:
    """Return what a record calls a file: its name, with the folder that was put aside where it lies in one."""
    folder = next((part for part in file.parts if part == STAGE or part.startswith(PREFIX)), "")
    return f"{folder}/{file.name}" if folder else file.name


def copies(places: Places, name: str, *, versions: Collection[int], digests: Collection[str]) -> list[Path]:
    """Return the copies of versions of a key: what has the bytes of one, whatever it is called there.

    Of keys on a token, whose bytes nobody has, what has the name and version of one.

    Args:
        places: Of this box.
        name: The key's.
        versions: Which.
        digests: Of their bytes, as `erasures.digest` has them; none for keys on a token.

    Raises:
        KeyMissingError: A folder cannot be read.
    """
    of_name = set[str]() if digests else {f"{name}.v{version}" for version in versions}
    every = [file for one in asides(places) for key in PURPOSES for file in one.keys(key)]
    return [file for file in every if file.name in of_name or digest_of(file) in digests]


def require_writable(files: Collection[Path]) -> None:
    """Return when this process may destroy these copies: a unit sees no more than it writes to.

    Raises:
        KeyMissingError: It may not.
    """
    shut = sorted({named(file).partition("/")[0] for file in files if not os.access(file.parent, os.W_OK)})
    if shut:
        raise KeyMissingError(
            what=f"copies of the key in {', '.join(shut)} cannot be destroyed from here",
            why="this process may not write there, as the nightly unit of retention",
            fix="run it at the console, as root: `sealift retention run`, or `sealift box-keys destroy`",
        )


def digest_of(file: Path) -> str:
    """Return what names the key in a file, as `erasures.digest`.

    Raises:
        KeyMissingError: It cannot be read.
    """
    try:
        return erasures.digest(file.read_bytes())
    except OSError as error:
        raise KeyMissingError(
            what=f"the key {named(file)} cannot be read", why=error.strerror or "", fix="run it as root"
        ) from error


def findings(places: Places, *, clock: Clock, gone: Collection[str]) -> Iterator[Finding]:
    """Yield the keys that are destroyed by record and lie there, and each folder with the command that empties it.

    Args:
        places: Of this box.
        clock: For the age.
        gone: Digests of keys whose destruction is recorded; a folder that holds one is bad.
    """
    yield from _in_use(places, gone)
    for one in asides(places):
        held, destroyed = _held(one, gone)
        if held == 0:
            continue
        yield Finding(
            name="put aside",
            is_good=False if destroyed else None,
            text=f"{one.root.name}, {_age(one, clock)}, holds {_many(held)}"
            + (f"; of {destroyed} of them the ledger records that they are destroyed" if destroyed else ""),
            why="they open and hash what keys of this box made, and its people's old passwords can be guessed at",
            fix=f"when nobody goes back to what was there, as root: {_SHRED.format(name=one.root.name)}",
        )


def _in_use(places: Places, gone: Collection[str]) -> Iterator[Finding]:
    """Yield the keys of this box that lie there although the ledger records that they are destroyed."""
    found = list[str]()
    with suppress(OSError, KeyMissingError):  # who may not read them is told nothing
        files = [file for name in PURPOSES for file in sorted(places.key_files.glob(f"{name}.v*"))]
        found = [file.name for file in files if digest_of(file) in gone]
    if found:
        yield Finding(
            name="destroyed keys",
            is_good=False,
            text=f"{', '.join(found)}: still there, and recorded as destroyed",
            why="what they made can be read, and the record says that it cannot",
            fix="as root: `sealift box-keys destroy NAME`, with the name before the dot",
        )


def _held(one: Aside, gone: Collection[str]) -> tuple[int | None, int]:
    """Return how many secrets are in it, None where only root can tell, and of how many a destruction is recorded."""
    try:
        list(one.root.iterdir())
        keys = [file for name in PURPOSES for file in one.keys(name)]
        destroyed = sum(digest_of(file) in gone for file in keys)
    except (OSError, KeyMissingError):
        return None, 0
    return len(keys) + len(one.files(*PASSWORDS, "box-*", "token-pin")), destroyed


def _many(held: int | None) -> str:
    return "what only root can look at" if held is None else f"{held} keys and other secrets"


def _age(one: Aside, clock: Clock) -> str:
    if one.at is None:
        return "left by a restore that was cut off" if one.root.name == STAGE else "of an unknown day"
    return f"{max((clock.now() - one.at) // _DAY, 0)} days old"


def _moment(name: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(name.removeprefix(PREFIX))
    except ValueError:
        return None
    return found if found.tzinfo else None
