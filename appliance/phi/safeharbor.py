"""What else identifies a person by 45 CFR 164.514(b)(2)(i), A to R: patterns beyond those of the documents.

All of them are extra. Most numbers mean nothing by themselves, so a word before them says what they are; where a number
carries its own proof (IBAN, card, vehicle, prescriber), the proof counts and no word is needed.
"""

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from appliance.phi.addresses import ADDRESSES
from appliance.phi.labelled import UNITS
from appliance.phi.patterns import (
    BY_DASH,
    BY_POINT,
    BY_SLASH,
    DAY,
    LONG,
    MONTHS,
    Both,
    PhiClass,
    Shape,
    any_of,
    luhn,
    rule,
)

_COLON: Final = re.compile(":[0-9A-Fa-f]{0,4}:")
_SLASHES: Final = ("://",)
_OVER_89: Final = Shape(re.compile(r"\b(?:9[0-9]|1[01][0-9])\b"))


def is_iban(candidate: str) -> bool:
    """Tell whether a candidate is an international bank account number (ISO 13616, check digits of ISO 7064)."""
    plain = candidate.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def is_card(candidate: str) -> bool:
    """Tell whether 13 to 19 digits pass the Luhn check of a payment card (ISO/IEC 7812-1)."""
    digits = [character for character in candidate if character.isdecimal()]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn("".join(digits))


def is_vin(candidate: str) -> bool:
    """Tell whether 17 characters pass the check digit of a vehicle identification number (49 CFR 565.15)."""
    values = {**{str(digit): digit for digit in range(10)}, **_VIN_VALUES}
    total = sum(values[character] * weight for character, weight in zip(candidate, _VIN_WEIGHTS, strict=True))
    return "0123456789X"[total % 11] == candidate[8]


def is_prescriber(candidate: str) -> bool:
    """Tell whether a candidate passes the check digit of a DEA registration."""
    digits = [int(character) for character in candidate[2:]]
    return (digits[0] + digits[2] + digits[4] + 2 * (digits[1] + digits[3] + digits[5])) % 10 == digits[6]


def is_address(candidate: str) -> bool:
    """Tell whether a candidate is an IPv6 address that names one host."""
    try:
        address = IPv6Address(candidate)
    except AddressValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


_VIN_VALUES: Final = dict(
    zip("ABCDEFGHJKLMNPRSTUVWXYZ", (*range(1, 9), *range(1, 6), 7, 9, *range(2, 10)), strict=True)
)
_VIN_WEIGHTS: Final = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)

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
_BEFORE_DAY: Final = ("am", "vom", "bis", "seit", "zum", "ab", "den")
_BEFORE_AGE: Final = ("she", "he", "who", "patient", "was", "is", "at", "now", "nearly", "almost", "over")
# Phone, tel, cell, fax, and whatever else says that a number is called; put together they make some words too many.
_CALL_BEGINS: Final = "bcfmprtw"
_CALL_ENDS: Final = (
    *("hone", "elephone", "el", "obile", "ob", "ell", "ax", "ager", "leep", "h", "all", "ing", "ext", "hatsapp"),
    "ontact",
)
SAFE_HARBOR: Final = (
    *ADDRESSES,
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
        r"[t\d](?:(?<=\d)(?<![\w.-].)\d?|(?<=t)he \d{1,2})(?:st|nd|rd|th|\.)?[- ](?:of )?"
        rf"{_MONTH}\b\.?(?:[- ,]{{1,2}}['\u2019]?(?:\d{{4}}|\d{{2}})\b)?",
        needs=MONTHS,
    ),
    rule(
        PhiClass.DATE,
        rf"(?<![\w.-])\d{{1,2}}(?:\.|er|\u00ba)? (?:de )?{_FOREIGN_MONTH}\b(?: (?:de )?(?:\d{{4}}|\d{{2}})\b)?",
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
        rf"(?:the )?(?<![\w.-])\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_SMALL_MONTH}\b(?:,? \d{{4}}\b)?"
        rf"|\b{_SMALL_MONTH} (?:the )?\d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}}\b)?",
        needs=Both(any_of(*_SMALL_MONTHS), _SMALL_MONTHS),
    ),
    rule(
        PhiClass.DATE,
        rf"(?i:\b(?:the )?{_ORDINAL}(?: day)? of (?:{_SMALL_MONTH}|may)\b)(?:,? (?:of )?\d{{4}}\b)?",
        needs=Both(any_of(*_SMALL_MONTHS, "may"), re.compile(r"[oO](?<=[trdhyTRDHY] .)[fF] ")),
        in_words=True,
    ),
    rule(
        PhiClass.DATE,
        rf"(?:{_MONTH_IN_WORDS})(?i: (?:the )?{_ORDINAL}\b)(?:,? (?:of )?\d{{4}}\b)?",
        needs=any_of(*_SMALL_MONTHS, "may"),
        in_words=True,
    ),
    rule(PhiClass.DATE, rf"(?:{_AS_WORD})\.? {{1,2}}(?:the )?{DAY}\b(?!\.\d|:)(?:,? \d{{4}}\b)?", needs=MONTHS),
    rule(
        PhiClass.DATE,
        r"[12](?<![\w.-].)(?:(?<=1)9|(?<=2)0)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[0-2]\d[0-5]\d(?:[0-5]\d)?)?(?![\w.-])",
        needs=LONG,
    ),
    rule(
        PhiClass.DATE,
        # What stands before is looked for at the number, since words are more than numbers.
        r"[0-9](?:(?<=[Oo]n .)|(?<=[Ss]ince .)|(?<=[Uu]ntil .)|(?<=[Bb]y .)|(?<=[Ff]rom .)|(?<=[Tt]o .)|(?<=[Oo]f .)"
        r"|(?<=[Dd]ated .)|(?<=[Dd]ue .)|(?<=[Ss]een .)|(?<=DOB .)|(?<=[Bb]orn .)|(?<=dmitted .)|(?<=charged .)"
        r"|(?<=tarted .)|(?<=[Dd]ate: .))(?:(?<=[0-2])\d|(?<=3)[01])?/(?:3[01]|[12]\d|0?[1-9])(?![\w/])",
        needs=Shape(re.compile("[0-9]/[0-3]?[0-9](?![0-9/])")),
    ),
    rule(
        PhiClass.AGE,
        r"[19](?<![\w.,/-].)(?:(?<=9)\d|(?<=1)[01]\d)(?=[- ]?(?i:years?|yrs?|y/?o|yo|y\.o\.|[MF]\b|jahre|ans)\b)",
        needs=_OVER_89,
    ),
    rule(
        PhiClass.AGE,
        # What stands before is looked for at the number, since words are more than numbers.
        r"[19](?<= .)(?:(?<=[a-z], .)"
        + "".join(rf"|(?<=\b(?i:{word}) .)" for word in _BEFORE_AGE)
        + r")(?:(?<=9)\d|(?<=1)[01]\d)(?:(?=[,.;:)]? (?![\d%])(?i:and|but|has|had|was|lives|admitted|of|with|who)\b)"
        r"|(?=, (?![\d%])))",
        needs=_OVER_89,
    ),
    rule(
        PhiClass.AGE,
        r"\b(?i:aged?|age is|turned|turning|turns)[ :=\"']{1,4}(?P<id>9\d|1[01]\d)(?![\w/%-]|\.\d)",
        needs=any_of("age", "aged", "turned", "turning", "turns"),
    ),
    rule(
        PhiClass.PHONE,
        # The first letter by itself: a set of characters is what is looked for fastest.
        rf"[{_CALL_BEGINS.upper()}{_CALL_BEGINS}](?<!\w.)(?i:{'|'.join(_CALL_ENDS)})"
        r"\b[^\d\n]{0,14}(?P<id>\+?\(?\d(?:[ ()./-]{0,2}\d){6,13})(?!\d)",
        needs=any_of(*(first + rest for first in _CALL_BEGINS for rest in _CALL_ENDS)),
    ),
    rule(PhiClass.PHONE, r"0(?<![\w.,/-].)\d{2,4}[ /-]\d{3,4}(?:[ -]?\d{2,4}){1,2}(?![\w-])"),
    rule(PhiClass.PHONE, rf"[2-9](?<![\w.,/$-].)\d{{2}}-\d{{4}}(?![\w-]){UNITS}", needs=BY_DASH),
    rule(
        PhiClass.URL,
        r"\bhttps?://[^\s<>\"']{0,120}?(?i:patient|mrn|chart|record|member|profile|person|people|users?\b|family"
        r"|portal|visit|appointment)[^\s<>\"']{0,200}(?<![.,;:)\]])",
        needs=_SLASHES,
        in_words=True,
    ),
    rule(
        PhiClass.ACCOUNT,
        r"[A-Z](?<!\w.)[A-Z]\d{2}(?: ?[A-Z\d]{4}){2,7}(?: ?[A-Z\d]{1,3})?\b",
        needs=re.compile("[0-9](?<=[A-Z][A-Z].)[0-9] ?[A-Z0-9]{4}"),
        check=is_iban,
    ),
    rule(
        PhiClass.ACCOUNT,
        r"[2-6](?<![\w.-].)(?:\d{3}(?P<by>[ -]?)\d{4}(?P=by)\d{4}(?P=by)\d{1,7}|\d{3}[ -]?\d{6}[ -]?\d{4,5})(?![\w-])",
        needs=Shape(re.compile("[0-9]{4}[ -]?[0-9]{4}(?:[0-9]{2})?[ -]?[0-9]{4}")),
        check=is_card,
    ),
    rule(PhiClass.MRN, r"(?<![\w.])\d{5,12}(?=\^{2,3})", needs=("^^",)),
    rule(PhiClass.PLAN, r"\bNHS[^\d\n]{0,12}(?P<id>\d{3}[ -]\d{3}[ -]\d{4})(?!\d)", needs=any_of("nhs")),
    rule(PhiClass.LICENCE, r"\b[A-HJ-MPRSTUX][A-Z9]\d{7}\b", needs=Shape(re.compile("[0-9]{7}")), check=is_prescriber),
    rule(
        PhiClass.VEHICLE,
        r"\b(?i:plates?|vehicle|registration|reg\.?|car|kennzeichen)(?i:\s{0,2}(?:number|no\.?|#))?[\s:#=.\"']{1,6}"
        r"(?P<id>(?=[A-Z -]{0,5}\d)(?=[\d -]{0,5}[A-Z])(?=[A-Z\d -]{5})"
        r"[A-Z\d]{1,4}(?:[ -]?[A-Z\d]{1,4}){1,2})(?![\w-])",
        needs=any_of("plate", "plates", "vehicle", "registration", "reg", "car", "kennzeichen"),
    ),
    rule(
        PhiClass.VEHICLE,
        r"[A-HJ-NPR-Z\d](?<!\w.)[A-HJ-NPR-Z\d]{11}\d{5}(?!\w)",
        needs=Shape(re.compile("[0-9]{5}")),
        check=is_vin,
    ),
    rule(
        PhiClass.DEVICE,
        r"\(01\)\d{14}(?:\(\d{2}\)[A-Za-z\d-]{1,20}){0,4}",
        needs=("(01)",),
    ),
    *(
        rule(
            PhiClass.DEVICE,
            rf"(?<![\w:-])[\dA-Fa-f]{{2}}{by}(?:[\dA-Fa-f]{{2}}{by}){{4}}[\dA-Fa-f]{{2}}(?![\w:-])",
            needs=re.compile(f"{by}[0-9A-Fa-f]{{2}}{by}[0-9A-Fa-f]{{2}}{by}"),
        )
        for by in (":", "-")
    ),
    rule(PhiClass.IP, r"(?<![\w:.])(?=[\dA-Fa-f]{0,4}:)[\dA-Fa-f:]{2,39}(?![\w:.])", needs=_COLON, check=is_address),
    rule(
        PhiClass.SSN,
        r"(?i:\b(?:ssn|social)\b[^\d\n]{0,24}(?:last (?:4|four)(?: digits)?|ending(?: in| with)?|[x*]{3}-[x*]{2}-))"
        r"[^\d\n]{0,6}(?P<id>\d{4})(?!\d)",
        needs=any_of("ssn", "social"),
    ),
    rule(
        PhiClass.MRN,
        # A code of capitals and digits that is nobody's product: at least five digits, or four behind a dash.
        r"[A-Z](?<!\w.)[A-Z]{0,4}(?:-\d{4,}|-?\d{5,}|-?\d{2,}-\d{3,}|\d{2}-\d{4,})(?:-[A-Z\d]{1,6})?(?![\w-]|\.\d)",
        needs=re.compile("[A-Z]-?[0-9]{2}"),
    ),
)
"""Tried after the documents' patterns and the others of `patterns`."""
