"""Expiry of samples: who decides records it, who owns the samples destroys them (RET-3).

The nightly run is root without a capability, so it cannot touch the samples' files: it asks the review store's process,
which destroys what is due by its own clock and holds, and nothing that no record says is about to go.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from appliance.audit.facts import EVERY, Ledger
from appliance.audit.leaf import Leaf
from media import canonical
from media.clock import Clock, to_text

EXPIRING: Final = "retention.expiring"
EXPIRED: Final = "retention.expired"
HELD: Final = "retention.held"
RELEASED: Final = "retention.released"
HOLDING: Final = frozenset({HELD, RELEASED})
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


def own(ledger: Ledger, kind: str, node: str, *, field: str | None = None, value: str | None = None) -> list[Leaf]:
    """Return the records of a kind that a node made itself, the newest first: each destroys what it has.

    What a single one recorded before there were several is nobody's here, so that none takes it for a cut-off run of
    its own.

    Args:
        ledger: Where they are.
        kind: Theirs.
        node: Its name; empty where a single one answers.
        field: With `value`, what their body has.
        value: See `field`.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    return [leaf for leaf in ledger.find(kind, field=field, value=value, limit=EVERY) if leaf.via.node == node]


def expire(keeper: Keeper, ledger: Ledger, *, clock: Clock, node: str = "") -> int:
    """Destroy every sample whose time is over and that no hold covers; return how many this run destroyed.

    What a run before had destroyed when it was cut off is recorded first (`cut_off`).

    Args:
        keeper: Owns the samples.
        ledger: Where it is recorded.
        clock: What time it is.
        node: This node's name; empty where a single one answers.

    Raises:
        LedgerUnavailableError: It is not recorded, so nothing was destroyed.
        WireError, RemoteError: The process that owns the samples did not do it; the next run goes on.
    """
    _end_cut_off(keeper, ledger, node)
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


def _end_cut_off(keeper: Keeper, ledger: Ledger, node: str) -> None:
    """Record what this node's run before destroyed, where it was cut off before it did; the rest goes with this run.

    How many is left out where a hold began or ended meanwhile: then what is due tells nothing of what is gone.
    """
    announced = own(ledger, EXPIRING, node, field="class", value="review")
    last = next((leaf for leaf in announced if isinstance(leaf.body.get("until"), str)), None)
    if last is None:
        return
    until: str = last.body["until"]
    ended = own(ledger, EXPIRED, node, field="until", value=until)
    if any(leaf.sequence > last.sequence for leaf in ended):
        return
    body: dict[str, Any] = {"class": "review", "until": until, "cut_off": True}
    if not ledger.leaves(last.sequence, 1, kinds=HOLDING):
        body["samples"] = max(canonical.integer(last.body.get("samples"), "samples") - keeper.due(until), 0)
    ledger.append(EXPIRED, body)
