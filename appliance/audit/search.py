"""Finding leaves: by kind or family of kinds, by one field of the body.

Rows are read in slices, so that a long search never holds the one connection for long; a row is parsed only when the
encoded value occurs somewhere in its bytes.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from appliance.audit.backend import Backend, Row
from appliance.audit.leaf import Leaf, Via
from appliance.errors import LedgerDamagedError

MAX_ROWS: Final = 1000
_SLICE: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What to look for; see `Ledger.find`."""

    kind: str | None
    field: str | None
    value: str | int | bool | None
    limit: int
    newest_first: bool


def to_leaf(row: Row) -> Leaf:
    """Return the leaf of a row that this process wrote or verified, without checking its form again.

    Raises:
        LedgerDamagedError: Its bytes are not a leaf at all.
    """
    try:
        members = json.loads(row.raw)
        return Leaf(
            origin=members["origin"],
            sequence=members["sequence"],
            time=members["time"],
            kind=members["kind"],
            via=Via(door=members["via"]["door"], uid=members["via"]["uid"]),
            body=members["body"],
            raw=row.raw,
            hash=row.hash.hex(),
            chain=row.chain.hex(),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LedgerDamagedError(
            what=f"leaf {row.sequence} does not read", fix="see docs/operator/ledger.md: recovery"
        ) from error


def run(query: Query, backend: Backend, *, known_kinds: Collection[str], size: int, term_field: str) -> list[Leaf]:
    """Return what the query finds, in its order."""
    limit = min(query.limit, MAX_ROWS)
    kinds = _kinds(query.kind, known_kinds)
    if limit <= 0 or kinds == []:
        return []
    if query.field == term_field and isinstance(query.value, str) and query.value:
        rows = [row for row in backend.with_term(query.value) if kinds is None or row.kind in kinds]
        candidates: Iterator[Row] = iter(reversed(rows) if query.newest_first else rows)
    else:
        candidates = _all(backend, kinds, size, newest_first=query.newest_first)
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
    return sorted(one for one in known if one == kind or (kind.endswith(".") and one.startswith(kind)))


def _all(backend: Backend, kinds: Collection[str] | None, size: int, *, newest_first: bool) -> Iterator[Row]:
    start = size - 1 if newest_first else 0
    while start >= 0 and (rows := backend.rows(start, _SLICE, kinds=kinds, newest_first=newest_first)):
        yield from rows
        start = rows[-1].sequence + (-1 if newest_first else 1)


def _needle(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


def _matches(body: Any, field: str, value: object) -> bool:
    for name in field.split("."):
        if not isinstance(body, dict) or name not in body:
            return False
        body = body[name]
    return type(body) is type(value) and body == value
