"""What identifiers look like. The documents' three patterns stand first and exactly as they are written there (F3-F5).

The others are extra: they raise recall and are marked so, since a pattern is no proof. More classes are in
`safeharbor`, names without a label or a title in `names`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address
from typing import Any, Final

from appliance.phi.fieldvalues import is_no_type


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """Words, each of small letters without accents alone: one of them is looked for among a text's, however written."""

    words: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """Pieces of a text in which every digit is a 9 and every capital an A, without small letters: one is looked for."""

    pieces: tuple[str, ...]


Plain = re.Pattern[str] | tuple[str, ...] | Words | Outline


@dataclass(frozen=True, slots=True, eq=False)
class Both:
    """What is looked for first, since that costs next to nothing, and what is looked for where that is there."""

    first: Plain
    then: Plain


Needs = Plain | Both
"""What a text must hold for a rule to be tried: a pattern, some piece of text, some word, a piece of its outline."""


def outline(*pieces: str) -> Outline:
    """Return the need of one of these pieces of an outline.

    Raises:
        ValueError: A piece has a small letter, which no outline has, so its rule would never be tried.
    """
    if any(map(str.islower, "".join(pieces))):
        raise ValueError("a piece of an outline has a small letter")
    return Outline(pieces)


def any_case(*words: str) -> str:
    """Return a pattern of any of these words, however written, at the beginning of a word.

    Each word may go on as a pattern. The first letter comes by itself: a set of characters is looked for fastest.
    """
    rests: dict[str, list[str]] = {}
    for word in words:
        rests.setdefault(word[0], []).append(word[1:])
    letters = "".join(rests)
    each = "|".join(f"(?<=[{one}{one.upper()}])(?i:{'|'.join(rest)})" for one, rest in rests.items())
    return rf"[{letters}{letters.upper()}](?<!\w.)(?:{each})"


def any_of(*words: str) -> Words:
    """Return the need of one of these words."""
    return Words(frozenset(words))


DIGIT: Final = outline("9")
BY_SLASH: Final = outline("9/9")
BY_POINT: Final = outline("9.9")
BY_DASH: Final = outline("9-9")
LONG: Final = outline("99999999")
MONTHS: Final = any_of(
    *("jan", "january", "feb", "february", "mar", "march", "apr", "april", "may", "jun", "june", "jul", "july", "aug"),
    *("august", "sep", "sept", "september", "oct", "october", "nov", "november", "dec", "december"),
)
_AT: Final = ("@",)
_LABEL: Final = Both(any_of("name", "surname", "patient", "pt", "kin"), re.compile(r"[:=](?<=[eEtTnN.\s].)"))
_AS_SSN: Final = outline("999-99-9")
_AS_DATE: Final = outline("9/9/9999", "9/99/9999")
_AS_ISO: Final = outline("9999-99-9")
_FULL: Final = outline("9.9.9999", "9.99.9999", "9-9-9999", "9-99-9999")
_HOST: Final = outline("9.9.9", "9.99.9", "9.999.9")
_MEDICARE: Final = outline("9AA9", "9A99")
_TITLE: Final = any_of(
    *("mr", "mrs", "ms", "mx", "miss", "dr", "prof", "sra", "srta", "dhr", "mevr", "mevrouw", "meneer"),
    *("sig", "signor", "signora", "signorina", "dott", "dra", "fru", "mlle", "herrn"),
)
_GROUPS: Final = outline("999-9999", "999 9999", "999.9999")
_PLUS: Final = ("+",)
_OF_RECORD: Final = any_of("mrn", "record", "chart")
_OF_SECURITY: Final = any_of("ssn", "social")


class PhiClass(StrEnum):
    """Classes of identifiers, as counted in `x-sealift-phi`, metrics and the ledger."""

    SSN = "ssn"
    MRN = "mrn"
    DATE = "date"
    PHONE = "phone"
    EMAIL = "email"
    NPI = "npi"
    MBI = "mbi"
    IP = "ip"
    NAME = "name"
    AGE = "age"
    ADDRESS = "address"
    URL = "url"
    ACCOUNT = "account"
    PLAN = "plan"
    LICENCE = "licence"
    VEHICLE = "vehicle"
    DEVICE = "device"


LITERAL: Final = "TEXT"
"""The class of what merely looks like a token."""
TOKEN_WORDS: Final = (*(one.name for one in PhiClass), LITERAL)
"""What tokens are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One pattern: the group ``id``, or the whole match where there is none, is the identifier.

    Attributes:
        needs: A rule is tried only on text that holds this; it spares most text most patterns.
        check: Says whether a candidate is valid; None accepts all.
        extra: Not among the documents' patterns.
        in_words: An identifier may be without a digit; else the rule is not tried on text that has none.
    """

    phi_class: PhiClass
    pattern: re.Pattern[str]
    needs: Needs = DIGIT
    check: Callable[[str], bool] | None = None
    extra: bool = True
    in_words: bool = False
    group: int = field(init=False)

    def __post_init__(self) -> None:
        """Look up the group that is the identifier, once."""
        object.__setattr__(self, "group", self.pattern.groupindex.get("id", 0))


def rule(phi_class: PhiClass, pattern: str, **more: Any) -> Rule:
    """Return the rule of a pattern; `more` are the other fields of `Rule`."""
    return Rule(phi_class=phi_class, pattern=re.compile(pattern), **more)


def digits_of(candidate: str) -> str:
    """Return the decimal digits of a candidate, without what stands between them."""
    return "".join(character for character in candidate if character.isdecimal())


def is_npi(candidate: str) -> bool:
    """Tell whether ten digits pass the Luhn check of a US national provider identifier (prefix 80840)."""
    return luhn("80840" + candidate)


def is_phone(candidate: str) -> bool:
    """Tell whether a candidate is a number of the North American plan: area and exchange start with 2 to 9."""
    digits = digits_of(candidate)
    if len(digits) == 11 and digits[0] == "1":
        digits = digits[1:]
    return len(digits) == 10 and digits[0] not in "01" and digits[3] not in "01"


def is_address(candidate: str) -> bool:
    """Tell whether a candidate is an IPv4 address that names one host."""
    try:
        address = IPv4Address(candidate)
    except AddressValueError:
        return False
    is_mask = candidate.startswith("255.")
    return not (address.is_loopback or address.is_unspecified or is_mask)


def luhn(digits: str) -> bool:
    """Tell whether decimal digits pass the Luhn check (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


MONTH: Final = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)"
)
DAY: Final = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
CAPITALISED: Final = r"[A-Z\u00c0-\u00d6\u00d8-\u00de][\w'\u2019-]{1,30}"
# What follows a name in a list of labels and is none itself.
_NEXT_LABEL: Final = (
    r"(?!(?i:SSN|MRN|DOB|NPI|MBI|DOS|ID|age|aged|sex|gender|phone|tel|fax|e-?mail|address|date|born|account|insurance"
    r"|room|ward|unit|bed|diagnosis|dx|hx|rx|allergies|admitted|seen|presents|complains|reports|denies)\b)"
)
_MORE: Final = rf" {{1,2}}{_NEXT_LABEL}{CAPITALISED}"
# What stands below the name of a step, of a task, of a licence or of a team, and below none of somebody.
_NO_STEP: Final = (
    r"(?![^\n]{0,120}\n[ \t]{1,40}(?:run: [a-z|]|(?:ansible\.[\w.]{1,60}|uses|hosts|tasks|become|apt|yum|dnf|pip"
    r"|systemd|mountPath|containerPort|valueFrom|url):))"
)
_MBI_LETTER: Final = "[AC-HJKMNP-RT-Y]"
_MBI_EITHER: Final = "[AC-HJKMNP-RT-Y0-9]"

DOCUMENTED: Final = (
    Rule(phi_class=PhiClass.SSN, pattern=re.compile(r"\b\d{3}-\d{2}-\d{4}\b"), needs=_AS_SSN, extra=False),
    # The label stays readable for the model; what follows it is the identifier.
    Rule(phi_class=PhiClass.MRN, pattern=re.compile(r"\bMRN:\s*(?P<id>\d{6,10})\b"), needs=_OF_RECORD, extra=False),
    Rule(phi_class=PhiClass.DATE, pattern=re.compile(r"\b\d{1,2}/\d{1,2}/\d{4}\b"), needs=_AS_DATE, extra=False),
)

_IN_MONTHS: Final = (
    Rule(
        phi_class=PhiClass.DATE, pattern=re.compile(rf"\b{DAY}(?: of)? {MONTH}\.?,? (?:19|20)\d{{2}}\b"), needs=MONTHS
    ),
    Rule(phi_class=PhiClass.DATE, pattern=re.compile(rf"\b{MONTH}\.? {DAY},? (?:19|20)\d{{2}}\b"), needs=MONTHS),
)
EXTRA: Final = (
    Rule(
        phi_class=PhiClass.SSN,
        pattern=re.compile(
            r"(?i:\b(?:SSN|social security(?: number| no\.?)?))[\s:#=.]{0,4}(?P<id>\d{9}|\d{3}[ .]\d{2}[ .]\d{4})\b"
        ),
        needs=_OF_SECURITY,
    ),
    Rule(
        phi_class=PhiClass.MRN,
        pattern=re.compile(
            r"(?i:(?<![^\W_])(?:MRN|(?:medical )?record (?:number|no\.?|#)|chart (?:number|no\.?|#)))"
            r"[\s:#=._]{0,4}(?P<id>[A-Z]{0,3}-?\d{5,10})(?![^\W_])"
        ),
        needs=_OF_RECORD,
    ),
    Rule(
        phi_class=PhiClass.DATE,
        pattern=re.compile(r"\b(?:19|20)\d{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?!\d)"),
        needs=_AS_ISO,
    ),
    Rule(
        phi_class=PhiClass.DATE,
        pattern=re.compile(r"[0-9](?<!\w.)\d?(?P<by>[.-])\d{1,2}(?P=by)(?:19|20)\d{2}\b"),
        needs=_FULL,
    ),
    *_IN_MONTHS,
    Rule(
        phi_class=PhiClass.PHONE,
        # Its first character by itself: a set of characters is what is looked for fastest.
        pattern=re.compile(
            r"[+(\d](?<![\w.-].)"
            r"(?:(?:(?<=\+)1|(?<=1))[ .-]?(?:\(\d{3}\) ?|\d{3}[ .-])|(?<=\()\d{3}\) ?|(?<=\d)\d{2}[ .-])"
            r"\d{3}[ .-]\d{4}(?![\w-])"
        ),
        needs=_GROUPS,
        check=is_phone,
    ),
    Rule(
        phi_class=PhiClass.PHONE,
        pattern=re.compile(r"(?<![\w.+-])\+[2-9]\d{0,2}(?:[ .-]?\d){7,12}(?![\w-])"),
        needs=_PLUS,
    ),
    Rule(
        phi_class=PhiClass.EMAIL,
        pattern=re.compile(
            r"(?<![\w.+%-])[\w.+%-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,4}\.[A-Za-z]{2,24}\b"
        ),
        needs=_AT,
        in_words=True,
    ),
    Rule(
        phi_class=PhiClass.NPI,
        pattern=re.compile(r"[12](?<![\w.-].)\d{9}(?![\w-])", re.ASCII),
        needs=LONG,
        check=is_npi,
    ),
    Rule(
        phi_class=PhiClass.MBI,
        pattern=re.compile(
            rf"\b[1-9]{_MBI_LETTER}{_MBI_EITHER}\d-?{_MBI_LETTER}{_MBI_EITHER}\d-?{_MBI_LETTER}{{2}}\d{{2}}\b"
        ),
        needs=_MEDICARE,
    ),
    Rule(
        phi_class=PhiClass.IP,
        pattern=re.compile(
            r"[0-9](?<![\w.-].)(?<!ersion .)(?<!elease .)(?<!uild .)(?<!irmware .)"  # of programs, not of hosts
            r"\d{0,2}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\w-]|\.\d)",
            re.ASCII,
        ),
        needs=_HOST,
        check=is_address,
    ),
    Rule(
        phi_class=PhiClass.NAME,
        pattern=re.compile(
            r"\b(?i:patient(?: name)?|pt\.?(?: name)?|(?:full |last |first )?name|surname|next of kin)"
            # What stands below it with a colon of its own is another field.
            r"\s{0,2}[:=](?:[ \t]{0,3}|\s{0,3}(?![A-Z][a-z]{1,20}(?: [a-z]{1,20}){0,2}:))"
            rf"(?P<id>{CAPITALISED}(?:,?{_MORE}){{0,3}}){_NO_STEP}"
        ),
        needs=_LABEL,
        check=is_no_type,
        in_words=True,
    ),
    Rule(
        phi_class=PhiClass.NAME,
        # "Sig." alone begins what is written on a prescription, "Sr." is serum, and MR and MS are nobody's without a
        # point.
        pattern=re.compile(
            r"\b(?:(?:M(?:rs?|s|x|iss|evr(?:ouw)?|evrouw|eneer|lle)|D(?:ra?|hr|ott(?:\.ssa)?)|Prof|Srt?a|Fru|Herrn"
            r"|Sig(?:\.[rn]a|nor(?:a|ina)?)"
            r"|dhr|mevr(?:ouw)?|sig\.[rn]a|dott(?:\.ssa)?|(?:MR|MS|MRS|DR|PROF)(?=\.))"
            r"\.?\s{1,2}(?:med\.\s)?){1,3}"
            r"(?!(?:Dr|Prof|Mr|Mrs|Ms|med)\b)"
            r"(?P<id>(?:[A-Z]\.? ?){0,3}(?:(?:van|von|de|der|den|del|della|di|la|le|ten|ter|af|av) |['\u2019]t ){0,2}"
            rf"{CAPITALISED}(?:{_MORE}){{0,2}})"
        ),
        needs=_TITLE,
        in_words=True,
    ),
)

NOT_DATES: Final = tuple(one for one in EXTRA if one not in _IN_MONTHS)
"""The extra patterns without dates that name their month, for whoever looks for more of these."""
