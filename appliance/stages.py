"""The two stages in which a version answers; each has a gateway, engines, keys and users of its own."""

from enum import StrEnum


class Stage(StrEnum):
    """Where a version answers: for everybody, or for application developers who try it."""

    PRODUCTION = "production"
    TEST = "test"
