"""What tags of DICOM's headers say of people is found as programs print them, and what others say stays."""

import re
import time
from typing import Final

import pytest

from appliance.phi.fieldsdicom import identifiers_in
from tests.support.masked import left_of

_MARKED: Final = re.compile("{{.*?}}")


@pytest.mark.parametrize(
    "marked",
    [
        "(0010,0010) PN [{{zorkquist}}^{{qlpto}}^M]      #  18, 1 PatientName",
        "(0010,0020) LO [{{A9}}]                         #   2, 1 PatientID",
        "(0010,0030) DA [{{19620314}}]                   #   8, 1 PatientBirthDate",
        "(0010, 0010) Patient's Name                      PN: '{{Zorkquist}}^{{Qlpto}}'",
        "(0010, 0020) Patient ID                          LO: '{{918}}'",
        "(0010,0010) Patient's Name                      PN: \"{{O'Zork}}^{{Qlpto}}\"",
        "(0010,1000) Other Patient IDs                   LO: ['{{918}}', '{{A-919}}']",
        "(0008,1050) Performing Physician's Name         PN: [{{Zork}}^{{Bo}}, {{O'Quist}}^{{Qlpto}}]",
        # As DICOMweb and other programs have them.
        '{"00100010": {"vr": "PN", "Value": [{"Alphabetic": "{{QUIST^AL}}"}]}, "00100020": {"Value": ["{{918}}"]} }',
        '{"00101000": {"Value": ["{{A9-1}}", "{{919}}"]}, "00080060": {"Value": ["MR"]}, "00180050": {"Value": [92]} }',
        '<DicomAttribute tag="00100020" keyword="PatientID"><Value number="1">{{918}}</Value></DicomAttribute>',
        '<DicomAttribute tag="00280010" keyword="Rows"><Value number="1">512</Value></DicomAttribute>',
        "PatientName: {{QUIST^AL}}^^\nModality: MR",
        "132: (0010,0010) PN #18 [{{zorkquist}}^{{qlpto}}] PatientName",
        "(0008,0090) PN [{{zorkdoc}}={{quist}}]\n(0008,0050) SH [{{918}}]\n(0018,1000) LO [{{SN-1}}]",
        "(0010,1040) LO [{{5 Zork Road}}]\n(0010,2154) SH [{{5550134\\\\5550135}}]".replace("\\\\", "}}\\{{"),
    ],
)
def test_what_a_tag_says_of_people_is_found(marked: str) -> None:
    text = marked.replace("{{", "").replace("}}", "")

    assert left_of(text) == _MARKED.sub("~", marked)


@pytest.mark.parametrize(
    "text",
    [
        "(0008,0060) CS [MR]\n(0028,0010) US 512\n(0018,0050) DS [918]\n(0010,0040) CS [F ]",
        "(0010,0010) PN (no value available)             #   0, 0 PatientName\n(0008,0060) CS [MR]",
        "(0010,0010) PN []\n(0010,0020) LO [unknown]\n(0010, 0010) Patient's Name  PN: ''",
        "of (0010,0010) and a list [zork], f(0010, 0020)",
    ],
)
def test_what_other_tags_say_and_empty_ones_stay(text: str) -> None:
    assert list(identifiers_in(text)) == []


@pytest.mark.parametrize(
    "piece",
    ["(0010,0010)", "(0010,0010) PN [", "(0010,0010) PN [a^b]\n", "(0010, 0010) x PN: '", "(0010,0010) x PN: [a^b, "],
)
def test_headers_of_any_form_take_time_in_proportion(piece: str) -> None:
    began = time.process_time()
    list(identifiers_in(piece * (100_000 // len(piece))))

    assert time.process_time() - began < 1
