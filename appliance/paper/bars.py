"""A plot on a sheet: one bar for each label, with its number beside it; as SVG, and as PDF where the sheet is drawn."""

from html import escape
from typing import Final

from markupsafe import Markup

from appliance.paper.form import Bars, shown

_WIDTH: Final = 680
_LABEL: Final = 190
_NUMBER: Final = 110
_ROW: Final = 18
_LOOK: Final = 'role="img" font-family="sans-serif" font-size="11"'
_MOST_LETTERS: Final = 26


def short(label: str) -> str:
    """Return a label that fits beside its bar."""
    text = shown(label)
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"


def svg(bars: Bars) -> Markup:
    """Return the plot; every text is escaped, nothing in it runs or is loaded."""
    height = _ROW * (len(bars.rows) + 1) + 6
    room = _WIDTH - _LABEL - _NUMBER
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="100%" {_LOOK}>',
        f"<title>{escape(shown(bars.title))}</title>",
        f'<text x="0" y="12" font-weight="bold">{escape(shown(bars.title))}</text>',
    ]
    for number, (label, value) in enumerate(bars.rows):
        top = _ROW * (number + 1)
        wide = room * bars.share(value)
        parts += [
            f'<text x="{_LABEL - 6}" y="{top + 13}" text-anchor="end">{escape(short(label))}</text>',
            f'<rect x="{_LABEL}" y="{top + 3}" width="{wide:.1f}" height="{_ROW - 6}" fill="#2a6f97"/>',
            f'<text x="{_LABEL + wide + 5:.1f}" y="{top + 13}">{escape(shown(bars.said(value)))}</text>',
        ]
    return Markup("\n".join([*parts, "</svg>"]))  # noqa: S704 - made above, each text in it escaped
