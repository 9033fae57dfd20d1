"""Two ledgers held against each other: nothing is believed that is only stored, tree and chain come from the leaves."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Final

from appliance.audit import tree
from appliance.audit.backend import Backend, Row
from appliance.audit.leaf import Leaf
from appliance.audit.log import FIRST_CHAIN
from appliance.errors import ConflictError, LedgerDamagedError

Page = tuple[list[Row], list[tree.Node]]
Progress = Callable[[int, int], None]
PAGE: Final = 1000


def pages(source: Backend, size: int, progress: Progress) -> Iterator[Page]:
    """Yield every leaf with the nodes that follow from it, proven against what is stored beside it.

    Raises:
        LedgerDamagedError: Something stored is not what follows from the leaves.
    """
    frontier: list[bytes] = []
    chain = FIRST_CHAIN
    at = 0
    while at < size:
        rows = source.rows(at, min(PAGE, size - at))
        nodes: list[tree.Node] = []
        for row in rows:
            leaf = Leaf.from_bytes(row.raw)
            hashed = tree.leaf_hash(row.raw)
            chain = hashlib.sha256(chain + hashed).digest()
            if (row.sequence, leaf.sequence, row.kind, row.hash, row.chain) != (at, at, leaf.kind, hashed, chain):
                raise damaged(f"leaf {at} and what is stored beside it differ")
            nodes += tree.push(frontier, at, hashed)
            at += 1
        if not rows:
            raise damaged(f"leaf {at} is missing")
        progress(at, size)
        yield rows, nodes
    if size and tree.root_of(frontier) != tree.root(size, source.node):
        raise damaged("the stored tree is not that of the leaves")


def require_same(source: Backend, target: Backend, size: int, progress: Progress) -> None:
    """Read the target back and return when it is the source, row by row and checkpoint by checkpoint.

    Raises:
        LedgerDamagedError: The two are not the same.
    """
    if target.size() != size:
        raise damaged(f"the copy has {target.size()} of {size} leaves")
    at = 0
    for rows, _ in pages(target, size, progress):
        if rows != source.rows(at, len(rows)):
            raise damaged(f"the copy differs from leaf {at} on")
        at += len(rows)
    if tree.root(size, target.node) != tree.root(size, source.node) or target.checkpoints() != source.checkpoints():
        raise damaged("the copy has another tree, or other checkpoints")


def require_begins(whole: Backend, part: Backend, *, name: str, progress: Progress) -> None:
    """Return when one ledger holds all of another, and perhaps more that came after it.

    Args:
        whole: The one that may be longer.
        part: What has to be its beginning.
        name: What people call the part.
        progress: Called with leaves done and leaves in all.

    Raises:
        ConflictError: It is not.
        LedgerDamagedError: The part contradicts itself.
    """
    size = part.size()
    is_part = size <= whole.size() and set(part.checkpoints()) <= set(whole.checkpoints())
    if not is_part or any(rows != whole.rows(rows[0].sequence, len(rows)) for rows, _ in pages(part, size, progress)):
        raise ConflictError(
            what=f"{name} has other records",
            why="it is not the beginning of those that were to be moved or were moved",
            fix="do not go on with either before people know why: see docs/operator/ledger.md: recovery",
        )


def damaged(why: str) -> LedgerDamagedError:
    """Return that a ledger was not copied, and why."""
    return LedgerDamagedError(
        what="the ledger was not copied", why=why, fix="`sealift audit verify`; see docs/operator/ledger.md: recovery"
    )
