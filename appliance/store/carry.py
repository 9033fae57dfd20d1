"""Carrying blocks into the store: each byte is read once, hashed once, and written, on all cores.

One thread does one block from end to end, so one big file and many small ones use all cores alike. The signed digest of
each block is the authority: it is proven before the object gets its name (docs/adr/0016). A file of one block or none
is proven as a whole. Memory is one buffer for each thread, whatever the size of the release.

A bad block stops nothing but itself: all of them are found in one pass, and what is good is kept for the next.
"""

import hashlib
import mmap
import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from appliance.store.cargo import AbsentPiece, AnyPiece, Cargo, Piece
from appliance.store.damage import BadBlock, Damage
from appliance.store.incoming import Incoming
from appliance.store.opened import OpenPiece
from appliance.store.settling import Settler
from appliance.store.sink import Sink
from appliance.store.streams import Streams
from media.errors import DigestMismatchError, UnreadableError

_MOST_THREADS: Final = 24
_BUFFER_BYTES: Final = 2**20
_AHEAD_BYTES: Final = 4 * 2**20
_OPEN_SMALL_FILES: Final = 128  # files that wait for their sync

_LOCKS: Final = 256
"""More than twice the small files that may wait for their sync, so that threads rarely meet at one."""

Progress = Callable[[int, str], None]


@dataclass(slots=True, kw_only=True)
class _Job:
    """One target on its way. `unread` counts blocks that no thread is done with; `proven` has a bit for each sound one.

    A release may have tens of thousands of these at a time, so there is no set and no lock in each.
    """

    cargo: Cargo
    stored: bool
    kept: frozenset[int]
    unread: int
    proven: int = 0
    opened: Sink | None = None
    on_close: Callable[[], None] | None = None

    @property
    def sha256(self) -> str:
        return self.cargo.sha256

    @property
    def length(self) -> int:
        return self.cargo.length

    @property
    def sink(self) -> Sink:
        if self.opened is None:
            message = "this object has no file"
            raise RuntimeError(message)
        return self.opened

    def close(self) -> None:
        opened, self.opened = self.opened, None
        if opened is not None:
            opened.close()
            if self.on_close is not None:
                self.on_close()


@dataclass(slots=True)
class _Block:
    """One block in its stream's queue."""

    carrier: "Carrier"
    job: _Job
    number: int

    def __call__(self, buffer: memoryview, read: Callable[[], None]) -> None:
        self.carrier.carry(self.job, self.number, buffer, read)


class Carrier:
    """Carries what it was given when `run` is called.

    `read_bytes` and `written_bytes` count what was read from media, and written; blocks that broke off are not in them.

    Args:
        incoming: Where objects are made; None to prove only.
        progress: Called from any thread with bytes that were dealt with, and their target.
        threads: How many; by default two more than there are cores, since they wait for disks too.
    """

    def __init__(self, incoming: Incoming | None, progress: Progress, *, threads: int | None = None) -> None:
        self._incoming = incoming
        self._progress = progress
        self._threads = threads or min(len(os.sched_getaffinity(0)) + 2, _MOST_THREADS)
        self._streams = Streams(threads=self._threads)
        self._pieces: Counter[AnyPiece] = Counter()
        self._open: dict[AnyPiece, OpenPiece] = {}
        self._lingering: set[AnyPiece] = set()
        self._jobs: dict[int, _Job] = {}
        self._settler: Settler | None = None
        self._failure: BaseException | None = None
        self._small = threading.BoundedSemaphore(_OPEN_SMALL_FILES)
        self._lock = threading.Lock()
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))
        self.damage = Damage()
        self.read_bytes = 0
        self.written_bytes = 0

    def check(self, cargo: Cargo, *, lingers: bool = False) -> None:
        """Plan to read a target and prove every block; nothing is written.

        Args:
            cargo: The target.
            lingers: Its first file stays open after `run`, for `first_file`, until `let_go`: no file is opened twice.
        """
        self._plan(cargo, stored=False)
        if lingers:
            self._lingering.add(cargo.origins[0].piece)

    def store(self, cargo: Cargo) -> None:
        """Plan to make a target an object of the incoming release.

        Blocks that the journal says an interrupted receive left are hashed again from the store's own disk and read
        from the medium only when they do not hold.
        """
        self._plan(cargo, stored=True)

    def run(self) -> None:
        """Carry everything; bad blocks, and volumes that were not there, are in `damage` then.

        Raises:
            MediaError: The medium lacks a file, or holds something that is none.
            NoSpaceError, StoreWriteError: The store cannot take it.
        """
        self._open = {
            piece: OpenPiece(piece, blocks, lingers=piece in self._lingering) for piece, blocks in self._pieces.items()
        }
        if self._incoming is not None:
            self._settler = Settler(self._incoming, failed=self._fail)
        threads = [threading.Thread(target=self._work, name=f"carry-{n}", daemon=True) for n in range(self._threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._settler is not None:
            self._settler.close()
        for piece, opened in self._open.items():
            if piece not in self._lingering:
                opened.close()
        for job in self._jobs.values():
            job.close()
        if self._failure is not None:
            raise self._failure

    def first_file(self, cargo: Cargo) -> int:
        """Return a descriptor of the file with the first block of a target that lingers; the caller closes it.

        Raises:
            OSError: It is not open.
        """
        return self._open[cargo.origins[0].piece].duplicate()

    def let_go(self) -> None:
        """Close what lingers."""
        for opened in self._open.values():
            opened.close()

    def proven(self, cargo: Cargo) -> frozenset[int]:
        """Return the numbers of the blocks that were carried and hold; 0 stands for an empty file."""
        proven = self._jobs[id(cargo)].proven
        return frozenset(number for number in range(len(cargo.origins)) if proven >> number & 1)

    def _plan(self, cargo: Cargo, *, stored: bool) -> None:
        kept: frozenset[int] = frozenset()
        if stored and len(cargo.blocks) > 1:
            kept = frozenset(self._into().journal.blocks.get(cargo.sha256, ())) & frozenset(range(len(cargo.blocks)))
        job = _Job(cargo=cargo, stored=stored, kept=kept, unread=len(cargo.origins))
        self._jobs[id(cargo)] = job
        for number, origin in enumerate(cargo.origins):
            self._pieces[origin.piece] += 1
            self._streams.put(origin.piece, _Block(self, job, number))

    def _work(self) -> None:
        try:
            self._streams.work(memoryview(mmap.mmap(-1, _BUFFER_BYTES)))  # begins at a page, as O_DIRECT wants
        except BaseException as error:  # noqa: BLE001 - raised by `run`, in the caller's thread
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or error
        self._streams.stop()

    def carry(self, job: _Job, number: int, buffer: memoryview, read: Callable[[], None]) -> None:
        """Bring one block over, or learn that it is bad; a queued block calls it in the thread that took it."""
        cargo, origin = job.cargo, job.cargo.origins[number]
        opened = self._open[origin.piece]
        is_sound = False
        try:
            try:
                is_sound = self._is_kept(job, number, buffer) or self._bring(job, number, buffer, read)
            finally:
                opened.leave(buffer, origin.offset, cargo.block_length(number))
        except (DigestMismatchError, UnreadableError) as error:
            is_sound = False
            self._spoil(BadBlock(cargo=cargo, number=number, error=error))
        self._conclude(job, number, is_sound=is_sound)

    def _is_kept(self, job: _Job, number: int, buffer: memoryview) -> bool:
        """Tell whether a block that an interrupted receive left is on the disk as it was signed."""
        if number not in job.kept:
            return False
        cargo, sink, digest = job.cargo, self._sink(job), hashlib.sha256()
        for offset, length in cargo.chunks(number, len(buffer)):
            got = sink.read(buffer[:length], cargo.start(number) + offset)
            digest.update(buffer[:got])
        if digest.hexdigest() != cargo.digests[number]:
            return False
        self._progress(cargo.block_length(number), cargo.path)
        return True

    def _bring(self, job: _Job, number: int, buffer: memoryview, read: Callable[[], None]) -> bool:
        cargo, origin = job.cargo, job.cargo.origins[number]
        if isinstance(origin.piece, AbsentPiece):
            if job.stored:  # what is only checked was proven when its volume was here
                self.damage.miss(origin.piece.volume)
            return False
        opened = self._open[origin.piece]
        sink = self._sink(job) if job.stored else None
        digest, end = hashlib.sha256(), cargo.block_length(number)
        for offset, length in cargo.chunks(number, len(buffer)):
            view, done = buffer[:length], offset + length
            opened.fill(view, origin.offset + offset)
            if done == end:
                read()
            else:
                opened.ahead(origin.offset + done, min(_AHEAD_BYTES, end - done))
            digest.update(view)
            if sink is not None:
                sink.write(view, cargo.start(number) + offset)
            self._progress(length, cargo.path)
        with self._lock:
            self.read_bytes += end if isinstance(origin.piece, Piece) else 0
            self.written_bytes += end if sink is not None else 0
        found = digest.hexdigest()
        if found == cargo.digests[number]:
            return True
        error = DigestMismatchError(what=f"{origin.piece.where} is damaged")
        self._spoil(BadBlock(cargo=cargo, number=number, error=error, found=found))
        return False

    def _spoil(self, block: BadBlock) -> None:
        if not self.damage.add(block):
            self._streams.stop()

    def _conclude(self, job: _Job, number: int, *, is_sound: bool) -> None:
        with self._lock_of(job):
            job.unread -= 1
            if is_sound:
                job.proven |= 1 << number
            is_last, count = not job.unread, len(job.cargo.origins)
        if self._settler is None or not job.stored:
            return
        if is_last and job.proven.bit_count() == count:
            self._settler.whole(job)
        elif count == 1:
            job.close()  # nothing of a bad small file is kept
        elif is_sound and number not in job.kept:
            self._settler.block(job, number)

    def _sink(self, job: _Job) -> Sink:
        with self._lock_of(job):
            if job.opened is None:
                if len(job.cargo.origins) == 1:
                    self._small.acquire()
                    job.on_close = self._small.release
                job.opened = Sink(self._into().objects, f"{job.sha256}.part", length=job.length)
            return job.opened

    def _lock_of(self, job: _Job) -> threading.Lock:
        """Return the lock that this target shares with few others."""
        return self._locks[id(job) // 64 % _LOCKS]

    def _into(self) -> Incoming:
        if self._incoming is None:
            message = "a carrier without an incoming release only checks"
            raise RuntimeError(message)
        return self._incoming
