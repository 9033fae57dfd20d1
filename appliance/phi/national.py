"""Numbers by which states and their insurers know a person, outside the United States.

Where a number carries its own proof (a check digit, a date in its place, a form that nothing else has) it is found by
itself; elsewhere a word before it says what it is. Sources: each country's own rules as OECD's page "Tax Identification
Numbers" and the registers cite them; the proofs are named at the functions.
"""

import re
from typing import Any, Final

from appliance.phi.patterns import Both, PhiClass, Rule, any_case, any_of, digits_of, luhn, outline, rule

_DNI_LETTERS: Final = "TRWAGMYFPDXBNJZSQVHLCKE"
_PPS_LETTERS: Final = "WABCDEFGHIJKLMNOPQRSTUV"
# Verhoeff's scheme over the dihedral group of ten elements.
_VERHOEFF: Final = (
    *("0123456789", "1234067895", "2340178956", "3401289567", "4012395678", "5987604321", "6598710432"),
    *("7659821043", "8765932104", "9876543210"),
)
_VERHOEFF_TURNS: Final = (
    *("0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415"),
    "7046913258",
)


_RATIO: Final = re.compile(r"\d+[./]\d+")


def is_spanish(candidate: str) -> bool:
    """Tell whether a DNI or NIE ends with the letter of its number (Real Decreto 1553/2005: modulo 23)."""
    number = digits_of(f"{'XYZ'.index(candidate[0])}{candidate[1:]}" if candidate[0] in "XYZ" else candidate)
    return _DNI_LETTERS[int(number) % 23] == candidate[-1]


def is_irish(candidate: str) -> bool:
    """Tell whether a PPS number has the letter of its digits (modulo 23, weights 8 to 2, 9 for a second letter)."""
    total = sum(int(digit) * weight for digit, weight in zip(candidate[:7], range(8, 1, -1), strict=True))
    second = candidate[8:9]
    total += 9 * (ord(second) - 64) if second and second != "W" else 0
    return _PPS_LETTERS[total % 23] == candidate[7]


def is_french(candidate: str) -> bool:
    """Tell whether a NIR has its key: 97 less the number modulo 97, Corsica's letters counted as INSEE does."""
    plain = candidate.replace(" ", "").replace("2A", "19").replace("2B", "18")
    return len(plain) == 15 and plain.isdecimal() and 97 - int(plain[:13]) % 97 == int(plain[13:])


def is_chinese(candidate: str) -> bool:
    """Tell whether eighteen characters pass the check of GB 11643 (ISO 7064, modulo 11-2)."""
    total = sum(int(digit) * (2 ** (17 - place) % 11) for place, digit in enumerate(candidate[:17]))
    return "10X98765432"[total % 11] == candidate[17].upper()


def is_czech(candidate: str) -> bool:
    """Tell whether a birth number has a month in its place and, with ten digits, is a multiple of 11."""
    digits = digits_of(candidate)
    return int(digits[2:4]) % 20 % 50 <= 12 and (len(digits) == 9 or int(digits) % 11 == 0)


def is_indian(candidate: str) -> bool:
    """Tell whether twelve digits pass Verhoeff's check, as an Aadhaar number does."""
    state = 0
    for place, digit in enumerate(reversed(digits_of(candidate))):
        state = int(_VERHOEFF[state][int(_VERHOEFF_TURNS[place % 8][int(digit)])])
    return state == 0


def is_canadian(candidate: str) -> bool:
    """Tell whether nine digits pass the Luhn check, as a social insurance number does."""
    return luhn(digits_of(candidate))


def begins_with_a_date(candidate: str) -> bool:
    """Tell whether the first six digits, or the first eight, are a birthday, by year first or by day first.

    Sweden adds 60 to the day of who is no citizen yet.
    """
    begin = 2 if candidate[:8].isdecimal() else 0
    one, month, other = (int(candidate[begin + place : begin + place + 2]) for place in (0, 2, 4))
    return 1 <= month <= 12 and (1 <= one <= 31 or 1 <= other <= 31 or 61 <= other <= 91)


def is_long(candidate: str) -> bool:
    """Tell whether there are enough digits for somebody's number, and no decimal or ratio."""
    return len(digits_of(candidate)) >= 7 and not _RATIO.fullmatch(candidate)


def is_an_insurers(candidate: str) -> bool:
    """Tell the same for insurers' numbers, which are longer."""
    return is_long(candidate) and len(digits_of(candidate)) >= 8


_BEFORE: Final = r"(?<![\w./-])"
_AFTER: Final = r"(?![\w/-]|\.\d)"
# What follows a label: its kind of word, marks of writing, then the number.
_MEANS: Final = (
    r"(?i:[\s_-]{0,2}(?:numbers?|nummer|numer|num\.?|no\.?|nr\.?|n[\u00b0\u00ba]|id|card|code|is|#)(?![a-z])){0,3}"
    r"(?:</?[A-Za-z0-9]{1,8}>|[\s:#=.\"'*`|>\\({\u201c\u2018\u2013\u2014]){1,16}"
)
_NUMBER: Final = (
    r"(?P<id>(?:[A-Z]{1,4}[ -]?|[a-z]{1,4})?\d(?:[ ./-]{0,2}\d|[A-Za-z]|[ -][A-Z](?!\w)){4,24}(?: ?\([\dA]\))?)"
    r"(?![A-Za-z0-9])"
)

_STATES_WORDS: Final = (
    *("dni", "nie", "nif", "cuil", "cuit", "curp", "rfc", "rut", "cpf", "rg", "dui", "cedula"),
    *("ahv", "avs", "bsn", "niss", "insz", "nir", "pesel", "cnp", "oib", "jmbg", "emso", "afm", "amka", "egn"),
    *("personnummer", "personnr", "cpr", "hetu", "henkilotunnus", "kennitala", "fodselsnummer"),
    *(
        "sin",
        "nino",
        "ni",
        "pps",
        "ppsn",
        "tfn",
        "aadhaar",
        "aadhar",
        "rrn",
        "hkid",
        "nric",
        "mykad",
        "zehut",
        "kimlik",
    ),
    *("tckn", "snils", "itin", "utr", "rvnr", "svnr", "rentenversicherungsnummer", "sozialversicherungsnummer"),
    *("rijksregisternummer", "steueridentifikationsnummer", "burgerservicenummer"),
)
_STATES_FORMS: Final = (
    *("codice fiscale", r"c[e\u00e9]dula(?: de ciudadan[i\u00ed]a)?", r"s[e\u00e9]cu(?:rit[e\u00e9] sociale)?"),
    *(r"f\u00f8dselsnummer", r"henkil\u00f6tunnus", r"rodn[e\u00e9] \u010d[i\u00ed]slo", r"em\u0161o", "steuer-?id"),
)
# Of a word with an accent what stands before or behind it.
_STATES_NEED: Final = any_of(
    *_STATES_WORDS,
    *("codice", "dula", "cu", "curit", "secu", "securite", "dselsnummer", "henkil", "rodn", "rodne", "steuer"),
    *("steuerid", "em"),
)
_INSURERS_WORDS: Final = ("ihi", "abha", "cns", "nss", "ehic", "kvnr", "tse", "cip")
_INSURERS_FORMS: Final = (
    *("carte vitale", "tarjeta sanitaria", "tessera sanitaria", "krankenversichertennummer"),
    "krankenversicherungsnummer",
)
_INSURERS_NEED: Final = any_of(
    *_INSURERS_WORDS,
    *("vitale", "sanitaria", "krankenversichertennummer", "krankenversicherungsnummer"),
)
# Personal number of Japan, resident identity of China and Taiwan, resident registration of Korea, and Russia's two.
_OTHER_SCRIPTS: Final = (
    *("\u30de\u30a4\u30ca\u30f3\u30d0\u30fc", "\u500b\u4eba\u756a\u53f7", "\u8eab\u4efd\u8bc1", "\u8eab\u5206\u8b49"),
    *("\uc8fc\ubbfc\ub4f1\ub85d\ubc88\ud638", "\u0418\u041d\u041d", "\u0421\u041d\u0418\u041b\u0421"),
    *("\u0438\u043d\u043d", "\u0441\u043d\u0438\u043b\u0441"),
)

# What every one of the forms below has a piece of: most texts hold none of it.
_IN_A_ROW: Final = outline(
    *("999999", "999.999", "99.99.99", "9 99 99 9", "999 999 9", "9999 9999 9", "999-999-9", "9999-9999-9"),
    *("AA99A9", "AA 99 99 99 A"),
)


def _proven(pattern: str, *pieces: str, **more: Any) -> Rule:
    """Return the rule of a number that needs no label: one of these pieces is in its outline."""
    return rule(PhiClass.SSN, pattern, needs=Both(_IN_A_ROW, outline(*pieces)), **more)


NATIONAL: Final = (
    rule(
        PhiClass.SSN,
        any_case(*_STATES_WORDS, *_STATES_FORMS) + _MEANS + _NUMBER,
        needs=_STATES_NEED,
        check=is_long,
    ),
    rule(
        PhiClass.PLAN,
        any_case(*_INSURERS_WORDS, *_INSURERS_FORMS) + _MEANS + _NUMBER,
        needs=_INSURERS_NEED,
        check=is_an_insurers,
    ),
    rule(
        PhiClass.PLAN,
        # Australia's, with the place on the card.
        r"[Mm](?<!\w.)(?i:edicare)" + _MEANS + r"(?P<id>[2-6]\d{3} ?\d{5} ?\d(?:(?: ?/| -?)?\d)?)(?!\w)",
        needs=Both(any_of("medicare"), outline("9999 99999 9", "9999999999")),
    ),
    rule(
        PhiClass.SSN,
        any_case("national", "identity", "citizen(?:ship)?")
        + r"(?i:(?: id(?:entity)?| insurance)?)"
        + _MEANS
        + _NUMBER,
        needs=any_of("national", "identity", "citizen", "citizenship"),
        check=is_long,
    ),
    rule(
        PhiClass.SSN,
        rf"(?i:{'|'.join(_OTHER_SCRIPTS)})[^\d\n]{{0,8}}" + _NUMBER,
        needs=_OTHER_SCRIPTS,
        check=is_long,
    ),
    rule(
        PhiClass.MRN,
        r"\bNHI" + _MEANS + r"(?P<id>[A-HJ-NP-Z]{3}(?:\d{4}|\d\d[A-HJ-NP-Z]{2}))\b",
        needs=any_of("nhi"),
    ),
    rule(
        PhiClass.MRN,
        r"\b(?i:h ?& ?c|health & care)" + _MEANS + r"(?P<id>\d{3}[ -]?\d{3}[ -]?\d{4})(?!\d)",
        needs=("&",),
    ),
    rule(
        PhiClass.SSN,
        r"(?i:\b(?:codice fiscale|c\.f\.|curp)[\s:.#=]{1,6})"
        r"(?P<id>(?=(?:[^\d\n]{0,9}\d){4})[A-Za-z0-9](?:[A-Za-z0-9]| (?=[A-Z0-9])){15,20})\b",
        needs=any_of("codice", "f", "curp"),
    ),
    rule(
        PhiClass.PLAN,
        r"\bDVA" + _MEANS + r"(?P<id>[A-Z]{1,4} ?\d{2,6}[A-Z]?)\b",
        needs=any_of("dva"),
    ),
    # Spain, Ireland, Italy, Switzerland, Belgium, France.
    _proven(
        rf"{_BEFORE}(?:\d{{8}}|[XYZ]-?\d{{7}})-?[A-HJ-NP-TV-Z]{_AFTER}",
        "99999999A",
        "99999999-A",
        "A9999999A",
        "A-9999999-A",
        "A9999999-A",
        check=is_spanish,
    ),
    _proven(rf"{_BEFORE}\d{{7}}[A-W][A-IW]?{_AFTER}", "9999999A", check=is_irish),
    _proven(
        rf"{_BEFORE}[A-Z]{{6}}[\dL-NP-V]{{2}}[A-EHLMPRST][\dL-NP-V]{{2}}[A-Z][\dL-NP-V]{{3}}[A-Z]{_AFTER}",
        "AAAAAA99A99A999A",
    ),
    rule(PhiClass.SSN, rf"{_BEFORE}756\.\d{{4}}\.\d{{4}}\.\d\d{_AFTER}", needs=("756.",)),
    _proven(rf"{_BEFORE}\d\d\.\d\d\.\d\d-\d{{3}}\.\d\d{_AFTER}", "99.99.99-999.99"),
    _proven(
        rf"[1-478](?<![\w./-].) ?\d\d ?\d\d ?(?:\d\d|2[AB]) ?\d{{3}} ?\d{{3}} ?\d\d{_AFTER}",
        "9 99 99 99 999",
        "9 99 99 9A 999",
        "999999999999999",
        check=is_french,
    ),
    # Sweden, Denmark, Finland, Korea, Malaysia, Czechia and Slovakia: a birthday in front.
    _proven(
        rf"{_BEFORE}(?:\d{{8}}|\d{{6}})(?:-(?:\d{{4}}|[1-8]\d{{6}}|\d\d-\d{{4}})|[-+A-F]\d{{3}}[\dA-Y]){_AFTER}",
        "999999-99",
        "999999A999",
        "999999+999",
        check=begins_with_a_date,
    ),
    _proven(rf"{_BEFORE}\d{{6}}/\d{{3,4}}{_AFTER}", "999999/999", check=is_czech),
    # Britain, Brazil, Chile, Mexico.
    _proven(
        rf"[A-CEGHJ-PR-TW-Z](?<![\w./-].)[A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]{_AFTER}",
        "AA 99 99 99 A",
        "AA 999999 A",
        "AA 999999A",
        "AA999999A",
        "AA999999 A",
    ),
    _proven(rf"{_BEFORE}\d{{3}}\.\d{{3}}\.\d{{3}}-\d\d{_AFTER}", "999.999.999-99"),
    _proven(rf"{_BEFORE}\d{{1,2}}\.\d{{3}}\.\d{{3}}-[\dKk]{_AFTER}", "9.999.999-"),
    _proven(rf"{_BEFORE}[A-Z]{{4}}\d{{6}}[HMX][A-Z]{{5}}[A-Z\d]\d{_AFTER}", "AAAA999999AAAAAA"),
    # Canada, India, China, Russia, Singapore, Hong Kong, Germany's pension insurance.
    _proven(
        rf"[1-79](?<![\w./-].)\d{{2}}(?P<by>[ -])\d{{3}}(?P=by)\d{{3}}{_AFTER}",
        "999 999 999",
        "999-999-999",
        check=is_canadian,
    ),
    _proven(
        rf"[2-9](?<![\w./-].)\d{{3}}(?P<by>[ -])\d{{4}}(?P=by)\d{{4}}{_AFTER}(?! \d{{4}})",
        "9999 9999 9999",
        "9999-9999-9999",
        check=is_indian,
    ),
    _proven(rf"[1-9](?<![\w./-].)\d{{16}}[\dXx]{_AFTER}", "99999999999999999", check=is_chinese),
    _proven(rf"{_BEFORE}\d{{3}}-\d{{3}}-\d{{3}} \d\d{_AFTER}", "999-999-999 99"),
    _proven(rf"[STFGM](?<![\w./-].)\d{{7}}[A-Z]{_AFTER}", "A9999999A"),
    _proven(r"(?<!\w)[A-Z]{1,2}\d{6}\([\dA]\)", "A999999("),
    _proven(rf"{_BEFORE}\d\d \d{{6}} [A-Z] \d{{3}}{_AFTER}", "99 999999 A 999"),
)
"""Tried with the others of `safeharbor`."""
