"""Expiry of samples: who decides records it, who owns the samples destroys them (RET-3).

The nightly run is root without a capability, so it cannot touch the samples' files: it asks the review store's process,
which destroys what is due by its own clock and holds, and nothing that no record says is about to go.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from appliance.audit.facts import Ledger
from media import canonical
from media.clock import Clock, to_text

EXPIRING: Final = "retention.expiring"
EXPIRED: Final = "retention.expired"
PATIENCE_SECONDS: Final = 300.0
"""How long the process that owns the samples may take for one piece; a disk may be slow."""


class Keeper(Protocol):
    """Owns the samples."""

    def due(self, until: str) -> int:
        """Return how many samples are over at a moment and on no hold."""
        ...

    def destroy(self, until: str) -> int:
        """Destroy a piece of what `due` counts and return how many went; 0 when none is left.

        Raises:
            UsageError: That they go is not recorded, or the moment is yet to come.
        """
        ...


class Asked:
    """Asks the process that owns the samples.

    Args:
        call: Asks its desk at the operators' door, where root alone may ask this.
    """

    def __init__(self, call: Callable[..., Mapping[str, Any]]) -> None:
        self._call = call

    def due(self, until: str) -> int:
        """As `Keeper.due`."""
        return self._count("due", until)

    def destroy(self, until: str) -> int:
        """As `Keeper.destroy`."""
        return self._count("destroy", until)

    def _count(self, do: str, until: str) -> int:
        return canonical.integer(self._call(do, until=until).get("samples"), "samples")


def expire(keeper: Keeper, ledger: Ledger, *, clock: Clock) -> int:
    """Destroy every sample whose time is over and that no hold covers; return how many.

    Raises:
        LedgerUnavailableError: It is not recorded, so nothing was destroyed.
        WireError, RemoteError: The process that owns the samples did not do it; the next run goes on.
    """
    now = to_text(clock.now())
    count = keeper.due(now)
    if not count:
        return 0
    body = {"class": "review", "until": now}
    ledger.append(EXPIRING, {**body, "samples": count})
    gone = 0
    while piece := keeper.destroy(now):
        gone += piece
    ledger.append(EXPIRED, {**body, "samples": gone})
    return gone
