"""The copier's engine: each byte of a medium is read once, and that very byte is hashed, hashed again and written.

One reader fills page-aligned slabs of 4 MiB; lanes of threads share each slab: one proves the signed block hashes, one
the whole file's hash, two write. hashlib, read and write release the interpreter lock, so the lanes really run side by
side. Memory is the slabs, whatever the size of the release: 6 of 4 MiB.

Big files are written past the page cache (O_DIRECT), and a medium that is a device of its own is not kept in it: what
stays behind is on the disk, and the services that are running keep their cache.
"""

import contextlib
import errno
import hashlib
import mmap
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Final, Self

from appliance.errors import NoSpaceError, StoreWriteError
from media.errors import SealiftError

SLAB_BYTES: Final = 4 * 2**20
_SLABS: Final = 6
_WRITERS: Final = 2
_SYNCERS: Final = 4
_ALIGNMENT: Final = 4096
_DIRECT_FROM_BYTES: Final = 8 * 2**20

Task = Callable[[], None]


class Stopped(Exception):  # noqa: N818 - not an error: the reason lies in `Pipeline.failure`
    """Another lane failed; the reader stops."""


class Slab:
    """A page-aligned buffer that goes back to the pool when its last user is done."""

    def __init__(self, pool: "queue.SimpleQueue[Slab]") -> None:
        self._pool = pool
        self._memory = mmap.mmap(-1, SLAB_BYTES)
        self._lock = threading.Lock()
        self._users = 0
        self.view = memoryview(self._memory)

    def lend(self, users: int) -> None:
        """Say how many tasks will read it."""
        self._users = users

    def give_back(self) -> None:
        """One task is done with it."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self._pool.put(self)


class Sink:
    """A file of the store while it is written, out of order, by several threads."""

    def __init__(self, folder: int, name: str, *, length: int) -> None:
        self._length = length
        with writing(name):
            self.descriptor = self._open(folder, name)
            self._direct = self._open_direct(folder, name) if length >= _DIRECT_FROM_BYTES else None
            if length:
                self._reserve(length)

    @staticmethod
    def _open(folder: int, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(name, flags, 0o600, dir_fd=folder)
        except PermissionError:  # power went after its final mode was set and before it had its final name
            left = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                os.fchmod(left, 0o600)
            finally:
                os.close(left)
            return os.open(name, flags, 0o600, dir_fd=folder)

    @staticmethod
    def _open_direct(folder: int, name: str) -> int | None:
        try:
            return os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECT, dir_fd=folder)
        except OSError as error:
            if error.errno == errno.EINVAL:  # tmpfs and some FUSE file systems have no direct writes
                return None
            raise

    def _reserve(self, length: int) -> None:
        try:
            os.posix_fallocate(self.descriptor, 0, length)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise

    def write(self, view: memoryview, offset: int) -> None:
        """Write all of `view` at `offset`; safe from several threads."""
        with writing("an object"):
            direct = self._direct
            if direct is not None and offset % _ALIGNMENT == 0:
                whole = len(view) - len(view) % _ALIGNMENT
                _write_all(direct, view[:whole], offset)
                view, offset = view[whole:], offset + whole
            _write_all(self.descriptor, view, offset)

    def sync(self) -> None:
        """Make what was written survive a power cut."""
        with writing("an object"):
            os.fdatasync(self.descriptor)

    def finish(self) -> None:
        """Give the file its exact length and its final mode, and make both durable."""
        with writing("an object"):
            os.ftruncate(self.descriptor, self._length)
            os.fchmod(self.descriptor, 0o444)
            os.fsync(self.descriptor)

    def close(self) -> None:
        """Release the descriptors."""
        os.close(self.descriptor)
        if self._direct is not None:
            os.close(self._direct)


class Counter:
    """Counts tasks that are still to be done for one file."""

    def __init__(self, open_tasks: int = 0) -> None:
        self._condition = threading.Condition()
        self._open = open_tasks

    def add(self, number: int) -> None:
        """More tasks were handed out."""
        with self._condition:
            self._open += number

    def done(self) -> None:
        """One task ended."""
        with self._condition:
            self._open -= 1
            if self._open == 0:
                self._condition.notify_all()

    def wait(self) -> None:
        """Return when none is open."""
        with self._condition:
            self._condition.wait_for(lambda: self._open == 0)


class Pipeline:
    """The lanes and the slabs. Use as a context: leaving it waits for every task, then raises the first failure."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self._free: queue.SimpleQueue[Slab] = queue.SimpleQueue()
        for _ in range(_SLABS):
            self._free.put(Slab(self._free))
        self.blocks = _Lane(self, "blocks", 1)
        self.whole = _Lane(self, "whole", 1)
        self.writes = _Lane(self, "writes", _WRITERS)
        self.syncs = _Lane(self, "syncs", _SYNCERS)
        self.settle = _Lane(self, "settle", 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is not None and self.failure is None:
            self.failure = error
        for lane in (self.blocks, self.whole, self.writes, self.syncs, self.settle):
            lane.close()
        if self.failure is not None and (error is None or isinstance(error, Stopped)):
            raise self.failure from None

    def slab(self) -> Slab:
        """Wait for a free slab.

        Raises:
            Stopped: A lane failed meanwhile.
        """
        if self.failure is not None:
            raise Stopped
        return self._free.get()

    def fail(self, error: BaseException) -> None:
        """Keep the first failure; the reader stops, and the lanes bring to an end what they were given before."""
        if self.failure is None:
            self.failure = error


class _Lane:
    """A queue and its threads. Tasks of a lane with one thread run in the order they were put."""

    def __init__(self, pipeline: Pipeline, name: str, threads: int) -> None:
        self._pipeline = pipeline
        self._tasks: queue.SimpleQueue[tuple[Task, Task | None] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, task: Task, *, after: Task | None = None) -> None:
        """Queue a task; `after` runs even when it failed."""
        self._tasks.put((task, after))

    def close(self) -> None:
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (item := self._tasks.get()) is not None:
            task, after = item
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - carried to the reader's thread and raised there
                self._pipeline.fail(error)
            finally:
                if after is not None:
                    after()


class RunningHash:
    """A SHA-256 in the making."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, view: memoryview) -> None:
        """Add bytes."""
        self._hash.update(view)

    def fork(self) -> "RunningHash":
        """Return an independent copy that has seen the same bytes."""
        copy = RunningHash()
        copy._hash = self._hash.copy()
        return copy

    def take(self) -> str:
        """Return the digest so far and begin afresh."""
        digest = self._hash.hexdigest()
        self._hash = hashlib.sha256()
        return digest


def _write_all(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn the operating system's refusals to write into ours.

    Raises:
        NoSpaceError: The file system or the quota is full.
        StoreWriteError: Anything else.
    """
    try:
        yield
    except SealiftError:
        raise
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpaceError(
                what="the store is full",
                why=f"no room for {what}",
                fix="make room (`sealift status` shows what uses it), then receive again: what was stored is kept",
            ) from error
        raise StoreWriteError(
            what=f"the store cannot be written ({what})",
            why=error.strerror or type(error).__name__,
            fix="check the disk and the unit's rights, then receive again",
        ) from error
