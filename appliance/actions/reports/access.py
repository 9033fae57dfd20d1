"""Who may do what at the end of a time, folded from the records: people with their roles, API keys with age and use.

HIPAA and SOC 2 ask for such a review; who reads it looks for people who are not seen any more, keys that nobody uses,
keys that are old. Nothing is judged here but by the numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from appliance.actions.keys import CREATED
from appliance.audit.leaf import Leaf
from appliance.promote import peoplebook
from appliance.promote.automation import REFUSED, USED
from appliance.promote.people import SitePeople
from media.clock import from_text
from media.errors import SealiftError

KEY_REVOKED: Final = "key.revoked"
OLD_DAYS: Final = 365
_INTENT: Final = "request.intent"
_FREQUENT: Final = "request."
_OF_MACHINES: Final = frozenset({USED, REFUSED})
"""Records that name who answers for a key; the key acted, not that person."""
_ACTING: Final = ("person", "requested_by", "by")


@dataclass(slots=True, kw_only=True)
class Access:
    """Grows with every record up to the end of a time; `take` them in order from the first."""

    people: SitePeople = field(default_factory=SitePeople)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    unread: list[int] = field(default_factory=list)
    """Records about people that do not read; whoever looks at the report must know."""
    _enrolled: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, str] = field(default_factory=dict)
    _used: dict[str, str] = field(default_factory=dict)
    _expires: dict[str, str] = field(default_factory=dict)

    def take(self, leaf: Leaf) -> None:
        """Add a record."""
        if leaf.kind == _INTENT:
            self._used[str(leaf.body.get("key_id"))] = leaf.time
            return
        if leaf.kind.startswith(_FREQUENT) or leaf.kind in _OF_MACHINES:
            return
        if leaf.kind in peoplebook.KINDS:
            self._person(leaf)
        elif leaf.kind == CREATED:
            names = ("department", "owner", "tier", "phi_mode", "purpose")
            kept = {name: str(leaf.body.get(name) or "") for name in names}
            self.keys[str(leaf.body.get("key_id"))] = {**kept, "made": leaf.time, "ended": ""}
            self._expires[str(leaf.body.get("key_id"))] = str(leaf.body.get("expires_at") or "")
        elif leaf.kind == KEY_REVOKED and (key := self.keys.get(str(leaf.body.get("key_id")))):
            key["ended"] = leaf.time
        self._acted(leaf)

    def people_rows(self, *, since: str) -> list[dict[str, Any]]:
        """Return everybody who is enrolled, with when the ledger last shows an act of theirs."""
        rows = []
        for person in self.people.people:
            if person.revoked is not None:
                continue
            seen = self._seen.get(person.id, "")
            rows.append(
                {
                    "person": person.id,
                    "name": person.name,
                    "roles": sorted({held.role for held in person.held if held.until is None}),
                    "classes": sorted({one.approves_by for one in person.credentials if one.until is None}),
                    "enrolled": self._enrolled.get(person.id, ""),
                    "seen": seen,
                    "not_seen": not seen or seen < since,
                }
            )
        return rows

    def key_rows(self, *, until: str) -> list[dict[str, Any]]:
        """Return the API keys that were in force at the end, the oldest first."""
        end = from_text(until)
        rows = []
        for key_id, key in self.keys.items():
            if key["ended"] or "" < self._expires[key_id] <= until:
                continue
            age = _days(from_text(key["made"]), end)
            used = self._used.get(key_id, "")
            rows.append({"key_id": key_id, **key, "used": used, "age_days": age, "is_old": age > OLD_DAYS})
        return sorted(rows, key=lambda row: (row["made"], row["key_id"]))

    def _person(self, leaf: Leaf) -> None:
        try:
            self.people = peoplebook.after(self.people, leaf.kind, leaf.body, leaf.sequence)
        except SealiftError:
            self.unread.append(leaf.sequence)
        if leaf.kind == peoplebook.ENROLLED:
            self._enrolled[str(leaf.body.get("person"))] = leaf.time

    def _acted(self, leaf: Leaf) -> None:
        body = leaf.body
        # In records about people, `person` is whom it is about; `by` are those who vouched or revoked.
        named = [body.get(name) for name in (_ACTING[1:] if leaf.kind in peoplebook.KINDS else _ACTING)]
        for one in (*named, *_people(body.get("approvals"))):
            for person in one if isinstance(one, list | tuple) else (one,):
                if isinstance(person, str):
                    self._seen[person] = leaf.time


def _people(listed: Any) -> list[Any]:
    if not isinstance(listed, list | tuple):
        return []
    return [one.get("person") if isinstance(one, Mapping) else one for one in listed]


def _days(begin: datetime, end: datetime) -> int:
    return max(0, (end - begin).days)
