"""How often a process that runs for months searches for reference cycles."""

import gc
from typing import Final

# Python searches after 700 new objects, fewer than a few answers make: some three hundredths of the processor's time of
# an answer, an eighth of that of a record in a burst.
_OBJECTS_BETWEEN_SEARCHES: Final = 20_000


def search_seldom() -> None:
    """Leave what lives until the end out of the search for cycles, and search after many new objects, not few.

    Call it when everything is loaded that stays.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_SEARCHES, *gc.get_threshold()[1:])
