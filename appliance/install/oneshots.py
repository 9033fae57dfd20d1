"""Units that do one piece of work and end (Type=oneshot), and which of them a program may start once more.

What a timer starts does what is due, is given no more than that, and is started again at its next time whatever came of
this one; so is what announces an address that this box has. Everything else was asked for once, by people or by what
they plugged in: begun anew, it validates for hours, receives a medium that may be another one by now, or brings up an
engine that a window lets rest. The return from a cut-off install puts release and site file back, which is for a boot
and for people.
"""

import re
from typing import Final

SETTLE: Final = "sealift-settle.service"
DUE: Final = frozenset({"sealift-report@", "sealift-tls@"})
"""Of these a timer starts the instance `due`; others are asked for."""
_REPEATED: Final = frozenset(
    {"sealift-announce", "sealift-backup", "sealift-canary", "sealift-drill", "sealift-network"}
    | {"sealift-retention", "sealift-scrub", "sealift-standby-sync"}
)
_ASKED_FOR: Final = frozenset(
    f"sealift-{name}@"
    for name in ("clock-set", "evidence", "export", "inspect", "install", "media", "plan", "prove", "receive", "switch")
) | {"sealift-validate@", "sealift-try-nftables@", "sealift-try-nginx@"}
ALL: Final = _REPEATED | DUE | _ASKED_FOR | {SETTLE.removesuffix(".service")}
"""Every one of the release's, by its name up to the @ of its instances."""


def is_one(unit: str) -> bool:
    """Whether a service does one piece of work and rests in between."""
    return _name(unit) in ALL


def is_asked_for(unit: str) -> bool:
    """Whether a service's work is begun by people or by a boot alone, and by no program that mends."""
    name = _name(unit)
    return name in ALL and name not in _REPEATED and not (name in DUE and unit == f"{name}due.service")


def _name(unit: str) -> str:
    return re.sub(r"(?<=@).*|\.service$", "", unit)
