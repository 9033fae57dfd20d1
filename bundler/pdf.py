"""Sheets of paper as PDF: A4 pages of headings, text, boxes to tick, lines to sign on, tables and QR codes.

DejaVu is embedded where the machine has it; elsewhere PDF's own fonts are used. A character that the font lacks is
spelled as its number, so that a name is never lost. The same sheet and the same time give the same bytes.
"""

import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import segno
from fpdf import FPDF
from fpdf.fonts import TTFFont

_FONTS: Final = Path("/usr/share/fonts/truetype/dejavu")
_FILES: Final = {
    ("sans", ""): "DejaVuSans.ttf",
    ("sans", "B"): "DejaVuSans-Bold.ttf",
    ("mono", ""): "DejaVuSansMono.ttf",
    ("mono", "B"): "DejaVuSansMono-Bold.ttf",
}
_CORE: Final = {"sans": "helvetica", "mono": "courier"}
_MARGIN: Final = 15.0
_LINE: Final = 5.2
"""Height of a line of text in millimetres."""


class _Page(FPDF):
    """A4 with the sheet's name and the page number at the foot."""

    def __init__(self) -> None:
        super().__init__(format="A4")
        self.footer_text = ""
        self.family = dict(_CORE)

    def footer(self) -> None:
        self.set_y(-12)
        self.set_font(self.family["sans"], size=8)
        self.cell(0, 5, f"{self.footer_text}   page {self.page_no()} of {{nb}}", align="C")


class Sheet:
    """A document of one or more A4 pages, filled from top to bottom. Texts may hold any character."""

    def __init__(self, title: str, *, at: datetime, fonts: Path = _FONTS) -> None:
        """Begin a sheet.

        Args:
            title: Stands at the top, at the foot of each page and in the file's properties.
            at: Written into the file as its date; nothing reads a clock.
            fonts: The folder with DejaVu; the core fonts are used when a file misses there.
        """
        self._page = _Page()
        if all((fonts / name).is_file() for name in _FILES.values()):
            for (family, style), name in _FILES.items():
                self._page.add_font(family, style, fonts / name)
                self._page.family[family] = family
        self._page.footer_text = self._text(title)
        self._page.set_creation_date(at)
        self._page.set_title(self._text(title))
        self._page.set_producer("sealift")
        self._page.set_margins(_MARGIN, _MARGIN)
        self._page.set_auto_page_break(auto=True, margin=18)
        self._page.add_page()
        self._write(title, size=15, style="B", height=8)

    def heading(self, text: str) -> None:
        """Add a heading that stays with the line after it."""
        self._keep(3 * _LINE)
        self._page.ln(2)
        self._write(text, size=11.5, style="B", height=6)

    def text(self, text: str, *, bold: bool = False, indent: float = 0) -> None:
        """Add a paragraph, wrapped at words, some millimetres from the margin."""
        self._page.set_x(_MARGIN + indent)
        self._write(text, style="B" if bold else "", width=self._page.epw - indent)

    def mono(self, text: str, *, indent: float = 0) -> None:
        """Add lines in a typewriter font: digests, fingerprints, commands."""
        self._page.set_x(_MARGIN + indent)
        self._write(text, family="mono", size=9, width=self._page.epw - indent)

    def box(self, text: str) -> None:
        """Add a paragraph with a box to tick before it."""
        self._keep(2 * _LINE)
        left, top = self._page.get_x(), self._page.get_y()
        self._page.rect(left, top + 1, 3.2, 3.2)
        self._page.set_x(left + 6)
        self._write(text, width=self._page.epw - 6)

    def lines(self, labels: Sequence[str]) -> None:
        """Add blank lines to write on, side by side, each with a label below it."""
        self._keep(16)
        self._page.ln(9)
        width = self._page.epw / max(1, len(labels))
        top = self._page.get_y()
        for place, label in enumerate(labels):
            left = _MARGIN + place * width
            self._page.line(left, top, left + width - 4, top)
            self._page.set_xy(left, top + 0.6)
            self._font(size=8)
            self._page.cell(width - 4, 4, self._text(label))
        self._page.set_xy(_MARGIN, top + 6)

    def facts(self, facts: Iterable[tuple[str, str]], *, width: float = 45) -> None:
        """Add names and what stands beside them; an empty one becomes a line to write on.

        Args:
            facts: In order.
            width: Of the names, in millimetres.
        """
        for name, found in facts:
            self._keep(_LINE)
            top = self._page.get_y()
            self._write(name, width=width - 2)
            bottom = self._page.get_y()
            self._page.set_xy(_MARGIN + width, top)
            if found:
                self._write(found, style="B", width=self._page.epw - width)
            else:
                self._page.line(_MARGIN + width, top + _LINE, _MARGIN + self._page.epw, top + _LINE)
            self._page.set_xy(_MARGIN, max(bottom, self._page.get_y()))

    def code(self, text: str, *, size: float = 40, error: str = "m") -> None:
        """Add a QR code of ASCII text.

        Args:
            text: What a camera reads.
            size: Its side in millimetres, with the quiet zone.
            error: How much may be damaged: `l`, `m`, `q` or `h`.
        """
        self._keep(size + 2)
        image = io.BytesIO()
        segno.make(text, error=error, micro=False, boost_error=False).save(image, kind="png", scale=4, border=4)
        image.seek(0)
        self._page.image(image, x=_MARGIN, y=self._page.get_y(), w=size, h=size)
        self._page.set_y(self._page.get_y() + size + 2)

    def gap(self, height: float = 3) -> None:
        """Leave room, in millimetres."""
        self._page.ln(height)

    def new_page(self) -> None:
        """Go on at the top of another page."""
        self._page.add_page()

    def to_bytes(self) -> bytes:
        """Return the file. The sheet ends with it."""
        return bytes(self._page.output())

    def _keep(self, height: float) -> None:
        if self._page.will_page_break(height):
            self._page.add_page()

    def _font(self, *, family: str = "sans", style: str = "", size: float = 10) -> None:
        self._page.set_font(self._page.family[family], style, size)

    def _write(
        self,
        text: str,
        *,
        family: str = "sans",
        style: str = "",
        size: float = 10,
        height: float = _LINE,
        width: float = 0,
    ) -> None:
        self._font(family=family, style=style, size=size)
        said = self._text(text, family=family, style=style) or " "
        self._page.multi_cell(width, height, said, align="L", new_x="LMARGIN", new_y="NEXT")

    def _text(self, text: str, *, family: str = "sans", style: str = "") -> str:
        """Return what the font can draw; the rest is spelled as U+ and its number."""
        return "".join(each if self._draws(each, f"{family}{style}") else f"<U+{ord(each):04X}>" for each in text)

    def _draws(self, character: str, name: str) -> bool:
        font = self._page.fonts.get(name)
        if not isinstance(font, TTFFont):
            return bool(character.encode("latin-1", "ignore"))
        return character.isspace() or ord(character) in font.cmap
