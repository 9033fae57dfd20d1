"""What else identifies a person by 45 CFR 164.514(b)(2)(i), and what looks like it and is nobody's."""

import time
from typing import Any

import pytest

from appliance.phi.detect import PatternDetector
from appliance.phi.safeharbor import is_card, is_iban, is_prescriber, is_vin


def _found(text: str) -> list[tuple[str, str]]:
    return [(one.phi_class.value, text[one.start : one.end]) for one in PatternDetector().find(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lives at 12 Elm Street, Springfield, IL 62704.", [("address", "12 Elm Street, Springfield, IL 62704")]),
        ("to 4410 NW 23rd Ave, Apt 5B now", [("address", "4410 NW 23rd Ave, Apt 5B")]),
        ("wohnt Lindenstraße 8, 10969 Berlin", [("address", "Lindenstraße 8, 10969 Berlin")]),
        ("au 14 rue de la Paix, 75002 Paris", [("address", "14 rue de la Paix, 75002 Paris")]),
        ("en Calle de Alcalá 45", [("address", "Calle de Alcalá 45")]),
        ("SW1A 2AA", [("address", "SW1A 2AA")]),
        ("au 06 12 34 56 78 ou 01.43.55.67.89.", [("phone", "06 12 34 56 78"), ("phone", "01.43.55.67.89")]),
        ("cell. 347 1234567, ore 9", [("phone", "347 1234567")]),
        ("P.O. Box 1180", [("address", "P.O. Box 1180")]),
        ("Springfield, IL 62704", [("address", "Springfield, IL 62704")]),
        ("the 94-year-old", [("age", "94")]),
        ("aged 101.", [("age", "101")]),
        ("seen 3/14/24 and 14.03.24", [("date", "3/14/24"), ("date", "14.03.24")]),
        ("born 14-Mar-1961", [("date", "14-Mar-1961")]),
        ("back on March 14th", [("date", "March 14th")]),
        ("on the 5th of May", [("date", "5th of May")]),
        ("PID 19610314 F", [("date", "19610314")]),
        ("admitted 3/14 with", [("date", "3/14")]),
        ("fax: 5550142", [("phone", "5550142")]),
        ("call her at 555-0142", [("phone", "555-0142")]),
        ("020 7946 0958", [("phone", "020 7946 0958")]),
        (
            "see https://portal.example.org/patient/4711?x=1.",
            [("url", "https://portal.example.org/patient/4711?x=1")],
        ),
        ("accession no. S24-10233", [("mrn", "S24-10233")]),
        ("visit number 88120934", [("mrn", "88120934")]),
        ("IBAN DE89 3704 0044 0532 0130 00", [("account", "DE89 3704 0044 0532 0130 00")]),
        ("paid by 4111 1111 1111 1111", [("account", "4111 1111 1111 1111")]),
        ("Member ID: XJ-4471902", [("plan", "XJ-4471902")]),
        ("NHS number 943 176 5919", [("plan", "943 176 5919")]),
        ("DEA AB1234563", [("licence", "AB1234563")]),
        ("driver's license no. D400-7836", [("licence", "D400-7836")]),
        ("VIN 1HGCM82633A004352", [("vehicle", "1HGCM82633A004352")]),
        ("plate 7ABC123", [("vehicle", "7ABC123")]),
        ("serial number PJN-204417", [("device", "PJN-204417")]),
        ("UDI (01)00844588003288(17)261231(21)A213B1", [("device", "(01)00844588003288(17)261231(21)A213B1")]),
        ("from 2001:db8::17", [("ip", "2001:db8::17")]),
        ("SSN ending in 6789", [("ssn", "6789")]),
    ],
)
def test_an_identifier_is_found_in_its_usual_spellings(text: str, expected: Any) -> None:
    assert _found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "BP 120/80, pulse 72, temp 37.2, pain 5/10",
        "doses of 02 10 10 10 10 10 ml, version 01.02.03.04.05.06",
        "take 500-1000 mg every 6 hours; Plan: 1000 mg at night",
        "ICD-10 E11.9, CPT 99213, page 3 of 12",
        "version 4.2.0.1 of the software, build 2024",
        "aged 89; a 45-year-old",
        "sodium 140, potassium 4.1, WBC 11.2, ratio 1:128",
        "in May she was well, and in 2019",
        "12 hours, 3 days, 14 beds in ward 12",
        "card 4111 1111 1111 1112 fails its check",
        "1HGCM82633A004353 fails its check",
        "group 1, case 2, plan 3",
        "https://www.who.int/guidelines/sepsis and https://example.org",
        "GCS 14/15, MMSE 24/30, VA 6/9, power 4/5, 1/2 tablet",
        "a photograph, CC BY-SA 3.0; batch 16-32 of the run",
        "the road was long; in street clothes; King County Hospital",
        "at 10:45 and 2:30",
    ],
)
def test_what_looks_like_one_is_left_alone(text: str) -> None:
    assert [one for one in _found(text) if one[0] != "mrn"] == []


@pytest.mark.parametrize(
    "text",
    [
        # A month with its year, days without one, and spans of days.
        *("March 2023", "Sept. 2019", "march of 2023", "mar 2023", "02/2024", "2023-11", "Feb-24", "July '76"),
        *("14-16 March 2023", "March 14th through 16th", "14MAR2023", "14MAR23", "Fourteenth March", "Mar-14-2023"),
        *("2023.03.14", "14. 3. 2023", "03142023", "07/02", "14.03.", "Q3 2023", "2023-W12", "fall of 2022"),
        *("Christmas Day 2021", "M\u00e4rz 2023"),
        # Where somebody lives, without a number or with a code.
        *("14 Station Parade", "Maple Street", "Salem, Oregon", "Rural Route 2, Box 88", "Orange County"),
        *("The Old Forge, 2 Mill Lane, Ludlow SY8 1DX", "An der Alten M\u00fchle 7, 50667 K\u00f6ln", "02139-4307"),
        *("Storgatan 5, 111 22 Stockholm", "12 George St, Parramatta NSW 2150", "42.3601, -71.0589"),
        # Plates that look like nothing else.
        *("AB19 KTP", "AB-123-CD", "M-AB 1234", "7KLM 219", "CQT-48H", "MH 12 AB 1234"),
        *("https://pictures.example.org/case/jd-17", "https://jd:secret@example.org/a", "http://[2001:db8::17]/jd"),
        *("https://who.int.example.org/jd", "https://patient-jd.example.org", "https://example.org?jd"),
    ],
)
def test_an_identifier_without_a_word_before_it_is_found_whole(text: str) -> None:
    before, after = "Seen, she says, ", " as told."

    found = _found(before + text + after)

    assert [one for _, one in found] == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f/u 3/14", "3/14"),
        ("Admit 3/14", "3/14"),
        ("3/14 @ 10", "3/14"),
        ("3/14 at 10:15", "3/14"),
        ("3/14: afebrile", "3/14"),
        ("Monday the 14th", "the 14th"),
        ("Tues 3/14", "3/14"),
        ("from 3/14 to 3/16", "3/14 to 3/16"),
        ("DOB 030461", "030461"),
        ("since Thanksgiving", "Thanksgiving"),
        ("lives at 14 The Laurels, Bampton with", "14 The Laurels, Bampton"),
        ("ninety-three years old", "ninety-three"),
        ("93 a\u00f1os", "93"),
        ("Anthem W2284 61093", "W2284 61093"),
        ("number 4000817266", "4000817266"),
    ],
)
def test_a_word_before_or_behind_says_what_it_is(text: str, expected: str) -> None:
    assert [one for _, one in _found(text)] == [expected]


@pytest.mark.parametrize(
    ("check", "valid", "wrong"),
    [
        (is_iban, "DE89370400440532013000", "DE88370400440532013000"),
        (is_card, "5500 0000 0000 0004", "5500 0000 0000 0005"),
        (is_vin, "1M8GDM9AXKP042788", "1M8GDM9A1KP042788"),
        (is_prescriber, "AB1234563", "AB1234564"),
    ],
)
def test_check_digits_count(check: Any, valid: str, wrong: str) -> None:
    assert check(valid)
    assert not check(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "1 " * 16000,
        "12 Aaa " * 4500,
        "1" * 32000,
        "a-" * 16000 + "1",
        "MRN " * 8000,
        "4 March " * 4000,
        "https://" + "a" * 31990,
        "0:" * 16000,
        "1234 " * 6400,
        "phone " * 5300,
        "A1" * 16000,
        "MRN 12345-" * 3200,
        "Aaa " * 7990 + "9 SW1A 1AA",
        "Aaa, " * 6390 + "IL 62704",
        "12 Aaa, " * 3990 + "80331 Aa",
        "lives at 1 Aaa " * 2130,
        "March 14-" * 3550,
        "14 March-" * 3550,
        "AA-" * 10660 + "AA99 AAA",
        "https://a.b/" * 2660,
    ],
)
def test_no_text_of_the_largest_size_takes_long(text: str) -> None:
    began = time.process_time()
    PatternDetector().find(text)

    assert time.process_time() - began < 1
