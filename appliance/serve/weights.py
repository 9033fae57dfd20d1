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
        if digest.hexdigest() != expected_sha256:
            raise EngineLoadError(
                what=f"{name} is not what the descriptor names",
                why=f"expected {expected_sha256[:12]}, found {digest.hexdigest()[:12]}",
                fix="run `sealift validate` and receive the release again",
            )

    def read_text(self, *, max_bytes: int) -> str:
        """Return the file as UTF-8 text of at most `max_bytes`."""
        return os.pread(self._fd, max_bytes, 0).decode()

    def close(self) -> None:
        """Let the descriptor go."""
        os.close(self._fd)
