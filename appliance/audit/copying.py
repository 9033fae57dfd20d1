"""A ledger made again from its records alone: tree, chain and search follow from the exact bytes of the leaves.

What no leaf holds is not brought back: under which idempotency keys records came. Their writers are gone with the box.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from appliance.audit import exclusive, note, succession, tree
from appliance.audit.backend import Row
from appliance.audit.leaf import Leaf
from appliance.audit.log import FIRST_CHAIN
from appliance.audit.sqlite_backend import FILE_NAME, SqliteBackend, open_writer
from appliance.errors import LedgerDamagedError

_TERM: Final = "request_id"


class LedgerCopy:
    """A ledger in the making, in a folder that has none. Close it."""

    def __init__(self, folder: Path) -> None:
        """Begin one.

        Raises:
            LedgerUnavailableError: It cannot be written.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Readers lock it before they look, and may not be allowed to make it.
        (folder / exclusive.LOCK_NAME).touch(mode=0o640)
        self._backend: SqliteBackend = open_writer(folder / FILE_NAME)
        self._frontier: list[bytes] = []
        self._chain = FIRST_CHAIN
        self._keys = succession.Keys()
        self._origin = ""
        self.size = 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._backend.close()

    def add(self, untrusted_leaves: Sequence[bytes]) -> None:
        """Add the next leaves, each in its exact bytes.

        Raises:
            LedgerDamagedError: One is not a leaf, or not the next.
            LedgerUnavailableError: They could not be written.
        """
        rows: list[Row] = []
        nodes: list[tree.Node] = []
        for untrusted in untrusted_leaves:
            leaf = Leaf.from_bytes(untrusted)
            if leaf.sequence != self.size:
                raise _damaged(f"record {self.size} says that it is {leaf.sequence}")
            if leaf.kind in succession.NAMING:
                self._follow(leaf)
            if leaf.origin != self._origin:
                raise _damaged(f"record {self.size} is of a ledger that was not opened here")
            hashed = tree.leaf_hash(untrusted)
            self._chain = hashlib.sha256(self._chain + hashed).digest()
            nodes += tree.push(self._frontier, self.size, hashed)
            term = leaf.body.get(_TERM)
            term = term if isinstance(term, str) else ""
            rows.append(Row(self.size, leaf.kind, untrusted, hashed, self._chain, term, ""))
            self.size += 1
        if rows:
            self._backend.append(rows, nodes)
            self._backend.tidy()

    def conclude(self, untrusted_note: str) -> note.Checkpoint:
        """Keep the checkpoint that signed exactly these records, and return it.

        Raises:
            LedgerDamagedError: It signed others.
            ProofError: No key that the records name signed it.
        """
        signed = self._keys.checkpoint(untrusted_note)
        if (signed.origin, signed.size, signed.root) != (self._origin, self.size, tree.root_of(self._frontier)):
            raise _damaged(f"the checkpoint of {signed.size} records is not of these {self.size}")
        self._backend.save_checkpoint(signed.size, untrusted_note)
        return signed

    def _follow(self, leaf: Leaf) -> None:
        """Take the key that a record names; a rotation must be of the records before it."""
        known = len(self._keys.heads)
        self._keys.take(leaf)
        if leaf.kind != succession.ROTATED and leaf.via.door == "ledger":
            self._origin = leaf.origin
        for head in self._keys.heads[known:]:
            if head.root != tree.root_of(self._frontier):
                raise _damaged(f"record {self.size} rotates the key over other records")


def _damaged(why: str) -> LedgerDamagedError:
    return LedgerDamagedError(what="the records are not those that were signed", why=why, fix="use another backup")
