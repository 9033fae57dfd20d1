"""What a ledger says, as values, and the seam every caller codes against.

Digests are lower-case hex, times are RFC 3339 text exactly as in the leaf, a sequence counts from 0 without gaps and is
the leaf's index in the Merkle tree.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from appliance.audit import tree
from appliance.audit.leaf import Leaf
from appliance.errors import ProofError

EVERY: Final = 2**53 - 1
"""A limit that is none: for whoever concludes from what was found, or from what was not."""


class Appended(NamedTuple):
    """The acknowledgement: the record is durable at this place; a tuple, because each record makes one."""

    sequence: int
    leaf_hash: str
    time: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHead:
    """The whole log in one hash."""

    origin: str
    size: int
    root: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """That one leaf lies in the tree of `size`; `note` is the signed checkpoint of that tree, empty when unsigned."""

    sequence: int
    size: int
    root: str
    hashes: tuple[str, ...]
    note: str = ""

    def require(self, raw: bytes) -> None:
        """Return when the leaf with these exact bytes is included.

        Raises:
            ProofError: It is not.
        """
        path = _from_hex(self.hashes)
        root = _from_hex([self.root])[0]
        tree.require_inclusion(tree.leaf_hash(raw), self.sequence, self.size, path=path, root=root)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyProof:
    """That the tree of `new` leaves begins with the tree of `old` leaves."""

    old: int
    new: int
    old_root: str
    new_root: str
    hashes: tuple[str, ...]

    def require(self) -> None:
        """Return when the two roots are consistent.

        Raises:
            ProofError: They are not.
        """
        old_root, new_root = _from_hex([self.old_root, self.new_root])
        tree.require_consistency(self.old, self.new, old_root=old_root, new_root=new_root, path=_from_hex(self.hashes))


def _from_hex(texts: Sequence[str]) -> list[bytes]:
    try:
        return [bytes.fromhex(text) for text in texts]
    except ValueError as error:
        raise ProofError(what="a proof holds something that is not a hash", why="expected hex") from error


class Sent(Protocol):
    """A record on its way to the ledger; one thread's, which waits for it or gives it up."""

    def fileno(self) -> int:
        """Return what can be read when the ledger has answered; -1 where there is nothing to wait for."""
        ...

    def wait(self) -> Appended:
        """Return where the record is durable, each time the same.

        Raises:
            LedgerUnavailableError: It could not be made durable; treat it as not recorded.
            LedgerRefusedError: This door may not record the kind, or the body breaks its shape.
        """
        ...

    def close(self) -> None:
        """Give up waiting; whether it is recorded is not known then. Does nothing after `wait`."""
        ...


class Ledger(Protocol):
    """The append-only record of everything that happened; what is not in it did not happen."""

    def append(self, kind: str, body: Mapping[str, Any]) -> Appended:
        """Record durably and return where.

        Bodies hold what JSON holds; whole numbers stay within 2**53 - 1.

        Raises:
            LedgerUnavailableError: It could not be made durable; treat it as not recorded.
            LedgerRefusedError: This door may not record the kind, or the body breaks its shape.
        """
        ...

    def leaf(self, sequence: int) -> Leaf:
        """Return one leaf.

        Raises:
            UsageError: There is no such sequence.
        """
        ...

    def leaves(self, start: int, limit: int, *, kinds: Collection[str] | None = None) -> list[Leaf]:
        """Return up to `limit` leaves from `start` on, in order; only of `kinds` when given."""
        ...

    def find(
        self,
        kind: str | None = None,
        field: str | None = None,
        value: str | int | bool | None = None,  # noqa: FBT001 - a JSON value to compare with
        limit: int = 50,
        newest_first: bool = True,  # noqa: FBT001, FBT002 - callers name it
    ) -> list[Leaf]:
        """Return leaves of a kind (``model.`` names a family) whose body's `field` (dotted) equals `value`."""
        ...

    def nodes(self, start: int, end: int) -> list[tree.Node]:
        """Return (level, position, hash) of what is stored of the tree that the leaves [start, end) completed.

        A thousand leaves at most, and level 0 is theirs; what misses there is left out. To be compared: proofs are made
        of these, and no root shows that one of them was changed.
        """
        ...

    def head(self) -> TreeHead:
        """Return the present size and root."""
        ...

    def checkpoint(self) -> str:
        """Return a signed checkpoint (C2SP signed note) of the present tree; offline, the last one that was signed."""
        ...

    def inclusion(self, sequence: int, size: int | None = None) -> InclusionProof:
        """Return the proof for one leaf, in the tree of `size` or one at least that large with a signed checkpoint."""
        ...

    def consistency(self, old: int, new: int) -> ConsistencyProof:
        """Return the proof that the tree of `new` leaves extends the tree of `old` leaves."""
        ...


class KeyedLedger(Ledger, Protocol):
    """A ledger whose writers may name a record, so that of two at once one is written."""

    def append(self, kind: str, body: Mapping[str, Any], *, key: str | None = None) -> Appended:
        """Record durably; the same again under one `key` is answered with where the first stands.

        Raises:
            LedgerUnavailableError: As `Ledger.append`.
            LedgerRefusedError: Likewise; or `key` was used for another record.
        """
        ...


class SendingLedger(KeyedLedger, Protocol):
    """A ledger that is told of a record while whoever tells it goes on."""

    def send(self, kind: str, body: Mapping[str, Any]) -> Sent:
        """Begin to record; see `append`.

        Raises:
            LedgerUnavailableError: Nobody answers.
            LedgerRefusedError: The body cannot be written.
        """
        ...


class EvidenceLedger(Ledger, Protocol):
    """A ledger that also hands out what it signed before: what an auditor is given."""

    def checkpoints(self, start: int, limit: int) -> list[tuple[int, str]]:
        """Return up to `limit` kept checkpoints of at least `start` records with their sizes, the smallest first."""
        ...

    def cosigned(self, size: int) -> str:
        """Return the kept checkpoint of exactly this size with its Ed25519 signature, and ML-DSA's where there is one.

        Raises:
            ProofError: No checkpoint of this size was kept.
        """
        ...
