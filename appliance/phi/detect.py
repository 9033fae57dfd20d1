"""Finds identifiers in text by pattern. Recall first: a finding too many is restored in the answer, one too few leaks.

Text is read through a shadow in which digits, dashes and spaces of other scripts are plain ones and invisible
characters are left out, so that they hide nothing; findings are always in offsets of the text itself.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from appliance.phi.labelled import labelled_in
from appliance.phi.patterns import DOCUMENTED, NOT_DATES, Needs, PhiClass, Rule, Shape
from appliance.phi.safeharbor import SAFE_HARBOR

_NUMBERS: Final = re.compile("[0-9](?:[ ()./:-]{0,2}[0-9])*[./-]?")
_INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
_PLAIN: Final = {
    **dict.fromkeys([*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63, 0xFF0D], "-"),
    **dict.fromkeys([0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000], " "),
    0x2044: "/",
    0xFF0F: "/",
    0xFF1A: ":",
    0xFF20: "@",
}


Shadow = tuple[str, Sequence[int] | None]
"""What is read in place of a text, and each character's place in the text where that differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One identifier: ``text[start:end]``."""

    start: int
    end: int
    phi_class: PhiClass
    extra: bool


class Detector(Protocol):
    """Finds identifiers. Findings are ordered and do not overlap."""

    def find(self, text: str) -> Sequence[Finding]:
        """Return what identifies a person in `text`."""
        ...


class ShadowDetector(Detector, Protocol):
    """A detector that others ask with a shadow, so that a text's is made once."""

    def find_in(self, shadowed: Shadow) -> Sequence[Finding]:
        """Return what `find` does for the text with this shadow."""
        ...


class PatternDetector:
    """The documents' patterns and our own.

    Args:
        rules: These patterns and nothing else; without, all of them, and numbers that a word before them says to be
            somebody's (`labelled`).
    """

    def __init__(self, rules: Iterable[Rule] | None = None) -> None:
        self._rules = (*DOCUMENTED, *NOT_DATES) if rules is None else tuple(rules)
        # Of two findings that are equally long the first counts, and a label knows better than a form.
        self._after_labels = SAFE_HARBOR if rules is None else ()
        self._has_labels = rules is None

    def find(self, text: str) -> Sequence[Finding]:
        """Return the findings of all rules; where some overlap, one that covers them."""
        return self.find_in(shadow_of(text))

    def find_in(self, shadowed: Shadow) -> Sequence[Finding]:
        """Return what `find` does for the text with this shadow."""
        shadow, places = shadowed
        present: dict[Needs, bool] = {}
        numbers = "\n".join(_NUMBERS.findall(shadow))
        has_digit = bool(numbers)
        found: list[Finding] = []
        for rules in (self._rules, self._after_labels):
            for rule in rules:
                if not (has_digit or rule.in_words):
                    continue
                if rule.needs not in present:
                    present[rule.needs] = _holds(shadow, numbers, rule.needs)
                if present[rule.needs]:
                    found.extend(_matches(rule, shadow, places))
            if rules is self._rules and self._has_labels and has_digit:
                for start, end, phi_class in labelled_in(shadow):
                    found.append(_finding(start, end, places, phi_class=phi_class, extra=True))
        return merged(found) if len(found) > 1 else found


class WithNames:
    """A detector of identifiers that recognises names besides."""

    def __init__(self, inner: ShadowDetector, names: ShadowDetector) -> None:
        self._inner, self._names = inner, names

    def find(self, text: str) -> Sequence[Finding]:
        """Return the findings of both; where some overlap, one that covers them."""
        return self.find_in(shadow_of(text))

    def find_in(self, shadowed: Shadow) -> Sequence[Finding]:
        """Return what `find` does for the text with this shadow."""
        return merged([*self._inner.find_in(shadowed), *self._names.find_in(shadowed)])


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Join overlapping findings to one that covers them all, of the longest one's class; order by place."""
    joined: list[Finding] = []
    longest = 0
    for finding in sorted(findings, key=lambda one: (one.start, -one.end, one.extra)):
        length = finding.end - finding.start
        if not joined or joined[-1].end <= finding.start:
            joined.append(finding)
            longest = length
            continue
        last = joined[-1]
        wins = finding if length > longest else last
        longest = max(longest, length)
        joined[-1] = Finding(
            start=last.start, end=max(last.end, finding.end), phi_class=wins.phi_class, extra=wins.extra
        )
    return joined


def _holds(text: str, numbers: str, needs: Needs) -> bool:
    if isinstance(needs, Shape):
        return needs.pattern.search(numbers) is not None
    return any(map(text.__contains__, needs)) if isinstance(needs, tuple) else needs.search(text) is not None


def _matches(rule: Rule, shadow: str, places: Sequence[int] | None) -> Iterable[Finding]:
    group = "id" if "id" in rule.pattern.groupindex else 0
    for match in rule.pattern.finditer(shadow):
        if rule.check is not None and not rule.check(match[group]):
            continue
        start, end = match.span(group)
        yield _finding(start, end, places, phi_class=rule.phi_class, extra=rule.extra)


def _finding(start: int, end: int, places: Sequence[int] | None, *, phi_class: PhiClass, extra: bool) -> Finding:
    if places is not None:
        start, end = places[start], places[end - 1] + 1
    return Finding(start=start, end=end, phi_class=phi_class, extra=extra)


def shadow_of(text: str) -> Shadow:
    """Return the text patterns read, and each character's place in `text` where that differs."""
    if text.isascii():
        return text, None
    plain = _NOT_ASCII.sub(_plain_digit, text.translate(_PLAIN))
    if not _INVISIBLE.search(plain):
        return plain, None
    kept = [(place, character) for place, character in enumerate(plain) if not _INVISIBLE.match(character)]
    return "".join(character for _, character in kept), [place for place, _ in kept]


def _plain_digit(match: re.Match[str]) -> str:
    character = match[0]
    return str(int(character)) if character.isdecimal() else character
