"""Recognises names that stand in text without a label, a title or an entry in the site's list.

By lists and by the words around, not by a trained model: whoever reads a finding can say which line caused it, and
nothing has to be loaded. Recall first, as in `detect`; a name alone that is also a word of the language counts only
where something beside it says that somebody is meant. What stays unseen: a rare name that stands alone in the middle of
a sentence, a name in lower case, a name in a script without capitals.

Rules:
    NAMES-1 A given name with what follows it in capitals is a name: `Dolores`, `Maria del Carmen Ochoa Ruiz`.
    NAMES-2 A family name with a given name behind its comma is one: `OKAFOR, Grace`.
    NAMES-3 A frequent family name is one by itself, unless it names a disease or a thing: `Kowalski`, not `Hodgkin`.
    NAMES-4 Capitalised words after a kin or a trade (`wife`, `nurse`), a greeting, initials, or before letters of a
        trade (`RN`) are one.
    NAMES-5 A capitalised word that does what only people do, or to whom it is done, is one: `told Okonkwo`.
    NAMES-6 A capitalised word joined to a name by `and` is one.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Final

from appliance.phi.detect import Finding, Shadow, merged, shadow_of
from appliance.phi.everyday import EPONYM_ENDS, EPONYMS, EVERYDAY, PARTICLES
from appliance.phi.patterns import PhiClass
from appliance.phi.surroundings import (
    DEALT,
    ENDS,
    KIN,
    NEVER,
    OPENINGS,
    PERSON_VERBS,
    PLACE_ENDS,
    THINGS,
    TOWARDS,
    TRADES,
)

_WORD: Final = re.compile(r"[^\W\d_](?:[\w\u2019'\u02bc-]{0,30}\w)?")
_GAP: Final = re.compile(r"\.? {1,2}")
_COMMA: Final = re.compile(r", {0,2}")
_AND: Final = re.compile(r" (?:and|und|y|e|et|&) ")
_FIELD: Final = re.compile(r"[\t\u21e5:|]\s{0,4}[\"']?\Z")
_OWNER: Final = re.compile(r"['\u2019\u02bc]s?$")
_APOSTROPHE: Final = re.compile("['\u2019\u02bc]")
_PLAIN: Final = str.maketrans(
    {"\u00f8": "o", "\u00d8": "o", "\u0142": "l", "\u0141": "l", "\u0111": "d", "\u0131": "i"}
)
_MOST_WORDS: Final = 6
_BESIDE: Final = frozenset({" ", "  ", ", ", ": "})
_JOINERS: Final = frozenset({"and", "und", "et"})


def _listed(name: str) -> dict[str, bool]:
    """Return the names of a list, and whether each is nothing else."""
    text = files(__package__).joinpath(name).read_text("utf-8")
    return {line.rstrip("?"): not line.endswith("?") for line in text.splitlines() if line and line[0] != "#"}


_LETTERS_OF_TRADES: Final = frozenset(
    [
        "RN",
        "MD",
        "DO",
        "NP",
        "PA",
        "PA-C",
        "LPN",
        "PhD",
        "PharmD",
        "MSW",
        "LCSW",
        "CNA",
        "DPT",
        "FRCP",
        "MBBS",
        "Jr",
        "Sr",
        "CRNA",
        "DNP",
    ]
)


class NameRecogniser:
    """Finds names by the lists of this package; holds nothing of any text."""

    def __init__(self) -> None:
        self._given = _listed("given-names.txt")
        self._family = _listed("family-names.txt")

    def find(self, text: str) -> Sequence[Finding]:
        """Return the names in `text`, in order, without overlaps."""
        return self.find_in(shadow_of(text))

    def find_in(self, shadowed: Shadow) -> Sequence[Finding]:
        """Return what `find` does for the text with this shadow."""
        shadow, places = shadowed
        words = [match.span() for match in _WORD.finditer(shadow)]
        found = []
        for first, last in self._names(shadow, words):
            start, end = words[first][0], words[last][1]
            if places is not None:
                start, end = places[start], places[end - 1] + 1
            found.append(Finding(start=start, end=end, phi_class=PhiClass.NAME, extra=True))
        return merged(found) if len(found) > 1 else found

    def _names(self, text: str, words: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield the first and the last word of each name."""
        after = -1
        for at, (start, end) in enumerate(words):
            if at <= after or not text[start].isupper():
                continue
            word = text[start:end]
            known = _folded(word)
            last = self._last(text, words, at, known)
            if last < 0:
                continue
            yield at, last
            after = last
            joined = self._joined(text, words, last)
            if joined > last:
                yield joined, self._end(text, words, joined)
                after = joined

    def _last(self, text: str, words: Sequence[tuple[int, int]], at: int, known: str) -> int:
        """Return the last word of the name that begins here; -1 where none does."""
        end = self._end(text, words, at)
        if known in KIN and not self._is_given(known):
            return -1
        if known in NEVER and not self._goes_on_with_a_name(text, words, at, end):
            return -1
        if (given := self._after_comma(text, words, at)) >= 0:
            return self._end(text, words, given)
        if self._is_given(known):
            counts = end > at or self._is_only_given(known) or self._is_meant(text, words, at)
        else:
            is_initial = end > at and self._is_initial(text, words, at)
            is_meant = known not in EPONYMS and self._is_meant(text, words, at)
            counts = is_initial or is_meant or known in self._family
        return end if counts and not self._is_thing(text, words, at, end) else -1

    def _end(self, text: str, words: Sequence[tuple[int, int]], at: int) -> int:
        """Return the last word of what goes on in capitals from here, with particles and initials between."""
        last = at
        for place in range(at + 1, min(at + _MOST_WORDS, len(words))):
            start, end = words[place]
            if not _GAP.fullmatch(text, words[place - 1][1], start):
                break
            gap_has_point = text[words[place - 1][1]] == "."
            if gap_has_point and words[place - 1][1] - words[place - 1][0] > 1:
                break  # a sentence ends here; only an initial has its point
            if _OWNER.search(text, words[place - 1][0], words[place - 1][1]):
                break
            known = _folded(text[start:end])
            if text[start].isupper():
                if (
                    known in NEVER
                    or known in ENDS
                    or (known in EVERYDAY and not self._is_given(known) and end - start > 1)
                ):
                    break
                last = place
            elif known not in PARTICLES or known in _JOINERS:
                break
        return last

    def _goes_on_with_a_name(self, text: str, words: Sequence[tuple[int, int]], at: int, last: int) -> bool:
        """Tell whether what follows a word that is a name as well is nothing but one: `Will Kowalski`."""
        if last == at or not self._is_given(_folded(text[slice(*words[at])])):
            return False
        following = _folded(text[slice(*words[at + 1])])
        return following in self._family or self._is_only_given(following)

    def _after_comma(self, text: str, words: Sequence[tuple[int, int]], at: int) -> int:
        """Return the given name of `FAMILY, Given`; -1 where this word does not begin such a name."""
        last = self._end(text, words, at)
        if last + 1 >= len(words) or not _COMMA.fullmatch(text, words[last][1], words[last + 1][0]):
            return -1
        start, end = words[last + 1]
        word, known = text[words[at][0] : words[last][1]], _folded(text[start:end])
        if not text[start].isupper() or not self._is_given(known) or known in NEVER:
            return -1
        family = _folded(text[slice(*words[at])])
        if family in self._family:
            return last + 1
        # A sentence may begin so, too: `Today, Maria called`; a line or a field of a form that holds a name does not.
        is_field = _FIELD.search(text, max(0, words[at][0] - 8), words[at][0]) is not None and family not in EVERYDAY
        return last + 1 if (word.isupper() or is_field) and len(word) > 1 and self._is_only_given(known) else -1

    def _joined(self, text: str, words: Sequence[tuple[int, int]], last: int) -> int:
        """Return the word that `and` joins to a name; the name's last word where there is none."""
        place = last + 2
        if place >= len(words) or not _AND.fullmatch(text, words[last][1], words[place][0]):
            return last
        start, end = words[place]
        known = _folded(text[start:end])
        is_word = known in NEVER or known in EVERYDAY or known in EPONYMS or known in ENDS
        return place if text[start].isupper() and not text[start:end].isupper() and not is_word else last

    def _is_meant(self, text: str, words: Sequence[tuple[int, int]], at: int) -> bool:
        """Tell whether the words around say that this one is somebody."""
        start, end = words[at]
        word, known = text[start:end], _folded(text[start:end])
        if word.isupper() and end - start < 4:
            return False  # letters of a trade, of a department, of a test
        may_be = self._may_be_one(word, known)
        if at > 0:
            between, before = text[words[at - 1][1] : start], _folded(text[slice(*words[at - 1])])
            is_beside = between in _BESIDE
            is_kin = is_beside and before in KIN and (known not in EVERYDAY or self._is_given(known))
            is_titled = is_beside and before in OPENINGS
            is_met = is_beside and may_be and (before in TOWARDS or self._is_met(text, words, at))
            if is_kin or is_titled or is_met:
                return True
        last = self._end(text, words, at)
        if last + 1 >= len(words):
            return False
        following, between = text[slice(*words[last + 1])], text[words[last][1] : words[last + 1][0]]
        does = may_be and following in PERSON_VERBS and between == " "
        return does or (following in _LETTERS_OF_TRADES and between in {" ", ", "})

    def _is_met(self, text: str, words: Sequence[tuple[int, int]], at: int) -> bool:
        """Tell whether this word is who somebody dealt with: `discussed with`, `a call from`."""
        if at < 2 or _folded(text[slice(*words[at - 1])]) not in {"with", "from", "to", "of"}:
            return False
        return text[words[at - 2][1] : words[at - 1][0]] == " " and _folded(text[slice(*words[at - 2])]) in DEALT

    def _may_be_one(self, word: str, known: str) -> bool:
        """Tell whether a word that only its surroundings speak for may be a name: no trade, no thing, no letters."""
        if len(word) < 3 or word.isupper() or known.endswith(TRADES):
            return False
        return not (known in NEVER or known in THINGS or (known in EVERYDAY and not self._is_given(known)))

    def _is_thing(self, text: str, words: Sequence[tuple[int, int]], at: int, last: int) -> bool:
        """Tell whether a disease, an instrument or a place is called so."""
        start, end = words[last]
        if EPONYM_ENDS.match(text, end):
            return True
        if last + 1 < len(words) and text[end : words[last + 1][0]] in {" ", "'s ", "\u2019s "}:
            following = _folded(text[slice(*words[last + 1])])
            if following in PLACE_ENDS:
                return True
        known = _folded(text[start:end])
        return at == last and (known in EPONYMS or (known in THINGS and not self._is_given(known)))

    def _is_initial(self, text: str, words: Sequence[tuple[int, int]], at: int) -> bool:
        start, end = words[at]
        if end - start != 1 or text[end : end + 1] != ".":
            return False
        last = self._end(text, words, at)
        # `E. coli` goes on in lower case; `S. Aureus`, seldom, in capitals.
        return last > at and words[last][1] - words[last][0] > 2

    def _is_given(self, known: str) -> bool:
        return known in self._given or any(part in self._given for part in known.split("-") if "-" in known)

    def _is_only_given(self, known: str) -> bool:
        alone = self._given.get(known)
        return alone if alone is not None else any(self._given.get(part, False) for part in known.split("-"))


def _folded(word: str) -> str:
    """Return a word as the lists have it: small, without accents and apostrophes, without an owner's `'s`."""
    word = _APOSTROPHE.sub("", _OWNER.sub("", word))
    if not word.isascii():
        word = word.translate(_PLAIN)
        word = "".join(one for one in unicodedata.normalize("NFKD", word) if not unicodedata.combining(one))
    return word.lower()
