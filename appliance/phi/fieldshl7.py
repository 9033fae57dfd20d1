r"""Identifiers in messages of HL7 version 2, as an interface engine shows them: `PID|1||918^^^HOSP^MR||QUIST^AL`.

A segment's name and a field's number say what the field holds, so no word beside it has to. Segments that begin a line
are read, with bars, tabs or the sign of one between their fields; in a component of any of them a date is one.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from appliance.phi.fieldvalues import is_a_name, is_a_place, trimmed
from appliance.phi.labelled import Labelled
from appliance.phi.patterns import PhiClass, digits_of


class _Part(NamedTuple):
    """Components of a field that hold something of a class where they look like it; the first is 1."""

    phi_class: PhiClass
    components: frozenset[int]
    counts: Callable[[str], bool]


def _is_name(text: str) -> bool:
    return any(map(str.isalpha, text)) and is_a_name(text)


def _has_digits(least: int) -> Callable[[str], bool]:
    return lambda text: len(text) >= _SHORTEST_NUMBER and len(digits_of(text)) >= least


def _of(phi_class: PhiClass, counts: Callable[[str], bool], *components: int) -> tuple[_Part, ...]:
    return (_Part(phi_class, frozenset(components), counts),)


# What HL7 calls the types of such fields: a person's name, a number, an address, a telephone.
_XPN: Final = _of(PhiClass.NAME, _is_name, 1, 2, 3)
_CX: Final = _of(PhiClass.MRN, _has_digits(1), 1)
_XAD: Final = _of(PhiClass.ADDRESS, is_a_place, 1, 2, 3, 5, 8, 9)
_XTN: Final = _of(PhiClass.PHONE, _has_digits(3), 1, 6, 7, 12)
# A provider: the number, and the name.
_XCN: Final = _of(PhiClass.LICENCE, _has_digits(3), 1) + _of(PhiClass.NAME, _is_name, 2, 3, 4)
_ACCOUNT: Final = _of(PhiClass.ACCOUNT, _has_digits(1), 1)
_PLAN: Final = _of(PhiClass.PLAN, _has_digits(1), 1)
_SSN: Final = _of(PhiClass.SSN, _has_digits(4), 1)
_LICENCE: Final = _of(PhiClass.LICENCE, _has_digits(1), 1)
_PLACE: Final = _of(PhiClass.ADDRESS, is_a_place, 1)


def _fields(*parts: tuple[tuple[_Part, ...], tuple[int, ...]]) -> Mapping[int, tuple[_Part, ...]]:
    return {number: part for part, numbers in parts for number in numbers}


_SEGMENTS: Final[Mapping[str, Mapping[int, tuple[_Part, ...]]]] = {
    "MSH": {},
    "EVN": _fields((_XCN, (5,))),
    "PID": _fields(
        *((_CX, (2, 3, 4, 21)), (_XPN, (5, 6, 9)), (_XAD, (11,)), (_PLACE, (12, 23)), (_XTN, (13, 14))),
        *((_ACCOUNT, (18,)), (_SSN, (19,)), (_LICENCE, (20,))),
    ),
    "PD1": _fields((_XCN, (4,))),
    "NK1": _fields((_XPN, (2, 30)), (_XAD, (4, 32)), (_XTN, (5, 6, 31)), (_CX, (12, 33)), (_SSN, (37,))),
    "MRG": _fields((_CX, (1, 2, 4, 5, 6)), (_ACCOUNT, (3,)), (_XPN, (7,))),
    "PV1": _fields((_XCN, (7, 8, 9, 17, 52)), (_CX, (5, 19, 50))),
    "PV2": _fields((_XCN, (13,))),
    "GT1": _fields(
        *((_ACCOUNT, (2,)), (_XPN, (3, 4)), (_XAD, (5, 17)), (_XTN, (6, 7, 18)), (_SSN, (12,)), (_CX, (19,))),
    ),
    "IN1": _fields((_PLAN, (8, 36)), (_XPN, (16,)), (_XAD, (19,)), (_CX, (49,))),
    "IN2": _fields((_CX, (1,)), (_SSN, (2,)), (_PLAN, (6, 8, 61)), (_XPN, (40,)), (_XTN, (63,))),
    "ORC": _fields((_CX, (2, 3, 4)), (_XCN, (10, 11, 12, 19)), (_XTN, (14,)), (_XAD, (24,))),
    "OBR": _fields((_CX, (2, 3)), (_XCN, (10, 16, 28, 32, 33, 34, 35)), (_XTN, (17,))),
    "OBX": _fields((_XCN, (16,))),
    "TXA": _fields((_XCN, (5, 9, 10, 11, 22, 23)), (_CX, (12, 13))),
    "DG1": _fields((_XCN, (16,))),
    "PR1": _fields((_XCN, (8, 11, 12))),
    "FT1": _fields((_XCN, (20, 21))),
    "RXA": _fields((_XCN, (10,))),
    "RXE": _fields((_XCN, (13,)), (_CX, (15,))),
    "ROL": _fields((_XCN, (4,)), (_XAD, (11,)), (_XTN, (12,))),
    "SCH": _fields((_CX, (1, 2)), (_XCN, (12, 16, 20)), (_XTN, (13, 17))),
    "AIP": _fields((_XCN, (3,))),
    "CTD": _fields((_XPN, (2,)), (_XAD, (3,)), (_XTN, (5,))),
    "PRD": _fields((_XPN, (2,)), (_XAD, (3,)), (_XTN, (5,))),
    "STF": _fields((_CX, (2,)), (_XPN, (3,)), (_XTN, (10,)), (_XAD, (11,))),
    "SPM": _fields((_CX, (2,))),
}
# Of these others make lines, too: a stage of production, a disease, a trial. In a message a person or a number in them
# has components.
_WORDS_TOO: Final = frozenset(("PRD", "CTD", "ROL", "STF", "SCH", "AIP"))
_MARKS: Final = "|\t\u21e5"
_SEGMENT: Final = re.compile(rf"(?P<name>{'|'.join(_SEGMENTS)})(?P<mark>[{_MARKS}])")
_IN_MESSAGES: Final = re.compile(rf"(?:MSH|PID)[{_MARKS}]")
_BEFORE: Final = re.compile(r"(?:[\n\r\x0b>\"'`]|\A)[ >\"'`]{0,8}\Z")
# Of a segment within a program's string its quote is the end, or an escape of the line's; two quotes are HL7's word for
# nothing, and people are called O' Brien.
_END: Final = re.compile(
    rf"[\n\r]|\\[nr]|(?<![\"'])[\"'](?=[,;)\]}}\t\n\r]|\Z| (?![^\n\r{_MARKS}]{{0,200}}[{_MARKS}]))"
)
_MOST_BEFORE: Final = 9
# A day, with its time, and with the time's zone.
_DATE: Final = re.compile(
    r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{0,6}(?:[.+-][0-9.+-]{1,10})?"
)
_COMPONENT: Final = re.compile(r"[^~^&]+|[~^&]")
_LEAST, _LONGEST, _SHORTEST_NUMBER = 2, 120, 3
_AROUND: Final = " \"'"


def identifiers_in(text: str) -> Iterator[Labelled]:
    """Yield what identifies somebody in the segments of a text, in order."""
    if not any(mark in text for mark in _MARKS):
        return
    is_message = _IN_MESSAGES.search(text) is not None
    end = 0
    for segment in _SEGMENT.finditer(text):
        begin = segment.start()
        if begin < end or _BEFORE.search(text, max(0, begin - _MOST_BEFORE), begin) is None:
            continue
        name, mark = segment["name"], segment["mark"]
        ended = _END.search(text, segment.end())
        end = len(text) if ended is None else ended.start()
        if name in _WORDS_TOO and not is_message and "^" not in text[begin:end]:
            continue
        # The first field of a message's head is the mark itself.
        number, at = 2 if name == "MSH" else 1, segment.end()
        known = _SEGMENTS[name]
        while at < end:
            behind = text.find(mark, at, end)
            behind = end if behind < 0 else behind
            yield from _identifiers_of(text, at, behind, known.get(number, ()))
            number, at = number + 1, behind + 1


def _identifiers_of(text: str, begin: int, end: int, parts: tuple[_Part, ...]) -> Iterator[Labelled]:
    component = 1
    for found in _COMPONENT.finditer(text, begin, end):
        if found[0] == "^":
            component += 1
        elif found[0] == "~":
            component = 1
        elif found[0] != "&":
            start, value = trimmed(found[0], found.start(), _AROUND)
            if _LEAST <= len(value) <= _LONGEST and (phi_class := _class_of(value, component, parts)) is not None:
                yield Labelled(start, start + len(value), phi_class)


def _class_of(value: str, component: int, parts: tuple[_Part, ...]) -> PhiClass | None:
    for part in parts:
        if component in part.components and part.counts(value):
            return part.phi_class
    return PhiClass.DATE if _DATE.fullmatch(value) else None
