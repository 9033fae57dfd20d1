"""Kinds of tasks beyond choices: each judged as docs/format.md says, and no pattern or schema that hides a fault."""

import json
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.promote.evaluation import is_right, paired, word_perplexity_millis
from appliance.promote.patterns import safe_pattern
from appliance.promote.policy import GATES, GatePolicy, packaged
from appliance.promote.schema import Schema
from appliance.promote.similarity import similarity_millis
from appliance.promote.taskset import Item, TaskSet
from media.errors import MalformedError


def one_item(item: dict[str, Any], written: int = 2) -> Item:
    lines = [{"format": written, "name": "n", "floor": "0"}, {"id": "a", "prompt": "p", **item}]
    return TaskSet.from_bytes(b"\n".join(json.dumps(line).encode() for line in lines)).items[0]


@pytest.mark.parametrize(
    ("item", "right", "wrong"),
    [
        ({"kind": "exact", "answer": "10 mg"}, " 10  MG.", "10 mg daily"),
        ({"kind": "contains", "answer": "rome"}, "It is ROME, I think", "Paris"),
        ({"kind": "regex", "pattern": "^[0-9]{2} mg$"}, "10 mg", "about 10 mg"),
        (
            {"kind": "similarity", "answer": "The patient may go home.", "least": "0.8"},
            "the patient may go home",
            "No.",
        ),
        (
            {"kind": "json-schema", "schema": {"type": "object", "required": ["dose"]}},
            '```json\n{"dose": 1.5}\n```',
            '{"dosis": 1}',
        ),
    ],
)
def test_an_answer_is_judged_by_its_items_kind(item: dict[str, Any], right: str, wrong: str) -> None:
    task = one_item(item)

    assert is_right(task, right)
    assert not is_right(task, wrong)


@pytest.mark.parametrize(
    "item",
    [
        {"kind": "regex", "pattern": "("},
        {"kind": "regex", "pattern": "(a+)+b"},
        {"kind": "regex", "pattern": "(a|aa)*b"},
        {"kind": "regex", "pattern": r"(a)\1"},
        {"kind": "regex", "pattern": "(?=a)"},
        {"kind": "regex", "answer": "a"},
        {"kind": "similarity", "answer": "a", "least": "2"},
        {"kind": "rubric", "criteria": []},
        {"kind": "perplexity", "text": "x", "max_tokens": 3},
        {"kind": "exact", "answer": "a", "max_tokens": 0},
        {"kind": "json-schema", "schema": {"$ref": "#"}},
        {"kind": "json-schema", "schema": {"type": "date"}},
        {"kind": "json-schema", "schema": {"additionalProperties": {}}},
    ],
)
def test_an_item_that_cannot_be_judged_is_refused(item: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        one_item(item)


def test_the_first_format_has_its_two_kinds_only() -> None:
    assert one_item({"kind": "contains", "answer": "x"}, written=1).answer == "x"
    with pytest.raises(MalformedError):
        one_item({"kind": "exact", "answer": "x"}, written=1)


SCHEMA = Schema.from_json(
    {
        "type": "object",
        "required": ["drug", "times"],
        "additionalProperties": False,
        "properties": {
            "drug": {"type": "string", "minLength": 2, "pattern": "^[A-Z]"},
            "times": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0, "maximum": 23}},
            "route": {"enum": ["oral", "iv", 1]},
            "fixed": {"const": None},
        },
    }
)


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        ('{"drug": "Aspirin", "times": [8, 20]}', True),
        ('{"drug": "Aspirin", "times": [8.0], "route": "iv", "fixed": null}', True),
        ('{"drug": "aspirin", "times": [8]}', False),
        ('{"drug": "Aspirin", "times": []}', False),
        ('{"drug": "Aspirin", "times": [24]}', False),
        ('{"drug": "Aspirin", "times": [true]}', False),
        ('{"drug": "Aspirin", "times": [8], "route": true}', False),
        ('{"drug": "Aspirin", "times": [8], "more": 1}', False),
        ('{"drug": "Aspirin"}', False),
        ('["Aspirin"]', False),
        ('{"drug": NaN}', False),
        ("not JSON", False),
        ("[" * 100_000, False),
    ],
)
def test_an_answer_fits_a_schema_or_not(answer: str, fits: bool) -> None:  # noqa: FBT001 - a column of a table
    assert SCHEMA.accepts(answer) is fits


@given(st.text(max_size=200), st.text(max_size=200))
def test_similarity_is_the_same_both_ways_and_whole_with_itself(one: str, other: str) -> None:
    both = similarity_millis(one, other)

    assert both == similarity_millis(other, one)
    assert 0 <= both <= 1000
    assert similarity_millis(one, one.upper().lower()) in {0, *range(990, 1001)} or one.upper().lower() != one.lower()


def test_similarity_tells_the_same_thing_said_otherwise_from_another_thing() -> None:
    said = "The patient may go home on Tuesday."

    close = similarity_millis(said, "On Tuesday the patient may go home.")
    far = similarity_millis(said, "Ibuprofen was stopped for bleeding.")

    assert (close > 700, far < 300) == (True, True)


@given(st.text(alphabet="ab()*+|\\[]^{}?:.0123456789", max_size=30))
def test_any_pattern_is_compiled_or_refused(pattern: str) -> None:
    try:
        safe_pattern(pattern)
    except MalformedError:
        return


def test_items_that_are_not_counted_are_in_no_pair() -> None:
    assert paired("1-01", "1-10") == [0, -1, 1]
    assert paired("11", "1") == []
    assert word_perplexity_millis(0.0, 3) == 1000
    assert word_perplexity_millis(-1e9, 1) > 10**20


def test_a_policy_of_the_first_format_is_still_read() -> None:
    old = GatePolicy.from_bytes((files("appliance.promote") / "policy_v1.json").read_bytes())

    assert (old.format, old.gates) == (1, ("integrity", "load", "smoke", "task-evaluation"))
    assert old.tasks.allowed_drop_millis == packaged().tasks.allowed_drop_millis
    assert packaged().gates == GATES
