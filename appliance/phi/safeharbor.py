"""What else identifies a person by 45 CFR 164.514(b)(2)(i), A to R: patterns beyond those of the documents.

All of them are extra. Most numbers mean nothing by themselves, so a word before them says what they are; where a number
carries its own proof (IBAN, card, vehicle, prescriber), the proof counts and no word is needed.
"""

import re
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from appliance.phi.addresses import ADDRESSES
from appliance.phi.dates import DATES
from appliance.phi.national import NATIONAL
from appliance.phi.patterns import (
    Both,
    PhiClass,
    any_case,
    any_of,
    digits_of,
    luhn,
    outline,
    rule,
)
from appliance.phi.residences import RESIDENCES
from appliance.phi.telephones import TELEPHONES
from appliance.phi.typed import TYPED_NAMES

_COLON: Final = re.compile(":[0-9A-Fa-f]{0,4}:")
_SLASHES: Final = ("://",)
_OVER_89: Final = re.compile("[19](?<![0-9].)(?:(?<=9)[0-9]|(?<=1)[01][0-9])(?![0-9])")


def is_iban(candidate: str) -> bool:
    """Tell whether a candidate is an international bank account number (ISO 13616, check digits of ISO 7064)."""
    plain = candidate.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def is_card(candidate: str) -> bool:
    """Tell whether 13 to 19 digits pass the Luhn check of a payment card (ISO/IEC 7812-1)."""
    digits = digits_of(candidate)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn(digits)


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

_NO_PLATE: Final = "AND|FOR|THE|WAS|NOT|HAS|ARE|ALL|NEG|POS|MAY|BUT"
_VEHICLES: Final = any_of(
    *("plate", "plates", "vehicle", "registration", "reg", "rego", "car", "tag", "truck", "van", "suv", "sedan"),
    *("pickup", "scooter", "motorcycle", "motorbike", "kennzeichen", "targa", "cula", "immatriculation"),
)
_MAKES: Final = (
    *("toyota", "honda", "ford", "chevrolet", "chevy", "nissan", "hyundai", "kia", "subaru", "mazda", "volkswagen"),
    *("mercedes", "audi", "volvo", "jeep", "dodge", "buick", "lexus", "renault", "peugeot", "citroen"),
    *("skoda", "fiat", "opel", "vauxhall", "dacia", "mitsubishi", "suzuki", "yamaha", "holden"),
)
# Works of reference, authorities, and where releases and guidelines are published.
_OF_REFERENCE: Final = "|".join(
    re.escape(one)
    for one in (
        *("who.int", "cdc.gov", "nih.gov", "fda.gov", "cms.gov", "hhs.gov", "europa.eu", "nice.org.uk", "bnf.org"),
        *("gov.uk", "nhs.uk", "cochranelibrary.com", "cochrane.org", "uptodate.com", "medscape.com", "doi.org"),
        *(
            "wikipedia.org",
            "nejm.org",
            "thelancet.com",
            "bmj.com",
            "jamanetwork.com",
            "rki.de",
            "awmf.org",
            "loinc.org",
        ),
        *("hl7.org", "snomed.org", "github.com", "python.org", "mayoclinic.org", "drugs.com", "rxlist.com"),
    )
)
_BEFORE_AGE: Final = ("she", "he", "who", "patient", "was", "is", "at", "now", "nearly", "almost", "over")
SAFE_HARBOR: Final = (
    *ADDRESSES,
    *DATES,
    *TYPED_NAMES,
    *NATIONAL,
    *RESIDENCES,
    rule(
        PhiClass.AGE,
        r"[19](?<![\w.,/-].)(?:(?<=9)\d|(?<=1)[01]\d)"
        r"(?=[- ]?(?i:years?|yrs?|y/?o|yo|y\.o\.|[MF]\b|jahre|ans|a\u00f1os|anos|anni|lat|jaar|\u00e5r)\b)",
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
        PhiClass.AGE,
        r"(?i:\b(?P<id>ninety(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?"
        r"|(?:a|one) hundred(?: and \w{3,6})?)"
        r"[- ](?:years?|yrs?)\b)",
        needs=Both(any_of("ninety", "hundred"), any_of("years", "year", "yrs", "yr")),
        in_words=True,
    ),
    rule(PhiClass.AGE, r"\b(?P<id>9\d|1[01]\d)(?:st|nd|rd|th) (?i:birthday)\b", needs=any_of("birthday")),
    *TELEPHONES,
    rule(
        PhiClass.URL,
        # What follows a host may name somebody, unless the host is one where nobody's own pages are; a host may, too.
        rf"\bhttps?://(?:(?!(?:[\w-]{{1,63}}\.){{0,4}}(?:{_OF_REFERENCE})[/?#])[\w.@:%\[\]-]{{1,160}}[/?#][^\s<>\"']{{1,300}}"
        r"|[^\s<>\"'/]{0,120}?(?i:patient|mrn|chart|record|member|profile|person|people|family|portal|visit)[^\s<>\"']{0,200})"
        r"(?<![.,;:)\]])",
        needs=_SLASHES,
        in_words=True,
    ),
    rule(
        PhiClass.ACCOUNT,
        r"[A-Z](?<!\w.)[A-Z]\d{2}(?: ?[A-Z\d]{4}){2,7}(?: ?[A-Z\d]{1,3})?\b",
        needs=outline("AA99"),
        check=is_iban,
    ),
    rule(
        PhiClass.ACCOUNT,
        r"[2-6](?<![\w.-].)(?:\d{3}(?P<by>[ -]?)\d{4}(?P=by)\d{4}(?P=by)\d{1,7}|\d{3}[ -]?\d{6}[ -]?\d{4,5})(?![\w-])",
        needs=outline(
            *("9999 9999", "9999-9999", "999999999999"),
        ),
        check=is_card,
    ),
    rule(
        PhiClass.ACCOUNT,
        r"(?i:\b(?:card|account|acct|visa|mastercard|amex)\b[^\d\n]{0,16}\b(?:ending|ends|last (?:4|four))(?: digits)?"
        r"(?: in| with)?)"
        r"[^\d\n]{0,8}(?P<id>\d{4})(?!\d)",
        needs=Both(any_of("card", "account", "acct", "visa", "mastercard", "amex"), any_of("ending", "ends", "last")),
    ),
    rule(PhiClass.MRN, r"(?<![\w.])\d{5,12}(?=\^{2,3})", needs=("^^",)),
    # In FHIR a quantity's value is a number; in quotes it is that of an identifier, or of a way to reach somebody.
    rule(
        PhiClass.MRN,
        r"\"value\"\s{0,4}:\s{0,4}\"(?P<id>(?=(?:[^\"\n]{0,30}\d){4})[A-Za-z0-9-]{4,64})\"",
        needs=Both(any_of("identifier", "telecom"), ('"value"',)),
    ),
    rule(
        PhiClass.MRN,
        r"<(?:id|telecom)\b[^>\n]{0,200}?\b(?:value|extension)=\"(?P<id>(?=(?:[^\"\n]{0,30}\d){4})[^\"\n]{4,64})\"",
        needs=Both(any_of("id", "telecom"), ("<id", "<telecom")),
    ),
    rule(
        PhiClass.MRN,
        any_case("patients?", "encounters?") + r"/(?P<id>[\w-]{0,30}\d{3}[\w-]{0,30})(?![\w-])",
        needs=Both(any_of("patient", "patients", "encounter", "encounters"), ("/",)),
    ),
    rule(
        PhiClass.MRN,
        r"<identifier\b(?:(?!</identifier>)[\s\S]){0,600}?<value value=\"(?P<id>[^\"\n]{3,64})\"",
        needs=Both(any_of("identifier"), ("<identifier",)),
    ),
    rule(
        PhiClass.PHONE,
        r"<telecom\b(?:(?!</telecom>)[\s\S]){0,600}?<value value=\"(?P<id>(?=(?:[^\"\n]{0,20}\d){5})[^\"@\n]{5,40})\"",
        needs=Both(any_of("telecom"), ("<telecom",)),
    ),
    rule(
        PhiClass.ADDRESS,
        r"<(?:line|city|district|postalCode) value=\"(?P<id>[^\"\n]{2,80})\"",
        needs=Both(
            any_of("line", "city", "district", "postalcode"), ("<line v", "<city v", "<district v", "<postalCode v")
        ),
        in_words=True,
    ),
    rule(PhiClass.PLAN, r"\bNHS[^\d\n]{0,12}(?P<id>\d{3}[ -]\d{3}[ -]\d{4})(?!\d)", needs=any_of("nhs")),
    rule(
        PhiClass.LICENCE, r"\b[A-HJ-MPRSTUX][A-Z9]\d{7}\b", needs=outline("AA9999999", "A99999999"), check=is_prescriber
    ),
    rule(
        PhiClass.VEHICLE,
        any_case(
            *("plates?", "vehicle", "registration", r"reg\.?", "rego", "car", "tag", "truck", "van", "suv", "sedan"),
            *("pickup", "scooter", "motorcycle", "motorbike", "kennzeichen", "targa", "matr\u00edcula"),
            "immatriculation",
        )
        + r"(?i:\s{0,2}(?:number|no\.?|#))?[\s:#=.\"']{1,6}"
        r"(?P<id>(?=[A-Z -]{0,5}\d)(?=[\d -]{0,5}[A-Z])(?=[A-Z\d -]{5})"
        r"[A-Z\d]{1,4}(?:[ -]?[A-Z\d]{1,4}){1,2})(?![\w-])",
        needs=_VEHICLES,
    ),
    rule(
        PhiClass.VEHICLE,
        rf"\b(?:{'|'.join(one.title() for one in _MAKES)}|BMW|VW)\b[\w -]{{0,16}}[,(] ?(?i:(?:plates?|reg|tag) )?"
        r"(?P<id>(?!GCS)(?:[A-Z]{3}[ -]?\d{3,4}|\d[A-Z]{3} ?\d{3}|[A-Z]{2}\d\d ?[A-Z]{3}))(?![\w-])",
        needs=any_of(*_MAKES, "bmw", "vw"),
    ),
    rule(
        PhiClass.VEHICLE,
        # Plates that look like nothing else: British, French, German, Indian, and some American ones.
        r"[A-Z0-9\u00c4\u00d6\u00dc](?<![\w-].)(?:[A-Z\u00c4\u00d6\u00dc]{0,2}-(?<!BY-)[A-Z]{1,2} \d{1,4}[EH]?"
        rf"|(?<=[A-Z])[A-Z](?:\d\d ?(?!{_NO_PLATE})[A-Z]{{3}}|-\d{{3}}-[A-Z]{{2}}|[A-Z]-\d\d[A-Z]|"
        r" ?\d\d [A-Z]{1,2} \d{4})|(?<=[0-9])[A-Z]{3} ?\d{3})(?![\w-])",
        needs=outline("99 AAA", "99AAA", "9AAA 9", "9AAA9", "A-A", "-999-AA", "A-99A", "9 A 9", "9 AA 9"),
    ),
    rule(
        PhiClass.VEHICLE,
        # From its end, where digits stand: letters are many.
        r"[0-9]\d{4}(?!\w)(?<=(?<!\w)(?P<id>[A-HJ-NPR-Z\d]{12}\d{5}))",
        needs=outline("A99999", "999999"),
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
    # A form that hospitals give records, longer at its head than a day; and what stands behind a day of birth.
    rule(PhiClass.MRN, r"[0-9](?<![\w.-].)(?<!\d/.)\d\d-\d\d-\d\d(?![\w-])", needs=outline("999-99-99")),
    rule(
        PhiClass.MRN,
        r"[0-9](?:(?<=\d[/-]\d\d .)|(?<=\d[/-]\d{4} .))\d{5,9}(?![\w-]|[.,:]\d)",
        needs=outline("99 999999"),
    ),
    # What numbers somebody's papers, behind the sign of a number or between strokes, beside a name and a day.
    rule(PhiClass.MRN, r"[A-Za-z] ?#(?=[: ]|\d{7}|\d+-)[: ]{0,2}(?P<id>\d[\d-]{4,12}\d)(?![\w-])", needs=("#",)),
    rule(PhiClass.MRN, r"[0-9](?<=[A-Za-z] / .)\d{5,9}(?= / [^\s/])", needs=(" / ",)),
    rule(
        PhiClass.ACCOUNT,
        r"(?i:\b(?:key ?safe|lock ?box|key ?pad|door|gate|entry|alarm)(?: code)?(?: (?:is|no\.?|number))?:? {1,2})"
        r"(?P<id>\d{4,6}[#*]?)(?!\w|[.-]\d)",
        needs=any_of("keysafe", "safe", "lockbox", "box", "keypad", "pad", "door", "gate", "entry", "alarm"),
    ),
    rule(
        PhiClass.MRN,
        # Labels with a sign within that parts their words, or that no other label begins with.
        any_case(
            *("pati[e\u00eb]nt(?:en)?-?(?:nummer|nr)", "aufnahme-?(?:nummer|nr)", "fall-?(?:nummer|nr)", r"pat\.?-?nr"),
            *(
                "akten-?(?:nummer|nr)",
                "journal-?(?:nummer|nr)",
                "kartotek-?(?:nummer|nr)",
                "historia(?: cl[i\u00ed]nica)?",
            ),
            "cartella(?: clinica)?",
        )
        + r"\.?(?: ?n[r\u00ba\u00b0]?\.?)?[\s:#]{1,3}(?P<id>[A-Z]{0,3}-?\d{4,12})(?![\w-]|[.,]\d)",
        needs=any_of(
            *(
                "patientnummer",
                "patientennummer",
                "patientnr",
                "patientennr",
                "ntnummer",
                "ntnr",
                "aufnahme",
                "nr",
                "fall",
            ),
            *(
                "aufnahmenummer",
                "aufnahmenr",
                "fallnummer",
                "fallnr",
                "patnr",
                "pat",
                "akten",
                "aktennummer",
                "aktennr",
            ),
            *(
                "journalnummer",
                "journalnr",
                "journal",
                "kartotek",
                "kartoteknummer",
                "kartoteknr",
                "historia",
                "cartella",
            ),
        ),
    ),
    rule(
        PhiClass.MRN,
        # A code of capitals and digits that is nobody's product: at least five digits, or four behind a dash.
        r"[A-Z](?<!\w.)[A-Z]{0,4}(?:-\d{4,}|-?\d{5,}|-?\d{2,}-\d{3,}|\d{2}-\d{4,})(?:-[A-Z\d]{1,6})?(?![\w-]|\.\d)",
        needs=outline(
            *("A-9999", "A99999", "A99-999", "A999-999", "A9999-999", "A-99-999", "A-999-999"),
        ),
    ),
)
"""Tried after the documents' patterns and the others of `patterns`."""
