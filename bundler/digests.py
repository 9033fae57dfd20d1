"""Each file's SHA-256, computed once in a run of the bundler, however many sites and steps ask for it.

Within `remembering`, a file is known by device, inode, length and the time its content last changed; whatever changes
one of them is hashed anew, and a file so fresh that its clock could not show another change is not remembered. Weights
that lie on another file system than the candidate are copied over by the very reading that hashes them, so that they
are read once and written once. Outside of it every call hashes. A file changed behind all of this is found before
anyone signs: signing measures the candidate and compares it with what the build wrote down.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Final

_CHUNK: Final = 2**20
_LARGE: Final = 16 * 2**20
_PUSH: Final = 32 * 2**20
_WAITING: Final = 8
_AHEAD: Final = 16 * 2**20
_COARSE_NS: Final = 50_000_000  # no file system's clock of a content's change ticks slower than this here

Told = Callable[[int, int, str], None]
"""Called with bytes done, bytes in all, and the file's name."""
_Key = tuple[int, int, int, int]


def _silent(done: int, total: int, label: str) -> None:
    """Show nothing."""


@dataclass(slots=True, kw_only=True)
class Digests:
    """What was hashed in this run.

    Args:
        told: Told the progress of files of at least 16 MiB.
        spool: A folder on the candidate's file system, for large files of other file systems; none copies nothing.
        bytes_read: How many bytes were read to be hashed so far.
    """

    told: Told = _silent
    spool: Path | None = None
    bytes_read: int = 0
    _known: dict[_Key, str] = field(default_factory=dict)
    _copies: dict[str, Path] = field(default_factory=dict)

    def sha256(self, file: Path) -> str:
        """Return a file's SHA-256.

        Raises:
            OSError: It cannot be read, or changed while it was read.
        """
        with file.open("rb", buffering=0) as source:
            key, is_settled = _state(source.fileno())
            if is_settled and key in self._known:
                return self._known[key]
            found = self._read(source, total=key[2], device=key[0], label=file.name)
            if _state(source.fileno())[0] != key:
                message = "it changed while it was read"
                raise OSError(message)
        if is_settled:
            self._known[key] = found
        return found

    def copy_of(self, sha256: str) -> Path | None:
        """Return the copy on the candidate's file system that was made while hashing, if one was."""
        return self._copies.get(sha256)

    def _read(self, source: FileIO, *, total: int, device: int, label: str) -> str:
        place = self._place_for(total, device)
        digest = hashlib.sha256()
        done = 0
        with _copying(place) as put:
            for piece in _pieces(source, put):
                digest.update(piece)
                done += len(piece)
                if total >= _LARGE:
                    self.told(done, total, label)
        self.bytes_read += done
        found = digest.hexdigest()
        if place is not None:
            place.chmod(0o444)
            self._copies[found] = place
        return found

    def _place_for(self, total: int, device: int) -> Path | None:
        if self.spool is None or total < _LARGE or self.spool.stat().st_dev == device:
            return None
        return self.spool / str(len(self._copies))


_CURRENT: ContextVar[Digests | None] = ContextVar("digests", default=None)


@contextmanager
def remembering(digests: Digests) -> Iterator[Digests]:
    """Let every `file_sha256` of this module use one memory until the block ends."""
    token = _CURRENT.set(digests)
    try:
        yield digests
    finally:
        _CURRENT.reset(token)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read at most once within `remembering`.

    Raises:
        OSError: It cannot be read, or changed while it was read.
    """
    return (_CURRENT.get() or Digests()).sha256(path)


def copy_of(sha256: str) -> Path | None:
    """Return the copy of a file that `file_sha256` made on the candidate's file system, if it made one."""
    current = _CURRENT.get()
    return None if current is None else current.copy_of(sha256)


def _state(descriptor: int) -> tuple[_Key, bool]:
    """Return what a file is known by, and whether any later change of it would show; wait for that if it is large."""
    facts = os.fstat(descriptor)
    age = time.time_ns() - facts.st_mtime_ns
    if facts.st_size >= _LARGE and 0 <= age < _COARSE_NS:
        time.sleep((_COARSE_NS - age) / 1e9)
        facts = os.fstat(descriptor)
        age = time.time_ns() - facts.st_mtime_ns
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns), age >= _COARSE_NS


def _pieces(source: FileIO, put: "_Put") -> Iterator[memoryview]:
    """Yield what is read, from few buffers that are used again and again; each piece holds until the next but one."""
    buffers = [memoryview(bytearray(_CHUNK)) for _ in range(_WAITING if put is not _nowhere else 1)]
    written: list[Future[None] | None] = [None] * len(buffers)
    number, done = 0, 0
    while True:
        if done % _AHEAD == 0:  # the disk reads on while this is hashed
            os.posix_fadvise(source.fileno(), done, 2 * _AHEAD, os.POSIX_FADV_WILLNEED)
        before = written[number]
        if before is not None:
            before.result()
        count = source.readinto(buffers[number])
        if not count:
            return
        done += count
        piece = buffers[number][:count]
        written[number] = put(piece)
        yield piece
        number = (number + 1) % len(buffers)


def _nowhere(piece: memoryview) -> None:
    """Write nothing."""
    del piece


_Put = Callable[[memoryview], Future[None] | None]


@contextmanager
def _copying(place: Path | None) -> Iterator[_Put]:
    """Lend a function that writes a piece beside the hashing, on a second core; without a place it does nothing.

    The disk is kept busy from the start, not only when everything was hashed: what was written is pushed out while the
    hashing goes on.
    """
    if place is None:
        yield _nowhere
        return
    try:
        with (
            place.open("xb", buffering=0) as file,
            ThreadPoolExecutor(max_workers=1) as syncing,
            ThreadPoolExecutor(max_workers=1) as beside,
        ):
            unsynced = 0
            waiting: list[Future[None]] = []
            synced: list[Future[None]] = []

            def write(piece: memoryview) -> None:
                nonlocal unsynced
                file.write(piece)
                unsynced += len(piece)
                if unsynced >= _PUSH and (not synced or synced[-1].done()):
                    synced.append(syncing.submit(os.fdatasync, file.fileno()))
                    unsynced = 0

            def put(piece: memoryview) -> Future[None]:
                waiting.append(beside.submit(write, piece))
                return waiting[-1]

            yield put
            for each in waiting:
                each.result()
            for each in synced:  # only now is certain that no more are added
                each.result()
    except BaseException:
        place.unlink(missing_ok=True)
        raise
