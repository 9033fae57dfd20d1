"""What is found in segments of X12, and what stays."""

import pytest

from appliance.phi.detect import PatternDetector
from appliance.phi.fieldsx12 import identifiers_in


def _found(text: str) -> list[tuple[str, str]]:
    return [(one.phi_class.value, text[one.start : one.end]) for one in identifiers_in(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "NM1*IL*1*QUIST*ADA*M***MI*W123456789~",
            [("name", "QUIST"), ("name", "ADA"), ("name", "M"), ("plan", "W123456789")],
        ),
        (
            "HL*1**20*1~NM1*82*1*VOSS*ILSE****XX*1234567893~",
            [("name", "VOSS"), ("name", "ILSE"), ("licence", "1234567893")],
        ),
        (
            "N3*12 MAIN STREET*APT 4~\nN4*SPRINGFIELD*IL*62704~",
            [("address", "12 MAIN STREET"), ("address", "APT 4"), ("address", "SPRINGFIELD"), ("address", "62704")],
        ),
        ("DMG*D8*19700102*F~", [("date", "19700102")]),
        ("DTP*434*RD8*20260105-20260107~", [("date", "20260105-20260107")]),
        ("REF*SY*123456789~REF*EA*000918~", [("ssn", "123456789"), ("mrn", "000918")]),
        ("PER*IC*ADA QUIST*TE*2125550134*EX*123~", [("name", "ADA QUIST"), ("phone", "2125550134"), ("phone", "123")]),
        ("CLM*PATACCT123*79.3***11:B:1~", [("account", "PATACCT123")]),
        ("SBR*P*18*GRP4455******CI~", [("plan", "GRP4455")]),
        ('data = "NM1*QC*1*QUIST*TOBIAS~"', [("name", "QUIST"), ("name", "TOBIAS")]),
    ],
)
def test_elements_are_what_their_segment_says(text: str, expected: list[tuple[str, str]]) -> None:
    assert _found(text) == expected
    assert {text[one.start : one.end] for one in PatternDetector().find(text)} >= {value for _, value in expected}


@pytest.mark.parametrize(
    "text",
    [
        "NM1*PR*2*BLUE SHIELD*****PI~",
        "NM1*",
        "NM1*IL~",
        "REF*87*004010X098A1~",
        "REF*SY~",
        "PER*IC**~",
        "SV1*HC:99213*40*UN*1***1~",
        "HI*BK:8901*BF:87200~",
        "x = N3*12 + N4*2",
        "LX*1~",
    ],
)
def test_what_names_nobody_stays(text: str) -> None:
    assert not _found(text)
