"""Whether this box still has all records that the other box holds of it: asked before that one's grants count.

A box whose old disk was put back, or whose ledger was cut, has lost what it answered and what people decided since; the
other one has it in a mirror. So the one that lost records neither serves nor follows (LEASE-9). It is compared as soon
as the other box is heard, by what that one holds: how many records, and the root over them, and again while both go on,
since a ledger can be put back under a lease. What was found is kept, since the other box may be away after the next
start.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from appliance.audit.facts import ConsistencyProof, TreeHead
from appliance.errors import PairingRefusedError
from media import canonical, durable
from media.errors import MediaError

STATE: Final = "lost.json"
AGAIN_SECONDS: Final = 10.0
_ROOT_CHARS: Final = 64
_WHY_CHARS: Final = 300


class Tree(Protocol):
    """What is asked of a ledger."""

    def head(self) -> TreeHead:
        """Return how it stands."""
        ...

    def consistency(self, old: int, new: int) -> ConsistencyProof:
        """Return the proof that the tree of `new` leaves extends the tree of `old` leaves."""
        ...


def lacks(ledger: Tree, *, size: int, root: str) -> str:
    """Return what a ledger lacks of the tree that another box holds of it, as people read it; nothing for a whole one.

    Args:
        ledger: The one of this box.
        size: How many records of it the other box holds.
        root: Over them; empty where that is not known.

    Raises:
        LedgerUnavailableError: It does not answer.
    """
    here = ledger.head().size
    if size > here:
        return f"it holds {size} records of this box, and there are {here}"
    if size and root and ledger.consistency(size, here).old_root != root:
        return f"of the first {size} records here, it holds others"
    return ""


def lost(peer: str, why: str) -> PairingRefusedError:
    """Return the error for a box that lost records."""
    return PairingRefusedError(
        what=f"this box lost records that {peer} holds",
        why=f"{why}; an old disk was put back here, or the ledger was cut",
        fix="let this box serve nobody: docs/operator/standby.md, a fork",
    )


def kept(folder: Path, peer: str) -> str:
    """Return what this box lacked when it was last compared with this other one; nothing where all records are here.

    Args:
        folder: Where it is kept.
        peer: The other box; what was found with another one says nothing.
    """
    with suppress(OSError, MediaError):
        untrusted = canonical.loads_canonical((folder / STATE).read_bytes())
        fields = canonical.exact_keys(untrusted, ("peer", "why"), what=STATE)
        if fields["peer"] == peer:
            return canonical.text(fields["why"], "why", most=_WHY_CHARS)
    return ""


class Whole:
    """What is known of it.

    Args:
        folder: What survives a restart is kept there.
        peer: The other box.
        ledger: This box's own.
    """

    def __init__(self, folder: Path, peer: str, ledger: Tree) -> None:
        self._file = folder / STATE
        self.peer = peer
        self._ledger = ledger
        self._compared_at = 0.0
        self.is_compared = False
        self.why = kept(folder, peer)

    def is_due(self, now: float) -> bool:
        """Tell whether to compare: once, since who renews a grant must not wait; again while records are missing."""
        return not self.is_compared or (bool(self.why) and now - self._compared_at >= AGAIN_SECONDS)

    def compare(self, untrusted: Mapping[str, Any], now: float) -> None:
        """Compare with what the other box says it holds.

        Raises:
            LedgerUnavailableError: This box's ledger does not answer; nothing is known by that.
            MalformedError: A field is of another shape.
            OSError: What was found could not be kept.
        """
        size = canonical.integer(untrusted.get("size"), "size")
        root = canonical.text(untrusted.get("root", ""), "root", most=_ROOT_CHARS, may_be_empty=True)
        why = lacks(self._ledger, size=size, root=root)
        self._compared_at, self.is_compared = now, True
        is_known = bool(why or root or not size)  # a release of before tells no root, and so ends nothing
        if why == self.why or not is_known:
            return
        self.why = why
        if why:
            durable.replace(self._file, canonical.dumps({"peer": self.peer, "why": why}), mode=0o600)
        else:
            self._file.unlink(missing_ok=True)
