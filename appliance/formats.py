"""The newest format that a release reads, of each thing that boxes keep for each other and releases for each other.

    appliance/formats.json    what this release reads; it travels in the release's wheel

A box says it in its card, a node when it opens the ledger, a release in its wheel. Whoever says nothing of a thing is
of before there was anything to say, and reads the formats of that time (`BEFORE`). A name that this release does not
know is kept, so that the next one can be understood.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from media import canonical
from media.errors import MalformedError

FILE: Final = "formats.json"
CARD: Final = "box-card"
PROMOTION: Final = "promotion"
STATEMENT: Final = "statement"
FIELD: Final = "reads"
"""Where a card, and a node's record of its start, say it."""
BEFORE: Final[Mapping[str, int]] = {CARD: 1, PROMOTION: 2, STATEMENT: 2}
"""What the releases read that say nothing."""
_MOST: Final = 64
_NEWEST: Final = 999
_NAME: Final = re.compile(r"[a-z](-?[a-z0-9]){0,31}")


def parse(untrusted: Any, what: str) -> dict[str, int]:
    """Return formats by name.

    Raises:
        MalformedError: It is not an object of at most 64 short names with a number each, or is empty.
    """
    found = canonical.mapping(untrusted, what)
    if not 0 < len(found) <= _MOST or not all(_NAME.fullmatch(name) for name in found):
        raise MalformedError(what=f"{what} does not name formats", why="its names", fix="make it anew")
    return {
        name: canonical.integer(value, f"{what}.{name}", minimum=1, maximum=_NEWEST) for name, value in found.items()
    }


def unread(reads: Mapping[str, int], written: Mapping[str, int]) -> tuple[str, ...]:
    """Return each thing, with its format, that was written and that such a reader does not read."""
    known = {**BEFORE, **reads}
    return tuple(f"{name} format {number}" for name, number in sorted(written.items()) if number > known.get(name, 0))


READS: Final[Mapping[str, int]] = parse(canonical.loads(Path(__file__).with_name(FILE).read_bytes()), FILE)
"""What this release reads."""
