"""Laws of masking and restoring, for any text, any cut and any model that bends tokens a little."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.phi import escapes
from appliance.phi.detect import PatternDetector
from appliance.phi.jsonform import JsonForm
from appliance.phi.restore import Restorer, inside_json
from appliance.phi.tokens import MAX_TOKEN_CHARACTERS, TOKEN, TokenMap, mask

_DETECTOR = PatternDetector()
_digits = st.text("0123456789", min_size=1, max_size=6)
_ssn = st.from_regex(r"[0-9]{3}-[0-9]{2}-[0-9]{4}", fullmatch=True)
_mrn = st.from_regex(r"MRN:\s{0,2}[0-9]{6,10}", fullmatch=True)
_date = st.from_regex(r"[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}", fullmatch=True)
_lookalike = st.builds(
    "[{}{}{}]".format, st.sampled_from(["SSN", "mrn", "DATE", "TEXT", "Name"]), st.sampled_from(["_", " ", ""]), _digits
)
_escaped = st.sampled_from([r"\n", r"\\t", r"\u00fc", r"\/", r"\"", "&nbsp;", "&#45;"])
_scrap = st.sampled_from(
    ["[", "]", "[SSN", "_1]", "[SSN_", "1", " ", "\n", "MRN:", "Patient: ", "é", "\u200b", "\\", '"']
)
_text = st.lists(st.one_of(_ssn, _mrn, _date, _lookalike, _scrap, _escaped, st.text(max_size=6)), max_size=12).map(
    "".join
)
_texts = st.lists(_text, min_size=1, max_size=4)


def _is_the_same(restored: str, text: str) -> bool:
    """Tell whether a text came back; what was escaped inside an identifier does as the letter that it stands for."""
    read = escapes.read(text)
    return restored == text or (bool(read.at) and escapes.read(restored).plain == read.plain)


@st.composite
def _cut(draw: Any, text: str) -> list[str]:
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)) | {0, len(text)})
    return [text[a:b] for a, b in pairwise(places)]


@given(_texts)
def test_restoring_masked_text_gives_the_text_it_was_made_from(texts: list[str]) -> None:
    masked = mask(texts, _DETECTOR)

    assert all(map(_is_the_same, map(masked.tokens.restore, masked.texts), texts))


@given(_texts)
def test_no_documented_identifier_is_left_in_masked_text(texts: list[str]) -> None:
    masked = mask(texts, _DETECTOR)

    left = [
        one
        for text in map(escapes.read, masked.texts)
        for one in text.found(_DETECTOR)
        # A field's value that was too long for a number may be none no more with a token at its head.
        if not (one.extra and TOKEN.match(text.plain, one.start))
    ]
    assert not left


@given(_texts)
def test_every_token_in_masked_text_is_one_of_this_request(texts: list[str]) -> None:
    masked = mask(texts, _DETECTOR)

    for text in masked.texts:
        for token in TOKEN.finditer(text):
            assert masked.tokens.value_of(token) is not None


@given(_texts, st.lists(_text, max_size=2))
def test_tokens_of_a_history_do_not_change_when_it_grows(texts: list[str], more: list[str]) -> None:
    values = mask(texts, _DETECTOR).tokens.values
    grown = mask([*texts, *more], _DETECTOR).tokens.values

    assert {key: value for key, value in values.items() if key[0] != "TEXT"}.items() <= grown.items()


@given(st.data(), _texts, st.lists(st.one_of(_lookalike, _scrap, st.text(max_size=4)), max_size=12).map("".join))
def test_every_split_of_an_answer_restores_to_the_same_text(data: st.DataObject, texts: list[str], answer: str) -> None:
    tokens = mask(texts, _DETECTOR).tokens
    restorer = Restorer(tokens)

    given_out = [restorer.feed(piece) for piece in data.draw(_cut(answer))]
    given_out.append(restorer.finish())

    assert "".join(given_out) == tokens.restore(answer)


def test_every_single_split_point_of_every_token_restores_to_the_same_text() -> None:
    tokens = mask(["123-45-6789 MRN: 12345678 1/2/1980"], _DETECTOR).tokens
    answer = "a [SSN_1] b [ mrn 1 ] [[DATE\\_1]] c [SSN_9] [SSN_1"
    whole = tokens.restore(answer)

    for first in range(len(answer) + 1):
        for second in range(first, len(answer) + 1):
            restorer = Restorer(tokens)
            pieces = (answer[:first], answer[first:second], answer[second:])
            assert "".join([*map(restorer.feed, pieces), restorer.finish()]) == whole


@given(st.data(), st.lists(st.one_of(_lookalike, _scrap, st.text(max_size=4)), max_size=12).map("".join))
def test_never_more_than_one_token_is_held_back(data: st.DataObject, answer: str) -> None:
    restorer = Restorer(TokenMap())
    fed = given_out = 0

    for piece in data.draw(_cut(answer)):
        fed += len(piece)
        given_out += len(restorer.feed(piece))
        assert fed - given_out < MAX_TOKEN_CHARACTERS


@given(_texts, _texts)
def test_a_token_of_another_request_is_left_as_it_is(mine: list[str], others: list[str]) -> None:
    own, foreign = mask(mine, _DETECTOR).tokens, mask(others, _DETECTOR)
    answer = "".join(foreign.texts)

    unknown = [token[0] for token in TOKEN.finditer(answer) if own.value_of(token) is None]
    restorer = Restorer(own)
    restored = restorer.feed(answer) + restorer.finish()

    assert restorer.unknown == len(unknown)
    assert all(token in restored for token in unknown)


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=5), _text, max_size=4))
def test_restoring_inside_a_tool_calls_arguments_keeps_them_json(arguments: dict[str, str]) -> None:
    masked = mask(list(arguments.values()), _DETECTOR)
    restorer = Restorer(masked.tokens, put=inside_json)
    sent = json.dumps(dict(zip(arguments, masked.texts, strict=True)), ensure_ascii=False)

    restored = restorer.feed(sent) + restorer.finish()

    returned = json.loads(restored)
    assert list(returned) == list(arguments)
    assert all(map(_is_the_same, returned.values(), arguments.values()))


_values = st.text(st.sampled_from('ab"\\\n\t/ {[]}:,é'), max_size=6)
_leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), _values)
_documents = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_values, inner, max_size=3), max_leaves=8
).filter(lambda value: isinstance(value, dict | list))
_prose = st.text(st.sampled_from("ab .:`\n{["), max_size=6)


@given(st.data(), _prose, _documents, _values, st.sampled_from([None, 1, 2]))
def test_json_in_a_plain_answer_stays_json_whatever_is_put_back_into_it(
    data: st.DataObject, before: str, value: Any, held: str, indent: int | None
) -> None:
    told, wanted = {"who": "[NAME_1]", "[NAME_1]": value, "all": ["x [NAME_1]", {}]}, {"who": held, held: value}
    written = json.dumps(told, ensure_ascii=data.draw(st.booleans()), indent=indent)
    restorer = Restorer(TokenMap(values={("NAME", 1): held}), put=None)

    pieces = [restorer.feed(piece) for piece in data.draw(_cut(f"{before}{written}"))]
    restored = "".join([*pieces, restorer.finish()])

    assert json.loads(restored.removeprefix(before)) == {**wanted, "all": [f"x {held}", {}]}


@given(st.data(), st.text(st.sampled_from('ab"\\\n{}[]:,1 '), max_size=20))
def test_the_form_of_an_answer_is_the_same_however_it_is_cut(data: st.DataObject, answer: str) -> None:
    whole, cut = JsonForm(), JsonForm()

    whole.read(answer)
    for piece in data.draw(_cut(answer)):
        cut.read(piece)

    assert cut.is_in_text == whole.is_in_text
