"""Names that are words are found where a field says that it holds a name, and what programs call one is none."""

import json
from typing import Any

import pytest

from appliance.phi.detect import PatternDetector
from appliance.phi.tokens import mask


def _masked(text: str) -> str:
    return mask([text], PatternDetector()).texts[0]


@pytest.mark.parametrize(
    ("fields", "identifiers"),
    [
        ({"name": [{"family": "Park", "given": ["Jordan", "May"]}]}, ["Park", "Jordan", "May"]),
        ({"name": [{"family": "murphy", "given": ["will"]}]}, ["murphy", "will"]),
        ({"name": [{"family": "Row", "given": ["Zork Form"]}]}, ["Row", "Zork Form"]),
        ({"name": {"first": "June", "last": "Ward"}}, ["June", "Ward"]),
        ({"lastName": "Allen", "firstName": "April"}, ["Allen", "April"]),
        ({"patient": {"name": "Will Smith"}}, ["Will Smith"]),
        ({"patient": {"name": "Murphy, June"}}, ["Murphy, June"]),
        ({"patient_name": {"value": "Anna Wood, MD"}}, ["Anna Wood, MD"]),
        ({"subject": {"reference": "Patient/ab", "display": "Georgia Church"}}, ["Georgia Church"]),
        ({"address": {"line": ["The Old Rectory"], "city": "New York"}}, ["The Old Rectory", "New York"]),
        ({"address": {"street": "Old Mill Lane", "city": "Boston"}}, ["Old Mill Lane", "Boston"]),
        ({"address": {"text": "Old Mill Lane, London"}}, ["Old Mill Lane, London"]),
        ({"address": {"city": "Salt Lake City"}}, ["Salt Lake City"]),
    ],
)
def test_names_and_towns_that_are_words_are_found_in_their_fields(fields: Any, identifiers: list[str]) -> None:
    masked = _masked(json.dumps(fields))

    assert [one for one in identifiers if one in masked] == []


def test_names_and_towns_that_are_words_are_found_below_their_headings_and_in_xml() -> None:
    table = "Patient name,City\nJune Ward,Boston\nMurphy,Salt Lake City"
    resource = '<name><family value="Park"/><given value="Will"/></name><name><text value="April Wood"/></name>'

    assert _masked(table) == "Patient name,City\n[NAME_1],[ADDRESS_1]\n[NAME_2],[ADDRESS_2]"
    assert "Park" not in _masked(resource)
    assert '"Will"' not in _masked(resource)
    assert "April" not in _masked(resource)


@pytest.mark.parametrize(
    "text",
    [
        "self.first_name = first_name\nself.last_name = last_name\nreturn first_name",
        'first_name = request.form["first_name"]\nreturn request',
        "const u = { firstName: req.body.firstName, lastName: user.lastName };\nreq.send(user)",
        '"first_name": first_name, "last_name": data["last_name"]',
        'patient = {"name": row["full_name"], "contact": {"name": contact_name}}',
        "const { patient: { name, mrn }, contact: { name: contactName } } = props;",
        '{"members": [{"name": "getPatient"}, {"name": "id"}], "subscriber": {"name": "billing-service"}}',
        '{"patient": {"name": "{{patient.name}}"}, "contact": {"name": "API Support"}}',
        '{"label": "First name", "text": "Enter first name"}',
        "address: { street: String, city: data.city, zip: Number }",
        '{"address": {"street": "Street", "city": "City", "line1": "Address line 1"}}',
        "class Person(val name: String, val age: Int) { fun show(): String }",
        "type Person struct { name: Name } name: Optional[str] = None",
        "- name: Install packages\n  apt:\n    name: nginx\n- name: Build\n  run: make\nBuild and Install",
        "Forename:\nDate of birth\nVorname:\nRoom\n",
        "| Patient name | Room |\n|---|---|\n| unknown | 13 |",
        "Next of kin:\n  wife, aware\n\nThe wife was aware.",
        '{"next_of_kin": ["daughter"], "note": "his daughter came"}',
    ],
)
def test_words_of_programs_forms_firms_and_kin_stay(text: str) -> None:
    assert _masked(text) == text


def test_a_name_above_other_lines_is_found() -> None:
    assert "Zork" not in _masked(
        "- name: Zork Quist\n  mrn: 12345678\n- name: Zork Quist\n  run: 12\nname: Zork Quist\nrun: on the ward"
    )


@pytest.mark.parametrize(
    "name",
    [
        "deBoer",
        "McDonald",
        "st.john",
        "smith_john",
        "A. Body",
        "Quist; Al",
        "Anna (Ann) Quist",
        'anna "annie" quist',
        "Abe604 Frami345",
    ],
)
def test_names_that_are_written_as_a_program_would_are_found(name: str) -> None:
    assert json.loads(_masked(json.dumps({"patient": {"name": name}}))) == {"patient": {"name": "[NAME_1]"}}
