"""Lists in OpenAI's shape, a page at a time: what is asked of one is done or refused by its name."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from werkzeug.datastructures import MultiDict

from appliance.gateway.problems import invalid, unknown_parameter

ORDERS: Final = ("asc", "desc")
MOST_FILES: Final = 10_000
MOST_BATCHES: Final = 100
"""How many of each a page has at most, as OpenAI has it."""
_DIGITS: Final = 6


def read_query(untrusted: MultiDict[str, str], known: AbstractSet[str]) -> dict[str, str]:
    """Return what a query asks.

    Raises:
        Problem: It holds a parameter that is not known, or one twice.
    """
    for name, values in untrusted.lists():
        if name not in known:
            raise unknown_parameter(name)
        if len(values) != 1:
            raise invalid(name, "Once.")
    return untrusted.to_dict()


def page(
    newest_first: Sequence[Mapping[str, Any]], asked: Mapping[str, str], *, usual: int, most: int
) -> dict[str, Any]:
    """Return a page of a list.

    Args:
        newest_first: All there is, each with its `id`.
        asked: `limit`, how many at most; `after`, the id that the page begins behind; `order`, `asc` for oldest first.
        usual: How many where no limit is asked for.
        most: How many may be asked for.

    Raises:
        Problem: One of them is wrong.
    """
    limit, after, order = asked.get("limit", str(usual)), asked.get("after", ""), asked.get("order", "desc")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= _DIGITS and 1 <= int(limit) <= most):
        raise invalid("limit", f"1 to {most}.")
    if order not in ORDERS:
        raise invalid("order", f"One of {', '.join(ORDERS)}.")
    rows = newest_first if order == "desc" else newest_first[::-1]
    ids = [str(one["id"]) for one in rows]
    if after and after not in ids:
        raise invalid("after", "An id of this list.")
    begin = ids.index(after) + 1 if after else 0
    shown = rows[begin : begin + int(limit)]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": begin + len(shown) < len(rows),
    }
