"""Finding leaves: by kind or family of kinds, by one field of the body.

Rows are read in slices, so that a long search never holds the one connection for long; a row is parsed only when the
encoded value occurs somewhere in its bytes.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from appliance.audit.backend import Backend, Row
from appliance.audit.leaf import Leaf

_SLICE: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look for; see `Ledger.find`."""

    kind: str | None
    field: str | None
    value: str | int | bool | None
    limit: int
    newest_first: bool
    start: int


def to_leaf(row: Row) -> Leaf:
    """Return the leaf of a row.

    Raises:
        LedgerDamagedError: Its bytes are not a leaf at all.
    """
    return Leaf.of_ours(row.raw, hashed=row.hash.hex(), chain=row.chain.hex())


def run(query: Query, backend: Backend, *, known_kinds: Collection[str], term_field: str) -> list[Leaf]:
    """Return what the query finds, in its order."""
    limit = query.limit
    kinds = _kinds(query.kind, known_kinds)
    if limit <= 0 or kinds == [] or not _is_text(query.value):
        return []
    if query.field == term_field and isinstance(query.value, str) and query.value:
        rows = [row for row in backend.with_term(query.value) if kinds is None or row.kind in kinds]
        if query.newest_first:
            candidates = iter([row for row in reversed(rows) if row.sequence <= query.start])
        else:
            candidates = iter([row for row in rows if row.sequence >= query.start])
    else:
        candidates = _all(backend, kinds, query.start, newest_first=query.newest_first)
    found: list[Leaf] = []
    needle = None if query.field is None else _needle(query.value)
    for row in candidates:
        if needle is not None and needle not in row.raw:
            continue
        leaf = to_leaf(row)
        if query.field is None or _matches(leaf.body, query.field, query.value):
            found.append(leaf)
            if len(found) == limit:
                break
    return found


def _kinds(kind: str | None, known: Collection[str]) -> list[str] | None:
    if kind is None:
        return None
    return sorted(one for one in known if is_of(one, kind))


def is_of(kind: str, wanted: str) -> bool:
    """Tell whether a kind is the wanted one, or of the wanted family (``model.``)."""
    return kind == wanted or (wanted.endswith(".") and kind.startswith(wanted))


def _all(backend: Backend, kinds: Collection[str] | None, start: int, *, newest_first: bool) -> Iterator[Row]:
    while start >= 0 and (rows := backend.rows(start, _SLICE, kinds=kinds, newest_first=newest_first)):
        yield from rows
        start = rows[-1].sequence + (-1 if newest_first else 1)


def _is_text(value: object) -> bool:
    """Tell whether a record may hold it: half a surrogate pair, as a byte that is no UTF-8 becomes, is in none."""
    return not isinstance(value, str) or not any("\ud800" <= each <= "\udfff" for each in value)


def _needle(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


def _matches(body: Any, field: str, value: object) -> bool:
    for name in field.split("."):
        if not isinstance(body, dict) or name not in body:
            return False
        body = body[name]
    return type(body) is type(value) and body == value
