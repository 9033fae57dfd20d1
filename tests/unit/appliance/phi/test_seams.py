"""Words that were set together without a blank: what is found in them, and where."""

import pytest

from appliance.phi.detect import PatternDetector, shadow_of
from appliance.phi.names import NameRecogniser
from appliance.phi.tokens import mask

_DETECTOR = PatternDetector()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SSN123-45-6789", "SSN[SSN_1]"),
        ("123-45-6789DOB 01/02/1970MRN: 1234567", "[SSN_1]DOB [DATE_1]MRN: [MRN_1]"),
        ("DOB01/02/1970Sex F", "DOB[DATE_1]Sex F"),
        ("seen 1970-01-02by", "seen [DATE_1]by"),
        ("MRN: 123456Name: Ada Quist", "MRN: [MRN_1]Name: [NAME_1]"),
        ("MRN_123456", "MRN_[MRN_1]"),
        ("212-555-0134Fax 212.555.0135Email", "[PHONE_1]Fax [PHONE_2]Email"),
        ("patient_123-45-6789.pdf", "patient_[SSN_1].pdf"),
        ("report_01-02-1970.txt", "report_[DATE_1].txt"),
        ("*_DOB 01/02/1970_*", "*_DOB [DATE_1]_*"),
        ("_Mr. Quist_ was seen", "_Mr. [NAME_1]_ was seen"),
        ("born \u0661\u0662/31/1999in Cairo", "born [DATE_1]in Cairo"),
        ("MRN: 12\u200b34567Name: Ada Quist", "MRN: [MRN_1]Name: [NAME_1]"),
    ],
)
def test_identifiers_are_found_where_no_blank_parts_them(text: str, expected: str) -> None:
    masked = mask([text], _DETECTOR)

    assert masked.texts == (expected,)
    assert masked.tokens.restore(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        "1123-45-67890a",
        "uuid 123e4567-e89b-12d3-a456-426614174000",
        "v1.2.2019a",
        "def _f(x): return _x_",
        'if __name__ == "__main__":',
        "T12L4 and 40mg2x",
        "a_b_c",
    ],
)
def test_what_is_no_identifier_stays(text: str) -> None:
    assert mask([text], _DETECTOR).texts == (text,)


def test_names_are_recognised_within_emphasis() -> None:
    text = "The son, _Tobias Quist_, called."

    assert [text[one.start : one.end] for one in NameRecogniser().find(text)] == ["Tobias Quist"]


def test_a_text_without_seams_is_read_as_it_is() -> None:
    text = "Seen on 01/02/1970, MRN: 1234567, patient_id of 10mg."

    assert shadow_of(text) == (text, None)
