"""Numbers that mean nothing by themselves, and the word before them that says what they are.

The number is looked for first and the word behind it, since numbers are rarer than words: a text of a page costs one
look for each number of three digits.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from appliance.phi.patterns import PhiClass

UNITS: Final = r"(?! {0,2}(?i:mg|mcg|ug|ng|g|kg|ml|l|units?|iu|u|kcal|mmol|meq|cm|mm|bpm|%)\b)"
"""What follows a quantity, which is no number of anybody's."""

_WORDS: Final[Mapping[PhiClass, tuple[str, ...]]] = {
    PhiClass.MRN: (
        *(
            "mrn",
            "umrn",
            "urn",
            "hospital",
            "patient",
            "pt",
            "chart",
            "record",
            "visit",
            "encounter",
            "case",
            "episode",
        ),
        *("accession", "acc", "specimen", "sample", "slide", "tube", "lab", "requisition", "referral", "fin", "csn"),
        *("study", "claim", "wristband", "reference", "ref", "id", "dispatch", "incident", "accident", "hosp", "enc"),
        *("har", "req", "barcode", "spell", "chi", "nhi", "rx", "prescription", "ticket", "booking", "dossier"),
        "patid",
        *("number", "nummer", "run", "order", "request", "folder", "file", "histology", "cytology", "donor", "subject"),
        *("participant", "enrolment", "enrollment", "screening", "docket", "queue", "crossmatch", "transaction"),
    ),
    PhiClass.ACCOUNT: ("account", "acct", "a/c", "invoice", "billing", "bank", "iban", "receipt"),
    PhiClass.PLAN: (
        *("member", "membership", "policy", "subscriber", "group", "beneficiary", "insurance", "insured", "plan"),
        *("medicaid", "medicare", "nhs", "hicn", "mbi", "health card", "versicherten", "versichertennummer"),
        *("aetna", "cigna", "humana", "bcbs", "blue cross", "blue shield", "kaiser", "unitedhealthcare", "tricare"),
        *("bupa", "axa", "aok", "barmer", "dak", "ramq", "ohip", "payer", "payor", "insurer", "coverage", "scheme"),
        *("anthem", "wellpoint", "molina", "centene", "ambetter", "wellcare", "amerigroup", "health net", "healthnet"),
        *("highmark", "premera", "regence", "carefirst", "oscar", "geisinger", "caresource", "uhc", "umr", "champva"),
        *(
            "vhi",
            "laya",
            "medibank",
            "hcf",
            "nib",
            "aviva",
            "vitality",
            "allianz",
            "generali",
            "techniker",
            "ikk",
            "bkk",
        ),
        *("dkv", "debeka", "sanitas", "adeslas", "mapfre", "mutuelle", "mgen", "helsana", "swica", "vgz", "menzis"),
        *("manulife", "sun life", "subscriber id", "rxbin", "pcn", "grp", "krankenkasse", "versicherung"),
    ),
    PhiClass.LICENCE: (
        *("licence", "license", "lic", "dl", "dea", "npi", "gmc", "nmc", "registration", "reg", "certificate"),
        *("permit", "passport", "badge"),
    ),
    PhiClass.DEVICE: ("serial", "s/n", "sn", "ser", "udi", "device", "implant", "lot", "imei", "pacemaker"),
}
_SEPARATORS: Final = r"[\s:#=.\"'\u21e5\[]{1,24}"
_LABEL: Final = re.compile(
    r"(?<!\w)(?i:"
    + "|".join(rf"(?P<{one.name}>{'|'.join(map(re.escape, words))})" for one, words in _WORDS.items())
    + r")\.?(?i:\s{0,2}(?:number|num\.?|no\.?|nr\.?|id|code|#))?(?i:\s{0,2}(?:is|was|sent as|under|for both is)\b)?"
    + rf"{_SEPARATORS}(?P<prefix>[A-Z]{{1,5}} )?\Z"
)
_FIRST: Final = frozenset(re.split("[^a-z]", word)[0] for words in _WORDS.values() for word in words)
_LETTERS: Final = re.compile("[a-z]+")
_WORD: Final = re.compile("[A-Za-z]+")
_DIGITS: Final = re.compile(r"[0-9][0-9A-Za-z/-]*(?: [0-9A-Z]?[0-9]{2,}(?:-[0-9A-Z]+)?){0,3}")
_BEFORE: Final = re.compile(r"[0-9A-Za-z-]{1,12}\Z")
_YEAR: Final = re.compile("(?:19|20)[0-9]{2}")
_QUANTITY: Final = re.compile(UNITS)
_REACH: Final = 56
_SHORTEST, _LONGEST, _LEAST_DIGITS = 4, 24, 3


class Labelled(NamedTuple):
    """A number, ``text[start:end]``, and what its label says it is."""

    start: int
    end: int
    phi_class: PhiClass


def labelled_in(text: str) -> Iterator[Labelled]:
    """Yield the numbers of a text that have a label before them, in order."""
    for match in _DIGITS.finditer(text):
        start, end = match.span()
        goes_on = start > 0 and (text[start - 1].isalnum() or text[start - 1] == "-")
        if end - start < _SHORTEST and not goes_on:
            continue
        if goes_on:
            before = _BEFORE.search(text, max(0, start - 12), start)
            start = before.start() if before is not None else start
        code = text[start:end].rstrip("-")
        end = start + len(code)
        if not _SHORTEST <= len(code) <= _LONGEST or sum(map(str.isdecimal, code)) < _LEAST_DIGITS:
            continue
        if start == 0 or text[start - 1].isalnum() or text[start - 1] in "-_" or text[end : end + 1] == "_":
            continue
        if _YEAR.fullmatch(code) or not _QUANTITY.match(text, end):
            continue
        label = _label_before(text, start)
        if label is not None:
            is_prefixed = label["prefix"] is not None
            which = next(one for one in _WORDS if label[one.name] is not None)
            yield Labelled(label.start("prefix") if is_prefixed else start, end, which)


def _label_before(text: str, end: int) -> re.Match[str] | None:
    """Return the label that goes on until `end`. Tried where a label's first word stands, since words are rare."""
    begin = max(0, end - _REACH)
    if not _FIRST.isdisjoint(_LETTERS.findall(text[begin:end].lower())):
        for word in _WORD.finditer(text, begin, end):
            if word[0].lower() in _FIRST and (label := _LABEL.match(text, word.start(), end)) is not None:
                return label
    return None
