"""What was recorded and nobody brought the state up to yet, of what must hold within a second.

State follows from the ledger when somebody who may write it does something next. An operator and the promoter may not:
what they record about callers and the test stage is read here, beside the state, so that it holds whoever recorded it.
A promotion is none of this: its route changes when its engine is up, and that is its action's to say.
"""

import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.errors import LedgerUnavailableError
from appliance.promote.reviews import FREED, STOPPED
from appliance.registry.stageloads import LOADED, UNLOADED
from media.clock import Clock

_KINDS: Final = (STOPPED, FREED, LOADED, UNLOADED)
_FRESH_SECONDS: Final = 1.0
# A ledger that answers everything but this is not believed for ever.
_STALE_SECONDS: Final = 10.0
_PAGE: Final = 500

Stops = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """The records behind `applied`, read at `at` seconds of the clock."""

    applied: int
    at: float
    leaves: tuple[Leaf, ...]


class Unapplied:
    """Reads what lies behind the state, at most once a second. Safe for threads: one asks, others take what is known.

    Each look reads anew all that the state lacks, so a ledger or a state that was set back is seen as it is now.

    Args:
        ledger: Through the gateway's door; nothing is read without one.
        clock: How long ago was looked.
    """

    def __init__(self, ledger: Ledger | None, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._asking = threading.Lock()
        self._failed_at: float | None = None
        self._look: _Look | None = None

    def since(self, applied: int) -> Sequence[Leaf]:
        """Return the records that a state which reflects `applied` lacks, in order.

        While the ledger does not answer they are, for ten seconds, those that were read before.

        Raises:
            LedgerUnavailableError: It could not be asked, and what is known is too old or of a newer state.
        """
        if self._ledger is None:
            return ()
        began = self._clock.monotonic()
        known = self._look
        if known is None or applied < known.applied or began - known.at > _STALE_SECONDS:
            with self._asking:
                known = self._asked_meanwhile(applied, began) or self._asked(self._ledger, applied)
        elif began - known.at > _FRESH_SECONDS and self._asking.acquire(blocking=False):
            try:
                with suppress(LedgerUnavailableError):
                    known = self._asked(self._ledger, applied)
            finally:
                self._asking.release()
        return tuple(leaf for leaf in known.leaves if leaf.sequence > applied)

    def _asked_meanwhile(self, applied: int, began: float) -> _Look | None:
        """Return what another thread was told while this one waited for it.

        Raises:
            LedgerUnavailableError: That one was told nothing; nobody waits for the ledger twice.
        """
        known = self._look
        if known is not None and known.at >= began and known.applied <= applied:
            return known
        if self._failed_at is not None and self._failed_at > began:
            raise LedgerUnavailableError(
                what="what was recorded of callers cannot be read", why="the ledger does not answer", fix="try again"
            )
        return None

    def _asked(self, ledger: Ledger, applied: int) -> _Look:
        leaves: list[Leaf] = []
        try:
            while page := ledger.leaves(leaves[-1].sequence + 1 if leaves else applied + 1, _PAGE, kinds=_KINDS):
                leaves += page
        except LedgerUnavailableError:
            self._failed_at = self._clock.monotonic()
            raise
        self._look = _Look(applied=applied, at=self._clock.monotonic(), leaves=tuple(leaves))
        return self._look


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
