"""Which rules are tried on a text: those of which it holds what they need. Looking for that costs less than trying.

A text is looked at in three forms, each made once: as it is, its words, and its outline, in which every digit is a 9
and every capital an A, and small letters are left out. Words are one look for all rules that need some.
"""

import re
from collections.abc import Callable, Sequence
from operator import methodcaller
from typing import Any, Final, NamedTuple

from appliance.phi.patterns import Both, Needs, Outline, Rule, Words

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
        needed: dict[tuple[Needs, bool], list[int]] = {}
        for place, one in enumerate(rules):
            needed.setdefault((one.needs, one.in_words), []).append(place)
        self._others: list[_Gate] = []
        firsts: dict[tuple[Needs, bool], list[_Gate]] = {}
        self._worded: list[_Gate] = []
        self._by_word: dict[bytes, list[int]] = {}
        for (needs, in_words), places in needed.items():
            gate = _gate(needs, places, in_words=in_words)
            if gate.words:
                for word in gate.words:
                    self._by_word.setdefault(word, []).append(len(self._worded))
                self._worded.append(gate)
            elif isinstance(needs, Both):
                firsts.setdefault((needs.first, in_words), []).append(gate)
            else:
                self._others.append(gate)
        # What several need first is looked for once.
        self._shared = tuple(map(tuple, firsts.values()))
        self._known = frozenset(self._by_word)

    def passed(self, text: str) -> tuple[list[int], bool]:
        """Return the places of the rules to try on a text, in order, and whether it holds a number."""
        latin = text.encode("latin-1", "replace")
        words = set(latin.translate(_IN_SMALL_LETTERS).split())
        outline = latin.translate(_OUTLINE, _IN_NO_OUTLINE)
        has_number = b"9" in outline
        forms = (text, words, outline)
        by_word, passed = self._by_word, set()
        for word in self._known & words:
            passed.update(by_word[word])
        tried: list[int] = []
        for at in passed:
            gate = self._worded[at]
            if (has_number or gate.in_words) and (gate.then is None or gate.then.search(forms[gate.then.form])):
                tried += gate.rules
        for gate in self._others:
            if (has_number or gate.in_words) and gate.search(forms[gate.form]):
                tried += gate.rules
        for gates in self._shared:
            first = gates[0]
            if (has_number or first.in_words) and first.search(forms[first.form]):
                for gate in gates:
                    if gate.then is None or gate.then.search(forms[gate.then.form]):
                        tried += gate.rules
        tried.sort()
        return tried, has_number


class _Gate(NamedTuple):
    """What a text must hold for some rules to be tried; `form` says in which of its forms it is looked for."""

    search: Callable[[Any], object]
    form: int
    in_words: bool
    rules: list[int]
    then: "_Gate | None" = None
    words: frozenset[bytes] = frozenset()


def _gate(needs: Needs, rules: list[int], *, in_words: bool) -> _Gate:
    if isinstance(needs, Both):
        then = _gate(needs.then, rules, in_words=in_words)
        return _gate(needs.first, rules, in_words=in_words)._replace(then=then)
    if isinstance(needs, re.Pattern):
        return _Gate(needs.search, 0, in_words, rules)
    if isinstance(needs, Words):
        words = frozenset(word.encode("ascii") for word in needs.words)
        return _Gate(words.intersection, 1, in_words, rules, words=words)
    if isinstance(needs, Outline):
        return _Gate(_holds_one(needs.pieces), 2, in_words, rules)
    return _Gate(_holds_one(needs), 0, in_words, rules)


def _holds_one(pieces: Sequence[Any]) -> Callable[[Any], object]:
    if len(pieces) == 1:
        return methodcaller("__contains__", pieces[0])
    return lambda form: any(map(form.__contains__, pieces))
