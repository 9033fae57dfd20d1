import pytest

from bundler.debian.stanzas import fields, split
from bundler.errors import SourceError


def test_a_line_ends_at_a_line_feed_and_at_nothing_else() -> None:
    # As lists are read: UTF-8, a byte a character. U+0645 holds the byte 0x85, which Python takes for a line's end.
    arabic = "Package: x\nDescription: د عم م\n  و\x0b\x0c\x1c\u2028Size: 2\nSize: 1".encode().decode("latin-1")

    found = fields(arabic, label="x")

    assert (found["Package"], found["Size"]) == ("x", "1")
    assert set(found) == {"Package", "Description", "Size"}


@pytest.mark.parametrize("stanza", ["Package: x\nno field", "Package: x\nPackage: y", " folded first"])
def test_what_is_no_field_is_refused(stanza: str) -> None:
    with pytest.raises(SourceError, match="control format"):
        fields(stanza, label="x")


def test_stanzas_are_parted_by_an_empty_line() -> None:
    assert list(split("\n\nA: 1\nB: 2\n\n\nC: 3\n\n")) == ["A: 1\nB: 2", "C: 3"]
