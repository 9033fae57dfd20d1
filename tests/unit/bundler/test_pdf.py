"""Sheets of paper."""

import io
from datetime import UTC, datetime
from pathlib import Path

import zxingcpp
from pypdf import PdfReader

from bundler.pdf import Sheet

AT = datetime(2026, 11, 20, 8, tzinfo=UTC)


def filled(fonts: Path | None = None) -> bytes:
    sheet = Sheet("Custody of Ж", at=AT) if fonts is None else Sheet("Custody of Ж", at=AT, fonts=fonts)
    sheet.heading("1. Begin")
    sheet.text("Ärzte, naïve and Ω")
    sheet.mono("ABCD 1234")
    sheet.box("The cable is out.")
    sheet.lines(["name", "time", "signature"])
    sheet.facts([("Volume", "1 of 2"), ("Seal", "")])
    sheet.code("SEALIFT:1:TEST")
    return sheet.to_bytes()


def text_of(data: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(data)).pages)


def test_a_sheet_says_what_was_put_on_it_and_equal_sheets_are_equal_files() -> None:
    data = filled()

    assert data == filled()
    for said in ("1. Begin", "ABCD 1234", "The cable is out.", "signature", "1 of 2", "page 1 of 1"):
        assert said in text_of(data)


def test_without_dejavu_a_character_that_misses_is_spelled(tmp_path: Path) -> None:
    said = text_of(filled(tmp_path))

    assert "Custody of <U+0416>" in said
    assert "Ärzte, naïve and <U+03A9>" in said


def test_a_name_that_dejavu_cannot_draw_is_spelled_too() -> None:
    """It was left out: a ceremony's line to sign on, or a label, had nobody's name on it."""
    sheet = Sheet("Ceremony of 张伟", at=AT)
    sheet.text("สม signs, Ж too", bold=True)
    sheet.mono("joining file of 张\n✓ 1234")
    sheet.lines(["张伟"])
    sheet.facts([("For", "张")])

    said = text_of(sheet.to_bytes())

    assert said.count("Ceremony of <U+5F20><U+4F1F>") == 2  # at the foot, too
    assert "<U+0E2A><U+0E21> signs, Ж too" in said
    assert "joining file of <U+5F20>" in said
    assert "✓ 1234" in said
    assert said.count("<U+5F20>") == 5


def test_the_code_on_a_sheet_can_be_read() -> None:
    image = PdfReader(io.BytesIO(filled())).pages[0].images[0].image

    assert image is not None
    assert [
        each.text
        for each in zxingcpp.read_barcodes(image.convert("L"), formats=zxingcpp.barcode_formats_from_str("QRCode"))
    ] == ["SEALIFT:1:TEST"]


def test_a_long_sheet_goes_on_another_page() -> None:
    sheet = Sheet("Long", at=AT)
    for number in range(90):
        sheet.box(f"step {number}")

    assert len(PdfReader(io.BytesIO(sheet.to_bytes())).pages) > 1
