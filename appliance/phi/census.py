"""Finds the names of the site's own list in text, as whole names in any case and either order.

A name is a run of words: "O'Brien-Doe, Jane" and "jane obrien doe" differ in what stands between. Scripts that put no
spaces between words are read character by character. A family name alone counts where it is capitalised and is no
everyday word. Each word of a text is looked up once in a table by first word, so time grows with the text and not with
the list. What it cannot see: given names alone, nicknames, inflected or misspelt names, whoever is not on the list.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from appliance.phi.detect import Finding, Shadow, merged, shadow_of, with_marks
from appliance.phi.everyday import EPONYM_ENDS, EPONYMS, EVERYDAY, PARTICLES, TITLES
from appliance.phi.patterns import PhiClass

MOST_WORDS: Final = 24
_LONE: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_JAMO: Final = "[\u1100-\u1112][\u1161-\u1175][\u11a8-\u11c2]?"
_ASCII: Final = re.compile("[A-Za-z]+|[0-9]+")
_IS_LONE: Final = re.compile(f"[{_LONE}]|{_JAMO}")
# Between two words of one name, as lists, records and file names write it: Doe, Jane; DOE^JANE; doe_jane.
_GAP: Final = re.compile(r"[\s,.'\u2018\u2019\u02b9-\u02bc`\u00b4\u00b7\u30fb^|/*_-]{0,4}")
_JOINED: Final = re.compile(r"(?<=\w)['\u2018\u2019\u02b9-\u02bc`\u00b4](?=\w)")
_ALIKE: Final = str.maketrans(
    {"\u0131": "i", "ł": "l", "đ": "d", "ø": "o", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th"}
    | dict.fromkeys(map(chr, range(0x2B9, 0x2BD)), "")
)
_SPELLED: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_SHORTEST_FAMILY: Final = 2


class Census:
    """A list of names, ready to be looked for.

    Args:
        names: One person each: "Jane Doe", or "Doe, Jane" where it is to be known which is the family name.
    """

    def __init__(self, names: Iterable[str]) -> None:
        # By its words: whether it is found in any case, or only where it is capitalised.
        self._known: dict[str, bool] = {}
        self._lengths: dict[str, int] = {}
        for name in names:
            for words, is_whole in ways_of(name):
                joined = " ".join(words)
                self._known[joined] = self._known.get(joined, False) or is_whole
                self._lengths[words[0]] = self._lengths.get(words[0], 0) | 1 << len(words)

    def find(self, text: str) -> Sequence[Finding]:
        """Return the names in `text`; where some overlap, one finding that covers them."""
        return with_marks(self.find_in(shadow_of(text)), text)

    def find_in(self, shadowed: Shadow) -> Sequence[Finding]:
        """Return what `find` does for the text with this shadow."""
        shadow, places = shadowed
        spans = [match.span() for match in _words_in(shadow)]
        if shadow.isascii():
            lowered = shadow.lower()
            words = [lowered[start:end] for start, end in spans]
        else:
            words = [_folded(shadow[start:end]) for start, end in spans]
        found = []
        for at, word in enumerate(words):
            lengths = self._lengths.get(word)
            if not lengths:
                continue
            last = self._longest(shadow, spans, words, at, lengths)
            if last < 0:
                continue
            start, end = spans[at][0], spans[last][1]
            if places is not None:
                start, end = places[start], places[end - 1] + 1
            found.append(Finding(start=start, end=end, phi_class=PhiClass.NAME, extra=True))
        return merged(found) if len(found) > 1 else found

    def _longest(
        self, shadow: str, spans: Sequence[tuple[int, int]], words: Sequence[str], at: int, lengths: int
    ) -> int:
        """Return the place of the last word of the longest name that begins here; -1 where none does."""
        joined, best = "", -1
        for last in range(at, min(at + lengths.bit_length() - 1, len(words))):
            if last > at and not _GAP.fullmatch(shadow, spans[last - 1][1], spans[last][0]):
                break
            joined = f"{joined} {words[last]}" if joined else words[last]
            if lengths >> (last - at + 1) & 1:
                is_whole = self._known.get(joined)
                if is_whole or (is_whole is False and _is_family(shadow, spans[at : last + 1], joined)):
                    best = last
        return best


def ways_of(name: str) -> Iterator[tuple[list[str], bool]]:
    """Yield the words of each way in which a name is looked for, and whether it is found in any case.

    None where it cannot be looked for: one everyday word, or one of a script without capitals.
    """
    for spelling in _spellings(name):
        before, _, after = shadow_of(spelling)[0].partition(",")
        family, given = _groups(before), _groups(after)
        yield from _ways(family, given)
        untitled = (
            [group for group in family if not _is_title(group)],
            [group for group in given if not _is_title(group)],
        )
        if untitled != (family, given):
            yield from _ways(*untitled)


def _ways(family: list[list[str]], given: list[list[str]]) -> Iterator[tuple[list[str], bool]]:
    for groups in _orders(family, given):
        words = [word for group in groups for word in group]
        if 1 < len(words) <= MOST_WORDS:
            yield words, True
    for groups in _families(family, given):
        words = [word for group in groups for word in group]
        if len(words) <= MOST_WORDS and _may_stand_alone(words):
            yield words, False


def _spellings(name: str) -> Iterator[str]:
    """Yield a name as it is written, without apostrophes, and with umlauts written as two letters."""
    spellings = [name, _JOINED.sub("", name)] if _JOINED.search(name) else [name]
    for spelling in spellings:
        yield spelling
        if not spelling.isascii():
            lowered = unicodedata.normalize("NFC", spelling).lower()
            spelled = lowered.translate(_SPELLED)
            if spelled != lowered:
                yield spelled


def _orders(family: list[list[str]], given: list[list[str]]) -> list[list[list[str]]]:
    whole = [*family, *given]
    orders = [whole[cut:] + whole[:cut] for cut in range(len(whole))]
    if len(given) > 1:
        orders += [[*family, given[0]], [given[0], *family]]
    if given and len(family) > 1:
        for one in (family[0], family[-1]):
            orders += [[given[0], one], [one, given[0]]]
    if not given and len(whole) > 2:
        orders += [[whole[0], whole[-1]], [whole[-1], whole[0]]]
    return orders


def _families(family: list[list[str]], given: list[list[str]]) -> list[list[list[str]]]:
    if not given:
        return [family[-1:]]
    return [family, *([one] for one in family)] if len(family) > 1 else [family]


def _groups(part: str) -> list[list[str]]:
    groups = [[_folded(match[0]) for match in _words_in(group)] for group in part.split()]
    return [words for words in groups if words]


def _is_title(group: Sequence[str]) -> bool:
    return len(group) == 1 and group[0] in TITLES


def _may_stand_alone(words: Sequence[str]) -> bool:
    joined = "".join(words)
    if len(joined) < _SHORTEST_FAMILY or any(word.isdigit() for word in words) or joined.upper() == joined:
        return False
    return len(words) > 1 or not (joined in EVERYDAY or joined in PARTICLES or joined in TITLES)


def _is_family(shadow: str, spans: Sequence[tuple[int, int]], joined: str) -> bool:
    if not any(shadow[start].isupper() for start, _ in spans):
        return False
    return not (joined in EPONYMS and EPONYM_ENDS.match(shadow, spans[-1][1]))


def _words_in(shadow: str) -> Iterator[re.Match[str]]:
    return (_ASCII if shadow.isascii() else _any_word()).finditer(shadow)


@lru_cache(maxsize=1)
def _any_word() -> re.Pattern[str]:
    marks = "".join(
        re.escape(chr(point))
        for point in range(0x300, 0x10000)
        if unicodedata.category(chr(point)).startswith("M") and not _IS_LONE.match(chr(point))
    )
    letter = rf"[^\W\d_{_LONE}]"
    return re.compile(rf"[{_LONE}][\u3099\u309a]?|{_JAMO}|[0-9]+|{letter}+(?:[{marks}]+{letter}*)*")


@lru_cache(maxsize=4096)
def _folded(word: str) -> str:
    """Return what is compared: without case, accents and points; ligatures and like letters as plain ones."""
    if word.isascii() or _IS_LONE.match(word):
        return unicodedata.normalize("NFC", word).lower()
    parts = unicodedata.normalize("NFKD", word.casefold()).translate(_ALIKE)
    return "".join(one for one in parts if not unicodedata.combining(one)).casefold() or word
