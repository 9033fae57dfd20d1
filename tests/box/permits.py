"""Watches the permits of boxes of a pair from outside: when each could serve, and whether ever two could at once."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from appliance.standby import permit

_PAUSE_SECONDS = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A box began to be able to serve, or no longer was; `at` are seconds of this machine's clock."""

    at: float
    name: str
    serves: bool


@dataclass(slots=True, kw_only=True)
class Watched:
    """What was seen: every turn, and the moments at which two boxes had a permit that lasts."""

    turns: list[Turn] = field(default_factory=list)
    both: list[float] = field(default_factory=list)

    def first(self, name: str, *, serves: bool, since: float) -> float:
        """Return when a box first began, or ended, after a moment.

        Raises:
            StopIteration: It did not.
        """
        return next(turn.at for turn in self.turns if turn.at > since and (turn.name, turn.serves) == (name, serves))


@contextmanager
def watch(folders: Mapping[str, Path]) -> Iterator[Watched]:
    """Look at the permits without a pause until the block ends; each lies in a folder of its own.

    They name moments of CLOCK_BOOTTIME, which every box of a test has in common.
    """
    found, ending = Watched(), threading.Event()

    def look() -> None:
        lasted: set[str] = set()
        while not ending.wait(_PAUSE_SECONDS):
            before, at = permit.boottime(), time.time()
            lasting = {name for name, folder in folders.items() if permit.read(folder)[0] > before}
            found.turns += [Turn(at=at, name=name, serves=name in lasting) for name in sorted(lasting ^ lasted)]
            lasted = lasting
            # One may have ended between the two looks.
            if len(lasting) > 1 and all(permit.read(folders[name])[0] > permit.boottime() for name in lasting):
                found.both.append(at)

    watching = threading.Thread(target=look, name="permits", daemon=True)
    watching.start()
    try:
        yield found
    finally:
        ending.set()
        watching.join()
