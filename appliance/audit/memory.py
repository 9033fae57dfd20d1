"""A ledger in memory: the same log and the same rules over lists. For tests, and for trying things out."""

import threading
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.audit import tree
from appliance.audit.backend import Row
from appliance.audit.facts import EVERY, Appended, ConsistencyProof, InclusionProof, Sent, TreeHead
from appliance.audit.leaf import Leaf, Via
from appliance.audit.log import Entry, Log, Signer
from appliance.audit.tree import Node
from appliance.errors import LedgerDamagedError, LedgerUnavailableError
from media.clock import Clock, FixedClock
from media.errors import SealiftError


class MemoryBackend:
    """A `Backend` of lists."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._checkpoints: dict[int, str] = {}

    @property
    def failed(self) -> bool:
        """Memory does not fail."""
        return False

    def size(self) -> int:
        """Return the number of leaves."""
        return len(self._rows)

    def append(self, rows: Sequence[Row], nodes: Sequence[Node]) -> None:
        """Add rows and nodes."""
        self._rows.extend(rows)
        self._nodes.update({(level, position): value for level, position, value in nodes})

    def rows(
        self, start: int, limit: int, *, kinds: Collection[str] | None = None, newest_first: bool = False
    ) -> list[Row]:
        """Return rows from `start` on, upwards or downwards."""
        part = self._rows[start::-1] if newest_first and start >= 0 else self._rows[start:]
        if newest_first and start < 0:
            part = []
        return [row for row in part if kinds is None or row.kind in kinds][:limit]

    def kinds(self) -> set[str]:
        """Return every kind that occurs."""
        return {row.kind for row in self._rows}

    def with_term(self, term: str) -> list[Row]:
        """Return the rows with this term."""
        return [row for row in self._rows if row.term == term]

    def retries(self, limit: int) -> list[tuple[str, int]]:
        """Return recent idempotency keys."""
        return [(row.retry, row.sequence) for row in self._rows[-limit:] if row.retry]

    def open_terms(self, since: int, begins: str, ends: str) -> list[tuple[str, int]]:
        """Return what began and did not end."""
        rows = self._rows[since:]
        ended = {row.term for row in rows if row.kind == ends}
        return [(row.term, row.sequence) for row in rows if row.kind == begins and row.term not in ended]

    def node(self, level: int, position: int) -> bytes:
        """Return one hash."""
        try:
            return self._rows[position].hash if level == 0 else self._nodes[level, position]
        except (IndexError, KeyError) as error:
            raise LedgerDamagedError(what=f"the tree lacks node {level}/{position}") from error

    def nodes(self, start: int, end: int) -> list[Node]:
        """Return the nodes that these leaves completed."""
        stored = {**self._nodes, **{(0, row.sequence): row.hash for row in self._rows[start:end]}}
        return [
            (level, position, stored[level, position])
            for level, first, after in tree.completed(start, end)
            for position in range(first, after)
            if (level, position) in stored
        ]

    def save_checkpoint(self, size: int, note: str) -> None:
        """Keep a checkpoint."""
        self._checkpoints.setdefault(size, note)

    def checkpoint(self, *, at_least: int = 0) -> tuple[int, str] | None:
        """Return the newest checkpoint."""
        sizes = sorted(self._checkpoints)
        return (sizes[-1], self._checkpoints[sizes[-1]]) if sizes[bisect_left(sizes, at_least) :] else None

    def checkpoint_of(self, size: int) -> str | None:
        """Return the checkpoint of one size."""
        return self._checkpoints.get(size)

    def checkpoints(self, start: int = 0, limit: int = EVERY) -> list[tuple[int, str]]:
        """Return checkpoints by size; see `Backend.checkpoints`."""
        return sorted(one for one in self._checkpoints.items() if one[0] >= start)[:limit]

    def tidy(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing: memory needs no folding."""


class _Known:
    """A record whose fate is known."""

    def __init__(self, outcome: Appended | SealiftError) -> None:
        self._outcome = outcome

    def fileno(self) -> int:
        return -1

    def wait(self) -> Appended:
        if isinstance(self._outcome, SealiftError):
            raise self._outcome
        return self._outcome

    def close(self) -> None:
        pass


class MemoryLedger:
    """A whole ledger in one object, with every right. Leaf 0 is ``ledger.opened``, as on a box.

    Args:
        clock: Where times come from; a clock that stands when absent.
        site: The site in the origin.
        door: The door that records are marked with.
    """

    def __init__(self, clock: Clock | None = None, *, site: str = "demo", door: str = "ledger-actions") -> None:
        key = Ed25519PrivateKey.generate()
        signer = Signer(public=key.public_key().public_bytes_raw(), sign=key.sign)
        self.available = True
        self.appended: Callable[[Appended], object] = lambda _: None
        self._via = Via(door=door, uid=0)
        self._lock = threading.Lock()
        self.log = Log.open(
            MemoryBackend(),
            clock=clock or FixedClock(datetime(2026, 11, 20, 8, 0, tzinfo=UTC)),
            site=site,
            signer=signer,
        )

    @property
    def vkey(self) -> str:
        """The verifier key of its checkpoints."""
        return self.log.vkey.to_text()

    def send(self, kind: str, body: Mapping[str, Any]) -> Sent:
        """Record at once; see `SendingLedger.send`."""
        try:
            return _Known(self.append(kind, body))
        except SealiftError as error:
            return _Known(error)

    def append(self, kind: str, body: Mapping[str, Any], *, key: str | None = None) -> Appended:
        """Record; refuses while `available` is False, as a ledger that is down does."""
        if not self.available:
            raise LedgerUnavailableError(what="the ledger does not answer", why="switched off", fix="switch it on")
        with self._lock:  # a log takes records of one thread at a time
            (appended,) = self.log.append([Entry.of(kind, body, via=self._via, key=key or "")])
        if not isinstance(appended, Appended):
            raise appended
        self.appended(appended)
        return appended

    def leaf(self, sequence: int) -> Leaf:
        """Return one leaf."""
        return self.log.leaf(sequence)

    def leaves(self, start: int, limit: int, *, kinds: Collection[str] | None = None) -> list[Leaf]:
        """Return leaves in order."""
        return self.log.leaves(start, limit, kinds=kinds)

    def find(
        self,
        kind: str | None = None,
        field: str | None = None,
        value: str | int | bool | None = None,  # noqa: FBT001 - as the protocol
        limit: int = 50,
        newest_first: bool = True,  # noqa: FBT001, FBT002 - as the protocol
    ) -> list[Leaf]:
        """Return the leaves that match."""
        return self.log.find(kind=kind, field=field, value=value, limit=limit, newest_first=newest_first)

    def head(self) -> TreeHead:
        """Return size and root."""
        return self.log.head()

    def checkpoint(self) -> str:
        """Return a signed checkpoint."""
        return self.log.checkpoint()

    def checkpoints(self, start: int, limit: int) -> list[tuple[int, str]]:
        """Return kept checkpoints; see `EvidenceLedger.checkpoints`."""
        return self.log.checkpoints(start, limit)

    def cosigned(self, size: int) -> str:
        """Return a kept checkpoint; see `EvidenceLedger.cosigned`."""
        return self.log.cosigned(size)

    def nodes(self, start: int, end: int) -> list[Node]:
        """Return stored nodes; see `Ledger.nodes`."""
        return self.log.nodes(start, end)

    def inclusion(self, sequence: int, size: int | None = None) -> InclusionProof:
        """Return the proof for one leaf."""
        return self.log.inclusion(sequence, size)

    def consistency(self, old: int, new: int) -> ConsistencyProof:
        """Return the proof between two sizes."""
        return self.log.consistency(old, new)
