"""Group commit: one thread makes all records that wait durable in one transaction, then acknowledges them.

While the disk syncs, the next batch gathers by itself; nothing is delayed on purpose. After a failed write nobody in
the batch is acknowledged; after a failed sync `on_failure` ends the process, because only opening the file anew shows
the truth.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final

from appliance.audit.facts import Appended
from appliance.audit.log import Entry, Log
from appliance.audit.rights import is_privileged
from appliance.audit.room import Room
from appliance.errors import LedgerFullError, LedgerUnavailableError
from media.errors import SealiftError

MAX_BATCH: Final = 4096

Outcome = Appended | SealiftError
Done = Callable[[Sequence[Outcome]], None]
_Group = tuple[Sequence[Entry], Done]


class Writer:
    """The one thread that appends to a log."""

    def __init__(self, log: Log, *, on_failure: Callable[[], None], room: Room | None = None) -> None:
        self._log = log
        self._room = room
        self._on_failure = on_failure
        self._waiting: queue.SimpleQueue[_Group | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)

    def start(self) -> None:
        """Begin to append."""
        self._thread.start()

    def submit(self, entries: Sequence[Entry], done: Done) -> None:
        """Queue records; `done` is called in the writer's thread with one outcome for each, in order."""
        self._waiting.put((entries, done))

    def append(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        """Queue records and wait for their outcomes."""
        outcomes: list[Outcome] = []
        finished = threading.Event()

        def done(found: Sequence[Outcome]) -> None:
            outcomes.extend(found)
            finished.set()

        self.submit(entries, done)
        finished.wait()
        return outcomes

    def turns(self, seconds: float) -> bool:
        """Whether the thread comes round within `seconds`: it takes a group of nothing and says so."""
        came_round = threading.Event()
        self.submit((), lambda _: came_round.set())
        return came_round.wait(seconds)

    def stop(self) -> None:
        """Append what waits, then end."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            groups, going = self._gather()
            if groups:
                self._commit(groups)

    def _gather(self) -> tuple[list[_Group], bool]:
        groups: list[_Group] = []
        count = 0
        group = self._waiting.get()
        while True:
            if group is None:
                return groups, False
            groups.append(group)
            count += len(group[0])
            if count >= MAX_BATCH:
                return groups, True
            try:
                group = self._waiting.get_nowait()
            except queue.Empty:
                return groups, True

    def _commit(self, groups: Sequence[_Group]) -> None:
        entries = [entry for group, _ in groups for entry in group]
        outcomes: list[Outcome]
        try:
            outcomes = self._append(entries)
        except SealiftError as error:
            outcomes = [error] * len(entries)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, and this process must not go on
            outcomes = [_fault(error)] * len(entries)
            self._on_failure()
        start = 0
        for group, done in groups:
            done(outcomes[start : start + len(group)])
            start += len(group)
        if entries:
            self._after(entries, outcomes)

    def _append(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Append what there is room for: all of it, or on a full disk what closes things, out of the reserve.

        Raises:
            SealiftError: Nothing of it is durable.
        """
        room = self._room
        if room is None:
            return list(self._log.append(entries)) if entries else []
        turns = room.look()
        while True:
            refusals = room.refusal_of(entries)
            wanted = [entry for entry, refusal in zip(entries, refusals, strict=True) if refusal is None]
            try:
                done = self._log.append([*turns, *wanted]) if turns or wanted else []
            except LedgerFullError:
                if not room.close() and not room.give():
                    raise
                turns = room.look()
                continue
            room.recorded(len(turns))
            told = iter(done[len(turns) :])
            return [next(told) if refusal is None else refusal for refusal in refusals]

    def _after(self, entries: Sequence[Entry], outcomes: Sequence[Outcome]) -> None:
        try:
            pairs = zip(entries, outcomes, strict=True)
            if any(isinstance(outcome, Appended) and is_privileged(entry.kind) for entry, outcome in pairs):
                self._log.checkpoint()
            self._log.backend.tidy()
        except LedgerUnavailableError:
            # The records are durable; the hourly round signs again.
            pass
        if self._log.backend.failed:
            self._on_failure()


def _fault(error: Exception) -> LedgerUnavailableError:
    return LedgerUnavailableError(
        what="the ledger failed",
        why=f"a fault of ours ({type(error).__name__})",
        fix="see the journal of sealift-ledger",
    )
