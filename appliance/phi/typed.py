"""Names as programs have them in a field, and as people type them in haste. No part of what an EXPORT is searched for.

A field's whole value is taken, so that it need not begin with a capital; what says that nothing was filled in is none.
"""

import re
from typing import Final

from appliance.phi.everyday import EVERYDAY
from appliance.phi.fieldvalues import NOBODY, is_a_name, is_no_heading, is_somebody, may_be_a_name
from appliance.phi.namelists import FAMILY, GIVEN, listed
from appliance.phi.patterns import CAPITALISED, Both, PhiClass, any_case, any_of, outline, rule
from appliance.phi.surroundings import KIN, NEVER

_FIELDS: Final = any_case(
    *("patient[ _-]?names?", "first[ _-]?names?", "last[ _-]?names?", "family[ _-]?names?", "given[ _-]?names?"),
    *("full[ _-]?names?", "middle[ _-]?names?", "maiden[ _-]?names?", "member[ _-]?names?", "mother[ _-]?names?"),
    *("father[ _-]?names?", "subscriber[ _-]?names?", "guarantor[ _-]?names?", "surname", "forename", "nachname"),
    *("vorname", "familienname", "apellidos?", "cognome", "nombre", "achternaam", "voornaam"),
)
_NEED: Final = any_of(
    *("name", "names", "patientname", "firstname", "lastname", "familyname", "givenname", "fullname", "middlename"),
    *("maidenname", "surname", "forename", "membername", "subscribername", "guarantorname", "mothername", "fathername"),
    *("nachname", "vorname", "familienname", "apellido", "apellidos", "cognome", "nombre", "achternaam", "voornaam"),
)
_KIN: Final = (
    r" (?:wife|husband|partner|son|daughter|child|mother|mom|mum|father|dad|brother|sister|aunt|uncle|cousin|niece"
    r"|nephew|grandmother|grandfather|grandma|grandpa|grandson|granddaughter|friend|neighbou?r|boyfriend|girlfriend|baby)\b"
)
_SMALL: Final = any_case(rf"my{_KIN}", rf"our{_KIN}", r"im\b", r"its\b")
_MARKS: Final = "[\"'*_`\u201c]{0,3}"
_ENDS: Final = "(?=\\s{0,3}(?:[\\n,;|\"'<*`&^\\])}\u201d]|\\.(?![a-z_])|\\Z))"


def is_listed(candidate: str) -> bool:
    """Tell whether words in small letters are a given name of the lists, a family's behind one that is a word, too."""
    given, *rest = candidate.lower().split()
    alone = listed(GIVEN).get(given)
    if alone is None or given in NEVER or given in EVERYDAY:
        return False
    return (alone or bool(rest)) and all(word in listed(FAMILY) for word in rest)


_LONGEST_LETTERS: Final = 6
_ILLNESS: Final = (
    *(
        "itis",
        "osis",
        "emia",
        "oma",
        "opathy",
        "ology",
        "ectomy",
        "plasty",
        "monia",
        "thmia",
        "plegia",
        "uria",
        "sepsis",
    ),
    *("ension", "pnea", "pnoea", "algia", "ritis", "phagia", "sthma"),
)
_OF_BEDS: Final = frozenset(
    (
        *(
            "stable",
            "unstable",
            "vacant",
            "empty",
            "closed",
            "isolation",
            "quarantine",
            "cleaned",
            "occupied",
            "reserved",
        ),
        *("available", "blocked", "side", "window", "corner", "fall", "falls", "fracture", "stroke", "telemetry"),
    )
)


def may_be_a_handle(candidate: str) -> bool:
    """Tell whether a login may be somebody's: no word of a program or of every sentence, and more than digits."""
    plain = candidate.lower()
    is_a_word = plain in NOBODY or plain in NEVER or plain in EVERYDAY or plain.startswith(("self.", "request."))
    return not is_a_word and not plain.isdecimal()


def is_with_initial(candidate: str) -> bool:
    """Tell whether a word before a comma and a single letter may be a family's name: no common word, no disease."""
    family = candidate.partition(",")[0].lower()
    is_a_word = family in EVERYDAY or family in NEVER or family in KIN or family in _OF_BEDS
    return not (is_a_word or family.endswith(_ILLNESS))


def may_lie_there(candidate: str) -> bool:
    """Tell whether what stands behind the number of a bed may be who lies in it."""
    written = candidate.replace(",", " ").split()
    if any(word.isupper() and len(word) <= _LONGEST_LETTERS for word in written):
        return False
    words = [word.lower() for word in written]
    is_something = any(word in EVERYDAY or word in KIN or word in _OF_BEDS or word.endswith(_ILLNESS) for word in words)
    return may_be_a_name(candidate) and not is_something


TYPED_NAMES: Final = (
    *(
        rule(
            PhiClass.NAME,
            rf"{_FIELDS}\b{_MARKS}\s{{0,2}}{by}\s{{0,3}}{_MARKS}"
            r"(?P<id>[^\W\d_][\w'\u2019-]{1,30}(?:(?:,? {1,2}|\^)[^\W\d_][\w'\u2019.-]{0,30}){0,3}"
            # Of a quote that ends it the name holds nothing.
            r"(?<!['\u2019]))" + _ENDS,
            needs=_NEED,
            check=check,
            in_words=True,
        )
        # Behind a bar may stand the heading of the next column.
        for by, check in ((r"(?:[:=>]|=>)", is_somebody), (r"\|", is_no_heading))
    ),
    # FHIR's, as JSON and as XML.
    rule(
        PhiClass.NAME,
        r"\"family\"\s{0,4}:\s{0,4}\"(?P<id>[^\"\n]{2,60})\"",
        needs=Both(any_of("family"), ('"family"',)),
        check=is_a_name,
        in_words=True,
    ),
    *(
        rule(
            PhiClass.NAME,
            r"\"given\"\s{0,4}:\s{0,4}\[\s{0,40}"
            + r"\"[^\"\n]{1,60}\"\s{0,4},\s{0,40}" * before
            + r"\"(?P<id>[^\"\n]{2,60})\"",
            needs=Both(any_of("given"), ('"given"',)),
            check=is_a_name,
            in_words=True,
        )
        for before in range(3)
    ),
    rule(
        PhiClass.NAME,
        r"<(?:family|given)(?: value=\"|[^>\n]{0,40}>)(?P<id>[^\"<\n]{2,60})",
        needs=Both(any_of("family", "given"), ("<family", "<given")),
        check=is_a_name,
        in_words=True,
    ),
    rule(
        PhiClass.NAME,
        r"<name>(?:(?!</name>)[\s\S]){0,400}?<text value=\"(?P<id>[^\"\n]{2,80})\"",
        needs=Both(any_of("name"), ("<name>",)),
        check=is_somebody,
        in_words=True,
    ),
    rule(
        PhiClass.NAME,
        r"<reference value=\"(?:[^\"\n]{0,200}/)?(?:Patient|Practitioner|RelatedPerson|Person)/[^\"\n]{1,80}\" ?/>"
        r"\s{0,80}<display value=\"(?P<id>[^\"\n]{2,80})\"",
        needs=Both(any_of("reference"), ("<reference",)),
        check=is_somebody,
        in_words=True,
    ),
    rule(
        PhiClass.NAME,
        rf"(?i:\b(?:user[ _-]?name|login)){_MARKS}\s{{0,2}}[:=]\s{{0,3}}{_MARKS}(?P<id>[\w.-]{{3,32}})(?![\w(])",
        needs=any_of("username", "user", "login"),
        check=may_be_a_handle,
        in_words=True,
    ),
    rule(
        PhiClass.NAME,
        rf"(?i:\b(?:goes by|nicknamed))(?: the name)?:? [\"'\u201c]?(?P<id>{CAPITALISED})",
        needs=any_of("goes", "nicknamed"),
        check=may_be_a_name,
        in_words=True,
    ),
    # As people type a message, without capitals: `its marisol, my dad eusebio ruiz needs …`.
    *(
        rule(
            PhiClass.NAME,
            _SMALL + rf",? {{1,2}}(?P<id>[a-z][a-z'\u2019-]{{2,20}}{family})(?![\w-])",
            needs=any_of("my", "our", "im", "its"),
            check=is_listed,
            in_words=True,
        )
        for family in ("", " [a-z][a-z'\u2019-]{2,20}")
    ),
    # A family's name and an initial, in a field or behind who somebody is to the patient.
    rule(
        PhiClass.NAME,
        r"[A-Z](?:(?<=[A-Za-z]: .)|(?<=PCP .)|(?<=GP .))[\w'\u2019-]{1,30}, "
        r"[A-Z](?:\.| [A-Z]\.?|\.[A-Z]\.?)?(?![\w'\u2019-])",
        needs=Both(outline(", A"), re.compile(r", [A-Z](?![\w'\u2019-])")),
        check=is_with_initial,
        in_words=True,
    ),
    # Who lies there, as a list of a ward says.
    rule(
        PhiClass.NAME,
        any_case("bed", "bay", "cubicle", "cot", "rm", "room") + r" ?\d{1,3}[A-Da-d]?(?:[:,]| [-\u2013])? {1,2}"
        rf"(?P<id>{CAPITALISED}(?:,? (?!B[ae][dy]\b|C[ou]|R(?:oo)?m\b){CAPITALISED})?)",
        needs=any_of("bed", "bay", "cubicle", "cot", "rm", "room"),
        check=may_lie_there,
    ),
    rule(
        PhiClass.NAME,
        rf"(?i:\bbaby (?:boy|girl)) (?P<id>{CAPITALISED})",
        needs=Both(any_of("baby"), any_of("boy", "girl")),
        check=may_be_a_name,
        in_words=True,
    ),
)
"""Tried with the others of `safeharbor`."""
