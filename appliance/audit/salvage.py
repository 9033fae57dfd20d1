"""What can still be read of a ledger's file that may be damaged: row by row, without its tree, its chain or a proof.

For a restore alone, which withholds what it finds; who needs records to be true asks `appliance.audit.verify`.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from appliance.audit import exclusive, search, tree
from appliance.audit.backend import Backend, Row
from appliance.audit.leaf import Leaf
from appliance.audit.offline import reading
from appliance.errors import LedgerDamagedError, LedgerUnavailableError

_PAGE: Final = 512
_GAP: Final = 100_000
"""How many rows one after another may not read until nobody looks for a later one: a damaged page holds far fewer."""


def salvaged(folder: Path, kinds: Collection[str]) -> tuple[list[Leaf], bool]:
    """Return the records of some kinds that can be read, and whether that is all of them, each as its hash says.

    Nothing is raised: of a file that is none, or that a process has open, nothing can be read.
    """
    found: dict[int, Leaf] = {}
    is_whole = True
    try:
        with ExitStack() as stack:
            if (folder / exclusive.LOCK_NAME).exists():  # where there is none, nobody has it open
                stack.enter_context(exclusive.take(folder, shared=True))
            backend = stack.enter_context(reading(folder))
            for kind in kinds:
                rows: Iterable[Row]
                try:
                    rows = _of_kind(backend, kind)
                except (LedgerDamagedError, LedgerUnavailableError):
                    is_whole, rows = False, _scanned(backend, kind)
                for row in rows:
                    try:
                        found[row.sequence] = search.to_leaf(row)
                        is_whole &= tree.leaf_hash(row.raw) == row.hash
                    except (LedgerDamagedError, AttributeError, TypeError):  # a column may hold what it never does
                        is_whole = False
    except (LedgerDamagedError, LedgerUnavailableError, OSError):
        is_whole = False
    return list(found.values()), is_whole


def _of_kind(backend: Backend, kind: str) -> list[Row]:
    """Return the rows of a kind, through its index.

    Raises:
        LedgerDamagedError, LedgerUnavailableError: One does not read, and nobody knows which.
    """
    found: list[Row] = []
    while rows := backend.rows(found[-1].sequence + 1 if found else 0, _PAGE, kinds=[kind]):
        found += rows
    return found


def _scanned(backend: Backend, kind: str) -> Iterator[Row]:
    """Yield the rows of a kind that read, past those that do not."""
    at, many, gap = 0, _PAGE, 0
    while gap < _GAP:
        try:
            rows = backend.rows(at, many)
        except (LedgerDamagedError, LedgerUnavailableError):
            if many > 1:
                many //= 2
            else:
                at, gap = at + 1, gap + 1
            continue
        if not rows:
            return
        yield from (row for row in rows if row.kind == kind)
        at, many, gap = rows[-1].sequence + 1, min(many * 2, _PAGE), 0
