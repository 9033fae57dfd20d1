"""Pairs of a name and a value say of people what fields say, and variables, types and patterns say nothing."""

import time

import pytest

from appliance.phi.fieldspairs import identifiers_in
from tests.support.masked import left_of


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Patient(name='zork quist', mrn='918', room=12)", "Patient(name='~', mrn='~', room=12)"),
        ("Patient(name='Anna Field')", "Patient(name='~')"),
        ("models.Patient.objects.create(name='zork quist', n=918)", "models.Patient.objects.create(name='~', n=918)"),
        ('create_patient(\n    name="zork quist",\n    mrn=918,\n)', 'create_patient(\n    name="~",\n    mrn=~,\n)'),
        ("Visit(of=Patient(name='zork'), name='ward')", "Visit(of=Patient(name='~'), name='ward')"),
        ("Patient[name=Zork Quist, mrn=918, n=918]", "Patient[name=~, mrn=~, n=918]"),
        ("Patient(name=Zork Quist, mrn=A-91)", "Patient(name=~, mrn=~)"),
        ("Visit(id=5, name='zork quist', dob='14.3')", "Visit(id=5, name='~', dob='~')"),
        ('<patient name="zork quist" mrn="918" room="918"/>', '<patient name="~" mrn="~" room="918"/>'),
        (
            '<x:Patient family="zork" given="al"/><mrn value="918"/>',
            '<x:Patient family="~" given="~"/><mrn value="~"/>',
        ),
        ('<input name="lastName" value="quist"><a b="918">', '<input name="lastName" value="~"><a b="918">'),
        (
            'level=info patient="Zork Quist" mrn=918 bed=918\nmsg="name=x"',
            'level=info patient="~" mrn=~ bed=918\nmsg="name=x"',
        ),
        ("GET /a?patient_name=Zork+Quist&mrn=918&page=918", "GET /a?patient_name=~+~&mrn=~&page=918"),
        ("a?last_name=zork%20quist%2C+al&mrn=A%2D9&", "a?last_name=~%20~%2C+~&mrn=~&"),
        ("a?first_name=+zork+&mrn=918", "a?first_name=+~+&mrn=~"),
        ("(a=1 [mrn=918 ) mrn=918", "(a=1 [mrn=~ ) mrn=~"),
        ("a?phone=555%200134&first_name=M%C3%BCl", "a?phone=~&first_name=~"),
        (
            "/fhir/Patient?family=zork&given=al&identifier=http://x.org|918&_count=918",
            "/fhir/Patient?family=~&given=~&identifier=http://x.org|~&_count=918",
        ),
        ("/Patient?identifier=|918&mrn=%7c919&name=a|b|zork", "/Patient?identifier=|~&mrn=%7c~&name=a|b|~"),
        ("/Patient?identifier=urn:x%7C918&name=zork", "/Patient?identifier=urn:x%7C~&name=~"),
        ("curl -d 'last_name=zork+quist&mrn=918'", "curl -d 'last_name=~+~&mrn=~'"),
        ('admit --mrn 918 --last-name "O\'Zork" --n 918', 'admit --mrn ~ --last-name "~" --n 918'),
        ("admit --mrn=918 --dose=918", "admit --mrn=~ --dose=918"),
        ("PATIENT_MRN=918\nexport MRN='A-9'\nN=918", "PATIENT_MRN=~\nexport MRN='~'\nN=918"),
        ("patient.name = 'zork quist'\npatient.mrn = '918'", "patient.name = '~'\npatient.mrn = '~'"),
        ("p['mrn'] = '918'; p[\"n\"] = '918'", "p['mrn'] = '~'; p[\"n\"] = '918'"),
        ("[patient]\nmrn = 918\nn = 918", "[patient]\nmrn = ~\nn = 918"),
        ("WHERE p.mrn = 918 AND upper(p.surname) = 'QUIST'", "WHERE p.mrn = ~ AND upper(p.surname) = '~'"),
        ("SET last_name='O''Zork', n='918' WHERE mrn='918'", "SET last_name='~', n='918' WHERE mrn='~'"),
        ("SET last_name='Zork', a Zork came", "SET last_name='~', a Zork came"),
        ("if p.mrn == '918' { mrn := \"918\" }", "if p.mrn == '~' { mrn := \"~\" }"),
        ("f(mrn=r'918', mrn=\"9\\\"18\", mrn='918", "f(mrn=r'~', mrn=\"~\", mrn='~"),
        ("((a ) mrn=918]} f(b[mrn=918)", "((a ) mrn=~]} f(b[mrn=~)"),
        ("do { name='zork';\n m='918' } (mrn='918')", "do { name='zork';\n m='918' } (mrn='~')"),
        ("name='zork'\nmrn='918'", "name='zork'\nmrn='~'"),
    ],
)
def test_what_a_pair_says_of_people_is_found_and_of_anything_else_stays(text: str, left: str) -> None:
    assert left_of(text) == left


def test_a_name_that_a_query_has_is_known_where_it_stands_in_words() -> None:
    found = [text[one.start : one.end] for text in ["a?patient_name=zork+quist&n=1"] for one in identifiers_in(text)]

    assert found == ["zork", "quist"]


@pytest.mark.parametrize(
    "text",
    [
        "Patient(name=name, mrn=row.mrn, dob=None, phone=PHONE)",
        "Patient(name=DEFAULT_NAME, mrn=str(918), last_name=faker.last_name())",
        "Container(name='nginx', image='nginx:1.25')",
        "a?mrn=&name=&page=2",
        "a?mrn=|&name=%7C",
        "SELECT 1 WHERE mrn = :mrn1 AND mrn = $918 AND mrn = @m918 AND mrn = %s",
        "mrn=\nname=''; mrn=\"\"; dob=[1]; ssn={918}",
        "name='nginx' dose=5 mrn=b",
        "Drug(name='zorkol', mrn='', dose=5)",
        "a == b = c => d -> e; <= 5 >= 6",
        'admit --mrn "" --last-name ""',
        "git log --name-only --mrn --phone",
        "a < b and name = 'x' > 5",
        "d = d[d['sex'] == 'F']\nname = 'nginx'",
        "WHERE f(p.sex) = 'F'\nname = 'nginx'",
        "Patient(\n\nname = 'nginx')",
        "Patient(a=1, " + "x" * 1001 + " name='nginx')",
    ],
)
def test_variables_parameters_and_things_are_left_alone(text: str) -> None:
    assert list(identifiers_in(text)) == []


def test_of_brackets_deeper_than_anything_real_nothing_is_lost() -> None:
    assert left_of("(" * 100 + "mrn=918") == "(" * 100 + "mrn=~"


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "=",
            "a=1 ",
            "mrn=123 ",
            "(a=",
            "Patient(name='x',",
            "(((((a=",
            "<a b=",
            "P(a=1 ))))",
            "a='",
            "a='\\",
            'a="b',
        ),
        *(
            "?a=&",
            "a" * 60 + "=",
            "a=1\n",
            "(a=1\n\n",
            "'])=",
            "([{<a a=1",
            "?name=z+z+z&",
            "--a ",
            "a-",
            "name=zork+q&",
        ),
        *("a   =   ", "(a=" + "b " * 59, "mrn=1234567 name='q zork', ", "(name='zork quist',mrn=123 "),
    ],
)
def test_pairs_of_any_form_take_time_in_proportion(piece: str) -> None:
    began = time.process_time()
    list(identifiers_in(piece * (100_000 // len(piece))))

    assert time.process_time() - began < 1
