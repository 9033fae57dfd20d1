"""What is found in calls and columns that say what they are handed, and what stays."""

import pytest

from appliance.phi.detect import PatternDetector
from appliance.phi.fieldscalls import identifiers_in


def _found(text: str) -> list[tuple[str, str]]:
    return [(one.phi_class.value, text[one.start : one.end]) for one in identifiers_in(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('patient.setLastName("Quist");\npatient.setMrn( "00918" );', [("name", "Quist"), ("mrn", "00918")]),
        ("patient.setLastName('Quist');\npatient.setMrn('00918');", [("name", "Quist"), ("mrn", "00918")]),
        (
            'Patient.builder()\n  .firstName("Ada").lastName("Quist")\n  .mrn("00918").build();',
            [("name", "Ada"), ("name", "Quist"), ("mrn", "00918")],
        ),
        ('row.put("mrn", "00918"); row.put("last_name", "Quist")', [("mrn", "00918"), ("name", "Quist")]),
        ('patients.findByMrn("00918273")', [("mrn", "00918273")]),
        ("SELECT 'Quist' AS last_name, '00918' as \"mrn\"", [("name", "Quist"), ("mrn", "00918")]),
    ],
)
def test_a_call_says_what_it_is_handed(text: str, expected: list[tuple[str, str]]) -> None:
    assert _found(text) == expected
    assert {text[one.start : one.end] for one in PatternDetector().find(text)} >= {value for _, value in expected}


@pytest.mark.parametrize(
    "text",
    [
        'button.setName("Save it"); logger.info("started"); x.get("name", "default")',
        'drug.setName("Aspirin").setDose("10 mg")',
        'print("Hello World"); report.setTitle("Quist Report")',
        "df.rename('mrn', 'patient_mrn')",
        "element.addClass('patient-name')",
        "SELECT 'active' AS status, count(*) AS patients",
        'os.environ.get("PATIENT_NAME", "none")',
    ],
)
def test_what_names_nobody_stays(text: str) -> None:
    assert not _found(text)


def test_what_stands_far_apart_is_not_of_one_person() -> None:
    assert not _found('a.setGiven("will")' + " " * 500 + 'b.setFamily("gamma")')
