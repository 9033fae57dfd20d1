"""The seam to storage: rows that are only ever added. SQLite on one box, PostgreSQL where several nodes serve."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, Protocol

from appliance.audit import tree
from appliance.audit.facts import EVERY
from appliance.audit.tree import Node


class Row(NamedTuple):
    """A leaf as stored; a tuple, because its members are the columns, in order.

    Args:
        sequence: Its place, from 0, without gaps.
        kind: Repeated from the bytes to be searchable.
        raw: The exact bytes that are hashed.
        hash: Its leaf hash.
        chain: SHA-256 of the row before's chain and this hash; 32 zero bytes stand before the first.
        term: The request id in its body, or empty: the one thing that is looked up among millions.
        retry: The door and idempotency key it was appended with, or empty. Not part of the evidence.
    """

    sequence: int
    kind: str
    raw: bytes
    hash: bytes
    chain: bytes
    term: str
    retry: str


class Backend(Protocol):
    """What the log needs of storage. Every method may raise `LedgerUnavailableError`; none leaves half a change."""

    @property
    def failed(self) -> bool:
        """Whether a write or a sync failed in a way that only opening the file anew can clear."""
        ...

    def size(self) -> int:
        """Return the number of leaves."""
        ...

    def append(self, rows: Sequence[Row], nodes: Sequence[Node]) -> None:
        """Add rows and interior nodes in one transaction, durable when this returns.

        Raises:
            LedgerUnavailableError: It may or may not be there: acknowledge nothing. When `failed` is true afterwards,
                what the disk says can no longer be believed: end the process.
        """
        ...

    def rows(
        self, start: int, limit: int, *, kinds: Collection[str] | None = None, newest_first: bool = False
    ) -> list[Row]:
        """Return up to `limit` rows from `start` on, upwards or downwards, of `kinds` when given."""
        ...

    def kinds(self) -> set[str]:
        """Return every kind that occurs."""
        ...

    def with_term(self, term: str) -> list[Row]:
        """Return the rows with this term, in order."""
        ...

    def retries(self, limit: int) -> list[tuple[str, int]]:
        """Return the idempotency keys among the newest `limit` rows with their sequences, in order."""
        ...

    def open_terms(self, since: int, begins: str, ends: str) -> list[tuple[str, int]]:
        """Return term and sequence of rows of kind `begins` from `since` on that no row of kind `ends` closes."""
        ...

    def node(self, level: int, position: int) -> bytes:
        """Return the hash of one complete subtree; level 0 is a leaf's hash.

        Raises:
            LedgerDamagedError: It is not stored.
        """
        ...

    def nodes(self, start: int, end: int) -> list[Node]:
        """Return what is stored of `tree.completed(start, end)`, level by level; what misses is left out."""
        ...

    def save_checkpoint(self, size: int, note: str) -> None:
        """Keep a signed checkpoint; the first for a size stays."""
        ...

    def checkpoint(self, *, at_least: int = 0) -> tuple[int, str] | None:
        """Return the newest stored checkpoint, when its size is at least so large."""
        ...

    def checkpoint_of(self, size: int) -> str | None:
        """Return the stored checkpoint of exactly this size."""
        ...

    def checkpoints(self, start: int = 0, limit: int = EVERY) -> list[tuple[int, str]]:
        """Return up to `limit` stored checkpoints of at least `start` records with their sizes, the smallest first.

        Raises:
            LedgerDamagedError: One of them is no text.
        """
        ...

    def tidy(self) -> None:
        """Do what storage needs between batches, e.g. fold a long write-ahead log in.

        Raises:
            LedgerUnavailableError: As `append`.
        """
        ...

    def close(self) -> None:
        """Fold the write-ahead log in and let go of the file."""
        ...


def stored_nodes(
    ask: Callable[[str, tuple[Any, ...]], Sequence[Sequence[Any]]], start: int, end: int, *, hashes: str, nodes: str
) -> list[Node]:
    """Return `Backend.nodes` of a database.

    Args:
        ask: Runs a statement with values.
        start: The first leaf.
        end: The one after the last.
        hashes: Asks for place and hash of the leaves from one place up to another.
        nodes: Asks for place and hash of the nodes of a level, likewise.
    """
    found: list[Node] = []
    for level, first, after in tree.completed(start, end):
        rows = ask(nodes, (level, first, after)) if level else ask(hashes, (first, after))
        found += [(level, int(position), bytes(hashed)) for position, hashed in rows]
    return found
