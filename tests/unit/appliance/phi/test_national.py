"""Numbers by which states know a person, where people live, and labels as programs write them."""

import time
from typing import Any

import pytest

from appliance.phi.detect import PatternDetector
from appliance.phi.national import (
    begins_with_a_date,
    is_canadian,
    is_chinese,
    is_czech,
    is_french,
    is_indian,
    is_irish,
    is_spanish,
)
from tests.support.masked import left_of


def _found(text: str) -> list[tuple[str, str]]:
    return [(one.phi_class.value, text[one.start : one.end]) for one in PatternDetector().find(text)]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("AHV-Nr. {}", "756.9217.0769.85"),
        ("BSN: {}", "1234.56.782"),
        ("NISS {}", "85073003328"),
        ("n\u00b0 de s\u00e9cu {}", "185057800608491"),
        ("hetu {}", "131052-308T"),
        ("f\u00f8dselsnummer {}", "17054026641"),
        ("PESEL {}", "44051401359"),
        ("rodn\u00e9 \u010d\u00edslo {}", "736028/5163"),
        ("CNP {}", "1800101221144"),
        ("NI number {}", "AB 12 34 56 C"),
        ("PPSN {}", "1234567FA"),
        ("TFN {}", "123 456 782"),
        ("aadhar no. {}", "234567890124"),
        ("RG {}", "12.345.678-9"),
        ("DNI {}", "30.123.456"),
        ("c\u00e9dula {}", "1.020.304.050"),
        ("HKID {}", "A123456(7)"),
        ("MyKad {}", "850730-14-5678"),
        ("TC kimlik {}", "10000000146"),
        ("EM\u0160O {}", "0101006500006"),
        ("OIB {}", "69435151530"),
        ("AMKA {}", "01018012345"),
        ("Rentenversicherungsnummer {}", "65 170839 J 003"),
        ("SVNR {}", "1237 010180"),
        ("national identity card no. {}", "8001015009087"),
        ("\u30de\u30a4\u30ca\u30f3\u30d0\u30fc {}", "1234 5678 9012"),
    ],
)
def test_a_word_says_that_a_number_is_somebodys_by_the_state(text: str, number: str) -> None:
    assert _found(text.format(number)) == [("ssn", number)]


@pytest.mark.parametrize(
    ("text", "number", "phi_class"),
    [
        ("IHI {}", "8003 6000 0000 0000", "plan"),
        ("Medicare no {}", "2123 45670 1", "plan"),
        ("Tarjeta sanitaria {}", "BBBB 123456 78", "plan"),
        ("EHIC {}", "80756003060000000123", "plan"),
        ("NHI is {}", "ZBN77VL", "mrn"),
        ("H&C number {}", "321 098 7654", "mrn"),
    ],
)
def test_a_word_says_that_a_number_is_somebodys_by_an_insurer(text: str, number: str, phi_class: str) -> None:
    assert _found(text.format(number)) == [(phi_class, number)]


@pytest.mark.parametrize(
    "number",
    [
        *("12345678Z", "X1234567L", "1234567FA", "RSSMRA85T10A562S", "756.9217.0769.85", "85.07.30-033.28"),
        *("1 85 05 78 006 084 91", "811218-9876", "070761-4285", "131052-308T", "850730-1234567", "736028/5163"),
        *("AB 12 34 56 C", "123.456.789-09", "12.345.678-5", "GOMC900514HDFRRS07", "046 454 286", "2345 6789 0124"),
        *("11010519491231002X", "112-233-445 95", "S1234567D", "A123456(7)", "65 170839 J 003"),
    ],
)
def test_a_number_that_proves_itself_needs_no_word(number: str) -> None:
    assert left_of(f"on file: {number}, and well") == "on file: ~, and well"


@pytest.mark.parametrize(
    ("check", "valid", "wrong"),
    [
        (is_spanish, "12345678Z", "12345678A"),
        (is_spanish, "X1234567L", "Y1234567L"),
        (is_irish, "1234567T", "1234567A"),
        (is_irish, "1234567FA", "1234567GA"),
        (is_french, "185057800608491", "185057800608492"),
        (is_french, "1 85 05 2A 006 084 35", "1 85 05 2A 006 084 36"),
        (is_chinese, "11010519491231002X", "110105194912310021"),
        (is_czech, "736028/5163", "736028/5164"),
        (is_indian, "234567890124", "234567890125"),
        (is_canadian, "046 454 286", "046 454 287"),
        (begins_with_a_date, "19811218-9876", "811318-9876"),
        (begins_with_a_date, "070761-4285", "009900-4285"),
    ],
)
def test_proofs_count(check: Any, valid: str, wrong: str) -> None:
    assert check(valid)
    assert not check(wrong)


@pytest.mark.parametrize(
    "text",
    [
        *("**MRN:** {}", "MRN: **{}**", "- **Member ID**: {}", "Account `{}`", "| MRN | {} |", "|MRN            |{}|"),
        *('{{"mrn": "{}"}}', '{{\\"patientId\\": \\"{}\\"}}', "<mrn>{}</mrn>", "<PatientID>{}</PatientID>"),
        *("patient_id: {}", "patientId={}", "hospitalPatientId: {}", "acct-no: {}", "mrn={}&x=1"),
        '"identifier":[{{"system":"urn:oid:1","value":"{}"}}]',
        '<identifier><system value="urn:x"/><value value="{}"/></identifier>',
        *("Our ref JH/kt/{}", "UR {}", "EMPI {}", "Barcode *{}*"),
    ],
)
def test_a_label_counts_however_programs_and_people_set_it(text: str) -> None:
    assert "77182" not in left_of(text.format("0077182"))


def test_a_label_counts_for_the_numbers_beside_its_own() -> None:
    assert left_of("serial nos. 2133X0HKQ and 2133X0HKR, 3000 units") == "serial nos. ~ and ~, 3000 units"
    assert left_of("lot 63228841 and 4500 ml") == "lot ~ and 4500 ml"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("born and raised in Tulsa, then lives in Millbrook Estates", "born and raised in ~, then lives in ~"),
        ("relocated from Bad Harzfeld to a flat", "relocated from ~ to a flat"),
        ("to 12 oak st, springfield il 62701", "to ~"),
        ("at the corner of Grant and 5th", "at the corner of ~"),
        ("to 88 old mill rd, apt 2, scranton pa 18504", "to ~"),
        ("at 2207 W. Sycamore #4", "at ~"),
        ("on her 98th birthday", "on her ~th birthday"),
        ("a grey Honda, KLM 4471, outside", "a grey Honda, ~, outside"),
        ("card ending in 4471", "card ending in ~"),
        ("bleep 2217, ext. 88120", "bleep ~, ext. ~"),
    ],
)
def test_where_somebody_is_and_how_they_are_reached_is_found_in_words(text: str, left: str) -> None:
    assert left_of(text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Sra. Etxeberria acude", "Sra. ~ acude"),
        ("Dhr. van der Plas komt", "Dhr. ~ komt"),
        ("Mevrouw de Wit is hier", "Mevrouw ~ is hier"),
        ("Sig.ra Bonfanti e Dott. Neri", "Sig.ra ~ e Dott. ~"),
        ("Prof. Dr. Quist", "Prof. Dr. ~"),
        ("Dr. med. Quist", "Dr. med. ~"),
        ("Herrn Quist", "Herrn ~"),
        ("DR. QUIST", "DR. ~"),
        ("Mevrouw van 't Quist", "Mevrouw ~"),
        ("goes by Sonny", "goes by ~"),
        ("Baby boy Okonjo", "Baby boy ~"),
        ("**Patient name**: zdenka hruba\n", "**Patient name**: ~\n"),
        ("username: pwilloughby", "username: ~"),
        ('{"lastName": "Quist", "first_name":"jo ann"}', '{"lastName": "~", "first_name":"~"}'),
        ("<lastName>Quist</lastName>", "<lastName>~</lastName>"),
        ('"family": "Quist", "given": ["Peer","Aase"]', '"family": "~", "given": ["~","~"]'),
        ('<family value="Quist"/>', '<family value="~"/>'),
    ],
)
def test_titles_of_other_tongues_and_names_as_people_type_them(text: str, left: str) -> None:
    assert left_of(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "Sig. Take one tablet; sr notes; user login failed; patient name: see the chart which is long and old",
        "born in Vietnam, moved to Texas, lives in North Carolina; born in March; lives in Assisted Living",
        "extension 130 degrees, walked 3 weeks ago on the road, 2 miles down the road",
        "ext 10, pager broken, on their 45th birthday",
        '"valueQuantity":{"value":6.3}, <valueQuantity><value value="6.3"/></valueQuantity>',
        "| Sodium | 140 | 135-145 |",
        "**Dose:** 5000 units; `HR` 1200",
        "123456-7890 is no birthday",
        "platelets 150.000, ratio 1.020.3, sin 30, RG 7",
        "lives in a home; the corner of the bed; the case is closed",
        "Ford classification, Honda 2019 review",
        "telecom and identifier are fields",
        "My login is not working. The patient is not allergic and does not take aspirin.",
        "username: null",
        "def f(user_id: int, dose: int)",
        "user_id = 100; sodium 100",
        "login: admin; role: admin",
        "patient name: not given. Patient does not smoke",
        "Patient name: unknown",
        "surname: same as above; dose same as above",
        "last_name: string",
        "S/p L AKA Right BKA. Right leg pain",
        "aka Acetaminophen, aka MI",
        "Sr. Creatinine 1.2, Creatinine clearance 60",
        "Sr. Potassium 4.1, Sr Resident",
        "Give infant Tylenol 160 mg. Tylenol q6h",
        "boy with Hemophilia",
        "Pt BP 120/80, HR 80",
        "Lab: WBC 11200",
        "plan: SBP 120-140",
        "Lab: AST 1250",
        "Plan: CPT 99213",
        "Rx: 1000mg BID",
        "Plan: 5000U SQ",
        "Plan: 1000mL/h",
        "Plan: 1000 cc NS",
        "icd_code: E1165, icd_version: 10",
        "ICD code 25000",
        "3 Tesla MRI, T2 FLAIR",
        "3 Tesla, TR 2000",
        "Toyota vs tree, GCS 14, C5-C6",
        "Seat belted, T12-L1 fracture",
        '"identifier":"x","labs":[{"name":"Hb","value":"13.2"},{"value":"120/80"},{"value":"500 mg BID"}]',
        "@Override @Data",
        "CPR 100-120/min",
        "CPR 1 2 3 4 5",
        "sin = 0.70711",
        "ni 120/80 ni 130/85",
        "RFC 2616/7230",
        "Sequence identity: 98.765%",
        "identity = 450/456",
        "NSS 1000 500",
        "CNS: 10000 cells",
        "PPS 50 60 70",
        "Portable BP 120/80 130/85",
        "moved from Methotrexate to Humira",
        "moved from Bed to chair",
        "2 patients hit the road",
        "the study (1200 patients), the group (1500 women)",
        "| Group | N |",
        "MR angiography, MS exacerbation, MR 3",
    ],
)
def test_what_looks_like_one_is_left_alone(text: str) -> None:
    assert left_of(text) == text


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ('"ssn":"{}"', "123456789"),
        ("**SSN:** {}", "123456789"),
        ("| SSN | {} |", "123456789"),
        ("<ssn>{}</ssn>", "123456789"),
        ("SSN is {}", "123456789"),
        ("SSN ({})", "123456789"),
        ("SSN - {}", "123456789"),
        ("patient_ssn={}", "123456789"),
        ("patientSSN: {}", "123456789"),
        ("SS# {}", "123456789"),
        ("MRN ({})", "0091827"),
        ("MRN \u2013 {}", "0091827"),
        ("MRN: “{}”", "0091827"),
        ("<td>MRN</td><td>{}</td>", "0091827"),
        ("<b>MRN</b> {}", "0091827"),
        ("MRN:<br>{}", "0091827"),
        ("BSN ({})", "123456782"),
        ("birth {}", "20260314101500-0500"),
        ('<birthTime value="{}"/>', "196203141015-0500"),
        ("seen {}", "20260314T101500Z"),
        ("report_{}.pdf", "20260314"),
        ("tél. {}", "06 12 34 56 78"),
        ("Telefoon: {}", "06 12345678"),
        ("telefono: {}", "3331234567"),
        ("mobile_phone: {}", "2175550134"),
        ("homePhone: {}", "2175550134"),
        ("DNI {}", "12345678z"),
        ("NIE: {}", "x1234567l"),
        ("ppsn {}", "1234567t"),
        ("codice fiscale {}", "rssmra85t10a562s"),
        ("codice fiscale: {}", "RSS MRA 85T10 A562S"),
        ("on file {}", "X1234577Y"),
        ("on file {}", "AB 123456C"),
        ("Patientennummer {}", "884231"),
        ("Patienten-Nr.: {}", "884231"),
        ("Patiëntnummer: {}", "884231"),
        ("Aufnahme-Nr.: {}", "884231"),
        ("Fall-Nr. {}", "884231"),
        ("Nº historia: {}", "884231"),
        ("Historia clínica nº {}", "884231"),
        ("Num. cartella: {}", "884231"),
        ("Journalnr: {}", "884231"),
        ("work - ({}.", "0161) 496 0017"),
        ("DOB {}", "6.xi.1948"),
        ("Job#: {}", "8827163"),
        ("EMG # {} read", "0098-221"),
        ("ruiz / {} / M", "7718820"),
        ("key safe code {}.", "4471"),
        ("Consultant: Miss {}.", "F Adeyemi-Clarke"),
        ("Mrs {} came", "P Trelawny"),
        ("bed 15 {}, bed 16 empty", "Okonjo"),
        ("our mum {} needs", "eusebia ruiz"),
        ("hi, its {}", "marisol"),
        ("notified @ ({}.", "917)5550144"),
        ("PCP {} since", "SALDANA, R"),
        ("Ordering: {} today", "Abiodun, T."),
        ("Ref: Delacroix/{}. Dear", "556-01-22"),
        ("Called to the ward {} 0712.", "3/9"),
        ("needs it by the {}.", "15th"),
        ("Kontonummer {}", "884231"),
        ("MR# {}", "0091827"),
        ("PTID: {}", "0091827"),
        ("Med Rec # {}", "0091827"),
        ("Unit # {}", "88423"),
        ("patient id: {}", "550e8400-e29b-41d4-a716-446655440000"),
        ('<id value="{}"/>', "884231"),
        ('<id extension="{}" root="2.16.840"/>', "0091827"),
        ('"reference":"Patient/{}"', "884231"),
        ("/patients/{}/labs", "0091827"),
        ("account {}", "12 34 56 78 90"),
        ("hkid {}", "A 123456 (7)"),
        ("card ending in **** {}", "4512"),
        ("инн {}", "770708389312"),
    ],
)
def test_nothing_of_an_identifier_stays_however_it_is_written(text: str, identifier: str) -> None:
    assert left_of(text.format(identifier)) == text.format("~")


def test_an_extension_goes_with_its_number() -> None:
    assert left_of("fax 212-555-0134 x9912.") == "fax ~ x~."
    assert left_of("212-555-0134, ext. 99") == "~, ext. ~"
    assert left_of("1920 x1080 and 1920x1080") == "1920 x1080 and 1920x1080"


def test_a_number_right_behind_a_day_of_birth_is_somebodys() -> None:
    assert left_of("born 11/02/71 1008827.") == "born ~ ~."


def test_a_letter_behind_a_comma_is_no_initial_of_a_disease() -> None:
    for text in ("Serology: Hepatitis, B", "seen on the 3rd floor", "Dx: Diabetes, T2DM"):
        assert left_of(text) == text


def test_behind_the_number_of_a_bed_stand_states_and_diseases_too() -> None:
    for text in ("Bed 4 Stable overnight", "bed 2: SOB", "rm 4 Pneumonia", "bed 9 NSTEMI", "Room 12 Left hip"):
        assert left_of(text) == text


def test_a_field_for_a_name_that_holds_none_is_left_alone_wherever_its_words_stand() -> None:
    for text in (
        "Patient name: unknown\nAllergies: unknown",
        "login is the first step; the rest",
        "AKA Left; Left stump",
    ):
        assert left_of(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "DNI 1 " * 5300,
        "bed 1 Aaa " * 3200,
        "my mum aaa " * 2900,
        "a #1-" * 6400,
        "1 / " * 8000,
        "DNI " + "1 " * 15990,
        "national identity " * 1770,
        '"identifier" "value":"' * 1450,
        "<identifier>" * 2660,
        "lives in Aaa " * 2460,
        "corner of Aaa " * 2280,
        "1 aaa aaa aaa " * 2280 + "rd",
        "Honda aaaa " * 2900,
        "card last " * 3200,
        "999999 " * 4570,
        "ref a/b/c/1234/" * 2130,
        "serial 12345 and " * 1880,
        "MRN*|`>" * 4570,
        "patient name: " + "aa " * 10660,
        "123:idId" * 4000,
        "A123456(" * 4000,
        '"given":["a",' * 2460,
        "Dr. " * 8000,
        "<id " * 8000,
        "patient/" * 4000,
        "Sra. van der " * 2460,
    ],
)
def test_no_text_of_the_largest_size_takes_long(text: str) -> None:
    began = time.process_time()
    PatternDetector().find(text)

    assert time.process_time() - began < 1
