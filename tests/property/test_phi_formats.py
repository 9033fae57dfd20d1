"""Whoever stands in a form that programs and interfaces write is hidden, and the text comes back byte for byte."""

import json
from collections.abc import Callable
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from appliance.phi import escapes
from appliance.phi.detect import PatternDetector
from appliance.phi.tokens import mask

_DETECTOR = PatternDetector()
_HANDED_IN: Final = 'x("INSERT INTO patients (first_name, last_name, mrn) VALUES (?, ?, ?)",\n  '
# Of letters that make no word of any list.
_word = st.text("qxzkw", min_size=4, max_size=8)
_number = st.text("123456789", min_size=3, max_size=5).map("8{}7".format)
_other = st.sampled_from(["", "\n", "see:\n", "caf\u00e9 \u200b\n", "[NAME_1] \\ [MRN_2]\n", "BP 120/80, 5 mg\n\n"])


def _hides(form: Callable[..., str]) -> Callable[[], None]:
    """Return the law of a form, which is made of a family name, a given name and a number."""

    @given(_word, _word, _number, _other)
    def law(family: str, given_name: str, number: str, other: str) -> None:
        text = other + form(family, given_name, number)

        masked = mask([text], _DETECTOR)
        hidden = (family, given_name, number)

        assert [one for one in hidden if one in masked.texts[0].lower()] == []
        assert masked.tokens.restore(masked.texts[0]) == text

    return law


test_messages_of_hl7_version_2 = _hides(
    lambda family, given_name, number: (
        f"MSH|^~\\&|LAB|ACME\rPID|1||{number}^^^ACME^MR~{number}^^^ACME||{family}^{given_name}^M||19620314|F\rPV1|1|I\r"
    )
)
test_prints_of_records = _hides(
    lambda family, given_name, number: f"Patient(name='{given_name} {family}', mrn='{number}', dob=date(1962, 3, 14))"
)
test_arguments_of_calls = _hides(
    lambda family, given_name, number: f'p = add(first_name="{given_name}",\n  last_name="{family}", mrn={number})'
)
test_attributes_of_xml = _hides(
    lambda family, given_name, number: f'<patient name="{family}, {given_name}" mrn="{number}"><mrn value="{number}"/>'
)
test_lines_of_a_log = _hides(
    lambda family, given_name, number: f'level=info patient="{given_name.title()} {family.title()}" mrn={number} n=1'
)
test_queries_of_an_address = _hides(
    lambda family, given_name, number: f"GET /a?patient_name={given_name}+{family}&mrn={number}&page=2 HTTP/1.1"
)
test_queries_of_fhir = _hides(
    lambda family, given_name, number: f"/Patient?family={family}&given={given_name}&identifier=urn:x|{number}"
)
test_conditions_of_sql = _hides(
    lambda family, given_name, number: (
        f"ON a.id = b.id WHERE first_name = '{given_name}' AND p.last_name='{family}' AND mrn = {number};"
    )
)
test_rows_of_sql = _hides(
    lambda family, given_name, number: (
        f"INSERT INTO patients (name, dob, mrn)\nVALUES ('{given_name} {family}', '1962-03-14', '{number}'),\n"
        f"  ('{family}, {given_name}', NULL, {number});\n"
    )
)
test_rows_that_a_program_hands_in = _hides(
    lambda family, given_name, number: _HANDED_IN + json.dumps([given_name, family, number])
)
test_rows_of_copy = _hides(
    lambda family, given_name, number: (
        f"COPY patients (id, name, mrn) FROM stdin;\n1\t{given_name} {family}\t{number}\n\\.\n"
    )
)
test_elements_of_xml = _hides(
    lambda family, given_name, number: (
        f"<patients><patient><name>{given_name} {family}</name><mrn>{number}</mrn></patient></patients>"
    )
)
test_clinical_documents = _hides(
    lambda family, given_name, number: (
        f'<patientRole><id extension="{number}" root="2.16"/><patient><name use="L"><given>{given_name}</given>\n'
        f'<family qualifier="SP">{family}</family></name></patient></patientRole>'
    )
)
test_lines_of_yaml_below_a_type = _hides(
    lambda family, given_name, number: (
        f"---\nresourceType: Patient\nname:\n  - text: {given_name} {family}\nidentifier:\n  - value: {number}\n"
    )
)
test_lines_of_yaml_beside_a_number = _hides(
    lambda family, given_name, number: f"---\n- name: {given_name} {family}\n  mrn: {number}\n- mrn: '{number}'\n"
)
test_tables_that_spaces_part = _hides(
    lambda family, given_name, number: (
        f"     mrn               name  n\n0  {number}  {given_name} {family}  1\n1  {number}         {family}  2\n"
    )
)
test_headers_of_dicom = _hides(
    lambda family, given_name, number: (
        f"(0010,0010) PN [{family}^{given_name}]  #  14, 1 PatientName\n"
        f"(0010, 0020) Patient ID                          LO: '{number}'\n"
    )
)

# What the readers of forms look for, in any order: most of it is no form at all.
_piece = st.sampled_from(
    [
        *(
            "last_name",
            "mrn",
            "Surname",
            "DOB",
            "name",
            "Patient",
            "resourceType",
            "identifier",
            "PID",
            "NK1",
            "MSH",
            "Ward",
        ),
        *("Zork", "Qist^Ann", "91827", "1962-03-14", "19620314", "F", "none", "[MRN_1]", "\u00e9", "O'Neil"),
        *(
            "|",
            "||",
            "^",
            "~",
            "&",
            "\t",
            " ",
            "  ",
            "    ",
            "\n",
            "\r\n",
            "\n\n",
            "\\n",
            "=",
            ": ",
            ":",
            ",",
            ";",
            "->",
        ),
        *(
            "'",
            '"',
            "'''",
            "`",
            "\\",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            "<",
            "</",
            "/>",
            ">",
            "--",
            "- ",
            "%",
            "#",
            "?",
            "\u2502",
        ),
        *("+-----+", "-----", "--|--", "INSERT INTO p (", ") VALUES (", "COPY p (", ") FROM stdin;\n", "\\.", "WHERE "),
        *("LIKE ", "IN (", "CREATE TABLE p (", "(0010,0020) LO [", "PatientName", "<mrn>", "<td>", "<tr>", "N'", "E'"),
    ]
)


@given(st.lists(_piece, max_size=30).map("".join))
def test_pieces_of_forms_in_any_order_are_masked_and_come_back(text: str) -> None:
    masked = mask([text], _DETECTOR)

    read = escapes.read(text)
    restored = masked.tokens.restore(masked.texts[0])
    assert restored == text or (bool(read.at) and escapes.read(restored).plain == read.plain)
