"""What answers were for, counted from the records: each names its key, and a key's record the one word it is for.

GDPR Art. 5 asks that data serve the purpose it was given for. A class of data that a purpose should never meet stands
out here by its count; which it should not meet, people decide.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from appliance.actions.reports.access_sheet import table
from appliance.actions.reports.tally import INTENT
from appliance.audit.leaf import Leaf
from appliance.paper.form import Section


@dataclass(slots=True, kw_only=True)
class Purposes:
    """Grows with every record of a time.

    Args:
        keys: The keys that were made by then, by their ids, each with what it is for (`Access.keys`).
    """

    keys: Mapping[str, Mapping[str, Any]]
    _answers: Counter[str] = field(default_factory=Counter)
    _of: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _classes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def take(self, leaf: Leaf) -> None:
        """Add a record of the time."""
        if leaf.kind == INTENT:
            key_id = str(leaf.body.get("key_id"))
            purpose = str(self.keys.get(key_id, {}).get("purpose", ""))
            self._answers[purpose] += 1
            self._of[purpose].add(key_id)
            self._classes[purpose][str(leaf.body.get("classification") or "not said")] += 1

    def to_json(self) -> dict[str, Any]:
        """Return the fields by purpose; an empty one is of keys for which nobody named any."""
        return {
            purpose: {
                "answers": count,
                "keys": len(self._of[purpose]),
                "classes": dict(sorted(self._classes[purpose].items())),
            }
            for purpose, count in sorted(self._answers.items())
        }


def section(facts: Mapping[str, Any]) -> Section:
    """Return the section of `making.counted`'s figures that says what answers were for."""
    rows = [
        (
            purpose or "NONE NAMED",
            str(one["answers"]),
            str(one["keys"]),
            ", ".join(f"{name} {count}" for name, count in one["classes"].items()),
        )
        for purpose, one in facts["purposes"].items()
    ]
    return Section(
        title="What answers were for",
        table=table(("purpose of the key", "answers", "keys", "classes of data"), rows, (30, 14, 12, 44)),
        notes=() if rows else ("Nothing was answered in this time.",),
    )
