"""What the state says, apart from how far it reflects the ledger."""

import sqlite3
from contextlib import closing
from pathlib import Path


def rows_of(registry: Path) -> set[str]:
    """Return all rows of the state in a folder but the place in the ledger, which moves by itself."""
    with closing(sqlite3.connect(f"file:{registry / 'state.db'}?mode=ro", uri=True)) as opened:
        return {line for line in opened.iterdump() if not line.startswith('INSERT INTO "applied"')}
