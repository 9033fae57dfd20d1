"""The checks of a receive in their order (docs/design.md 3), as the evidence names them.

Whoever makes a check says when it begins; it held when the next one begins, and failed when the receive is refused
before that. No clock is read here.
"""

from collections.abc import Callable
from enum import StrEnum


class Check(StrEnum):
    """Every check, in the order in which they are made."""

    OPENED = "opened"
    ROOT = "root-chain"
    SIGNATURES = "signatures"
    FILES = "small-files"
    METADATA = "metadata"
    INDEX = "index"
    SITE = "site"
    MACHINE = "machine"
    REHEARSAL = "rehearsal"
    VOLUMES = "volumes"
    SERIAL = "serial"
    DATE = "date"
    CUSTODY = "custody"
    LEDGER = "ledger"
    ROOM = "room"
    BYTES = "bytes"
    RECORD = "record"


OnStep = Callable[[Check], None]


def unheard(_: Check) -> None:
    """Take a step that nobody wants to hear of."""
