"""Dates as people write them, beyond those of the documents: with a month by name, without a year, in other languages.

All elements of a date but its year identify (45 CFR 164.514(b)(2)(i)(C)), so a month with its year counts, too. A year
alone does not.
"""

import re
from typing import Final

from appliance.phi.patterns import (
    BY_DASH,
    BY_POINT,
    BY_SLASH,
    DAY,
    LONG,
    MONTHS,
    Both,
    PhiClass,
    any_case,
    any_of,
    outline,
    rule,
)

_MONTHS: Final = (
    *("Jan(?:uary)?", "Feb(?:ruary)?", "Mar(?:ch)?", "Apr(?:il)?", "May", "June?", "July?", "Aug(?:ust)?"),
    *("Sept?(?:ember)?", "Oct(?:ober)?", "Nov(?:ember)?", "Dec(?:ember)?"),
    *("JAN(?:UARY)?", "FEB(?:RUARY)?", "MAR(?:CH)?", "APR(?:IL)?", "MAY", "JUNE?", "JULY?", "AUG(?:UST)?"),
    *("SEPT?(?:EMBER)?", "OCT(?:OBER)?", "NOV(?:EMBER)?", "DEC(?:EMBER)?"),
)
_MONTH: Final = rf"(?:{'|'.join(_MONTHS)})"
# The same at the beginning of a word, told after its first letter: a letter is looked for faster than a beginning.
_AS_WORD: Final = "|".join(month[0] + r"(?<!\w.)" + month[1:] for month in _MONTHS)
_SMALL_MONTHS: Final = (
    *("january", "february", "march", "april", "june", "july", "august", "september", "october", "november"),
    "december",
)
_SMALL_MONTH: Final = rf"(?:{'|'.join(_SMALL_MONTHS)})"
_ORDINAL: Final = (
    r"(?:(?:twenty|thirty)[- ](?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth)|first|second|third|fourth"
    r"|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|(?:thir|four|fif|six|seven|eigh|nine)teenth|twentieth"
    r"|thirtieth)"
)
_ORDINALS: Final = any_of(
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"),
    *("twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth"),
    *("twentieth", "thirtieth"),
)
_MONTH_IN_WORDS: Final = "|".join(
    rf"{first}(?<!\w.)(?i:{month[1:]})" for month in (*_SMALL_MONTHS, "may") for first in (month[0], month[0].upper())
)
_FOREIGN_MONTH: Final = (
    r"(?:Januar|Februar|M\u00e4rz|Mai|Juni|Juli|Oktober|Dezember"
    r"|janvier|f\u00e9vrier|mars|avril|mai|juin|juillet|ao\u00fbt|septembre|octobre|novembre|d\u00e9cembre|enero|febrero"
    r"|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre|gennaio|febbraio|aprile|maggio|giugno"
    r"|luglio|settembre|ottobre|dicembre|stycznia|lutego|marca|kwietnia|maja|czerwca|lipca|sierpnia|wrze\u015bnia"
    r"|pa\u017adziernika|listopada|grudnia)"
)
_SHORT_MONTH: Final = r"\b(?:jan|feb|mar|apr|jun|jul|aug|sep|oct|nov|dec)"
_YEAR: Final = r"(?:19|20)\d{2}"
_UNTIL_DAY: Final = rf"(?: ?(?:-|to|through|thru|until) ?(?:the )?{DAY}\b(?!\.\d|:))?"
_DAY_OF_TWO: Final = r"(?:3[01]|[12]\d|0?[1-9])(?![\w/])"
_HOLIDAY: Final = r"(?:Christmas|Xmas|Thanksgiving|Easter|New Year|Halloween|Hanukkah|Diwali|Ramadan)"
_HOLIDAYS: Final = any_of(
    *("christmas", "xmas", "thanksgiving", "easter", "new", "halloween", "hanukkah", "diwali", "ramadan")
)
_BY_ONE_SLASH: Final = re.compile("/(?<=[0-9].)[0-3]?[0-9](?![0-9/])")
_BEFORE_DAY: Final = ("am", "vom", "bis", "seit", "zum", "ab", "den")
DATES: Final = (
    # As Python and JavaScript print one: `datetime.date(1962, 3, 14)`.
    rule(
        PhiClass.DATE,
        rf"(?:\b[Dd]ate|\bdatetime)\((?P<id>{_YEAR}, {{0,2}}\d{{1,2}}, {{0,2}}\d{{1,2}})(?!\d)",
        needs=Both(any_of("date", "datetime"), ("date(", "Date(", "datetime(")),
    ),
    rule(PhiClass.DATE, r"[0-9](?<![\w/.-].)\d?/\d{1,2}/\d{2}(?![\w/])", needs=BY_SLASH),
    rule(PhiClass.DATE, r"[0-9](?<![\w/.-].)\d{3}/\d{1,2}/\d{1,2}(?![\w/])", needs=BY_SLASH),
    rule(PhiClass.DATE, r"[0-9](?<![\w/.-].)\d?\.\d{1,2}\.\d{2}(?![\w.])", needs=BY_POINT),
    rule(
        PhiClass.DATE,
        r"[0-9](?<= .)(?:"
        + "|".join(rf"(?<=\b(?i:{word}) .)" for word in _BEFORE_DAY)
        + r")(?:(?<=3)[01]\.|(?<=[12])\d\.|(?<=0)[1-9]\.|(?<=[1-9])\.)(?:1[0-2]|0?[1-9])\.(?!\w)",
        needs=any_of(*_BEFORE_DAY),
    ),
    rule(
        PhiClass.DATE,
        rf"[0-9](?<![\w.-].)\d?(?:(?:st|nd|rd|th|\.)? ?(?:-|/|to|and|&|bis) ?\d{{1,2}})?"
        rf"(?:st|nd|rd|th|\.)?(?:[- ](?:of )?)?{_MONTH}(?![A-Za-z])\.?(?:[- ,]{{0,2}}['\u2019]?(?:\d{{4}}|\d{{2}})\b)?",
        needs=MONTHS,
    ),
    rule(
        PhiClass.DATE,
        rf"[0-9](?<![\w.-].)\d?(?:\.|er|\u00ba)? (?:de )?{_FOREIGN_MONTH}\b(?: (?:de )?(?:\d{{4}}|\d{{2}})\b)?"
        rf"|\b{_FOREIGN_MONTH} (?:de )?{_YEAR}\b",
        # Of a month with an accent what stands before or behind it.
        needs=any_of(
            *("januar", "februar", "rz", "mai", "juni", "juli", "oktober", "dezember", "janvier", "vrier", "mars"),
            *("avril", "juin", "juillet", "ao", "septembre", "octobre", "novembre", "cembre", "enero", "febrero"),
            *("marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre"),
            *("diciembre", "gennaio", "febbraio", "aprile", "maggio", "giugno", "luglio", "settembre", "ottobre"),
            *("dicembre", "stycznia", "lutego", "marca", "kwietnia", "maja", "czerwca", "lipca", "sierpnia", "wrze"),
            *("dziernika", "listopada", "grudnia"),
        ),
    ),
    rule(PhiClass.DATE, r"[0-9](?<![\w/.-].)\d?-\d{1,2}-\d{2}(?![\w-])", needs=BY_DASH),
    rule(
        PhiClass.DATE,
        r"[0-9](?<![\w/.-].)\d?[./ -](?:I{1,3}|I?V|VI{1,3}|I?X|XI{1,2})[./ -](?:\d{4}|\d{2})\b",
        needs=re.compile("[IVX](?<=[0-9][./ -].)"),
    ),
    rule(
        PhiClass.DATE,
        r"[0-9](?<![\w/.-].)\d?\.(?:i{1,3}|i?v|vi{1,3}|i?x|xi{1,2})\.(?:\d{4}|\d{2})\b",
        needs=re.compile(r"\.[ivx]{1,4}\.(?=[0-9])"),
    ),
    rule(
        PhiClass.DATE,
        rf"[0-9](?<![\w.-].)\d?(?:st|nd|rd|th)? (?:of )?{_SMALL_MONTH}\b(?:,? \d{{4}}\b)?"
        rf"|\b{_SMALL_MONTH} (?:(?:the )?\d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}}\b)?|(?:of )?{_YEAR}\b)"
        rf"|\bmay (?:of )?{_YEAR}\b",
        needs=Both(any_of(*_SMALL_MONTHS, "may"), (*_SMALL_MONTHS, "may 19", "may 20", "may of ")),
    ),
    rule(
        PhiClass.DATE,
        rf"\b(?:\d{{1,2}}(?:st|nd|rd|th)?[ -])?{_SHORT_MONTH}\.?[ -]"
        rf"(?:\d{{1,2}}(?:st|nd|rd|th)?(?:,? {_YEAR})?|{_YEAR})\b"
        rf"|(?<![\w.-])\d{{1,2}}(?:st|nd|rd|th)?[ -]{_SHORT_MONTH}\b",
        needs=Both(MONTHS, re.compile(rf"{_SHORT_MONTH}(?:\.?[ -][0-9]|(?<=[0-9][ -]...)\b|(?<=[a-z][ -]...)\b)")),
    ),
    rule(
        PhiClass.DATE,
        rf"(?i:\b(?:the )?{_ORDINAL}(?: day)?(?: of (?:{_SMALL_MONTH}|may)| {_SMALL_MONTH})\b)"
        r"(?:,? (?:of )?\d{4}\b)?",
        needs=Both(any_of(*_SMALL_MONTHS, "may"), _ORDINALS),
        in_words=True,
    ),
    rule(
        PhiClass.DATE,
        rf"(?:{_MONTH_IN_WORDS})(?i: (?:the )?{_ORDINAL}\b)(?:,? (?:of )?\d{{4}}\b)?",
        needs=Both(any_of(*_SMALL_MONTHS, "may"), _ORDINALS),
        in_words=True,
    ),
    rule(
        PhiClass.DATE,
        rf"(?:{_AS_WORD})(?:\.?,? {{1,2}}(?:the |of )?(?:{DAY}\b(?!\.\d|:){_UNTIL_DAY}(?:,? \d{{4}}\b)?|{_YEAR}\b)"
        r"|\.? ?['\u2019]\d{2}\b|[-/](?:\d{4}|\d{1,2}(?:[-/](?:\d{4}|\d{2}))?)\b)",
        needs=MONTHS,
    ),
    rule(
        PhiClass.DATE,
        r"[12](?<![^\W_.].)(?<![.-].)(?:(?<=1)9|(?<=2)0)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
        r"(?:T?[0-2]\d[0-5]\d(?:[0-5]\d(?:\.\d{1,6})?)?(?:Z|[+-]\d{4})?)?(?![^\W_-]|[.-]\d)",
        needs=LONG,
    ),
    rule(
        PhiClass.DATE,
        # What stands before is looked for at the number, since words are more than numbers.
        r"[0-9](?<= .)(?:(?<=[Oo]n .)|(?<=[Ss]ince .)|(?<=[Uu]ntil .)|(?<=[Bb]y .)|(?<=[Ff]rom .)|(?<=[Tt]o .)"
        r"|(?<=[Oo]f .)|(?<=[Dd]ated .)|(?<=[Dd]ue .)|(?<=[Ss]een .)|(?<=DOB .)|(?<=[Bb]orn .)|(?<=dmitted .)"
        r"|(?<=charged .)|(?<=tarted .)|(?<=[Dd]ate: .)|(?<=[Ff]/[Uu] .)|(?<=dmit .)|(?<=charge .)|(?<=DO[SB]: .)"
        r"|(?<=DOS .)"
        r"|(?<=[Dd]/[Cc] .)|(?<=[Aa]ppt .)|(?<=isit .)|(?<=llected .)|(?<=eceived .)|(?<=\ble .)|(?<=\bel .)|(?<=del .)"
        r")"
        rf"(?:(?<=[0-2])\d|(?<=3)[01])?/{_DAY_OF_TWO}(?: ?(?:-|to|through|and|&) ?\d{{1,2}}/{_DAY_OF_TWO})?",
        needs=_BY_ONE_SLASH,
    ),
    # Two digits each, of which one begins with a nought, is no fraction and no score.
    rule(
        PhiClass.DATE,
        r"[0-3](?<![\w.,/%-].)\d(?:(?<=0[1-9])/(?:3[01]|[0-2]\d)|/0[1-9])(?![\w/%])",
        needs=_BY_ONE_SLASH,
    ),
    rule(
        PhiClass.DATE,
        r"[0-3](?<![\w.,/%-].)\d\.(?:0[1-9]|1[0-2])\.(?=\s|$)(?<!37.1[0-2].)",
        needs=outline("99.99."),
    ),
    # With the time of day behind it, or as the heading of a line.
    rule(
        PhiClass.DATE,
        rf"[0-9](?<![\w/.-].)\d?/{_DAY_OF_TWO}(?= ?@|,? (?:at )?(?:[01]?\d|2[0-3]):?[0-5]\d\b(?![/%]|\.\d))"
        rf"|(?m:^)\d{{1,2}}/{_DAY_OF_TWO}(?=:)",
        needs=_BY_ONE_SLASH,
    ),
    # Of a month that nobody names; a floor, a rib and an attempt are not followed by a stop.
    rule(
        PhiClass.DATE,
        any_case("on", "by", "until", "till", "since", "before", "after", "from", "due", "of")
        + r" the (?P<id>\d{1,2}(?:st|nd|rd|th))(?=[.,;:)]|\s{0,2}$)",
        needs=Both(any_of("st", "nd", "rd", "th"), (" the ",)),
    ),
    rule(
        PhiClass.DATE,
        any_case("mon", "tues?", "wed(?:nes)?", "thu(?:rs?)?", "fri", "sat(?:ur)?", "sun") + r"(?i:day)?\.?,? "
        rf"(?P<id>(?:the )?\d{{1,2}}(?:(?:st|nd|rd|th)\b|/{_DAY_OF_TWO}|\.\d{{1,2}}\.(?!\d)))",
        needs=any_of(
            *("mon", "tue", "tues", "wed", "thu", "thur", "thurs", "fri", "sat", "sun", "monday", "tuesday"),
            *("wednesday", "thursday", "friday", "saturday", "sunday"),
        ),
    ),
    rule(
        PhiClass.DATE,
        rf"[0-9](?<![\w/.-].)\d?/{_YEAR}(?![\w/])",
        needs=outline("9/9999"),
    ),
    rule(
        PhiClass.DATE,
        r"[12](?<![\w./-].)(?:(?<=1)9|(?<=2)0)\d\d-(?:0[1-9]|1[0-2])(?![\w-])",
        needs=outline("9999-99"),
    ),
    rule(
        PhiClass.DATE,
        rf"[0-9](?<![\w.-].)(?:(?:(?<=1)9|(?<=2)0)\d\d\. ?\d{{1,2}}\. ?\d{{1,2}}|\d?\. \d{{1,2}}\. ?{_YEAR})(?!\w)",
        needs=outline("9999.9", "9. 9"),
    ),
    rule(
        PhiClass.DATE,
        rf"[01](?<![\w.-].)(?:(?<=0)[1-9]|(?<=1)[0-2])(?:0[1-9]|[12]\d|3[01]){_YEAR}(?![\w.-])",
        needs=LONG,
    ),
    rule(
        PhiClass.DATE,
        any_case("dob", r"d\.o\.b\.?", "born", "birth ?date", "date of birth", r"geb\.?")
        + r"[\s:=]{1,4}(?P<id>\d{8}|\d{6})(?!\d)",
        needs=Both(any_of("dob", "d", "born", "birth", "birthdate", "geb"), outline("999999")),
    ),
    # Quarters, weeks, seasons and holidays, which are days to whoever was there.
    rule(
        PhiClass.DATE,
        rf"\bQ[1-4][ /-]?(?:of )?{_YEAR}\b|\b{_YEAR}[- ]?(?:Q[1-4]|W[0-5]\d)\b",
        needs=Both(any_of("q", "w"), re.compile("Q[1-4]|W[0-5]")),
    ),
    rule(
        PhiClass.DATE,
        rf"(?i:\b(?:spring|summer|autumn|fall|winter)) (?:of )?{_YEAR}\b",
        needs=any_of("spring", "summer", "autumn", "fall", "winter"),
    ),
    rule(
        PhiClass.DATE,
        rf"\b{_HOLIDAY}(?:['\u2019]s)? (?:(?:Eve|Day|Sunday|Monday|Saturday)\b(?:,? {_YEAR}\b)?|{_YEAR}\b)",
        needs=_HOLIDAYS,
        in_words=True,
    ),
    rule(
        PhiClass.DATE,
        rf"(?i:\b(?:since|on|at|before|after|until|by|over|last|this|around)) (?P<id>{_HOLIDAY})\b",
        needs=_HOLIDAYS,
        in_words=True,
    ),
)
"""Tried after the documents' patterns and the others of `patterns`."""
