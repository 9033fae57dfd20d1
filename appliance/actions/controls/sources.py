"""Where answers come from: the newest record of a kind, people as the records make them, keys that are in force."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from appliance.actions.keys import CREATED
from appliance.actions.reports.access import KEY_REVOKED
from appliance.audit.facts import Ledger
from appliance.audit.leaf import Leaf
from appliance.promote import peoplebook
from appliance.promote.people import SitePeople
from media.clock import from_text

_PAGE: Final = 500


def newest(ledger: Ledger, kind: str) -> Leaf | None:
    """Return the newest record of a kind, or nothing."""
    return next(iter(ledger.find(kind, limit=1)), None)


def people(ledger: Ledger) -> SitePeople:
    """Return everybody whom the records show, enrolled or revoked.

    Raises:
        MalformedError, ConflictError: A record about a person does not read.
    """
    found = SitePeople()
    for leaf in _walk(ledger, peoplebook.KINDS):
        found = peoplebook.after(found, leaf.kind, leaf.body, leaf.sequence)
    return found


def keys_in_force(ledger: Ledger, now: datetime) -> list[Mapping[str, Any]]:
    """Return the bodies of the records of keys that were neither revoked nor have expired."""
    found: dict[str, Mapping[str, Any]] = {}
    for leaf in _walk(ledger, (CREATED, KEY_REVOKED)):
        key_id = str(leaf.body.get("key_id"))
        if leaf.kind == CREATED:
            found[key_id] = leaf.body
        else:
            found.pop(key_id, None)
    return [body for body in found.values() if not body.get("expires_at") or from_text(body["expires_at"]) > now]


def _walk(ledger: Ledger, kinds: tuple[str, ...]) -> Iterator[Leaf]:
    start = 0
    while page := ledger.leaves(start, _PAGE, kinds=kinds):
        yield from page
        start = page[-1].sequence + 1
