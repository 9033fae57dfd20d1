"""Names that stand in text by themselves, and words that only look so."""

import time

import pytest

from appliance.phi.detect import PatternDetector, WithNames
from appliance.phi.names import NameRecogniser

_NAMES = NameRecogniser()


def _found(text: str) -> list[str]:
    return [text[one.start : one.end] for one in _NAMES.find(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Wife Dolores called.", ["Dolores"]),
        ("Tomasz will drive her home", ["Tomasz"]),
        ("seen by Maria del Carmen Ochoa Ruiz today", ["Maria del Carmen Ochoa Ruiz"]),
        ("NGUYEN, Thi Lan was moved", ["NGUYEN, Thi Lan"]),
        ("O'Neill, Patrick", ["O'Neill, Patrick"]),
        ("with J. R. Okafor at noon", ["J. R. Okafor"]),
        ("talked to Kowalski again", ["Kowalski"]),
        ("Julia and Okonkwo agree", ["Julia", "Okonkwo"]),
        ("her daughter Grace phoned", ["Grace"]),
        ("Will Kowalski asked", ["Will Kowalski"]),
        ("Hope Adeyemi RN", ["Hope Adeyemi"]),
        ("signed Brandl RN", ["Brandl"]),
        ("Jürgen's chart", ["Jürgen's"]),
        ("Jean-Luc came", ["Jean-Luc"]),
        ("ask for Barb at reception", ["Barb"]),
        ("Okonkwo bed 4 moved, Haruki fever 38.9", ["Okonkwo", "Haruki"]),
    ],
)
def test_a_name_is_found_where_nothing_labels_it(text: str, expected: list[str]) -> None:
    assert _found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Parkinson's disease and Hodgkin lymphoma",
        "Foley catheter, Glasgow Coma Scale 15, Babinski negative",
        "Will she be well in May? Grace period ends. Mark the site.",
        "What is the capital of France? The capital of France is Paris.",
        "St. Mary's Hospital, Johns Hopkins University",
        "Lasix 40 mg, Eliquis 5 mg, Keppra 500 mg",
        "The Patient was seen on Monday in Radiology",
        "DIAGNOSIS: ACUTE MI. PLAN: ADMIT",
        "wife and husband",
        "Electronically signed. Initially reported pain, currently lives alone.",
        "XR KNEE PA, Charge RN and Night RN told",
        "returning True cancels it, and does Less to it",
        "",
    ],
)
def test_what_only_looks_like_a_name_is_left_alone(text: str) -> None:
    assert _found(text) == []


def test_both_kinds_are_found_together_and_joined_where_they_overlap() -> None:
    text = "Patient: Dolores Reyes, born 1/2/1980. Dr. Tomasz Zielinski called Julia."
    detector = WithNames(PatternDetector(), _NAMES)

    found = [(one.phi_class.value, text[one.start : one.end]) for one in detector.find(text)]

    assert found == [
        ("name", "Dolores Reyes"),
        ("date", "1/2/1980"),
        ("name", "Tomasz Zielinski"),
        ("name", "Julia"),
    ]


def test_a_name_with_characters_nobody_sees_is_found_whole() -> None:
    text = "with Dol\u200bores today"

    assert _found(text) == ["Dol\u200bores"]


@pytest.mark.parametrize(
    "text", ["Anna " * 6400, "A. " * 10000, "Wife " * 6400, "A" * 32000, "Anna and " * 3500, "a-" * 16000]
)
def test_no_text_of_the_largest_size_takes_long(text: str) -> None:
    began = time.process_time()
    _NAMES.find(text)

    assert time.process_time() - began < 1
