"""What the patterns find, and what they leave alone."""

import time
from typing import Any

import pytest

from appliance.phi.detect import PatternDetector, merged
from appliance.phi.patterns import DOCUMENTED, PhiClass, is_npi, outline


def _found(text: str, *, rules: Any = None) -> list[tuple[str, str]]:
    detector = PatternDetector() if rules is None else PatternDetector(rules)
    return [(one.phi_class.value, text[one.start : one.end]) for one in detector.find(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SSN 123-45-6789.", [("ssn", "123-45-6789")]),
        ("a 1234-45-6789 b", []),
        ("123-45-67890", []),
        ("MRN: 12345678", [("mrn", "12345678")]),
        ("MRN:123456", [("mrn", "123456")]),
        ("MRN:\n\t1234567890", [("mrn", "1234567890")]),
        ("MRN: 12345", []),
        ("born 1/2/1980 in", [("date", "1/2/1980")]),
        ("12/31/1999", [("date", "12/31/1999")]),
        ("1/2/80", []),
    ],
)
def test_the_documents_patterns_find_what_they_say(text: str, expected: Any) -> None:
    assert _found(text, rules=DOCUMENTED) == expected
    assert all(finding in _found(text) for finding in expected)


def test_the_documents_patterns_are_the_first_and_the_others_are_marked_extra() -> None:
    detector = PatternDetector()

    assert [one.extra for one in detector.find("123-45-6789 and jane@example.org")] == [False, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("call (555) 234-5678 now", [("phone", "(555) 234-5678")]),
        ("call +1 555-234-5678", [("phone", "+1 555-234-5678")]),
        ("ratio 155-034-5678", []),
        ("+44 20 7946 0958", [("phone", "+44 20 7946 0958")]),
        ("write to jane.doe+ward@mail.example.org, please", [("email", "jane.doe+ward@mail.example.org")]),
        ("NPI 1234567893", [("npi", "1234567893")]),
        ("figure 1234567890", []),
        ("born 1980-02-29", [("date", "1980-02-29")]),
        ("on 3 March 2024 and March 4th, 2024", [("date", "3 March 2024"), ("date", "March 4th, 2024")]),
        ("Medicare 1EG4-TE5-MK73", [("mbi", "1EG4-TE5-MK73")]),
        ("ssn: 123456789", [("ssn", "123456789")]),
        ("medical record number 4455667", [("mrn", "4455667")]),
        ("host 10.1.2.3 and 127.0.0.1 and 1.2.3.4.5", [("ip", "10.1.2.3")]),
        ("version 10.1.2.999", []),
        ("Patient: Jane Roe was seen", [("name", "Jane Roe")]),
        ("patient name: O'Brien, Mary\nfine", [("name", "O'Brien, Mary")]),
        ("Patient: Jane Roe, SSN on file. Name: SMITH, JOHN", [("name", "Jane Roe"), ("name", "SMITH, JOHN")]),
        ("seen by Dr. Anna Smith today", [("name", "Anna Smith")]),
    ],
)
def test_extra_patterns_find_more(text: str, expected: Any) -> None:
    assert _found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The quick brown fox.",
        "def f(x): return x[1] + 2",
        "version 3.11.7 of 2024",
        "https://example.org and https://doi.org/10.1000/182",
        "π ≈ 3.14159",
    ],
)
def test_ordinary_text_has_no_findings(text: str) -> None:
    assert _found(text) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x 123\u201345\u20136789 y", "123\u201345\u20136789"),
        ("x １２３-４５-６７８９ y", "１２３-４５-６７８９"),  # noqa: RUF001
        ("x 123-\u200b45-67\u200d89 y", "123-\u200b45-67\u200d89"),
        ("é\u200b 123-45-6789", "123-45-6789"),
    ],
)
def test_other_dashes_digits_and_invisible_characters_hide_nothing(text: str, value: str) -> None:
    assert _found(text) == [("ssn", value)]


def test_overlapping_findings_join_and_leave_no_rest() -> None:
    ssn, mrn = PhiClass.SSN, PhiClass.MRN
    detector = PatternDetector()
    one, *_ = detector.find("123-45-6789")
    first = type(one)(start=0, end=10, phi_class=ssn, extra=False)
    second = type(one)(start=8, end=25, phi_class=mrn, extra=True)
    third = type(one)(start=25, end=26, phi_class=ssn, extra=True)

    assert [(f.start, f.end, f.phi_class) for f in merged([third, second, first])] == [(0, 25, mrn), (25, 26, ssn)]


def test_a_piece_of_an_outline_that_no_text_could_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="small letter"):
        outline("9-9", "A9a")


def test_the_check_digit_of_a_provider_identifier_counts() -> None:
    assert is_npi("1234567893")
    assert not is_npi("1234567894")


@pytest.mark.parametrize(
    "text",
    [
        "1" * 32000,
        "1-" * 16000,
        "MRN:" + " " * 31990,
        "a@" * 16000,
        "a." * 16000 + "@",
        "123-45-6789 " * 2600,
        "Name: " + "Aa " * 10000,
        "+4 " * 10000,
        "1.1." * 8000,
        "Patient Name: " * 2200,
        "[" * 32000,
    ],
)
def test_no_text_of_the_largest_size_takes_long(text: str) -> None:
    began = time.process_time()
    PatternDetector().find(text)

    assert time.process_time() - began < 1
