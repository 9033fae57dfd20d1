"""Identifiers in cards of contacts and entries of calendars: vCard (RFC 6350) and iCalendar (RFC 5545).

The name of a property says what stands behind its colon; only lines within a card or a calendar are read, since `N:`
is many things elsewhere. Lines that are folded go on behind a blank.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from appliance.phi.fieldvalues import is_a_name, is_a_place, trimmed
from appliance.phi.labelled import Labelled
from appliance.phi.patterns import PhiClass, digits_of

_PROPERTIES: Final[Mapping[str, PhiClass]] = {
    **dict.fromkeys(("N", "FN", "NICKNAME", "SORT-STRING", "X-MAIDENNAME", "AGENT"), PhiClass.NAME),
    **dict.fromkeys(("ADR", "LABEL"), PhiClass.ADDRESS),
    "TEL": PhiClass.PHONE,
    **dict.fromkeys(("BDAY", "ANNIVERSARY", "DEATHDATE", "DTSTART", "DTEND"), PhiClass.DATE),
}
_OPENS: Final = re.compile(r"BEGIN:V(?:CARD|CALENDAR|EVENT|TODO)\b", re.IGNORECASE)
_CLOSES: Final = re.compile(r"END:V(?:CARD|CALENDAR|EVENT|TODO)\b", re.IGNORECASE)
_LINE: Final = re.compile(
    r"^[ \t]{0,16}(?:[A-Za-z0-9]{1,16}\.)?(?P<name>[A-Za-z-]{1,24})"
    r"(?P<parameters>(?:;[^:;\"\n]{0,80}(?:\"[^\"\n]{0,200}\")?){0,8}):"
    r"(?P<value>[^\n]{0,400}(?:\n[ \t][^\n]{1,200}){0,8})",
    re.MULTILINE,
)
_CALLED: Final = re.compile(r";CN=\"?(?P<name>[^\";:\n]{2,120})", re.IGNORECASE)
_PART: Final = re.compile(r"(?:[^;,\\\n]|\\[^nN\n])+")
_AROUND: Final = " \t\r\"'"
_MOST: Final = 20_000


def identifiers_in(text: str) -> Iterator[Labelled]:
    """Yield what identifies somebody in the cards and calendars of a text, in order."""
    # A piece of a text is looked for much faster than a pattern.
    if "BEGIN:V" not in text and "begin:v" not in text:
        return
    done = 0
    for opened in _OPENS.finditer(text):
        begin = opened.end()
        if begin < done:
            continue
        closed = _CLOSES.search(text, begin, begin + _MOST)
        done = min(len(text), begin + _MOST) if closed is None else closed.start()
        for line in _LINE.finditer(text, begin, done):
            yield from _identifiers_of(line)


def _identifiers_of(line: re.Match[str]) -> Iterator[Labelled]:
    called = _CALLED.search(line["parameters"])
    if called is not None and is_a_name(called["name"]):
        at = line.start("parameters")
        yield Labelled(at + called.start("name"), at + called.end("name"), PhiClass.NAME)
    phi_class = _PROPERTIES.get(line["name"].upper())
    if phi_class is None:
        return
    for part in _PART.finditer(line["value"]):
        start, value = trimmed(part[0], line.start("value") + part.start(), _AROUND)
        if len(value) > 1 and _counts(value, phi_class):
            yield Labelled(start, start + len(value), phi_class)


def _counts(value: str, phi_class: PhiClass) -> bool:
    if phi_class is PhiClass.NAME:
        return any(map(str.isalpha, value)) and is_a_name(value)
    return is_a_place(value) if phi_class is PhiClass.ADDRESS else len(digits_of(value)) >= 3
