"""Numbers that mean nothing by themselves, and the word before them that says what they are.

The number is looked for first and the word behind it, since numbers are rarer than words: a text of a page costs one
look for each number of three digits.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final, NamedTuple

from appliance.phi.patterns import PhiClass

UNITS: Final = r"(?! {0,2}(?i:mg|mcg|ug|ng|g|kg|ml|l|units?|iu|u|ie|cc|cal|calories|kcal|mmol|mosm|meq|cm|mm|bpm|%)\b)"
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
        *(
            "mr",
            "mrno",
            "mrnumber",
            "ptid",
            "patientid",
            "unit #",
            "uhid",
            "ipd",
            "opd",
            "med rec",
            "m.r.n",
            "ipp",
            "nhc",
            "patientennummer",
        ),
        *("patienten", "fallnummer", "aktenzeichen", "dossiernummer", "patientnummer", "expediente", "paziente"),
        *("pacjenta", "paciente", "cartella clinica", "numer"),
        *("patid", "empi", "mpi", "ur", "hrn", "medrec", "accessionnumber", "cassette"),
        *("number", "nummer", "run", "order", "request", "folder", "file", "histology", "cytology", "donor", "subject"),
        *("participant", "enrolment", "enrollment", "screening", "docket", "queue", "crossmatch", "transaction"),
    ),
    PhiClass.ACCOUNT: (
        *("account", "acct", "a/c", "invoice", "billing", "bank", "iban", "receipt", "routing", "guarantor"),
        *("kontonummer", "konto", "rechnungsnummer", "rechnung", "cuenta", "compte", "conto", "rekeningnummer"),
    ),
    PhiClass.SSN: ("ssn", "ss#", "social security", "sozialversicherungsnummer"),
    PhiClass.PLAN: (
        *("kassennummer", "polisnummer", "poliza", "polizza", "auth", "authorization", "policyholder"),
        *("member", "membership", "policy", "subscriber", "group", "beneficiary", "insurance", "insured", "plan"),
        *("medicaid", "medicare", "nhs", "hicn", "mbi", "health card", "versicherten", "versichertennummer"),
        *("aetna", "cigna", "humana", "bcbs", "blue cross", "blue shield", "kaiser", "unitedhealthcare", "tricare"),
        *(
            "bupa",
            "axa",
            "aok",
            "barmer",
            "dak",
            "ramq",
            "ohip",
            "e-card",
            "ecard",
            "payer",
            "payor",
            "insurer",
            "coverage",
            "scheme",
        ),
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
    PhiClass.DEVICE: (
        *("serial", "s/n", "sn", "ser", "udi", "device", "implant", "lot", "imei", "pacemaker", "generator"),
        *("transmitter", "sensor", "sensors", "defibrillator", "asset", "wheelchair", "glucometer"),
    ),
}
# Also what stands there in Markdown, in tables, in XML and HTML, and in brackets or quotes.
_SEPARATORS: Final = (
    r"(?:[\s:#=.\"'\u21e5\[*`|>\\({\u201c\u201e\u2018\u00ab]|</?[A-Za-z0-9]{1,8}/?>"
    r"|(?<=\s)[\u2013\u2014-](?=\s)){1,32}"
)
# What stands before a figure that a body has, or a code that everybody has: no part of a number.
_MEASURED: Final = (
    r"(?!(?:BP|SBP|DBP|HR|RR|MAP|GCS|WBC|RBC|PLT|CK|AST|ALT|ALP|BNP|CRP|ESR|LDH|TSH|PSA|INR|CPT|ICD|LOINC|SNOMED|HCPCS"
    r"|DRG|NDC|TR|TE|ANC|EF|FEV|PEF|ICP|CVP|CT|MRI|HU|SUV) )"
)
_MEANS: Final = (
    r")\.?(?i:s?[\s_-]{0,2}(?:numbers?|num\.?|nos?\.?|nr\.?|n[\u00b0\u00ba]|\u2116|id|card|code|#)){0,2}"
    r"(?i:s?\s{0,2}(?:is|was|sent as|under|for both is)\b)?"
    rf"s?(?P<separator>{_SEPARATORS})(?P<prefix>{_MEASURED}[A-Z]{{1,5}} )?\Z"
)
_FIRST: Final = frozenset(re.split("[^a-z]", word)[0] for words in _WORDS.values() for word in words)
_LETTERS: Final = re.compile("[a-z]+")
_CAMEL: Final = re.compile("[a-z][A-Z]")
# The words of `patientId`, too.
_WORD: Final = re.compile("[A-Z]?[a-z]+|[A-Z]+")
_DIGITS: Final = re.compile(r"[0-9][0-9A-Za-z/-]*(?: [0-9A-Z]?[0-9]{2,}(?:-[0-9A-Z]+)?){0,6}")
_BEFORE: Final = re.compile(r"[0-9A-Za-z-]{1,22}\Z")
_BEHIND_SLASH: Final = re.compile(r"(?:[A-Za-z]{1,4}/){1,2}\Z")
# A dose that is written in one, a pressure, a range of three digits.
_A_DOSE: Final = re.compile(
    r"[0-9]+(?i:mg|mcg|ug|ng|g|kg|ml|l|u|iu|cc|cal|kcal|meq|mmol|units?)(?:/[A-Za-z]+)?|[0-9]{2,3}/[0-9]{2,3}"
)
_YEAR: Final = re.compile("(?:19|20)[0-9]{2}")
_QUANTITY: Final = re.compile(UNITS)
_AMONG: Final = frozenset({" and ", ", ", ",", "; ", " & ", " / ", "/", " or "})
"""What stands between two numbers of one label."""
_REACH: Final = 64
_SHORTEST, _LONGEST, _LEAST_DIGITS = 4, 40, 3


class Labelled(NamedTuple):
    """What has a label, ``text[start:end]``, and what that says it is."""

    start: int
    end: int
    phi_class: PhiClass


@cache
def _label(first: str) -> re.Pattern[str]:
    """Return the pattern of the labels that begin with a word; one for all would try each of them at each word."""
    words = {
        one.name: [word for word in words if re.split("[^a-z]", word)[0] == first] for one, words in _WORDS.items()
    }
    known = "|".join(
        rf"(?P<{name}>{'|'.join(map(re.escape, sorted(some, key=len, reverse=True)))})"
        for name, some in words.items()
        if some
    )
    return re.compile(rf"(?:(?<![A-Za-z0-9])|(?<=[a-z])(?=[A-Z]))(?i:{known}{_MEANS}")


def labelled_in(text: str) -> Iterator[Labelled]:
    """Yield the numbers of a text that have a label before them, in order."""
    last: Labelled | None = None
    for match in _DIGITS.finditer(text):
        start, end = match.span()
        goes_on = start > 0 and (text[start - 1].isalnum() or text[start - 1] in "-/")
        if end - start < _SHORTEST and not goes_on:
            continue
        if goes_on:
            before = (_BEHIND_SLASH if text[start - 1] == "/" else _BEFORE).search(text, max(0, start - 22), start)
            start = before.start() if before is not None else start
        code = text[start:end].rstrip("-")
        end = start + len(code)
        if not _SHORTEST <= len(code) <= _LONGEST or sum(map(str.isdecimal, code)) < _LEAST_DIGITS:
            continue
        if start == 0 or text[start - 1].isalnum() or text[start - 1] in "-_" or text[end : end + 1] == "_":
            continue
        if _YEAR.fullmatch(code) or _A_DOSE.fullmatch(code) or not _QUANTITY.match(text, end):
            continue
        if last is not None and text[last.end : start] in _AMONG and abs(end - start - last.end + last.start) <= 1:
            last = Labelled(start, end, last.phi_class)
            yield last
            continue
        label = _label_before(text, start)
        if label is not None and not ("(" in label["separator"] and text[end : end + 1] != ")"):
            is_prefixed = label["prefix"] is not None
            found = label.groupdict()
            which = next(one for one in _WORDS if found.get(one.name) is not None)
            last = Labelled(label.start("prefix") if is_prefixed else start, end, which)
            yield last


def _label_before(text: str, end: int) -> re.Match[str] | None:
    """Return the label that goes on until `end`. Tried where a label's first word stands, since words are rare."""
    begin = max(0, end - _REACH)
    # A look for words of small letters spares most numbers the slower one, which knows those of `patientId`.
    if not _FIRST.isdisjoint(_LETTERS.findall(text[begin:end].lower())) or _CAMEL.search(text, begin, end):
        for word in _WORD.finditer(text, begin, end):
            first = word[0].lower()
            if first in _FIRST and (label := _label(first).match(text, word.start(), end)) is not None:
                return label
    return None
