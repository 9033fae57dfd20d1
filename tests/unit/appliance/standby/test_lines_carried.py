"""A further line reaches the other box under the number that it gets there, or not at all."""

from typing import Any

import pytest

from appliance.promote.record import Kind
from appliance.promote.terms import Terms
from tests.support import boxes, lines
from tests.support.boxes import first, second
from tests.support.promotion import Site, digest
from tests.support.signatories import signatories

pytestmark = pytest.mark.slow  # whole sites and processes, a second and more each

__all__ = ["first", "second"]  # fixtures

A, B, C, D, E = (digest(name) for name in ("A", "B", "C", "D", "E"))
NAMES = {A: "chat", B: "chat", C: "classes", D: "classes", E: "vectors"}
ANA, BEN, *_ = signatories()


def carry(first: Site, second: Site) -> Any:
    return boxes.carry(first, second, name="two", peer="one")


def opened(first: Site, version: str) -> int:
    return lines.open_line(first, lines.asked(first, version, name=NAMES[version]))


def standing(box: Site) -> dict[int, tuple[str | None, tuple[str, ...]]]:
    """Return what each line of a box serves and may load, by its number there."""
    found = box.folder.production().lines
    return {number: (line.current, line.loadable) for number, line in found.items()}


@pytest.fixture
def both(first: Site, second: Site) -> tuple[Site, Site]:
    """Return boxes that serve B alike, where the second one counts two promotions more."""
    for version, name in NAMES.items():
        second.validate(version, name=name)
    for version in (A, B):
        request = first.approve(first.request(version, name="chat"), ANA, BEN)
        first.client.promote(request.statement.sha256)
    assert carry(first, second).waits == ""
    second.client.rollback(person=BEN.id, reason="to be sure")
    request = second.approve(second.request(B, name="chat"), ANA, BEN)
    second.client.promote(request.statement.sha256)
    return first, second


def test_each_step_of_a_further_line_is_taken_in_the_line_that_it_is_of_here(both: tuple[Site, Site]) -> None:
    first, second = both
    there = opened(first, C)
    assert carry(first, second).waits == ""

    here = 5
    assert (there, standing(second)) == (3, {1: (B, (B,)), here: (C, (C,))})
    (made,) = second.ledger.find(kind="promotion.made", field="model_digest", value=C)
    assert (made.body["line"], made.body["carried"]["sequence"] > 0) == (here, True)
    lines.start_canary(first, D, there)
    assert carry(first, second).waits == ""
    assert standing(second)[here] == (C, (C, D))
    terms = Terms(version=D).to_json()
    body = {"line": there, "previous": C, "model_digest": C, "terms": terms, **lines.alone()}
    lines.record(first, Kind.CANARY_HELD, body)
    lines.record(first, Kind.CANARY_RESUMED, body)
    lines.cut_over(first, there)
    assert carry(first, second).waits == ""
    assert standing(second)[here] == (D, (D, C))
    lines.record(first, Kind.RETIRED, body | {"previous": D, "model_digest": D, "terms": Terms(version=C).to_json()})
    lines.stop_line(first, there)
    assert carry(first, second).waits == ""
    assert standing(second) == {1: (B, (B,)), here: (None, ())}
    lines.go_back(first, C, there)
    assert carry(first, second).waits == ""
    assert standing(second) == {1: (B, (B,)), here: (C, (C,))}
    lines.stop_line(first, 1)
    assert carry(first, second).waits == ""
    assert standing(second) == {1: (None, ()), here: (C, (C,))}


def test_a_stop_of_all_stops_every_line_of_the_other_box_and_each_comes_back_by_itself(
    both: tuple[Site, Site],
) -> None:
    first, second = both
    opened(first, C)
    other = opened(first, E)
    first.client.stop(person=BEN.id, reason="the bad night")
    assert carry(first, second).waits == ""
    assert {number: one for number, (one, _) in standing(second).items()} == {1: None, 5: None, 6: None}

    lines.bring(first, lines.asked(first, E, name="vectors"), other)

    assert carry(first, second).waits == ""
    assert {number: one for number, (one, _) in standing(second).items()} == {1: None, 5: None, 6: E}


def test_what_replaces_something_that_no_line_serves_here_waits_for_people(both: tuple[Site, Site]) -> None:
    first, second = both
    there = opened(first, C)
    assert carry(first, second).waits == ""
    lines.bring(second, lines.asked(second, E, name="classes"), 5)
    lines.bring(first, lines.asked(first, D, name="classes"), there)

    taken = carry(first, second)

    assert (taken.promotions, standing(second)[5]) == (0, (E, (E,)))
    assert f"no line here has {C[:12]} in its place" in taken.waits


def test_a_line_whose_name_another_line_of_this_box_has_is_not_opened_here(both: tuple[Site, Site]) -> None:
    first, second = both
    second.validate(C, name="chat")
    opened(first, C)

    taken = carry(first, second)

    assert (taken.promotions, standing(second)) == (0, {1: (B, (B,))})
    assert "chat (line 1) holds it, and callers ask by name" in taken.waits


def test_going_back_after_a_stop_is_refused_where_two_stopped_lines_could(both: tuple[Site, Site]) -> None:
    """Scenario: both lines have served C, one after the other."""
    first, second = both
    one = opened(first, C)
    lines.bring(first, lines.asked(first, D, name="classes"), one)
    other = opened(first, E)
    lines.bring(first, lines.asked(first, C, name="vectors"), other)
    lines.bring(first, lines.asked(first, E, name="vectors"), other)
    second.validate(C, name="third")
    first.client.stop(person=BEN.id, reason="the bad night")
    assert carry(first, second).waits == ""

    lines.go_back(first, C, other)

    taken = carry(first, second)
    assert (taken.promotions, standing(second)[7]) == (0, (None, ()))
    assert "lines 5, 7 fit it here" in taken.waits


@pytest.mark.parametrize("wrong", [{"line": None}, {"line": 1}])
def test_a_record_whose_line_is_none_is_not_taken(both: tuple[Site, Site], wrong: dict[str, Any]) -> None:
    """Scenario: the first box's ledger was written by somebody else than its promoter."""
    first, second = both
    statement = lines.statement_of(first, lines.asked(first, C, name="classes"))
    first.ledger.append("promotion.made", {**lines.signed(first, statement), "previous": None, **wrong})

    assert carry(first, second).waits != ""
    assert standing(second) == {1: (B, (B,))}


def test_a_statement_for_the_first_line_opens_no_other(both: tuple[Site, Site]) -> None:
    first, second = both
    statement = lines.statement_of(first, lines.asked(first, C, name="classes"), format=2)
    first.ledger.append("promotion.made", {**lines.signed(first, statement), "previous": None, "line": 3})

    assert "signed for the first" in carry(first, second).waits
    assert standing(second) == {1: (B, (B,))}
