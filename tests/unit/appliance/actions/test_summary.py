"""What an approver reads first: what changes, for whom, what got worse, how to undo it."""

from typing import Any

from appliance.actions.summary import Summary, summarise

OLD: dict[str, Any] = {"name": "m", "version": "1", "quantization": "Q4_K_M", "license": "MIT"}
NEW = {**OLD, "version": "2", "quantization": "Q8_0"}


def summary(after: dict[str, int], before: dict[str, int] | None, *, passed: bool = True) -> Summary:
    return summarise(
        after=NEW,
        before=None if before is None else OLD,
        gates=[("task-evaluation", passed, {**after, "sets": [], "same_text": True})],
        gates_before=[] if before is None else [("task-evaluation", True, {**before, "same_text": False})],
        departments=["radiology", "oncology", "radiology"],
        previous="" if before is None else "m 1",
    )


def test_a_figure_is_worse_by_what_its_name_says() -> None:
    found = summary({"accuracy_millis": 900, "load_millis": 50}, {"accuracy_millis": 950, "load_millis": 70})

    assert [one.text for one in found.worse] == ["task-evaluation, right answers, in thousandths: 950 → 900"]
    assert [one.name for one in found.figures] == ["accuracy_millis", "load_millis"]


def test_what_was_not_taken_or_is_no_number_is_not_compared() -> None:
    assert summary({"first_text_millis": -1, "items": 4}, {"first_text_millis": 5, "items": 8}).figures == ()


def test_it_says_what_changes_for_whom_and_the_way_back() -> None:
    found = summary({}, {})

    assert ("quantization", "Q4_K_M", "Q8_0") in found.changes
    assert found.departments == ("oncology", "radiology")
    assert "goes back to m 1" in found.undo
    assert (found.has_baseline, found.failed) == (True, ())


def test_without_anything_in_production_it_says_so() -> None:
    found = summary({"accuracy_millis": 1}, None, passed=False)

    assert (found.has_baseline, found.figures, found.failed) == (False, (), ("task-evaluation",))
    assert "nothing to go back to" in found.undo
