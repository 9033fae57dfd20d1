"""What rules of a grammar let in, where the library that reads them is not there."""

import re
from datetime import date

import pytest

from appliance.serve.grammar import exact


@pytest.mark.parametrize("year", [1, 4, 1900, 1999, 2000, 2023, 2024, 2096, 2100, 2400, 9999])
def test_a_date_is_a_day_that_there_is(year: int) -> None:
    rule = exact({"date": "any"})["date"]
    pattern = re.compile(re.sub(r'["\s]', "", rule))  # as an expression of Python's it reads the same

    for month in range(14):
        for day in range(33):
            text = f"{year:04}-{month:02}-{day:02}"
            assert bool(pattern.fullmatch(text)) == _is_a_day(text), text


def _is_a_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def test_other_rules_stay_as_they_are() -> None:
    assert exact({"root": "date", "time": "x"}) == {"root": "date", "time": "x"}
