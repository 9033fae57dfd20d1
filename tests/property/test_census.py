"""Laws of the census list: what is on it is found in any text, in its own place, and nothing of it stays behind."""

import unicodedata
from collections.abc import Callable
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.actions.census import parsed
from appliance.phi.census import Census
from appliance.phi.tokens import mask
from media.errors import SealiftError

_OTHER = (range(0x430, 0x450), range(0x3B1, 0x3C0), range(0x5D0, 0x5DA), range(0x627, 0x630), range(0x915, 0x920))
_letters = st.sampled_from(
    [*"abcdefghijklmnopqrstuvwxyzäöüéèñçøåßłčşğ", *(chr(point) for points in _OTHER for point in points)]
)
_word = st.text(_letters, min_size=2, max_size=8).map(str.title)
_joined = st.builds("{}{}{}".format, _word, st.sampled_from(["-", "'", "\u2019"]), _word)
_part = st.one_of(_word, _word, _joined)
_latin = st.lists(_part, min_size=2, max_size=4)
_han = st.text(st.sampled_from("山田太郎李明王小芳김민수佐藤"), min_size=2, max_size=4).map(lambda name: [name])
_parts = st.one_of(_latin, _latin, _han)
_listed = st.builds(lambda parts, comma: ", ".join([parts[-1], " ".join(parts[:-1])]) if comma and len(parts) > 1
                    else " ".join(parts), _parts, st.booleans())  # fmt: skip
_scrap = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["the", "Patient", "[NAME_1]", "\u200b", "\u0301", "'s", ",", ", ", "12", "-", "é"]),
)
_invisible = st.sampled_from(["", "\u200b", "\u00ad", "\ufeff", "\u2060"])
_bend: st.SearchStrategy[Callable[[str], str]] = st.sampled_from(
    [
        str,
        str.upper,
        str.lower,
        lambda name: unicodedata.normalize("NFD", name),
        lambda name: name.replace(" ", "\u00a0"),
    ]
)


@given(st.lists(_listed, min_size=1, max_size=6), st.data())
@settings(deadline=None)
def test_every_whole_name_is_found_in_any_text(names: list[str], data: st.DataObject) -> None:
    census = Census(names)
    name = data.draw(st.sampled_from(names))
    family, comma, given_names = name.partition(", ")
    orders = [name, f"{given_names} {family}"] if comma else [name]
    written = data.draw(_bend)(data.draw(st.sampled_from(orders)))
    if len(written) > 3 and not any(unicodedata.combining(one) for one in written):
        at = data.draw(st.integers(1, len(written) - 1))
        written = written[:at] + data.draw(_invisible) + written[at:]
    before, after = "".join(data.draw(st.lists(_scrap, max_size=4))), "".join(data.draw(st.lists(_scrap, max_size=4)))
    # Beside a letter or a mark it would be another word; a text in which it stands alone holds it.
    text = f"{before} : {written} : {after}"
    start = len(before) + 3

    findings = census.find(text)

    assert any(one.start <= start and start + len(written.strip()) <= one.end for one in findings), ascii(text)


@given(
    st.lists(_listed, min_size=1, max_size=6), st.lists(st.one_of(_scrap, _listed, _word), max_size=10).map(" ".join)
)
@settings(deadline=None)
def test_findings_are_ordered_apart_and_inside_and_come_back(names: list[str], text: str) -> None:
    census = Census(names)

    findings = census.find(text)

    at = 0
    for one in findings:
        assert at <= one.start < one.end <= len(text)
        at = one.end
    masked = mask([text], census)
    assert [masked.tokens.restore(one) for one in masked.texts] == [text]
    assert not any(name in one for one in masked.texts for name in names if len(name.split()) > 1)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: f"name,x\n{text}".encode())),
       st.sampled_from([(), ("name",), ("x", "name")]))  # fmt: skip
def test_any_bytes_are_a_list_or_one_of_our_errors_that_says_nothing_of_it(
    untrusted: bytes, columns: tuple[str, ...]
) -> None:
    with suppress(SealiftError):
        names = parsed(untrusted, columns)
        assert names.names
        assert all(name == " ".join(name.split()) and len(name) <= 120 for name in names.names)


@given(st.lists(st.text(max_size=30), max_size=8), st.text(max_size=60))
def test_any_list_can_be_looked_for_in_any_text(names: list[str], text: str) -> None:
    findings = Census(names).find(text)

    assert all(text[one.start : one.end].strip() for one in findings)
