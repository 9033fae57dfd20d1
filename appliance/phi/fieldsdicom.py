"""Identifiers in headers of DICOM as dcmdump, dcm4che and pydicom print them: `(0010,0010) PN [QUIST^AL]`.

The tag says what stands behind it, so no word beside it has to.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from appliance.phi.fieldvalues import is_a_name, is_a_place, trimmed
from appliance.phi.labelled import Labelled
from appliance.phi.patterns import PhiClass, digits_of

_TAGS: Final[Mapping[PhiClass, tuple[str, ...]]] = {
    PhiClass.NAME: (
        # The patient's own, of birth, of the mother, of who answers; physicians, readers, performers, who asked.
        *("00100010", "00101001", "00101005", "00101060", "00102297", "00080090", "00081048", "00081050", "00081060"),
        *("00081070", "00321032", "00400006", "0040a123", "00402008", "00380100"),
    ),
    PhiClass.MRN: ("00100020", "00101000", "00080050", "00200010", "00380010", "00401001", "00402016", "00402017"),
    PhiClass.DATE: ("00100030", "00080012", "00080020", "00080021", "00080022", "00080023", "00380020", "00400244"),
    PhiClass.ADDRESS: ("00101040",),
    PhiClass.PHONE: ("00102154", "00402010"),
    PhiClass.DEVICE: ("00181000",),
}
OF_TAGS: Final = {tag: one for one, tags in _TAGS.items() for tag in tags}
"""What tags hold, by their group and element."""

_LINE: Final = re.compile(
    r"\((?P<group>[0-9]{4}), ?(?P<element>[0-9A-Fa-f]{4})\) "
    r"(?:[A-Z]{2} (?:#[0-9]{1,5} )?\[(?P<printed>[^\]\n]{1,200})\]"
    # pydicom prints texts as Python does: in double quotes where one quote is in them, and several as a list.
    r"|[^\n(]{0,80}? [A-Z]{2}: (?:'(?P<single>[^'\n]{1,200})'|\"(?P<double>[^\"\n]{1,200})\""
    r"|\[(?P<listed>[^\]\n]{1,400})\]))"
)
_PART: Final = re.compile(r"[^\^=\\]+")
_PART_OF_SEVERAL: Final = re.compile(r"[^\^=\\,]+")
_AROUND: Final = " \t\r'\""
_VALUES: Final = ("printed", "single", "double", "listed")
_LEAST: Final = 2


def identifiers_in(text: str) -> Iterator[Labelled]:
    """Yield what the tags of a text's headers say of people, in order."""
    if "(00" not in text:
        return
    for line in _LINE.finditer(text):
        phi_class = OF_TAGS.get((line["group"] + line["element"]).lower())
        if phi_class is None:
            continue
        which = next(one for one in _VALUES if line[one] is not None)
        for part in (_PART_OF_SEVERAL if which == "listed" else _PART).finditer(text, *line.span(which)):
            start, value = trimmed(part[0], part.start(), _AROUND)
            if len(value) >= _LEAST and _counts(value, phi_class):
                yield Labelled(start, start + len(value), phi_class)


def _counts(value: str, phi_class: PhiClass) -> bool:
    if phi_class is PhiClass.NAME:
        return is_a_name(value)
    return is_a_place(value) if phi_class is PhiClass.ADDRESS else bool(digits_of(value))
