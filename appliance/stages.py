"""The two stages in which a version answers; each has a gateway, engines, keys and users of its own."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Stage(StrEnum):
    """Where a version answers: for everybody, or for application developers who try it."""

    PRODUCTION = "production"
    TEST = "test"


def is_tried(body: Mapping[str, Any]) -> bool:
    """Tell whether a record of a request is the test stage's: it says nothing of what production does."""
    return body.get("stage") == Stage.TEST
