"""Folders for what must not stay: they are gone when the work in them ends, also by an error, SIGTERM or SIGHUP.

What SIGKILL or a power cut leaves goes when the next folder of its kind is made: a folder is locked while its process
lives. Units need that least, since systemd takes their own `/tmp` away with them (PrivateTmp); whoever works at the
console has none.
"""

import fcntl
import os
import shutil
import signal
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_SUFFIX: Final = ".lent"  # what has another name was made otherwise, and nobody can tell whether it is used
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


class Throwaway:
    """A folder of this process, readable by its user alone. It goes with `remove`, or when the process ends.

    Args:
        prefix: Of its name. What killed processes left under it is removed first.
        place: Where it is made; for temporary files without one.
    """

    def __init__(self, prefix: str, *, place: Path | None = None) -> None:
        place = place or Path(tempfile.gettempdir())
        for _ in left(prefix, place=place):
            pass
        self.path, lock = _made(place, prefix)
        self._end = weakref.finalize(self, _forgotten, self.path, lock, os.getpid())

    def remove(self) -> None:
        """Remove it with all that is in it; does nothing the second time.

        Raises:
            OSError: Something cannot be removed.
        """
        if self._end.alive:
            try:
                shutil.rmtree(self.path)
            finally:
                self._end()


@contextmanager
def folder(prefix: str, *, place: Path | None = None) -> Iterator[Path]:
    """Lend such a folder; a signal that ends the process does so when the block was left and the folder is gone."""
    with _left_before_it_ends():
        lent = Throwaway(prefix, place=place)
        try:
            yield lent.path
        finally:
            lent.remove()


def left(prefix: str, *, place: Path | None = None) -> Iterator[Path]:
    """Yield each folder that killed processes left under a prefix; it is removed when the next one is asked for."""
    for found in (place or Path(tempfile.gettempdir())).glob(f"{prefix}*{_SUFFIX}"):
        if (lock := _locked(found)) is not None:
            try:
                yield found
            finally:
                shutil.rmtree(found, ignore_errors=True)
                os.close(lock)


@contextmanager
def _left_before_it_ends() -> Iterator[None]:
    came: list[int] = []

    def leave(number: int, _frame: object) -> None:
        came.append(number)
        for one in ours:  # nothing breaks off what is being taken away
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    ours = [one for one in _ENDING if is_main and signal.getsignal(one) is signal.SIG_DFL]
    for one in ours:
        signal.signal(one, leave)
    try:
        yield
    finally:
        for one in ours:
            signal.signal(one, signal.SIG_DFL)
        if came:  # whoever started it, systemd for one, is told by what it ended
            os.kill(os.getpid(), came[0])


def _made(place: Path, prefix: str) -> tuple[Path, int]:
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, suffix=_SUFFIX, dir=place))
        if (lock := _locked(made)) is not None:
            return made, lock
        # Another process took it for one that was left: it came between the making and the lock.


def _locked(made: Path) -> int | None:
    """Return what holds a folder of this user that nobody else holds; None where there is none."""
    try:
        lock = os.open(made, _OPEN)
    except OSError:
        return None
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found, there = os.fstat(lock), made.lstat()
        if found.st_uid == os.geteuid() and found.st_ino == there.st_ino:
            return lock
    os.close(lock)
    return None


def _forgotten(made: Path, lock: int, maker: int) -> None:
    if os.getpid() == maker:  # a forked child that ends is not the end
        shutil.rmtree(made, ignore_errors=True)
        os.close(lock)
