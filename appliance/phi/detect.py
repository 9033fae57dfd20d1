"""Finds identifiers in text by pattern. Recall first: a finding too many is restored in the answer, one too few leaks.

Text is read through a shadow in which digits, dashes and spaces of other scripts are plain ones, invisible characters
are left out, and a letter and the mark that stands behind it (as macOS writes `u\u0308`) are one, so that they hide
nothing; findings are always in offsets of the text itself.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from appliance.phi import (
    fieldscalls,
    fieldscards,
    fieldsdicom,
    fieldshl7,
    fieldsjson,
    fieldspairs,
    fieldssql,
    fieldsx12,
    fieldsxml,
    fieldsyaml,
)
from appliance.phi.columns import columns_in, spaced_in
from appliance.phi.fields import identifiers_of
from appliance.phi.gates import Gates
from appliance.phi.labelled import Labelled, labelled_in
from appliance.phi.patterns import DOCUMENTED, NOT_DATES, PhiClass, Rule
from appliance.phi.safeharbor import SAFE_HARBOR
from appliance.phi.seams import without_seams

_UNSEEN: Final = (
    "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\ufeff"
)
_MARKS: Final = range(0x300, 0x370)
_ANY_MARK: Final = f"{chr(_MARKS[0])}-{chr(_MARKS[-1])}"
_INVISIBLE: Final = re.compile(f"[{_UNSEEN}{_ANY_MARK}]")
_MARK: Final = re.compile(f"[{_ANY_MARK}]+")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
_PLAIN: Final = {
    **dict.fromkeys([*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63, 0xFF0D], "-"),
    **dict.fromkeys([0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000], " "),
    0x2044: "/",
    0xFF0F: "/",
    0xFF1A: ":",
    0xFF20: "@",
    **{one: chr(one - 0xFEE0) for one in (*range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))},
}
_HIDING: Final = frozenset({*_UNSEEN, *map(chr, _PLAIN), *map(chr, _MARKS)})


Shadow = tuple[str, Sequence[int] | None]
"""What is read in place of a text, and each character's place in the text where that differs."""


class Finding(NamedTuple):
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
    """A detector that others ask with a shadow, so that a text's is made once, and findings are joined once."""

    def find_in(self, shadowed: Shadow) -> Sequence[Finding]:
        """Return what is found in the text with this shadow, in any order and not joined (`merged`)."""
        ...


class PatternDetector:
    """The documents' patterns and our own.

    Args:
        rules: These patterns and nothing else; without, all of them, and numbers that a word before them says to be
            somebody's (`labelled`), and cells of tables (`columns`).
    """

    def __init__(self, rules: Iterable[Rule] | None = None) -> None:
        first = (*DOCUMENTED, *NOT_DATES) if rules is None else tuple(rules)
        # Of two findings that are equally long the first counts, and a label knows better than a form.
        tried = first if rules is not None else (*first, *SAFE_HARBOR)
        self._labels_at = len(first) if rules is None else None
        self._gates = Gates(tried)
        self._rules = [(one.pattern.finditer, one.group, one.check, one.phi_class, one.extra) for one in tried]

    def find(self, text: str) -> Sequence[Finding]:
        """Return the findings of all rules; where some overlap, one that covers them."""
        return merged(self.find_in(shadow_of(text)))

    def find_in(self, shadowed: Shadow) -> Sequence[Finding]:
        """Return what the rules find in the text with this shadow, each for itself."""
        shadow, places = shadowed
        tried, has_number = self._gates.passed(shadow)
        found: list[Finding] = []
        if self._labels_at is not None:
            for trees in (fieldsjson, fieldsyaml, fieldssql):
                for tree in trees.trees_in(shadow):
                    found += _findings(identifiers_of(tree), places)
            for reader in (fieldsxml, fieldspairs, fieldshl7, fieldsdicom, fieldsx12, fieldscards, fieldscalls):
                found += _findings(reader.identifiers_in(shadow), places)
        labels_at = self._labels_at if has_number else None
        for place in tried:
            if labels_at is not None and place >= labels_at:
                labels_at = None
                found += _findings(labelled_in(shadow), places)
            finditer, group, check, phi_class, extra = self._rules[place]
            for match in finditer(shadow):
                if check is None or check(match[group]):
                    start, end = match.span(group)
                    if places is not None:
                        start, end = places[start], places[end - 1] + 1
                    found.append(Finding(start, end, phi_class, extra))
        if labels_at is not None:
            found += _findings(labelled_in(shadow), places)
        if self._labels_at is not None:
            found += _findings(columns_in(shadow), places)
            found += _findings(spaced_in(shadow), places)
        return found


class WithNames:
    """A detector of identifiers that recognises names besides."""

    def __init__(self, inner: ShadowDetector, names: ShadowDetector) -> None:
        self._inner, self._names = inner, names

    def find(self, text: str) -> Sequence[Finding]:
        """Return the findings of both; where some overlap, one that covers them."""
        return merged(self.find_in(shadow_of(text)))

    def find_in(self, shadowed: Shadow) -> Sequence[Finding]:
        """Return what both find in the text with this shadow."""
        return [*self._inner.find_in(shadowed), *self._names.find_in(shadowed)]


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


def _findings(labelled: Iterable[Labelled], places: Sequence[int] | None) -> Iterator[Finding]:
    for start, end, phi_class in labelled:
        if places is None:
            yield Finding(start, end, phi_class, extra=True)
        else:
            yield Finding(places[start], places[end - 1] + 1, phi_class, extra=True)


def shadow_of(text: str) -> Shadow:
    """Return the text patterns read, and each character's place in `text` where that differs."""
    return without_seams(*_plain_of(text))


def _plain_of(text: str) -> Shadow:
    if text.isascii():
        return text, None
    others = set(_NOT_ASCII.findall(text))
    if others.isdisjoint(_HIDING) and not any(map(str.isdecimal, others)):
        return text, None
    plain = _NOT_ASCII.sub(_plain_digit, text.translate(_PLAIN))
    if not _INVISIBLE.search(plain):
        return plain, None
    kept: list[str] = []
    places: list[int] = []
    for place, character in enumerate(plain):
        if not _INVISIBLE.match(character):
            kept.append(character)
            places.append(place)
        elif kept and ord(character) in _MARKS:
            composed = unicodedata.normalize("NFC", kept[-1] + character)
            kept[-1] = composed if len(composed) == 1 else kept[-1]
    return "".join(kept), places


def with_marks(findings: Sequence[Finding], text: str) -> Sequence[Finding]:
    """Return findings of which none ends between a letter and the marks behind it."""
    if text.isascii() or not _MARK.search(text):
        return findings
    return merged(one._replace(end=_behind_marks(text, one.end)) for one in findings)


def _behind_marks(text: str, end: int) -> int:
    mark = _MARK.match(text, end)
    return end if mark is None else mark.end()


def _plain_digit(match: re.Match[str]) -> str:
    character = match[0]
    return str(int(character)) if character.isdecimal() else character
