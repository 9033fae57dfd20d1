"""What a sheet says, before it is drawn: sections of facts, a table, notes, and lines to sign on.

Texts may come from a medium, from a person or from the ledger. `shown` makes each safe to look at: nothing in it can
turn the reading direction, hide, break a line or leave the cell.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MOST: Final = 1200
_MARKS_IN_A_ROW: Final = 2
# Everything that is no letter, mark, number, punctuation, symbol or the plain blank: controls, marks of direction,
# surrogates, private and unassigned code points, separators.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under headings; `widths` are shares of the page, one for each column."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    widths: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A plot: numbers that are not negative, each with its label; `unit` stands behind each number."""

    title: str
    rows: tuple[tuple[str, int], ...]
    unit: str = ""

    def share(self, value: int) -> float:
        """Return how long a bar is, of the longest; between 0 and 1."""
        return max(0, value) / max([1, *(each for _, each in self.rows)])

    def said(self, value: int) -> str:
        """Return a number as it stands beside its bar."""
        return f"{value} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a sheet: facts, plots, then a table, then notes, then rows of labelled lines to write on."""

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    bars: tuple[Bars, ...] = ()
    table: Table | None = None
    notes: tuple[str, ...] = ()
    lines: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A sheet.

    Args:
        title: At the top and at the foot of each page.
        result: One line that a person looks for first.
        at: RFC 3339; the date of the file, so that equal sheets have equal bytes.
        sections: From top to bottom.
    """

    title: str
    result: str
    at: str
    sections: tuple[Section, ...]


def shown(text: str) -> str:
    """Return a text as it may be printed: what nobody would see is spelled as its number, and it has an end."""
    return "".join(_seen(text if len(text) <= _MOST else f"{text[:_MOST]}…"))


def _seen(text: str) -> Iterator[str]:
    marks = 0
    for each in text:
        category = unicodedata.category(each)
        marks = marks + 1 if category.startswith("M") else 0
        is_hidden = category in _UNSEEN and each != " "
        yield spelled_out(each) if is_hidden or marks > _MARKS_IN_A_ROW else each


def spelled_out(character: str) -> str:
    """Return a character as its number."""
    return f"<U+{ord(character):04X}>"
