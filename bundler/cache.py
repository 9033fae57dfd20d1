"""The cache of the connected side: downloads and built wheels by digest, outside every checkout.

A cached file is never believed: it is hashed in each run that asks for it, and one that changed is dropped. Files are
read-only, because candidates are made of hard links to them. Writers race safely: everything appears by rename.
What a killed build left in `tmp/` is taken away by the next one.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bundler.digests import file_sha256
from bundler.errors import SourceError
from bundler.lent import lent, take_away
from media.canonical import dumps, loads
from media.errors import MalformedError

_MEMO_BYTES = 16 * 2**20
_UNHELD: Final = re.compile(r"tmp[a-z0-9_]{8}")
"""What releases of before lent themselves in `tmp/`, without a lock that says whose it is."""
_LONG_SECONDS: Final = 86400


def default_root() -> Path:
    """Return ``$XDG_CACHE_HOME/sealift``, or ``~/.cache/sealift``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "sealift"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """One cache folder."""

    root: Path

    def find(self, sha256: str) -> Path | None:
        """Return the file with this digest, hashed just now, or nothing."""
        folder = self._slot(sha256)
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            if file.is_file() and file_sha256(file) == sha256:
                return file
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
        return None

    def peek(self, sha256: str) -> Path | None:
        """Return where a file with this digest would be looked for first, unread; for plans, not for use."""
        folder = self._slot(sha256)
        return next((file for file in sorted(folder.iterdir()) if file.is_file()), None) if folder.is_dir() else None

    def add(self, file: Path, *, sha256: str, name: str) -> Path:
        """Take a file in under its pinned digest and return its place here; `file` is moved where that is possible.

        Raises:
            SourceError: The bytes are not what was pinned; nothing is kept.
        """
        found = file_sha256(file)
        if found != sha256:
            raise SourceError(
                what=f"{name} is not the file that was pinned",
                why=f"expected sha256 {sha256[:12]}, got {found[:12]}",
                fix="find out why it changed before pinning the new digest",
            )
        place = self._slot(sha256) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with self.scratch() as scratch:
            moved = scratch / "file"
            shutil.move(file, moved)
            moved.chmod(0o444)
            moved.replace(place)
        return place

    def recall(self, kind: str, key: str) -> Any:
        """Return the remembered JSON value, or nothing where it is absent or damaged."""
        file = self.root / kind / f"{key}.json"
        try:
            return loads(file.read_bytes(), max_bytes=_MEMO_BYTES)
        except (OSError, MalformedError):
            return None

    def remember(self, kind: str, key: str, value: Any) -> None:
        """Keep one JSON value."""
        with self.scratch() as scratch:
            fresh = scratch / "memo"
            fresh.write_bytes(dumps(value))
            fresh.replace(self._made(kind) / f"{key}.json")

    def folder(self, *parts: str) -> Path:
        """Return a folder of the cache, which may not exist yet."""
        return self.root.joinpath(*parts)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Lend a private folder on the cache's own file system."""
        with lent(self._made("tmp")) as folder:
            yield folder

    @contextmanager
    def alone(self, name: str, *, progress: Callable[[str], None]) -> Iterator[None]:
        """Let no other build of this cache make the same thing until the block ends; wait for one that does.

        Args:
            name: What is made.
            progress: Told that another build is waited for.
        """
        with (self._made("locks") / f"{name}.lock").open("wb") as held:
            with suppress(OSError):  # some file systems of a network know no locks
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    progress(f"waiting for another build, which makes {name} in the same cache")
                    fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def tidy(self, *, now: datetime) -> int:
        """Take away what killed builds left; what a running one works in stays. Return how many folders there were."""
        folder = self.root / "tmp"
        if not folder.is_dir():
            return 0
        old = [each for each in folder.iterdir() if _UNHELD.fullmatch(each.name) and _rests(each, now)]
        for each in old:
            shutil.rmtree(each, ignore_errors=True)
        return len(old) + take_away(folder)

    def _slot(self, sha256: str) -> Path:
        return self.root / "files" / sha256[:2] / sha256

    def _made(self, kind: str) -> Path:
        folder = self.root / kind
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _rests(folder: Path, now: datetime) -> bool:
    """Tell whether nothing in a folder has changed for a day."""
    try:
        places = [folder, *folder.rglob("*")]
        newest = max(each.stat(follow_symlinks=False).st_ctime for each in places)
    except OSError:
        return False
    return folder.is_dir() and not folder.is_symlink() and now.timestamp() - newest > _LONG_SECONDS
