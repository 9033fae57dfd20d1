"""What was recorded of one API key: its own records, and what was asked with it."""

from collections.abc import Iterator
from typing import Final

from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.audit.search import is_of

_CREATED: Final = "key.created"
_FIELD: Final = "key_id"
_PAGE: Final = 500


def records_of(ledger: Ledger, key_id: str, *, kind: str | None, limit: int, newest_first: bool) -> list[Leaf]:
    """Return up to `limit` records of a key, of a kind or family (``request.``) where one is given.

    Read in pages from the key's own first record on, so that a key of a few requests is found in a ledger of millions
    by as many questions as were asked since it was made, each of which the ledger answers at once.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    made = ledger.find(_CREATED, field=_FIELD, value=key_id, limit=1, newest_first=False)
    found: list[Leaf] = []
    for leaf in _leaves(ledger, made[0].sequence if made else 0, newest_first=newest_first):
        if leaf.body.get(_FIELD) == key_id and (kind is None or is_of(leaf.kind, kind)):
            found.append(leaf)
            if len(found) == limit:
                break
    return found


def _leaves(ledger: Ledger, first: int, *, newest_first: bool) -> Iterator[Leaf]:
    size = ledger.head().size
    starts = range(first, size, _PAGE)
    for start in reversed(starts) if newest_first else starts:
        page = ledger.leaves(start, min(_PAGE, size - start))
        yield from reversed(page) if newest_first else page
