import pytest

from bundler.registertable import history_csv
from media.spreadsheet import is_like_formula


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\u3000=1", "|calc", "%0A", "\uff1d1", " \uff0b1"],
)
def test_what_a_spreadsheet_would_run_is_known_also_behind_blanks_and_in_other_widths(text: str) -> None:
    assert is_like_formula(text)
    row = {"entry": 1, "at": "", "kind": "returned", "medium": "", "what": text, "by": ""}
    assert f"'{text}" in history_csv([row])


@pytest.mark.parametrize("text", ["", " ", "a=1", "3", "{=", "'=1"])
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert not is_like_formula(text)
