"""What fields within fields say of people is found, in JSON and YAML, and what they say of anything else stays."""

import json
import re
import time
from typing import Any, Final

import pytest

from appliance.phi.detect import PatternDetector
from appliance.phi.tokens import mask
from tests.support.masked import left_of

_INDENTS: Final = pytest.mark.parametrize("form", [{}, {"indent": 2}, {"indent": 4}, {"separators": (",", ":")}])


def _classes(text: str) -> list[str]:
    return [one.phi_class.value for one in PatternDetector().find(text)]


_QUIST = [{"use": "official", "family": "Zorkquist", "given": ["qlpto", "Wurmbx", "Ezzra", "Drolm"]}]

FHIR: Any = [
    ({"identifier": [{"type": {"text": "MRN"}, "value": "AB-12"}]}, ["AB-12"]),
    ({"identifier": [{"system": "urn:oid:1.2.36:mrn", "value": "0091827"}]}, ["0091827"]),
    ({"identifier": [{"system": "https://x.org/Id/nhs-number", "value": "943 476 5919"}]}, ["943 476 5919"]),
    ({"resourceType": "Patient", "name": _QUIST}, ["Zorkquist", "qlpto", "Wurmbx", "Ezzra", "Drolm"]),
    ({"name": [{"text": "qlpto zorkquist"}], "resourceType": "Patient"}, ["qlpto zorkquist"]),
    ({"contact": [{"name": {"text": "qlpto quist"}, "gender": "female"}]}, ["qlpto quist"]),
    ({"telecom": [{"system": "phone", "value": "+33 (237) 998327"}]}, ["+33 (237) 998327"]),
    ({"telecom": [{"system": "phone", "value": "(03) 5555 6473", "rank": 1}]}, ["(03) 5555 6473"]),
    (
        {"address": [{"line": ["5 Erewhon St", "Zork"], "city": "Rainbow", "state": "Vic", "postalCode": "3999"}]},
        ["5 Erewhon St", "Zork", "Rainbow", "3999"],
    ),
    ({"subject": {"reference": "Patient/ab", "display": "qlpto quist"}}, ["qlpto quist"]),
    ({"performer": [{"reference": "http://x/Practitioner/f5", "display": "A. Lang"}]}, ["A. Lang"]),
    ({"subject": {"reference": "urn:uuid:ab", "display": "qlpto quist"}}, ["qlpto quist"]),
    ({"performer": [{"display": "Quist, A"}], "author": [{"display": "qlpto quist"}]}, ["Quist, A", "qlpto quist"]),
    ({"text": "First name", "answer": [{"valueString": "qlpto"}]}, ["qlpto"]),
]


@_INDENTS
@pytest.mark.parametrize(("resource", "identifiers"), FHIR)
def test_what_fhir_says_of_people_is_found_however_it_is_indented(
    resource: Any, identifiers: list[str], form: Any
) -> None:
    text = json.dumps({"entry": [{"resource": resource}]}, **form)

    left = left_of(f"Summarise:\n{text}\nBP 120/80")

    assert [one for one in identifiers if f'"{one}"' in left] == []
    assert left.count('"~"') >= len(identifiers)


@_INDENTS
@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"mrn": {"value": "0091827"}}, {"mrn": {"value": "~"}}),
        ({"a": [{"MRN": {"value": "AB-12", "use": "old"}}]}, {"a": [{"MRN": {"value": "~", "use": "old"}}]}),
        ({"mrns": ["0091827", "0091828"], "n": 2}, {"mrns": ["~", "~"], "n": 2}),
        ({"ssn": {"value": "418629037"}}, {"ssn": {"value": "~"}}),
        ({"ssn": {"last4": "9037"}}, {"ssn": {"last4": "~"}}),
        ({"dateOfBirth": {"value": "14.3.62"}}, {"dateOfBirth": {"value": "~"}}),
        ({"phone": {"home": "5550134", "note": "rings 12345"}}, {"phone": {"home": "~", "note": "rings 12345"}}),
        ({"patientName": {"value": "zork quist"}}, {"patientName": {"value": "~"}}),
        ({"name": {"first": "zork", "last": "quist"}}, {"name": {"first": "~", "last": "~"}}),
        ({"patient": {"name": "zork quist", "sex": "f"}}, {"patient": {"name": "~", "sex": "f"}}),
        ({"next_of_kin": {"name": "zork quist", "is": "wife"}}, {"next_of_kin": {"name": "~", "is": "wife"}}),
        ({"address": {"street": "Lorne", "city": "Dun"}}, {"address": {"street": "~", "city": "~"}}),
        ({"accountNumber": {"value": "99182"}}, {"accountNumber": {"value": "~"}}),
        ({"serial_number": {"value": "99182"}}, {"serial_number": {"value": "~"}}),
        ({"licenseNumber": [{"value": "A-182"}]}, {"licenseNumber": [{"value": "~"}]}),
        ({"identifier": {"value": {"@value": "AB-12"}}}, {"identifier": {"value": {"@value": "~"}}}),
        ({"mrn": {"0": "AB-12", "1": "AB-13"}, "hb": {"0": 13.2}}, {"mrn": {"0": "~", "1": "~"}, "hb": {"0": 13.2}}),
        ({"mrn": ["MRN_12345", "12345?", "[12345]"]}, {"mrn": ["~", "~", "~"]}),
        (
            {"address": {"city": "zork.town", "line": ["Village", "Flat 2: Zork & Co $"]}},
            {"address": {"city": "~", "line": ["~", "~"]}},
        ),
        ({"PATIENT_MRN": "AB-12", "ptMrns": ["AB-13"]}, {"PATIENT_MRN": "~", "ptMrns": ["~"]}),
        ({"attending": {"name": "al zork", "site": "b"}}, {"attending": {"name": "~", "site": "b"}}),
        ({"f": [{"key": "MRN", "value": "0091827"}]}, {"f": [{"key": "MRN", "value": "~"}]}),
        ({"name": "zork quist", "mrn": "AB-12"}, {"name": "~", "mrn": "~"}),
        ([{"name": "zork", "age": 44, "sex": "f"}], [{"name": "~", "age": 44, "sex": "f"}]),
        ({"dob": "14.3", "name": {"text": "zork"}}, {"dob": "~", "name": {"text": "~"}}),
        ({"patientInfo": {"name": "zork quist"}}, {"patientInfo": {"name": "~"}}),
        ({"new_patients": [{"name": "zork quist"}]}, {"new_patients": [{"name": "~"}]}),
        ({"contact": {"name": "zork quist", "is": "wife"}}, {"contact": {"name": "~", "is": "wife"}}),
        ({"f": [{"label": "Last name", "value": "quist"}]}, {"f": [{"label": "Last name", "value": "~"}]}),
        ({"mrn": "918", "given": "zork", "surname": "quist"}, {"mrn": "~", "given": "~", "surname": "~"}),
        ({"sex": "f", "firstName": "zork", "last": "quist"}, {"sex": "f", "firstName": "~", "last": "~"}),
    ],
)
def test_a_label_counts_for_what_lies_below_it(fields: Any, left: Any, form: Any) -> None:
    assert json.loads(left_of(json.dumps(fields, **form))) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("see {'mrn': {'value': '0091827', 'by': None}}.", "see {'mrn': {'value': '~', 'by': None}}."),
        ("{mrn: {value: 0091827}}", "{mrn: {value: ~}}"),
        ('{"lname": "quistel", "fname": "zork", "hb": 13}', '{"lname": "~", "fname": "~", "hb": 13}'),
        ('{"pt_id": "918", "PAT_LAST_NAME": "quistel"}', '{"pt_id": "~", "PAT_LAST_NAME": "~"}'),
        ('{"mrn": {"value": 918273}, "dose": {"value": 5000}}', '{"mrn": {"value": ~}, "dose": {"value": 5000}}'),
        ('the set {a, b} and\n{"mrn": {"value": "AB-12"}}', 'the set {a, b} and\n{"mrn": {"value": "~"}}'),
        ('{ was never closed by whoever wrote this text {"mrn":{"value":"AB-12"}}', None),
        ('{"mrn": {"value": "AB-12"', '{"mrn": {"value": "~"'),
        ('{"mrn": {"value": "AB-12', '{"mrn": {"value": "~'),
        ('{"mrn": {"value": "AB-12"}, /* c */ "ssn": ["41862", ...]}', None),
        ('{"mrn":' * 100 + '{"value":"AB-12"}', '{"mrn":' * 100 + '{"value":"~"}'),
        ('"identifier": [{"value": "AB-12"}], "n": 1', None),
        ("Patient { name: 'AB-12', id: 5 }", None),
        ('&Patient{Name:"AB-12", Hb: 13}', None),
        ('{"mrn"=>{"value"=>"AB-12"}}', None),
        ("$p = ['mrn' => 'AB-12', 'hb' => 'AB-13'];", None),
        ('patient {\n  mrn: "AB-12"\n  hb: "AB-13"\n}', None),
        ("if (x) { p.hb = 13; mrn = 'AB-12'; go(); }", None),
        ('{"address": ["12 High St", "AB-12", "41862"]}', '{"address": ["~", "~", "~"]}'),
        ('{"note": "a 6" tube", "mrn": {"value": "AB-12"}}', None),
        ('{"sep": ",", "mrn": {"value": "AB-12"}, "open": "{"}', None),
        ('{"patient": {"name": "anna "annie" quist"}}', '{"patient": {"name": "~"}}'),
        ("function f() { return {'mrn': {'value': 'AB-12'}}; }", None),
        ('a tube {6" long}\n{"mrn": {"value": "AB-12"}}', None),
        ('a tube [6" long] was put in\n\n  {\n  "mrn": {\n  "value": "AB-12"}}', None),
        ('{"note": "one\ntwo", "mrn": {"value": "AB-12"}}', None),
        ('"identifier": ["system": "urn:x:2", "value": "AB-12"]', None),
        ("const patient = { name: 'AB Quist' };", "const patient = { name: '~' };"),
        ("mrn: [AB-12, 'AB-13']", "mrn: [~, '~']"),
        ("{name: {first: anna maria, last: zork}}", "{name: {first: ~, last: ~}}"),
        ("{phone: {home: +1 (555) 555-0134, rank: 1}}", "{phone: {home: ~, rank: 1}}"),
        ("[('Al', datetime.date(1962, 3, 14), 3)]", "[('Al', datetime.date(~), 3)]"),
    ],
)
def test_other_ways_of_writing_and_what_is_cut_off_hide_nothing(text: str, left: str | None) -> None:
    wanted = left or text.replace("AB-12", "~").replace("41862", "~")

    assert left_of(text) == wanted


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"mrn": "AB-12", "n": "AB-13"}', '{"mrn": "~", "n": "AB-13"}'),
        ('{"patientId": 918, "dose": 918}', '{"patientId": ~, "dose": 918}'),
        ('{"mrn": "a12", "surname": "zork.quist"}', '{"mrn": "~", "surname": "~"}'),
        ('{"dob": "14.3", "next_of_kin": "zork quist"}', '{"dob": "~", "next_of_kin": "~"}'),
        (
            '{"next_of_kin": "wife zork quist", "emergency_contact": "Wife May"}',
            '{"next_of_kin": "~", "emergency_contact": "~"}',
        ),
        ('{"address": "12 Zork Parade, Dun"}', '{"address": "~"}'),
        ("patient:\n  mrn: AB-12\n  hb: AB-12", "patient:\n  mrn: ~\n  hb: AB-12"),
    ],
)
def test_a_label_that_is_of_people_alone_counts_for_what_stands_right_behind_it(text: str, left: str) -> None:
    assert left_of(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "{ mrn: row1, phone: phone1, dob: req.dob2 }",
        '{"phone": "^\\+?[1-9]\\d{1,14}$", "mrn": "MRN-{0:06d}", "dob": "%d.%m.%Y"}',
        '{"first_name": "required|string|max:255", "phone": "required|min:10|max:15000"}',
        '{"desktop": 120000, "mobile": 95000, "address": "Main memory", "street": "Street"}',
        "const pages = [12345, 678910]; names: [aspirin, metformin]",
        "Allergies: [none]\nPhone: [redacted]\nBP: [120/80]",
    ],
)
def test_what_programs_have_in_such_fields_stays(text: str) -> None:
    assert left_of(text) == text


@pytest.mark.parametrize(
    "text",
    [
        '{"mrn": {"value": "[MRN_1]"}}',
        '{"mrn": [[MRN_1], "[MRN_2]"], "n": [1]}',
        "MRN: [MRN_1]",
        "mrn: [[MRN_1], [MRN_2]]",
        "patient:\n  mrns: [[MRN_1], [MRN_2]]\n  phone: [PHONE_12345]\n",
    ],
)
def test_what_was_masked_before_is_found_no_more(text: str) -> None:
    assert left_of(text) == text


@_INDENTS
@pytest.mark.parametrize(
    "fields",
    [
        {"code": {"coding": [{"system": "http://loinc.org", "code": "718-7", "display": "Hemoglobin"}]}},
        {"resourceType": "Observation", "id": "bp1", "valueQuantity": {"value": 120, "unit": "mm[Hg]"}},
        {"identifier": [{"use": "usual", "type": {"coding": [{"code": "MR"}]}, "assigner": {"display": "Acme"}}]},
        {"identifier": [{"value": "0"}], "component": [{"valueQuantity": {"value": 120.5}}]},
        {"referenceRange": [{"low": {"value": 3.1}, "high": {"value": 6200}}], "valueString": "1200"},
        {"performer": [{"display": "Acme Hospital"}], "subject": {"coding": [{"display": "Zorkol", "code": "1"}]}},
        {"bp": {"value": "120/80"}, "glucose": {"value": "5121"}, "dose": {"value": 1500, "unit": "mg"}},
        {"medication": {"name": {"text": "zorkol"}}, "name": {"value": "glucose"}},
        {"medication": {"reference": "Medication/ab", "display": "zorkol 40"}},
        {"fields": [{"key": "BP", "value": "120/80"}, {"name": "glucose", "value": "5121"}]},
        {"type": "object", "properties": {"mrn": {"type": "string", "minLength": 1000}, "name": {"type": "string"}}},
        {"patient": {"name": "string"}, "mrn": {"value": None, "text": "unknown"}},
        {"telecom": [{"system": "phone", "use": "home", "rank": 1, "value": None}]},
        {"name": [{"family": "unknown", "given": ["not given"]}]},
        {"name": "zorkol", "sex": "f", "dose": 500},
        {"orders": [{"name": "zorkol", "mrn": None}]},
        {"properties": {"mrn": {"type": "string"}, "name": {"type": "string"}, "dob": {"type": "string"}}},
        {"info": {"title": "Orders", "version": "1", "contact": {"name": "the squad", "email": "x"}}},
        {"contact": {"name": "the squad", "url": "acme.org"}},
        {"patient_orders": {"name": "zorkol"}, "list": {"name": "zorkol"}},
    ],
)
def test_codes_results_doses_and_forms_without_anybody_stay(fields: Any, form: Any) -> None:
    text = json.dumps(fields, **form)

    assert left_of(text) == text


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("mrn:\n  - 0091827\n  - 0091828\ndose: 500", "mrn:\n  - ~\n  - ~\ndose: 500"),
        ('mrn:\n- "AB-12"\n- 918\nhb:\n- 1342', 'mrn:\n- "~"\n- ~\nhb:\n- 1342'),
        ("mrn:\n  value: AB-12 # old\n  by: x\n", "mrn:\n  value: ~ # old\n  by: x\n"),
        ("  mrn:\n    value: AB-12\n  value: AB-12", "  mrn:\n    value: ~\n  value: AB-12"),
        ("phone:\n  home: 5550134\n  note: 12345", "phone:\n  home: ~\n  note: 12345"),
        ("patient:\n  name: zork quist\n  age: 44", "patient:\n  name: ~\n  age: 44"),
        ("name:\n  first: zork\n  last: quist\nhb: 13", "name:\n  first: ~\n  last: ~\nhb: 13"),
        ("address:\n  street: Lorne\n  city: Dun\n", "address:\n  street: ~\n  city: ~\n"),
        ("address: |\n  Lorne Parade 5\n  Dun End\nhb: 13", "address: |\n  ~\n  ~\nhb: 13"),
        (
            "identifier:\n  - use: usual\n    type:\n      text: MR\n    value: AB-12\n\n  - value: AB-13\nid: AB-14",
            "identifier:\n  - use: usual\n    type:\n      text: MR\n    value: ~\n\n  - value: ~\nid: AB-14",
        ),
        ("name:\n- family: zork\n  given: [qlpto, wurm]\n", "name:\n- family: ~\n  given: [~, ~]\n"),
        ("a:\n  - telecom:\n      - value: (03) 5555 6473\n    n: 1", "a:\n  - telecom:\n      - value: ~\n    n: 1"),
        ("mrn: # of both\n  - 0091827\n  - 918\nhb: 13", "mrn: # of both\n  - ~\n  - ~\nhb: 13"),
        ("mrn: &both\n  - AB-12\nphone: !!map\n  home: 5550134", "mrn: &both\n  - ~\nphone: !!map\n  home: ~"),
        ("address: >+\n  Lorne Parade 5\n", "address: >+\n  ~\n"),
        ("first_names:\n  - zork\n  - quist\n\nSeen in pain", "first_names:\n  - ~\n  - ~\n\nSeen in pain"),
    ],
)
def test_a_label_counts_for_what_is_indented_below_it(text: str, left: str, end: str) -> None:
    assert left_of(text.replace("\n", end)) == left.replace("\n", end)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("resourceType: Patient\nid: ab\nname:\n  - text: zork quist", None),
        ("# a\nid: ab\nname:\n- family: zork\nresourceType: Patient\nhb: AB-12\n\nname: nginx", None),
        ("- mrn: 918\n  name: zork\n- name: quist\n  mrn: 918\n  hb: AB-12\nhb: AB-12", None),
        ("see:\n  - hb: 5\n    name: zork\n    mrn: 918\n    hb:\n      - AB-12\n  - mrn: 918\nhb:\n- AB-12", None),
        ("name: zork\nMRN: 918\nWard: AB-12\n\nname: nginx", None),
        ("mrn: '918' # x\nname: \"zork\"\nhb: AB-12", None),
        ("Sex: F\nName: zork quist\nseen in pain\nname: nginx", None),
        ("    hb: AB-12\n  mrn: 918\nMRN: 918", None),
        ("date_of_birth: 918 as told\nname: zork\n", "date_of_birth: 918 as told\nname: ~\n"),
        (
            "DOB: 14.3\nAttending: Dr. Al Zork\nSurgeon: Prof. Dr. med. Al Quist",
            "DOB: ~\nAttending: Dr. ~\nSurgeon: Prof. Dr. med. ~",
        ),
        ("dob: 14.3\nname: zork\nphone: 5550134 and 918 rang", "dob: ~\nname: ~\nphone: ~ and 918 rang"),
    ],
)
def test_a_field_says_whose_the_lines_beside_it_are(text: str, left: str | None, end: str) -> None:
    wanted = left or re.sub("918|zork quist|zork|quist", "~", text)

    assert left_of(text.replace("\n", end)) == wanted.replace("\n", end)


@pytest.mark.parametrize(
    "text",
    [
        "vitals:\n  - value: 120\n  - 1200\nbp:\n  value: 120/80\nglucose:\n  value: 5121\n  code: 718-7\n",
        "Medications:\n- aspirin 81 mg\n- metformin 1000 mg\nBP: 120/80",
        "name:\n  - aspirin\n  - metformin\ndose:\n  value: 1000",
        "name:\n  value: glucose\n",
        "identifier:\n  system: urn:x\n  use: usual\nvalueQuantity:\n  value: 1200\n",
        "Sex: F\nGiven: Zorkol\nLast: Zorkol\nLine: left\n",
        "Patient:\n  Sex: F\n  Allergies: none\nNext of kin:\n Relation to patient: wife",
        "Patient:\n  in pain since noon, BP 120/80, refuses 1000 mg\n",
        "Phone:\n  rang back at noon and said that pain is 8 of 10, then 7, then 5, 4, 3\n",
        "Next of kin:\n  wife knows of it and will come by with his things after lunch\n",
        "MRN:\nBP 120/80\nHb 13.2",
        "Next of kin:\n  daughter lives nearby\n",
        "info:\n  version: 1\n  contact:\n    name: the squad\n    email: x\n",
        "info:\n  contact:\n    name: Squad\n    url: acme.org\n  license:\n    name: Apache 2.0\n    url: acme.org\n",
        "- name: DB_HOST\n  value: x\n",
        "patient = Patient(name)",
        "class Person { name: Name } Person { name: input.Title, street: Street }",
        "mrn:\n\n\nvalue: 1342",
        "gender: female\ndrug: x\nname: zorkol",
        "mrn: n/a\nname: zork,\n",
        "mrn: n/a\nname: see chart\ndob: unknown",
        "---\nmrn: unknown\n---\nname: zork\n",
    ],
)
def test_lists_of_a_note_and_results_stay(text: str) -> None:
    assert left_of(text) == text


def test_telephones_and_addresses_of_fhir_as_xml_are_found() -> None:
    text = '<telecom>\n <use value="home"/>\n <value value="+33 (237) 998327"/>\n</telecom>\n<value value="12000"/>'
    where = '<address><line value="5 Zork"/><city value="Dun"/><state value="Vic"/><postalCode value="3999"/></address>'

    assert left_of(text) == text.replace("+33 (237) 998327", "~")
    assert left_of(where) == where.replace("5 Zork", "~").replace("Dun", "~").replace("3999", "~")


def test_names_of_fhir_as_xml_that_are_told_as_a_whole_are_found_and_others_stay() -> None:
    name = '<name>\n  <use value="official"/>\n  <text value="qlpto zorkquist"/>\n</name>\n<text value="Zorkol"/>'
    subject = '<reference value="Patient/ab"/>\n <display value="qlpto quist"/>'
    drug = '<reference value="Medication/ab"/><display value="zorkol 40"/><name value="zorkol"/>'

    assert left_of(name) == name.replace("qlpto zorkquist", "~")
    assert left_of(subject) == subject.replace("qlpto quist", "~")
    assert left_of(drug) == drug


def test_trees_that_are_text_in_other_trees_are_read_and_come_back() -> None:
    inner = json.dumps({"identifier": [{"value": "AB-12"}], "note": 'said "no" to Zork\u00fc'})
    text = json.dumps({"tool": inner})

    masked = mask([text, json.dumps(text)], PatternDetector())

    assert [one for one in masked.texts if "AB-12" in one] == []
    assert masked.tokens.restore(masked.texts[0]) == text


def test_the_class_is_that_of_the_label_and_the_documents_patterns_come_first() -> None:
    assert _classes('{"telecom": [{"system": "phone", "value": "5550134567"}]}') == ["phone"]
    assert _classes('{"telecom": [{"system": "email", "value": "a12345@x.org"}]}') == ["email"]
    assert _classes('{"identifier": [{"value": "418-62-9037"}]}') == ["ssn"]


@pytest.mark.parametrize(
    "text",
    [
        "{" * 32000,
        "[{" * 16000,
        '{"mrn":' * 4500,
        '{"' * 16000,
        '{"\\"' + '\\"' * 16000,
        "{'" * 16000,
        '{"mrn":[' + "1," * 16000,
        '{"key":"mrn",' * 2400,
        "{a " * 10600,
        "{}" * 16000,
        '{"mrn":{"value":"AB-12"}}' * 1280,
        '"mrn": {}' * 3500,
        "{" + 'a"b"' * 7990,
        '{"' + "\n" * 31990,
        '{"' + "\n\\" * 15990,
        "{a: a(b(c d, " * 2400,
        "mrn:\n" * 6400,
        "mrn:\n- 123\n" * 2900,
        "".join(" " * at + "mrn:\n" for at in range(245)),
        "mrn:\n" + "- - mrn:\n" * 3500,
        "sex: f\n" + "a:\n" * 10600,
        "mrn: 1\n" * 4500,
        "  mrn: 1\n a: 2\n" * 2200,
        "sex: " + "1" * 31990,
        "".join(" " * (at % 80) + "mrn: 1\n" for at in range(700)),
        "<telecom " * 3500,
        "<name>" * 5300,
        '<reference value="' * 1700 + "/Patient/" * 100,
    ],
)
def test_no_text_of_the_largest_size_takes_long(text: str) -> None:
    began = time.process_time()
    PatternDetector().find(text)

    assert time.process_time() - began < 1
