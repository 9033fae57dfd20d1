"""File systems of a box that can run full: what lies on each, what is free there, and what should be."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.actions.backups import shelf
from appliance.config import Config

_GIB: Final = 2**30
_MIB: Final = 2**20
_LEAST: Final = {"state": 4 * _GIB, "releases": 4 * _GIB, "system": _GIB, "backup": 64 * _MIB}
_PART_OF_LEAST: Final = 16
_SYSTEM: Final = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """One of them.

    Attributes:
        place: What lies on it: `state`, `releases`, `system` (everything else of the machine) or `backup`.
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


def _device(path: Path) -> int:
    return path.stat().st_dev


def places(config: Config, device_of: Callable[[Path], int] = _device) -> dict[str, Path]:
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


def file_systems(config: Config, device_of: Callable[[Path], int] = _device) -> tuple[FileSystem, ...]:
    """Look at each; arguments as for `places`."""
    return tuple(
        FileSystem(place=place, free=shutil.disk_usage(path).free, least=_least(config, place, path))
        for place, path in places(config, device_of).items()
    )


def _least(config: Config, place: str, path: Path) -> int:
    if place != "backup":
        return _LEAST[place]
    # The next one is written before the oldest goes, and it grows.
    newest = max((one.length for one in shelf.kept(path, config.site)[-1:]), default=0)
    return max(2 * newest, _LEAST[place])
