"""Whose lines are asked next: keys take turns, and what only has to be ended waits for none of them.

So many keys' parts run side by side. While more keys have lines to be asked, a part is one line long, and whoever had
the last turn longest ago is next: the wait for a turn is that for a line, and not for another key's batch.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Final, Self

from appliance.gateway.batches.kept import Batch

MOST_KEYS: Final = 16
_MOST_ENDING: Final = 4
Part = Callable[[Sequence[Batch]], bool]


class Turns:
    """The parts that run, each of another key. Use it in one thread; leaving its block waits for all of them.

    Args:
        now: Monotonic seconds.
        pause: For how many seconds a key rests that had nothing to do.
        is_crowded: Set while more keys wait for a turn than may have one, so that a part is to be one line.
    """

    def __init__(self, now: Callable[[], float], *, pause: float, is_crowded: threading.Event) -> None:
        self._now = now
        self._pause = pause
        self._asking = ThreadPoolExecutor(MOST_KEYS, thread_name_prefix="batches-of-key")
        self._ending = ThreadPoolExecutor(_MOST_ENDING, thread_name_prefix="batches-that-end")
        self._asks: dict[str, Future[bool]] = {}
        self._ends: dict[str, Future[bool]] = {}
        self._rests: dict[str, float] = {}
        self._had: dict[str, int] = {}
        self._count = 0
        self._is_crowded = is_crowded

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asking.shutdown()
        self._ending.shutdown()

    @property
    def keys(self) -> frozenset[str]:
        """Whose parts run."""
        return frozenset(self._asks) | frozenset(self._ends)

    def begin(self, due: Mapping[str, Sequence[Batch]], *, is_over: Callable[[Batch], bool], part: Part) -> None:
        """Begin the parts that may run beside those that do.

        Args:
            due: The batches that may go on, of each key.
            is_over: Whether of a batch nothing is left to be asked.
            part: Does a part of some batches of a key; returns whether it did anything.
        """
        now = self._now()
        waiting: list[str] = []
        for key_id, batches in due.items():
            if key_id in self.keys or self._rests.get(key_id, now) > now:
                continue
            if over := [one for one in batches if is_over(one)]:
                self._ends[key_id] = self._ending.submit(part, over)
            else:
                waiting.append(key_id)
        room = MOST_KEYS - len(self._asks)
        if len(waiting) > room:
            self._is_crowded.set()
        else:
            self._is_crowded.clear()
        for key_id in sorted(waiting, key=lambda one: self._had.get(one, 0))[:room]:
            self._count += 1
            self._had[key_id] = self._count
            self._asks[key_id] = self._asking.submit(part, due[key_id])

    def ended(self, seconds: float) -> bool:
        """Wait for a part to end, for so long at most; return whether those that have ended did anything.

        Raises:
            SealiftError: What a part raised.
        """
        wait((*self._asks.values(), *self._ends.values()), timeout=seconds, return_when=FIRST_COMPLETED)
        did = False
        for running in (self._asks, self._ends):
            for key_id in [one for one, part in running.items() if part.done()]:
                has_done = running.pop(key_id).result()
                did |= has_done
                self._rests[key_id] = self._now() + (0.0 if has_done else self._pause)
        return did
