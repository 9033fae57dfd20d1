"""The automation keys of a time, folded from the records: whose each is, what it may, its last use and its end.

A key that a script holds is looked at as a person's access is: keys that nobody uses, that were refused, that answer to
somebody who is gone. What a key did is not an act of the person who answers for it.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from appliance.audit.leaf import Leaf
from appliance.promote import peoplebook
from appliance.promote.automation import MADE, REFUSED, REVOKED, USED
from appliance.promote.automation_key import AutomationKey, key_of


@dataclass(slots=True, kw_only=True)
class Machines:
    """Grows with every record up to the end of a time; `take` them in order from the first.

    Attributes:
        since: The first moment of the time, from which uses and refusals are counted.
        strangers: How often something was refused that is no key of this site, or that came in a key's name.
    """

    since: str
    strangers: int = 0
    _keys: dict[str, AutomationKey] = field(default_factory=dict)
    _ended: dict[str, tuple[str, str]] = field(default_factory=dict)
    _used: dict[str, str] = field(default_factory=dict)
    _uses: Counter[str] = field(default_factory=Counter)
    _refusals: Counter[str] = field(default_factory=Counter)

    def take(self, leaf: Leaf) -> None:
        """Add a record."""
        key_id, counts = str(leaf.body.get("key_id") or ""), leaf.time >= self.since
        if leaf.kind == MADE:
            self._keys[key_id] = key_of(leaf.body, sequence=leaf.sequence, at=leaf.time)
        elif leaf.kind == USED:
            self._used[key_id] = leaf.time
            self._uses[key_id] += counts
        elif leaf.kind == REFUSED and key_id in self._keys:
            self._refusals[key_id] += counts
        elif leaf.kind == REFUSED:
            self.strangers += counts
        elif leaf.kind == REVOKED:
            self._end(key_id, leaf.time, f"revoked by {leaf.body.get('person')}")
        elif leaf.kind in {peoplebook.REVOKED, peoplebook.RESET}:
            how = "revoked" if leaf.kind == peoplebook.REVOKED else "reset"
            for key in self._keys.values():
                if key.person == str(leaf.body.get("person")):
                    self._end(key.key_id, leaf.time, f"{key.person} was {how}")

    def rows(self, *, until: str) -> list[dict[str, Any]]:
        """Return every key that was in force at some moment of the time, the oldest first."""
        found = []
        for key in self._keys.values():
            ended, why = self._ended.get(key.key_id, ("", ""))
            if key.expires_at <= until and (not ended or key.expires_at < ended):
                ended, why = key.expires_at, "its date"
            if ended and ended < self.since:
                continue
            found.append(
                {
                    "name": key.name,
                    "key_id": key.key_id,
                    "person": key.person,
                    "scopes": [str(one) for one in key.scopes],
                    "purpose": key.purpose,
                    "made": key.made_at,
                    "expires": key.expires_at,
                    "ended": ended,
                    "why_ended": why,
                    "used": self._used.get(key.key_id, ""),
                    "uses": self._uses[key.key_id],
                    "refusals": self._refusals[key.key_id],
                }
            )
        return found

    def _end(self, key_id: str, at: str, why: str) -> None:
        if key_id in self._keys:
            self._ended.setdefault(key_id, (at, why))
