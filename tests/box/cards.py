"""This machine's cards in a booted box, as a machine has them whose driver is Debian's."""

import os
import stat
from pathlib import Path
from typing import Final

from appliance.registry import gpus
from tests.box.machine import Machine

_VIDEO: Final = 44
_MODE: Final = stat.S_IFCHR | 0o660


def any_here() -> bool:
    """Return whether this machine has a card, and the driver's tool to ask it by."""
    return bool(gpus.open_reader()())


def lend(box: Machine) -> None:
    """Make the nodes of the driver in the box, which root and the group `video` may open, and nobody else."""
    for node in sorted(path for path in Path("/dev").glob("nvidia*") if path.is_char_device()):
        place = Path(f"/proc/{box.leader}/root{node}")
        os.mknod(place, _MODE, node.stat().st_rdev)
        place.chmod(0o660)
        os.chown(place, 0, _VIDEO)
