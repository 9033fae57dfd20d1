"""A text as words, each beside the form in which lists have it, made once for all questions about them."""

import re
import unicodedata
from collections.abc import Set as AbstractSet
from itertools import accumulate, compress
from typing import Final

_WORD: Final = re.compile(r"([^\W\d_](?:[\w\u2019'\u02bc-]{0,30}\w)?)")
_PLAIN_WORD: Final = re.compile("([A-Za-z][A-Za-z0-9_]*+(?:['-]++[A-Za-z0-9_]++)*+)")
_GAP: Final = re.compile(r"\.? {1,2}")
_OWNER: Final = re.compile(r"['\u2019\u02bc]s?\Z")
_APOSTROPHE: Final = re.compile("['\u2019\u02bc]")
_PLAIN: Final = str.maketrans(
    {"\u00f8": "o", "\u00d8": "o", "\u0142": "l", "\u0141": "l", "\u0111": "d", "\u0131": "i"}
)


class Wording:
    """The words of one text.

    Attributes:
        text: The text.
        known: Each word as lists have it: small, without accents and apostrophes, without an owner's `'s`.
        is_capital: Whether each begins with a capital.
        capitals: The numbers of those that do.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        is_plain = text.isascii()
        # Gaps and words in turns; all of it in a few calls, since a text is mostly words that are no names.
        pieces = (_PLAIN_WORD if is_plain else _WORD).split(text)
        self._gaps, self.written = pieces[::2], pieces[1::2]
        self._ends = list(accumulate(map(len, pieces)))
        if is_plain:
            self.known = list(map(str.lower, self.written))
            if "'" in text:
                self.known = [_folded(word) if "'" in word else word.lower() for word in self.written]
            self.is_capital = [word < "a" for word in self.written]
        else:
            self.known = [word.lower() if word.isalpha() and word.isascii() else _folded(word) for word in self.written]
            self.is_capital = [word[0].isupper() for word in self.written]
        self.capitals = list(compress(range(len(self.written)), self.is_capital))

    def __len__(self) -> int:
        return len(self.written)

    def span(self, at: int) -> tuple[int, int]:
        """Return where a word begins and ends."""
        return self._ends[2 * at], self._ends[2 * at + 1]

    def end(self, at: int) -> int:
        """Return where a word ends."""
        return self._ends[2 * at + 1]

    def between(self, at: int) -> str:
        """Return what stands between a word and the one before it; all before the first."""
        return self._gaps[at]

    def goes_on(self, at: int) -> bool:
        """Tell whether a word goes on with what the one before it began: no sentence ends between, no owner does."""
        between = self.between(at)
        if between == " ":
            return not self.is_owner(at - 1)
        # Only an initial has its point within a name.
        return _GAP.fullmatch(between) is not None and (between[0] != "." or len(self.written[at - 1]) == 1)

    def is_owner(self, at: int) -> bool:
        """Tell whether a word ends with an owner's `'s`."""
        return not self.written[at].isalpha() and _OWNER.search(self.written[at]) is not None

    def is_one_of(self, at: int, words: AbstractSet[str]) -> bool:
        """Tell whether there is such a word and a list has it."""
        return 0 <= at < len(self.known) and self.known[at] in words


def _folded(word: str) -> str:
    word = _APOSTROPHE.sub("", _OWNER.sub("", word))
    if not word.isascii():
        word = word.translate(_PLAIN)
        word = "".join(one for one in unicodedata.normalize("NFKD", word) if not unicodedata.combining(one))
    return word.lower()
