r"""What a text means where it holds JSON or HTML: escapes as the letters that they stand for, each known by its place.

`json.dumps` of Python writes `M\u00fcller`, PHP's `json_encode` `3\/14\/1962`; a line's end in a note is `\n`, which
stands as a letter before the next word; HTML has `O&#39;Brien` and `MRN:&nbsp;12345678`. No pattern finds an identifier
in that, so it is looked for in the plain text, and taken out of the text as it is. The escapes of JSON within JSON have
more backslashes; all of them are one.
"""

import html
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.phi.detect import Detector, Finding, merged, with_marks

_ESCAPE: Final = re.compile(
    r"(?<!\\)\\++(?:u([0-9a-fA-F]{4})|([nrt\"/]))|&(?:#[0-9]{1,6}|#[xX][0-9a-fA-F]{1,5}|[A-Za-z]{2,8});"
)
_LETTERS: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "/": "/"}
_SPACES: Final = "\n\r\t\u00a0"


@dataclass(frozen=True, slots=True)
class PlainText:
    """A text, what it means, and where each letter of that begins in it; `at` is empty where nothing is escaped."""

    written: str
    plain: str
    at: tuple[int, ...] = ()

    def written_at(self, place: int) -> int:
        """Return where the letter at a place of the plain text begins in the text."""
        return self.at[place] if self.at else place

    def found(self, detector: Detector) -> Sequence[Finding]:
        """Return what is found in the plain text, or in the text: a path may look like an escape, and is none."""
        found = with_marks(detector.find(self.plain), self.plain)
        if not self.at:
            return found
        written = with_marks(detector.find(self.written), self.written)
        return merged([*found, *map(self._in_plain, written)])

    def _in_plain(self, finding: Finding) -> Finding:
        """Return where in the plain text all of what was found in the text is."""
        start, end = bisect_right(self.at, finding.start) - 1, bisect_left(self.at, finding.end)
        return finding._replace(start=start, end=end)


def read(text: str) -> PlainText:
    """Return a text with what it means."""
    if "\\" not in text and "&" not in text:
        return PlainText(text, text)
    letters: list[str] = []
    at: list[int] = []
    last = 0
    for found in _ESCAPE.finditer(text):
        letter = _letter(found)
        if len(letter) != 1 or not (letter.isprintable() or letter in _SPACES):
            continue
        letters += (text[last : found.start()], letter)
        at.extend(range(last, found.start() + 1))
        last = found.end()
    if not last:
        return PlainText(text, text)
    at.extend(range(last, len(text) + 1))
    return PlainText(text, "".join([*letters, text[last:]]), tuple(at))


def _letter(found: re.Match[str]) -> str:
    if found[2]:
        return _LETTERS[found[2]]
    return chr(int(found[1], 16)) if found[1] else html.unescape(found[0])
