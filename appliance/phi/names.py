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
    NAMES-7 A given name that is a word of the language, too, is one amid a sentence: `ask for Barb at the desk`.

What is found once is replaced wherever it stands in a request's texts, word by word: see `tokens`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from appliance.phi.detect import Finding, Shadow, merged, shadow_of
from appliance.phi.everyday import EPONYM_ENDS, EPONYMS, EVERYDAY, PARTICLES
from appliance.phi.namelists import FAMILY, GIVEN, listed
from appliance.phi.patterns import PhiClass
from appliance.phi.surroundings import (
    DEALT,
    ENDS,
    KIN,
    LETTERS_OF_TRADES,
    NEVER,
    OPENINGS,
    PERSON_VERBS,
    PLACE_ENDS,
    THINGS,
    TOWARDS,
    TRADES,
)
from appliance.phi.wording import Wording

_COMMA: Final = re.compile(r", {0,2}")
_FIELD: Final = re.compile(r"[\t\u21e5:|]\s{0,4}[\"']?\Z")
# A capital within a word, as firms write themselves; `McKay` and `DiMarco` are people.
_BRANDED: Final = re.compile("(?!Ma?c|O|D|L|Van|Fitz)[A-Z][a-z]+[A-Z]")
_NUMBER: Final = re.compile(" [0-9]")
_LIES_IN: Final = frozenset({"bed", "room", "ward", "fever"})
_MOST_WORDS: Final = 6
# The next field's, behind a name: `Brisa DOB`, `Brisa ID#`.
_LABELS: Final = frozenset(
    ("DOB", "DOS", "DOL", "SSN", "MRN", "NPI", "ID", "PCP", "LOT", "ETA", "ICU", "POD", "Dx", "Hx", "Rx")
)
_BESIDE: Final = frozenset({" ", "  ", ", ", ": "})
_AND: Final = frozenset({"and", "und", "et"})
_JOINERS: Final = _AND | {"y", "e"}
_DEALT_BY: Final = frozenset({"with", "from", "to", "of"})
_NO_NAME: Final = NEVER | ENDS
_SPOKEN_FOR: Final = KIN | TOWARDS | OPENINGS | _DEALT_BY
_BEGINS_NONE: Final = NEVER | KIN
_GOES_ON: Final = PERSON_VERBS | PARTICLES


class NameRecogniser:
    """Finds names by the lists of this package; holds nothing of any text."""

    def __init__(self) -> None:
        self._given = listed(GIVEN)
        self._family = listed(FAMILY)

    def find(self, text: str) -> Sequence[Finding]:
        """Return the names in `text`, in order, without overlaps."""
        return merged(self.find_in(shadow_of(text)))

    def find_in(self, shadowed: Shadow) -> Sequence[Finding]:
        """Return the names in the text with this shadow, each for itself."""
        shadow, places = shadowed
        own = Wording(shadow)
        found = []
        for first, last in self._names(own):
            start, end = own.span(first)[0], own.end(last)
            if places is not None:
                start, end = places[start], places[end - 1] + 1
            found.append(Finding(start, end, PhiClass.NAME, extra=True))
        return found

    def _names(self, own: Wording) -> Iterator[tuple[int, int]]:
        """Yield the first and the last word of each name."""
        after = -1
        for at in own.capitals:
            if at <= after or (last := self._last(own, at)) < 0:
                continue
            yield at, last
            after = last
            joined = last + 2
            if own.is_one_of(last + 1, _JOINERS) and joined < len(own) and self._is_joined(own, joined):
                after = self._end(own, joined)
                yield joined, after

    def _last(self, own: Wording, at: int) -> int:
        """Return the last word of the name that begins here; -1 where none does."""
        known = own.known[at]
        is_given = self._is_given(known)
        if is_given:
            if known in NEVER and not self._goes_on_with_a_name(own, at):
                return -1
        elif known in _BEGINS_NONE or self._is_a_word(own, at, known):
            return -1
        end = self._end(own, at)
        if (given := self._after_comma(own, at, end)) >= 0:
            return self._end(own, given)
        if is_given:
            counts = end > at or self._is_only_given(known) or self._is_meant(own, at, end) or _is_amid(own, at)
        else:
            is_initial = end > at and self._is_initial(own, at, end)
            counts = known in self._family or is_initial or (known not in EPONYMS and self._is_meant(own, at, end))
        return end if counts and not self._is_thing(own, at, end) else -1

    def _is_a_word(self, own: Wording, at: int, known: str) -> bool:
        """Tell at once of what is on no list of given names whether none of the rules speaks for it, as for most."""
        if known in self._family or (at and own.known[at - 1] in _SPOKEN_FOR):
            return False
        # No name that goes on, none behind a comma, none whose next word is what only people do.
        following = at + 1
        if following >= len(own.known):
            return True
        return not own.is_capital[following] and own.known[following] not in _GOES_ON

    def _end(self, own: Wording, at: int) -> int:
        """Return the last word of what goes on in capitals from here, with particles and initials between."""
        last = at
        for place in range(at + 1, min(at + _MOST_WORDS, len(own))):
            known = own.known[place]
            if own.is_capital[place]:
                is_everyday = known in EVERYDAY and not self._is_given(known) and len(known) > 1
                if known in _NO_NAME or is_everyday or own.written[place] in _LABELS or not own.goes_on(place):
                    break
                last = place
            elif known not in PARTICLES or known in _AND or not own.goes_on(place):
                break
        return last

    def _goes_on_with_a_name(self, own: Wording, at: int) -> bool:
        """Tell whether what follows a word that is a name as well is nothing but one: `Will Kowalski`."""
        if self._end(own, at) == at:
            return False
        following = own.known[at + 1]
        return following in self._family or self._is_only_given(following)

    def _after_comma(self, own: Wording, at: int, last: int) -> int:
        """Return the given name of `FAMILY, Given`; -1 where this word, whose run ends at `last`, begins none."""
        given = last + 1
        if given >= len(own) or not own.is_capital[given] or own.text[own.end(last)] != ",":
            return -1
        if not _COMMA.fullmatch(own.between(given)):
            return -1
        known = own.known[given]
        if known in NEVER or not self._is_given(known):
            return -1
        family, start = own.known[at], own.span(at)[0]
        if family in self._family:
            return given
        word = own.text[start : own.end(last)]
        # A sentence may begin so, too: `Today, Maria called`; a line or a field of a form that holds a name does not.
        is_field = family not in EVERYDAY and _FIELD.search(own.text, max(0, start - 8), start) is not None
        return given if (word.isupper() or is_field) and len(word) > 1 and self._is_only_given(known) else -1

    def _is_joined(self, own: Wording, at: int) -> bool:
        """Tell whether a word that `and` joins to a name may be one."""
        known = own.known[at]
        is_word = known in _NO_NAME or known in EVERYDAY or known in EPONYMS
        is_beside = own.between(at) == own.between(at - 1) == " "
        return is_beside and own.is_capital[at] and not own.written[at].isupper() and not is_word

    def _is_meant(self, own: Wording, at: int, end: int) -> bool:
        """Tell whether the words around say that this one, which goes on until `end`, is somebody."""
        word, known = own.written[at], own.known[at]
        if word.isupper() and (len(word) < 4 or "_" in word):
            return False  # letters of a trade, of a department, of a test; a variable
        before = own.known[at - 1] if at else ""
        if before == "name" and end + 1 < len(own) and own.written[end + 1] == "url" and "\n" in own.between(end + 1):
            return False  # the name of a team or of a licence, of which the next line tells where it is
        if before in _SPOKEN_FOR and own.between(at) in _BESIDE:
            is_kin = before in KIN and (known not in EVERYDAY or self._is_given(known))
            is_met = before in TOWARDS or (before in _DEALT_BY and self._is_dealt_with(own, at))
            if is_kin or before in OPENINGS or (is_met and self._may_be_one(word, known)):
                return True
        if end + 1 >= len(own):
            return False
        following, between = own.written[end + 1], own.between(end + 1)
        if following in PERSON_VERBS and between == " ":
            return self._may_be_one(word, known)
        return following in LETTERS_OF_TRADES and between in {" ", ", "}

    def _is_dealt_with(self, own: Wording, at: int) -> bool:
        """Tell whether this word is who somebody dealt with: `discussed with`, `a call from`."""
        return at > 1 and own.known[at - 2] in DEALT and own.between(at - 1) == " "

    def _may_be_one(self, word: str, known: str) -> bool:
        """Tell whether a word that only its surroundings speak for may be a name: no trade, no thing, no letters."""
        if len(word) < 3 or word.isupper() or known.endswith(TRADES) or _BRANDED.match(word):
            return False
        return not (known in NEVER or known in THINGS or (known in EVERYDAY and not self._is_given(known)))

    def _is_thing(self, own: Wording, at: int, last: int) -> bool:
        """Tell whether a disease, an instrument or a place is called so."""
        if EPONYM_ENDS.match(own.text, own.end(last)):
            return True
        if own.is_one_of(last + 1, PLACE_ENDS) and own.between(last + 1) == " ":
            # `Sato bed 4` lies there, and `Sato fever 38.9` has it.
            return not (own.known[last + 1] in _LIES_IN and _NUMBER.match(own.text, own.end(last + 1)))
        known = own.known[last]
        return at == last and (known in EPONYMS or (known in THINGS and not self._is_given(known)))

    def _is_initial(self, own: Wording, at: int, last: int) -> bool:
        """Tell whether this is the first initial of a name; `E. coli` goes on in lower case."""
        start, end = own.span(at)
        return end - start == 1 and own.text[end : end + 1] == "." and len(own.written[last]) > 2

    def _is_given(self, known: str) -> bool:
        return known in self._given or ("-" in known and any(part in self._given for part in known.split("-")))

    def _is_only_given(self, known: str) -> bool:
        alone = self._given.get(known)
        return alone if alone is not None else any(self._given.get(part, False) for part in known.split("-"))


def _is_amid(own: Wording, at: int) -> bool:
    """Tell whether a word has its capital amid a sentence of small letters, where no rule of writing gives it one."""
    if not at or own.between(at) != " " or own.is_capital[at - 1] or own.known[at] in EVERYDAY:
        return False
    return not own.written[at].isupper() and own.known[at] not in THINGS
