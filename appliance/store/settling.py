"""Making what was proven durable, and only then saying so in the journal.

A thread of its own takes what the carrying threads have proven. Blocks of unfinished objects are synced together, at
most once a second: a power cut costs a second of work. Finished objects are synced several at a time, renamed, their
folder synced once, and written to the journal together.
"""

import os
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Final, Protocol

from appliance.store.incoming import Incoming
from appliance.store.sink import Sink
from appliance.store.writing import writing

_SYNCERS: Final = 4
_BATCH: Final = 64
_BETWEEN_SYNCS_SECONDS: Final = 1.0


class Object(Protocol):
    """An object in the making."""

    @property
    def sha256(self) -> str:
        """Its name."""

    @property
    def length(self) -> int:
        """Its bytes."""

    @property
    def sink(self) -> Sink:
        """The file."""

    def close(self) -> None:
        """Close the file."""


class Settler:
    """The thread. `close` waits until everything it was given is durable and in the journal, then raises what failed.

    Args:
        incoming: The release on its way.
        failed: Called at the first failure, so that others stop.
    """

    def __init__(self, incoming: Incoming, *, failed: Callable[[BaseException], None]) -> None:
        self._incoming = incoming
        self._failed = failed
        self._given: queue.SimpleQueue[tuple[Object, int | None] | None] = queue.SimpleQueue()
        self._blocks: dict[str, tuple[Object, set[int]]] = {}
        self._synced_at = 0.0
        self._has_failed = False
        self._pool = ThreadPoolExecutor(max_workers=_SYNCERS, thread_name_prefix="sync")
        self._thread = threading.Thread(target=self._run, name="settle", daemon=True)
        self._thread.start()

    def block(self, thing: Object, number: int) -> None:
        """A block of an object is proven and written."""
        self._given.put((thing, number))

    def whole(self, thing: Object) -> None:
        """All blocks of an object are proven and written."""
        self._given.put((thing, None))

    def close(self) -> None:
        """Wait for the end of all that was given."""
        self._given.put(None)
        self._thread.join()
        self._pool.shutdown()

    def _run(self) -> None:
        is_open = True
        while is_open:
            things: list[Object] = []
            is_open = self._collect(things)
            try:
                self._settle(things, at_once=not is_open)
            except BaseException as error:  # noqa: BLE001 - raised by who waits for the carrying to end
                self._has_failed = True
                self._failed(error)
            for thing in things:
                thing.close()

    def _collect(self, things: list[Object]) -> bool:
        """Take what there is; wait when there is nothing, as long as blocks may wait. Return whether more can come."""
        wait = None if not self._blocks else max(self._synced_at + _BETWEEN_SYNCS_SECONDS - monotonic(), 0.0)
        try:
            item = self._given.get(timeout=wait)
            while True:
                if item is None:
                    return False
                thing, number = item
                if number is None:
                    things.append(thing)
                    self._blocks.pop(thing.sha256, None)
                else:
                    self._blocks.setdefault(thing.sha256, (thing, set()))[1].add(number)
                if len(things) >= _BATCH:
                    return True
                item = self._given.get_nowait()
        except queue.Empty:
            return True

    def _settle(self, things: list[Object], *, at_once: bool) -> None:
        if self._has_failed:
            return
        if things:
            self._settle_objects(things)
        if self._blocks and (at_once or monotonic() - self._synced_at >= _BETWEEN_SYNCS_SECONDS):
            blocks, self._blocks = self._blocks, {}
            self._in_parallel(thing.sink.sync for thing, _ in blocks.values())
            self._incoming.journal.record_blocks({name: numbers for name, (_, numbers) in blocks.items()})
            self._synced_at = monotonic()

    def _settle_objects(self, things: list[Object]) -> None:
        self._in_parallel(thing.sink.finish for thing in things)
        folder = self._incoming.objects
        with writing("an object"):
            for thing in things:
                os.rename(f"{thing.sha256}.part", thing.sha256, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        self._incoming.journal.record_complete({thing.sha256: thing.length for thing in things})

    def _in_parallel(self, calls: Iterable[Callable[[], None]]) -> None:
        for done in [self._pool.submit(call) for call in calls]:
            done.result()
