"""The engines of all versions that may answer, found by the socket of the first.

Why a version's own engines take as many calls as it answers at once (`n_seq_max` of its descriptor) before overflow is
asked: an engine takes every call in, and one more than that stands in a queue of its own, where it has no room for it
while overflow stands idle; one fewer would be answered on a processor while a GPU has room. The site file has no
number for this: `limits.concurrent_requests` bounds what runs in all engines together, and overflow has something to do
only where it is larger than what the version's own engines answer. A call that asks for several answers, or for more
context than is left, takes more than one place; the engine orders these, the gateway does not know.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from appliance.gateway.fleet import Fleet
from appliance.gateway.metrics import Metrics
from media.clock import Clock

_VERSIONS: Final = 4


class Upstreams:
    """The versions' engines by the socket of the first; the version not used for longest is dropped.

    Args:
        clock: Its monotonic seconds are used.
        metrics: As for `Fleet`.
        loaded: Says how many versions may answer now: so many are kept, and never fewer than four.
        gateways: How many share the engines, and so their places: nginx gives each as many calls, and none knows of
            another's.
    """

    def __init__(self, *, clock: Clock, metrics: Metrics, loaded: Callable[[], int] = int, gateways: int = 1) -> None:
        self._clock = clock
        self._gateways = gateways
        self._metrics = metrics
        self._loaded = loaded
        self._known: dict[Path, Fleet] = {}
        self._lock = threading.Lock()

    def to(self, path: Path, *, places: int = 0) -> Fleet:
        """Return one version's.

        Args:
            path: The socket of its first engine.
            places: How many answers each of its engines gives at once; 0 where that is not known.
        """
        with self._lock:
            fleet = self._known.pop(path, None)
            if fleet is None:
                most = -(-places // self._gateways)
                fleet = Fleet(path, clock=self._clock, metrics=self._metrics, most=most)
            self._known[path] = fleet
            if len(self._known) > _VERSIONS and len(self._known) > self._loaded():
                self._known.pop(next(iter(self._known))).close()
        return fleet

    def close(self) -> None:
        """Drop all idle connections."""
        with self._lock:
            while self._known:
                self._known.popitem()[1].close()
