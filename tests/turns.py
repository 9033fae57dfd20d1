"""Whose turn it is: two deep shards at a time, in their order, as long as there is time for another.

A shard waits for those whose remains it takes, and of the booted boxes one runs at a time. Where a whole run has an
end (`SEALIFT_TESTS_UNTIL`, seconds since 1970), a shard is put off that would likely run beyond it: the minutes that
shards are known to take are scaled by what those that ended here took. So a slow machine leaves out the last ones, and
says so, and does not run out of time in the midst of one.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shard:
    """What is run, and when.

    Attributes:
        commands: Run one after another, until one fails.
        minutes: What it takes on two cores beside another shard, on the slower of the machines that were tried.
        limit: Minutes after which it is ended.
        after: The shards whose remains it takes.
        alone: Whether no other of this kind may run beside it: it boots boxes.
        needs_root: Whether only root can run it.
        on_demand: Whether it runs only where it is named.
    """

    commands: Sequence[Sequence[str]]
    minutes: float
    limit: float = 15
    after: tuple[str, ...] = ()
    alone: bool = False
    needs_root: bool = False
    on_demand: bool = False


def in_turn(
    names: Sequence[str], groups: Sequence[Sequence[str]], turn: int, *, after: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return names in their order, but those of each group go on at another of them each turn.

    So what a machine has no time for is not the same in each run. One that is to come `after` others brings them along.
    """
    ordered = list(names)
    for group in groups:
        places = [place for place, name in enumerate(ordered) if name in group]
        for at, place in enumerate(places):
            ordered[place] = names[places[(at + turn) % len(places)]]
    found: list[str] = []

    def put(name: str) -> None:
        for before in after.get(name, ()):
            if before in ordered:
                put(before)
        if name not in found:
            found.append(name)

    for name in ordered:
        put(name)
    return found


class Turns:
    """Gives out shards to threads that run them."""

    def __init__(
        self, shards: Mapping[str, Shard], *, until: float | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """Begin with none.

        Args:
            shards: By name, those first that matter most.
            until: When all shall have ended, seconds since 1970; nothing for no end.
            clock: The time, seconds since 1970.
        """
        self._shards = shards
        self._waiting = list(shards)
        self._running: dict[str, float] = {}
        self._until = until
        self._clock = clock
        self._changed = threading.Condition()
        self._taken_seconds = 0.0
        self._known_seconds = 0.0
        self.passed: dict[str, bool] = {}
        self.put_off: list[str] = []

    def next(self, *, waits: bool = True) -> str | None:
        """Return the shard to run now, or nothing once no more will come; `waits` while one may come, or does not."""
        with self._changed:
            while True:
                self._put_off_what_would_end_late()
                may = [name for name in self._waiting if self._may_start(name)]
                if may:
                    # Those that run one at a time take longest in all, so one of them always runs.
                    ready = next((name for name in may if self._shards[name].alone), may[0])
                    self._waiting.remove(ready)
                    self._running[ready] = self._clock()
                    return ready
                if not self._waiting or not waits:
                    return None
                self._changed.wait()

    def ended(self, name: str, *, passed: bool) -> None:
        """Take note of a shard's end."""
        with self._changed:
            self._taken_seconds += self._clock() - self._running.pop(name)
            self._known_seconds += self._shards[name].minutes * 60
            self.passed[name] = passed
            self._changed.notify_all()

    def _may_start(self, name: str) -> bool:
        shard = self._shards[name]
        before = [one for one in shard.after if one in self._shards and one not in self.put_off]
        if any(one not in self.passed for one in before):
            return False
        return not (shard.alone and any(self._shards[one].alone for one in self._running))

    def _put_off_what_would_end_late(self) -> None:
        if self._until is None:
            return
        slowness = self._taken_seconds / self._known_seconds if self._known_seconds else 1.0
        left = self._until - self._clock()
        late = [name for name in self._waiting if self._shards[name].minutes * 60 * slowness > left]
        self._waiting = [name for name in self._waiting if name not in late]
        self.put_off += late
