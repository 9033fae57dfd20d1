"""One process at a time, on a disk of this machine: the two conditions under which SQLite keeps its promises."""

import fcntl
import os
import time
from pathlib import Path
from typing import BinaryIO, Final

from appliance.errors import LedgerUnavailableError
from appliance.mounttables import is_local, plain

LOCK_NAME: Final = "ledger.lock"
_MOUNTS: Final = Path("/proc/self/mountinfo")


def file_system_of(folder: Path, mountinfo: str) -> str:
    """Return the type of the file system that holds an absolute, resolved folder, or an empty text."""
    best, found = -1, ""
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        fields = left.split(" ")
        if not separator or len(fields) < 5:
            continue
        mounted = Path(plain(fields[4]))
        depth = len(mounted.parts)
        # Of mounts on the same folder the later one covers the earlier.
        if depth >= best and folder.is_relative_to(mounted):
            best, found = depth, right.split(" ", maxsplit=1)[0]
    return found


def require_local(folder: Path, mounts: Path = _MOUNTS) -> None:
    """Return when the folder lies on a local file system; see `appliance.mounttables`.

    Raises:
        LedgerUnavailableError: It lies on one whose locks and syncs are not this machine's own.
    """
    kind = file_system_of(folder.resolve(), mounts.read_text())
    if not is_local(kind):
        raise LedgerUnavailableError(
            what="the ledger may not lie on this file system",
            why=f"{kind}: its locks and syncs are not this machine's own",
            fix="put the state folder on a local disk",
        )


def take(folder: Path, *, shared: bool = False, wait_seconds: float = 0.0) -> BinaryIO:
    """Lock the folder's ledger and return what holds the lock; closing it lets go.

    Args:
        folder: Where the ledger lies.
        shared: To read while no process writes.
        wait_seconds: How long to wait for another holder.

    Raises:
        LedgerUnavailableError: Another process holds it.
    """
    deadline = time.monotonic() + wait_seconds
    mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    # A reader may have no right to write here; a lock needs none.
    flags = os.O_RDONLY | os.O_CLOEXEC | (0 if shared else os.O_CREAT)
    try:
        stream = os.fdopen(os.open(folder / LOCK_NAME, flags, 0o640), "rb")
    except OSError as error:
        raise LedgerUnavailableError(
            what="the ledger's lock cannot be opened", why=error.strerror or "", fix="start sealift-ledger once"
        ) from error
    while True:
        try:
            fcntl.flock(stream, mode)
        except BlockingIOError as error:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            stream.close()
            raise LedgerUnavailableError(
                what="another process has the ledger open", why="its lock is held", fix="stop the other one first"
            ) from error
        return stream
