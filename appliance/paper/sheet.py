"""A sheet as PDF, A4. Equal sheets have equal bytes; no clock is read.

DejaVu is embedded where the machine has it; elsewhere PDF's own fonts are used. A character that the font cannot draw
is spelled as its number, so that a name is never lost.
"""

from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from fpdf import FPDF
from fpdf.enums import TableBordersLayout
from fpdf.fonts import FontFace, TTFFont

from appliance.paper.bars import short
from appliance.paper.form import Bars, Form, Section, Table, shown, spelled_out

FONTS: Final = Path("/usr/share/fonts/truetype/dejavu")
_FILES: Final = {"": "DejaVuSans.ttf", "B": "DejaVuSans-Bold.ttf"}
_FAMILY: Final = "sans"
_CORE: Final = "helvetica"
_LINE: Final = 5.0
_NAMES: Final = 52.0
_NUMBERS: Final = 30.0
_BAR: Final = 4.4


def pdf(form: Form, *, fonts: Path = FONTS) -> bytes:
    """Return the file.

    Args:
        form: What it says.
        fonts: The folder with DejaVu.
    """
    sheet = _Sheet(form, fonts)
    for section in form.sections:
        sheet.section(section)
    return bytes(sheet.page.output())


class _Page(FPDF):
    """A4 with the sheet's name and the page number at the foot."""

    footer_text = ""
    family = _CORE

    def footer(self) -> None:
        self.set_y(-12)
        self.set_font(self.family, size=8)
        self.cell(0, 5, f"{self.footer_text}   page {self.page_no()} of {{nb}}", align="C")


class _Sheet:
    def __init__(self, form: Form, fonts: Path) -> None:
        self.page = _Page(format="A4")
        self._drawn: frozenset[int] | None = None
        if all((fonts / name).is_file() for name in _FILES.values()):
            for style, name in _FILES.items():
                self.page.add_font(_FAMILY, style, fonts / name)
            self.page.family = _FAMILY
            drawn = [set(font.cmap) for font in self.page.fonts.values() if isinstance(font, TTFFont)]
            self._drawn = frozenset(set.intersection(*drawn))
        self.page.footer_text = self._text(form.title)
        self.page.set_creation_date(datetime.fromisoformat(form.at))
        self.page.set_title(self._text(form.title))
        self.page.set_producer("sealift")
        self.page.set_margins(14, 14)
        self.page.set_auto_page_break(auto=True, margin=18)
        self.page.add_page()
        self._write(form.title, size=15, style="B", height=8)
        self._write(form.result, size=11, style="B", height=6, border=1)

    def section(self, section: Section) -> None:
        self._keep(4 * _LINE)
        self.page.ln(3)
        self._write(section.title, size=11.5, style="B", height=6)
        for name, text in section.facts:
            self._fact(name, text)
        for bars in section.bars:
            self._bars(bars)
        if section.table is not None:
            self._table(section.table)
        for note in section.notes:
            self._write(note)
        for labels in section.lines:
            self._lines(labels)

    def _fact(self, name: str, text: str) -> None:
        self._keep(_LINE)
        top = self.page.get_y()
        self._write(name, width=_NAMES - 2)
        bottom = self.page.get_y()
        self.page.set_xy(self.page.l_margin + _NAMES, top)
        self._write(text, style="B", width=self.page.epw - _NAMES)
        self.page.set_xy(self.page.l_margin, max(bottom, self.page.get_y()))

    def _bars(self, bars: Bars) -> None:
        self._keep(3 * _LINE)
        self._write(bars.title, style="B", size=9)
        self.page.set_font(self.page.family, size=8)
        self.page.set_fill_color(42, 111, 151)
        room = self.page.epw - _NAMES - _NUMBERS
        for label, value in bars.rows:
            self._keep(_BAR)
            top, wide = self.page.get_y(), room * bars.share(value)
            self.page.cell(_NAMES - 2, _BAR, self._text(short(label)), align="R")
            self.page.rect(self.page.l_margin + _NAMES, top + 0.6, max(wide, 0.1), _BAR - 1.2, style="F")
            self.page.set_xy(self.page.l_margin + _NAMES + wide + 1, top)
            self.page.cell(_NUMBERS, _BAR, self._text(bars.said(value)))
            self.page.set_xy(self.page.l_margin, top + _BAR)
        self.page.ln(1)

    def _table(self, table: Table) -> None:
        self.page.set_font(self.page.family, size=8)
        with self.page.table(
            col_widths=table.widths,
            text_align="LEFT",
            line_height=4.2,
            headings_style=FontFace(emphasis="BOLD"),
            borders_layout=TableBordersLayout.ALL,
        ) as drawn:
            for row in (table.heads, *table.rows):
                line = drawn.row()
                for cell in row:
                    line.cell(self._text(cell))
        self.page.ln(1)

    def _lines(self, labels: tuple[str, ...]) -> None:
        self._keep(18)
        self.page.ln(11)
        width, top = self.page.epw / max(1, len(labels)), self.page.get_y()
        for place, label in enumerate(labels):
            left = self.page.l_margin + place * width
            self.page.line(left, top, left + width - 4, top)
            self.page.set_xy(left, top + 0.6)
            self.page.set_font(self.page.family, size=8)
            self.page.cell(width - 4, 4, self._text(label))
        self.page.set_xy(self.page.l_margin, top + 6)

    def _keep(self, height: float) -> None:
        if self.page.will_page_break(height):
            self.page.add_page()

    def _write(
        self,
        text: str,
        *,
        size: float = 9.5,
        style: str = "",
        height: float = _LINE,
        width: float = 0,
        border: Literal[0, 1] = 0,
    ) -> None:
        self.page.set_font(self.page.family, style, size)
        made = self._text(text) or " "
        self.page.multi_cell(width, height, made, align="L", border=border, new_x="LMARGIN", new_y="NEXT")

    def _text(self, text: str) -> str:
        return "".join(each if self._can_draw(each) else spelled_out(each) for each in shown(text))

    def _can_draw(self, character: str) -> bool:
        if self._drawn is None:
            return bool(character.encode("latin-1", "ignore"))
        return ord(character) in self._drawn
