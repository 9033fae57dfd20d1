"""Where a version answers: in one of two stages, and in production in one of its lines.

Each stage has a gateway, engines, keys and users of its own.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

FIRST_LINE: Final = 1
"""The line of production of whatever names none; but a stop that names none is of every line."""


class Stage(StrEnum):
    """Where a version answers: for everybody, or for application developers who try it."""

    PRODUCTION = "production"
    TEST = "test"


def is_tried(body: Mapping[str, Any]) -> bool:
    """Tell whether a record of a request is the test stage's: it says nothing of what production does."""
    return body.get("stage") == Stage.TEST


def line_of(body: Mapping[str, Any]) -> int:
    """Return the number of the line that a record is of, or of which the promoter told something."""
    return int(body.get("line") or FIRST_LINE)
