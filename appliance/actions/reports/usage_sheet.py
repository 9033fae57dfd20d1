"""The part of a report that says who used the box, how much, and what that cost at the site's prices."""

from collections.abc import Mapping
from typing import Any, Final

from appliance.actions.reports.access_sheet import table
from appliance.paper.form import Section

_MOST_PEOPLE: Final = 20
_HASH_SHOWN: Final = 16


def sections(facts: Mapping[str, Any]) -> tuple[Section, ...]:
    """Return the sections of `making.counted`'s figures about use; that of cost only where the site has prices."""
    return (_use(facts), *((_cost(facts["cost"]),) if "cost" in facts else ()))


def _use(facts: Mapping[str, Any]) -> Section:
    days, people = facts["active"], facts["people_usage"]
    busiest = max(days.items(), key=lambda one: (one[1]["people"], one[1]["keys"]), default=None)
    about = [("Days with a request", str(len(days))), ("People that applications named", str(len(people)))]
    if busiest is not None:
        mean = sum(one["people"] for one in days.values()) / len(days)
        on = f"{mean:.1f}; most on {busiest[0]}: {busiest[1]['people']}, with {busiest[1]['keys']} keys"
        about.append(("People a day, of those days", on))
    rows = [
        (one["user_hash"][:_HASH_SHOWN], str(one["answers"]), str(one["tokens_in"]), str(one["tokens_out"]))
        for one in people[:_MOST_PEOPLE]
    ]
    further = len(people) - len(rows)
    return Section(
        title="Use",
        facts=tuple(about),
        table=table(("person, by keyed hash", "answers", "tokens asked", "tokens answered"), rows, (40, 20, 20, 20)),
        notes=(
            *((f"{further} more people, and each day, are in report.json.",) if further else ()),
            "Who is behind a hash only the application knows that named them; requests that name nobody are not here.",
        ),
    )


def _cost(cost: Mapping[str, Any]) -> Section:
    currency = f" {cost['currency']}" if cost["currency"] else ""
    rows = [
        (name or "none named", str(one["answers"]), f"{one['cost']}{currency}", f"{one['each']}{currency}")
        for name, one in cost["departments"].items()
    ]
    prices = [
        f"1,000 tokens of {one['model'] or 'any other model'}: {one['prompt']}{currency} asked, "
        f"{one['answer']}{currency} answered"
        for one in cost["prices"]
    ]
    return Section(
        title="Cost, at the site's prices when this was made",
        facts=(
            ("All answers that have a cost", f"{cost['total']}{currency}"),
            ("Each of them", f"{cost['each']}{currency}" if cost["each"] else "-"),
            ("Answers without a count of tokens or a price", str(cost["unpriced"])),
        ),
        table=table(("department", "answers", "cost", "each"), rows, (40, 20, 20, 20)),
        notes=tuple(prices),
    )
