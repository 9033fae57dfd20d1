"""Where somebody lives or comes from, told in words or typed without capitals."""

from typing import Final

from appliance.phi.addresses import NAMED, STATES, TOWN_ALONE
from appliance.phi.patterns import PhiClass, any_case, any_of, rule

# Of a country or a state alone nobody is known, and what somebody may have caught there is the physician's to know.
_COUNTRIES: Final = (
    *("afghanistan", "albania", "algeria", "america", "argentina", "australia", "austria", "bangladesh", "belgium"),
    *("bolivia", "bosnia", "brazil", "britain", "bulgaria", "cambodia", "cameroon", "canada", "chile", "china"),
    *("colombia", "congo", "croatia", "cuba", "cyprus", "denmark", "ecuador", "egypt", "england", "eritrea", "estonia"),
    *("ethiopia", "europe", "fiji", "finland", "france", "germany", "ghana", "greece", "guatemala", "haiti"),
    *("honduras", "hungary", "iceland", "india", "indonesia", "iran", "iraq", "ireland", "israel", "italy", "jamaica"),
    *("japan", "jordan", "kenya", "korea", "laos", "latvia", "lebanon", "liberia", "libya", "lithuania", "malaysia"),
    *("mexico", "morocco", "mozambique", "myanmar", "nepal", "netherlands", "nicaragua", "nigeria", "norway"),
    *("pakistan", "panama", "paraguay", "peru", "philippines", "poland", "portugal", "romania", "russia", "rwanda"),
    *("samoa", "scotland", "senegal", "serbia", "singapore", "slovakia", "slovenia", "somalia", "spain", "sudan"),
    *("sweden", "switzerland", "syria", "taiwan", "tanzania", "thailand", "tonga", "tunisia", "turkey", "uganda"),
    *("ukraine", "uruguay", "venezuela", "vietnam", "wales", "yemen", "zambia", "zimbabwe", "africa", "asia", "island"),
    *("zealand", "lanka", "salvador", "arabia", "states", "kingdom", "emirates", "rica", "rico", "republic", "midwest"),
)
_PARTS: Final = (
    *("The", "North(?:ern)?", "South(?:ern)?", "East(?:ern)?", "West(?:ern)?", "Central", "New", "Sri", "El", "Saudi"),
    *("United", "Costa", "Puerto", "Dominican", "Rhode", "Nova", "British", "Great"),
)
# What follows "in" and "from" and is no place of anybody's.
_OTHERS: Final = (
    *("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "spring", "summer", "autumn"),
    *("fall", "winter", "christmas", "january", "february", "march", "april", "may", "june", "july", "august"),
    *("september", "october", "november", "december", "assisted", "nursing", "hospice", "hospital", "rehab", "clinic"),
    *("emergency", "room", "ward", "unit", "floor", "labor", "delivery", "intensive"),
)
_NO_TOWN: Final = (
    rf"(?!(?:(?:{'|'.join(_PARTS)}) )?"
    rf"(?:{'|'.join(one.title() for one in (*_COUNTRIES, *STATES, *_OTHERS))})\b)"
)
_SOMEBODY: Final = (
    *("lives? in", "lived in", "living in", "born in", "born and raised in", "raised in", "grew up in", "native of"),
    *("resid(?:es|ing|ed) in", "resident of", "relocated (?:to|from)", "hails from"),
    *("originally from", "driv(?:es|ing|en) (?:here |in )?from", "visiting from", "homeless in", "retired to"),
)
_STREETS: Final = (
    *("street", "avenue", "ave", "road", "rd", "lane", "ln", "blvd", "boulevard", "pkwy", "parkway", "terrace"),
    "crescent",
)
# What follows a number that is no house's.
_NO_HOUSE: Final = (
    r"(?!(?:mg|mcg|ml|days?|weeks?|months?|years?|hours?|hrs?|min(?:ute)?s?|miles?|km|blocks?|times?|am|pm|of|in|on|the"
    r"|and|to|x|or|per|with|at|from|by|patients?|people|men|women|children|cars?)\b)"
)
_WORDS: Final = r"(?:(?!(?:the|a|an|on|in|of|down|up|hit|along|off)\b)[a-z][a-z'\u2019-]{1,20} ){1,3}"
_FLAT: Final = r"(?:,? (?:apt|unit|suite|ste|flat)\.? ?#?\w{1,5})"
_TOWN: Final = r"(?:,? {1,2}[a-z]{2,20}(?: [a-z]{2,20})?,? {1,2}[a-z]{2} \d{5}(?:-\d{4})?)"

RESIDENCES: Final = (
    rule(
        PhiClass.ADDRESS,
        any_case(*_SOMEBODY) + rf" {_NO_TOWN}(?P<id>{TOWN_ALONE})",
        needs=any_of(
            *("live", "lives", "lived", "living", "born", "raised", "grew", "native", "resides", "residing", "resided"),
            *("resident", "relocated", "hails", "originally", "drives", "driving", "driven", "visiting"),
            *("homeless", "retired"),
        ),
        in_words=True,
    ),
    rule(
        PhiClass.ADDRESS,
        rf"\b(?i:corner|intersection) of (?P<id>{NAMED}(?: {NAMED})?"
        rf" (?:and|&) (?:{NAMED}|\d{{1,3}}(?:st|nd|rd|th)\b))",
        needs=any_of("corner", "intersection"),
        in_words=True,
    ),
    rule(
        PhiClass.ADDRESS,
        rf"[0-9](?<![\w.,/$-].)\d{{0,4}} (?:[nsew]\.? )?{_NO_HOUSE}{_WORDS}"
        # Those that are other words, too, need more behind them.
        rf"(?:(?:{'|'.join(_STREETS)})\b\.?{_FLAT}?{_TOWN}?|(?:st|dr|ct|way|pl|place|drive|court)\b\.?(?:{_FLAT}{_TOWN}?|{_TOWN}))",
        needs=any_of(*_STREETS, "st", "dr", "ct", "way", "pl", "place", "drive", "court"),
    ),
)
"""Tried with the others of `safeharbor`."""
