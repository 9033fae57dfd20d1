"""Identifiers in claims and eligibility files of X12 (ASC X12N 270 to 278, 834, 835, 837): `NM1*IL*1*QUIST*ADA~`.

A segment's name, its qualifiers and an element's number say what the element holds, so no word beside it has to. Names
of firms, payers and clinics stay; their numbers and addresses do not, since a person's own stand in the same form.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from appliance.phi.fieldvalues import is_a_name, is_a_place, trimmed
from appliance.phi.labelled import Labelled
from appliance.phi.patterns import PhiClass, digits_of

# By a segment's name: what its elements hold; the first behind the name is 1.
_ELEMENTS: Final[Mapping[str, Mapping[int, PhiClass]]] = {
    "NM1": dict.fromkeys((3, 4, 5), PhiClass.NAME),
    "N3": dict.fromkeys((1, 2), PhiClass.ADDRESS),
    "N4": dict.fromkeys((1, 3), PhiClass.ADDRESS),
    "DMG": {2: PhiClass.DATE},
    "DTP": {3: PhiClass.DATE},
    "DTM": {2: PhiClass.DATE},
    "PAT": {6: PhiClass.DATE},
    "PER": {2: PhiClass.NAME},
    "CLM": {1: PhiClass.ACCOUNT},
    "CLP": {1: PhiClass.ACCOUNT, 7: PhiClass.PLAN},
    "TRN": {2: PhiClass.ACCOUNT},
    "SBR": {3: PhiClass.PLAN},
    "INS": {12: PhiClass.DATE},
    "BPR": dict.fromkeys((7, 9, 13, 15), PhiClass.ACCOUNT),
    "REF": {},
}
# By a segment's name: the elements that say what the next one holds.
_QUALIFIERS: Final[Mapping[str, Sequence[int]]] = {"NM1": (8,), "REF": (1,), "PER": (3, 5, 7)}
_QUALIFIED: Final[Mapping[str, PhiClass]] = {
    **dict.fromkeys(("SY", "34"), PhiClass.SSN),
    **dict.fromkeys(("MI", "II", "1L", "6P", "IG", "1W", "0F", "CE", "G1", "9F", "23", "N6"), PhiClass.PLAN),
    **dict.fromkeys(("XX", "0B", "1G", "1C", "1D", "G2", "LU", "HPI", "SJ", "TJ"), PhiClass.LICENCE),
    **dict.fromkeys(("EJ", "EI", "FI", "24"), PhiClass.ACCOUNT),
    **dict.fromkeys(("TE", "HP", "WP", "CP", "FX", "EX", "BN", "AP"), PhiClass.PHONE),
}
_BY_ITSELF: Final = {"NM1": PhiClass.PLAN, "REF": PhiClass.MRN}
# What an element of these segments is too short for, or what everybody's have.
_LEAST_DIGITS: Final = {PhiClass.SSN: 4, PhiClass.DATE: 6, PhiClass.PHONE: 3}
# Of a version, of a form and of a program's release nobody is told.
_OF_NOBODY: Final = frozenset(("87", "FJ", "VP", "EV"))
_NAMES: Final = "|".join(sorted(_ELEMENTS))
_SEGMENT: Final = re.compile(rf"(?P<name>{_NAMES})\*(?P<rest>[^~\n\r]{{1,400}})")
_BEFORE: Final = re.compile(r"(?:[~\n\r\"'`>]|\A|\\n)[ \t]{0,8}\Z")
_MOST_BEFORE: Final = 10
_AROUND: Final = " \t\"'`"
_MOST_WORDS: Final = 10


def identifiers_in(text: str) -> Iterator[Labelled]:
    """Yield what identifies somebody in the segments of a text, in order."""
    if "*" not in text:
        return
    for segment in _SEGMENT.finditer(text):
        if _BEFORE.search(text, max(0, segment.start() - _MOST_BEFORE), segment.start()):
            yield from _identifiers_of(segment["name"], segment["rest"], segment.start("rest"))


def _identifiers_of(name: str, rest: str, at: int) -> Iterator[Labelled]:
    elements = rest.split("*")
    known = dict(_ELEMENTS[name])
    if name == "NM1" and (len(elements) < 3 or elements[1] != "1"):
        known = {}  # a firm's
    for qualifier in _QUALIFIERS.get(name, ()):
        said = elements[qualifier - 1].strip() if qualifier <= len(elements) else ""
        if said and said not in _OF_NOBODY:
            meant = _QUALIFIED.get(said, _BY_ITSELF.get(name))
            if meant is not None:
                known[qualifier + 1] = meant
    for number, element in enumerate(elements, 1):
        phi_class = known.get(number)
        if phi_class is not None:
            start, value = trimmed(element, at, _AROUND)
            if _counts(value, phi_class):
                yield Labelled(start, start + len(value), phi_class)
        at += len(element) + 1


def _counts(value: str, phi_class: PhiClass) -> bool:
    if len(value) < 2 or len(value.split()) > _MOST_WORDS:
        return len(value) == 1 and phi_class is PhiClass.NAME and value.isalpha()
    if phi_class is PhiClass.NAME:
        return any(map(str.isalpha, value)) and is_a_name(value)
    if phi_class is PhiClass.ADDRESS:
        return is_a_place(value)
    return len(digits_of(value)) >= _LEAST_DIGITS.get(phi_class, 1)
