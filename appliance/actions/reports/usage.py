"""Who used the box, how much, and what that cost, counted from the records: people by the keyed hash of their name.

A person is whoever an application named; who named nobody is in no count of people, and their keys still count. The
cost is that of the tokens at the site's prices of today; an answer without a count or a price is told, never guessed.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from appliance.actions.reports.tally import INTENT, OUTCOME, UNKNOWN, whole
from appliance.audit.leaf import Leaf
from appliance.costs import CostSection, amount, price_text


class _Begun(NamedTuple):
    department: str
    model: str
    person: str


@dataclass(slots=True, kw_only=True)
class Usage:
    """Grows with every record of one time.

    Attributes:
        prices: The site's; without any there are no figures of cost.
    """

    prices: CostSection = field(default_factory=CostSection)
    _people: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _keys: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _answers: Counter[str] = field(default_factory=Counter)
    _tokens_in: Counter[str] = field(default_factory=Counter)
    _tokens_out: Counter[str] = field(default_factory=Counter)
    _cost: Counter[str] = field(default_factory=Counter)
    _priced: Counter[str] = field(default_factory=Counter)
    _unpriced: int = 0
    _open: dict[str, _Begun] = field(default_factory=dict)
    _unknown: dict[str, _Begun] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)

    def take(self, leaf: Leaf) -> None:
        """Add a record."""
        if leaf.kind == INTENT:
            self._begun(leaf)
        elif leaf.kind == OUTCOME:
            self._told(str(leaf.body.get("request_id")), leaf.body)

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `cost` only where the site has prices."""
        found: dict[str, Any] = {
            "active": {
                day: {"people": len(self._people.get(day, ())), "keys": len(keys)}
                for day, keys in sorted(self._keys.items())
            },
            "people_usage": [
                {
                    "user_hash": person,
                    "answers": count,
                    "tokens_in": self._tokens_in[person],
                    "tokens_out": self._tokens_out[person],
                }
                for person, count in sorted(self._answers.items(), key=self._largest_first)
            ],
        }
        return found | ({"cost": self._costs()} if self.prices.prices else {})

    def _begun(self, leaf: Leaf) -> None:
        body, day = leaf.body, leaf.time[:10]
        person = self._same(body.get("user_hash"))
        self._keys[day].add(self._same(body.get("key_id")))
        if person:
            self._people[day].add(person)
            self._answers[person] += 1
        begun = _Begun(self._same(body.get("department")), self._same(body.get("model")), person)
        self._open[str(body.get("request_id"))] = begun

    def _told(self, request_id: str, body: Mapping[str, Any]) -> None:
        begun = self._open.pop(request_id, None)
        if begun is None and (begun := self._unknown.pop(request_id, None)) is not None:
            self._unpriced -= 1  # closed as unknown, and told as it was by a gateway that lived on
        if begun is None:
            return
        if body.get("outcome") == UNKNOWN:
            self._unknown[request_id] = begun
        self._ended(begun, body)

    def _ended(self, begun: _Begun, body: Mapping[str, Any]) -> None:
        counts = body.get("prompt_tokens"), body.get("completion_tokens")
        prompt, answer = (whole(one, 0) for one in counts)
        if begun.person:
            self._tokens_in[begun.person] += prompt
            self._tokens_out[begun.person] += answer
        cost = None if None in counts else self.prices.billionths(begun.model, prompt=prompt, answer=answer)
        if cost is None:
            self._unpriced += 1
            return
        self._cost[begun.department] += cost
        self._priced[begun.department] += 1

    def _costs(self) -> dict[str, Any]:
        rows = {
            name: {"cost": amount(cost), "answers": self._priced[name], "each": amount(cost // self._priced[name])}
            for name, cost in sorted(self._cost.items(), key=lambda one: (-one[1], one[0]))
        }
        prices = [
            {"model": one.model, "prompt": price_text(one.prompt), "answer": price_text(one.answer)}
            for one in self.prices.prices
        ]
        total, priced = self._cost.total(), self._priced.total()
        return {
            "currency": self.prices.currency,
            "prices": prices,
            "total": amount(total),
            "each": amount(total // priced) if priced else "",
            "departments": rows,
            "unpriced": self._unpriced,
        }

    def _largest_first(self, counted: tuple[str, int]) -> tuple[int, str]:
        person = counted[0]
        return -(self._tokens_in[person] + self._tokens_out[person]), person

    def _same(self, value: Any) -> str:
        """Return one text for all that are equal: a quarter names each person thousands of times."""
        text = str(value or "")
        return self._names.setdefault(text, text)
