"""What a field holds: somebody, a part of an address, or words of forms, programs and places where nobody is told.

`may_be_a_name` is for what stands anywhere in a text. Where a field's own name says that it holds somebody, many more
words are names: people are called Park, Murphy, April and Will, and towns New York.
"""

import re
from typing import Final

from appliance.phi.everyday import EVERYDAY, words_of
from appliance.phi.surroundings import ENDS, NEVER, PERSON_VERBS, THINGS

NOBODY: Final = words_of(
    "given unknown none null nil na n/a string str text varchar int integer true false same above below required",
    "declined refused patient admin root self user username anonymous redacted withheld pending missing empty",
    "undefined value field object see chart left right test todo optional default varies id",
)
"""What says that a field was not filled in, or was by a program."""

_OF_FORMS: Final = words_of(
    "name names first last full family middle maiden enter type label placeholder date address phone number email sex",
    "gender age dob mrn ssn room diagnosis city zip postcode insurance allergies medication medications history notes",
    "admission discharge signature vorname nachname familienname patientenname nombre apellido apellidos cognome nome",
    "pr\u00e9nom prenom achternaam voornaam",
)
# Behind a given name, with a capital, these are family names.
_FAMILIES_TOO: Final = words_of("field root chart left right test self")
# In small letters alone: there are people called Row.
_OF_VARIABLES: Final = words_of("req request response row data props params get set form")
_OF_CODE: Final = (
    _OF_FORMS
    | _OF_VARIABLES
    | NOBODY
    | words_of(
        "this state input event obj ctx args faker fake item entity record config settings process env body payload",
        "doc query model session auth token",
    )
)
_TYPES: Final = words_of(
    "string str text char varchar int integer long float double number bool boolean date datetime object any optional",
    "none null nil undefined true false name type list array map symbol unknown patient",
)
_OF_SENTENCES: Final = words_of(
    "a and are as at be but by did does each for from had has have he her here his how i if in is it its just like",
    "made make me my not now of off on one only or our out she some such take than that the their them then there",
    "these they this those to today two until up us was we were what when where which while who why with without",
    "would yes yesterday you your all any both can could might must shall should after again also always ask because",
    "been before being during got let never next no per please since tell through tomorrow tonight unless used n/k",
)
_OF_ORGANISATIONS: Final = words_of(
    "hospital clinic centre center university college school department pharmacy laboratory laboratories institute",
    "foundation company inc ltd gmbh unit airport station office desk helpdesk reception team support service services",
    "api switchboard",
)
_NO_NAMES: Final = words_of(
    "wife husband daughter mother father sister brother spouse neighbour neighbor aunt uncle niece nephew grandson",
    "granddaughter grandmother grandfather aware notified informed contacted deceased estranged",
)
# Lower case alone says that these are no names.
_KIN: Final = _NO_NAMES | {one.title() for one in _NO_NAMES} | words_of("son child children parents friend partner")
_EVERYDAY: Final = NEVER | ENDS | EVERYDAY | PERSON_VERBS | words_of("nearby abroad away visiting involved available")
_NO_GIVEN: Final = NOBODY | _OF_FORMS | _EVERYDAY
_OF_ADDRESSES: Final = words_of(
    "street city town address line zip zipcode code postal postcode state country county name home",
    "number boolean 1 2 3",
)
_NO_ADDRESS: Final = NOBODY - words_of("left right test chart self root field")
_PART: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_A-Za-z]+")
_OF_PROGRAMS: Final = re.compile(
    r"[<>{}=]|[$%][\w{(]|\w[(\[]|\A[a-z][a-z0-9]*(?:-[a-z0-9]+)*-(?:api|app|bot|server|service|team|[0-9]{1,3})\Z"
    r"|\A[A-Z]:[A-Za-z_]"  # as comments of C# name what they are of
)
_PARTED: Final = re.compile("[,:|]")
_TITLES: Final = re.compile(
    r"(?:(?:dr\.? {1,3}med|dr|prof|mrs?|ms|mx|miss|herr|frau|mme)\b\.? {1,3})+(?=\w\S)", re.IGNORECASE
)
_OF_ENVIRONMENTS: Final = re.compile("[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
_OF_MEMORY: Final = re.compile("0x[0-9A-Fa-f]+")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][\w.]*")


def may_be_a_name(candidate: str) -> bool:
    """Tell whether what a field holds may be somebody: no word of it says that nobody is named, or is everybody's."""
    words = _without_family(candidate)
    if not words or any(word in NOBODY or word in NEVER or word in ENDS or word in THINGS for word in words):
        return False
    return not _is_of_a_program(candidate)


def is_no_heading(candidate: str) -> bool:
    """Tell whether what stands behind a bar may be a name, and not the heading of the next column."""
    return may_be_a_name(candidate) and is_a_name(candidate)


def is_no_type(candidate: str) -> bool:
    """Tell whether what follows `name:` is no type and no variable of a program: `name: String`, `name: DB_HOST`."""
    return not (_OF_ENVIRONMENTS.fullmatch(candidate) or all(word in _TYPES for word in _split(candidate)))


def is_a_name(candidate: str) -> bool:
    """Tell whether a field that holds a part of somebody's name, and nothing else, was filled in."""
    words = _without_family(candidate)
    if not words or any(word in NOBODY or word in _OF_FORMS or word in {"not", "no"} for word in words):
        return False
    return not (candidate in _OF_VARIABLES or _is_of_a_program(candidate))


def is_somebody(candidate: str) -> bool:
    """Tell whether a field that may hold somebody's whole name does: no firm, no sentence, no kin without a name."""
    words = _split(candidate)
    if any(word in _OF_ORGANISATIONS for word in words) or _is_kin(candidate.replace(",", " ").split()):
        return False
    if may_be_a_name(candidate):
        return True
    # `Quist, A` and `I Quist` have initials.
    rest = [word.lower() for word in candidate.replace(",", " ").split() if len(word) > 1 or word.islower()]
    return is_a_name(candidate) and not any(word in _OF_SENTENCES for word in rest)


def is_a_place(candidate: str) -> bool:
    """Tell whether a field that holds a part of an address was filled in, and not with what forms and programs say."""
    words = _split(candidate)
    if any(word in _NO_ADDRESS for word in words) or all(word in _OF_ADDRESSES for word in words):
        return False
    return not (_is_of_a_program(candidate) or _OF_MEMORY.fullmatch(candidate))


def trimmed(raw: str, start: int, around: str | None = None) -> tuple[int, str]:
    """Return where what stands within signs (spaces, by default) begins, and it, of a piece that begins at a place."""
    return start + len(raw) - len(raw.lstrip(around)), raw.strip(around)


def title_of(candidate: str) -> int:
    """Return how much of what a field holds is the title before a name, which others have, too: `Dr. `."""
    found = _TITLES.match(candidate)
    return 0 if found is None else found.end()


def _is_kin(words: list[str]) -> bool:
    """Tell whether words say what somebody is to the patient, and name nobody: `daughter lives nearby`."""
    return words[:1] != [] and words[0] in _KIN and all(word in _KIN or word in _EVERYDAY for word in words)


def _split(candidate: str) -> list[str]:
    return _PARTED.sub(" ", candidate.lower()).split()


def _without_family(candidate: str) -> list[str]:
    """Return the words of a candidate but for a last one that says nothing in front of which a given name stands."""
    words = _split(candidate)
    first, last = words[:1], words[1:][-1:]
    is_family = last != [] and last[0] in _FAMILIES_TOO and candidate.istitle() and not _NO_GIVEN.issuperset(first)
    return words[:-1] if is_family else words


def _is_of_a_program(candidate: str) -> bool:
    """Tell whether a candidate is what a program calls something: `first_name`, `toString`, `{{name}}`."""
    return _OF_PROGRAMS.search(candidate) is not None or any(map(_is_identifier, candidate.split()))


def _is_identifier(word: str) -> bool:
    parts = [part.lower() for part in _PART.findall(word)] if _IDENTIFIER.fullmatch(word) else []
    return len(parts) > 1 and any(part in _OF_CODE for part in parts)
