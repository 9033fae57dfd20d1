"""File systems of a box that can run full: what lies on each, what is free there, and what should be.

Where the ledger has one of its own nobody else may look there, so its process is asked.
"""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.actions.backups import shelf
from appliance.audit import room
from appliance.audit.rights import OPERATOR
from appliance.config import Config
from media.errors import SealiftError

LEDGER: Final = "ledger"
_GIB: Final = 2**30
_MIB: Final = 2**20
_LEAST: Final = {"state": 4 * _GIB, "releases": 4 * _GIB, "system": _GIB, "backup": 64 * _MIB}
_PART_OF_LEAST: Final = 16
_PART_OF_LEDGER: Final = 5
_SYSTEM: Final = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """One of them.

    Attributes:
        place: What lies on it: `state`, `releases`, `system` (everything else of the machine), `backup` or `ledger`.
        free: Bytes that may still be written.
        least: Bytes that should be free.
    """

    place: str
    free: int
    least: int

    @property
    def is_short(self) -> bool:
        """Whether less is free than should be."""
        return self.free < self.least

    @property
    def is_full(self) -> bool:
        """Whether as good as nothing is free."""
        return self.free < self.least // _PART_OF_LEAST


def existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def device(path: Path) -> int:
    """Return the number of the file system that a path lies on.

    Raises:
        OSError: It is not there, or may not be looked at.
    """
    return path.stat().st_dev


def places(config: Config, device_of: Callable[[Path], int] = device) -> dict[str, Path]:
    """Return by name where to look; the machine's own file system where it holds neither state nor releases.

    Args:
        config: The site file.
        device_of: Tells the file system that a path lies on.
    """
    found = {"state": existing(config.at.state), "releases": existing(config.at.releases)}
    if config.places.root == "/" and device_of(_SYSTEM) not in {device_of(path) for path in found.values()}:
        found["system"] = _SYSTEM
    if config.backup.folder and Path(config.backup.folder).is_dir():  # its disk may be in a safe, where it belongs
        found["backup"] = Path(config.backup.folder)
    return found


def file_systems(config: Config, device_of: Callable[[Path], int] = device) -> tuple[FileSystem, ...]:
    """Look at each, and ask for the ledger's where it has its own; arguments as for `places`."""
    found = [
        FileSystem(place=place, free=shutil.disk_usage(path).free, least=_least(config, place, path))
        for place, path in places(config, device_of).items()
    ]
    with suppress(SealiftError, OSError):  # that the ledger is away is another finding
        told = room.asked(config.at.socket(OPERATOR))
        if told is not None and told.apart:
            least = min(_LEAST["state"], told.size // _PART_OF_LEDGER)
            found.append(FileSystem(place=LEDGER, free=told.free, least=least))
    return tuple(found)


def _least(config: Config, place: str, path: Path) -> int:
    if place != "backup":
        return _LEAST[place]
    # The next one is written before the oldest goes, and it grows.
    newest = max((one.length for one in shelf.kept(path, config.site)[-1:]), default=0)
    return max(2 * newest, _LEAST[place])
