"""Numbers of telephones beyond the North American plan's in `patterns`: by their label, by a state's own form."""

from typing import Final

from appliance.phi.labelled import UNITS
from appliance.phi.patterns import BY_DASH, PhiClass, any_case, any_of, outline, rule

# Phone, tel, cell, fax, and whatever else says that a number is called; put together they make some words too many.
_CALL_BEGINS: Final = "bcfmprtw"
_CALL_ENDS: Final = (
    *("hone", "elephone", "el", "obile", "ob", "ell", "ax", "ager", "leep", "h", "all", "ing", "ext", "hatsapp"),
    "ontact",
)
_CALLED_NUMBER: Final = r"\b[^\d\n]{0,14}(?P<id>\+?\(?\d(?:[ ()./-]{0,2}\d){6,13})(?!\d)"
TELEPHONES: Final = (
    rule(
        PhiClass.PHONE,
        any_case(
            *("tfno", "tlfn?", "m[o\u00f3]vil", "cellulare", "gsm", "natel", "fono", "telefoonnummer", "faks"),
            *(r"t[e\u00e9]l[e\u00e9]?(?:phone|fono|foon|fon)?", "telefon(?:nummer)?", "mobile[ _-]?(?:phone)?"),
            *("home[ _-]?phone", "work[ _-]?phone", "cell[ _-]?phone"),
        )
        + _CALLED_NUMBER,
        needs=any_of(
            *("tfno", "tlf", "tlfn", "movil", "vil", "cellulare", "gsm", "natel", "fono", "l", "phone", "telefono"),
            *("telefoon", "telefon", "telefonnummer", "telefoonnummer", "faks", "mobilephone", "mobile", "homephone"),
            *("workphone", "cellphone"),
        ),
    ),
    rule(
        PhiClass.PHONE,
        # A joint's extension is told in degrees, of three digits at most.
        any_case(r"extn?", "bleep", "beeper", "pager")
        + r"\b\.?(?: no\.?| number)?[ :#]{1,3}(?P<id>\d{2}-\d{4}|\d{4,6})(?![\w-])",
        needs=any_of("ext", "extn", "bleep", "beeper", "pager"),
    ),
    rule(
        PhiClass.PHONE,
        # The first letter by itself: a set of characters is what is looked for fastest.
        rf"[{_CALL_BEGINS.upper()}{_CALL_BEGINS}](?<!\w.)(?i:{'|'.join(_CALL_ENDS)})" + _CALLED_NUMBER,
        needs=any_of(*(first + rest for first in _CALL_BEGINS for rest in _CALL_ENDS)),
    ),
    rule(PhiClass.PHONE, r"0(?<![\w.,/-].)\d{2,4}[ /-]\d{3,4}(?:[ -]?\d{2,4}){1,2}(?![\w-])"),
    rule(
        PhiClass.PHONE,
        r"\((?<![\w.].)(?P<id>0\d{1,5}\) ?\d{3,4}[ -]?\d{3,4})(?![\w-])",
        needs=outline("99)"),
    ),
    # What follows a number is its extension.
    rule(
        PhiClass.PHONE,
        r"[xe](?:(?<=[.-]\d{4}[ ,].)|(?<=\d{7}[ ,].)|(?<=[.-]\d{4}.)|(?<=[.-]\d{4}, .)|(?<=\d{7}.))"
        r"(?:(?<=x)|xt(?:n|ension)?\.?) ?(?P<id>\d{2,6})(?![\w-])",
        needs=any_of("x", "ext", "extn", "extension"),
    ),
    rule(
        PhiClass.PHONE,
        r"\((?<!\w.)(?P<id>[2-9]\d\d\)[ -]?[2-9]\d{6})(?![\w-])",
        needs=outline("999)9999999", "999) 9999999"),
    ),
    # French ones in pairs, Italian mobiles.
    rule(
        PhiClass.PHONE,
        r"0(?<![\w.,/-].)[1-9]([ .-])\d{2}(?:\1\d{2}){3}(?![\w-]|[., ]\d)",
        needs=outline("99 99 99 99 99", "99.99.99.99.99", "99-99-99-99-99"),
    ),
    rule(PhiClass.PHONE, r"3(?<![\w.,/-].)\d{2} \d{7}(?![\w-]|[.,]\d)", needs=outline("999 9999999")),
    rule(PhiClass.PHONE, rf"[2-9](?<![\w.,/$-].)\d{{2}}-\d{{4}}(?![\w-]){UNITS}", needs=BY_DASH),
)
"""Tried with the others of `safeharbor`."""
