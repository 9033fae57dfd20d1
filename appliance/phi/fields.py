"""Identifiers in fields within fields: `"mrn": {"value": "0091827"}`, and the names and addresses of FHIR's resources.

What is read is a tree of fields, which `fieldsjson` and `fieldsyaml` make of a text. A field's own name says what it
holds where that is of people alone (`columns` knows the names), however many lists and words like `value` lie between.
What everybody has stays: codes, quantities, results, the ids of resources.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from appliance.phi.columns import OF_PEOPLE, of_patients
from appliance.phi.fieldsdicom import OF_TAGS
from appliance.phi.fieldvalues import is_a_name, is_a_place, is_somebody, may_be_a_name, title_of
from appliance.phi.labelled import Labelled
from appliance.phi.patterns import TOKEN_WORDS, PhiClass, digits_of


class Scalar(NamedTuple):
    """What one field holds, ``text[start:end]`` without its quotes."""

    start: int
    end: int
    text: str
    in_quotes: bool = False


@dataclass(slots=True)
class Fields:
    """Fields and what each holds, in order."""

    pairs: list[tuple[str, "Node"]] = field(default_factory=list)


Container = Fields | list["Node"]
Node = Scalar | Container
DEEPEST: Final = 64
"""How many containers may lie in one another: more than in anything real."""


class _Meaning(NamedTuple):
    """What a field is, which fields in it hold that, and what a value must look like to count."""

    phi_class: PhiClass
    keys: frozenset[str]
    counts: Callable[[str], bool]


_LONGEST: Final = 80
_MOST_SMALL: Final = 3
_MOST_WORDS: Final = 5
_WORD: Final = re.compile("[A-Za-z]{2,}")
AS_TOKEN: Final = rf"\[(?:{'|'.join(TOKEN_WORDS)})_[0-9]{{1,6}}\]"
"""What stands in place of an identifier that was masked before, or was typed like that: no list of one value."""

_AS_TOKEN: Final = re.compile(AS_TOKEN)
# What a program puts there.
_OF_CODE: Final = re.compile(r"[a-z_$][\w.]*")
_OF_PATTERNS: Final = re.compile(r"\\[dDwW]|\[[0-9A-Za-z]-[0-9A-Za-z]|\{[0-9]*:|\{\{|\$\{|\{[A-Za-z_]\w*\}")
_OF_STREETS: Final = re.compile(
    r"(?i:\b(?:street|st|road|rd|avenue|ave|lane|ln|drive|court|place|way|close|terrace|square|house|flat|apt)\b)"
    r"|, ?[A-Z]"
)


def _is_number(text: str, least: int) -> bool:
    """Tell whether a text holds so many digits and is no sentence, no template and no pattern."""
    if not 3 <= len(text) <= _LONGEST or len(digits_of(text)) < least or len(_WORD.findall(text)) > 2:
        return False
    return _OF_PATTERNS.search(text) is None


def _has_digits(least: int) -> Callable[[str], bool]:
    return lambda text: _is_number(text, least)


def _is_short(text: str) -> bool:
    return 2 <= len(text) <= _LONGEST and len(text.split()) <= _MOST_WORDS and any(map(str.isalpha, text))


def _is_name(text: str) -> bool:
    return _is_short(text) and "/" not in text and is_somebody(text)


def _is_part_of_a_name(text: str) -> bool:
    return _is_short(text) and is_a_name(text)


def _is_contact(text: str) -> bool:
    return "@" not in text and "://" not in text and _is_number(text, 5)


def _is_part_of_an_address(text: str) -> bool:
    return 2 <= len(text) <= _LONGEST and is_a_place(text)


def _is_whole_address(text: str) -> bool:
    if not (" " in text.strip() and any(map(str.isalpha, text)) and _is_part_of_an_address(text)):
        return False
    return may_be_a_name(text) or _OF_STREETS.search(text) is not None


def _is_called(text: str) -> bool:
    """Tell whether a value is a whole name as people write it, and no word of what somebody is or has."""
    words = text.replace(",", " ").split()
    capitals = [word for word in words if word[0].isupper()]
    return len(capitals) > 1 and len(words) - len(capitals) < _MOST_SMALL and _is_name(text)


def _is_street(text: str) -> bool:
    return _is_whole_address(text) and (bool(digits_of(text)) or _OF_STREETS.search(text) is not None)


_HOLD: Final = frozenset(
    ("value", "values", "val", "number", "num", "no", "text", "string", "raw", "value string", "content", "answer")
)
_NUMBERS: Final = _HOLD | {"id", "identifier", "extension", "last4", "last four", "display"}
_CALLED: Final = _NUMBERS | {"home", "work", "mobile", "cell", "primary", "secondary", "day", "evening", "other"}
_PARTS_OF_NAMES: Final = frozenset(
    (
        *("family", "given", "first", "last", "middle", "surname", "first name", "last name", "given name", "maiden"),
        *("family name", "middle name", "fname", "lname"),
    )
)
_PARTNERS: Final = {"first": "last", "last": "first", "middle": "last", "given": "family", "family": "given"}
_WHOLE_NAMES: Final = frozenset(
    (
        *("text", "value", "full", "full name", "display", "name", "legal", "preferred", "value string"),
        *("alphabetic", "ideographic", "phonetic"),  # of DICOM
    )
)
_PARTS_OF_ADDRESSES: Final = frozenset(
    (
        *("line", "lines", "line1", "line2", "city", "town", "village", "suburb", "district", "county", "street"),
        *("postal code", "postalcode", "postcode", "zip", "zip code", "zipcode", "street name", "street address"),
        *("street1", "street2", "address line", "address line1", "address line2", "street address line"),
    )
)
_NAME: Final = _Meaning(PhiClass.NAME, _PARTS_OF_NAMES | _WHOLE_NAMES, _is_name)
_PART_OF_A_NAME: Final = _Meaning(PhiClass.NAME, _HOLD, _is_part_of_a_name)
_PART: Final = _Meaning(PhiClass.ADDRESS, frozenset(), _is_part_of_an_address)
_PARTS: Final[Mapping[str, _Meaning]] = {
    **dict.fromkeys(_PARTS_OF_NAMES, _PART_OF_A_NAME),
    **dict.fromkeys(_PARTS_OF_ADDRESSES, _PART),
}
_ADDRESS: Final = _Meaning(
    PhiClass.ADDRESS, _PARTS_OF_ADDRESSES | {"text", "value", "full", "formatted", "value string"}, _is_whole_address
)
_OF_CLASS: Final[Mapping[PhiClass, _Meaning]] = {
    PhiClass.MRN: _Meaning(PhiClass.MRN, _NUMBERS, _has_digits(1)),
    PhiClass.SSN: _Meaning(PhiClass.SSN, _NUMBERS, _has_digits(4)),
    PhiClass.PLAN: _Meaning(PhiClass.PLAN, _NUMBERS, _has_digits(1)),
    PhiClass.DATE: _Meaning(PhiClass.DATE, _NUMBERS, _has_digits(1)),
    PhiClass.PHONE: _Meaning(PhiClass.PHONE, _CALLED, _is_contact),
    PhiClass.NAME: _NAME,
    PhiClass.ADDRESS: _ADDRESS,
}
_OF_PEOPLE: Final = {word: _OF_CLASS[one] for one, words in OF_PEOPLE.items() for word in words}
_FLAT: Final = {
    word: _Meaning(PhiClass.ADDRESS, frozenset(), _is_street) if one.phi_class is PhiClass.ADDRESS else one
    for word, one in _OF_PEOPLE.items()
    if word not in {"mobile", "medicare"}  # numbers of visitors, costs
}
_CALLED_SO: Final = _Meaning(PhiClass.NAME, frozenset(), _is_called)
_TREATED: Final = frozenset(("patient", "physician", "doctor", "practitioner", "attending", "surgeon", "guarantor"))
_LONG: Final = _has_digits(3)
_OF_THINGS: Final = {
    word: _Meaning(one, _NUMBERS, _LONG)
    for one, words in (
        (PhiClass.ACCOUNT, ("account number", "account no", "iban")),
        (PhiClass.DEVICE, ("serial number", "serial no", "device id", "device identifier", "imei", "udi")),
        (PhiClass.LICENCE, ("license number", "licence number", "npi", "passport number", "driver license")),
        (PhiClass.MRN, ("accession", "accession number", "encounter number", "case number", "specimen id")),
        (PhiClass.PLAN, ("member number", "policy id", "group number")),
    )
    for word in words
}
_OF_TAGS: Final = {tag: _OF_CLASS.get(one, _Meaning(one, _NUMBERS, _LONG)) for tag, one in OF_TAGS.items()}
_MEANINGS: Final = {
    **_OF_THINGS,
    **_OF_TAGS,
    **_OF_PEOPLE,
    "name": _NAME,
    "identifier": _OF_CLASS[PhiClass.MRN],
    "telecom": _OF_CLASS[PhiClass.PHONE],
    # As CDA has them.
    "addr": _ADDRESS,
    "birth time": _OF_CLASS[PhiClass.DATE],
}
_PEOPLE: Final = frozenset(
    (
        *("patient", "person", "practitioner", "physician", "doctor", "nurse", "surgeon", "guarantor", "subscriber"),
        *("member", "insured", "policyholder", "guardian", "spouse", "mother", "father", "caregiver", "relative"),
        *("related person", "contact", "next of kin", "emergency contact", "attending", "clinician", "caller"),
        *("employee", "donor", "consultant", "gp", "therapist", "pharmacist", "midwife", "witness"),
    )
)
# What programs put before and behind what a table, a record or a class is of.
_AROUND_PEOPLE: Final = frozenset(
    (
        *("record", "records", "info", "information", "data", "details", "detail", "demographics", "profile", "list"),
        *("dto", "entity", "model", "table", "tbl", "master", "row", "object", "registry", "new", "create", "add"),
        *("insert", "register", "admit", "update", "save", "make", "build", "the", "current", "test", "dim"),
        *("role", "assigned", "associated", "related"),
    )
)
# Beside these a name is somebody's, and beside the others something's that somebody has.
_SOMEBODYS: Final = frozenset(
    ("mrn", "medical record number", "lname", *OF_PEOPLE[PhiClass.SSN], *OF_PEOPLE[PhiClass.DATE], "sex", "gender")
)
_SOMETHINGS: Final = frozenset(
    (
        *("dose", "dosage", "unit", "units", "value", "result", "results", "code", "price", "quantity", "qty", "route"),
        *("frequency", "strength", "drug", "specimen", "loinc", "rxnorm", "cpt", "icd10", "ndc", "brand", "size"),
        *("price", "sku", "version", "url", "properties", "required"),
    )
)
_THINGS: Final = frozenset(
    (
        *("drug", "medication", "medicine", "test", "order", "product", "observation", "device", "department", "ward"),
        *("procedure", "item", "study", "lab", "prescription", "allergy", "vaccine", "diagnosis", "insurance"),
    )
)
"""What has a name of its own, though it may say whose it is."""

_OF_NOBODY: Final = {"contact": ("url",), "member": ("kind", "refid")}
"""Beside these it is a team, or a member of a class, as doxygen lists them."""

_LABELS: Final = (
    "key",
    "name",
    "label",
    "field",
    "type",
    "kind",
    "system",
    "title",
    "question",
    "property",
    "text",
    "keyword",
)
_REFERRED_TO: Final = frozenset(
    (
        "subject",
        "patient",
        "performer",
        "recorder",
        "author",
        "requester",
        "asserter",
        "individual",
        "general practitioner",
    )
)
_TO_PEOPLE: Final = re.compile(r"(?:\A|/)(?:Patient|Practitioner|RelatedPerson|Person)/")
_CAMEL: Final = re.compile("(?<=[a-z])(?=[A-Z])")

KEYS: Final = frozenset(_MEANINGS.keys() - _OF_TAGS.keys()) | _PEOPLE
"""The names of fields below which something is looked for."""


def plain_key(key: str) -> str:
    """Return a field's name in words, as that of a known one: `patientId` is `patient id`, `PATIENT_MRNS` is `mrn`."""
    words = _CAMEL.sub(" ", key.strip(" @#$_\"'")).lower().replace("_", " ").replace("-", " ")
    for one in _singulars(words):
        if one in KEYS:
            return one
    if meant := of_patients(words):
        whole, of_it = meant
        for one in (whole, *_singulars(of_it)):
            if one in _OF_PEOPLE:
                return one
    if " " not in words:
        return words
    rest = [word for word in words.split() if word not in _AROUND_PEOPLE]
    somebody = next((one for one in _singulars(rest[0]) if one in _PEOPLE), None) if len(rest) == 1 else None
    return words if somebody is None else somebody


def _singulars(words: str) -> tuple[str, str, str]:
    return words, words.removesuffix("s"), words.removesuffix("es")


def identifiers_of(node: Node, meaning: _Meaning | None = None, under: str = "") -> Iterator[Labelled]:
    """Yield what identifies somebody in a tree of fields.

    Args:
        node: The tree.
        meaning: What the field says that holds it; None where that says nothing.
        under: That field's name, in words.
    """
    if isinstance(node, Scalar):
        if meaning is not None and meaning.counts(node.text) and not _AS_TOKEN.fullmatch(node.text):
            is_as_written = meaning.phi_class is PhiClass.NAME and node.end - node.start == len(node.text)
            title = title_of(node.text) if is_as_written else 0
            yield Labelled(node.start + title, node.end, meaning.phi_class)
    elif isinstance(node, list):
        if meaning is _ADDRESS and any(isinstance(one, Scalar) and _is_street(one.text) for one in node):
            meaning = _PART  # its other lines are of it, too
        for one in node:
            if isinstance(one, Scalar) and under == "name":
                continue  # a list of names may be one of drugs
            yield from identifiers_of(one, meaning, under)
    else:
        yield from _of_fields([(plain_key(key), child) for key, child in node.pairs], meaning, under)


def _of_fields(pairs: list[tuple[str, Node]], meaning: _Meaning | None, under: str) -> Iterator[Labelled]:
    known = dict(pairs)
    is_person = _is_of_a_person(known, under)
    if under == "name" and meaning is _NAME and known.keys().isdisjoint(_PARTS_OF_NAMES):
        meaning = None  # a drug, a firm and a test have names, too
    told = _told(known)
    inner: _Meaning | None
    for key, child in pairs:
        # A table that was printed by its columns numbers what each holds.
        if meaning is not None and (key in meaning.keys or key.isdecimal()):
            inner = _PARTS.get(key, meaning)
        elif told is not None and key in _HOLD:
            inner = told
        elif is_person and _is_number_of_a_person(key, child):
            inner = _OF_CLASS[PhiClass.MRN]
        elif (is_person and _is_name_of_a_person(key, known, under)) or (
            key == "display" and _is_to_a_person(known, under)
        ):
            inner = _NAME
        else:
            inner = _flat(key, child) if isinstance(child, Scalar) else _MEANINGS.get(key)
        # The name of a person counts as a whole, too, so what holds it is told apart from a name of something, and the
        # contact of an interface's description from a patient's.
        is_told = key == "name" and (is_person or meaning is not None)
        is_of_a_program = key == "contact" and not known.keys().isdisjoint(("version", "license", "openapi"))
        yield from identifiers_of(child, inner, "" if is_told or is_of_a_program else key)


def _is_of_a_person(known: Mapping[str, Node], under: str) -> bool:
    """Tell whether these fields are somebody's, by what holds them, by their type, or by what stands among them."""
    if under in _PEOPLE and known.keys().isdisjoint(_OF_NOBODY.get(under, ())):
        return True
    if (kind := _text_of(known.get("resource type"))) and plain_key(kind) in _PEOPLE:
        return True
    if known.keys().isdisjoint(_SOMEBODYS) or not known.keys().isdisjoint(_SOMETHINGS):
        return False
    return _THINGS.isdisjoint(_singulars(under))


def _is_name_of_a_person(key: str, known: Mapping[str, Node], under: str) -> bool:
    """Tell whether a person's field is a name: of a note what was given and what a family has stand among them, too."""
    if key not in _PARTNERS or under in _PEOPLE:
        return key == "name" or key in _PARTS_OF_NAMES
    return _PARTNERS[key] in known or not known.keys().isdisjoint(_PARTS_OF_NAMES - _PARTNERS.keys())


def _is_number_of_a_person(key: str, child: Node) -> bool:
    """Tell whether a person's field is a number that people know them by: CDA's `id` with an extension is one, too."""
    if key == "id":
        return isinstance(child, Fields) and any(name == "extension" for name, _ in child.pairs)
    return key == "identifier" and isinstance(child, Scalar)


def _flat(key: str, child: Scalar) -> _Meaning | None:
    """Return what a field says of the value right in it: only a name that is of people alone counts there."""
    if not child.in_quotes and _OF_CODE.fullmatch(child.text):
        return None
    return _CALLED_SO if key in _TREATED else _FLAT.get(key)


def _told(known: Mapping[str, Node]) -> _Meaning | None:
    """Return what `"key": "MRN"` says of the value beside it."""
    for key in _LABELS:
        meaning = _OF_PEOPLE.get(plain_key(_text_of(known.get(key))))
        if meaning is not None:
            return meaning
    return None


def _is_to_a_person(known: Mapping[str, Node], under: str) -> bool:
    """Tell whether these fields refer to somebody: to a resource of a person, or as the subject."""
    target = _text_of(known.get("reference"))
    if not target:
        return under in _REFERRED_TO and known.keys().isdisjoint(("system", "code"))
    return _TO_PEOPLE.search(target) is not None or under in _PEOPLE or under == "subject"


def _text_of(node: Node | None) -> str:
    return node.text if isinstance(node, Scalar) and len(node.text) <= 200 else ""
