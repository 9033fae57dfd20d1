"""The cache of the connected side: downloads and built wheels by digest, outside every checkout.

A cached file is never believed: it is hashed in each run that asks for it, and one that changed is dropped. Files are
read-only, because candidates are made of hard links to them. Writers race safely: everything appears by rename.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundler.digests import file_sha256
from bundler.errors import SourceError
from media.canonical import dumps, loads
from media.errors import MalformedError

_MEMO_BYTES = 16 * 2**20


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
        with tempfile.TemporaryDirectory(dir=self._made("tmp")) as scratch:
            moved = Path(scratch) / "file"
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
        with tempfile.TemporaryDirectory(dir=self._made("tmp")) as scratch:
            fresh = Path(scratch) / "memo"
            fresh.write_bytes(dumps(value))
            fresh.replace(self._made(kind) / f"{key}.json")

    def folder(self, *parts: str) -> Path:
        """Return a folder of the cache, which may not exist yet."""
        return self.root.joinpath(*parts)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Lend a private folder on the cache's own file system."""
        with tempfile.TemporaryDirectory(dir=self._made("tmp")) as folder:
            yield Path(folder)

    def _slot(self, sha256: str) -> Path:
        return self.root / "files" / sha256[:2] / sha256

    def _made(self, kind: str) -> Path:
        folder = self.root / kind
        folder.mkdir(parents=True, exist_ok=True)
        return folder
