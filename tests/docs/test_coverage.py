"""The list of requirements is complete, its counts are true, and what it points to exists."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| ([A-Z])(\d+) \| (met|partly|later|not applicable) \| (.+?) \| (.+?) \|$", re.MULTILINE)
PATH = re.compile(r"\b(?:appliance|bundler|media|tests|ansible|systemd|docs|examples|requirements)/[\w/.-]*\w")
LAST = {"A": 52, "B": 56, "C": 52, "D": 30, "E": 33, "F": 23, "G": 24, "H": 27, "I": 36, "J": 26, "K": 31, "L": 15}
LAST |= {"M": 24, "N": 14, "X": 40}


def rows() -> list[tuple[str, int, str, str, str]]:
    found = ROW.findall((ROOT / "docs/coverage.md").read_text())
    return [(letter, int(number), state, where, shown) for letter, number, state, where, shown in found]


def test_every_requirement_has_one_row() -> None:
    expected = [(letter, number) for letter, last in LAST.items() for number in range(1, last + 1)]

    assert [(letter, number) for letter, number, *_ in rows()] == expected


def test_what_is_met_in_whole_or_in_part_names_what_shows_it_and_nothing_else_does() -> None:
    silent = [f"{letter}{number}" for letter, number, state, _, shown in rows() if (shown == "-") != (state == "later")]

    assert silent == ["X39"]  # a ruling on libraries: nothing is to be shown


def test_the_head_counts_what_the_table_says() -> None:
    found = Counter(state for _, _, state, _, _ in rows())
    states = ("met", "partly", "later", "not applicable")

    said = f"Now: {', '.join(f'{found[state]} {state}' for state in states)}."
    assert said in (ROOT / "docs/coverage.md").read_text().splitlines()


@pytest.mark.parametrize("column", [3, 4])
def test_every_path_that_is_named_exists(column: int) -> None:
    named = {path for row in rows() for path in PATH.findall(str(row[column]))}

    assert sorted(path for path in named if not (ROOT / path).exists()) == []
