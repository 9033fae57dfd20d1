"""Opens a file of a version by its place in the store and hashes it through the descriptor the engine then maps."""

import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from appliance.errors import EngineLoadError

_CHUNK_BYTES: Final = 4 * 1024 * 1024


class HashedFile:
    """A regular file held open; `path` names the very inode that was hashed, whatever happens to its name."""

    def __init__(self, path: Path, *, name: str) -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise EngineLoadError(
                what=f"{name} is not in the store", why=error.strerror or "", fix="receive the release again"
            ) from error
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.close(self._fd)
            raise EngineLoadError(what=f"{name} is not a regular file", why="store", fix="receive the release again")

    @property
    def path(self) -> Path:
        """A path that opens this inode again."""
        return Path(f"/proc/{os.getpid()}/fd/{self._fd}")

    def require(self, expected_sha256: str, *, name: str) -> None:
        """Hash the whole file.

        Raises:
            EngineLoadError: It is not what the descriptor names.
        """
        digest = hashlib.sha256()
        offset = 0
        while chunk := os.pread(self._fd, _CHUNK_BYTES, offset):
            digest.update(chunk)
            offset += len(chunk)
        _require_same(digest.hexdigest(), expected_sha256, name)

    def read_text(self, expected_sha256: str, *, max_bytes: int, name: str) -> str:
        """Return the whole file as UTF-8 text; the bytes that were hashed are the ones returned.

        Raises:
            EngineLoadError: It is not what the descriptor names, too long, or not UTF-8.
        """
        parts: list[bytes] = []
        size = 0
        while size <= max_bytes and (part := os.pread(self._fd, max_bytes + 1 - size, size)):
            parts.append(part)
            size += len(part)
        data = b"".join(parts)
        if size > max_bytes:
            raise EngineLoadError(
                what=f"{name} is too long", why=f"more than {max_bytes} bytes", fix="choose another version"
            )
        _require_same(hashlib.sha256(data).hexdigest(), expected_sha256, name)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise EngineLoadError(what=f"{name} is not UTF-8", why="text", fix="choose another version") from error

    def close(self) -> None:
        """Let the descriptor go."""
        os.close(self._fd)


def _require_same(found: str, expected: str, name: str) -> None:
    if found != expected:
        raise EngineLoadError(
            what=f"{name} is not what the descriptor names",
            why=f"expected {expected[:12]}, found {found[:12]}",
            fix="run `sealift validate` and receive the release again",
        )
