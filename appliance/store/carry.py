"""Carrying files from the medium into the store: read once, prove every block, prove the whole, then keep.

Each block must hash to what the signed metadata says, and the whole file to the name it will have in the store: a
second hash over the same slab, in a lane of its own. A file of one block is hashed once; both are the same digest.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from appliance.store.cargo import Cargo, Reader, damaged_block, damaged_whole
from appliance.store.incoming import Incoming
from appliance.store.pipeline import SLAB_BYTES, Counter, Pipeline, RunningHash, Sink, Slab, Task, writing

_SETTLE_AT_ONCE: Final = 64
_OPEN_SINKS: Final = 128  # files that wait for their fsync; each holds one or two descriptors

Progress = Callable[[int, str], None]


@dataclass(slots=True)
class _Job:
    """What the lanes share about the file in hand."""

    cargo: Cargo
    sink: Sink | None = None
    whole: RunningHash | None = None
    block: RunningHash = field(default_factory=RunningHash)
    open_tasks: list[Counter] = field(default_factory=list)
    failed: bool = False

    def wait(self) -> None:
        """Return when no lane works on it any more."""
        for counter in self.open_tasks:
            counter.wait()

    def guarded(self, task: Task) -> Task:
        """Return the task as one that a failed file skips, and whose failure is the file's."""

        def run() -> None:
            if self.failed:
                return
            try:
                task()
            except BaseException:
                self.failed = True
                raise

        return run


class Carrier:
    """Moves cargo through a pipeline into an incoming release, or only proves it when there is none."""

    def __init__(self, pipeline: Pipeline, incoming: Incoming | None, progress: Progress) -> None:
        self._pipeline = pipeline
        self._incoming = incoming
        self._progress = progress
        self._ready: dict[str, int] = {}
        self._device = os.fstat(incoming.objects).st_dev if incoming is not None else None
        self._sinks = threading.BoundedSemaphore(_OPEN_SINKS)

    def check(self, cargo: Cargo) -> None:
        """Read the medium's bytes and prove every block; nothing is written.

        Raises:
            DigestMismatchError: Bytes differ from what was signed.
            MediaError: The medium changed, or cannot be read.
        """
        self._read(_Job(cargo), first_block=0)

    def store(self, cargo: Cargo) -> None:
        """Read the medium's bytes, prove them, and leave them as an object of the incoming release.

        Blocks that an interrupted receive left are hashed again here and are not read from the medium.

        Raises:
            DigestMismatchError: Bytes differ from what was signed.
            MediaError: The medium changed, or cannot be read.
            NoSpaceError, StoreWriteError: The store cannot take it.
        """
        incoming = self._into()
        self._sinks.acquire()
        sink = Sink(incoming.objects, f"{cargo.sha256}.part", length=cargo.length)
        job = _Job(cargo, sink=sink, whole=RunningHash() if len(cargo.blocks) != 1 else None)
        try:
            first = self._hash_kept(job, sink, incoming.journal.blocks.get(cargo.sha256, 0))
            self._read(job, first_block=first)
            self._require_whole(job)
        except BaseException:
            job.failed = True
            raise
        finally:
            self._conclude(job, sink)

    def prove(self, cargo: Cargo, path: Path) -> bool:
        """Hash an object that the store has already; tell whether the disk gives it back as what its name says."""
        found = RunningHash()
        slab = self._pipeline.slab()
        slab.lend(1)
        try:
            with path.open("rb", buffering=0) as stream:
                while got := stream.readinto(slab.view):
                    found.update(slab.view[:got])
        except OSError:  # stored anew from the medium, like any other object that does not hold
            return False
        finally:
            slab.give_back()
        return found.take() == cargo.sha256

    def flush(self) -> None:
        """Write to the journal what is complete; the last thing to do in a pipeline, also after a failure."""
        self._pipeline.settle.put(self._journal_ready)

    def _read(self, job: _Job, *, first_block: int) -> None:
        reader = Reader(job.cargo, first_block)
        with contextlib.closing(reader):
            for number in range(first_block, len(job.cargo.blocks)):
                counter = Counter()
                job.open_tasks.append(counter)
                self._share(job, reader, counter, number=number)
                if self._passes_cache(job.cargo):
                    reader.forget()
                counter.add(1)
                # The whole file's hash after the first block is that block's own.
                first_of_many = job.whole is not None and number == 0
                lane = self._pipeline.whole if first_of_many else self._pipeline.blocks
                check = partial(self._require_block, job, number, reader.where)
                lane.put(job.guarded(check), after=counter.done)
                if job.sink is not None and job.whole is not None:
                    self._pipeline.settle.put(job.guarded(partial(self._settle_block, job, counter, number)))
            reader.require_end()

    def _passes_cache(self, cargo: Cargo) -> bool:
        """Tell whether the medium is a device of its own, whose bytes nobody else needs."""
        if self._incoming is None:
            return False
        return any(piece.medium.device != self._device for piece in cargo.pieces)

    def _share(self, job: _Job, reader: Reader, counter: Counter, *, number: int) -> None:
        """Fill slabs with one block of the medium and hand each to every lane that needs it."""
        for offset, length in job.cargo.chunks(number):
            slab = self._pipeline.slab()
            view = slab.view[:length]
            try:
                reader.fill(view)
            except BaseException:
                slab.lend(1)
                slab.give_back()
                raise

            def done(slab: Slab = slab) -> None:
                slab.give_back()
                counter.done()

            shares_whole = job.whole is not None and number == 0
            users = (not shares_whole) + (job.whole is not None) + (job.sink is not None)
            slab.lend(users)
            counter.add(users)
            if not shares_whole:
                self._pipeline.blocks.put(job.guarded(partial(job.block.update, view)), after=done)
            if job.whole is not None:
                self._pipeline.whole.put(job.guarded(partial(job.whole.update, view)), after=done)
            if job.sink is not None:
                self._pipeline.writes.put(job.guarded(partial(job.sink.write, view, offset)), after=done)
            self._progress(length, job.cargo.path)

    def _hash_kept(self, job: _Job, sink: Sink, kept: int) -> int:
        """Hash the blocks of an unfinished object again; return how many still hold."""
        if job.whole is None:
            return 0
        cargo = job.cargo
        slab = self._pipeline.slab()
        slab.lend(1)
        try:
            for number in range(min(kept, len(cargo.blocks))):
                block, candidate = RunningHash(), job.whole.fork()
                for offset, length in cargo.chunks(number):
                    with writing("an object that is read back"):
                        got = os.preadv(sink.descriptor, [slab.view[:length]], offset)
                    block.update(slab.view[:got])
                    candidate.update(slab.view[:got])
                if block.take() != cargo.blocks[number]:
                    return number
                job.whole = candidate
                self._progress(cargo.block_length(number), cargo.path)
        finally:
            slab.give_back()
        return min(kept, len(cargo.blocks))

    @staticmethod
    def _require_block(job: _Job, number: int, where: str) -> None:
        found = job.whole.fork().take() if job.whole is not None and number == 0 else job.block.take()
        if found != job.cargo.blocks[number]:
            raise damaged_block(job.cargo, number, where=where, found=found)

    def _require_whole(self, job: _Job) -> None:
        whole = job.whole
        if whole is None:
            return

        def require() -> None:
            found = whole.take()
            if found != job.cargo.sha256:
                raise damaged_whole(job.cargo, found=found)

        counter = Counter()
        counter.add(1)
        job.open_tasks.append(counter)
        self._pipeline.whole.put(job.guarded(require), after=counter.done)

    def _settle_block(self, job: _Job, counter: Counter, number: int) -> None:
        counter.wait()
        if job.sink is not None and not job.failed:
            job.sink.sync()
            self._into().journal.record_blocks(job.cargo.sha256, number + 1)

    def _conclude(self, job: _Job, sink: Sink) -> None:
        """Queue what makes the object durable and then complete; a failed file gets neither."""
        durable = Counter(1)

        def finish() -> None:
            job.wait()
            if not job.failed:
                sink.finish()

        def finished() -> None:
            job.wait()
            durable.done()

        def close() -> None:
            durable.wait()
            sink.close()
            self._sinks.release()

        self._pipeline.syncs.put(job.guarded(finish), after=finished)
        self._pipeline.settle.put(job.guarded(partial(self._settle, job, durable)), after=close)

    def _settle(self, job: _Job, durable: Counter) -> None:
        durable.wait()
        if job.failed:
            return
        sha256, folder = job.cargo.sha256, self._into().objects
        with writing("an object"):
            os.rename(f"{sha256}.part", sha256, src_dir_fd=folder, dst_dir_fd=folder)
        self._ready[sha256] = job.cargo.length
        if len(self._ready) >= _SETTLE_AT_ONCE or job.cargo.length > SLAB_BYTES:
            self._journal_ready()

    def _journal_ready(self) -> None:
        incoming = self._into()
        if not self._ready:
            return
        with writing("the objects' folder"):
            os.fsync(incoming.objects)
        incoming.journal.record_complete(self._ready)
        self._ready = {}

    def _into(self) -> Incoming:
        if self._incoming is None:
            message = "a carrier without an incoming release only checks"
            raise RuntimeError(message)
        return self._incoming
