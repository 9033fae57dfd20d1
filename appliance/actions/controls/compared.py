"""What the identifiers and titles of each framework were compared with, of which date, and what could not be.

Written by people after reading; `sealift controls --page` prints it. No program notices that a law or a standard
changes: whoever compares again writes the new source and its date here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One framework: what was read, of which date; `unread` is what could not be, empty for nothing."""

    read: str
    unread: str


COMPARED: Final[Mapping[str, Compared]] = {
    "hipaa": Compared(
        read="164.316 whole, in a copy checked against the eCFR on 20 June 2026; 164.312 in the CFR as revised on "
        "1 October 2019 up to (a)(2)(iii) and on 1 October 2006 up to (c)(1), after that in a copy without a date and, "
        "for (e), as quoted in 2026",
        unread="164.312 whole in the eCFR of 2026; whether the proposed rule became final after June 2026",
    ),
    "gdpr": Compared(
        read="the paragraphs of article 5 and the titles of the others, 18, 33 and 34 whole, in the CISO Assistant's "
        "library of 24 September 2025, which names EUR-Lex as its source",
        unread="the Official Journal itself",
    ),
    "soc2": Compared(
        read="each criterion that is named, in the CISO Assistant's library of 12 January 2025 (TSP section 100 with "
        "the points of focus of 2022; PI1.5 stands there as PP1.5)",
        unread="the AICPA's own edition",
    ),
    "part11": Compared(
        read="11.30 and 11.70 in copies of the eCFR of 5 April 2026, 11.200 in one checked on 20 June 2026, "
        "11.10(a) to (h) in one current to 31 October 2024; 11.10(i) to (k), 11.50, 11.100 and 11.300 as quoted in "
        "2026, with the amendment of 2 March 2023 (88 FR 13018)",
        unread="11.10, 11.50, 11.100 and 11.300 whole in the eCFR of 2026",
    ),
    "800-53": Compared(
        read="every identifier and title in release 5.2.0, in NIST's OSCAL content v1.5.0 of May 2026 as another "
        "project writes it out; titles and what is asked of all but SA-15(13) in NIST's own catalogs of 5.1.1 and, "
        "for what is in no baseline, 5.0.1; SA-15(13) in NIST's own of 5.2.0, which gives it the sentence of SA-15(12) "
        "by mistake (usnistgov/oscal-content, issues 304 and 343), so what it asks is from a copy of NIST's reference "
        "tool",
        unread="NIST's own catalog of 5.2.0 whole; that it changed what none of the others asks is as it was reported",
    ),
    "800-171": Compared(
        read="every identifier, its title and what it asks, in NIST's OSCAL catalog of revision 3 (version 1.0.0 of "
        "29 May 2025)",
        unread="",
    ),
    "800-88": Compared(
        read="NIST's announcement of revision 2 (26 September 2025), and what other projects quote of it with the "
        "numbers of its sections",
        unread="the publication itself: titles are ours, and the numbers are second-hand",
    ),
}
