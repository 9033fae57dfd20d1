"""Words of the census list that mean something else when they stand alone: what they are replaced by would be a loss.

Only single family names are held against these; a whole name is found whatever it is made of. Short on purpose: a word
too many here is a name that leaves the door.
"""

import re
from typing import Final


def words_of(*lines: str) -> frozenset[str]:
    """Return the words of some lines, folded."""
    return frozenset(" ".join(lines).casefold().split())


EVERYDAY: Final = words_of(
    # Words of a sentence, months, days and colours.
    "Able All April August Autumn Bank Best Bill Bird Black Blue Bond Book Bridge Brown Cash Christian Church",
    "Cross Day Days Dear Drew English Fall Field Fields First Fish Flower Ford Fox French Friday German God Gold",
    "Good Grace Gray Green Grey Guest Hall Hill Home Hope House Hunt Irish Joy July June Justice King Knight Lake",
    "Land Law Little Long Love Low Major Man March Mark Marks Max May Mild Mile Miles Mills Monday More New North",
    "Noble Page Park Parks Pass Penny Pope Post Power Powers Price Prince Pride Reading Rich Rose Rush Sage",
    "Saturday Self Sharp Short Silver Small Smart South Speed Spring Still Stone Street Strong Summer Sunday",
    "Swift Thursday Trust Tuesday Wall Waters Way Wednesday West White Will Wills Winter Wise Wood Woods Workman",
    "Young",
    # Words of a hospital.
    "Admission Ambulance Back Bath Block Blood Bone Bones Care Case Center Centre Chest Child Children Clinic",
    "Cure Dental Department Doctor Emergency Eye Family Flood Floor Foot Hand Hands Head Health Heart Hospital",
    "Ill Intensive Lab Laboratory Medical Medicine Moody Nurse Nurses Nursery Office Outpatient Pain Patient",
    "Pharmacy Practice Radiology Room Sample School Section Service Services Sick Sleep Staff Station Surgery",
    "Surgical Team Temple Test Theatre Therapy Tower Trauma Unit Walker Ward Wing",
    # Eponyms that stand for the disease or the thing without any other word.
    "Alzheimer Babinski Bell Crohn Doppler Foley Glasgow Hodgkin Parkinson Ringer Tourette",
)

EPONYMS: Final = words_of(
    "addison alzheimer asperger babinski barre barrett basedow bechterew behcet bell bowen bright brown buerger",
    "burkitt charcot chiari conn crohn cushing danlos darier down dupuytren eaton ebstein edwards ehlers ellison",
    "ewing fabry fanconi felty gaucher gilbert goodpasture graves guillain hansen hashimoto hirschsprung hodgkin",
    "homans horner huntington hurler kaposi kawasaki kernig klinefelter korsakoff krabbe kussmaul lambert lynch",
    "mallory marfan marie mcburney meniere menkes murphy niemann noonan osgood osler paget parkinson patau",
    "peyronie phalen pick pompe pott prader raynaud refsum reiter rett reye romberg rovsing sachs schlatter",
    "sjogren still sturge takayasu tay tinel tooth tourette trousseau turner waldenstrom weber wegener wernicke",
    "whipple white willi williams wilson wolff zollinger",
)

EPONYM_ENDS: Final = re.compile(
    r"(?:-[^\W\d_]{1,30}){0,3}(?:['\u2019\u02bc]s?)?\s{1,3}"
    r"(?:disease|syndrome|sign|palsy|lymphoma|sarcoma|phenomenon|triad|contracture|chorea|encephalopathy|thyroiditis)\b",
    re.IGNORECASE,
)
"""What follows a discoverer's name that is no patient's: `'s disease`, `-Barré syndrome`."""

TITLES: Final = words_of(
    "dr prof mr mrs ms mx miss md rn phd jr sr ii iii",
)
PARTICLES: Final = words_of(
    "van der den von de la las los del da das do dos di le el al bin ibn bint abu zu zur zum ter ten af av san st",
    "und and y e",
)
