"""Folders that a command lends itself and takes away again, and with them those of commands that were killed.

Whoever has such a folder holds a lock on it, which the kernel takes back with the process, however that ended. So what
nobody holds is nobody's. Where a file system knows no locks nothing is taken away: it could be somebody's.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_HELD: Final = "held-"
_RANDOM: Final = r"[a-z0-9_]{8}"
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def lent(above: Path, prefix: str = "") -> Iterator[Path]:
    """Lend a private folder below another one until the block ends.

    Args:
        above: Where it is made.
        prefix: What its name begins with.
    """
    folder, descriptor = _made(above, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def take_away(above: Path, prefix: str = "") -> int:
    """Take away what killed commands of this user left below a folder; return how many there were.

    Args:
        above: As for `lent`.
        prefix: As for `lent`.
    """
    wanted = re.compile(f"{re.escape(prefix + _HELD)}{_RANDOM}")
    try:
        with os.scandir(above) as opened:
            found = [Path(entry.path) for entry in opened if wanted.fullmatch(entry.name)]
    except OSError:
        return 0
    return sum(_ended(folder) for folder in found)


def _ended(folder: Path) -> bool:
    """Take one folder away if nobody holds it."""
    try:
        descriptor = os.open(folder, _FLAGS)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_uid != os.geteuid() or not _is_there(folder, descriptor):
            return False
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # somebody holds it, or there are no locks here
        return False
    finally:
        os.close(descriptor)
    return True


def _made(above: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix + _HELD, dir=above))
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, _FLAGS)
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Whoever took away what was left may have come between; then another one is made.
            if _is_there(folder, descriptor):
                return folder, descriptor
            os.close(descriptor)


def _is_there(folder: Path, descriptor: int) -> bool:
    try:
        named = folder.stat(follow_symlinks=False)
    except OSError:
        return False
    held = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)
