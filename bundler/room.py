"""Whether a mounted medium can take a volume, before anything is written to it: bytes by its own clusters, and inodes.

Names need no check here: a volume's names differ in more than case, are shorter than every file system's limit, and no
part reaches 4 GiB (FMT-1 to FMT-12).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bundler.errors import CapacityError
from bundler.volumefiles import PlannedFile
from media import layout

_LEAST_CLUSTER = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a volume needs of a medium, and what the medium has."""

    needed: int
    free: int
    files: int
    inodes: int | None

    def to_json(self) -> dict[str, Any]:
        """Return both numbers of each."""
        return {"needs_bytes": self.needed, "free_bytes": self.free, "files": self.files, "free_inodes": self.inodes}

    def require_enough(self, number: int) -> None:
        """Pass only when there is room for the volume of this number.

        Raises:
            CapacityError: There is not; `why` gives both numbers.
        """
        if self.needed > self.free:
            raise CapacityError(
                what=f"volume {number} does not fit its destination",
                why=f"it needs {self.needed:,} bytes, there are {self.free:,}",
                fix="use a larger medium, or plan again with --capacity",
            )
        if self.inodes is not None and self.files > self.inodes:
            raise CapacityError(
                what=f"volume {number} does not fit its destination",
                why=f"it has {self.files:,} files and folders, there is room for {self.inodes:,}",
                fix="format the medium with more inodes, or use exFAT",
            )


def room(folder: Path, files: Sequence[PlannedFile]) -> Room:
    """Return what a volume would need where a folder is or will be."""
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    facts = os.statvfs(nearest)
    cluster = max(facts.f_frsize, _LEAST_CLUSTER)
    folders = {str(parent) for file in files for parent in PurePosixPath(layout.RELEASE, file.name).parents}
    needed = sum(-(-file.length // cluster) * cluster for file in files) + len(folders) * cluster
    return Room(
        needed=needed,
        free=facts.f_bavail * facts.f_frsize,
        files=len(files) + len(folders),
        # FAT and exFAT have no inodes to run out of and say 0.
        inodes=facts.f_favail if facts.f_files else None,
    )


def require_room(folder: Path, files: Sequence[PlannedFile], *, number: int) -> Room:
    """Return what a volume needs and a medium has, once it is enough.

    Raises:
        CapacityError: It is not; `why` gives both numbers.
    """
    found = room(folder, files)
    found.require_enough(number)
    return found
