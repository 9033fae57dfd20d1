"""Postal addresses as they are written in several countries, and the codes that stand for them."""

import re
from typing import Final

from appliance.phi.patterns import Both, PhiClass, any_case, any_of, outline, rule

NAMED: Final = r"[A-Z\u00c0-\u00de][\w'\u2019.-]{0,24}"
_STREET: Final = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Way|Terrace|Ter|Circle|Cir"
    r"|Close|Crescent|Cres|Square|Sq|Parkway|Pkwy|Highway|Hwy|Trail|Trl|Row|Gardens|Gdns|Mews|Walk|Quay|Alley|Loop"
    r"|Grove|Hill|Rise|Broadway|Plaza|Croft|Heights|Parade|Villas|Wharf|Wynd|Cove|Estate|Ridge|Turnpike|Chase|Meadows?"
    r"|Bend|Manor|Knoll|Crossing|Pike|Trace|Promenade|Expressway|Pde|Cct|Circuit|Esplanade|STREET|AVENUE|AVE|ROAD|RD|BLVD|LANE|DRIVE|COURT|PLACE|WAY|TERRACE|CIRCLE)"
)
_STREET_WORDS: Final = any_of(*re.findall("[a-z]+", _STREET.lower()))
_FLATS: Final = (
    *("apt", "apartment", "unit", "suite", "ste", "flat", "floor", "fl", "room", "rm", "bldg", "building", "block"),
    *("app", "apto", "piso"),
)
_FLAT_NUMBER: Final = r"\.?\s?#?(?:[A-Za-z]{0,2}[/-]?\d[\w/-]{0,5}|[A-Z]{1,2}|[a-z])\b"
_FLAT_WORD: Final = rf"(?:(?i:{'|'.join(_FLATS)})(?=[\s.#\d]))"
_FLAT: Final = rf"(?:(?:{_FLAT_WORD}|#){_FLAT_NUMBER})"
_BEFORE_STREET: Final = r"(?=,? \d{1,5} [A-Z])"
_STATE: Final = (
    r"(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[AT]"
    r"|W[AIVY])"
)
_ZIP: Final = r"\d{5}(?:-\d{4})?(?!\d)"
# British, Irish (Eircode) and Canadian ones.
_POSTCODE: Final = (
    r"(?:[A-Z]{1,2}\d[A-Z\d]? ?\d[ABD-HJLNP-UW-Z]{2}|[AC-FHKNPRTV-Y]\d[\dW] ?[AC-FHKNPRTV-Y][AC-FHKNPRTV-Y\d]{3}"
    r"|[ABCEGHJ-NPRSTVXY]\d[A-Z] ?\d[A-Z]\d)\b"
)
# The same without the first letter, which is looked for by itself.
_POSTCODE_REST: Final = (
    r"(?:[A-Z]?\d[A-Z\d]? ?\d[ABD-HJLNP-UW-Z]{2}|(?<=[AC-FHKNPRTV-Y])\d[\dW] ?[AC-FHKNPRTV-Y][AC-FHKNPRTV-Y\d]{3}"
    r"|(?<=[ABCEGHJ-NPRSTVXY])\d[A-Z] ?\d[A-Z]\d)\b"
)
# What any of these begins with or ends with, as an outline.
_CODES: Final = outline(
    *("9AA", "9A9", "A99 A", "A9A A", "A99A"),
)
_STATE_AND_ZIP: Final = outline("AA 99999", "AA, 99999", "AA  99999", "AA,  99999", "AA^99999")
_AUSTRALIAN: Final = r"(?:NSW|VIC|QLD|WA|SA|TAS|NT|ACT) \d{4}\b"
_END: Final = rf"(?:{_STATE},? {{1,2}}{_ZIP}|{_ZIP}|\d{{6}}\b|{_POSTCODE}|{_AUSTRALIAN})"
_TOWN: Final = rf"(?:,? {{1,2}}{NAMED}(?: {NAMED}){{0,2}}(?:, {NAMED}){{0,2}})"
_REST: Final = rf"(?:,? {_FLAT})?(?:{_TOWN}?,? {{1,2}}{_END})?"

# Of a town, a street or a house: without a point at its end, which ends a sentence.
_PART: Final = r"[A-Z\u00c0-\u00de][\w'\u2019-]{1,24}"
# With a number and without its kind, which a flat behind it tells.
_STREET_ALONE: Final = rf"[0-9](?<![\w.,/$-].)\d{{0,4}} (?:[NSEW]{{1,2}}\.? )?{_PART}(?: {_PART})?,? "
TOWN_ALONE: Final = r"[A-Z](?<!\w.)[a-z\u00df-\u00ff'\u2019-]{2,24}(?: [A-Z][a-z\u00df-\u00ff'\u2019-]{2,24}){0,2}"
# Those that are letters of a trade, a title or a label as well count with their code alone.
_SURE_STATE: Final = rf"(?!(?:MD|PA|MA|MS|ID|IN|OR|DE|LA|PR)\b){_STATE}"
STATES: Final = (
    *("alabama", "alaska", "arizona", "arkansas", "california", "carolina", "colorado", "connecticut", "dakota"),
    *("delaware", "florida", "georgia", "hampshire", "hawaii", "idaho", "illinois", "indiana", "iowa", "jersey"),
    *("kansas", "kentucky", "louisiana", "maine", "maryland", "massachusetts", "mexico", "michigan", "minnesota"),
    *("mississippi", "missouri", "montana", "nebraska", "nevada", "ohio", "oklahoma", "oregon", "pennsylvania"),
    *("rhode", "tennessee", "texas", "utah", "vermont", "virginia", "washington", "wisconsin", "wyoming", "york"),
    *("ontario", "quebec", "alberta", "manitoba", "saskatchewan", "columbia", "scotia", "brunswick"),
)
_STATE_NAME: Final = (
    r"(?:(?:North |South |New |West |Rhode |British |Nova )?(?:"
    + "|".join(one.title() for one in STATES)
    + r"|Island)\b)"
)
_NO_STREET: Final = r"(?! (?i:hospital|clinic|surgery|medical|practice|health|ward|pharmacy|dental|general|care)\b)"
_WITHOUT_NUMBER: Final = ("street", "avenue", "road", "lane", "boulevard", "crescent", "terrace")
_REGIONS: Final = ("county", "parish", "township", "borough")

_BEFORE_ADDRESS: Final = (
    *("address", "addr", "lives", "lived", "living", "resides", "residing", "resident", "stays", "staying", "home"),
    "moved",
)
_IN_WORDS: Final = (
    # A town with its state, with or without a code.
    (
        rf"{TOWN_ALONE}(?:, {_SURE_STATE}\b(?:,? {{1,2}}{_ZIP})?|,? {_STATE} {{1,2}}{_ZIP})",
        Both(outline(", AA", "AA 9", "AA  9"), re.compile(rf" {_STATE}\b")),
    ),
    (rf"{TOWN_ALONE}, {_STATE_NAME}(?:,? {{1,2}}{_ZIP})?", any_of(*STATES, "island")),
    (
        (
            rf"[A-Z](?<!\w.)[\w'\u2019-]{{1,24}}(?: {_PART}){{0,2}}"
            rf" (?:{'|'.join(one.title() for one in _WITHOUT_NUMBER)})\b{_NO_STREET}"
        ),
        any_of(*_WITHOUT_NUMBER),
    ),
    (
        (
            rf"[A-Z](?<!\w.)[\w'\u2019-]{{1,24}}(?: {_PART})?"
            rf" (?:{'|'.join(one.title() for one in _REGIONS)})\b{_NO_STREET}"
        ),
        any_of(*_REGIONS),
    ),
)
"""Where somebody lives, said without a number."""

_PLACES: Final = (
    (
        (
            r"[0-9](?<!\w.)(?<![.,/-].)\d{0,4}[A-Za-z]?,? (?:[NSEW]{1,2}\.? )?"
            rf"(?:{NAMED} ){{1,3}}{_STREET}\b\.?{_REST}"
        ),
        Both(_STREET_WORDS, re.compile("[0-9][A-Za-z]?,? [A-Z]")),
    ),
    (
        rf"[0-9](?<!\w.)\d{{0,4}} {{1,2}}(?:[NSEW]{{1,2}}\.? )?\d{{1,3}}(?:st|nd|rd|th) {_STREET}\b\.?{_REST}",
        any_of("st", "nd", "rd", "th"),
    ),
    (
        (
            rf"\b[A-Z\u00c0-\u00de]\w{{1,24}}(?:stra\u00dfe|strasse|str\.|weg|gasse|platz|allee|damm|ufer|ring"
            r"|gatan|v\u00e4gen|straat|laan|gracht|kade|plein|singel|steenweg|vej|gade|veien|gata|katu|utca)"
            rf" {{1,2}}\d{{1,4}}[a-z]?\b(?:/\d{{1,3}})?(?:,? (?:[A-Z]{{1,2}}-)?\d{{4,5}}(?: [A-Z]{{2}})? {NAMED})?"
        ),
        # At a space with a number behind it: a space is looked for faster than the ends of words.
        re.compile(
            r" (?= ?[0-9])(?<=a\u00dfe |sse |tr\. |weg |atz |lee |amm |fer |ing |tan |gen |aat |aan |cht |ade |ein "
            r"|gel |vej |ien |ata |atu |tca )"
        ),
    ),
    (
        (
            r"[0-9](?<!\w.)\d{0,3}(?: ?bis)?,? (?:rue|avenue|boulevard|chemin|all\u00e9e|place|quai)"
            rf"(?: (?:de la|de l'|du|des|de|d'|la|le|les))? ?{NAMED}(?: {NAMED})?(?:,? \d{{5}} {NAMED})?"
        ),
        any_of("rue", "avenue", "boulevard", "chemin", "all", "place", "quai"),
    ),
    (
        (
            r"\b(?:Calle|C/|Avenida|Avda\.?|Av\.|Paseo|Plaza|Via|Viale|Piazza|Corso|Rua|ul\.|ulica|Ulica|al\.)"
            rf" (?:(?:de|del|della|la|las|los|dos|da|do) ){{0,2}}{NAMED}(?: {NAMED}){{0,2}}"
            r",? {0,2}\d{1,4}[a-z]?\b"
            rf"(?:,? {{1,2}}\d{{1,2}}\.?\u00ba ?[A-Z]?\b)?(?:,? \d{{2}}-?\d{{3}} {NAMED}(?: {NAMED})?)?"
        ),
        any_of(
            *("calle", "c", "avenida", "avda", "av", "paseo", "plaza", "via", "viale", "piazza", "corso", "rua", "ul"),
            *("ulica", "al"),
        ),
    ),
    (
        # With the number behind the name of the street.
        (
            r"\b(?:[Rr]ue|[Aa]venue|[Bb]oulevard|[Cc]hauss\u00e9e|[Pp]lace|[Cc]hemin)"
            rf"(?: (?:de la|de l['\u2019]|du|des|de|d['\u2019]|la|le|les))? ?{NAMED}(?: {NAMED}){{0,2}},? \d{{1,4}}\b"
            rf"(?:,? \d{{4,5}} {NAMED})?"
        ),
        any_of("rue", "avenue", "boulevard", "chauss", "place", "chemin"),
    ),
    (
        # Indian: a road without a number, a town and its code.
        (
            rf"(?:\b{_FLAT},? )?(?:{NAMED},? ){{1,5}}(?:Road|Street|Marg|Nagar|Colony|Layout|Lane),?"
            rf" {_TOWN}[ -]{{1,3}}\d{{6}}\b"
        ),
        Both(
            any_of("road", "street", "marg", "nagar", "colony", "layout", "lane"),
            re.compile("(?:Road|Street|Marg|Nagar|Colony|Layout|Lane),? [^\n]{1,200}?[0-9]{6}"),
        ),
    ),
    (rf"\b(?i:p\.? ?o\.? box) \d{{1,6}}\b{_REST}", any_of("box")),
    (rf"[A-Z](?<!\w.)(?:{_POSTCODE_REST})", _CODES),
    (
        # Houses, streets and towns that end with a post code.
        (
            rf"[A-Z0-9](?<![\w.].)(?:(?<=[0-9])\d{{0,3}}[A-Za-z]?(?:/\d{{1,4}})?|(?<=[A-Z])[\w'\u2019-]{{1,24}}),? "
            rf"(?:(?:{_PART}|\d{{1,4}}[A-Za-z]?),? ){{0,8}}{_POSTCODE}"
        ),
        Both(_CODES, re.compile(rf" {_POSTCODE}")),
    ),
    (
        # On the continent the number stands behind the street, and the code before the town.
        rf"[A-Z](?<!\w.)[\w'\u2019-]{{1,24}}(?: (?:{_PART}|an?|am|de[rmns]?|la|las|los|du|des|del|van|ten)){{0,4}}"
        r" \d{1,4}[a-z]?(?:[/-]\d{1,4})?,? (?:[A-Z]{1,2}-)?(?:\d{5}|\d{2}-\d{3}|\d{3} \d{2}|\d{4}(?: [A-Z]{2})?) "
        + _PART,
        outline("9999 A", "99-999 A", "999 99 A"),
    ),
    (
        (
            r"\b(?:(?:Rural Route|County R(?:oa)?d\.?|State R(?:oa)?d\.?|Highway|Hwy\.?|Interstate) \d{1,4}"
            r"(?:,? Box \d{1,5})?"
            r"|(?:RR|HC|Route|Rte\.?) ?\d{1,4},? Box \d{1,5})\b"
        ),
        any_of("rural", "county", "state", "highway", "hwy", "interstate", "box"),
    ),
    (
        r"\b(?:PSC|CMR|Unit) \d{1,5},? Box \d{1,5},? (?:APO|FPO|DPO),? A[AEP] \d{5}(?:-\d{4})?\b",
        any_of("apo", "fpo", "dpo"),
    ),
    (
        # Degrees north and east.
        r"[0-9-](?<![\w.-].)\d{0,2}\.\d{4,9}\u00b0? ?[NS]?,? ?(?i:long?(?:itude)?)?[.:]? ?-?\d{1,3}\.\d{4,9}(?![\w.])",
        outline("9.9999"),
    ),
    (r"[0-9](?<![\w.-].)\d{4}-\d{4}(?![\w-])", outline("99999-9999")),
    (
        (
            any_case(
                *(
                    "address(?: is)?",
                    r"addr\.?",
                    "live[sd] at",
                    "living at",
                    "resid(?:es|ing|ent) at",
                    "stay(?:s|ing) at",
                ),
                *("home at", "moved to"),
            )
            + rf":? {{1,2}}(?P<id>(?:{_FLAT},? )?\d{{1,5}}[A-Za-z]?(?:/\d{{1,4}})?,? {_PART}"
            rf"(?:,? (?:{_PART}|\d{{1,6}}\b|of|the|de|la|du)){{0,8}})"
        ),
        any_of(*_BEFORE_ADDRESS),
    ),
    (
        any_case(*_FLATS) + rf"(?=[\s.#\d]){_FLAT_NUMBER}{_BEFORE_STREET}",
        any_of(*_FLATS),
    ),
    (rf"\b#{_FLAT_NUMBER}{_BEFORE_STREET}", ("#",)),
    (
        (_STREET_ALONE + r"(?i:apt|apartment|unit|suite|ste)\b\.? ?#?(?=[A-Z]?\d|[A-Z]\b)[A-Z]?\d{0,5}[A-Z]?\b"),
        Both(any_of("apt", "apartment", "unit", "suite", "ste"), outline("9 A")),
    ),
    (
        _STREET_ALONE + r"#[A-Z]?\d{1,5}[A-Z]?\b",
        Both(("#",), outline("9 A")),
    ),
    (
        rf"\b\d{{1,4}} (?:Calle|Avenida|Via|Rua|Paseo|Camino) {NAMED}(?: {NAMED})?",
        any_of("calle", "avenida", "via", "rua", "paseo", "camino"),
    ),
)

ADDRESSES: Final = (
    *(rule(PhiClass.ADDRESS, place, needs=needs) for place, needs in _PLACES),
    *(rule(PhiClass.ADDRESS, place, needs=needs, in_words=True) for place, needs in _IN_WORDS),
    rule(
        PhiClass.ADDRESS,
        rf"\b{_STATE}(?:,? {{1,2}}|\^)(?P<id>{_ZIP})",
        needs=_STATE_AND_ZIP,
    ),
    rule(
        PhiClass.ADDRESS,
        rf"\b(?i:zip(?: ?code)?|postal ?code|postcode|plz)[\s:=\"']{{1,5}}(?P<id>{_ZIP})",
        needs=any_of("zip", "zipcode", "postal", "postalcode", "postcode", "plz"),
    ),
)
"""Streets with a number, boxes, ZIP codes after a state or their label, British post codes."""
