"""Masking and restoring by hand-made examples; `tests/property/test_phi.py` has the laws."""

import json
import time
import unicodedata
from typing import Literal

import pytest

from appliance.phi.detect import PatternDetector
from appliance.phi.patterns import PhiClass
from appliance.phi.tokens import MAX_TOKEN_CHARACTERS, TOKEN, Masked, TokenMap, mask


def _mask(*texts: str) -> Masked:
    return mask(texts, PatternDetector())


def test_tokens_are_numbered_by_first_appearance_over_all_texts() -> None:
    masked = _mask("SSN 123-45-6789", "SSN 987-65-4321, again 123-45-6789, MRN: 12345678", "born 1/2/1980")

    assert masked.texts == ("SSN [SSN_1]", "SSN [SSN_2], again [SSN_1], MRN: [MRN_1]", "born [DATE_1]")
    assert masked.counts == {PhiClass.SSN: 3, PhiClass.MRN: 1, PhiClass.DATE: 1}


def test_a_client_that_resends_its_history_gets_the_same_tokens() -> None:
    history = ["value 88888888; MRN: 12345678", "noted"]
    first = _mask(*history)
    later = _mask(*history, "MRN: 88888888 and SSN 123-45-6789")

    assert first.texts[0] == "value 88888888; MRN: [MRN_1]"
    assert later.texts == ("value [MRN_2]; MRN: [MRN_1]", "noted", "MRN: [MRN_2] and SSN [SSN_1]")


def test_a_number_known_by_its_label_is_also_found_without_it() -> None:
    assert _mask("MRN: 12345678", "is 12345678 back? 123456789 is not").texts == (
        "MRN: [MRN_1]",
        "is [MRN_1] back? 123456789 is not",
    )


def test_a_name_known_by_its_label_is_also_found_in_parts() -> None:
    masked = _mask("Patient: Jane Roe", "Roe's chart. Jane Roe left. jane stays")

    assert masked.texts == ("Patient: [NAME_1]", "[NAME_3]'s chart. [NAME_1] left. jane stays")
    assert masked.tokens.restore(masked.texts[1]) == "Roe's chart. Jane Roe left. jane stays"


def test_a_name_is_also_found_in_other_capitals_and_as_an_owner_has_it() -> None:
    texts = (
        "PatientName: ZORKBA^MCWURMBX",
        "Zorkba slept. Told McWurmbx. Zorkbas Befund; Zorkbass, ZORKBAND and zorkba stay",
    )
    masked = _mask(*texts)

    assert masked.texts[1] == "[NAME_4] slept. Told [NAME_5]. [NAME_4]s Befund; Zorkbass, ZORKBAND and zorkba stay"
    assert tuple(map(masked.tokens.restore, masked.texts)) == texts


def test_a_name_in_other_capitals_has_the_same_token_when_a_history_grows() -> None:
    history = ("Patient: ZORKBA", "Zorkba slept")

    assert (
        _mask(*history, "Patient: Wurmbx").texts[:2] == _mask(*history).texts == ("Patient: [NAME_1]", "[NAME_2] slept")
    )


def test_the_words_between_the_parts_of_a_name_are_hidden_nowhere_else() -> None:
    masked = _mask("Dr. von der Zorkba", "Befund der Leber von gestern; van de afdeling, del brazo")

    assert masked.texts[1] == "Befund der Leber von gestern; van de afdeling, del brazo"


def test_a_name_as_dicom_writes_it_is_also_found_in_parts() -> None:
    masked = _mask("PatientName: ZORKBA^WURMBX\nZORKBA came; WURMBX slept.")

    assert masked.texts == ("PatientName: [NAME_1]\n[NAME_2] came; [NAME_3] slept.",)


def test_what_a_user_types_like_a_token_comes_back_literally_and_names_nobody() -> None:
    masked = _mask("what is [SSN_1]? and [ssn 2] and [TEXT_1]", "123-45-6789")

    assert masked.texts == ("what is [TEXT_1]? and [TEXT_2] and [TEXT_3]", "[SSN_1]")
    assert masked.tokens.restore(masked.texts[0]) == "what is [SSN_1]? and [ssn 2] and [TEXT_1]"
    assert masked.counts == {PhiClass.SSN: 1}


NOTE = "Seen.\n123-45-6789 and\tMRN: 12345678, born 1/2/1980.\nPatient: J\u00fcrgen M\u00fcller\n"


@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_json_escapes_is_found_and_comes_back_as_what_it_means(times: int) -> None:
    text = NOTE
    for _ in range(times):
        text = json.dumps({"note": text}).replace("/", "\\/")
    asked = f"Summarise this, for M\u00fcller: {text}"

    masked = _mask(asked)

    for hidden in ("123-45", "6789", "12345678", "1980", "rgen", "ller"):
        assert hidden not in masked.texts[0].removeprefix("Summarise this, for ")
    assert masked.counts == {PhiClass.SSN: 1, PhiClass.MRN: 1, PhiClass.DATE: 1, PhiClass.NAME: 2}
    if times == 1:
        assert json.loads(masked.texts[0].partition(": ")[2])["note"].startswith("Seen.\n[SSN_1] and\tMRN: [MRN_1]")
    assert masked.tokens.restore("[NAME_1] [DATE_1]") == "J\u00fcrgen M\u00fcller 1/2/1980"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("<p>MRN:&nbsp;12345678</p>", "<p>MRN:&nbsp;[MRN_1]</p>"),
        ("born 3&#47;14&#x2F;1962 &amp; well &unknown;", "born [DATE_1] &amp; well &unknown;"),
        ("SSN 123&#45;45&#45;6789", "SSN [SSN_1]"),
        ("AT&T, a&b; &#0; &#55357; &#1114112;", "AT&T, a&b; &#0; &#55357; &#1114112;"),
    ],
)
def test_what_html_escapes_is_found(text: str, masked: str) -> None:
    assert _mask(text).texts == (masked,)


def test_a_text_of_backslashes_takes_no_longer_than_another() -> None:
    text = "\\" * 32000
    began = time.process_time()
    masked = _mask(text)

    assert time.process_time() - began < 1
    assert masked.texts == (text,)


def test_where_a_path_looks_like_an_escape_it_is_read_as_it_stands_too() -> None:
    masked = _mask(r"C:\temp\n123-45-6789 and D:\notes\Dr.\u12 and \nabla 123-45-6789")

    assert "6789" not in masked.texts[0]
    assert masked.tokens.restore(masked.texts[0]).count("123-45-6789") == 2
    assert _mask(r"print('a\n\u00fc') \ud83d \u0007 \\").texts == (r"print('a\n\u00fc') \ud83d \u0007 \\",)


def test_a_name_in_small_letters_that_is_a_word_is_replaced_in_its_field_alone() -> None:
    masked = _mask('{"name": [{"family": "park", "given": ["will", "zork"]}]}', "zork will sit in the park, Park")

    assert masked.texts == (
        '{"name": [{"family": "[NAME_1]", "given": ["[NAME_2]", "[NAME_3]"]}]}',
        "[NAME_3] will sit in the park, Park",
    )


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Patient: M\u00fcller, J\u00f6rg was seen", "Patient: [NAME_1] was seen"),
        ("Dr. Jos\u00e9 N\u00fa\u00f1ez saw Jos\u00e9", "Dr. [NAME_1] saw [NAME_2]"),
        ("Last name: \u1ebe\n", "Last name: \u1ebe\n"),
        ("Patient: Nguy\u1ec5n", "Patient: [NAME_1]"),
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_letter_and_its_mark_are_found_together(text: str, masked: str, form: Literal["NFC", "NFD"]) -> None:
    written = unicodedata.normalize(form, text)
    found = _mask(written)

    assert found.texts[0] == unicodedata.normalize(form, masked)
    assert found.tokens.restore(found.texts[0]) == written


def test_letters_as_wide_as_those_of_chinese_hide_nothing() -> None:
    assert _mask("\uff2d\uff32\uff2e\uff1a\uff10\uff10\uff19\uff11\uff18\uff12\uff17").texts[0].endswith("[MRN_1]")


def test_equal_requests_give_equal_masked_text() -> None:
    texts = ("123-45-6789 and MRN: 12345678", "[SSN_1]")

    assert _mask(*texts).texts == _mask(*texts).texts


@pytest.mark.parametrize(
    "form", ["[SSN_1]", "[ssn_1]", "[SSN 1]", "[ Ssn_1 ]", r"[SSN\_1]", "[SSN_01]", "[SSN-1]", "[SSN1]"]
)
def test_a_token_is_restored_in_the_forms_models_give_it(form: str) -> None:
    assert _mask("123-45-6789").tokens.restore(f"It is {form}.") == "It is 123-45-6789."


@pytest.mark.parametrize(
    "form", ["[SSN_2]", "[MRN_1]", "[SSN_]", "SSN_1", "[SSN_1", "[\u017fSN_1]", "[SSN_1 or 2]", "[SSN_٣]"]
)
def test_what_is_no_token_of_this_request_stays(form: str) -> None:
    assert _mask("123-45-6789").tokens.restore(f"It is {form}.") == f"It is {form}."


def test_no_form_of_a_token_is_longer_than_the_bound() -> None:
    longest = "[  ADDRESS\\_-999999  ]"

    assert TOKEN.fullmatch(longest)
    assert len(longest) == MAX_TOKEN_CHARACTERS


def test_text_without_identifiers_is_given_back_as_it_was() -> None:
    masked = _mask("nothing here", "")

    assert masked.texts == ("nothing here", "")
    assert masked.tokens == TokenMap()
