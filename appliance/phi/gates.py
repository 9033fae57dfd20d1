"""Which rules are tried on a text: those of which it holds what they need. Looking for that costs less than trying.

A text is looked at in three forms, each made once: as it is, its words, and its outline, in which every digit is a 9
and every capital an A, and small letters are left out. Words are one look for all rules that need some; pieces are
looked for in one loop, since a call for each rule would take longer than the look.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from appliance.phi.patterns import Both, Needs, Outline, Plain, Rule, Words

_DIGITS, _CAPITALS, _SMALL = range(0x30, 0x3A), range(0x41, 0x5B), range(0x61, 0x7B)
_LATIN_CAPITALS: Final = range(0xC0, 0xDF)
_OUTLINE: Final = bytes(
    0x39 if one in _DIGITS else 0x41 if one in _CAPITALS or one in _LATIN_CAPITALS else one for one in range(256)
)
_IN_NO_OUTLINE: Final = bytes(_SMALL)
"""Small letters, which no piece has: what an outline holds with them it holds without, and is looked through sooner."""
_IN_SMALL_LETTERS: Final = bytes(
    one if one in _SMALL else one + 0x20 if one in _CAPITALS else 0x20 for one in range(256)
)


class Gates:
    """The needs of rules, asked together.

    Args:
        rules: In the order in which they are tried.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._all = _Looks((one.needs, place) for place, one in enumerate(rules))
        self._in_words = _Looks((one.needs, place) for place, one in enumerate(rules) if one.in_words)

    def passed(self, text: str) -> tuple[list[int], bool]:
        """Return the places of the rules to try on a text, in order, and whether it holds a number."""
        latin = text.encode("latin-1", "replace")
        words = set(latin.translate(_IN_SMALL_LETTERS).split())
        # As text again, which pieces are looked for in at half the cost of bytes.
        outline = latin.translate(_OUTLINE, _IN_NO_OUTLINE).decode("latin-1")
        has_number = "9" in outline
        looks = self._all if has_number else self._in_words
        return sorted(looks.passed(text, words, outline)), has_number


class _Looks:
    """Looks for several needs, each once however many rules have it.

    Args:
        needed: Needs, each with the place of the rule that has it.
    """

    def __init__(self, needed: Iterable[tuple[Needs, int]]) -> None:
        firsts: dict[Plain, list[tuple[Plain | None, int]]] = {}
        for needs, place in needed:
            first, then = (needs.first, needs.then) if isinstance(needs, Both) else (needs, None)
            firsts.setdefault(first, []).append((then, place))
        self._rules: list[list[int]] = []
        self._thens: list[_Looks | None] = []
        self._by_word: dict[bytes, list[int]] = {}
        self._outlined: list[tuple[str, int]] = []
        self._written: list[tuple[str, int]] = []
        self._patterns: list[tuple[Callable[[str], object], int]] = []
        for at, (first, rules) in enumerate(firsts.items()):
            self._rules.append([place for then, place in rules if then is None])
            thens = [(then, place) for then, place in rules if then is not None]
            self._thens.append(_Looks(thens) if thens else None)
            self._add(first, at)
        self._words = frozenset(self._by_word)

    def _add(self, need: Plain, at: int) -> None:
        if isinstance(need, Words):
            for word in need.words:
                self._by_word.setdefault(word.encode("ascii"), []).append(at)
        elif isinstance(need, Outline):
            self._outlined += [(piece, at) for piece in need.pieces]
        elif isinstance(need, re.Pattern):
            self._patterns.append((need.search, at))
        else:
            self._written += [(piece, at) for piece in need]

    def passed(self, text: str, words: set[bytes], outline: str) -> list[int]:
        """Return the places of the rules to try, in any order."""
        held = {at for piece, at in self._outlined if piece in outline} if self._outlined else set()
        if self._words:
            for word in self._words & words:
                held.update(self._by_word[word])
        if self._written:
            held.update([at for piece, at in self._written if piece in text])
        if self._patterns:
            held.update([at for search, at in self._patterns if search(text)])
        tried: list[int] = []
        for at in held:
            tried += self._rules[at]
            then = self._thens[at]
            if then is not None:
                tried += then.passed(text, words, outline)
        return tried
