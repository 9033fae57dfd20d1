"""Which texts a spreadsheet would run instead of show (OWASP, CSV injection); both sides write tables for people."""

import unicodedata
from typing import Final

_FORMULA: Final = frozenset("=+-@|%\t\r\n")


def is_like_formula(text: str) -> bool:
    """Tell whether a cell with this text is to get an apostrophe in front, as spreadsheets themselves mark text.

    Blanks before it count as nothing, and a character of another width as the plain one: some programs read it so.
    """
    begin = text[:1] + unicodedata.normalize("NFKC", text.lstrip()[:1])[:1]
    return any(character in _FORMULA for character in begin)
