"""What was recorded and nobody brought the state up to yet, of what must hold within a second.

State follows from the ledger when somebody who may write it does something next. An operator and the promoter may not:
what they record about callers and the test stage is read here, beside the state, so that it holds whoever recorded it.
A promotion is none of this: its route changes when its engine is up, and that is its action's to say.
"""

import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.errors import LedgerUnavailableError
from media.clock import Clock

STOPPED: Final = "stop.made"
FREED: Final = "stop.lifted"
LOADED: Final = "stage.loaded"
UNLOADED: Final = "stage.unloaded"
_KINDS: Final = (STOPPED, FREED, LOADED, UNLOADED)
_FRESH_SECONDS: Final = 1.0
_PAGE: Final = 500

Stops = frozenset[tuple[str, str]]


class Unapplied:
    """Reads on in the ledger, at most once a second. Safe for threads.

    Args:
        ledger: Through the gateway's door; nothing is read without one.
        clock: How long ago was looked.
    """

    def __init__(self, ledger: Ledger | None, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at: float | None = None
        self._next: int | None = None
        self._leaves: list[Leaf] = []

    def since(self, applied: int) -> Sequence[Leaf]:
        """Return the records that a state which reflects `applied` lacks, in order.

        While the ledger does not answer they are those that were read before: then nothing is answered either.
        """
        if self._ledger is None:
            return ()
        with self._lock:
            now = self._clock.monotonic()
            if self._looked_at is None or now - self._looked_at > _FRESH_SECONDS:
                with suppress(LedgerUnavailableError):
                    self._read_on(self._ledger, applied)
                self._looked_at = now
            self._leaves = [leaf for leaf in self._leaves if leaf.sequence > applied]
            return tuple(self._leaves)

    def _read_on(self, ledger: Ledger, applied: int) -> None:
        start = applied + 1 if self._next is None else max(self._next, applied + 1)
        while page := ledger.leaves(start, _PAGE, kinds=_KINDS):
            self._leaves += page
            start = self._next = page[-1].sequence + 1


def stops(told: Stops, leaves: Iterable[Leaf]) -> Stops:
    """Return which keys and departments are stopped, by what the state tells and what was recorded since."""
    found = set(told)
    for leaf in leaves:
        caller = (str(leaf.body.get("what")), str(leaf.body.get("name")))
        if leaf.kind == STOPPED:
            found.add(caller)
        elif leaf.kind == FREED:
            found.discard(caller)
    return frozenset(found)


def loads(told: Sequence[tuple[str, str]], leaves: Iterable[Leaf]) -> Sequence[tuple[str, str]]:
    """Return what is loaded in the test stage and since when, the newest first, likewise."""
    found = dict(reversed(told))
    for leaf in leaves:
        if leaf.kind not in {LOADED, UNLOADED}:
            continue
        digest = str(leaf.body.get("model_digest"))
        found.pop(digest, None)
        if leaf.kind == LOADED:
            found[digest] = leaf.time
    return tuple(reversed(found.items()))
