"""Which unit gets which of the box's keys: key files as their files say, or a token's PIN where they are on a token."""

from collections.abc import Iterable
from typing import Final

from appliance.config import KeysSection
from appliance.keys.opening import PIN

FOLDER: Final = "/etc/sealift/keys"
USERS: Final = (
    "sealift-gateway.service",
    "sealift-gateway@.service",
    "sealift-gateway-test.service",
    "sealift-ledger.service",
    "sealift-review.service",
    "sealift-standby-sync.service",
)
"""The services that use keys. Others that load key files copy them into backups, or ask for one that nothing needs."""


def is_key(line: str) -> bool:
    """Tell whether a ``NAME:PATH`` of LoadCredential= is a key of the box; see `appliance.keys.provider.PURPOSES`."""
    name, _, path = line.partition(":")
    return path == f"{FOLDER}/{name}.v1"


def credentials(chosen: KeysSection, unit: str, lines: Iterable[str]) -> tuple[str, ...]:
    """Return what a unit loads, as ``NAME:PATH`` of a box.

    Args:
        chosen: The site file's section.
        unit: The unit's file name; of an instance, its template's.
        lines: What its file loads.
    """
    if chosen.provider == "files":
        return tuple(lines)
    kept = [line for line in lines if not is_key(line)]
    return (*kept, f"{PIN}:{FOLDER}/{PIN}") if unit in USERS else tuple(kept)
