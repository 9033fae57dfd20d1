"""Searches requests for identifiers, so that large ones hold nobody else up.

The search is work of this process, in one thread at a time whatever there are: a megabyte takes about a second, in
which all others share what is left.

Rules:
    SEA-1  What is large is searched two at a time, and of one key one at a time; others wait as for a place
           (`appliance.gateway.queueing`), and that wait is a part of the one that they may have.
    SEA-2  Nobody is searched for who left: that is asked between texts, and while one waits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from appliance.config import LimitsSection
from appliance.gateway import problems
from appliance.gateway.admission import NO_PLACE, Admission, MemoryDesk, Place, Wish, wish_of
from appliance.gateway.beginning import Come
from appliance.gateway.disconnect import DisconnectWatch, leaving
from appliance.gateway.exchange import CALLER_LEFT
from appliance.gateway.metrics import Metrics
from appliance.gateway.problems import Problem
from appliance.gateway.queueing import Bounds
from appliance.phi.detect import Detector
from appliance.phi.policy import protect
from appliance.phi.tokens import Masked, UnwantedError
from media.clock import Clock

LARGE_CHARACTERS: Final = 65_536
"""From so many on a request is large: it takes about as long as a token of a small model."""
_AT_ONCE: Final = 2
_FEWEST_WAITING: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What became of each list of texts, and what is left of the wait that the request may have."""

    masked: tuple[Masked, ...]
    wish: Wish
    has_waited: bool


class Searches:
    """Safe for threads; of one process, as what it shares out is.

    Args:
        detector: Finds identifiers.
        limits: Half as many as may wait for a place may wait for their search, and four at least.
        watch: Tells who leaves.
        clock: Its monotonic seconds are used.
        metrics: Counted into, as those who wait for a place.
    """

    def __init__(
        self, detector: Detector, *, limits: LimitsSection, watch: DisconnectWatch, clock: Clock, metrics: Metrics
    ) -> None:
        self._detector = detector
        self._limits = limits
        self._watch = watch
        bounds = Bounds(places=_AT_ONCE, waiting=max(limits.queue_length // 2, _FEWEST_WAITING))
        self._admission = Admission(MemoryDesk(bounds), clock=clock, metrics=metrics)

    def of(self, come: Come, lists: Sequence[Sequence[str]]) -> Searched:
        """Return each of several lists of texts as the engine may see it, by itself, and what was found.

        Raises:
            Problem: Too many large requests wait, or it waited for too long, or its caller left.
            PhiBlockedError: As `appliance.phi.policy.protect`.
            PhiUnavailableError: Likewise.
        """
        wish = come.wish or wish_of(come.environ, tier=come.key.tier, limits=self._limits)
        place = self._turn(come, wish, sum(len(text) for texts in lists for text in texts))
        is_whole = False
        left = leaving(come.environ)
        try:
            search = partial(self._searched, come, lambda: not (self._watch.is_ending or left()))
            masked = tuple(map(search, lists))
            is_whole = True
        finally:
            place.give_back(answered=is_whole)
        rest = replace(
            wish, seconds=max(wish.seconds - place.waited_seconds, 0.0), patience=wish.patience or wish.seconds
        )
        return Searched(masked=masked, wish=rest, has_waited=place.position > 0)

    def _searched(self, come: Come, is_wanted: Callable[[], bool], texts: Sequence[str]) -> Masked:
        try:
            return protect(texts, mode=come.key.phi_mode, detector=self._detector, is_wanted=is_wanted)
        except UnwantedError:
            raise self._left() from None

    def _turn(self, come: Come, wish: Wish, characters: int) -> Place:
        if characters < LARGE_CHARACTERS:
            return NO_PLACE
        try:
            return self._admission.take(
                wish,
                partial(self._watch.watch, come.environ),
                caller=come.key.key_id,
                most=1,
                kind=f"search {characters.bit_length()}",  # which take about as long
            )
        except Problem as problem:
            if problem.status == CALLER_LEFT:
                raise self._left() from None
            raise

    def _left(self) -> Problem:
        """Return what is recorded of one who waits no more; who is sent away may still be there."""
        return problems.ending() if self._watch.is_ending else problems.caller_left()
