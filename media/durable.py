"""Files that are on the disk, under their names, when the call returns (fsync(2), rename(2)).

All raise OSError as the system does; callers say what it means to a person.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's names."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_new(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a file that does not exist yet, with `mode` less the umask. Its name is durable after `sync_folder`.

    Where that fails, on a full disk for one, nothing of it is left. A power cut may leave a part: see `place_new`.
    """
    _write(path, data, mode=mode, exact_mode=None)


def place_new(path: Path, data: bytes, *, mode: int) -> None:
    """Put a file that does not exist yet in place, whole or not at all, also if the power goes; `mode` is exact.

    The file system must know links: no medium's does. Its name is durable after `sync_folder`.
    """
    beside = _beside(path)
    beside.unlink(missing_ok=True)
    _write(beside, data, mode=0o600, exact_mode=mode)
    try:
        os.link(beside, path)
    finally:
        beside.unlink()


def replace(path: Path, data: bytes, *, mode: int) -> None:
    """Put a file of exactly `mode` in place by one rename: a reader sees the old content or the new, never a part.

    A device stays, and a link to what is no file (`/dev/stdout`): root would put a file in its place. A pipe does not,
    which a stranger may have put there.
    """
    if _is_to_stay(path):
        raise FileExistsError(errno.EEXIST, "what is there is no file", str(path))
    beside = _beside(path)
    beside.unlink(missing_ok=True)  # what a cut left; it may be read-only
    _write(beside, data, mode=0o600, exact_mode=mode)
    beside.replace(path)
    sync_folder(path.parent)


def _is_to_stay(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing, or a link to nothing; whatever else it is, writing says so
        return False
    return not stat.S_ISREG(mode) and (stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or path.is_symlink())


def _write(path: Path, data: bytes, *, mode: int, exact_mode: int | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    stream = os.fdopen(os.open(path, flags, mode), "wb")
    try:
        with stream:
            stream.write(data)
            stream.flush()
            if exact_mode is not None:
                os.fchmod(stream.fileno(), exact_mode)
            os.fsync(stream.fileno())
    except BaseException:
        with suppress(OSError):  # what is told is why it could not be written
            path.unlink()
        raise


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
