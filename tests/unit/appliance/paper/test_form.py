"""Sheets on paper: one content as PDF and as HTML, whatever somebody typed into a name."""

import io
from html.parser import HTMLParser
from pathlib import Path

import pypdf
import pytest

from appliance.paper.form import Form, Section, Table, shown
from appliance.paper.page import html
from appliance.paper.sheet import pdf

_EVIL = '"><script>alert(1)</script><img src=x onerror=y>{{ 7*7 }}\u202ednoces\u2066\x00\x1b[31m\u200b\nnext'
_FORM = Form(
    title=f"Evidence {_EVIL}",
    result=f"REFUSED {_EVIL}",
    at="2026-11-21T09:00:00Z",
    sections=(
        Section(title=f"s {_EVIL}", facts=((f"name {_EVIL}", _EVIL), ("Zoë", "漢字 ok"))),
        Section(
            title="Checks",
            table=Table(
                heads=("n", _EVIL), rows=(*((str(n), "ab" * 32) for n in range(50)), ("x", _EVIL)), widths=(1, 5)
            ),
            notes=(f"note {_EVIL}",),
            lines=((_EVIL, "signature", "date"),),
        ),
    ),
)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def _text(made: bytes) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(made)).pages)


def test_a_page_holds_no_markup_that_somebody_typed_and_nothing_that_runs_or_loads() -> None:
    read = _Tags()
    read.feed(html(_FORM).decode())

    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "section"}
    assert set(read.tags) <= allowed | {"table", "tr", "th", "td", "div", "span"}
    assert read.attributes <= {"lang", "charset", "http-equiv", "content", "class"}
    assert "<script>alert(1)</script>" in read.text
    assert "{{ 7*7 }}" in read.text


@pytest.mark.parametrize("hidden", ["\u202e", "\u2066", "\x00", "\x1b", "\u200b", "\u2028", "\ufeff", "\u00ad"])
def test_what_nobody_would_see_is_spelled_as_its_number(hidden: str) -> None:
    made = html(Form(title="t", result=f"a{hidden}b", at="2026-11-21T09:00:00Z", sections=())).decode()

    assert hidden not in made
    assert f"a&lt;U+{ord(hidden):04X}&gt;b" in made


def test_marks_that_pile_up_and_texts_without_end_are_bounded() -> None:
    assert shown("e" + "\u0301" * 2) == "e\u0301\u0301"
    assert shown("e" + "\u0301" * 9).count("\u0301") == 2
    assert len(shown("x" * 99_999)) < 2000


def test_a_pdf_says_the_same_on_as_many_pages_as_it_needs_and_the_same_bytes_each_time() -> None:
    made = pdf(_FORM)
    text = _text(made)

    assert made == pdf(_FORM)

    assert len(pypdf.PdfReader(io.BytesIO(made)).pages) > 1
    assert text.count("ab" * 12) >= 50
    assert "<U+202E>" in text
    assert "Zoë" in text
    assert "\u202e" not in text
    assert "page 1 of" in text


def test_a_machine_without_the_fonts_loses_no_name(tmp_path: Path) -> None:
    text = _text(pdf(_FORM, fonts=tmp_path))

    assert "Zoë" in text
    assert "<U+6F22><U+5B57>" in text
