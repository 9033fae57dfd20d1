"""Where words were set together without a blank: text taken out of a PDF, names of files, emphasis of Markdown.

`01/02/1970MRN: 123456`, `patient_123-45-6789.pdf` and `_Mr. Quist_` have no word boundary where an identifier begins or
ends, so no pattern finds it. What is read in place of such a text has a blank there.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

_FORM: Final = (
    r"(?:\d{3}-\d{2}-\d{4}|\d{1,2}/\d{1,2}/\d{4}|(?:19|20)\d{2}-\d{2}-\d{2}|(?<=_)\d{1,2}([.-])\d{1,2}\1(?:19|20)\d{2})"
)
_BEGINS: Final = re.compile(rf"{_FORM}(?![\d/]|-\d)")
_ENDS: Final = re.compile(rf"(?<![\d/])(?<!\d-)(?:{_FORM}|(?:\) ?|\d{{3}}[.-])\d{{3}}[.-]\d{{4}})\Z")
_LONGEST_FORM: Final = 12
_LETTER: Final = r"[A-Za-z_\u00c0-\u024f]"
# Where letter and digit meet. The digit is looked for first: a set of characters is what is looked for fastest.
_MEET: Final = re.compile(rf"[0-9](?:(?={_LETTER})(?<=[0-9][0-9])|(?<={_LETTER}.)(?=[0-9]{{0,3}}[-/.]))")
# What a form calls its next field, behind a number.
_LABEL: Final = re.compile(
    r"(?<=\d{4})(?:MRN|SSN|DOB|DOS|NPI|MBI|(?:(?:Patient|Last|First|Full) )?Name|Patient|Phone|Tel|Fax|Email|Address"
    r"|Sex|Gender|Age|Room|Account|Insurance|Provider|Physician|Attending|Date)\b ?[:#]"
)
# Names that Python keeps for itself (`__name__`) are no emphasis.
_EMPHASIS: Final = re.compile(r"(?<![\w\\/])(?!__[a-z]+__)(_{1,3})(?=[^\W_])([^_\n]{1,200})(?<![\s(])\1(?![\w(=])")


def without_seams(text: str, places: Sequence[int] | None) -> tuple[str, Sequence[int] | None]:
    """Return a text with blanks at its seams, and each character's place where that differs from before.

    Args:
        text: What patterns read.
        places: Each of its characters' place; None where they are their own.
    """
    if "_" in text:
        text = _EMPHASIS.sub(_in_blanks, text)
    seams = sorted(set(_seams_of(text)))
    if not seams:
        return text, places
    parts: list[str] = []
    where: list[int] = []
    at = 0
    for seam in seams:
        parts += (text[at:seam], " ")
        # A blank has the place of what stands before it, so that nothing that ends there grows.
        where += (*range(at, seam), seam - 1)
        at = seam
    where.extend(range(at, len(text)))
    parts.append(text[at:])
    return "".join(parts), where if places is None else [places[one] for one in where]


def _seams_of(text: str) -> Iterator[int]:
    for meet in _MEET.finditer(text):
        start, end = meet.span()
        if text[end : end + 1].isalpha() or text[end : end + 1] == "_":
            if _ENDS.search(text, max(0, end - _LONGEST_FORM), end) or _LABEL.match(text, end):
                yield end
        elif _BEGINS.match(text, start):
            yield start


def _in_blanks(match: re.Match[str]) -> str:
    blanks = " " * len(match[1])
    return f"{blanks}{match[2]}{blanks}"
