"""What a column's heading says counts for the rows below it, and for nothing else."""

import time

import pytest

from appliance.phi.detect import PatternDetector
from tests.support.masked import left_of


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            "| MRN | Name | DOB |\n|---|:---:|---|\n| 0091827 | jane quist | 3/14/62 |\n| 918 | Al Q | 4/3 |\n\nHb 13",
            "| MRN | Name | DOB |\n|---|:---:|---|\n| ~ | ~ | ~ |\n| ~ | ~ | ~ |\n\nHb 13",
        ),
        (
            "| **Patient Name** | Room |\n| --- | --- |\n| zork quist | 12 |",
            "| **Patient Name** | Room |\n| --- | --- |\n| ~ | 12 |",
        ),
        ("mrn,ssn,dose\n0091827,123456789,500\n0091828,123456780,250\n\nend", "mrn,ssn,dose\n~,~,500\n~,~,250\n\nend"),
        ("see\nMRN,Account,Policy\n0091827,55512345,998877665", "see\nMRN,Account,Policy\n~,~,~"),
        ("Name\tPatient_ID\tHb\nQuist, Jane\tA-77123\t13.2\n", "Name\tPatient_ID\tHb\n~\t~\t13.2\n"),
        ('"Last Name","City","Age"\n"Quist, J","Dunmore",44\n', '"Last Name","City","Age"\n"~","~",44\n'),
        ("phone;ward\n5550134;7", "phone;ward\n~;7"),
        # As databases of patients call them, and in other languages.
        (
            "patient_last_name,patient_first_name,patient_mrn,ward\nquistel,zork,918,3B\n",
            "patient_last_name,patient_first_name,patient_mrn,ward\n~,~,~,3B\n",
        ),
        ("PAT_ID|PT_NAME|PAT_MRN_ID\nZ91|quistel|918", "PAT_ID|PT_NAME|PAT_MRN_ID\n~|~|~"),
        ("   patient_lname  pt_mrn\n0        quistel     918", "   patient_lname  pt_mrn\n0        ~     ~"),
        ("lname,fname,hb\nquistel,zork,13.2", "lname,fname,hb\n~,~,13.2"),
        ("nom;prénom;ipp\nquistel;zork;918", "nom;prénom;ipp\n~;~;~"),
        ("apellidos;nombre;nhc\nquistel;zork;918", "apellidos;nombre;nhc\n~;~;~"),
        ("achternaam;patientnr\nquistel;918", "achternaam;patientnr\n~;~"),
        ("\t\t MRN \t\tRoom\n\t\t918\t\t12", "\t\t MRN \t\tRoom\n\t\t~\t\t12"),
        # A heading of groups in a row of its own above the columns' own.
        ("Visit,,Vitals,\nMRN,Name,HR,BP\n0091827,zork,99,120/80\n", "Visit,,Vitals,\nMRN,Name,HR,BP\n~,~,99,120/80\n"),
        (
            "Patient name,,Stay\nMRN,First name,Room\n0091827,zork,12\n",
            "Patient name,,Stay\nMRN,First name,Room\n~,~,12\n",
        ),
        (
            "| Patient name | | Vitals |\n|---|---|---|\n| First name | Last name | HR |\n| zork | quist | 99 |\n",
            "| Patient name | | Vitals |\n|---|---|---|\n| First name | Last name | HR |\n| ~ | ~ | 99 |\n",
        ),
        (
            "| MRN | Phone | | HR |\n|---|---|---|---|\n| | Home | Mobile | |\n| 918 | 5550134 | 5550135 | 99 |\n",
            "| MRN | Phone | | HR |\n|---|---|---|---|\n| | Home | Mobile | |\n| ~ | ~ | ~ | 99 |\n",
        ),
        (
            "     mrn             name         dob\n0  123  zork quist  14.3\n1    124      al q   3/71\n\n[2  al]",
            "     mrn             name         dob\n0  ~  ~  ~\n1    ~      ~   ~\n\n[2  al]",
        ),
        ("   mrn  first_name  \\\n0  123        zork   \n", "   mrn  first_name  \\\n0  ~        ~   \n"),
        ("MRN   NAME\n----  --------\n123   zork quist\n\nHb    13", "MRN   NAME\n----  --------\n~   ~\n\nHb    13"),
        ("see\nName          DOB\r\nzork quist    14.3", "see\nName          DOB\r\n~    ~"),
        (
            "  first_name last_name   mrn\n0       zork     quist   918\n1         al       zo   919\n\n2  al  zo  920",
            "  first_name last_name   mrn\n0       ~     ~   ~\n1         ~       ~   ~\n\n2  al  zo  920",
        ),
        ("  n mrn  \\\nx  1  918   \n", "  n mrn  \\\nx  1  ~   \n"),
        # A form's names of fields stand below one another: what stands beside them counts.
        (
            "Surname      Zork\nGiven name   Al\nWard         3B\nConsultant   Qlpto\nMRN          918\n",
            "Surname      ~\nGiven name   ~\nWard         3B\nConsultant   Qlpto\nMRN          ~\n",
        ),
        ("Surname   Zork\nWard      3B\nRoom      4\n", "Surname   ~\nWard      3B\nRoom      4\n"),
        (
            "Surname  Age\nZork     44\nWard     45\nQuist    46\n",
            "Surname  Age\n~     44\n~     45\n~    46\n",
        ),
        ("Surname\tZork\nGiven name\tAl\nWard\t3B\nDiet\tsoft\n", "Surname\t~\nGiven name\t~\nWard\t3B\nDiet\tsoft\n"),
        (
            "| Patient name | Al Zork |\n|---|---|\n| Ward | 3B |\n| MRN | 918 |\nend",
            "| Patient name | ~ |\n|---|---|\n| Ward | 3B |\n| MRN | ~ |\nend",
        ),
        ("Last name,Zork\r\nFirst name,Al\r\nDiet,soft\r\n", "Last name,~\r\nFirst name,~\r\nDiet,soft\r\n"),
        ("MRN,Hb\n918,13\nMRN,Hb\n919,14\n", "MRN,Hb\n~,13\nMRN,Hb\n~,14\n"),
        # A title is nobody's own, and in a token of its own would be replaced wherever it stands.
        ("MRN,Doctor,Hb\n918,Dr. Zork,13\n919,Med Quist,14", "MRN,Doctor,Hb\n~,Dr. ~,13\n~,~,14"),
        # Of a table with two columns the second heading may be a word that forms have for nothing, and a number of
        # somebody may look like what a program calls something.
        ("mrn,value\n918,13\n919,14\n", "mrn,value\n~,13\n~,14\n"),
        ("Surname   Test\nZork      Hb\nQuist     Na\n", "Surname   Test\n~      Hb\n~     Na\n"),
        ("| MRN | Text |\n|---|---|\n| 918 | well |\n", "| MRN | Text |\n|---|---|\n| ~ | well |\n"),
        ("patient_id,glucose\npt-001,5\npt-002,6\n", "patient_id,glucose\n~,5\n~,6\n"),
        ("patient_id\thba1c\nsub-01\t6\nsub-02\t7\n", "patient_id\thba1c\n~\t6\n~\t7\n"),
        ("Address,Visits\nHospital Road 4,2\nWard Street 12,3\n", "Address,Visits\n~,2\n~,3\n"),
        ("Surname,BMI\nPark,22\nZork,23\nBest,24\n", "Surname,BMI\n~,22\n~,23\n~,24\n"),
        ("Surname\tBMI\nWard\t22\n", "Surname\tBMI\n~\t22\n"),
        ("Next of kin;BMI\nZork, A;22\nQuist, A;23\n", "Next of kin;BMI\n~;22\n~;23\n"),
        ("First name,Age\nMay,44\n", "First name,Age\n~,44\n"),
        ("Last name,Room\nWard,4\n", "Last name,Room\n~,4\n"),
        ("Next of kin,unknown\nMRN,918\nDiet,soft\nGait,slow", "Next of kin,unknown\nMRN,~\nDiet,soft\nGait,slow"),
        # As MySQL and PostgreSQL print them, and reStructuredText has them.
        (
            "+-----+------+\n| mrn | name |\n+-----+------+\n| 918 | zork |\n| 919 | al   |\n+-----+------+\n2 rows",
            "+-----+------+\n| mrn | name |\n+-----+------+\n| ~ | ~ |\n| ~ | ~   |\n+-----+------+\n2 rows",
        ),
        (" mrn | name\n-----+------\n 918 | zork\n(1 row)\n", " mrn | name\n-----+------\n ~ | ~\n(1 row)\n"),
        (
            "| mrn | name |\n+=====+======+\n| 918 | zork |\n+-----+------+\n| 919 | al |\n",
            "| mrn | name |\n+=====+======+\n| ~ | ~ |\n+-----+------+\n| ~ | ~ |\n",
        ),
        (
            "-[ RECORD 1 ]----\nmrn   | 918\nname  | zork\nhb    | 13\nsurname  | quist\n",
            "-[ RECORD 1 ]----\nmrn   | ~\nname  | ~\nhb    | 13\nsurname  | ~\n",
        ),
        ("|last_name\n|Zork|1", "|last_name\n|~|1"),
        # As Excel writes it.
        ("mrn,surname\r\n918,zork\r\n919,quist\r\n", "mrn,surname\r\n~,~\r\n~,~\r\n"),
        (
            "Patient name,Reached by,Bed\nzork quist,phone,two\njane quist,mail,3\n918,phone,4",
            "Patient name,Reached by,Bed\n~,phone,two\n~,mail,3\n~,phone,4",
        ),
    ],
)
def test_cells_below_a_heading_are_found_and_others_stay(text: str, left: str) -> None:
    assert left_of(text) == left
    assert left_of(text.replace("\r", "").replace("\n", "\r\n")) == left.replace("\r", "").replace("\n", "\r\n")


@pytest.mark.parametrize(
    "text",
    [
        "| Drug | Name | Dose |\n|---|---|---|\n| 1 | Lasix | 40 |\n",
        "patient_count,ward\n17,3B\n",
        "fname,size\nreport.txt,12\nmain,13\n",
        "nom;taille\nvis;12\n",
        "| Name | Account |\n|--|--|\n| Lasix | none |",
        "He gave his name, phone, address, and left.\nThen, he, came, back 120.",
        "| Patient name | Room |\n|---|---|\n| unknown | 13 |\n| not given | 14 |",
        "Phone; 12\n",
        "| patient_name | phone | mrn |\n|---|---|---|\n| VARCHAR(80) | CHAR(12345) | INT(9) |",
        "| Phone | Contact |\n|---|---|\n| 10 digits | API |",
        "| Address | Opcode |\n|---|---|\n| 0x1000 | mov |",
        'first_name, last_name = name.split(" ", 1)\nfoo, bar = 1, 2\n',
        "def f(first_name,\n      last_name, phone,\n      address, city):\n    return first_name, 12\n",
        "mrn\n13.2",
        "MRN  Name",
        "MRN  Name\nAB-12\nMRN  Name\n12  13  14  15",
        "MRN  Name\n" + "12  zork" * 200,
        "mrn" + " " * 700 + "name\n12  zork",
        "the patient told his name and a very long title of it  mrn\n12  13",
        "Phone   Pain\nrang back at   noon",
        "Desktop  Mobile  Address\n120000  95000  Main memory",
        "x  mrn  \ny",
        "Surname, and first name\n-----------\nZork, in general, is one.",
        "| Column | Meaning |\n|---|---|\n| surname | Their family name |\n| mrn | Number of 8 to 10 digits |",
        "mrn,n\nNumber of 8 digits,1",
        "Next of kin   none\nMobility      frame\nHearing       impaired\n",
        "    phone the ward now\nx  a  b  c  d",
        "address, then\nnext line without any",
    ],
)
def test_what_is_no_table_of_people_is_left_alone(text: str) -> None:
    assert left_of(text) == text
    assert left_of(text.replace("\n", "\r\n")) == text.replace("\n", "\r\n")


@pytest.mark.parametrize(
    "text",
    [
        "mrn,ssn\n" + "1,2\n" * 7990,
        "\nmrn," * 6400,
        "|mrn|" * 6400,
        "a," * 16000 + "\nmrn,x\n",
        "\n" * 32000,
        "mrn\n," * 6400,
        'mrn,"' * 6400 + "\n",
        "mrn,x\n1\n" * 3550,
        "mrn,x\n1,2\n3\n" * 3000,
        "mrn,x\n" * 5300,
        "mrn  " * 6400,
        "mrn  x\n" * 4500,
        "mrn  x\n" + "1  2\n" * 6300,
        "a  " * 10600,
        " " * 32000,
        "mrn  x" + " " * 31990,
        ("x" * 40 + "  mrn" * 100 + "\n") * 400,
        "mrn|name\n|" + "-" * 31980 + "x",
    ],
)
def test_no_text_of_the_largest_size_takes_long(text: str) -> None:
    began = time.process_time()
    PatternDetector().find(text)

    assert time.process_time() - began < 1
