"""Active people, tokens by person and the cost of a time: sums over the records, and nothing that nobody counted."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.actions.reports import making
from appliance.actions.reports.period import quarter
from appliance.actions.reports.sheet import sheet
from appliance.audit.memory import MemoryLedger
from appliance.audit.note import VerifierKey
from appliance.costs import CostPrice, CostSection
from appliance.paper.form import Section
from media.clock import FixedClock
from tests.support.ledger import bodies

PRICES = CostSection(currency="EUR", prices=[CostPrice(model="small", prompt=0.5, answer=2.0)])
PEOPLE = ("", "a" * 64, "b" * 64, "c" * 64)
ASKED = st.tuples(
    st.sampled_from(PEOPLE),
    st.sampled_from(("radiology", "surgery", "")),
    st.sampled_from(("small", "large")),
    st.integers(0, 900) | st.none(),
    st.integers(0, 40),
)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 10, 5, 8, 0, tzinfo=UTC))


def counted(ledger: MemoryLedger, clock: FixedClock, prices: CostSection | None = None) -> dict[str, Any]:
    key = VerifierKey.from_text(ledger.vkey)
    return making.counted(ledger, quarter("2026Q4"), site="demo", key=key, clock=clock, prices=prices)


def ask(ledger: MemoryLedger, number: int, person: str, *, tokens: int | None = 10, **more: str) -> None:
    said = {"department": "radiology", "key_id": "k1", "model": "small", **more}
    ledger.append("request.intent", {"request_id": f"req_{number}", "user_hash": person, **said})
    ended = {"request_id": f"req_{number}", "outcome": "ok", "prompt_tokens": tokens, "completion_tokens": tokens}
    ledger.append("request.outcome", ended)


def sections(facts: dict[str, Any]) -> dict[str, Section]:
    return {one.title.split(",")[0]: one for one in sheet(facts).sections}


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.lists(ASKED, max_size=25))
def test_figures_of_use_are_sums_over_the_records(asked: list[tuple[str, str, str, int | None, int]]) -> None:
    clock = FixedClock(datetime(2026, 10, 5, 8, 0, tzinfo=UTC))
    ledger = MemoryLedger(clock)
    named, tokens, days = Counter[str](), Counter[str](), set[tuple[str, str]]()
    cost, without = Counter[str](), 0
    for number, (person, department, model, count, hours) in enumerate(asked):
        clock.advance(3600 * hours)
        ask(ledger, number, person, tokens=count, department=department, model=model)
        if person:
            named[person] += 1
            tokens[person] += count or 0
            days.add((clock.now().strftime("%Y-%m-%d"), person))
        if count is None or model != "small":
            without += 1
        else:
            cost[department] += count * 25
    ledger.append("trust.rotated", {"version": 1})

    facts = counted(ledger, clock, PRICES)

    assert {one["user_hash"]: one["answers"] for one in facts["people_usage"]} == dict(named)
    assert all(one["tokens_in"] == one["tokens_out"] == tokens[one["user_hash"]] for one in facts["people_usage"])
    assert {day: one["people"] for day, one in facts["active"].items() if one["people"]} == dict(
        Counter(day for day, _ in days)
    )
    told = facts["cost"]
    assert {name: one["cost"] for name, one in told["departments"].items()} == {
        name: f"{count // 10_000}.{count % 10_000:04}" for name, count in cost.items()
    }
    assert told["unpriced"] == without
    assert sum(one["answers"] for one in told["departments"].values()) + without == len(asked)
    making.made(facts)


def test_the_same_person_counts_once_a_day_and_who_names_nobody_is_no_person(clock: FixedClock) -> None:
    ledger = MemoryLedger(clock)
    for number, (person, key) in enumerate([("a" * 64, "k1"), ("a" * 64, "k2"), ("b" * 64, "k1"), ("", "k3")]):
        ask(ledger, number, person, key_id=key)
    clock.advance(86400)
    ask(ledger, 9, "a" * 64)

    facts = counted(ledger, clock)

    assert facts["active"] == {"2026-10-05": {"people": 2, "keys": 3}, "2026-10-06": {"people": 1, "keys": 1}}
    use = sections(facts)["Use"]
    assert use.table is not None
    assert use.table.rows == (("a" * 16, "3", "30", "30"), ("b" * 16, "1", "10", "10"))
    assert use.facts[2][1] == "1.5; most on 2026-10-05: 2, with 3 keys"


def test_the_cost_is_told_by_department_with_its_prices_and_what_has_none(clock: FixedClock) -> None:
    ledger = MemoryLedger(clock)
    ask(ledger, 1, "", tokens=1000)
    ask(ledger, 2, "", tokens=3000)
    ask(ledger, 3, "", tokens=None)
    ask(ledger, 4, "", tokens=1000, model="large", department="surgery")

    section = sections(counted(ledger, clock, PRICES))["Cost"]

    assert section.table is not None
    assert section.table.rows == (("radiology", "2", "10.0000 EUR", "5.0000 EUR"),)
    assert [said for _, said in section.facts] == ["10.0000 EUR", "5.0000 EUR", "2"]
    assert section.notes == ("1,000 tokens of small: 0.5 EUR asked, 2 EUR answered",)


def test_without_prices_no_cost_is_shown(clock: FixedClock) -> None:
    ledger = MemoryLedger(clock)
    ask(ledger, 1, "")
    facts = counted(ledger, clock)

    assert "cost" not in facts
    assert "Cost" not in sections(facts)


def test_only_the_largest_people_are_on_the_sheet_and_all_are_in_the_figures(clock: FixedClock) -> None:
    ledger = MemoryLedger(clock)
    for number in range(25):
        ask(ledger, number, f"{number:064}", tokens=number)
    facts = counted(ledger, clock)
    use = sections(facts)["Use"]

    assert len(facts["people_usage"]) == 25
    assert use.table is not None
    assert len(use.table.rows) == 20
    assert use.table.rows[0][2] == "24"
    assert use.notes[0].startswith("5 more people")


def test_answers_are_counted_by_what_their_keys_are_for_with_the_classes_of_data(clock: FixedClock) -> None:
    ledger = MemoryLedger(clock)
    for key_id, purpose in (("k1", "care"), ("k2", "billing"), ("k3", "")):
        ledger.append(
            "key.created", {**bodies()["key.created"], "key_id": key_id, **({"purpose": purpose} if purpose else {})}
        )
    for number, (key_id, found) in enumerate(
        [("k1", "PHI"), ("k1", "PHI"), ("k2", "PHI"), ("k2", "UNKNOWN"), ("k3", "PUBLIC")]
    ):
        ask(ledger, number, "", key_id=key_id, classification=found)

    facts = counted(ledger, clock)

    assert facts["purposes"] == {
        "": {"answers": 1, "keys": 1, "classes": {"PUBLIC": 1}},
        "billing": {"answers": 2, "keys": 1, "classes": {"PHI": 1, "UNKNOWN": 1}},
        "care": {"answers": 2, "keys": 1, "classes": {"PHI": 2}},
    }
    assert {one["key_id"]: one["purpose"] for one in facts["keys"]} == {"k1": "care", "k2": "billing", "k3": ""}
    shown = sections(facts)["What answers were for"].table
    assert shown is not None
    assert ("billing", "2", "1", "PHI 1, UNKNOWN 1") in shown.rows
    assert "NONE NAMED" in {row[0] for row in shown.rows}


def test_what_a_key_is_for_is_known_from_before_the_time(clock: FixedClock) -> None:
    ledger = MemoryLedger(FixedClock(datetime(2026, 9, 1, tzinfo=UTC)))
    ledger.append("key.created", {**bodies()["key.created"], "key_id": "k1", "purpose": "care"})

    assert counted(ledger, clock)["purposes"] == {}
    assert sections(counted(ledger, clock))["What answers were for"].notes == ("Nothing was answered in this time.",)


def test_an_answer_that_was_closed_as_unknown_and_told_later_counts_as_it_was(clock: FixedClock) -> None:
    ledger = MemoryLedger(clock)
    person = "a" * 64
    body = {"request_id": "req_1", "user_hash": person, "department": "radiology", "key_id": "k1", "model": "small"}
    ledger.append("request.intent", body)
    ledger.append("request.outcome", {"request_id": "req_1", "outcome": "unknown"})
    told = {"request_id": "req_1", "outcome": "ok", "prompt_tokens": 10, "completion_tokens": 20}
    ledger.append("request.outcome", told)
    ask(ledger, 2, person)

    facts = counted(ledger, clock, PRICES)

    assert facts["outcomes"] == {"ok": 2}
    assert (facts["ended"], facts["open"], facts["ended_from_before"], facts["is_whole"]) == (2, 0, 0, True)
    assert (facts["tokens_in"], facts["tokens_out"]) == ({"radiology": 20}, {"radiology": 30})
    assert [(one["tokens_in"], one["tokens_out"]) for one in facts["people_usage"]] == [(20, 30)]
    assert facts["cost"]["departments"]["radiology"]["answers"] == 2
    assert facts["cost"]["unpriced"] == 0
