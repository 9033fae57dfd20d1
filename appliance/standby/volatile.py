"""Small files below /run by which the lease's keeper tells others how it stands: whole or absent, and readable for all.

A reboot empties the folder, so nothing here is made durable.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from media import canonical


def write(place: Path, value: Mapping[str, Any]) -> None:
    """Replace a file in one step.

    Raises:
        OSError: It could not be written.
    """
    beside = place.with_name(f".{place.name}.new")
    beside.write_bytes(canonical.dumps(value))
    beside.chmod(0o644)
    beside.replace(place)


def read(place: Path, *, most_bytes: int) -> Any:
    """Return what a file holds, through no link and no more of it than `most_bytes`.

    Raises:
        OSError: It is not there, or cannot be read.
        MediaError: It is cut, or was not written here.
    """
    fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        untrusted = os.read(fd, most_bytes)
    finally:
        os.close(fd)
    return canonical.loads(untrusted)
