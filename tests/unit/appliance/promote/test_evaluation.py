"""Verdicts on tasks: the same every time, and honest about how little a few items say."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.promote.evaluation import bootstrap, examine, judge
from appliance.promote.policy import packaged
from appliance.promote.taskset import TaskSet
from media.errors import MalformedError
from tests.support.versions import right_answer, task_file

POLICY = replace(packaged().tasks, resamples=300)
TASKS = TaskSet.from_bytes(task_file(20))


class Clever:
    def likelihoods(self, prompt: str, continuations: Sequence[str]) -> Sequence[float]:
        return [0.0 if one.strip() == right_answer(prompt) else -5.0 for one in continuations]

    def answer(self, prompt: str, *, max_tokens: int) -> str:
        return f"I think it is {right_answer(prompt).upper()}, of course."


class Guessing(Clever):
    def likelihoods(self, prompt: str, continuations: Sequence[str]) -> Sequence[float]:
        return [-1.0, -2.0, -3.0, -4.0]

    def answer(self, prompt: str, *, max_tokens: int) -> str:
        return ""


def test_a_version_that_knows_everything_passes() -> None:
    result = judge(TASKS, examine(TASKS, Clever()), POLICY)

    assert result.passed
    assert result.accuracy is not None
    assert (result.accuracy.low, result.accuracy.value, result.accuracy.high) == (1000, 1000, 1000)


def test_a_version_that_guesses_fails_for_both_reasons() -> None:
    result = judge(TASKS, examine(TASKS, Guessing()), POLICY)

    assert [failure.split()[0] for failure in result.failures] == ["250", "it"]


def test_one_lucky_item_in_four_proves_nothing() -> None:
    tasks = TaskSet.from_bytes(task_file(4, floor="0.25"))

    result = judge(tasks, "1100", POLICY)

    assert not result.passed
    assert "guessing" in result.failures[0]


def test_the_floor_is_the_higher_of_the_makers_and_the_sites() -> None:
    strict = replace(POLICY, minimum_accuracy_millis=900)

    assert judge(TASKS, "1" * 17 + "000", strict).failures == ("850 of 1000 right, and 900 are demanded",)
    assert judge(TASKS, "1" * 9 + "0" * 11, POLICY).floor == 500


def test_a_version_surely_worse_than_production_fails() -> None:
    result = judge(TASKS, "1" * 12 + "0" * 8, POLICY, production="1" * 20)

    assert result.failures == ("it is worse than production by 400 of 1000",)
    assert result.against_production is not None
    assert result.against_production.high < 0


def test_a_difference_that_may_be_chance_does_not_fail() -> None:
    assert judge(TASKS, "1" * 18 + "00", POLICY, production="1" * 19 + "0").passed


def test_answers_to_another_number_of_items_are_not_compared() -> None:
    assert judge(TASKS, "1" * 20, POLICY, production="1").against_production is None


@given(st.lists(st.integers(min_value=0, max_value=1), min_size=1, max_size=30), st.text(max_size=8))
def test_an_interval_holds_its_value_and_comes_out_the_same_again(scores: list[int], seed: str) -> None:
    policy = replace(POLICY, resamples=200)
    interval = bootstrap(scores, seed=seed, policy=policy)

    assert 0 <= interval.low <= interval.value <= interval.high <= 1000
    assert bootstrap(scores, seed=seed, policy=policy) == interval


def test_figures_hold_no_text_of_a_task_or_an_answer() -> None:
    figures = json.dumps(judge(TASKS, examine(TASKS, Clever()), POLICY).to_json())

    assert "Question" not in figures
    assert "Paris" not in figures


GOOD = {"id": "a", "kind": "multiple-choice", "prompt": "p", "answer": "x", "choices": ["x", "y"]}


@pytest.mark.parametrize(
    "item",
    [
        {},
        {**GOOD, "kind": "essay"},
        {**GOOD, "answer": "z"},
        {**GOOD, "choices": ["x"]},
        {**GOOD, "choices": ["x", "x"]},
        {**GOOD, "choices": []},
        {**GOOD, "kind": "contains"},
        {**GOOD, "more": 1},
        {name: value for name, value in GOOD.items() if name != "id"},
    ],
)
def test_an_item_of_another_shape_is_refused(item: dict[str, object]) -> None:
    header = {"format": 1, "name": "n", "floor": "0.5"}

    with pytest.raises(MalformedError):
        TaskSet.from_bytes(b"\n".join(json.dumps(line).encode() for line in (header, item)))


@pytest.mark.parametrize("floor", ["1.1", "-0.1", "half", 1, ""])
def test_a_floor_that_is_no_share_is_refused(floor: object) -> None:
    header = {"format": 1, "name": "n", "floor": floor}

    with pytest.raises(MalformedError):
        TaskSet.from_bytes(b"\n".join(json.dumps(line).encode() for line in (header, GOOD)))


def test_a_set_without_items_or_with_an_id_twice_is_refused() -> None:
    header = {"format": 1, "name": "n", "floor": "0.5"}

    for lines in ([], [header], [header, GOOD, GOOD]):
        with pytest.raises(MalformedError):
            TaskSet.from_bytes(b"\n".join(json.dumps(line).encode() for line in lines))
